//! The input of a plan besides the config and the host's facts.

use std::path::PathBuf;

/// Decisions of the caller and of the cgroups' plan that mounts depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// How the container's root becomes `/`.
    pub change_root: ChangeRoot,
    /// The container's own cgroup in each v1 hierarchy; empty if cgroups are not managed.
    pub cgroup_directories: Vec<CgroupDirectory>,
    /// The container's own cgroup in the v2 tree, as an absolute path on the host.
    pub unified_directory: Option<PathBuf>,
}

/// How the container's root becomes `/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangeRoot {
    /// By pivot_root(2).
    #[default]
    PivotRoot,
    /// By MS_MOVE over `/` and chroot(2), for hosts that run from an initramfs, which pivot_root(2)
    /// refuses.
    MoveAndChroot,
}

/// The container's cgroup in one v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupDirectory {
    /// The host's mount point of the hierarchy.
    pub mount: PathBuf,
    /// The container's own cgroup as an absolute path on the host.
    pub directory: PathBuf,
}
