//! How networks fail.

use coracle_sys::Call;
use coracle_text::errno_text;
use nix::errno::Errno;
use std::fmt;
use std::path::PathBuf;

use crate::plan::text::{joined, shown};
use crate::plan::verb::Verb;

/// What was attempted and why it did not come about, in one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag or an annotation requests what cannot be.
    #[error("{by}: {problem}")]
    Request {
        /// `--publish`, or `config.json: annotations["run.coracle.network.publish"]`.
        by: String,
        /// The value and what was expected.
        problem: String,
    },
    /// No configuration has the network's name.
    #[error("network {network}: no configuration of that name in {dir:?}{}", after(.broken))]
    Unknown {
        /// The requested name.
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
    #[error("network {network}: plugin {}: not found in {}", shown(.plugin), joined(.dirs))]
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
        shown(.plugin),
        hint(*.unprivileged)
    )]
    Plugin {
        /// The network.
        network: String,
        /// The plugin's type.
        plugin: String,
        /// The operation.
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
        let Failure::Ended { ended, .. } = failure else {
            return true;
        };
        !matches!(
            ended,
            Ended::Start(_) | Ended::TimeOut(_) | Ended::Interrupted
        )
    }
}

/// How one plugin failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// How its process did, with what it printed, on one line.
    Ended {
        /// How.
        ended: Ended,
        /// Its complaints, or else its result; empty where it was we who ended it.
        printed: String,
    },
    /// It answered why, by the specification's error object.
    Reported {
        /// CNI SPEC § Error: below 100 the specification's, from there on the plugin's.
        code: u64,
        /// Message and details, on one line.
        text: String,
    },
    /// What it printed is no result.
    Garbage {
        /// What is wrong with it.
        problem: String,
        /// How it begins.
        printed: String,
    },
}

pub use coracle_program::Failure as Ended;

impl Failure {
    /// A call of ours failed.
    pub(crate) fn call(call: Call, errno: Errno) -> Self {
        Ended::Call(call, errno).into()
    }
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        Failure::Ended {
            ended,
            printed: String::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, printed) = match self {
            Failure::Ended { ended, printed } => (ended.to_string(), printed),
            Failure::Garbage { problem, printed } => (problem.clone(), printed),
            Failure::Reported { code, text } => return write!(f, "{text} (code {code})"),
        };
        if let Failure::Ended { ended, .. } = self
            && matches!(ended, Ended::Start(_))
        {
            f.write_str("cannot be started: ")?;
        }
        match printed.as_str() {
            "" => f.write_str(&text),
            printed => write!(f, "{text}: {printed}"),
        }
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
