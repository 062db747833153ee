//! Facts of the machine and of the runtime's own process, gathered once.
//!
//! The planners of the other crates are pure, so everything that they need to know of the kernel,
//! its cgroup file systems and the caller's rights is a plain value, [`Host`]. [`probe`] makes it,
//! and gathers only the facts that the planners name in [`Needs`]: some cost more than the work
//! that they serve, such as the mount table of a busy node with thousands of lines. Tests take a
//! [`Host`] from [`fixture`].
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
//! * Nothing is changed, created or joined, and no program is run. systemd is only queried.
//! * Each file is read at most once, those of `/proc` only after a check that it is a procfs.
//! * The parsers are functions from text to values; the files are opened in one module.
//! * A [`Fact`] that no [`Needs`] named cannot be read. A planner that forgot to name it panics,
//!   and does not take the machine for one without cgroups or SELinux.
//! * A [`Host`] from [`probe`] has at least the kernel [`KERNEL_FLOOR`].

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
