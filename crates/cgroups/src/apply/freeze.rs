//! Pause and resume: cgroup-v2.rst, cgroup.freeze; cgroup-v1/freezer-subsystem.rst.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::files;
use crate::record::Directory;
use crate::{Error, Record, Result};

/// How long tasks may take to freeze, in seconds.
const LIMIT_SECONDS: u64 = 10;
/// What is waited for.
const PROCESSES: &str = "the processes of the control group";
/// v1: how often FROZEN is written before the cgroup is thawed once. A task that forks while it is
/// being frozen can otherwise keep a cgroup in FREEZING for ever.
const WRITES_BEFORE_THAW: u32 = 50;

/// Freezes every process of the container and waits until all are frozen.
///
/// # Errors
/// No freezer; the kernel's; processes that are not frozen after 10 s, which are then thawed.
pub fn freeze(record: &Record) -> Result<()> {
    match (&record.unified, record.hierarchy("freezer")) {
        (Some(unified), _) => freeze_v2(&unified.path),
        (None, Some(freezer)) => freeze_v1(&freezer.path),
        (None, None) => Err(Error::Lacking {
            verb: "pause",
            what: "freezer cgroup",
        }),
    }
}

/// Thaws every process of the container. If it is not frozen, or its cgroups are gone, nothing
/// happens.
///
/// # Errors
/// No freezer; the kernel's.
pub fn thaw(record: &Record) -> Result<()> {
    let freezer = record.hierarchy("freezer");
    if record.unified.is_none() && freezer.is_none() {
        return Err(Error::Lacking {
            verb: "resume",
            what: "freezer cgroup",
        });
    }
    if let Some(unified) = &record.unified {
        set(&unified.path, "cgroup.freeze", "0")?;
        await_frozen("thaw", &unified.path, false)?;
    }
    // On a hybrid host other tools use the v1 freezer: `resume` also thaws that.
    if let Some(freezer) = freezer
        && is_frozen_v1(freezer)? == Some(true)
    {
        set(&freezer.path, "freezer.state", "THAWED")?;
    }
    Ok(())
}

/// Whether the container is frozen by any program, itself or by a parent. `None` if a cgroup of it
/// is gone and the others are not frozen.
///
/// # Errors
/// The kernel's on reading.
pub fn is_frozen(record: &Record) -> Result<Option<bool>> {
    let unified = match &record.unified {
        Some(unified) => {
            get(&unified.path, "cgroup.events")?.map(|events| files::is_set(&events, "frozen"))
        }
        None => Some(false),
    };
    if unified == Some(true) {
        return Ok(unified);
    }
    let freezer = match record.hierarchy("freezer") {
        Some(freezer) => is_frozen_v1(freezer)?,
        None => Some(false),
    };
    Ok(match freezer {
        Some(true) | None => freezer,
        Some(false) => unified,
    })
}

/// The cgroup by which criu is to freeze the container. The v1 one where it exists, since criu
/// waits 100 ms for v2; but the v2 one if that is already frozen.
#[must_use]
pub fn freezer(record: &Record) -> Option<&Path> {
    let (v1, v2) = (record.hierarchy("freezer"), record.unified.as_ref());
    let holds = |unified: &&Directory| {
        let events = get(&unified.path, "cgroup.events");
        events.is_ok_and(|events| events.is_some_and(|events| files::is_set(&events, "frozen")))
    };
    let chosen = v2.filter(holds).or(v1).or(v2)?;
    Some(&chosen.path)
}

/// Whether the v1 freezer has frozen it; `None` if the cgroup is gone. FREEZING counts, since the
/// remaining tasks will freeze.
fn is_frozen_v1(freezer: &Directory) -> Result<Option<bool>> {
    let state = get(&freezer.path, "freezer.state")?;
    Ok(state.map(|state| matches!(state.trim(), "FROZEN" | "FREEZING")))
}

fn freeze_v2(path: &Path) -> Result<()> {
    set_there(path, "cgroup.freeze", "1")?;
    await_frozen("freeze", path, true).or_else(|error| {
        set(path, "cgroup.freeze", "0")?;
        Err(error)
    })
}

