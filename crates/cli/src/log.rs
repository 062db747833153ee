//! The log: how failures and warnings are reported.
//!
//! Engines read the log: containerd's shim uses the last record with the level `error`, and podman
//! parses the *whole file* as one record. So a failure is exactly one record, in one write, and no
//! record comes before it unless a lower level is configured: warnings are written only after the
//! verb has succeeded.

mod daemon;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use coracle_text::Detail;
use daemon::{Daemon, Protocol};

/// The longest message, in bytes: with the rest of the record it fits into conmon's buffer.
const LONGEST: usize = 4096;

/// The longest of the further members of a JSON record.
const LONGEST_MEMBER: usize = 512;

/// What stands before a property of the config.
const CONFIG: &str = "config.json: ";

/// The level of a record, as logrus names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error,
    #[default]
    Warning,
    Info,
    Debug,
}

/// The form of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// The values of the flags of logging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) file: Option<PathBuf>,
    pub(crate) format: Format,
    pub(crate) level: Level,
}

/// An open log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    sink: Sink,
    format: Format,
    level: Level,
    config: Option<PathBuf>,
}

impl Log {
    /// Opens the log: a file, with `file:` before it or not, the journal with `journald:`, or the
    /// system log with `syslog:`, each before an identifier.
    ///
    /// The last component must not be a symbolic link, since another user may control the
    /// directory. The names of the runtime's own stderr are links; they mean stderr.
    pub(crate) fn open(settings: &Settings) -> io::Result<Self> {
        let sink = match settings.file.as_deref() {
            None => Sink::Stderr,
            Some(path) if is_own_stream(path) => Sink::Stderr,
            Some(path) => Sink::open(path)?,
        };
        Ok(Self {
            sink,
            format: settings.format,
            level: settings.level,
            config: None,
        })
    }

    /// The same log for a verb that reads this file in place of `config.json`, if it reads one.
    pub(crate) fn about(self, config: Option<PathBuf>) -> Self {
        Self { config, ..self }
    }

    /// The message with the name of the file that was read before a property of the config: what
    /// refuses a property knows the config, and not where it was read.
    pub(crate) fn named<'a>(&self, message: &'a str) -> Cow<'a, str> {
        match &self.config {
            Some(file) if message.contains(CONFIG) => message
                .replacen(CONFIG, &format!("{}: ", file.display()), 1)
                .into(),
            _ => message.into(),
        }
    }

    /// Writes the one record of a failure. With a log file the message also goes to stderr.
    pub(crate) fn error(&self, message: &str, detail: &Detail) {
        let message = one_line(&self.named(message), LONGEST);
        self.write(Level::Error, &message, Some(detail));
        if !matches!(self.sink, Sink::Stderr) {
            // conmon forwards stderr, and conformance suites look for the word "error" in it.
            to_stderr(&format!("error: {message}\n"));
        }
    }

    /// Whether records of this level are written.
    pub(crate) fn has(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Writes a record if its level is configured.
    pub(crate) fn record(&self, level: Level, message: &str) {
        if self.has(level) {
            self.write(level, &one_line(&self.named(message), LONGEST), None);
        }
    }

    /// Writes one warning for each message.
    pub(crate) fn warn_all(&self, messages: &[String]) {
        for message in messages {
            self.record(Level::Warning, message);
        }
    }

    /// Writes a warning at every level: one that the specification requires, or one about a request
    /// that was not fulfilled.
    pub(crate) fn warn_always(&self, message: &str) {
        self.write(
            Level::Warning,
            &one_line(&self.named(message), LONGEST),
            None,
        );
    }

    fn write(&self, level: Level, message: &str, detail: Option<&Detail>) {
        let record = || {
            let time = coracle_container::rfc3339(SystemTime::now());
            render(self.format, level, &time, message, detail)
        };
        // A log that cannot be written must not turn a success into a failure.
        match &self.sink {
            Sink::File(file) => drop((&*file).write_all(record().as_bytes())),
            Sink::Daemon(daemon) => daemon.send(priority(level), message),
            Sink::Stderr if self.format == Format::Text && io::stderr().is_terminal() => {
                to_stderr(&format!("{}[0000] {message}\n", short_name(level)));
            }
            Sink::Stderr => to_stderr(&record()),
        }
    }
}

