//! What a program reads on its standard input.

use coracle_sys::Call;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::pwrite;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// MFD_NOEXEC_SEAL of linux/memfd.h, since 6.3.
const NOEXEC_SEAL: nix::libc::c_uint = 0x8;

/// A file in memory with this content: unlike a pipe it takes one of any size at once and knows no
/// EPIPE.
///
/// # Errors
/// The call that failed: no memory or descriptor is left.
pub fn input(name: &CStr, content: &[u8]) -> Result<OwnedFd, (Call, Errno)> {
    let file = empty_input(name)?;
    fill_input(&file, content)?;
    Ok(file)
}

/// The file still empty, for a content that is known only after a clone.
///
/// # Errors
/// As of [`input`].
pub fn empty_input(name: &CStr) -> Result<OwnedFd, (Call, Errno)> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let not_executable = flags | MFdFlags::from_bits_retain(NOEXEC_SEAL);
    let file = match memfd_create(name, not_executable) {
        // Before 6.3.
        Err(Errno::EINVAL) => memfd_create(name, flags),
        answer => answer,
    };
    file.map_err(|errno| (Call::Open, errno))
}

/// Writes the content, once: the file is sealed, so that a program in the container has nothing to
/// change.
///
/// # Errors
/// As of [`input`].
pub fn fill_input(file: &OwnedFd, content: &[u8]) -> Result<(), (Call, Errno)> {
    let mut done = 0;
    while let Some(rest @ [_, ..]) = content.get(done..) {
        // At an offset: the position that the program reads from stays at the start.
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
