//! The start of a program: C's `main` in place of that of Rust's runtime.
//!
//! A runtime is started for each verb, and twice by the seal. Rust's own start makes twelve system
//! calls for a handler that words a stack overflow; without it the kernel's guard page ends the
//! process by SIGSEGV all the same. What else it does is done here.

use crate::signal::settle_signals;
use nix::errno::Errno;
use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicPtr, Ordering};

/// The arguments of `main`, a null-terminated array.
static ARGUMENTS: AtomicPtr<*const c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Makes a `fn() -> u8`, which returns the exit status, the program. Its crate is `no_main`.
///
/// ```
/// # #![no_main]
/// fn run() -> u8 {
///     u8::from(coracle_sys::arguments().count() == 0)
/// }
/// coracle_sys::program!(run);
/// ```
#[macro_export]
macro_rules! program {
    ($run:path) => {
        // SAFETY: the C library looks for this name, and with `no_main` nobody else has it.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "C" fn main(
            _: ::std::ffi::c_int,
            arguments: *const *const ::std::ffi::c_char,
        ) -> ::std::ffi::c_int {
            // SAFETY: C hands the array of arguments over, which stays until the process ends.
            unsafe { $crate::begin(arguments) };
            ::std::ffi::c_int::from($run())
        }
    };
}

/// Called by [`program!`] before anything else: keeps the arguments.
///
/// # Safety
///
/// `arguments` is the array that `main` receives, and nobody ever changes it.
pub unsafe fn begin(arguments: *const *const c_char) {
    ARGUMENTS.store(arguments.cast_mut(), Ordering::Relaxed);
}

/// Prepares a program of [`program!`] for its work: opens `/dev/null` for each standard stream that
/// the caller has left closed, which the next file to be opened would become otherwise, and settles
/// signals. Call it before any file is opened, but not in a process that only executes itself
/// again.
pub fn settle() {
    if open_standard_streams().is_err() {
        std::process::abort();
    }
    settle_signals();
}

fn open_standard_streams() -> crate::Result<()> {
    for _ in 0..closed_standard_streams() {
        // SAFETY: the path ends in NUL. The lowest number that is free is a closed stream's.
        Errno::result(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) })?;
    }
    Ok(())
}

fn closed_standard_streams() -> usize {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    });
    // SAFETY: the kernel writes into as many whole `pollfd` as the second argument counts.
    let polled = unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) } != -1;
    let is_closed = |stream: &&libc::pollfd| {
        // poll(2) reports an O_PATH descriptor as closed, and refuses more descriptors than
        // RLIMIT_NOFILE allows, even if they are open.
        let is_doubtful = !polled || stream.revents & libc::POLLNVAL != 0;
        // SAFETY: F_GETFD takes no argument.
        is_doubtful && unsafe { libc::fcntl(stream.fd, libc::F_GETFD) == -1 }
    };
    streams.iter().filter(is_closed).count()
}

/// What the program was started with, its name first. Empty in a program that [`program!`] did not
/// make.
pub fn arguments() -> impl Iterator<Item = &'static CStr> {
    let mut next = ARGUMENTS.load(Ordering::Relaxed).cast_const();
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: `next` is within the array: its null, at the end, was not passed yet.
        let argument = unsafe { next.read() };
        if argument.is_null() {
            return None;
        }
        // SAFETY: the element is no null, so there is at least one more behind it.
        next = unsafe { next.add(1) };
        // SAFETY: an argument ends in NUL, and stays as it is until the process ends.
        Some(unsafe { CStr::from_ptr(argument) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_end_at_the_null() {
        assert_eq!(arguments().count(), 0);
        let array = [c"coracle".as_ptr(), c"state".as_ptr(), std::ptr::null()];
        ARGUMENTS.store(array.as_ptr().cast_mut(), Ordering::Relaxed);
        let found: Vec<&CStr> = arguments().collect();
        ARGUMENTS.store(std::ptr::null_mut(), Ordering::Relaxed);
        assert_eq!(found, [c"coracle", c"state"]);
    }
}
