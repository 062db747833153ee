//! The container's root filesystem: mounts, devices, links, masked and read-only paths, propagation
//! and pivot_root (config.md § Root and Mounts, config-linux.md § Devices, Masked Paths, Readonly
//! Paths, Rootfs Mount Propagation; config-linux.md § Default Devices).
//!
//! [`plan`] turns the config into an ordered list of steps. The runtime then [`open`]s the
//! descriptors that init inherits and checks that sources exist. Init carries out the steps, and
//! opens each source when its step comes:
//!
//! ```text
//! runtime   open                       before the clone
//! its child provide                    only for sources that init cannot find itself
//! init      mounts                     in the new namespaces; createContainer hooks may follow
//! init      pivot                      the host's tree is gone from here on
//! init      console                    only with a terminal
//! init      finish                     read-only and masked paths, read-only root
//! ```
//!
//! A running container gets one more mount or device by [`plan_added`] and [`mounts`], in a process
//! that joins its mount namespace between the two halves of the step.
//!
//! # Example
//!
//! ```no_run
//! use coracle_rootfs::{Context, Inherited, Plan};
//! # fn run(bundle: &coracle_bundle::Bundle, host: &coracle_host::Host, context: &Context)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let plan = coracle_rootfs::plan(bundle, host, context)?;
//! for step in 0..plan.steps() {
//!     let _line = plan.describe(step); // "mount proc on /proc (nosuid,noexec,nodev)"
//! }
//! let mut inherited = coracle_rootfs::open(&plan)?;
//! // in init, after the clone:
//! coracle_rootfs::mounts(&plan, &mut inherited).map_err(|fault| plan.explain(&fault, "").text)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//!
//! - The image is hostile, and may change during set-up. A path below the root is resolved once, by
//!   openat2(2) in the root, and used through its descriptor. After a mount is attached, the path
//!   is resolved again to check that it leads there.
//! - No mount is ever visible without its flags: they are set on the detached tree.
//! - proc and sysfs are only mounted on real directories, and nothing is mounted inside procfs
//!   except on a short list of information files. Masked paths inside them are reached through the
//!   mount that was made.
//! - No file of the image is used as a mask: masks are the host's null device, checked to be `c
//!   1:3`, and a new empty tmpfs.
//! - [`mounts`], [`pivot`], [`console`] and [`finish`] neither allocate nor free: [`Inherited`]
//!   must not be dropped in the child. They close each descriptor after its last use, and `finish`
//!   leaves none open.
//! - This crate unmounts nothing on the host. Only a container without a mount namespace leaves a
//!   mount there, which [`Plan::host_mount`] names.

#![cfg_attr(test, allow(clippy::too_many_lines, reason = "tests are tables"))]

mod apply;
mod error;
mod plan;

pub use apply::{
    Inherited, ProviderNamespaces, chdir_to_root, console, detach, examine, finish, mounts, open,
    pivot, provide, remove_node, withdraw,
};
pub use error::Error;
pub use plan::explain::explain_removal;
pub use plan::{CgroupDirectory, ChangeRoot, Context, Plan, needs, plan, plan_added};
