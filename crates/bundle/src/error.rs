//! The crate's error, and JSON paths.

use coracle_text::{Code, Detail};
use nix::errno::Errno;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// Why a bundle was refused. Each message is one line without control characters.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The container id is not valid as the name of a file, a cgroup or a keyring.
    #[error(
        "invalid container ID format: {} (letters, digits, `_`, `+`, `.`, `-`; at most 255; \
         neither `.` nor `..`)",
        Shown(.0)
    )]
    ContainerId(String),
    /// The bundle's directory does not exist, or has no `config.json`.
    #[error("config.json not found in {}", ShownPath(.0))]
    NotFound(PathBuf),
    /// The bundle's path could not be made absolute.
    #[error("bundle {}: the path cannot be made absolute", ShownPath(.0))]
    NotAbsolute(PathBuf),
    /// `config.json` exists but cannot be read.
    #[error("read {}: {}", ShownPath(.path), coracle_text::errno_text(*.errno))]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// `config.json` is a directory, a FIFO or a device.
    #[error("read {}: not a regular file", ShownPath(.0))]
    NotRegular(PathBuf),
    /// A document is larger than [`crate::MAX_CONFIG_BYTES`].
    #[error("{document}: larger than {limit} bytes")]
    TooLarge {
        /// Which document.
        document: Document,
        /// The limit in bytes.
        limit: usize,
    },
    /// A document has too many values, which would fill the memory.
    #[error("{document}: more than {limit} values")]
    TooMany {
        /// Which document.
        document: Document,
        /// The limit.
        limit: usize,
    },
    /// A document is not UTF-8.
    #[error("{document}: line {line}, column {column}: not UTF-8")]
    NotUtf8 {
        /// Which document.
        document: Document,
        /// From 1.
        line: usize,
        /// In bytes, from 1.
        column: usize,
    },
    /// A document is not JSON, or has more after the value.
    #[error("{document}: line {line}, column {column}: {problem}")]
    Syntax {
        /// Which document.
        document: Document,
        /// From 1.
        line: usize,
        /// In bytes, from 1.
        column: usize,
        /// The parser's message.
        problem: String,
    },
    /// A property has the wrong type or value, or contradicts another one.
    #[error("{path}: {problem}")]
    Invalid {
        /// The document and the path in it: `config.json: mounts[2].destination`.
        path: String,
        /// The value, and what was expected.
        problem: String,
    },
}

impl Error {
    /// What programs read of it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        let of = Detail::new;
        match self {
            Error::ContainerId(_) => of(Code::UsageInvalid),
            Error::NotFound(bundle) => of(Code::ConfigNotFound).path(bundle.display()).hint(
                "run it in a bundle, or name one: --bundle DIR; coracle spec writes a config",
            ),
            Error::NotAbsolute(path) => of(Code::ConfigNotFound).path(path.display()),
            Error::Read { path, errno } => of(Code::ConfigUnreadable)
                .path(path.display())
                .errno(*errno),
            Error::NotRegular(path) => of(Code::ConfigUnreadable).path(path.display()),
            Error::TooLarge { document, .. } | Error::TooMany { document, .. } => {
                of(Code::ConfigInvalid).path(document)
            }
            Error::NotUtf8 { document, .. } | Error::Syntax { document, .. } => {
                of(Code::ConfigSyntax).path(document)
            }
            Error::Invalid { path, .. } => of(Code::ConfigInvalid).path(path),
        }
    }
}

/// A document that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// A bundle's `config.json`.
    Config,
    /// The file of `exec --process`: an object as `process` in a config.
    Process,
    /// The file of `update --resources`: an object as `linux.resources` in a config.
    Resources,
}

impl Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Document::Config => "config.json",
            Document::Process => "process",
            Document::Resources => "resources",
        })
    }
}

/// The beginnings of messages about properties below a path. Scripts match them in runc's output.
const PHRASES: [(&str, &str); 2] = [
    ("linux.memoryPolicy", "invalid memory policy: "),
    ("execCPUAffinity", "invalid CPU affinity: "),
];

