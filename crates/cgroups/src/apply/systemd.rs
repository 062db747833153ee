//! The systemd driver's part: a unit around a process, and what is written into its cgroup.

mod client;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use coracle_dbus::{Kind, Value};
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
use crate::record::{Directory, Mode, Unit};
use crate::{Error, Record, Result, UnitProblem};
use client::Client;

/// How long a unit whose making failed may take to be gone.
const UNDO_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at files of v1, which wake nobody when they change.
const PAUSE: Duration = Duration::from_millis(5);

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// What the runtime does with a clone of its own before it lets it go on: systemd makes a scope
/// around processes that are there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitAction {
    /// Start the unit around it, and fill the cgroup in.
    Start(Box<SystemdPlan>),
    /// Have systemd move it into the unit, where the caller itself may not.
    Attach {
        /// The container's.
        unit: Unit,
        /// The cgroup below the unit's: empty, or with a slash in front.
        below: String,
    },
}

/// Puts `pid` where it belongs. It is a child of ours that waits, so its number stays its own.
/// Returns what [`crate::enter_init_cgroup`] takes, for a new container that has one.
///
/// # Errors
/// systemd's or the kernel's. A unit that was started for it is gone then, and so is the
/// process.
pub(super) fn join_unit(action: &UnitAction, pid: Pid) -> Result<Option<OwnedFd>> {
    match action {
        UnitAction::Attach { unit, below } => attach(unit, below, pid).map(|()| None),
        UnitAction::Start(plan) => {
            start(&plan.unit, pid)?;
            let result = fill_in(plan, pid);
            if result.is_err() {
                let _ = kill(pid, Signal::SIGKILL);
                let record = Record {
                    unified: plan.files.unified.as_ref().map(unified_directory),
                    ..Record::default()
                };
                stop(&plan.unit.record, &record, Instant::now() + UNDO_LIMIT);
            }
            result
        }
    }
}

fn attach(unit: &Unit, below: &str, pid: Pid) -> Result<()> {
    let body = [Value::Text(unit.name.clone()), below.into(), pids(pid)];
    let mut client = Client::open(unit).map_err(failed("attach a process to", unit))?;
    let answer = client.call("AttachProcessesToUnit", &body);
    answer
        .map(drop)
        .map_err(failed("attach a process to", unit))
}

/// Starts the unit. A failed one of the same name, of a container that is no more, gives way.
fn start(plan: &UnitPlan, pid: Pid) -> Result<()> {
    let unit = &plan.record;
    let failed = failed("start", unit);
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
    let mut client = Client::open(unit).map_err(failed.clone())?;
    let mut result = client.job("StartTransientUnit", &body);
    if result.as_ref().is_err_and(|error| error.is(UNIT_EXISTS)) {
        // An active one is not touched by this, and then the name is taken.
        let _ = client.call("ResetFailedUnit", &[Value::Text(unit.name.clone())]);
        result = client.job("StartTransientUnit", &body);
    }
    match result {
        Ok(result) if result == "done" => Ok(()),
        Ok(result) => {
            forget(&mut client, unit);
            Err(problem("start", unit, UnitProblem::Job(result)))
        }
        Err(error) if error.is(UNIT_EXISTS) => Err(failed(error)),
        // Nothing of the unit may come to be later. The connection may be what failed.
        Err(error) => {
            if let Ok(mut client) = Client::open(unit) {
                forget(&mut client, unit);
            }
            Err(failed(error))
        }
    }
}

