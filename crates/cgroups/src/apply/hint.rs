//! Why the kernel refused a value, where its answer alone does not tell.

use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;

use super::files;
use crate::Error;
use crate::plan::Write;

/// The error for `write`, which the cgroup `directory` at `path` answered with `errno`.
pub(super) fn refused(directory: BorrowedFd, path: &Path, write: &Write, errno: Errno) -> Error {
    Error::Write {
        source_path: write.source.clone(),
        path: path.join(&write.file),
        value: write.value.clone(),
        errno,
        hint: cause(directory, write, errno).map_or_else(String::new, |cause| format!(": {cause}")),
    }
}

fn cause(directory: BorrowedFd, write: &Write, errno: Errno) -> Option<String> {
    let file = write.file.as_str();
    let text = |text: &str| Some(text.to_owned());
    match errno {
        Errno::ENOENT if file.starts_with("hugetlb.") => page_sizes(directory),
        Errno::ENOENT => text("this kernel has no such file"),
        Errno::EBUSY if file.starts_with("memory.") => {
            let usage = files::read(directory, "memory.usage_in_bytes").ok()?;
            Some(format!("current usage is {}", usage.trim()))
        }
        Errno::ENODEV if file.starts_with("blkio.") || file.starts_with("io.") => {
            text("the device must be a whole disk that is there, not a partition")
        }
        Errno::ENODEV if file.starts_with("rdma.") => text("no rdma device has this name"),
        Errno::EINVAL | Errno::EACCES | Errno::ERANGE | Errno::ENODEV
            if file.ends_with("cpus") || file.ends_with("mems") =>
        {
            text("not within what this machine or the parent cgroup has")
        }
        Errno::EBUSY if file.ends_with("cpus") || file.ends_with("mems") => {
            text("a cgroup below still has what is taken away")
        }
        Errno::EINVAL if file.starts_with("cpu.rt_") => {
            text("above what the parent cgroup has for realtime scheduling")
        }
        Errno::EPERM if file == "devices.allow" => {
            text("the parent cgroup does not have it itself")
        }
        Errno::EINVAL if file.starts_with("devices.") && write.value.starts_with('a') => {
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