/// A JSON path, as a linked list on the stack, so that it costs a valid config nothing.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    Root(Document),
    Key(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl At<'_> {
    pub(crate) fn key<'a>(&'a self, key: &'a str) -> At<'a> {
        At::Key(self, key)
    }

    pub(crate) fn index(&self, index: usize) -> At<'_> {
        At::Index(self, index)
    }

    /// The error that refuses the value at this path.
    pub(crate) fn refuse(&self, problem: impl Display) -> Error {
        let path = self.to_string();
        let known = PHRASES.iter().find(|(part, _)| path.contains(part));
        let phrase = known.map_or("", |(_, phrase)| phrase);
        Error::Invalid {
            path,
            problem: format!("{phrase}{problem}"),
        }
    }

    pub(crate) fn document(&self) -> Document {
        match self {
            At::Root(document) => *document,
            At::Key(parent, _) | At::Index(parent, _) => parent.document(),
        }
    }
}

impl Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root(document) => write!(f, "{document}"),
            At::Key(parent, key) => {
                parent.fmt(f)?;
                // Only the config is named before the path: the paths of other documents begin with
                // `process` or `resources`.
                let joint = match parent {
                    At::Root(Document::Config) => ": ",
                    _ => ".",
                };
                if is_plain(key) {
                    write!(f, "{joint}{key}")
                } else {
                    write!(f, "[{}]", Shown(key))
                }
            }
            At::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The JSON path of a member of the object at `path`, as messages name it.
#[must_use]
pub fn member(path: &str, key: &str) -> String {
    match is_plain(key) {
        true => format!("{path}.{key}"),
        false => format!("{path}[{}]", Shown(key)),
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A hostile string in a message: quoted, control characters escaped, cut if it is long.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

/// The longest string that is shown: a longer one could flood a log.
const SHOWN_CHARACTERS: usize = 200;

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.chars();
        let head: String = rest.by_ref().take(SHOWN_CHARACTERS).collect();
        write!(f, "{head:?}")?;
        if rest.next().is_some() {
            f.write_str("...")
        } else {
            Ok(())
        }
    }
}

/// A path from the command line, quoted only if it has blanks or control characters.
struct ShownPath<'a>(&'a Path);

impl Display for ShownPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        let escaped = |character: char| character.is_control() || character.is_whitespace();
        if text.is_empty() || text.contains(escaped) || text.len() > SHOWN_CHARACTERS {
            write!(f, "{}", Shown(&text))
        } else {
            f.write_str(&text)
        }
    }
}

/// A parser's message, which may quote the document, as one line of limited length.
pub(crate) fn one_line(text: &str) -> String {
    coracle_text::beginning(text, 4 * SHOWN_CHARACTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_like_paths() {
        let config = At::Root(Document::Config);
        let process = At::Root(Document::Process);
        assert_eq!(config.to_string(), "config.json");
        assert_eq!(
            config.key("linux").key("devices").index(2).to_string(),
            "config.json: linux.devices[2]"
        );
        assert_eq!(
            config.key("a").key("b.c").to_string(),
            "config.json: a[\"b.c\"]"
        );
        assert_eq!(
            process.key("user").key("uid").to_string(),
            "process.user.uid"
        );
        assert_eq!(process.index(0).to_string(), "process[0]");
    }

    #[test]
    fn messages_are_one_line() {
        let errors = [
            Error::NotFound("/a\nb".into()),
            Error::NotAbsolute("".into()),
            Error::ContainerId("\u{1b}[2J".to_owned()),
            Error::Read {
                path: "/b/config.json".into(),
                errno: Errno::EACCES,
            },
            config_error("a\nb"),
        ];
        let lines: Vec<String> = errors.iter().map(Error::to_string).collect();
        assert!(
            lines.iter().all(|line| !line.contains(char::is_control)),
            "{lines:?}"
        );
        assert_eq!(lines[0], "config.json not found in \"/a\\nb\"");
        assert_eq!(lines[3], "read /b/config.json: permission denied (EACCES)");
        assert_eq!(one_line(&"x".repeat(5000)).len(), 803);
    }

    fn config_error(text: &str) -> Error {
        At::Root(Document::Config).key(text).refuse(Shown(text))
    }
}
