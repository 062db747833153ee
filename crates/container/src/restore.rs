//! `restore`: makes a running container from the files of a checkpoint.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_bundle::{Config, Namespace};
use coracle_cgroups::Joining;
use coracle_checkpoint::{
    CgroupsMode, Flags, Images, LsmLabels, Mounts, Need, Notification, Readiness, Request, Restore,
    RestoreFacts, Session, StartOptions, config_file,
};
use coracle_launch::Child;
use coracle_namespaces::MovedDevices;
use coracle_program::Interrupts;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::creation::{Container, Creation};
use crate::delete;
use crate::error::{Error, system, with_path};
use crate::foreground::Running;
use crate::identity::Identity;
use crate::interrupt;
use crate::notify::Proxy;
use crate::options::RunOptions;
use crate::outputs::Connections;
use crate::prepare::{self, Prepared};
use crate::record::Record;
use crate::run::{self, Ended};
use crate::store::Store;
use coracle_text::io_errno;

/// The options of `restore`.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The options of `run`.
    pub run: RunOptions,
    /// The directory of the images.
    pub image_path: PathBuf,
    /// The directory for logs and statistics; by default that of the images.
    pub work_path: Option<PathBuf>,
    /// Switches.
    pub flags: Flags,
    /// How criu handles cgroups.
    pub cgroups: CgroupsMode,
    /// Labels of security modules that replace those of the images.
    pub labels: LsmLabels,
}

/// A prepared restore.
struct Ready<'a> {
    options: &'a RestoreOptions,
    prepared: Prepared<'a>,
    images: Images,
    criu: PathBuf,
    /// The path of the root filesystem, with links resolved.
    root: PathBuf,
    /// A copy of its mounts.
    tree: OwnedFd,
}

/// Restores a container from images. In the foreground, returns its exit code once it has ended and
/// is deleted.
///
/// # Errors
/// [`Error`]; nothing is left behind then.
pub fn restore(store: &Store, options: &RestoreOptions) -> Result<Ended, Error> {
    let ready = prepare(store, options)?;
    let outputs = Connections::open(
        &options.run.create.outputs,
        Some(&ready.prepared.bundle.config),
    )?;
    let signals = run::catch_signals(options.run.attachment, options.run.subreaper)?;
    let interrupts = interrupt::catch()?;
    let container = make(store, &ready, outputs, &interrupts)?;
    run::finish(container, signals, interrupts, options.run.after)
}

/// Reads the bundle, the host's facts and the images. Everything that can be refused is refused
/// here.
fn prepare<'a>(store: &Store, options: &'a RestoreOptions) -> Result<Ready<'a>, Error> {
    let images = Images::open(
        &options.image_path,
        options.work_path.as_deref(),
        Need::Restore,
    )?;
    let criu = coracle_checkpoint::find()?;
    let prepared = prepare::prepare(store, &options.run.create, options.run.attachment)?;
    let config = &prepared.bundle.config;
    let namespaces = &prepared.plan.namespaces;
    coracle_namespaces::check_net_devices(namespaces).map_err(coracle_launch::Error::from)?;
    if options.cgroups == CgroupsMode::Strict {
        check_absent(&prepared)?;
    }
    if let (Namespace::New, Some(uid)) = (&config.linux.namespaces.user, host_root(config)) {
        images.check_readable(uid)?;
    }
    let path = &config.root.path;
    let root = path
        .canonicalize()
        .map_err(|error| with_path("resolve", path)(io_errno(&error)))?;
    Ok(Ready {
        options,
        prepared,
        images,
        criu,
        tree: clone_tree(&root)?,
        root,
    })
}

/// Refuses a cgroup that exists. criu would refuse the one that the runtime makes, too.
fn check_absent(prepared: &Prepared) -> Result<(), Error> {
    let planned = prepared.plan.cgroups.as_ref();
    let planned = planned.map(coracle_cgroups::planned_record);
    let mut all = planned.iter().flat_map(coracle_cgroups::Record::all);
    match all.find(|one| !one.made.contains(&one.path)) {
        None => Ok(()),
        Some(one) => Err(Error::Value {
            flag: "--manage-cgroups-mode strict",
            reason: format!("{:?} exists", one.path),
        }),
    }
}

/// The host's uid of the container's root.
fn host_root(config: &Config) -> Option<u32> {
    let maps = config.linux.id_mappings.uid.iter();
    let mut roots = maps.filter(|map| map.container_id == 0);
    roots.next().map(|map| map.host_id)
}

