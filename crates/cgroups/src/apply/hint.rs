//! The likely cause of a refused value, if the errno does not show it.

use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;

use super::files;
use crate::Error;
use crate::error::property;
use crate::plan::Write;
use crate::table::{Hint, MEMORY_USAGE, Version};

/// The error for `write`, which failed with `errno` in the cgroup `directory` at `path`.
pub(super) fn refused(directory: BorrowedFd, path: &Path, write: &Write, errno: Errno) -> Error {
    Error::Write {
        source_path: property(&write.source),
        path: path.join(&write.name),
        value: write.text(),
        errno,
        hint: cause(directory, write, errno).map_or_else(String::new, |cause| format!(": {cause}")),
    }
}

fn cause(directory: BorrowedFd, write: &Write, errno: Errno) -> Option<String> {
    let text = |text: &str| Some(text.to_owned());
    match (errno, write.file.hint) {
        (Errno::ENOENT, Hint::PageSize) => page_sizes(directory),
        (Errno::ENOENT, _) => text("this kernel has no such file"),
        (Errno::EBUSY, Hint::Usage) => {
            let usage = files::read(directory, MEMORY_USAGE.name(Version::V1)).ok()?;
            Some(format!("current usage is {}", usage.trim()))
        }
        (Errno::ENODEV, Hint::Disk) => {
            text("the device must be an existing whole disk, not a partition")
        }
        (Errno::ENODEV, Hint::RdmaDevice) => text("no rdma device has this name"),
        (Errno::EINVAL | Errno::EACCES | Errno::ERANGE | Errno::ENODEV, Hint::Cpuset) => {
            text("not within what this machine or the parent cgroup has")
        }
        (Errno::EBUSY, Hint::Cpuset) => text("a cgroup below still has what is taken away"),
        (Errno::EINVAL, Hint::Realtime) => {
            text("above what the parent cgroup has for realtime scheduling")
        }
        (Errno::EPERM, Hint::Device) => text("the parent cgroup does not have it itself"),
        (Errno::EINVAL, Hint::Device) if write.text().starts_with('a') => {
            text("the container has device cgroups below its own")
        }
        _ => None,
    }
}

/// `page sizes are 1GB, 2MB`.
fn page_sizes(directory: BorrowedFd) -> Option<String> {
    let names = files::names(directory).ok()?;
    let mut sizes: Vec<String> = names
        .iter()
        .filter_map(|name| {
            let name = name.to_str()?;
            let (size, _) = name.strip_prefix("hugetlb.")?.split_once('.')?;
            Some(size.to_owned())
        })
        .collect();
    sizes.sort();
    sizes.dedup();
    Some(format!("page sizes here are {}", sizes.join(", ")))
}
