//! Facts of the machine and of the runtime's own process, gathered once.
//!
//! The plans of the other crates are pure: what they must know of the kernel, of its cgroup file
//! systems and of the caller's rights arrives as a [`Host`], a plain value. [`probe`] fills it, and
//! reads only what the [`Needs`] of the planners name, since some facts cost more than the work
//! they serve: the mount table of a busy node has thousands of lines. A fact that was not gathered
//! has no value. Tests take a [`Host`] from [`fixture`].
//!
//! ```
//! use coracle_host::{CgroupMode, Needs, fixture, probe};
//! let here = probe(Needs { cgroups: true, ..Needs::default() })?;
//! println!("kernel {}, cgroups {:?}", here.kernel, here.cgroups.mode);
//! assert_eq!(fixture::v2().cgroups.mode, CgroupMode::V2);
//! # Ok::<(), coracle_host::Error>(())
//! ```
//!
//! # Invariants
//!
//! * Nothing is changed, created or joined, and no program is run. systemd is only asked.
//! * Each file is read at most once, through a `/proc` that is checked to be one.
//! * The parsers are functions from text to values; the files are opened in one module.
//! * A [`Fact`] that no [`Needs`] named cannot be read: a planner that forgot to name it stops the
//!   program instead of taking the machine for one without cgroups or SELinux.
//! * A [`Host`] of [`probe`] has a kernel of at least [`KERNEL_FLOOR`].

mod cgroup;
mod error;
mod facts;
pub mod fixture;
mod identity;
mod machine;
mod probe;
mod systemd;

pub use coracle_dbus::{Bus, Peer};

pub use error::Error;
pub use facts::*;
pub use machine::unescaped;
pub use probe::{namespaces_of, probe};
