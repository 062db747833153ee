//! Hooks: programs of the engine that run at six points of a container's life (config.md
//! § POSIX-platform Hooks).
//!
//! [`plan`] turns `hooks` into command lines. The runtime runs those of its own namespaces with
//! [`run`] or, where a failure must not stop the others, [`run_all`]; init runs those of the
//! container with [`run_in_container`], without allocating, and the runtime words its report with
//! [`Plan::explain`].
//!
//! ```
//! use coracle_bundle::{HookPoint, Hooks};
//! let plan = coracle_hooks::plan(&Hooks::default(), &[]);
//! let (point, limits) = (HookPoint::Prestart, Default::default());
//! coracle_hooks::run(point, plan.at(point), b"{}", &limits)?;
//! # Ok::<(), coracle_hooks::Error>(())
//! ```
//!
//! # What a hook gets
//!
//! * stdin: the container's state as JSON in a sealed memory file, then the end; a hook that
//!   reads nothing disturbs nobody. stdout and stderr: one pipe to us, whose last 2 KiB are shown
//!   if the hook fails. No other descriptor.
//! * `args` and `env` word for word. Without `env`: a default `PATH` alone, and at `startContainer`
//!   the environment of the container's process. Never that of the runtime's caller.
//! * a session of its own, every signal at its default, an empty mask; working directory and umask
//!   of the process that runs it.
//! * `timeout` seconds, then SIGKILL for its process group.
//!
//! # Invariants
//!
//! A hook is over when its process ends, not when its pipe does: what it left behind in the
//! background holds nobody up. Hooks run one after the other in the listed order. Nothing here
//! reads the clock but for time-outs, looks up `PATH` or knows what a state is.

mod apply;
mod error;
mod plan;

pub use apply::init::run_in_container;
pub use apply::runtime::{fill_stdin, run, run_all, stdin_files};
pub use error::Error;
pub use plan::{Command, Plan, plan};
