//! Results of raw system calls, and strings on the stack.

use crate::Result;
use libc::c_long;
use nix::errno::Errno;
use std::os::fd::{FromRawFd, OwnedFd};

/// `-1` becomes the errno; any other result is dropped.
pub(crate) fn done(answer: c_long) -> Result<()> {
    Errno::result(answer).map(drop)
}

/// `-1` becomes the errno; any other result is a size.
pub(crate) fn size(answer: c_long) -> Result<usize> {
    usize::try_from(Errno::result(answer)?).map_err(|_| Errno::EOVERFLOW)
}

/// `-1` becomes the errno; any other result is a descriptor that the kernel has just made.
///
/// # Safety
///
/// `answer` is the result of a system call that either fails or makes a new descriptor for its
/// caller, and nothing else owns that number.
pub(crate) unsafe fn new_descriptor(answer: c_long) -> Result<OwnedFd> {
    let number = i32::try_from(Errno::result(answer)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the number is open and owned by nobody, as the caller promises; it is not -1, which
    // `Errno::result` has turned into an error.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The decimal digits of a number, on the stack: `format!` would allocate.
pub(crate) struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    /// The digits of `number`.
    pub(crate) fn new(number: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut rest = number;
        let mut start = digits.len();
        for (place, digit) in digits.iter_mut().enumerate().rev() {
            // A remainder modulo ten fits a byte.
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            start = place;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        Self { digits, start }
    }

    /// The digits, without leading zeros.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or(&[])
    }
}

/// A C string assembled on the stack; `N` includes the final NUL.
pub(crate) struct StackString<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> StackString<N> {
    /// The string that consists of `parts`, in order.
    ///
    /// # Errors
    ///
    /// `ENAMETOOLONG` if they do not fit with a final NUL.
    pub(crate) fn concat(parts: &[&[u8]]) -> Result<Self> {
        let mut bytes = [0; N];
        let mut length = 0;
        for part in parts {
            let end = length + part.len();
            // One byte stays zero: the NUL.
            if end >= N {
                return Err(Errno::ENAMETOOLONG);
            }
            bytes
                .get_mut(length..end)
                .ok_or(Errno::ENAMETOOLONG)?
                .copy_from_slice(part);
            length = end;
        }
        Ok(Self { bytes, length })
    }

    /// The string.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a part held a NUL.
    pub(crate) fn text(&self) -> Result<&std::ffi::CStr> {
        let bytes = self.bytes.get(..=self.length).ok_or(Errno::EINVAL)?;
        std::ffi::CStr::from_bytes_with_nul(bytes).map_err(|_| Errno::EINVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_digits() {
        for number in [0, 1, 9, 10, 4_294_967_295, u64::MAX] {
            assert_eq!(Decimal::new(number).bytes(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn stack_strings_keep_room_for_the_nul() {
        let fits = StackString::<8>::concat(&[b"abc", b"", b"defg"]);
        assert_eq!(
            fits.and_then(|s| s.text().map(ToOwned::to_owned)),
            Ok(c"abcdefg".to_owned())
        );
        let long = StackString::<8>::concat(&[b"abcd", b"efgh"]).map(drop);
        assert_eq!(long, Err(Errno::ENAMETOOLONG));
        let holed = StackString::<8>::concat(&[b"a\0b"]).and_then(|s| s.text().map(drop));
        assert_eq!(holed, Err(Errno::EINVAL));
    }
}
