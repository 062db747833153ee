//! Writing values into the files of one cgroup.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use super::files;
use crate::error::property;
use crate::plan::{Absent, Refused, Write};
use crate::table::{Hint, MEMORY_USAGE, Version};
use crate::{Error, Result};

/// Writes the values in order, then again those that another value may have blocked. `before` is
/// called with each write before it is tried.
pub(super) fn write_all<'a>(
    directory: BorrowedFd,
    path: &Path,
    writes: impl IntoIterator<Item = &'a Write>,
    before: &mut dyn FnMut(&Write),
) -> Result<()> {
    let mut again = Vec::new();
    let mut open = None;
    for write in writes {
        match (
            write_one(directory, write, &mut open, before),
            write.refused,
        ) {
            (Ok(()), _) => {}
            (Err((write, Errno::EINVAL | Errno::EBUSY)), Refused::Again) => again.push(write),
            (Err((_, Errno::EPERM | Errno::EACCES)), Refused::Skip) => {}
            (Err((write, errno)), _) => return Err(refused(directory, path, write, errno)),
        }
    }
    for write in again {
        write_one(directory, write, &mut open, before)
            .map_err(|(write, errno)| refused(directory, path, write, errno))?;
    }
    Ok(())
}

/// The result of a write; an error has the write that failed.
type Attempt<'a> = std::result::Result<(), (&'a Write, Errno)>;
/// The file that was written last. It is kept open, since device rules are a dozen lines for one
/// file.
type Open<'a> = Option<(&'a str, OwnedFd)>;

/// Writes one value into the first of its files that exists.
fn write_one<'a>(
    directory: BorrowedFd,
    write: &'a Write,
    open: &mut Open<'a>,
    before: &mut dyn FnMut(&Write),
) -> Attempt<'a> {
    let mut write = write;
    loop {
        before(write);
        match (write_open(directory, write, open), &write.absent) {
            (Ok(()), _) | (Err(Errno::ENOENT), Absent::Skip) => return Ok(()),
            (Err(Errno::ENOENT), Absent::Instead(other)) => write = other,
            (Err(errno), _) => return Err((write, errno)),
        }
    }
}

fn write_open<'a>(directory: BorrowedFd, write: &'a Write, open: &mut Open<'a>) -> nix::Result<()> {
    let file = match open.take() {
        Some((name, file)) if name == write.name => file,
        _ => files::open_to_write(directory, &write.name)?,
    };
    let result = files::write_value(&file, &write.text());
    *open = Some((&write.name, file));
    result
}

/// The error for `write`, which failed with `errno` in the cgroup `directory` at `path`.
fn refused(directory: BorrowedFd, path: &Path, write: &Write, errno: Errno) -> Error {
    Error::Write {
        source_path: property(&write.source),
        path: path.join(&write.name),
        value: write.text(),
        errno,
        hint: cause(directory, write, errno).map_or_else(String::new, |cause| format!(": {cause}")),
    }
}

/// The likely cause of a refused value, if the errno does not show it.
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
