//! How far a creation has come that has not ended. Nothing is written for this: it is read from the
//! record, and from the processes that the creating runtime and init have started.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::identity::{self, Identity};
use crate::process;
use crate::record::Record;
use crate::timestamp::{before_now, rfc3339};

/// Of a command line, at most so many bytes are shown.
const SHOWN: usize = 200;

/// How far a creation has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// In words.
    pub stage: String,
    /// Since when, RFC 3339.
    pub since: String,
}

/// The stage of a container whose status is creating; `None` if it ended meanwhile.
pub(crate) fn of(record: &Record, file: &Path) -> Option<Stage> {
    let creator = record.creator?.pid;
    let init = record.init.map(|init| init.pid);
    let found = started_by(creator, "the runtime", init);
    let found = found.or_else(|| started_by(init?, "init", None));
    if let Some((stage, process)) = found {
        let since = before_now(age(&process)?);
        return Some(Stage { stage, since });
    }
    let stage = match (record.init.is_some(), record.cgroup_made) {
        (true, _) => "init sets the container up",
        (false, true) => "the runtime starts init",
        (false, false) => "the runtime makes the cgroup",
    };
    // The record is replaced at each of these steps.
    let since = std::fs::metadata(file).and_then(|file| file.modified());
    Some(Stage {
        stage: stage.to_owned(),
        since: rfc3339(since.ok()?),
    })
}

/// The last process that this one has started, but for init, and what it is: a hook, a network
/// plugin, an id mapper, or a copy of the runtime that finds sources of mounts.
fn started_by(pid: i32, who: &str, init: Option<i32>) -> Option<(String, Identity)> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let children = children.split_whitespace().rev();
    let mut children = children.filter_map(|pid| pid.parse::<i32>().ok());
    let child = Identity::of(children.find(|child| Some(*child) != init)?)?;
    let (own, line) = (command_line(pid)?, command_line(child.pid)?);
    let what = match own == line {
        true => format!("{who} has a copy of itself at work (process {})", child.pid),
        false => format!("{who} runs {line} (process {})", child.pid),
    };
    Some((what, child))
}

fn command_line(pid: i32) -> Option<String> {
    let text = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = text
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
    let mut line = coracle_text::one_line(&words.join(" "));
    if let Some((end, _)) = line.char_indices().nth(SHOWN) {
        line.truncate(end);
        line.push('…');
    }
    (!line.is_empty()).then_some(line)
}

/// How long ago the process began.
fn age(process: &Identity) -> Option<Duration> {
    let stat = identity::stat(process.pid).ok()??;
    Some(process::age(&stat))
}
