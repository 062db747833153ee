//! The container's root filesystem: mounts, devices, links, masked and read-only paths, propagation
//! and pivot_root (config.md § Root and Mounts, config-linux.md § Devices, Masked Paths, Readonly
//! Paths, Rootfs Mount Propagation; config-linux.md § Default Devices).
//!
//! [`plan`] turns the config into an ordered list of steps. The runtime then [`open`]s what init
//! inherits and looks whether the sources are there, and the container's init carries out the
//! steps, each source at its turn:
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
//! coracle_rootfs::mounts(&plan, &mut inherited).map_err(|fault| plan.explain(&fault))?;
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//!
//! - The image is hostile, at rest and in motion. A path below the root is resolved once, by
//!   openat2(2) in the root, and used through its descriptor; what was attached is looked up again.
//! - No mount is ever visible without its flags: they are set on the detached tree.
//! - proc and sysfs go onto real directories only, and nothing else goes into procfs but a short
//!   list of information files. Masks inside them are reached through the very mount that was made.
//! - Nothing of the image is ever bound over something else: masks use the host's null device,
//!   checked to be `c 1:3`, and an empty tmpfs of our own.
//! - [`mounts`], [`pivot`], [`console`] and [`finish`] neither allocate nor free: [`Inherited`]
//!   must not be dropped in the child. They close each descriptor as soon as it has served, and
//!   after `finish` none is left open.
//! - Nothing here unmounts on the host: only a container without a mount namespace leaves a mount
//!   there, and [`Plan::host_mount`] names it.

#![cfg_attr(test, allow(clippy::too_many_lines, reason = "tests are tables"))]

mod apply;
mod error;
mod plan;

pub use apply::{
    Inherited, ProviderNamespaces, console, finish, mounts, open, pivot, provide, stand_in_root,
    withdraw,
};
pub use error::Error;
pub use plan::{CgroupDirectory, ChangeRoot, Context, Plan, needs, plan};
