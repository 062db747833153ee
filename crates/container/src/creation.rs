//! The side effects of a creation. Each one that leaves something outside this process is in the
//! undo list and in the record on disk before the next one begins.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::SystemTime;

use coracle_bundle::{Bundle, ContainerId, HookPoint, Namespace};
use coracle_cgroups::Joining;
use coracle_launch::{Caller, Child, Launch, Point, Release, Request};
use coracle_program::{Interrupts, Limits};
use nix::unistd::Uid;

use crate::delete;
use crate::descriptors;
use crate::directory::Directory;
use crate::directory::fifos::HookOutput;
use crate::error::Error;
use crate::foreground::Running;
use crate::identity::Identity;
use crate::inspect;
use crate::lock::{self, Lock};
use crate::network;
use crate::notify::Proxy;
use crate::options::Keyring;
use crate::outputs::Connections;
use crate::prepare::Prepared;
use crate::record::Record;
use crate::state;
use crate::status::Status;
use crate::store::Store;
use crate::timestamp::rfc3339;
use crate::undo::{Made, Undo};

/// The verb that starts init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartedBy {
    /// `start`, later.
    Start,
    /// `run`, in this process.
    Run,
}

/// A container that is being made.
pub(crate) struct Creation<'a> {
    pub(crate) prepared: &'a Prepared<'a>,
    pub(crate) outputs: Connections<'a>,
    pub(crate) directory: Directory,
    pub(crate) record: Record,
    pub(crate) interrupts: &'a Interrupts,
    undo: Undo,
    lock: Lock,
}

/// A container whose init waits for its start, or runs.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) directory: Directory,
    pub(crate) record: Record,
    pub(crate) running: Running,
}

/// Carries out the plan. If that fails, undoes everything, and runs poststop hooks if other hooks
/// may have run.
pub(crate) fn make(
    store: &Store,
    prepared: &Prepared,
    outputs: Connections,
    interrupts: &Interrupts,
    started_by: StartedBy,
) -> Result<Container, Error> {
    let mut creation = Creation::begin(store, prepared, outputs, interrupts)?;
    match creation.build(started_by) {
        Ok(running) => Ok(creation.end(running)),
        Err(error) => {
            creation.directory.progress.noted(Some(&prepared.plan));
            Err(creation.take_back(error))
        }
    }
}

impl<'a> Creation<'a> {
    /// Claims the id.
    ///
    /// # Errors
    /// [`Error`]; nothing is left behind then.
    pub(crate) fn begin(
        store: &Store,
        prepared: &'a Prepared<'a>,
        outputs: Connections<'a>,
        interrupts: &'a Interrupts,
    ) -> Result<Self, Error> {
        let mut undo = Undo::begin()?;
        let (directory, lock) = claim(store, &prepared.options.id)?;
        undo.push(Made::Directory);
        match first_record(&directory, prepared) {
            Ok(record) => Ok(Self {
                prepared,
                outputs,
                directory,
                record,
                interrupts,
                undo,
                lock,
            }),
            Err(error) => Err(undo.after(error, &directory, interrupts)),
        }
    }

    /// Makes everything. The record on disk is complete when this returns.
    fn build(&mut self, started_by: StartedBy) -> Result<Running, Error> {
        let plan = &self.prepared.plan;
        self.write_files()?;
        let request = Request {
            cgroup: self.make_cgroup()?,
            target: None,
            release: match started_by {
                StartedBy::Run => Release::Socket,
                StartedBy::Start => Release::Fifo(self.directory.make_fifos(self.hook_output())?),
            },
            private: self.private(),
            lock: Some(self.lock.as_raw_fd()),
            interrupts: Some(self.interrupts),
        };
        let mut launch = coracle_launch::launch(plan, request, self)?;
        self.complete(launch.child().pid.as_raw())?;
        let console = self.outputs.send_console(launch.take_console())?;
        self.send_child(launch.child())?;
        let proxy = match started_by {
            StartedBy::Start => None,
            StartedBy::Run => self.start(&mut launch)?,
        };
        Ok(Running {
            console,
            proxy,
            warnings: launch.take_warnings(),
            process: launch.release(),
        })
    }

    fn start(&mut self, launch: &mut Launch) -> Result<Option<Proxy>, Error> {
        let proxy = Proxy::bind(&self.directory, launch.child().pid.as_raw())?;
        launch.start()?;
        self.reached(Point::Started);
        self.directory
            .progress
            .done(format_args!("the program runs"));
        Ok(proxy)
    }

    /// Writes the files that must exist before anything else is made.
    pub(crate) fn write_files(&self) -> Result<(), Error> {
        self.directory.write_record(&self.record)?;
        self.directory.write_config(&self.prepared.bundle.raw)?;
        if self.prepared.notify {
            self.directory.make_notify()?;
        }
        network::make_files(&self.directory, self.prepared.plan.network.as_ref())
    }

