//! `restore`: files become a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_bundle::{Config, HookPoint, Namespace};
use coracle_cgroups::Joining;
use coracle_checkpoint::{
    CgroupsMode, Entry, Flags, Images, LsmLabels, Mounts, Need, Notification, Request, Restore,
    RestoreFacts, Session, config_file,
};
use coracle_launch::Released;
use coracle_program::{Interrupts, Limits};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::build::{self, Site};
use crate::create::{self, Handoff, Prepared};
use crate::delete;
use crate::error::{Error, io_errno};
use crate::handoff::{self, Socket};
use crate::identity::Identity;
use crate::interrupt;
use crate::lock;
use crate::network;
use crate::notify::Proxy;
use crate::options::{After, Attachment, CreateOptions, Subreaper};
use crate::record::Record;
use crate::relay;
use crate::run::{self, Ended};
use crate::start;
use crate::state;
use crate::status::Status;
use crate::store::{Directory, Store};
use crate::undo::{Made, Undo};

/// What `restore` is asked.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// As for `create`.
    pub create: CreateOptions,
    /// Where the images are.
    pub image_path: PathBuf,
    /// Where logs and statistics go, if not there as well.
    pub work_path: Option<PathBuf>,
    /// Switches.
    pub flags: Flags,
    /// What criu does about cgroups.
    pub cgroups: CgroupsMode,
    /// Labels of security modules that are given anew.
    pub labels: LsmLabels,
    /// Whether `restore` waits for the container.
    pub attachment: Attachment,
    /// What becomes of the container once it has ended.
    pub after: After,
    /// Whether orphans of the container become ours while we wait.
    pub subreaper: Subreaper,
}

/// What was asked, read and found before anything is made.
struct Ready<'a> {
    options: &'a RestoreOptions,
    prepared: Prepared,
    images: Images,
    criu: PathBuf,
    /// The root file system, links resolved.
    root: PathBuf,
}

/// A container that goes on where it was dumped.
struct Restored {
    directory: Directory,
    record: Record,
    init: Released,
    console: Option<OwnedFd>,
    /// The notify socket, which is served in the foreground.
    proxy: Option<Proxy>,
}

/// Makes a container of the images. In the foreground, returns its exit code once it has ended and
/// is deleted.
///
/// # Errors
/// [`Error`]; nothing is left behind then.
pub fn restore(store: &Store, options: &RestoreOptions) -> Result<Ended, Error> {
    let ready = prepare(store, options)?;
    let signals = run::catch_signals(options.attachment, options.subreaper)?;
    let interrupts = interrupt::catch()?;
    let restored = make(store, &ready, &interrupts)?;
    start::poststart(&restored.directory, &restored.record, &interrupts)?;
    drop(interrupts);
    let warnings = ready.prepared.plan.warnings;
    let Some(signals) = signals else {
        return Ok(Ended {
            warnings,
            ..Ended::default()
        });
    };
    let waited = signals.wait(&restored.init, restored.console, restored.proxy.as_ref());
    let (code, failures) = run::end(waited, &restored.directory, options.after)?;
    Ok(Ended {
        code,
        warnings,
        failures,
    })
}

/// Reads bundle, machine and images: all that can be refused is refused here.
fn prepare<'a>(store: &Store, options: &'a RestoreOptions) -> Result<Ready<'a>, Error> {
    let images = Images::open(
        &options.image_path,
        options.work_path.as_deref(),
        Need::Restore,
    )?;
    let criu = coracle_checkpoint::find()?;
    let prepared = create::prepare(store, &options.create, options.attachment)?;
    let config = &prepared.bundle.config;
    if !config.linux.net_devices.is_empty() {
        return Err(Error::Value {
            flag: "config.json: linux.netDevices",
            reason: "restore moves no network devices".to_owned(),
        });
    }
    if let (Namespace::New, Some(uid)) = (&config.linux.namespaces.user, host_root(config)) {
        images.check_readable(uid)?;
    }
    let path = &config.root.path;
    let root = path.canonicalize().map_err(|error| Error::Store {
        call: "resolve",
        path: path.clone(),
        errno: io_errno(&error),
    })?;
    Ok(Ready {
        options,
        prepared,
        images,
        criu,
        root,
    })
}

/// Whom the container's root is here.
fn host_root(config: &Config) -> Option<u32> {
    let maps = config.linux.id_mappings.uid.iter();
    let mut roots = maps.filter(|map| map.container_id == 0);
    roots.next().map(|map| map.host_id)
}

