//! The side effects of a creation, in order. Each that leaves something outside this process is
//! noted in the undo list before the next one begins.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use coracle_bundle::HookPoint;
use coracle_cgroups::{Created, Joining};
use coracle_launch::{Gate, Given, Launch, Released, Slots};
use coracle_program::{Interrupts, Limits};
use nix::unistd::Pid;

use crate::create::{Goal, Handoff, Prepared};
use crate::error::{Error, io_errno};
use crate::identity::Identity;
use crate::network;
use crate::notify::Proxy;
use crate::record::Record;
use crate::state;
use crate::status::Status;
use crate::steps::{BEFORE, FIRST, LAST, REST, Steps};
use crate::store::{Directory, Fifos, HookOutput};
use crate::undo::{Made, Undo};

/// What the creation of one container works on.
pub(crate) struct Site<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) prepared: &'a Prepared,
    pub(crate) record: &'a mut Record,
    pub(crate) undo: &'a mut Undo,
    pub(crate) interrupts: &'a Interrupts,
    /// Our descriptors that init has no business with.
    pub(crate) private: Vec<RawFd>,
}

/// A container that reached the goal.
pub(crate) struct Built {
    pub(crate) init: Released,
    pub(crate) console: Option<OwnedFd>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) warnings: Vec<String>,
}

/// Carries the plan out up to the goal. The record on disk is complete when this returns.
pub(crate) fn build(site: &mut Site, handoff: Handoff, goal: Goal) -> Result<Built, Error> {
    site.directory.write_record(site.record)?;
    site.directory.write_config(&site.prepared.bundle.raw)?;
    if site.prepared.notify {
        site.directory.make_notify()?;
    }
    network::make_files(site.directory, site.prepared.plan.network.as_ref())?;
    let joining = make_cgroup(site)?;
    let init_cgroup = joining.init_cgroup.as_ref();
    let init_cgroup = init_cgroup.map(OwnedFd::try_clone).transpose();
    let init_cgroup = init_cgroup.map_err(|error| Error::System {
        attempted: "duplicate the file of a cgroup",
        errno: io_errno(&error),
    })?;
    let mut launch = match create_init(site, goal, joining) {
        Err(error) if born_dead(&error, site.record.own_cgroup()) => {
            let again = rejoin(site.record.own_groups(), Pid::this())?;
            create_init(
                site,
                goal,
                Joining {
                    init_cgroup,
                    ..again
                },
            )?
        }
        launch => launch?,
    };
    launch.check()?;
    site.record.complete = true;
    site.directory.write_record(site.record)?;
    let pid_file = handoff.pid_file().map(Path::to_owned);
    let steps = &site.directory.steps;
    let console = handoff.deliver(&mut launch, b"standard")?;
    steps.done(format_args!("handed over what the caller asked for"));
    // Written last, and as a whole or not at all.
    if let Some(path) = pid_file {
        site.undo.push(Made::PidFile(path));
    }
    let mut proxy = None;
    if goal == Goal::Started {
        proxy = Proxy::bind(site.directory, launch.pid().as_raw())?;
        launch.start()?;
        steps.carried_out(&site.prepared.plan, &LAST);
        steps.done(format_args!("the program runs"));
    }
    let warnings = std::mem::take(&mut launch.warnings);
    let init = launch.release()?;
    Ok(Built {
        init,
        console,
        proxy,
        warnings,
    })
}

/// Makes the cgroup, open for init to join.
pub(crate) fn make_cgroup(site: &mut Site) -> Result<Joining, Error> {
    let Some(cgroups) = &site.prepared.plan.cgroups else {
        return Ok(Joining::default());
    };
    let Created {
        record,
        into,
        tasks,
        init_cgroup,
        unit_action,
    } = coracle_cgroups::create(cgroups)?;
    let steps = &site.directory.steps;
    steps.carried_out(&site.prepared.plan, &BEFORE[..1]);
    let made = match unit_action {
        None => record.clone(),
        Some(_) => record.without_unit(),
    };
    site.undo.push(Made::Cgroup(Box::new(made)));
    site.record.cgroup_made = unit_action.is_none();
    site.record.cgroup = Some(record);
    Ok(Joining {
        into,
        tasks,
        fallback: None,
        init_cgroup,
        unit_action,
    })
}

/// Whether the kernel killed init at its birth into the cgroup, which is worth a second try.
pub(crate) fn born_dead(error: &Error, cgroup: Option<&coracle_cgroups::Record>) -> bool {
    matches!(error, Error::Launch(coracle_launch::Error::KilledAtBirth))
        && !cgroup.is_some_and(coracle_cgroups::oom_killed)
}

/// The cgroup, open for a process that joins by itself in every hierarchy. That waits some 10 ms
/// for the kernel where being born there does not.
pub(crate) fn rejoin(
    cgroup: Option<&coracle_cgroups::Record>,
    init: Pid,
) -> Result<Joining, Error> {
    let Some(cgroup) = cgroup else {
        return Ok(Joining::default());
    };
    let mut joining = coracle_cgroups::open(cgroup, init)?;
    joining.tasks.extend(coracle_cgroups::open_procs(cgroup)?);
    Ok(Joining {
        into: None,
        fallback: None,
        ..joining
    })
}

