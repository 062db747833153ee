//! The process of a container as `config.json` describes it: user, capabilities, limits,
//! scheduling, security labels, terminal, working directory, environment and program, personality
//! and memory policy; and host name, domain name and sysctls (config.md § Process,
//! config-linux.md).
//!
//! [`plan`] computes a list of steps from the config and the facts of the host; the functions of
//! the init side carry them out in order, and a [`coracle_sys::Fault`] names the step that failed.
//!
//! ```
//! use coracle_process::{Keyring, Options};
//!
//! let id = coracle_bundle::ContainerId::parse("web1").expect("a valid id");
//! let options = Options {
//!     id: &id,
//!     keyring: Keyring::New,
//!     environment: Vec::new(),
//!     preserved_fds: Vec::new(),
//! };
//! assert_eq!(options.id.as_ref(), "web1");
//! ```
//!
//! # Order
//!
//! Runtime: [`before_clone`], the clone, [`after_clone`]. Init: [`machine`] after the change of the
//! root, [`session`], [`console`], [`confine`] and [`become_user`] (with a seccomp filter
//! between or after them), [`exec`].
//!
//! # Invariants
//!
//! * No init-side function allocates; all that they need is in the [`Plan`] or on the stack.
//! * No path in the image is followed out of the root, and no file is opened before its type is
//!   known.
//! * The process never has a capability that the config does not list. One that the runtime lacks
//!   is left out, with a line in [`Plan::warnings`].
//! * The process inherits neither environment, groups, umask nor ambient capabilities of the
//!   runtime.
//! * This crate does not load seccomp filters, does not close descriptors and does not reset
//!   signals.

mod apply;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod plan;

pub use apply::{
    Before, Confined, Console, Ready, after_clone, become_user, before_clone, confine, console,
    examine, exec, machine, session,
};
pub use error::Error;
pub use plan::examined::{HEAD as PROGRAM_HEAD, interpreter, wrong_format};
pub use plan::explain::explain_exec;
pub use plan::steps::{Keyring, Options, Plan};
pub use plan::{needs, plan, plan_exec};