/// As [`create::make`], with criu in init's place.
fn make(store: &Store, ready: &Ready, interrupts: &Interrupts) -> Result<Restored, Error> {
    let options = &ready.options.create;
    let handoff = Handoff::of(
        options.console_socket.as_deref(),
        options.pidfd_socket.as_deref(),
        options.pid_file.as_deref(),
    )?;
    let mut undo = Undo::begin()?;
    let directory = store.claim(&options.id)?;
    undo.push(Made::Directory);
    let claimed = lock::acquire(&directory).and_then(|lock| {
        let record = create::first_record(&directory, &ready.prepared)?;
        Ok((lock, record))
    });
    let (_lock, mut record) = match claimed {
        Ok(claimed) => claimed,
        Err(error) => return Err(undo.after(error, &directory, interrupts)),
    };
    let mut site = Site {
        directory: &directory,
        prepared: &ready.prepared,
        record: &mut record,
        undo: &mut undo,
        interrupts,
        private: Vec::new(),
    };
    let made = build(&mut site, ready, handoff);
    let _ = directory.remove_root();
    match made {
        Ok(Going {
            init,
            console,
            proxy,
        }) => Ok(Restored {
            directory,
            record,
            init,
            console,
            proxy,
        }),
        Err(error) => {
            let _ = delete::end_processes(&options.id, &record);
            let error = undo.after(error, &directory, interrupts);
            let stopped = record.init.is_some() && ready.prepared.plan.stops_for_hooks();
            if record.complete || stopped {
                let state = state::for_hook(&record, Status::Stopped, 0);
                let poststop = ready.prepared.plan.hooks.at(HookPoint::Poststop);
                let _ = coracle_hooks::run_all(
                    HookPoint::Poststop,
                    poststop,
                    &state,
                    &Limits::interrupted_by(interrupts),
                );
            }
            Err(error)
        }
    }
}

/// What criu leaves us with.
struct Going {
    init: Released,
    console: Option<OwnedFd>,
    proxy: Option<Proxy>,
}

/// The side effects in order; the record on disk is complete when this returns.
fn build(site: &mut Site, ready: &Ready, handoff: Handoff) -> Result<Going, Error> {
    site.directory.write_record(site.record)?;
    site.directory.write_config(&site.prepared.bundle.raw)?;
    if site.prepared.notify {
        site.directory.make_notify()?;
    }
    network::make_files(site.directory, site.prepared.plan.network.as_ref())?;
    let config = &site.prepared.bundle.config;
    let mountpoints = coracle_checkpoint::mountpoints(config);
    let destinations = coracle_checkpoint::make_mountpoints(&ready.root, &mountpoints)?;
    let joining = build::make_cgroup(site)?;
    let target = site.directory.make_root()?;
    let request = request(site.record, ready, &destinations, &target)?;
    let mut session = start_criu(site, ready, (&request, &target), joining)?;
    // On disk before criu does anything, so that `delete --force` finds all of it.
    site.directory.write_record(site.record)?;
    // An answer says that it has joined its cgroups.
    session.version()?;
    let groups = groups_of(session.pid())?;
    let mut restoring = Restoring {
        site,
        console: None,
        proxy: None,
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        init: None,
    };
    (
        restoring.console_socket,
        restoring.pidfd_socket,
        restoring.pid_file,
    ) = handoff.into_parts();
    session.perform(&request, &ready.images, &groups, &mut |notification| {
        restoring.notified(notification)
    })?;
    let init = restoring.init.ok_or(Error::Ended {
        id: restoring.site.directory.id.clone(),
        hint: "",
    })?;
    Ok(Going {
        init,
        console: restoring.console,
        proxy: restoring.proxy,
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

/// Our own mount table.
pub(crate) fn own_mounts() -> Result<Vec<u8>, Error> {
    let path = "/proc/self/mountinfo";
    std::fs::read(path).map_err(|error| Error::Store {
        call: "read",
        path: path.into(),
        errno: io_errno(&error),
    })
}

/// Mount point and the container's directory of each hierarchy.
pub(crate) fn hierarchies(groups: Option<&coracle_cgroups::Record>) -> Vec<(PathBuf, PathBuf)> {
    let all = groups
        .into_iter()
        .flat_map(|groups| groups.hierarchies.iter().chain(&groups.unified));
    all.map(|one| (one.mount.clone(), one.path.clone()))
        .collect()
}

/// Starts criu in the container's cgroup, with the root file system mounted for it alone.
fn start_criu(
    site: &mut Site,
    ready: &Ready,
    (request, target): (&Request, &Path),
    joining: Joining,
) -> Result<Session, Error> {
    let tree = clone_tree(&ready.root)?;
    let entry = Entry {
        cgroup: joining.into.as_ref().map(AsFd::as_fd),
        root: Some((tree.as_fd(), target)),
        mounts: Mounts::Copied,
        join: &|| coracle_cgroups::join(&joining.tasks),
        shares_terminal: ready.options.flags.contains(Flags::SHELL_JOB),
    };
    let session = Session::start(&ready.criu, &entry, Some(request))?;
    if let (Some(place), None) = (&joining.unit_action, &joining.into) {
        coracle_cgroups::join_unit(place, session.pid())?;
    }
    build::own_cgroup(site);
    Ok(session)
}

/// criu wants the root to be a mount point whose parent nothing else covers.
fn clone_tree(root: &Path) -> Result<OwnedFd, Error> {
    let failed = |call| {
        move |errno| Error::Store {
            call,
            path: root.to_owned(),
            errno,
        }
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(root, flags, Mode::empty()).map_err(failed("open"))?;
    let flags = coracle_sys::OpenTreeFlags::CLONE
        | coracle_sys::OpenTreeFlags::RECURSIVE
        | coracle_sys::OpenTreeFlags::EMPTY_PATH;
    let tree = coracle_sys::open_tree(root.as_fd(), c"", flags).map_err(failed("open_tree"))?;
    let slave = coracle_sys::MountAttributes {
        propagation: nix::libc::MS_SLAVE,
        ..Default::default()
    };
    // What criu mounts there stays there.
    coracle_sys::mount_setattr(tree.as_fd(), &slave, coracle_sys::Depth::Recursive)
        .map_err(failed("mount_setattr"))?;
    Ok(tree)
}

/// Controllers and path of each cgroup of a process: what was dumped goes there.
fn groups_of(pid: Pid) -> Result<Vec<(String, String)>, Error> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::Store {
        call: "read",
        path: path.into(),
        errno: io_errno(&error),
    })?;
    let groups = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some((controllers.to_owned(), path.to_owned()))
    });
    Ok(groups.collect())
}

