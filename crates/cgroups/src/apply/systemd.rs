//! The systemd driver: starting a unit for a process, and writing to the unit's cgroup.

mod client;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use coracle_dbus::{Kind, Value};
use coracle_host::CgroupMode;
use coracle_program::{CALL_LIMIT, Interrupts};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::directory::Age;
use super::freeze::await_event_until;
use super::processes::{cgroup_of, processes};
use super::write::write_all;
use super::{files, init_cgroup, v2};
use crate::plan::{
    Denied, Files, Property, SystemdPlan, UnifiedPlan, UnitKind, UnitPlan, directory,
    unified_directory,
};
use crate::record::{Directory, Unit};
use crate::{Error, Record, Result, UnitProblem};
use client::{Client, LIMIT};

/// How long a unit may take to end, and systemd to reply meanwhile.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// The pause between two looks at what cannot be polled for changes: v1 files, a directory's end.
const PAUSE: Duration = Duration::from_millis(5);

/// How often systemd is asked to stop a unit: once more after an error, if there is time.
const STOP_TRIES: usize = 2;

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// What systemd must do with a clone of the runtime before it may continue: systemd makes a scope
/// only for existing processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitAction {
    /// Start the unit for it, and set the limits of the cgroup.
    Start(Box<SystemdPlan>),
    /// Have systemd move it into the unit, since the caller itself may not.
    Attach {
        /// The container's unit.
        unit: Unit,
        /// The path below the unit's cgroup: empty, or with a leading slash.
        below: String,
    },
}

/// Moves `pid` into the unit. It is a waiting child of the runtime, so its pid cannot be reused.
/// For a new container with a cgroup for init, returns the file for [`crate::enter_init_cgroup`].
///
/// # Errors
/// systemd's or the kernel's, or a signal to the runtime. If systemd was to start a unit, the
/// process is then killed, and a unit that was started for it is stopped.
pub(super) fn join_unit(
    action: &UnitAction,
    pid: Pid,
    interrupts: Option<&Interrupts>,
) -> Result<Option<OwnedFd>> {
    match action {
        UnitAction::Attach { unit, below } => attach(unit, below, pid, interrupts).map(|()| None),
        UnitAction::Start(plan) => {
            let opened = Client::open(&plan.unit.record, LIMIT, interrupts);
            let mut client = opened.map_err(failed("start", &plan.unit.record))?;
            let result = start(&mut client, &plan.unit, pid).and_then(|()| fill_in(plan, pid));
            if result.is_err() {
                undo_start(&mut client, plan, pid, interrupts);
            }
            result
        }
    }
}

/// Stops the unit of a start that failed, at whatever point.
fn undo_start(client: &mut Client, plan: &SystemdPlan, pid: Pid, interrupts: Option<&Interrupts>) {
    // A signal may have caused the failure; only a second one ends the undo.
    if let Some(interrupts) = interrupts {
        interrupts.require_second();
    }
    // The SIGTERM by which systemd stops a unit does not end the init of a pid namespace.
    let _ = kill(pid, Signal::SIGKILL);
    // If systemd has not accepted the start, a unit of this name is another program's.
    if client.has_accepted(STOP_LIMIT) {
        let record = Record {
            unified: plan.files.unified.as_ref().map(unified_directory),
            ..Record::default()
        };
        let end = Instant::now() + STOP_LIMIT;
        stop(&plan.unit.record, &record, end, interrupts);
    }
}

fn attach(unit: &Unit, below: &str, pid: Pid, interrupts: Option<&Interrupts>) -> Result<()> {
    let body = [Value::Text(unit.name.clone()), below.into(), pids(pid)];
    let mut client =
        Client::open(unit, LIMIT, interrupts).map_err(failed("attach a process to", unit))?;
    let answer = client.call("AttachProcessesToUnit", &body);
    answer
        .map(drop)
        .map_err(failed("attach a process to", unit))
}

/// Starts the unit. It replaces a failed unit of the same name, left by an earlier container.
fn start(client: &mut Client, plan: &UnitPlan, pid: Pid) -> Result<()> {
    let unit = &plan.record;
    let mut list: Vec<Value> = plan.properties.iter().map(pair).collect();
    if plan.kind == UnitKind::Scope {
        list.push(Value::Struct(vec![
            "PIDs".into(),
            Value::Variant(Box::new(pids(pid))),
        ]));
    }
    let auxiliary = Kind::Struct(vec![Kind::Text, pairs(Vec::new()).kind()]);
    let body = [
        Value::Text(unit.name.clone()),
        "replace".into(),
        pairs(list),
        Value::Array(auxiliary, Vec::new()),
    ];
    let mut result = client.job("StartTransientUnit", &body);
    if result.as_ref().is_err_and(|error| error.is(UNIT_EXISTS)) {
        // This does not affect an active unit; then the second try fails as well.
        let _ = client.call("ResetFailedUnit", &[Value::Text(unit.name.clone())]);
        result = client.job("StartTransientUnit", &body);
    }
    match result.map_err(failed("start", unit))?.as_str() {
        "done" => Ok(()),
        other => Err(problem("start", unit, UnitProblem::Job(other.to_owned()))),
    }
}