    /// Makes the cgroup, and opens it for init to join.
    pub(crate) fn make_cgroup(&mut self) -> Result<Joining, Error> {
        let Some(cgroups) = &self.prepared.plan.cgroups else {
            return Ok(Joining::default());
        };
        let joining = coracle_cgroups::create(cgroups)?;
        self.reached(Point::Prepared);
        self.undo.push(Made::Cgroup(Box::new(joining.made())));
        self.record.cgroup_made = joining.unit_action.is_none();
        self.record.cgroup = Some(joining.record.clone());
        Ok(joining)
    }

    /// Records that systemd has made the cgroup around init: from now on `delete` kills and removes
    /// it.
    pub(crate) fn own_cgroup(&mut self) {
        if let (false, Some(record)) = (self.record.cgroup_made, &self.record.cgroup) {
            self.undo.push(Made::Cgroup(Box::new(record.clone())));
            self.record.cgroup_made = true;
        }
    }

    fn hook_output(&self) -> HookOutput {
        match self.prepared.plan.hooks.at(HookPoint::StartContainer) {
            [] => HookOutput::None,
            _ => HookOutput::Fifo,
        }
    }

    /// The runtime's descriptors that init closes first.
    fn private(&self) -> Vec<i32> {
        let own = [self.directory.handle().as_raw_fd()];
        let joined = self.prepared.joined.iter().map(AsRawFd::as_raw_fd);
        let sockets = self.outputs.descriptors();
        own.into_iter().chain(sockets).chain(joined).collect()
    }

    /// Completes the record once init waits for its start. Its pid and start time are known
    /// already, and not read again, since that may fail.
    pub(crate) fn complete(&mut self, init: i32) -> Result<(), Error> {
        self.record.init = self.record.init.take().or_else(|| Identity::of(init));
        self.record.complete = true;
        self.directory.write_record(&self.record)
    }

    pub(crate) fn send_child(&mut self, init: &Child) -> Result<(), Error> {
        if let Some(path) = self.outputs.send_child(b"standard", init)? {
            self.undo.push(Made::PidFile(path.to_owned()));
        }
        let progress = &self.directory.progress;
        progress.done(format_args!("sent what the caller requested"));
        Ok(())
    }

    /// Attaches init's network namespace to the networks of the plan.
    pub(crate) fn attach(&mut self, namespace: BorrowedFd, init: &Child) -> Result<(), Error> {
        let Some(plan) = &self.prepared.plan.network else {
            return Ok(());
        };
        self.undo.push(Made::Network);
        let hostname = self.prepared.bundle.config.hostname.as_deref();
        let limits = self.limits(init);
        let record = &mut self.record;
        network::attach(&self.directory, record, (plan, hostname), namespace, limits)
    }

    /// Ends hooks and plugins if init ends, or a signal comes to the runtime.
    fn limits<'b>(&self, init: &'b Child) -> Limits<'b>
    where
        'a: 'b,
    {
        Limits {
            container: Some(init.pidfd.as_fd()),
            interrupts: Some(self.interrupts),
            ..Limits::default()
        }
    }

    /// Runs prestart and createRuntime hooks, in the runtime's namespaces.
    pub(crate) fn run_runtime_hooks(&self, init: &Child) -> Result<(), Error> {
        let state = state::for_hook(&self.record, Status::Creating, init.pid.as_raw());
        let hooks = &self.prepared.plan.hooks;
        let limits = self.limits(init);
        let files = coracle_hooks::open_files(hooks)?;
        for point in [HookPoint::Prestart, HookPoint::CreateRuntime] {
            coracle_hooks::run(point, hooks.at(point), &files, &state, &limits)?;
            self.directory.progress.ran_hooks(hooks, point);
        }
        Ok(())
    }

    /// Ends a successful creation.
    pub(crate) fn end(self, mut running: Running) -> Container {
        running.warnings = [&self.prepared.plan.warnings[..], &running.warnings].concat();
        Container {
            directory: self.directory,
            record: self.record,
            running,
        }
    }

    /// Undoes everything. The error also names what is left.
    pub(crate) fn take_back(self, error: Error) -> Error {
        // The console socket is closed first: its peer need not wait for hooks and plugins.
        drop(self.outputs);
        let record = &self.record;
        let error = explain_oom(error, record);
        let error = self.undo.after(error, &self.directory, self.interrupts);
        let plan = &self.prepared.plan;
        if record.complete || (record.init.is_some() && plan.stops_for_hooks()) {
            let state = state::for_hook(record, Status::Stopped, 0);
            let limits = Limits::interrupted_by(self.interrupts);
            delete::run_poststop(&plan.hooks, &state, &limits);
        }
        error
    }
}

