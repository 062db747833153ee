//! `linux.seccomp`: from a profile to a program for the kernel, and its loading (config-linux.md
//! § Seccomp, seccomp(2)).
//!
//! [`plan`] looks up the names of the profile for every architecture that it lists, decides which
//! action each number gets, and makes of that one balanced search over ranges of numbers with the
//! same decision. A plain list would slow down every start, since the kernel runs a new filter once
//! for every number. [`load`] is init's only step.
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
//! Profiles are written for libseccomp, so the rules are those of libseccomp. A rule with the
//! default action is ignored. A rule without conditions takes precedence over those with
//! conditions; of several without, the first applies. Of several whose conditions hold, the first
//! applies; libseccomp refuses some such profiles and sorts the others by argument and value. Two
//! conditions on the same argument make all conditions of their rule alternatives. 32-bit
//! architectures compare the lower halves of the arguments. A rule for a socket or System V IPC
//! call of 32-bit x86 also applies to `socketcall(2)` or `ipc(2)`.
//!
//! If the default is an errno other than `ENOSYS`, calls newer than the newest one that the profile
//! names fail with `ENOSYS`: the C library then falls back to an older call, which it does not
//! after `EPERM`.
//!
//! # Where it is loaded
//!
//! With `process.noNewPrivileges` it is loaded as the last step before the exec, otherwise while
//! init still has `CAP_SYS_ADMIN`. From then on it also applies to init's own calls, so a profile
//! must allow them: `write`, `read` and `execve`, and without no_new_privs those that drop
//! privileges. `docs/seccomp.md` has the whole list.
//!
//! # Invariants
//!
//! * No profile is loaded in part: a rule that cannot be translated is an error.
//! * A call of an architecture that the profile does not list, such as x32, kills the process.
//! * [`plan`] is pure; [`load`] does not allocate.
//! * The table of system calls is made from the kernel's headers by `examples/generate_table.rs`.

mod apply;
mod error;
mod plan;

pub use apply::{ProcessState, check, known_flags, load, send_listener, supported_flags};
pub use error::Error;
pub use plan::{Abi, Listener, Plan, UnknownNames, plan, plan_whole};
