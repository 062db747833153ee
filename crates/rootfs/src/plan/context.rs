//! What a plan depends on beside the config and the host.

use std::path::PathBuf;

/// What the caller and the plan of the cgroups decide, and mounts depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// How the container's root becomes `/`.
    pub change_root: ChangeRoot,
    /// The container's own cgroup in each v1 hierarchy, empty where cgroups are not managed.
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
    /// It is moved over `/` and entered by chroot(2): for hosts that run from an initramfs.
    MoveAndChroot,
}

/// The container's cgroup in one v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupDirectory {
    /// Where the host has mounted the hierarchy.
    pub mount: PathBuf,
    /// The container's own cgroup as an absolute path on the host.
    pub directory: PathBuf,
}
