//! Namespaces of a container: which ones a clone creates, which ones a process joins, the id maps,
//! time offsets and network devices (config-linux.md § Namespaces, § User namespace mappings, §
//! Offset for Time Namespace, § Network Devices).
//!
//! [`plan`] turns `linux.namespaces` and the facts of the machine into a [`Plan`]: the flags of at
//! most two clones and two lists of steps. An *intermediate* process exists only where init cannot
//! do everything itself: a joined pid namespace and a new time namespace take effect only for
//! children, and new namespaces belong to the user namespace of the process that clones.
//!
//! ```text
//!              runtime ──clone3(first_clone)──▶ intermediate        only if plan.intermediate
//!                                               before_clone()
//!                                               clone3(final_clone, sibling) ──▶ init
//!              runtime ──clone3(final_clone)──────────────────────▶ init         otherwise
//!                                                                   enter()
//! ```
//!
//! ```
//! use coracle_bundle::{Linux, Namespace};
//! # fn check(host: &coracle_host::Host) -> Result<(), coracle_namespaces::Error> {
//! let mut linux = Linux::default();
//! linux.namespaces.uts = Namespace::New;
//! let plan = coracle_namespaces::plan(&linux, host)?;
//! assert!(!plan.intermediate);
//! # Ok(())
//! # }
//! ```
//!
//! **Invariants.** Every kind of namespace is in exactly one of: `first_clone`, `final_clone`, an
//! unshare step, a join step, the namespaces inherited from the runtime. With CAP_SYS_ADMIN, all
//! namespaces given by path are joined before the process leaves the runtime's user namespace,
//! since the runtime's capabilities there also cover every namespace that could be joined from
//! inside. A second attempt is never needed. The mount namespace is joined last, except for the
//! user namespace. The runtime's own namespaces never change. No step of init allocates. Nothing
//! here knows the container's cgroup, mounts or user.

mod apply;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod plan;
mod reason;

pub use apply::attempt::attempt;
pub use apply::devices::{MovedDevices, check_net_devices, move_net_devices};
pub use apply::inherited::Inherited;
pub use apply::init::{before_clone, enter};
pub use apply::runtime::{map_ids, open, open_exec};
pub use error::Error;
pub use plan::{
    How, IdMap, Join, Maps, Plan, Step, compared, joined, maps_of_caller, needs, plan, plan_exec,
};
