//! Finds the reason of a failure in criu's log.

/// How many lines are quoted: the first ones are the reason, the rest are consequences.
const LINES: usize = 2;
const SHOWN_CHARACTERS: usize = 600;
/// Errors after which criu continues, such as a missing permission to raise its own limit of open
/// files.
const HARMLESS: [&str; 2] = ["rlimit: Can't setup RLIMIT_NOFILE", "Can't keep kdat cache"];
/// Lines that follow an error and say nothing about its cause.
const HOLLOW: [&str; 7] = [
    "cgroupd: recv req error",
    "Dumping FAILED",
    "Pre-dumping FAILED",
    "Restoring FAILED",
    "Restore failed",
    "One of more action scripts failed",
    "Exitting with error",
];

/// The last line, without its timestamp. Some refusals of criu are not logged as errors.
pub(crate) fn last_line(log: &[u8]) -> Option<String> {
    let log = String::from_utf8_lossy(log);
    let last = log.lines().rfind(|line| !line.trim().is_empty())?;
    let (_, text) = last.split_once(") ").unwrap_or(("", last));
    Some(quoted(text))
}

/// The first errors in a log, joined to one line; `None` if it has none.
pub(crate) fn reason(log: &[u8]) -> Option<String> {
    let log = String::from_utf8_lossy(log);
    let errors = log.lines().filter_map(|line| {
        let at = line.find("Error (")?;
        let text = line.get(at..)?.trim();
        let mut hollow = HARMLESS.iter().chain(&HOLLOW);
        let skipped = hollow.any(|words| text.contains(words));
        (!skipped).then_some(text)
    });
    let mut errors: Vec<&str> = errors.collect();
    errors.dedup();
    errors.truncate(LINES);
    let text = errors.join("; ");
    (!text.is_empty()).then(|| quoted(&text))
}

/// The beginning of the text on one line, for a terminal and an engine's log.
pub(crate) fn quoted(text: &str) -> String {
    coracle_text::beginning(text, SHOWN_CHARACTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_errors_are_the_reason() {
        let log = b"(00.000001) Version: 4.2.1\n\
            (00.067817) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: no\n\
            (00.100000) Warn  (criu/tty.c:1): not this\n\
            (00.200000) Error (criu/tty.c:2): tty: Found dangling tty\x1b[2J\n\
            (00.200000)      12: Error (criu/tty.c:3): two\n\
            (00.200000)      12: Error (criu/tty.c:3): two\n\
            (00.210000) Error (criu/tty.c:4): three\n\
            (00.300000) Error (criu/cr-dump.c:2128): Dumping FAILED.\n";
        let expected = "Error (criu/tty.c:2): tty: Found dangling tty\\u{1b}[2J; \
                        Error (criu/tty.c:3): two";
        assert_eq!(reason(log).as_deref(), Some(expected));
        let quiet = b"(00.1) Version: 4.2\n(00.2) Effective capability 21 missing\n\n";
        assert_eq!(reason(quiet), None);
        let last = last_line(quiet);
        assert_eq!(last.as_deref(), Some("Effective capability 21 missing"));
        assert_eq!(reason(b"\xff\xfe"), None);
    }

    #[test]
    fn a_line_is_not_endless() {
        let long = format!("Error ({}", "x".repeat(5000));
        assert!(reason(long.as_bytes()).unwrap().len() < 700);
    }
}