/// Clones init and sees it through to the point where only its start is missing.
fn create_init<'a>(site: &mut Site<'a>, goal: Goal, joining: Joining) -> Result<Launch<'a>, Error> {
    let plan = &site.prepared.plan;
    let slots = open_slots(site, goal, joining)?;
    let mut launch = coracle_launch::spawn(plan, slots, Some(site.interrupts))?;
    launch.settle()?;
    own_cgroup(site);
    let steps = &site.directory.steps;
    steps.carried_out(plan, &BEFORE[1..]);
    steps.done(format_args!("cloned init, process {}", launch.pid()));
    // On disk before init does anything, so that `delete --force` finds it whatever happens to us.
    site.record.init = Identity::of(launch.pid().as_raw());
    site.directory.write_record(site.record)?;
    launch.map_ids()?;
    if let Some(networks) = &plan.network {
        let namespace = launch.network_namespace()?;
        network::attach(site, networks, (namespace.as_fd(), launch.pidfd()))?;
    }
    tell_hooks(site.record, &mut launch)?;
    launch.admit()?;
    if plan.stops_for_hooks() {
        launch.mounts_reached()?;
        steps.carried_out(plan, &FIRST);
        run_hooks(site, launch.pid(), launch.pidfd())?;
        launch.grant()?;
    }
    let state = state::for_hook(site.record, Status::Creating, launch.pid().as_raw());
    launch.created(&state::told(&state))?;
    if !plan.stops_for_hooks() {
        steps.carried_out(plan, &FIRST);
    }
    steps.carried_out(plan, &REST);
    steps.done(format_args!("created: init waits for its start"));
    Ok(launch)
}

/// The cgroup that systemd made around init is the container's now, to be killed and removed.
pub(crate) fn own_cgroup(site: &mut Site) {
    if let (false, Some(record)) = (site.record.cgroup_made, &site.record.cgroup) {
        site.undo.push(Made::Cgroup(Box::new(record.clone())));
        site.record.cgroup_made = true;
    }
}

/// Opens what init inherits.
fn open_slots(site: &mut Site, goal: Goal, joining: Joining) -> Result<Slots, Error> {
    let gate = match goal {
        Goal::Started => Gate::Link,
        Goal::Created => {
            let hooks = site.prepared.plan.hooks.at(HookPoint::StartContainer);
            let output = if hooks.is_empty() {
                HookOutput::None
            } else {
                HookOutput::Fifo
            };
            let Fifos {
                start,
                started,
                output,
            } = site.directory.make_fifos(output)?;
            Gate::Fifos {
                start,
                started,
                output,
            }
        }
    };
    let given = Given {
        cgroup: site.record.cgroup.clone().unwrap_or_default(),
        into: joining.into,
        fallback: joining.fallback,
        tasks: joining.tasks,
        leaf: joining.init_cgroup,
        place: joining.unit_action,
        exec_root: None,
        init: None,
        gate,
        private: site.private.clone(),
    };
    let slots = Slots::open(&site.prepared.plan, given)?;
    if let Some(mount) = &site.record.host_mount {
        site.undo.push(Made::HostMount(mount.clone()));
    }
    Ok(slots)
}

/// The hooks that init runs itself read their state from files that init inherited.
fn tell_hooks(record: &Record, launch: &mut Launch) -> Result<(), Error> {
    let inside = match record.own_pid_namespace {
        true => 1,
        false => launch.pid().as_raw(),
    };
    let creating = state::for_hook(record, Status::Creating, inside);
    let created = state::for_hook(record, Status::Created, inside);
    Ok(launch.tell_hooks(&creating, &created)?)
}

/// All hooks of the point have ended well.
pub(crate) fn ran_hooks(steps: &Steps, hooks: &coracle_hooks::Plan, point: HookPoint) {
    let count = match steps.are_logged() {
        true => hooks.steps(point),
        false => 0,
    };
    for index in 0..count {
        steps.done(format_args!("ran {}", hooks.describe(point, index)));
    }
}

/// prestart and createRuntime, in the runtime's namespaces.
pub(crate) fn run_hooks(site: &Site, pid: Pid, pidfd: BorrowedFd) -> Result<(), Error> {
    let state = state::for_hook(site.record, Status::Creating, pid.as_raw());
    let hooks = &site.prepared.plan.hooks;
    let limits = Limits {
        container: Some(pidfd),
        interrupts: Some(site.interrupts),
        ..Limits::default()
    };
    for point in [HookPoint::Prestart, HookPoint::CreateRuntime] {
        coracle_hooks::run(point, hooks.at(point), &state, &limits)?;
        ran_hooks(&site.directory.steps, hooks, point);
    }
    Ok(())
}
