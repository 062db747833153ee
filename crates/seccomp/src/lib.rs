//! `linux.seccomp`: from a profile to a program for the kernel, and its loading (config-linux.md
//! § Seccomp, seccomp(2)).
//!
//! [`plan`] looks up the profile's names on every machine that the profile lists, decides what
//! happens to each number, and lays that out as one balanced search over ranges of numbers with the
//! same decision: the kernel tries a new filter on every number, so that a list would cost at each
//! start. [`load`] is init's only step.
//!
//! ```
//! use coracle_bundle::{Seccomp, SeccompAction, SeccompRule};
//! use coracle_seccomp::{Abi, UnknownNames, plan};
//!
//! let profile = Seccomp {
//!     default_action: SeccompAction::Allow,
//!     architectures: Vec::new(),
//!     flags: None,
//!     listener_path: None,
//!     listener_metadata: None,
//!     rules: vec![SeccompRule {
//!         names: vec!["reboot".to_owned(), "brew_coffee".to_owned()],
//!         action: SeccompAction::Errno(1),
//!         conditions: Vec::new(),
//!     }],
//! };
//! let plan = plan(&profile, Some(Abi::X86_64), UnknownNames::Skipped)?;
//! assert_eq!(plan.unknown_names, ["brew_coffee"]);
//! assert_eq!(
//!     plan.describe(0),
//!     "load the seccomp filter (10 instructions for x86_64, by default allow, SPEC_ALLOW, \
//!      without brew_coffee)"
//! );
//! # Ok::<(), coracle_seccomp::Error>(())
//! ```
//!
//! # Which rule counts
//!
//! As with libseccomp, which profiles are written for: a rule that says the same as the default is
//! none; a rule without conditions beats those with conditions; of several without, the first
//! counts. Of several whose conditions hold the first counts; libseccomp refuses some such profiles
//! and sorts the others by argument and value. Two conditions on the same argument make all
//! conditions of their rule alternatives. 32-bit machines compare the lower halves. A rule for a
//! socket or System V IPC call of 32-bit x86 is also one for `socketcall(2)` or `ipc(2)`.
//!
//! If the default is an errno other than `ENOSYS`, calls newer than the newest one that the profile
//! names do not exist (`ENOSYS`): the C library then falls back to an older call, where after
//! `EPERM` it would fail.
//!
//! # Where it is loaded
//!
//! With `process.noNewPrivileges` as the last step before the exec; without, while init still has
//! `CAP_SYS_ADMIN`. In either case the filter binds the runtime's own calls from there on. They are
//! few, but a profile must allow them: `write`, `read` and `execve`; without no_new_privs those
//! that give up privileges as well. `docs/seccomp.md` has the whole list.
//!
//! # Invariants
//!
//! * No profile is loaded in part: what cannot be translated is an error.
//! * Machines that the profile does not list are killed, x32 among them.
//! * [`plan`] asks nobody; [`load`] allocates nothing.
//! * The table of system calls is made from the kernel's headers by `examples/generate_table.rs`.

mod apply;
mod error;
mod plan;

pub use apply::{ProcessState, check, known_flags, load, send_listener, supported_flags};
pub use error::Error;
pub use plan::{Abi, Listener, Plan, UnknownNames, plan};