/// Writes the limits of the plan to the cgroup. They are in force when this returns, while the
/// process still waits.
fn fill_in(plan: &SystemdPlan, pid: Pid) -> Result<Option<OwnedFd>> {
    let Files {
        mode,
        hierarchies,
        unified,
        denied,
    } = &plan.files;
    // systemd may have written to files of the hierarchies that it uses, so all values are written
    // again.
    for hierarchy in hierarchies {
        let found = directory(hierarchy);
        match files::open_path(&found.path) {
            Ok(own) => write_all(own.as_fd(), &found.path, &hierarchy.writes, &mut |_| {})?,
            Err(errno) if files::is_gone(errno) && *denied == Denied::Skip => {}
            Err(errno) => return Err(open_failed(found.path, errno)),
        }
    }
    if let (CgroupMode::Hybrid, Some(unified)) = (mode, unified)
        && unified.is_filled()
    {
        // systemd may put its units only into v1 hierarchies.
        check_place(&plan.unit.record, &unified_directory(unified), pid)?;
        fill_in_v2(unified)?;
    }
    let systemd = hierarchies
        .iter()
        .find(|hierarchy| is_systemds(&hierarchy.controllers));
    match (mode, unified, systemd) {
        (CgroupMode::V2, Some(unified), _) => {
            if plan.unit.kind == UnitKind::Scope {
                check_place(&plan.unit.record, &unified_directory(unified), pid)?;
            }
            let init_cgroup = fill_in_v2(unified)?;
            if plan.unit.kind == UnitKind::Slice {
                enter(unified, pid)?;
            }
            Ok(init_cgroup)
        }
        (_, _, Some(hierarchy)) if plan.unit.kind == UnitKind::Scope => {
            check_place(&plan.unit.record, &directory(hierarchy), pid).map(|()| None)
        }
        _ => Ok(None),
    }
}

fn is_systemds(controllers: &[String]) -> bool {
    controllers.iter().any(|name| name == "name=systemd")
}

/// Checks that the process is in the expected cgroup: limits on another one would have no effect.
fn check_place(unit: &Unit, expected: &Directory, pid: Pid) -> Result<()> {
    let found = cgroup_of(expected, pid).unwrap_or_default();
    if found == expected.path {
        return Ok(());
    }
    Err(problem("start", unit, UnitProblem::Elsewhere(found)))
}

/// Fills the v2 cgroup. systemd has made the directory and enables its own controllers for a
/// delegated unit.
fn fill_in_v2(plan: &UnifiedPlan) -> Result<Option<OwnedFd>> {
    let top = files::open_top(&plan.mount)?;
    let path = plan.mount.join(&plan.path);
    let failed = |errno| open_failed(path.clone(), errno);
    let blocked = v2::enable_down_to(top.as_fd(), plan).map_err(failed)?;
    let own = files::open_below(top.as_fd(), &plan.path).map_err(failed)?;
    // Coracle's device program is attached in addition to systemd's own, which systemd may replace
    // at any time.
    v2::fill(own.as_fd(), plan, &blocked, Age::New)?;
    // It need not be recorded: systemd removes it with the unit.
    init_cgroup::make(plan, own.as_fd(), &mut false)
}

/// Moves the process itself, since systemd puts no process into a slice.
fn enter(plan: &UnifiedPlan, pid: Pid) -> Result<()> {
    let path = plan.mount.join(&plan.path);
    let opened = files::open_path(&path);
    opened
        .and_then(|own| files::write(own.as_fd(), "cgroup.procs", &pid.to_string()))
        .map_err(|errno| open_failed(path.join("cgroup.procs"), errno))
}

/// Refuses an existing cgroup that is in use, and one below a frozen cgroup. The directory itself
/// is made by systemd.
pub(super) fn check_free(files: &Files) -> Result<()> {
    let Some(unified) = files
        .unified
        .as_ref()
        .filter(|_| files.mode == CgroupMode::V2)
    else {
        return Ok(());
    };
    let path = unified.mount.join(&unified.path);
    for level in path.ancestors() {
        match files::open_path(level) {
            Ok(own) if level == path => return v2::check_unused(own.as_fd(), level),
            Ok(parent) => return v2::check_running(parent.as_fd(), level),
            Err(errno) if files::is_gone(errno) => {}
            Err(errno) => return Err(open_failed(level.to_owned(), errno)),
        }
    }
    Ok(())
}

