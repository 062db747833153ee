//! How a bundle becomes a container: the sequence behind `create` and `run`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::SystemTime;

use coracle_bundle::{Bundle, HookPoint, Namespace};
use coracle_launch::{Launch, Plan, Released};
use coracle_program::{Interrupts, Limits};
use nix::unistd::Uid;

use crate::build::{self, Built, Site};
use crate::descriptors;
use crate::error::Error;
use crate::handoff::{self, Socket};
use crate::identity::Identity;
use crate::interrupt;
use crate::lock;
use crate::mounts;
use crate::network::{self, Choice};
use crate::networks;
use crate::notify::{self, Proxy};
use crate::options::{Attachment, CreateOptions, Keyring};
use crate::record::Record;
use crate::relay;
use crate::state;
use crate::status::Status;
use crate::store::{Directory, Store};
use crate::timestamp::rfc3339;
use crate::undo::{Made, Undo};

/// How the launch ends: `create` leaves init waiting, `run` starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Created,
    Started,
}

/// What was asked, read and planned: nothing is touched yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) bundle: Bundle,
    pub(crate) plan: Plan,
    pub(crate) keyring: Keyring,
    /// The caller waits for notifications of the service.
    pub(crate) notify: bool,
    /// The other container's network namespace, open for init to join.
    pub(crate) joined: Option<OwnedFd>,
}

/// A container whose init waits for its start, or runs.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) directory: Directory,
    pub(crate) record: Record,
    pub(crate) init: Released,
    /// The pty's master, where nobody else was sent it.
    pub(crate) console: Option<OwnedFd>,
    /// The container's notify socket, when it was started.
    pub(crate) proxy: Option<Proxy>,
    /// What could not be granted, one line each.
    pub(crate) warnings: Vec<String>,
}

/// Makes a container and leaves its init waiting for `start`. Returns warnings, one line each.
///
/// # Errors
/// [`Error`]; nothing is left behind then.
pub fn create(store: &Store, options: &CreateOptions) -> Result<Vec<String>, Error> {
    let prepared = prepare(store, options, Attachment::Detached)?;
    let interrupts = interrupt::catch()?;
    let made = make(store, options, &prepared, (Goal::Created, &interrupts))?;
    Ok([prepared.plan.warnings, made.warnings].concat())
}

/// Reads the bundle and the machine and plans: all that can be refused is refused here.
pub(crate) fn prepare(
    store: &Store,
    options: &CreateOptions,
    attachment: Attachment,
) -> Result<Prepared, Error> {
    let mut bundle = coracle_bundle::load(&options.bundle)?;
    let terminal = bundle
        .config
        .process
        .as_ref()
        .is_some_and(|process| process.terminal);
    check_terminal(terminal, attachment, options.console_socket.as_deref())?;
    let steps = store.steps();
    steps.done(format_args!("read {}/config.json", bundle.dir.display()));
    let asked = (&options.network, &options.search);
    let join = |id: &_| network::join(store, id);
    let Choice { wanted, joined } = network::choose(&mut bundle.config, asked, join)?;
    let directory = store.root().join(options.id.as_ref());
    if wanted.as_ref().is_some_and(|wanted| wanted.networks.files) {
        network::push_mounts(&mut bundle.config, &directory);
    }
    let listen_fds = notify::listen_fds();
    let preserved_fds = handoff::preserved(listen_fds, options.preserve_fds)?;
    let mut environment = notify::listen_environment(listen_fds);
    let notify = notify::asked() && bundle.config.process.is_some();
    if notify {
        let mount = mounts::read_only(directory.join("notify"), notify::DIRECTORY.into());
        bundle.config.mounts.push(mount);
        environment.push(notify::ENVIRONMENT.to_owned());
    }
    let process = bundle.config.process.as_ref();
    let needs = coracle_launch::needs(&bundle.config, process, options.cgroup_manager);
    let host = coracle_host::probe(needs)?;
    let plan = coracle_launch::plan(
        &bundle,
        &host,
        &coracle_launch::Options {
            id: options.id.clone(),
            manager: options.cgroup_manager,
            rootless: options.rootless,
            change_root: options.change_root,
            keyring: options.keyring,
            environment,
            preserved_fds,
            network: wanted,
        },
    )?;
    coracle_launch::check(&plan)?;
    networks::check_asked(store, &options.id, plan.network.as_ref())?;
    steps.planned(&plan);
    Ok(Prepared {
        bundle,
        plan,
        keyring: options.keyring,
        notify,
        joined,
    })
}

/// The rules of terminals: who detaches needs a socket for it, and nobody else may name one.
pub(crate) fn check_terminal(
    terminal: bool,
    attachment: Attachment,
    socket: Option<&Path>,
) -> Result<(), Error> {
    let text = match (terminal, attachment, socket) {
        (true, Attachment::Detached, None) => {
            "cannot allocate tty if coracle will detach without setting console socket"
        }
        (false, _, Some(_)) | (true, Attachment::Foreground, Some(_)) => {
            "cannot use console socket if coracle will not detach or allocate tty"
        }
        _ => return Ok(()),
    };
    Err(Error::Terminal(text))
}

