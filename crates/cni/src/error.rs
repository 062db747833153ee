//! How networks fail.

use coracle_sys::Call;
use coracle_text::errno_text;
use nix::errno::Errno;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::plan::Verb;
use crate::plan::text::{joined, one_line};

/// What was attempted and why it did not come about, in one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag or an annotation asks for what cannot be.
    #[error("{by}: {problem}")]
    Asked {
        /// `--publish`, or `config.json: annotations["run.coracle.network.publish"]`.
        by: String,
        /// The value and what was expected.
        problem: String,
    },
    /// No configuration has the network's name.
    #[error("network {network}: no configuration of that name in {dir:?}{}", after(.broken))]
    Unknown {
        /// The name asked for.
        network: String,
        /// Where configurations were looked for.
        dir: PathBuf,
        /// What is wrong with a file there that could not be read: it may be the one meant.
        broken: Option<String>,
    },
    /// Two files configure a network of the same name.
    #[error("network {network}: configured twice, in {first:?} and {second:?}")]
    Twice {
        /// The name.
        network: String,
        /// One of the files.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A configuration is not what the specification says.
    #[error("{file:?}: {problem}")]
    Config {
        /// The file.
        file: PathBuf,
        /// The property and what was expected.
        problem: String,
    },
    /// A folder or file of configurations cannot be read.
    #[error("{call} {path:?}: {}", errno_text(*.errno))]
    Read {
        /// What was attempted.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A plugin is in none of the folders.
    #[error("network {network}: plugin {}: not found in {}", one_line(.plugin), joined(.dirs))]
    Missing {
        /// The network whose list names it.
        network: String,
        /// The plugin's type.
        plugin: String,
        /// Where it was looked for.
        dirs: Vec<PathBuf>,
    },
    /// A plugin failed.
    #[error(
        "network {network}: plugin {}: {verb}: {failure}{}",
        one_line(.plugin),
        hint(*.unprivileged)
    )]
    Plugin {
        /// The network.
        network: String,
        /// The plugin's type.
        plugin: String,
        /// What it was asked.
        verb: Verb,
        /// How it failed.
        failure: Failure,
        /// We have no power over networks of the host, and so has the plugin.
        unprivileged: bool,
    },
    /// A port to be published is a program's of the host.
    #[error("published port {port}: address already in use by a program of the host")]
    PortInUse {
        /// `127.0.0.1:80/tcp`.
        port: String,
    },
    /// The operation is newer than the network's `cniVersion`, or disabled.
    #[error("network {network}: {problem}")]
    Refused {
        /// The network.
        network: String,
        /// Why.
        problem: &'static str,
    },
}

impl Error {
    /// Whether the same call may succeed later: the plugin ran and failed. One that is missing
    /// stays so, and one that hung has had its time.
    pub(crate) fn may_pass(&self) -> bool {
        let Error::Plugin { failure, .. } = self else {
            return false;
        };
        !matches!(failure, Failure::Start(_) | Failure::TimeOut(_))
    }
}

/// How one plugin failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// It did not start: not executable, not a program.
    Start(Errno),
    /// It said why, in the words of the specification's error object.
    Said {
        /// CNI SPEC § Error: below 100 the specification's, from there on the plugin's.
        code: u64,
        /// Message and details, on one line.
        text: String,
    },
    /// It left with this status, not zero, and this text.
    Status(i32, String),
    /// This signal killed it.
    Signal(i32, String),
    /// It took longer than it may, and was killed.
    TimeOut(Duration),
    /// It printed more than a result can be, and was killed.
    TooLong(usize),
    /// What it printed is no result.
    Garbage {
        /// What is wrong with it.
        problem: String,
        /// How it begins.
        printed: String,
    },
    /// The container ended meanwhile, so the plugin was ended, too.
    ContainerGone,
    /// A call of ours failed.
    Call(Call, Errno),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Start(errno) => write!(f, "cannot be started: {}", errno_text(*errno)),
            Failure::Said { code, text } => write!(f, "{text} (code {code})"),
            Failure::Status(status, text) => write!(f, "exit status {status}{}", colon(text)),
            Failure::Signal(signal, text) => write!(f, "killed by signal {signal}{}", colon(text)),
            Failure::TimeOut(limit) => write!(f, "timed out after {} s", limit.as_secs()),
            Failure::TooLong(limit) => write!(f, "printed more than {limit} bytes"),
            Failure::Garbage { problem, printed } => write!(f, "{problem}{}", colon(printed)),
            Failure::ContainerGone => f.write_str("ended, since the container was"),
            Failure::Call(call, errno) => write!(f, "{}: {}", call.name(), errno_text(*errno)),
        }
    }
}

fn colon(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!(": {}", one_line(text)),
    }
}

fn after(broken: &Option<String>) -> String {
    broken
        .as_ref()
        .map_or_else(String::new, |broken| format!(" ({broken})"))
}

fn hint(unprivileged: bool) -> &'static str {
    match unprivileged {
        true => " (without CAP_NET_ADMIN only plugins made for user mode can work)",
        false => "",
    }
}