impl Caller for Creation<'_> {
    type Error = Error;

    fn reached(&mut self, point: Point) {
        let progress = &self.directory.progress;
        progress.reached(&self.prepared.plan, point);
        if point == Point::Created {
            progress.done(format_args!("created: init waits for its start"));
        }
    }

    /// Recorded on disk before init does anything, so that `delete --force` finds init even if this
    /// process is killed.
    fn cloned(&mut self, init: &Child) -> Result<(), Error> {
        self.own_cgroup();
        if let Some(mount) = &self.record.host_mount {
            self.undo.push(Made::HostMount(mount.clone()));
        }
        let progress = &self.directory.progress;
        progress.done(format_args!("cloned init, process {}", init.pid));
        self.record.init = Identity::of(init.pid.as_raw());
        self.directory.write_record(&self.record)
    }

    fn attach_networks(&mut self, init: &Child, namespace: BorrowedFd) -> Result<(), Error> {
        self.attach(namespace, init)
    }

    fn hook_states(&mut self, init: &Child) -> [Vec<u8>; 2] {
        let pid = match self.record.own_pid_namespace {
            true => 1,
            false => init.pid.as_raw(),
        };
        let state = |status| state::for_hook(&self.record, status, pid);
        [Status::Creating, Status::Created].map(state)
    }

    fn run_hooks(&mut self, init: &Child) -> Result<(), Error> {
        self.run_runtime_hooks(init)
    }

    fn state(&mut self, init: &Child) -> Vec<u8> {
        state::for_hook(&self.record, Status::Creating, init.pid.as_raw())
    }
}

/// Explains an init that was killed for its memory limit before it could send a message.
fn explain_oom(error: Error, record: &Record) -> Error {
    let killed = || {
        let cgroup = record.cgroup.as_ref();
        cgroup.is_some_and(coracle_cgroups::oom_killed)
    };
    match error {
        Error::Launch(coracle_launch::Error::InitGone { .. }) if killed() => Error::OutOfMemory,
        error => error,
    }
}

/// How often the directory is made again that another command has removed.
const CLAIMS: usize = 100;

/// Claims the id: makes the container's directory and takes its lock. If the id is taken, the error
/// has the status of the container that has it.
///
/// Before the lock is taken `delete --force` may remove the empty directory, and another creation
/// make one in its place, even between the two calls that make and open it here. The first of two
/// that opened the same directory to have the lock has the id.
fn claim(store: &Store, id: &ContainerId) -> Result<(Directory, Lock), Error> {
    let taken = |maker| Error::Exists {
        status: inspect::state(store, id).ok().map(|state| state.status),
        id: id.clone(),
        maker,
    };
    for _ in 0..CLAIMS {
        let directory = match store.claim(id) {
            Err(Error::Exists { maker, .. }) => return Err(taken(maker)),
            claimed => claimed?,
        };
        let lock = match lock::acquire(&directory) {
            Ok(lock) => lock,
            Err(error) => {
                return Err(match directory.remove_emptied() {
                    Ok(()) => error,
                    Err(left) => error.leaving(&left.to_string()),
                });
            }
        };
        if directory.has_record() {
            drop(lock);
            return Err(taken(None));
        }
        if directory.is_in_place() != Ok(false) {
            return Ok((directory, lock));
        }
    }
    Err(taken(None))
}

fn first_record(directory: &Directory, prepared: &Prepared) -> Result<Record, Error> {
    let Bundle { dir, config, .. } = &prepared.bundle;
    for (what, path) in [("bundle", dir), ("root.path", &config.root.path)] {
        if path.to_str().is_none() {
            return Err(Error::NotUtf8 {
                what,
                path: path.clone(),
            });
        }
    }
    let plan = &prepared.plan;
    let host_mount = plan.rootfs.as_ref().and_then(|plan| plan.host_mount());
    Ok(Record {
        version: Record::current_version(),
        id: directory.id.as_ref().to_owned(),
        bundle: dir.clone(),
        rootfs: config.root.path.clone(),
        created: rfc3339(SystemTime::now()),
        owner: Uid::effective().as_raw(),
        creator: i32::try_from(std::process::id())
            .ok()
            .and_then(Identity::of),
        cgroup: plan.cgroups.as_ref().map(coracle_cgroups::planned_record),
        own_pid_namespace: config.linux.namespaces.pid == Namespace::New,
        host_mount: host_mount.map(Path::to_owned),
        poststart_hooks: !config.hooks.poststart.is_empty(),
        poststop_hooks: !config.hooks.poststop.is_empty(),
        has_process: config.process.is_some(),
        no_new_keyring: prepared.options.keyring == Keyring::Inherited,
        annotations: config.annotations.clone(),
        joined_network: prepared.joined.is_some(),
        descriptors: descriptors::names(config),
        ..Record::default()
    })
}