/// Carries the plan out. On failure everything made is taken back, and poststop hooks run if hooks
/// of the creation could have run.
pub(crate) fn make(
    store: &Store,
    options: &CreateOptions,
    prepared: &Prepared,
    (goal, interrupts): (Goal, &Interrupts),
) -> Result<Container, Error> {
    let handoff = Handoff::open(options)?;
    let mut undo = Undo::begin()?;
    let directory = store.claim(&options.id)?;
    undo.push(Made::Directory);
    let claimed = lock::acquire(&directory)
        .and_then(|lock| first_record(&directory, prepared).map(|record| (lock, record)));
    let (lock, mut record) = match claimed {
        Ok(claimed) => claimed,
        Err(error) => return Err(undo.after(error, &directory, interrupts)),
    };
    let private = [directory.handle().as_raw_fd(), lock.as_raw_fd()]
        .into_iter()
        .chain(handoff.descriptors())
        .chain(prepared.joined.as_ref().map(AsRawFd::as_raw_fd))
        .collect();
    let mut site = Site {
        private,
        directory: &directory,
        prepared,
        record: &mut record,
        undo: &mut undo,
        interrupts,
    };
    let made = build::build(&mut site, handoff, goal);
    match made {
        Ok(Built {
            init,
            console,
            proxy,
            warnings,
        }) => Ok(Container {
            directory,
            record,
            init,
            console,
            proxy,
            warnings,
        }),
        Err(error) => {
            let error = undo.after(explain_oom(error, &record), &directory, interrupts);
            if record.complete || (record.init.is_some() && prepared.plan.stops_for_hooks()) {
                let state = state::for_hook(&record, Status::Stopped, 0);
                let poststop = prepared.plan.hooks.at(HookPoint::Poststop);
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

/// A small memory limit ends init before it can say a word.
fn explain_oom(error: Error, record: &Record) -> Error {
    let killed = || {
        record
            .cgroup
            .as_ref()
            .is_some_and(coracle_cgroups::oom_killed)
    };
    match error {
        Error::Launch(
            coracle_launch::Error::InitGone { .. } | coracle_launch::Error::KilledAtBirth,
        ) if killed() => Error::OutOfMemory,
        error => error,
    }
}

/// Where the caller wants what.
#[derive(Debug)]
pub(crate) struct Handoff<'a> {
    console: Option<Socket>,
    pidfd: Option<Socket>,
    pid_file: Option<&'a Path>,
}

impl<'a> Handoff<'a> {
    fn open(options: &'a CreateOptions) -> Result<Self, Error> {
        Self::of(
            options.console_socket.as_deref(),
            options.pidfd_socket.as_deref(),
            options.pid_file.as_deref(),
        )
    }

    /// Connects the sockets before anything is made.
    pub(crate) fn of(
        console: Option<&Path>,
        pidfd: Option<&Path>,
        pid_file: Option<&'a Path>,
    ) -> Result<Self, Error> {
        Ok(Self {
            console: console
                .map(|path| Socket::connect("--console-socket", path))
                .transpose()?,
            pidfd: pidfd
                .map(|path| Socket::connect("--pidfd-socket", path))
                .transpose()?,
            pid_file,
        })
    }

    /// Console socket, pidfd socket and pid file.
    pub(crate) fn into_parts(self) -> (Option<Socket>, Option<Socket>, Option<&'a Path>) {
        (self.console, self.pidfd, self.pid_file)
    }

    /// The connections' numbers.
    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        [&self.console, &self.pidfd]
            .into_iter()
            .flatten()
            .map(Socket::as_raw_fd)
    }

    /// The file that a failed start must not leave.
    pub(crate) fn pid_file(&self) -> Option<&Path> {
        self.pid_file
    }

    /// Hands everything over; returns the pty's master where no socket took it.
    pub(crate) fn deliver(
        self,
        launch: &mut Launch,
        payload: &[u8],
    ) -> Result<Option<OwnedFd>, Error> {
        let mut console = launch.take_console();
        if let Some(socket) = self.console
            && let Some(master) = console.take()
        {
            socket.send(b"/dev/ptmx", master.as_fd())?;
        }
        if let Some(master) = &console {
            relay::prepare(master.as_fd());
        }
        if let Some(socket) = self.pidfd {
            socket.send(payload, launch.pidfd())?;
        }
        if let Some(path) = self.pid_file {
            handoff::write_pid_file(path, launch.pid().as_raw())?;
        }
        Ok(console)
    }
}

pub(crate) fn first_record(directory: &Directory, prepared: &Prepared) -> Result<Record, Error> {
    let Bundle { dir, config, .. } = &prepared.bundle;
    for (what, path) in [("bundle", dir), ("root.path", &config.root.path)] {
        if path.to_str().is_none() {
            return Err(Error::NotUtf8 {
                what,
                path: path.clone(),
            });
        }
    }
    let own = i32::try_from(std::process::id())
        .ok()
        .and_then(Identity::of);
    Ok(Record {
        version: Record::current_version(),
        id: directory.id.as_ref().to_owned(),
        bundle: dir.clone(),
        rootfs: config.root.path.clone(),
        created: rfc3339(SystemTime::now()),
        owner: Uid::effective().as_raw(),
        complete: false,
        creator: own,
        init: None,
        cgroup: prepared
            .plan
            .cgroups
            .as_ref()
            .map(coracle_cgroups::planned_record),
        cgroup_made: false,
        own_pid_namespace: config.linux.namespaces.pid == Namespace::New,
        host_mount: prepared
            .plan
            .rootfs
            .as_ref()
            .and_then(|plan| plan.host_mount())
            .map(Path::to_owned),
        poststart_hooks: !config.hooks.poststart.is_empty(),
        poststop_hooks: !config.hooks.poststop.is_empty(),
        has_process: config.process.is_some(),
        no_new_keyring: prepared.keyring == Keyring::Inherited,
        annotations: config.annotations.clone(),
        network: None,
        joined_network: prepared.joined.is_some(),
        descriptors: descriptors::names(config),
    })
}
