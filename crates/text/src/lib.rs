//! Text that several crates read or write: errnos and causes in messages, what programs read of a
//! failure, text from other programs on one line, lists of numbers and paths in the kernel's form.
//!
//! ```
//! assert_eq!(coracle_text::one_line("no\troom\n\u{1b}[2J\n"), "no room\\n\\u{1b}[2J");
//! ```
//!
//! # Invariants
//!
//! Pure functions of text. What [`one_line`], [`escaped`], [`beginning`] and [`end`] return has no
//! control character, so text from a container can neither forge a line of a log nor control a
//! terminal. [`after_colon`] and [`clean_path`] escape nothing.

mod report;

pub use report::{Code, Detail, Report};

use coracle_sys::{Cause, ExitStatus};
use nix::errno::Errno;
use std::path::PathBuf;

/// The `PATH` of programs that have none. The runtime also searches it after its own `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The errno's usual text, beginning in lower case as in Go, and its name: `permission denied
/// (EACCES)`. Engines match on these texts.
///
/// `ENOENT` is `not found (ENOENT)`: engines read "no such file or directory" anywhere in a message
/// as "the command is missing", so only what runc says so has that text: a program or a working
/// directory that is not there.
#[must_use]
pub fn errno_text(errno: Errno) -> String {
    if errno == Errno::ENOENT {
        return "not found (ENOENT)".to_owned();
    }
    if let Some((_, text)) = GLIBC_TEXTS.iter().find(|(other, _)| *other == errno) {
        return format!("{text} ({errno:?})");
    }
    // The C library's text. The standard library appends the number.
    let text = std::io::Error::from_raw_os_error(errno as i32).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    let first = first.map(String::from).unwrap_or_default();
    format!("{first}{} ({errno:?})", letters.as_str())
}

/// glibc's texts, where musl has others for the same errno.
const GLIBC_TEXTS: [(Errno, &str); 25] = [
    (Errno::EADDRINUSE, "address already in use"),
    (Errno::EADDRNOTAVAIL, "cannot assign requested address"),
    (Errno::EBUSY, "device or resource busy"),
    (Errno::ECHILD, "no child processes"),
    (Errno::EDQUOT, "disk quota exceeded"),
    (Errno::EHOSTUNREACH, "no route to host"),
    (Errno::EIO, "input/output error"),
    (Errno::ELIBBAD, "accessing a corrupted shared library"),
    (Errno::ELOOP, "too many levels of symbolic links"),
    (Errno::EMFILE, "too many open files"),
    (Errno::EMSGSIZE, "message too long"),
    (Errno::ENAMETOOLONG, "file name too long"),
    (Errno::ENETUNREACH, "network is unreachable"),
    (Errno::ENOMEM, "cannot allocate memory"),
    (Errno::ENOTCONN, "transport endpoint is not connected"),
    (Errno::ENOTSOCK, "socket operation on non-socket"),
    (Errno::ENOTTY, "inappropriate ioctl for device"),
    (Errno::EOPNOTSUPP, "operation not supported"),
    (Errno::EOVERFLOW, "value too large for defined data type"),
    (Errno::ERANGE, "numerical result out of range"),
    (Errno::ETIME, "timer expired"),
    (Errno::ETIMEDOUT, "connection timed out"),
    (Errno::EUCLEAN, "structure needs cleaning"),
    (Errno::EUSERS, "too many users"),
    (Errno::EXDEV, "invalid cross-device link"),
];

/// The errno behind an error of the standard library; `EIO` if it has none.
#[must_use]
pub fn io_errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Defines a crate's `enum Check`: the checks that can fail after the clone, each with its message,
/// and `From<Check>` for [`Cause`]. The numbers have a meaning only in that crate.
#[macro_export]
macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A check of this crate that failed, as opposed to a system call.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub(crate) enum Check { $($(#[$doc])* #[doc = $text] $name,)* }

        impl Check {
            /// The message for the check with this number.
            pub(crate) fn text(number: u16) -> &'static str {
                let texts: &[&str] = &[$($text),*];
                texts.get(usize::from(number)).copied().unwrap_or("internal error")
            }
        }

        impl From<Check> for coracle_sys::Cause {
            fn from(check: Check) -> Self {
                coracle_sys::Cause::Check(check as u16)
            }
        }
    };
}

/// A cause that init or another child reported: `mount: operation not permitted (EPERM)`. The
/// message for a check is in its crate.
#[must_use]
pub fn cause_text(cause: Cause) -> String {
    match cause {
        Cause::Call(call, errno) => format!("{}: {}", call.name(), errno_text(errno)),
        Cause::Check(number) => format!("check {number}"),
        Cause::Exit(ExitStatus::Code(code)) => format!("exit status {code}"),
        Cause::Exit(ExitStatus::Signal(signal)) => format!("killed by signal {signal}"),
    }
}

/// The errno in a cause, if a call was refused.
#[must_use]
pub fn cause_errno(cause: Cause) -> Option<Errno> {
    match cause {
        Cause::Call(_, errno) => Some(errno),
        Cause::Check(_) | Cause::Exit(_) => None,
    }
}

/// The users of an `/etc/passwd`, each with its uid: passwd(5). Lines without either are skipped.
pub fn passwd_users(passwd: &str) -> impl Iterator<Item = (u32, &str)> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some((fields.nth(1)?.parse().ok()?, name))
    })
}

