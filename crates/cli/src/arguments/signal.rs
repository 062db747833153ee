//! Signals by name or number: signal(7).

use super::number;

/// Names and numbers that x86, arm, riscv, powerpc and s390 share, in ascending order.
const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The first and last real-time signal of the C libraries, as programs in containers number them;
/// the kernel's first is 32.
const REAL_TIME: (i32, i32) = (34, 64);

/// The names without `SIG`.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// The signal with this name (`TERM`, `SIGTERM`, `RTMIN+1`, in any case) or number (`0` only
/// checks).
pub(crate) fn parse(text: &str) -> Option<i32> {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        let number = i32::try_from(number::unsigned(text.as_bytes())?).ok()?;
        return (number <= REAL_TIME.1).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let by_name = NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number);
    by_name.or_else(|| real_time(name))
}

/// `RTMIN`, `RTMIN+N`, `RTMAX`, `RTMAX-N`.
fn real_time(name: &str) -> Option<i32> {
    let (start, sign, distance) = if let Some(distance) = name.strip_prefix("RTMIN") {
        (REAL_TIME.0, '+', distance)
    } else {
        (REAL_TIME.1, '-', name.strip_prefix("RTMAX")?)
    };
    if distance.is_empty() {
        return Some(start);
    }
    let distance = number::unsigned(distance.strip_prefix(sign)?.as_bytes())?;
    let distance = i32::try_from(distance).ok()?;
    let number = if sign == '+' {
        start.checked_add(distance)?
    } else {
        start.checked_sub(distance)?
    };
    (REAL_TIME.0..=REAL_TIME.1)
        .contains(&number)
        .then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("SigTerm", 15),
            ("term", 15),
            ("15", 15),
            ("0", 0),
            ("9", 9),
            ("KILL", 9),
            ("HUP", 1),
            ("USR1", 10),
            ("IOT", 6),
            ("CLD", 17),
            ("POLL", 29),
            ("SYS", 31),
            ("32", 32),
            ("64", 64),
            ("RTMIN", 34),
            ("SIGRTMIN", 34),
            ("RTMIN+1", 35),
            ("sigrtmin+30", 64),
            ("RTMAX", 64),
            ("RTMAX-30", 34),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal() {
        for text in [
            "",
            "SIG",
            "FOO",
            "SIGFOO",
            "SIGSIGTERM",
            "-9",
            "+9",
            "09",
            "9 ",
            " 9",
            "65",
            "128",
            "4294967305",
            "9a",
            "0x9",
            "TERM ",
            "RTMIN-1",
            "RTMIN+31",
            "RTMIN+",
            "RTMIN1",
            "RTMAX+1",
            "RTMAX-31",
            "RTMAX--1",
            "RTMIN+-1",
            "RT",
            "ſIGTERM",
            "9.0",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
