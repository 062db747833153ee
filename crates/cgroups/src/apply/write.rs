//! Writing values into the files of one cgroup.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use super::{files, hint};
use crate::Result;
use crate::plan::{Absent, Refused, Write};

/// Writes the values in order, then again those that another value may have blocked. `before` is
/// called with each write before it is tried.
pub(super) fn write_all(
    directory: BorrowedFd,
    path: &Path,
    writes: &[Write],
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
            (Err((write, errno)), _) => return Err(hint::refused(directory, path, write, errno)),
        }
    }
    for write in again {
        write_one(directory, write, &mut open, before)
            .map_err(|(write, errno)| hint::refused(directory, path, write, errno))?;
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
