//! Keyrings: keyrings(7).

use crate::Result;
use crate::kernel::{done, size};
use nix::errno::Errno;
use std::ffi::CStr;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
const KEYCTL_SETPERM: libc::c_long = 5;
const KEYCTL_DESCRIBE: libc::c_long = 6;

/// `long keyctl(KEYCTL_JOIN_SESSION_KEYRING, const char *name)`,
/// KEYCTL_JOIN_SESSION_KEYRING(2const).
///
/// Joins the session keyring of that name, or makes it, and returns its number.
///
/// # Errors
///
/// The kernel's: `ENOSYS` without keyrings, `EDQUOT` at the user's quota, `EACCES` for a keyring of
/// that name that the caller may not search.
pub fn join_session_keyring(name: &CStr) -> Result<i32> {
    // SAFETY: the name ends in NUL and is only read.
    let answer =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    i32::try_from(Errno::result(answer)?).map_err(|_| Errno::EOVERFLOW)
}

/// `long keyctl(KEYCTL_SETPERM, key_serial_t key, key_perm_t perm)`, KEYCTL_SETPERM(2const).
///
/// `permissions` has one byte each for possessor, user, group and others, the possessor's highest.
///
/// # Errors
///
/// The kernel's: `EACCES` if the caller may not set attributes of the key.
pub fn set_key_permissions(key: i32, permissions: u32) -> Result<()> {
    // SAFETY: takes numbers.
    done(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key, permissions) })
}

/// `long keyctl(KEYCTL_DESCRIBE, key_serial_t key, char *buffer, size_t size)`,
/// KEYCTL_DESCRIBE(2const): the permissions as [`set_key_permissions`] takes them.
///
/// # Errors
///
/// The kernel's; `EBADMSG` if the description is not of the form `type;uid;gid;perm;description`.
pub fn key_permissions(key: i32) -> Result<u32> {
    let mut buffer = [0_u8; 512];
    // SAFETY: the kernel writes at most `len` bytes into the buffer; for a longer text it writes
    // nothing and says how long it is.
    let length = size(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_DESCRIBE,
            key,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    let text = buffer.get(..length).ok_or(Errno::EBADMSG)?;
    let field = text
        .split(|byte| *byte == b';')
        .nth(3)
        .ok_or(Errno::EBADMSG)?;
    let digits = std::str::from_utf8(field).map_err(|_| Errno::EBADMSG)?;
    u32::from_str_radix(digits, 16).map_err(|_| Errno::EBADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_joins_a_keyring_and_reads_its_permissions() {
        // Credentials belong to a thread: the other tests keep their keyring.
        let key = match join_session_keyring(c"coracle-sys-test") {
            // Containers of other runtimes commonly refuse keyctl.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EDQUOT | Errno::EACCES) => return,
            answer => answer.expect("a keyring"),
        };
        let before = key_permissions(key).expect("its permissions");
        let search_for_user = before | 0x0008_0000;
        assert_eq!(set_key_permissions(key, search_for_user), Ok(()));
        assert_eq!(key_permissions(key), Ok(search_for_user));
    }
}