/// Makes the container, as `create` does, with criu in place of init.
fn make(
    store: &Store,
    ready: &Ready,
    outputs: Connections,
    interrupts: &Interrupts,
) -> Result<Container, Error> {
    let mut creation = Creation::begin(store, &ready.prepared, outputs, interrupts)?;
    let made = build(&mut creation, ready);
    let _ = creation.directory.remove_root();
    match made {
        Ok(running) => Ok(creation.end(running)),
        Err(error) => {
            let _ = delete::end_processes(&creation.record);
            Err(creation.take_back(error))
        }
    }
}

/// The side effects, in order. The record on disk is complete when this returns.
fn build(creation: &mut Creation, ready: &Ready) -> Result<Running, Error> {
    let interrupts = creation.interrupts;
    creation.write_files()?;
    let mountpoints = coracle_checkpoint::mountpoints(&ready.prepared.bundle.config);
    let destinations = coracle_checkpoint::make_mountpoints(&ready.root, &mountpoints)?;
    let joining = creation.make_cgroup()?;
    let target = creation.directory.make_root()?;
    let request = request(&creation.record, ready, &destinations, &target)?;
    let mut session = start_criu(ready, (&request, &target), joining, interrupts)?;
    creation.own_cgroup();
    // Recorded before criu does anything, so that `delete --force` finds it.
    creation.directory.write_record(&creation.record)?;
    // criu has joined its cgroups once it answers.
    session.version(&|| interrupts.end_waits())?;
    let groups = groups_of(session.pid())?;
    let mut restoring = Restoring {
        creation,
        console: None,
        proxy: None,
        init: None,
        devices: None,
        readiness: ready.images.readiness(),
    };
    let done = session.perform(&request, &ready.images, &groups, &mut |notification| {
        restoring.notified(notification)
    });
    let init = done.and_then(|_| {
        restoring.init.take().ok_or(Error::Ended {
            hint: String::new(),
        })
    });
    if let (Err(_), Some(devices)) = (&init, &restoring.devices) {
        devices.move_back();
    }
    Ok(Running {
        process: init?,
        console: restoring.console,
        proxy: restoring.proxy,
        warnings: Vec::new(),
    })
}

fn request(
    record: &Record,
    ready: &Ready,
    destinations: &[PathBuf],
    target: &Path,
) -> Result<Request, Error> {
    let config = &ready.prepared.bundle.config;
    let host = own_mounts()?;
    Ok(coracle_checkpoint::restore(&Restore {
        config,
        flags: ready.options.flags,
        cgroups: ready.options.cgroups,
        root: target,
        mounts: RestoreFacts {
            destinations,
            host: &host,
            root: &ready.root,
            cgroups: &hierarchies(record.cgroup.as_ref()),
        },
        config_file: config_file(config, Path::exists).as_deref(),
        labels: &ready.options.labels,
        descriptors: &ready.images.read_descriptors()?,
    }))
}

/// The runtime's own mount table.
pub(crate) fn own_mounts() -> Result<Vec<u8>, Error> {
    let path = "/proc/self/mountinfo";
    std::fs::read(path).map_err(|error| with_path("read", Path::new(path))(io_errno(&error)))
}

/// The mount point and the container's path of each hierarchy.
pub(crate) fn hierarchies(groups: Option<&coracle_cgroups::Record>) -> Vec<(PathBuf, PathBuf)> {
    let all = groups.into_iter().flat_map(coracle_cgroups::Record::all);
    all.map(|one| (one.mount.clone(), one.path.clone()))
        .collect()
}

/// Starts criu in the container's cgroup, with the root filesystem mounted in a mount namespace of
/// its own.
fn start_criu(
    ready: &Ready,
    (request, target): (&Request, &Path),
    mut joining: Joining,
    interrupts: &Interrupts,
) -> Result<Session, Error> {
    let options = StartOptions {
        cgroup: joining.into.as_ref().map(AsFd::as_fd),
        root: Some((ready.tree.as_fd(), target)),
        mounts: Mounts::Copied,
        join: &|| coracle_cgroups::join(&joining.tasks),
        shares_terminal: ready.options.flags.contains(Flags::SHELL_JOB),
    };
    let session = Session::start(&ready.criu, &options, Some(request))?;
    if joining.into.is_none() {
        joining.put(session.pid(), Some(interrupts))?;
    }
    Ok(session)
}