fn freeze_v1(path: &Path) -> Result<()> {
    let result = try_freeze_v1(path);
    if result.is_err() {
        // Thaw a partly frozen cgroup. A failure of this is ignored: the first error is reported.
        let _ = set(path, "freezer.state", "THAWED");
    }
    result
}

fn try_freeze_v1(path: &Path) -> Result<()> {
    let end = deadline();
    let mut pause = Duration::from_micros(100);
    let _wait = coracle_sys::wait_for(PROCESSES);
    for attempt in 1u32.. {
        if attempt.is_multiple_of(WRITES_BEFORE_THAW) {
            set_there(path, "freezer.state", "THAWED")?;
            std::thread::sleep(pause);
        }
        set_there(path, "freezer.state", "FROZEN")?;
        let state = get(path, "freezer.state")?;
        if state.is_some_and(|state| state.trim() == "FROZEN") {
            return Ok(());
        }
        if Instant::now() > end {
            break;
        }
        coracle_sys::notify_if_due();
        // A v1 freezer cannot be polled for changes.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Err(late("freeze", path))
}

fn await_frozen(verb: &'static str, path: &Path, wanted: bool) -> Result<()> {
    match await_event_until(path, "frozen", wanted, deadline()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(late(verb, path)),
        Err(errno) => Err(Error::read(path, "cgroup.events")(errno)),
    }
}

/// Waits until `key` of cgroup.events is as wanted, or until `end`, and returns whether it is; the
/// kernel reports changes to poll(2). For a cgroup that is gone, `key` counts as unset.
pub(super) fn await_event_until(
    path: &Path,
    key: &str,
    wanted: bool,
    end: Instant,
) -> nix::Result<bool> {
    let events = match open_events(path) {
        Ok(events) => events,
        Err(errno) if files::is_gone(errno) && !wanted => return Ok(true),
        Err(errno) => return Err(errno),
    };
    let mut wait = None;
    loop {
        let content = match files::read_open(&events) {
            Ok(content) => content,
            Err(errno) if files::is_gone(errno) && !wanted => return Ok(true),
            Err(errno) => return Err(errno),
        };
        if files::is_set(&content, key) == wanted {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        wait.get_or_insert_with(|| coracle_sys::wait_for(PROCESSES));
        wait_change(events.as_fd(), left.min(coracle_sys::PATIENCE))?;
        coracle_sys::notify_if_due();
    }
}

fn open_events(path: &Path) -> nix::Result<OwnedFd> {
    files::open_path_to_read(path, "cgroup.events")
}

fn wait_change(file: BorrowedFd, left: Duration) -> nix::Result<()> {
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let mut watched = [PollFd::new(file, PollFlags::POLLPRI)];
    match poll(&mut watched, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(LIMIT_SECONDS)
}

fn late(verb: &'static str, path: &Path) -> Error {
    Error::Freeze {
        verb,
        path: path.to_owned(),
        seconds: LIMIT_SECONDS,
    }
}

/// Reads a file; `None` if the cgroup is gone.
fn get(path: &Path, file: &str) -> Result<Option<String>> {
    let read = files::open_path_to_read(path, file).and_then(|file| files::read_open(&file));
    match read {
        Err(errno) if files::is_gone(errno) => Ok(None),
        other => other.map(Some).map_err(Error::read(path, file)),
    }
}

/// Writes a file; does nothing if the cgroup is gone.
fn set(path: &Path, file: &str, value: &str) -> Result<()> {
    match set_there(path, file, value) {
        Err(Error::Open { errno, .. }) if files::is_gone(errno) => Ok(()),
        other => other,
    }
}

fn set_there(path: &Path, file: &str, value: &str) -> Result<()> {
    let file_of = files::open_path_to_write(path, file);
    let written = file_of.and_then(|file| files::write_value(&file, value));
    written.map_err(|errno| {
        let path = path.join(file);
        if files::is_denied(errno) {
            Error::Rights { path, errno }
        } else {
            Error::Open { path, errno }
        }
    })
}
