//! The side effects of a creation, in order. Each that leaves something outside this process is
//! noted in the undo list before the next one begins.

use std::os::fd::OwnedFd;

use coracle_bundle::HookPoint;
use coracle_launch::{Gate, Given, Launch, Released, Slots};

use crate::create::{Goal, Handoff, Prepared};
use crate::error::Error;
use crate::identity::Identity;
use crate::notify::Proxy;
use crate::record::Record;
use crate::state;
use crate::status::Status;
use crate::store::{Directory, Fifos};
use crate::undo::{Made, Undo};

/// What the creation of one container works on.
pub(crate) struct Site<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) prepared: &'a Prepared,
    pub(crate) record: &'a mut Record,
    pub(crate) undo: &'a mut Undo,
}

/// A container that reached the goal.
pub(crate) struct Built {
    pub(crate) init: Released,
    pub(crate) console: Option<OwnedFd>,
    pub(crate) proxy: Option<Proxy>,
}

/// Carries the plan out up to the goal. The record on disk is complete when this returns.
pub(crate) fn build(site: &mut Site, handoff: Handoff, goal: Goal) -> Result<Built, Error> {
    let plan = &site.prepared.plan;
    site.directory.write_record(site.record)?;
    site.directory.write_config(&site.prepared.bundle.raw)?;
    if site.prepared.notify {
        site.directory.make_notify()?;
    }
    let slots = open_slots(site, goal)?;
    if let Some(mount) = &site.record.host_mount {
        site.undo.push(Made::HostMount(mount.clone()));
    }
    let mut launch = coracle_launch::spawn(plan, slots)?;
    // On disk before init does anything, so that `delete --force` finds it whatever happens to us.
    site.record.init = Identity::of(launch.pid().as_raw());
    site.directory.write_record(site.record)?;
    tell_hooks(site.record, &mut launch)?;
    launch.admit()?;
    if plan.stops_for_hooks() {
        launch.mounts_reached()?;
        run_hooks(site, &launch)?;
        launch.grant()?;
    }
    launch.created()?;
    site.record.complete = true;
    site.directory.write_record(site.record)?;
    let console = handoff.deliver(&mut launch, b"standard")?;
    let mut proxy = None;
    if goal == Goal::Started {
        proxy = Proxy::bind(site.directory, launch.pid().as_raw())?;
        launch.start()?;
    }
    Ok(Built {
        init: launch.release()?,
        console,
        proxy,
    })
}

/// Makes the cgroup and opens what init inherits.
fn open_slots(site: &mut Site, goal: Goal) -> Result<Slots, Error> {
    let plan = &site.prepared.plan;
    let (mut cgroup, mut into, mut tasks) = Default::default();
    if let Some(cgroups) = &plan.cgroups {
        let made = coracle_cgroups::create(cgroups)?;
        site.undo.push(Made::Cgroup(Box::new(made.record.clone())));
        (cgroup, into, tasks) = (made.record, made.into, made.tasks);
        site.record.cgroup = Some(cgroup.clone());
        site.record.cgroup_made = true;
    }
    let gate = match goal {
        Goal::Started => Gate::Link,
        Goal::Created => {
            let Fifos { start, started } = site.directory.make_fifos()?;
            Gate::Fifos { start, started }
        }
    };
    let given = Given {
        cgroup,
        into,
        fallback: None,
        tasks,
        exec_root: None,
        init: None,
        gate,
    };
    Ok(Slots::open(plan, given)?)
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

/// prestart and createRuntime, in the runtime's namespaces.
fn run_hooks(site: &Site, launch: &Launch) -> Result<(), Error> {
    let state = state::for_hook(site.record, Status::Creating, launch.pid().as_raw());
    let hooks = &site.prepared.plan.hooks;
    for point in [HookPoint::Prestart, HookPoint::CreateRuntime] {
        coracle_hooks::run(point, hooks.at(point), &state)?;
    }
    Ok(())
}