/// Copies the root's mounts to a detached tree: criu requires the root to be a mount point, and its
/// parent mount not to be covered by another one.
fn clone_tree(root: &Path) -> Result<OwnedFd, Error> {
    let failed = |call| with_path(call, root);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(root, flags, Mode::empty()).map_err(failed("open"))?;
    let flags = coracle_sys::OpenTreeFlags::CLONE
        | coracle_sys::OpenTreeFlags::RECURSIVE
        | coracle_sys::OpenTreeFlags::EMPTY_PATH;
    let tree = match coracle_sys::open_tree(root.as_fd(), c"", flags) {
        Err(Errno::EPERM) => return Err(coracle_checkpoint::Error::Unprivileged.into()),
        tree => tree.map_err(failed("open_tree"))?,
    };
    let slave = coracle_sys::MountAttributes {
        propagation: nix::libc::MS_SLAVE,
        ..Default::default()
    };
    // A slave, so that criu's mounts do not propagate to the host.
    coracle_sys::mount_setattr(tree.as_fd(), &slave, coracle_sys::Depth::Recursive)
        .map_err(failed("mount_setattr"))?;
    Ok(tree)
}

/// The controllers and path of each cgroup of a process. criu puts the restored processes there.
fn groups_of(pid: Pid) -> Result<Vec<(String, String)>, Error> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| with_path("read", Path::new(&path))(io_errno(&error)))?;
    let groups = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some((controllers.to_owned(), path.to_owned()))
    });
    Ok(groups.collect())
}

/// The actions on criu's notifications.
struct Restoring<'a, 'b> {
    creation: &'a mut Creation<'b>,
    console: Option<OwnedFd>,
    proxy: Option<Proxy>,
    init: Option<Child>,
    /// Network devices that are moved back to the host if the restore fails.
    devices: Option<MovedDevices<'b>>,
    /// Whether the program was still to report that it is ready.
    readiness: Readiness,
}

impl Restoring<'_, '_> {
    fn notified(&mut self, notification: Notification) -> Result<(), Error> {
        // If a notification is refused, criu undoes everything itself. Once the processes run,
        // signals are passed on to them.
        if self.init.is_none() && self.creation.interrupts.end_waits() {
            return Err(coracle_launch::Error::Interrupted.into());
        }
        match notification {
            Notification::SetupNamespaces(pid) => self.fill_namespaces(pid),
            Notification::PostRestore(pid) => self.complete(pid),
            Notification::Terminal(master) => {
                self.console = self.creation.outputs.send_console(Some(master))?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// criu has made the namespaces, which are empty.
    fn fill_namespaces(&mut self, pid: i32) -> Result<(), Error> {
        let prepared = self.creation.prepared;
        let (config, plan) = (&prepared.bundle.config, &prepared.plan);
        if config.linux.namespaces.network == Namespace::New {
            coracle_checkpoint::raise_loopback(pid)?;
        }
        let devices = &plan.namespaces.devices;
        if plan.network.is_none() && devices.is_empty() && !plan.stops_for_hooks() {
            return Ok(());
        }
        // Recorded before the hooks, so that poststop hooks run even if the restore fails.
        self.creation.record.init = Identity::of(pid);
        let init = child(pid)?;
        if plan.network.is_some() {
            let namespace = network_namespace(&Namespace::New, init.pid)?;
            self.creation.attach(namespace.as_fd(), &init)?;
        }
        if !devices.is_empty() {
            let namespace = network_namespace(&config.linux.namespaces.network, init.pid)?;
            let moved = coracle_namespaces::move_net_devices(&plan.namespaces, namespace);
            self.devices = Some(moved.map_err(coracle_launch::Error::from)?);
        }
        match plan.stops_for_hooks() {
            true => self.creation.run_runtime_hooks(&init),
            false => Ok(()),
        }
    }

    /// The processes are restored, and continue when this returns.
    fn complete(&mut self, pid: i32) -> Result<(), Error> {
        let init = child(pid)?;
        self.creation.complete(pid)?;
        self.creation.send_child(&init)?;
        self.proxy = Proxy::bind(&self.creation.directory, pid)?;
        if let (Some(proxy), Readiness::NotAwaited) = (&self.proxy, self.readiness) {
            proxy.repeat_ready()?;
        }
        self.init = Some(init);
        Ok(())
    }
}

fn child(pid: i32) -> Result<Child, Error> {
    let pid = Pid::from_raw(pid);
    let pidfd = coracle_sys::pidfd_open(pid).map_err(system("open init's pidfd"))?;
    Ok(Child {
        pid,
        pidfd: pidfd.into(),
    })
}

/// Opens the container's network namespace. One that is joined by path init has not entered yet.
/// Init may be killed meanwhile, but its pid stays its own: it is a child of this process, which
/// has not waited for it.
fn network_namespace(kind: &Namespace, init: Pid) -> Result<OwnedFd, Error> {
    let path = match kind {
        Namespace::Join { path, .. } => path.clone(),
        _ => format!("/proc/{init}/ns/net").into(),
    };
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    open(&path, flags, Mode::empty()).map_err(with_path("open", &path))
}