/// Where records go.
#[derive(Debug, Default)]
enum Sink {
    #[default]
    Stderr,
    File(File),
    Daemon(Daemon),
}

impl Sink {
    fn open(path: &Path) -> io::Result<Self> {
        let after = |start: &str| path.as_os_str().as_bytes().strip_prefix(start.as_bytes());
        if let Some(identifier) = after("journald:") {
            return Daemon::connect(Protocol::Journal, identifier).map(Self::Daemon);
        }
        if let Some(identifier) = after("syslog:") {
            return Daemon::connect(Protocol::Syslog, identifier).map(Self::Daemon);
        }
        let path = after("file:").map_or(path, |rest| Path::new(OsStr::from_bytes(rest)));
        open(path).map(Self::File)
    }
}

/// Opens a file that is appended to.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY)
        .open(path)
}

fn is_own_stream(path: &Path) -> bool {
    ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"]
        .iter()
        .any(|own| path == Path::new(own))
}

fn to_stderr(text: &str) {
    // There is nowhere to report that stderr is closed.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

fn short_name(level: Level) -> &'static str {
    match level {
        Level::Error => "ERRO",
        Level::Warning => "WARN",
        Level::Info => "INFO",
        Level::Debug => "DEBU",
    }
}

/// A whole record with its newline. `message` must be one line.
fn render(
    format: Format,
    level: Level,
    time: &str,
    message: &str,
    detail: Option<&Detail>,
) -> String {
    let message = quoted(message);
    let level = name(level);
    match format {
        Format::Text => format!("time=\"{time}\" level={level} msg={message}\n"),
        Format::Json => {
            let more = detail.map(members).unwrap_or_default();
            format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"{more}}}\n")
        }
    }
}

/// The further members of a JSON record about a failure: docs/errors.md. Those without a value are
/// left out.
fn members(detail: &Detail) -> String {
    let errno = detail.errno.map(|errno| format!("{errno:?}"));
    let all = [
        ("code", Some(detail.code.text())),
        ("path", detail.path.as_deref()),
        ("errno", errno.as_deref()),
        ("stage", detail.stage),
        ("hint", detail.hint.as_deref()),
    ];
    let mut members = String::new();
    for (key, value) in all {
        if let Some(value) = value {
            let value = quoted(&one_line(value, LONGEST_MEMBER));
            // Writing to a String cannot fail.
            let _ = write!(members, ",\"{key}\":{value}");
        }
    }
    members
}

