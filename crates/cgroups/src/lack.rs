//! Where a controller that a limit needs is missing.

use std::path::PathBuf;

/// Where a controller is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// No cgroup file system is mounted at all.
    #[error(
        "no cgroup file system is mounted; in a container: ask the runtime outside to mount one"
    )]
    Everything,
    /// No hierarchy of version 1 has it, and there is no other.
    #[error("it is not mounted")]
    Hierarchy,
    /// No hierarchy of version 1 has it, nor does version 2, which is mounted there.
    #[error("no hierarchy of version 1 has it, nor does {}", .0.display())]
    Both(PathBuf),
    /// Version 2, which is mounted there, does not have it.
    #[error("{} does not have it", .0.display())]
    Unified(PathBuf),
}
