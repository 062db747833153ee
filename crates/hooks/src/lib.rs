//! Hooks: programs that the engine has run at six points of a container's life (config.md §
//! POSIX-platform Hooks).
//!
//! [`plan`] turns `hooks` into command lines. The runtime runs hooks of its own namespaces with
//! [`run`] or, at `poststop`, where a failure must not stop the others, with [`run_all`]. Init runs
//! hooks of the container with [`run_in_container`], without allocating, and the runtime makes the
//! message of a failure with [`Plan::explain`].
//!
//! ```
//! use coracle_bundle::{HookPoint, Hooks};
//! let plan = coracle_hooks::plan(&Hooks::default(), [None, None], &[]);
//! let files = coracle_hooks::open_files(&plan)?;
//! let (point, limits) = (HookPoint::Prestart, Default::default());
//! coracle_hooks::run(point, plan.at(point), &files, b"{}", &limits)?;
//! # Ok::<(), coracle_hooks::Error>(())
//! ```
//!
//! # What a hook gets
//!
//! * stdin: the container's state as JSON in a sealed memory file, so that a hook that does not
//!   read it blocks nobody. stdout and stderr: one pipe to the runtime, which shows the last 2 KiB
//!   if the hook fails; or files that annotations name. No other descriptor.
//! * `args` and `env` unchanged. Without `env`: only a default `PATH`, and at `startContainer` the
//!   environment of the container's process. Never the environment of the runtime's caller.
//! * a new session, default signal dispositions, an empty signal mask; working directory and umask
//!   of the process that runs it.
//! * `timeout` seconds, then SIGKILL for its process group.
//!
//! # Invariants
//!
//! A hook has ended when its process has, even if a process that it left in the background still
//! has the pipe open. Hooks run one after the other in the listed order. `path` is not looked up in
//! `PATH`.

mod apply;
mod error;
mod plan;

pub use apply::execution::Streams;
pub use apply::files::{Files, open_files};
pub use apply::init::run_in_container;
pub use apply::runtime::{fill_stdin, run, run_all, stdin_files};
pub use error::Error;
pub use plan::{Command, Plan, plan};