/// `: TEXT` for the end of a message, or nothing for an empty text. It escapes nothing: the
/// text must have been through [`one_line`] or [`end`].
#[must_use]
pub fn after_colon(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

/// Text from another program on one line: trimmed, with a space for each tab and other control
/// characters escaped.
#[must_use]
pub fn one_line(text: &str) -> String {
    escaped(text.trim())
}

/// Like [`one_line`], but not trimmed.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\t' => line.push(' '),
            letter if letter.is_control() => line.extend(letter.escape_default()),
            letter => line.push(letter),
        }
    }
    line
}

/// The first `characters` characters of a text as in [`one_line`], followed by `...` if there are
/// more.
#[must_use]
pub fn beginning(text: &str, characters: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(characters) {
        Some((end, _)) => one_line(text.get(..end).unwrap_or_default()) + "...",
        None => one_line(text),
    }
}

/// The last `bytes` bytes of a program's output as in [`one_line`]: the reason of a failure comes
/// last.
#[must_use]
pub fn end(printed: &[u8], bytes: usize) -> String {
    let surplus = printed.len().saturating_sub(bytes);
    one_line(&String::from_utf8_lossy(
        printed.get(surplus..).unwrap_or_default(),
    ))
}

/// The numbers and ranges of a list in the kernel's form, `0-3,7`, in its order. `None` if a part
/// is neither; a range may be empty.
#[must_use]
pub fn number_ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    // Digits only: `u32::from_str` would also take a sign.
    let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| Some(text).filter(is_number)?.parse().ok();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((number(first)?, number(last)?))
    };
    text.split(',').map(range).collect()
}

/// A path without `.`, `..` and doubled slashes, relative to where it starts: `..` cannot climb
/// above that.
#[must_use]
pub fn clean_path(path: &str) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                cleaned.pop();
            }
            name => cleaned.push(name),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers() {
        assert_eq!(
            number_ranges("0-3,7,9-8"),
            Some(vec![(0, 3), (7, 7), (9, 8)])
        );
        for bad in ["", ",", "1,", "-1", "1-", "+1", "99999999999", "1 "] {
            assert_eq!(number_ranges(bad), None, "{bad}");
        }
    }

    #[test]
    fn clean_paths_never_climb() {
        for (text, cleaned) in [
            ("/a/./b//c/", "a/b/c"),
            ("a/b", "a/b"),
            ("/..", ""),
            ("/../../etc", "etc"),
            ("/proc/../proc/x/..", "proc"),
            ("", ""),
        ] {
            assert_eq!(clean_path(text), PathBuf::from(cleaned), "{text}");
        }
    }

    #[test]
    fn escaped_text_keeps_its_indentation() {
        assert_eq!(escaped("  a\n\tb "), "  a\\n b ");
        assert_eq!(one_line("  a\n\tb "), "a\\n b");
    }
    use coracle_sys::Call;

    #[test]
    fn texts_are_those_that_engines_know() {
        for (errno, expected) in [
            (Errno::ENOENT, "not found (ENOENT)"),
            (Errno::EPERM, "operation not permitted (EPERM)"),
            (Errno::EACCES, "permission denied (EACCES)"),
            (Errno::ENOEXEC, "exec format error (ENOEXEC)"),
            (Errno::EISDIR, "is a directory (EISDIR)"),
            (Errno::ELOOP, "too many levels of symbolic links (ELOOP)"),
            (Errno::ENOTTY, "inappropriate ioctl for device (ENOTTY)"),
            (Errno::EAGAIN, "resource temporarily unavailable (EAGAIN)"),
            (Errno::ENOMEM, "cannot allocate memory (ENOMEM)"),
            (Errno::UnknownErrno, "success (UnknownErrno)"),
        ] {
            assert_eq!(errno_text(errno), expected);
        }
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn the_table_has_glibcs_texts() {
        for (errno, text) in GLIBC_TEXTS {
            let own = std::io::Error::from_raw_os_error(errno as i32).to_string();
            assert!(own.to_lowercase().starts_with(text), "{own}");
        }
    }

    #[test]
    fn checks_have_words() {
        crate::checks! {
            First = "the first",
            Second = "the second",
        }
        assert_eq!(Cause::from(Check::First), Cause::Check(0));
        assert_eq!(Check::text(Check::Second as u16), "the second");
        assert_eq!(Check::text(2), "internal error");
    }

    #[test]
    fn causes_have_words() {
        for (cause, text) in [
            (
                Cause::Call(Call::Mount, Errno::EPERM),
                "mount: operation not permitted (EPERM)",
            ),
            (Cause::Exit(ExitStatus::Code(200)), "exit status 200"),
            (Cause::Exit(ExitStatus::Signal(9)), "killed by signal 9"),
        ] {
            assert_eq!(cause_text(cause), text);
        }
    }

    #[test]
    fn a_text_stays_on_its_line() {
        assert_eq!(one_line(" a\tb\nc\u{1b}[0m \n"), "a b\\nc\\u{1b}[0m");
        assert_eq!(beginning("abc", 3), "abc");
        assert_eq!(beginning(" äbc\n", 2), "äb...");
        assert_eq!(end(b"12\xffno\n", 4), "\u{fffd}no");
    }
}