/// The message as a JSON string; logrus quotes printable text in the same way.
fn quoted(message: &str) -> String {
    let mut quoted = String::with_capacity(message.len() + 2);
    quoted.push('"');
    for character in message.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

/// The message without a control character and at most about `longest` bytes long.
///
/// Messages contain names from images: a newline could forge a record, and an escape sequence could
/// control the terminal on which the log is read.
fn one_line(message: &str, longest: usize) -> String {
    let mut line = String::with_capacity(message.len().min(longest));
    for character in message.trim_end().chars() {
        if line.len() >= longest {
            line.push('…');
            break;
        }
        match character {
            '\n' => line.push_str("\\n"),
            '\t' => line.push(' '),
            character if character.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(line, "\\u{:04x}", u32::from(character));
            }
            character => line.push(character),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_text::Code;
    use nix::errno::Errno;

    const TIME: &str = "2026-08-02T10:00:00Z";

    #[test]
    fn a_record_is_what_logrus_writes() {
        assert_eq!(
            render(
                Format::Text,
                Level::Error,
                TIME,
                "container \"a\" is gone",
                None
            ),
            "time=\"2026-08-02T10:00:00Z\" level=error msg=\"container \\\"a\\\" is gone\"\n"
        );
        assert_eq!(
            render(Format::Json, Level::Warning, TIME, "back\\slash", None),
            "{\"level\":\"warning\",\"msg\":\"back\\\\slash\",\"time\":\"2026-08-02T10:00:00Z\"}\n"
        );
    }

    #[test]
    fn a_failure_has_members_for_programs_in_json_alone() {
        let detail = Detail::new(Code::MountFailed)
            .path("config.json: mounts[2].source")
            .errno(Errno::EPERM)
            .hint("say \"please\"\n");
        let record = |format| render(format, Level::Error, TIME, "m", Some(&detail));
        assert_eq!(
            record(Format::Json),
            "{\"level\":\"error\",\"msg\":\"m\",\"time\":\"2026-08-02T10:00:00Z\",\
             \"code\":\"mount.failed\",\"path\":\"mounts[2].source\",\"errno\":\"EPERM\",\
             \"hint\":\"say \\\"please\\\"\"}\n"
        );
        let text = "time=\"2026-08-02T10:00:00Z\" level=error msg=\"m\"\n";
        assert_eq!(record(Format::Text), text);
    }

    #[test]
    fn a_hostile_message_stays_one_json_line() {
        let hostile = "a\nb\r\u{1b}[31m\u{7f}\u{9b}\"\\\u{0}é\t.\n";
        let line = one_line(hostile, LONGEST);
        assert_eq!(line, "a\\nb\\u000d\\u001b[31m\\u007f\\u009b\"\\\\u0000é .");
        let record = render(Format::Json, Level::Error, TIME, &line, None);
        assert_eq!(record.matches('\n').count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&record).unwrap();
        assert_eq!(parsed["msg"], line);
        assert_eq!(parsed["level"], "error");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        for filler in ["x", "é", "🐳", "\u{1}"] {
            let line = one_line(&filler.repeat(10_000), LONGEST);
            assert!(line.ends_with('…'));
            assert!(
                (LONGEST..LONGEST + 10).contains(&line.len()),
                "{}",
                line.len()
            );
        }
        assert_eq!(one_line(&"x".repeat(LONGEST), LONGEST).len(), LONGEST);
    }

    #[test]
    fn failures_are_appended_to_the_file_and_lesser_things_are_not() {
        let path = std::env::temp_dir().join(format!("coracle-log-{}", std::process::id()));
        let settings = Settings {
            file: Some(path.clone()),
            format: Format::Json,
            level: Level::Error,
        };
        for message in ["first", "second"] {
            let log = Log::open(&settings).unwrap();
            log.record(Level::Warning, "not configured");
            log.write(Level::Error, message, None);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let messages: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(messages.len(), 2);
        assert_eq!(
            (&messages[0]["msg"], &messages[1]["msg"]),
            (&"first".into(), &"second".into())
        );
    }

    #[test]
    fn a_file_may_be_named_as_one() {
        let path = std::env::temp_dir().join(format!("coracle-file-{}", std::process::id()));
        let named = format!("file:{}", path.display());
        let settings = Settings {
            file: Some(named.into()),
            ..Settings::default()
        };
        Log::open(&settings)
            .unwrap()
            .write(Level::Error, "message", None);
        let text = std::fs::read_to_string(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(text.unwrap().contains("message"));
    }

    #[test]
    fn a_link_is_not_followed() {
        let path = std::env::temp_dir().join(format!("coracle-link-{}", std::process::id()));
        std::os::unix::fs::symlink("/tmp/coracle-target", &path).unwrap();
        let settings = Settings {
            file: Some(path.clone()),
            ..Settings::default()
        };
        let refused = Log::open(&settings);
        std::fs::remove_file(&path).unwrap();
        assert!(refused.is_err());
    }
}
