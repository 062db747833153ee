//! Namespaces of a container: which the clone creates, which are joined and by whom, the id maps,
//! time offsets and network devices (config-linux.md § Namespaces, § User namespace mappings,
//! § Offset for Time Namespace, § Network Devices).
//!
//! [`plan`] turns `linux.namespaces` and the facts of the machine into a [`Plan`]: the flags of at
//! most two clones and two lists of steps. The *intermediate* exists only where one process cannot
//! do it: a pid or time namespace takes effect for children only, and new namespaces belong to
//! the user namespace of the process that clones.
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
//! unshare step, a join step, kept. With a path and CAP_SYS_ADMIN everything is joined before the
//! process leaves the runtime's user namespace: there the runtime's capabilities reach every
//! namespace that could be reached from inside as well, so no second attempt exists. Of all
//! namespaces but the user namespace, mount is joined last. The runtime's own namespaces never
//! change. No step of init allocates. Nothing here knows the container's cgroup, mounts or user.

mod apply;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod plan;

pub use apply::devices::{MovedDevices, move_net_devices};
pub use apply::inherited::Inherited;
pub use apply::init::{before_clone, enter};
pub use apply::runtime::{map_ids, open, open_exec};
pub use error::Error;
pub use plan::{How, IdMap, Join, Maps, Plan, Setgroups, Step, needs, plan, plan_exec};
