//! Errors of networks and plugins.

use coracle_sys::Call;
use coracle_text::{Code, Detail, errno_text};
use nix::errno::Errno;
use std::fmt;
use std::path::PathBuf;

use crate::plan::text::{joined, shown};
use crate::plan::verb::Verb;

/// What was attempted and why it failed. Its text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag or an annotation has an invalid value.
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
        /// The directory of the configurations.
        dir: PathBuf,
        /// The error of a file there that could not be read, since it may be the network's.
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
    /// A configuration violates the specification.
    #[error("{file:?}: {problem}")]
    Config {
        /// The file.
        file: PathBuf,
        /// The property and what was expected.
        problem: String,
    },
    /// A directory or file of configurations cannot be read.
    #[error("{call} {path:?}: {}", errno_text(*.errno))]
    Read {
        /// What was attempted.
        call: &'static str,
        /// The directory or file.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// No directory has the plugin.
    #[error("network {network}: plugin {}: not found in {}", shown(.plugin), joined(.dirs))]
    Missing {
        /// The network whose list names it.
        network: String,
        /// The plugin's type.
        plugin: String,
        /// The directories that were searched.
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
        /// Whether the runtime, and so the plugin, lacks CAP_NET_ADMIN in its user namespace.
        unprivileged: bool,
    },
    /// A program of the host uses a port that is to be published.
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
    /// Whether a second try may succeed, since the plugin ran and failed. It would not help if the
    /// plugin is missing, was interrupted or timed out.
    pub(crate) fn is_worth_retry(&self) -> bool {
        let Error::Plugin { failure, .. } = self else {
            return false;
        };
        let Failure::Ended { ended, .. } = failure else {
            return true;
        };
        !matches!(
            ended,
            Ended::Start(_) | Ended::TimeOut(_) | Ended::Interrupted | Ended::NotStarted
        )
    }
}

impl Error {
    /// What programs read of it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        let of = Detail::new;
        match self {
            Error::Request { by, .. } => of(Code::NetworkInvalid).path(by),
            Error::Unknown { dir, .. } => of(Code::NetworkNotFound)
                .path(dir.display())
                .hint("configure the network, or name another: coracle network ls"),
            Error::Twice { second, .. } => of(Code::NetworkInvalid).path(second.display()),
            Error::Config { file, .. } => of(Code::NetworkInvalid).path(file.display()),
            Error::Read { path, errno, .. } => {
                of(Code::NetworkInvalid).path(path.display()).errno(*errno)
            }
            Error::Missing { .. } => of(Code::NetworkPluginNotFound)
                .hint("install the plugins, or name their directory: --cni-bin-dir"),
            Error::Plugin { failure, .. } => of(Code::NetworkPluginFailed).errno(match failure {
                Failure::Ended { ended, .. } => ended.errno(),
                _ => None,
            }),
            Error::PortInUse { .. } => of(Code::NetworkPortTaken)
                .path("--publish")
                .errno(Errno::EADDRINUSE)
                .hint("end that program, or publish another port"),
            Error::Refused { .. } => of(Code::NetworkInvalid),
        }
    }
}

/// How one plugin failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its process failed.
    Ended {
        /// How.
        ended: Ended,
        /// Its standard error, or else its standard output, on one line; empty if the runtime ended
        /// it.
        printed: String,
    },
    /// It reported the reason in an error object of the specification.
    Reported {
        /// CNI SPEC § Error: codes below 100 are the specification's, others the plugin's.
        code: u64,
        /// Message and details, on one line.
        text: String,
    },
    /// Its output is not a valid result.
    InvalidOutput {
        /// What is wrong with it.
        problem: String,
        /// The beginning of its output.
        printed: String,
    },
}

pub use coracle_program::Failure as Ended;

impl Failure {
    /// A system call of the runtime failed.
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
            Failure::InvalidOutput { problem, printed } => (problem.clone(), printed),
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