/// What is done while criu works.
struct Restoring<'a, 'b> {
    site: &'a mut Site<'b>,
    console: Option<OwnedFd>,
    proxy: Option<Proxy>,
    console_socket: Option<Socket>,
    pidfd_socket: Option<Socket>,
    pid_file: Option<&'a Path>,
    init: Option<Released>,
}

impl Restoring<'_, '_> {
    fn notified(&mut self, notification: Notification) -> Result<(), Error> {
        // criu takes everything back by itself when it is refused. Once the processes go on, a
        // signal is theirs.
        if self.init.is_none() && self.site.interrupts.end_waits() {
            return Err(coracle_launch::Error::Interrupted.into());
        }
        match notification {
            Notification::SetupNamespaces(pid) => self.fill_namespaces(pid),
            Notification::PostRestore(pid) => self.hand_over(Pid::from_raw(pid)),
            Notification::Terminal(master) => self.pass_on(master),
            _ => Ok(()),
        }
    }

    /// The namespaces are made, and empty.
    fn fill_namespaces(&mut self, pid: i32) -> Result<(), Error> {
        let namespaces = &self.site.prepared.bundle.config.linux.namespaces;
        if namespaces.network == Namespace::New {
            coracle_checkpoint::raise_loopback(pid)?;
        }
        let plan = &self.site.prepared.plan;
        if plan.network.is_none() && !plan.stops_for_hooks() {
            return Ok(());
        }
        // Also of a failed restore it tells that hooks may have run.
        self.site.record.init = Identity::of(pid);
        let pid = Pid::from_raw(pid);
        let pidfd = coracle_sys::pidfd_open(pid).map_err(failed("open init's pidfd"))?;
        if let Some(networks) = &plan.network {
            let namespace = network_namespace(pid)?;
            network::attach(self.site, networks, (namespace.as_fd(), pidfd.as_fd()))?;
        }
        match plan.stops_for_hooks() {
            true => build::run_hooks(self.site, pid, pidfd.as_fd()),
            false => Ok(()),
        }
    }

    /// The processes are complete, and go on when this returns.
    fn hand_over(&mut self, pid: Pid) -> Result<(), Error> {
        let pidfd = coracle_sys::pidfd_open(pid).map_err(failed("open init's pidfd"))?;
        self.site.record.init = Identity::of(pid.as_raw());
        self.site.record.complete = true;
        self.site.directory.write_record(self.site.record)?;
        if let Some(socket) = self.pidfd_socket.take() {
            socket.send(b"standard", pidfd.as_fd())?;
        }
        if let Some(path) = self.pid_file.take() {
            handoff::write_pid_file(path, pid.as_raw())?;
            self.site.undo.push(Made::PidFile(path.to_owned()));
        }
        self.proxy = Proxy::bind(self.site.directory, pid.as_raw())?;
        self.init = Some(Released { pid, pidfd });
        Ok(())
    }

    fn pass_on(&mut self, master: OwnedFd) -> Result<(), Error> {
        match self.console_socket.take() {
            Some(socket) => socket.send(b"/dev/ptmx", master.as_fd()),
            None => {
                relay::prepare(master.as_fd());
                self.console = Some(master);
                Ok(())
            }
        }
    }
}

/// Init stands still until criu has our answer, so the path is init's.
fn network_namespace(init: Pid) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{init}/ns/net");
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty()).map_err(failed("open init's network namespace"))
}

fn failed(attempted: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::System { attempted, errno }
}
