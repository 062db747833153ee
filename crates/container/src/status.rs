//! The statuses, and which verb is allowed in which status.

use std::fmt;

use serde::Serialize;

/// The status of a container: runtime.md § State, and `paused`, which other runtimes have as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` has not ended.
    Creating,
    /// Init waits for `start`.
    Created,
    /// Init executed the program.
    Running,
    /// Running, and frozen.
    Paused,
    /// Init has ended.
    Stopped,
}

impl Status {
    /// In the order of a container's life.
    pub const ALL: [Status; 5] = [
        Status::Creating,
        Status::Created,
        Status::Running,
        Status::Paused,
        Status::Stopped,
    ];

    /// The word in `state`, hooks and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The verbs that depend on the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Start,
    Kill,
    KillAll,
    Delete,
    Exec,
    ExecIgnorePaused,
    Pause,
    Resume,
    Update,
    Checkpoint,
}

/// The text with which `verb` is refused in `status`; `None` if it is allowed. Engines match these
/// texts.
pub(crate) fn refusal(verb: Verb, status: Status) -> Option<&'static str> {
    use Status::{Created, Creating, Paused, Running, Stopped};
    match (verb, status) {
        (Verb::KillAll, _) => None,
        (Verb::Start, Created) => None,
        (Verb::Start, Running) => Some("cannot start an already running container"),
        (Verb::Start, Stopped) => Some("cannot start a container that has stopped"),
        (Verb::Start, Paused) => Some("cannot start a container in the paused state"),
        (Verb::Start, Creating) => Some("cannot start a container that is still being created"),
        (Verb::Kill, Stopped) => Some("container not running"),
        (Verb::Kill, Creating) => Some("cannot kill a container that is still being created"),
        (Verb::Kill, _) => None,
        (Verb::Delete, Stopped | Created) => None,
        (Verb::Delete, _) => Some("cannot delete a container that is not stopped"),
        (Verb::Exec | Verb::ExecIgnorePaused, Created | Running) => None,
        (Verb::ExecIgnorePaused, Paused) => None,
        (Verb::Exec, Paused) => {
            Some("cannot exec in a paused container (use --ignore-paused to override)")
        }
        (Verb::Exec | Verb::ExecIgnorePaused, Stopped) => {
            Some("cannot exec in a stopped container: container not running")
        }
        (Verb::Exec | Verb::ExecIgnorePaused, Creating) => {
            Some("cannot exec in a container that is still being created")
        }
        (Verb::Pause, Running | Created) => None,
        (Verb::Pause, Paused) => Some("container already paused"),
        (Verb::Pause, Stopped | Creating) => Some("container not running"),
        (Verb::Resume, Paused) => None,
        (Verb::Resume, _) => Some("container not paused"),
        (Verb::Update, Stopped | Creating) => Some("container not running"),
        (Verb::Update, _) => None,
        (Verb::Checkpoint, Running | Paused) => None,
        (Verb::Checkpoint, Created) => {
            Some("cannot checkpoint a container that has not been started")
        }
        (Verb::Checkpoint, Stopped | Creating) => {
            Some("cannot checkpoint a container that is not running: container not running")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specs_table_is_kept() {
        // runtime.md § Operations: start only created, kill created or running, delete stopped.
        for (status, start, kill, delete) in [
            (Status::Creating, false, false, false),
            (Status::Created, true, true, true),
            (Status::Running, false, true, false),
            (Status::Paused, false, true, false),
            (Status::Stopped, false, false, true),
        ] {
            assert_eq!(
                refusal(Verb::Start, status).is_none(),
                start,
                "start {status}"
            );
            assert_eq!(refusal(Verb::Kill, status).is_none(), kill, "kill {status}");
            assert_eq!(
                refusal(Verb::Delete, status).is_none(),
                delete,
                "delete {status}"
            );
        }
    }
}