/// Fills the cgroup by the plan. Its limits are in force when this returns, and the process
/// in it has done nothing yet.
fn fill_in(plan: &SystemdPlan, pid: Pid) -> Result<Option<OwnedFd>> {
    let Files {
        mode,
        hierarchies,
        unified,
        denied,
    } = &plan.files;
    // systemd may have written files of the hierarchies that it uses itself.
    for hierarchy in hierarchies {
        let found = directory(hierarchy);
        match files::open_path(&found.path) {
            Ok(own) => write_all(own.as_fd(), &found.path, &hierarchy.writes, &mut |_| {})?,
            Err(errno) if files::is_gone(errno) && *denied == Denied::Skip => {}
            Err(errno) => return Err(open_failed(found.path, errno)),
        }
    }
    if let (Mode::Hybrid, Some(unified)) = (mode, unified)
        && unified.is_filled()
    {
        // systemd may keep its units in v1 alone.
        check_place(&plan.unit.record, &unified_directory(unified), pid)?;
        fill_in_v2(unified)?;
    }
    let systemd = hierarchies
        .iter()
        .find(|hierarchy| is_systemds(&hierarchy.controllers));
    match (mode, unified, systemd) {
        (Mode::V2, Some(unified), _) => {
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

/// A limit in a cgroup is worth nothing if the process is in another one.
fn check_place(unit: &Unit, expected: &Directory, pid: Pid) -> Result<()> {
    let found = cgroup_of(expected, pid).unwrap_or_default();
    if found == expected.path {
        return Ok(());
    }
    Err(problem("start", unit, UnitProblem::Elsewhere(found)))
}

/// systemd has made the directory, and hands its own controllers down to a delegated unit.
fn fill_in_v2(plan: &UnifiedPlan) -> Result<Option<OwnedFd>> {
    let top = files::open_top(&plan.mount)?;
    let path = plan.mount.join(&plan.path);
    let failed = |errno| open_failed(path.clone(), errno);
    let blocked = v2::enable_down_to(top.as_fd(), plan).map_err(failed)?;
    let own = files::open_below(top.as_fd(), &plan.path).map_err(failed)?;
    // Our device filter stands beside systemd's own, which systemd puts in place again whenever it
    // likes.
    v2::fill(own.as_fd(), plan, &blocked, Age::New)?;
    // It goes with the unit.
    init_cgroup::make(plan, own.as_fd(), &mut false)
}

/// systemd puts no process into a slice.
fn enter(plan: &UnifiedPlan, pid: Pid) -> Result<()> {
    let path = plan.mount.join(&plan.path);
    let opened = files::open_path(&path);
    opened
        .and_then(|own| files::write(own.as_fd(), "cgroup.procs", &pid.to_string()))
        .map_err(|errno| open_failed(path.join("cgroup.procs"), errno))
}

/// Refuses a cgroup that is there and in use, and one below a frozen one. The directory itself is
/// systemd's to make.
pub(super) fn check_free(files: &Files) -> Result<()> {
    let Some(unified) = files.unified.as_ref().filter(|_| files.mode == Mode::V2) else {
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

/// Waits for the last process of `record` to leave, stops the unit and has systemd forget it.
///
/// Nothing of it is an error: a unit without processes ends by itself, and what stays of its cgroup
/// is found when that is removed.
pub(super) fn stop(unit: &Unit, record: &Record, end: Instant) {
    if !is_empty_by(record, end) {
        // Others are in there: a name that is not ours, or a process that will not die.
        return;
    }
    if let Ok(mut client) = Client::open(unit) {
        forget(&mut client, unit);
    }
}

/// Waits until nobody is left in the container's cgroups.
fn is_empty_by(record: &Record, end: Instant) -> bool {
    if let (true, Some(unified)) = (record.hierarchies.is_empty(), &record.unified) {
        return await_event_until(&unified.path, "populated", false, end).is_ok();
    }
    while !processes(record).is_ok_and(|left| left.is_empty()) {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

fn forget(client: &mut Client, unit: &Unit) {
    let name = || Value::Text(unit.name.clone());
    let stopped = client.job("StopUnit", &[name(), "replace".into()]);
    if !stopped.is_err_and(|error| error.is(NO_SUCH_UNIT)) {
        let _ = client.call("ResetFailedUnit", &[name()]);
    }
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
    let mut client = Client::open(unit).map_err(failed.clone())?;
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
