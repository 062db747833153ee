//! The errnos that stand for our own checks, under `Call::Check`: what `Plan::explain` puts in
//! words.

use nix::errno::Errno;

/// A link or a file where a real directory must be.
pub(crate) const NOT_ORDINARY: Errno = Errno::ENOTDIR;
/// The destination resolved into procfs.
pub(crate) const IN_PROC: Errno = Errno::EXDEV;
/// A second look at the path found something else than what was just attached.
pub(crate) const SWAPPED: Errno = Errno::ESTALE;
/// The destination is not written as `/`, and leads there.
pub(crate) const IS_ROOT: Errno = Errno::ELOOP;
/// Something that may not be replaced is there already.
pub(crate) const OTHER_INODE: Errno = Errno::EEXIST;
/// An inode of the wrong kind or number.
pub(crate) const OTHER_NODE: Errno = Errno::ENXIO;
/// The root of the container would be the host's.
pub(crate) const HOST_ROOT: Errno = Errno::EBUSY;
/// A slot that should hold a descriptor is empty: the phases were called out of order.
pub(crate) const NO_SLOT: Errno = Errno::EBADF;