/// Waits for the last process of `record` to end, then stops the unit and makes systemd forget it.
///
/// systemd ends a scope whose cgroup it sees empty, but never one whose cgroup is removed before it
/// has looked: if it does not stop the unit when asked, it gets the time to see that. A failure is
/// ignored: removing the cgroup reports what remains.
pub(super) fn stop(unit: &Unit, record: &Record, end: Instant, interrupts: Option<&Interrupts>) {
    if !is_empty_by(record, end, interrupts) {
        // Processes remain: the unit is another program's, or a process cannot be killed.
        return;
    }
    let is_interrupted = || interrupts.is_some_and(Interrupts::end_waits);
    let last_try = Instant::now() + STOP_LIMIT;
    for _ in 0..STOP_TRIES {
        if stop_unit(unit, interrupts).is_ok_and(|is_stopped| is_stopped) {
            return;
        }
        if Instant::now() >= last_try || is_interrupted() {
            break;
        }
    }
    if let (Some(unified), true) = (&record.unified, unit.name.ends_with(".scope")) {
        let _wait = coracle_sys::wait_for("systemd, which removes the empty control group");
        let end = Instant::now() + STOP_LIMIT;
        while unified.path.exists() && Instant::now() < end && !is_interrupted() {
            coracle_sys::notify_if_due();
            std::thread::sleep(PAUSE);
        }
    }
}

/// Asks systemd by a new connection, in case an earlier one has failed; returns whether the unit is
/// stopped now.
fn stop_unit(unit: &Unit, interrupts: Option<&Interrupts>) -> coracle_dbus::Result<bool> {
    let name = || Value::Text(unit.name.clone());
    let mut client = Client::open(unit, STOP_LIMIT, interrupts)?;
    match client.job("StopUnit", &[name(), "replace".into()]) {
        Ok(result) => {
            let _ = client.call("ResetFailedUnit", &[name()]);
            Ok(result == "done")
        }
        Err(error) if error.is(NO_SUCH_UNIT) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Waits until no process is left in the container's cgroups; `false` if some are at `end`, or when
/// a signal ends the wait.
fn is_empty_by(record: &Record, end: Instant, interrupts: Option<&Interrupts>) -> bool {
    loop {
        let result = await_empty(record, end.min(Instant::now() + CALL_LIMIT));
        let is_ended = Instant::now() >= end || interrupts.is_some_and(Interrupts::end_waits);
        if result != Ok(false) || is_ended {
            return result == Ok(true);
        }
    }
}

fn await_empty(record: &Record, end: Instant) -> nix::Result<bool> {
    if let (true, Some(unified)) = (record.hierarchies.is_empty(), &record.unified) {
        return await_event_until(&unified.path, "populated", false, end);
    }
    while !processes(record).is_ok_and(|left| left.is_empty()) {
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(true)
}

/// Sets properties of a running unit, until the next boot.
pub(super) fn set_properties(unit: &Unit, properties: &[Property]) -> Result<()> {
    if properties.is_empty() {
        return Ok(());
    }
    let failed = failed("set properties of", unit);
    let list = properties.iter().map(pair).collect();
    let body = [
        Value::Text(unit.name.clone()),
        Value::Bool(true),
        pairs(list),
    ];
    let mut client = Client::open(unit, LIMIT, None).map_err(failed.clone())?;
    client
        .call("SetUnitProperties", &body)
        .map(drop)
        .map_err(failed)
}

/// A property as `(sv)`.
fn pair(property: &Property) -> Value {
    Value::Struct(vec![
        Value::Text(property.name.clone()),
        Value::Variant(Box::new(property.value.clone())),
    ])
}

fn pairs(list: Vec<Value>) -> Value {
    Value::Array(Kind::Struct(vec![Kind::Text, Kind::Variant]), list)
}

fn pids(pid: Pid) -> Value {
    Value::Array(Kind::U32, vec![Value::U32(pid.as_raw().cast_unsigned())])
}

fn failed<'a>(
    attempted: &'static str,
    unit: &'a Unit,
) -> impl Fn(coracle_dbus::Error) -> Error + Clone + 'a {
    move |error| problem(attempted, unit, UnitProblem::Bus(error))
}

fn problem(attempted: &'static str, unit: &Unit, problem: UnitProblem) -> Error {
    Error::Systemd {
        attempted,
        unit: unit.name.clone(),
        problem,
    }
}

fn open_failed(path: PathBuf, errno: Errno) -> Error {
    Error::Open { path, errno }
}
