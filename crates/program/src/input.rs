//! The standard input of a program.

use coracle_sys::Call;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::pwrite;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// MFD_NOEXEC_SEAL of linux/memfd.h, since 6.3.
const NOEXEC_SEAL: nix::libc::c_uint = 0x8;

/// A file in memory with this content. Unlike a pipe it holds any amount at once, and writing it
/// cannot fail with EPIPE.
///
/// # Errors
/// The call that failed: no memory, or the limit of descriptors.
pub fn input(name: &CStr, content: &[u8]) -> Result<OwnedFd, (Call, Errno)> {
    let file = empty_input(name)?;
    fill_input(&file, content)?;
    Ok(file)
}

/// An empty file for [`fill_input`], for a content that is known only after a clone.
///
/// # Errors
/// As of [`input`].
pub fn empty_input(name: &CStr) -> Result<OwnedFd, (Call, Errno)> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let not_executable = flags | MFdFlags::from_bits_retain(NOEXEC_SEAL);
    let file = match memfd_create(name, not_executable) {
        // Kernels before 6.3 do not know the flag.
        Err(Errno::EINVAL) => memfd_create(name, flags),
        answer => answer,
    };
    file.map_err(|errno| (Call::Open, errno))
}

/// Writes the content and seals the file, so that a program in the container cannot change it.
///
/// # Errors
/// As of [`input`].
pub fn fill_input(file: &OwnedFd, content: &[u8]) -> Result<(), (Call, Errno)> {
    let mut done = 0;
    while let Some(rest @ [_, ..]) = content.get(done..) {
        // pwrite(2) leaves the file position, from which the program reads, at the start.
        let offset = nix::libc::off_t::try_from(done).unwrap_or(nix::libc::off_t::MAX);
        done += pwrite(file, rest, offset).map_err(|errno| (Call::Write, errno))?;
    }
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(file, FcntlArg::F_ADD_SEALS(seals)).map_err(|errno| (Call::Open, errno))?;
    Ok(())
}
