//! How a process ended, as the record and `state` have it.

use coracle_sys::ExitStatus;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// How init ended, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// The exit code as `run` returns it: the program's, or 128 + N for signal N.
    pub exit_code: i32,
    /// The name of the signal that killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Whether the kernel has killed a process of its cgroup for want of memory.
    pub oom_killed: bool,
    /// When, RFC 3339; only if somebody waited for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl Ending {
    /// `cgroup` is the container's own, if it has one.
    pub(crate) fn of(status: ExitStatus, cgroup: Option<&coracle_cgroups::Record>) -> Self {
        let name = |signal| match Signal::try_from(signal) {
            Ok(signal) => signal.to_string(),
            Err(_) => format!("signal {signal}"),
        };
        Self {
            exit_code: status.shell_code(),
            signal: match status {
                ExitStatus::Code(_) => None,
                ExitStatus::Signal(signal) => Some(name(signal)),
            },
            oom_killed: cgroup.is_some_and(coracle_cgroups::oom_killed),
            at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_those_of_a_shell() {
        let shown = |status| serde_json::to_string(&Ending::of(status, None)).unwrap();
        assert_eq!(
            shown(ExitStatus::Code(3)),
            r#"{"exitCode":3,"oomKilled":false}"#
        );
        assert_eq!(
            shown(ExitStatus::Signal(9)),
            r#"{"exitCode":137,"signal":"SIGKILL","oomKilled":false}"#
        );
        assert!(shown(ExitStatus::Signal(40)).contains(r#""signal":"signal 40""#));
    }
}
