//! `checkpoint`: writes a running container to files.

use std::fs::{File, OpenOptions, read};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use coracle_bundle::{Config, ContainerId, Namespace};
use coracle_checkpoint::{
    CgroupsMode, Descriptors, Dump, DumpFacts, Features, Flags, Images, Kind, Mounts, Namespaces,
    Need, Notification, PageServer, Session, StartOptions, Version, config_file,
};
use nix::fcntl::OFlag;
use nix::unistd::Uid;

use crate::delete;
use crate::descriptors;
use crate::error::{Error, system, with_path};
use crate::identity::has_ended;
use crate::inspect::allow;
use crate::lock;
use crate::options::Force;
use crate::outputs;
use crate::record::Record;
use crate::restore;
use crate::status::{Status, Verb};
use crate::store::Store;
use coracle_text::io_errno;

/// The options of `checkpoint`.
#[derive(Clone, Debug)]
pub struct CheckpointOptions {
    /// The container.
    pub id: ContainerId,
    /// The directory for the images.
    pub image_path: PathBuf,
    /// The directory for logs and statistics; by default that of the images.
    pub work_path: Option<PathBuf>,
    /// The parent images, relative to the image path, of which only the differences are written.
    pub parent_path: Option<PathBuf>,
    /// What is dumped, and whether the container goes on.
    pub kind: Kind,
    /// Switches.
    pub flags: Flags,
    /// How criu handles cgroups.
    pub cgroups: CgroupsMode,
    /// The page server that memory is sent to, or the address at which it is served.
    pub page_server: Option<PageServer>,
    /// The caller's descriptor to write to once pages can be requested.
    pub status_fd: Option<i32>,
}

/// Called about once a second while criu dumps, with the bytes of memory written so far.
pub type Written<'a> = &'a mut dyn FnMut(u64);

/// Writes the container's processes to files. Then deletes the container, unless it is to go on.
/// Returns warnings, one line each.
///
/// # Errors
/// [`Error`]; the container goes on as before.
pub fn checkpoint(
    store: &Store,
    options: &CheckpointOptions,
    written: Written,
) -> Result<Vec<String>, Error> {
    let directory = store.open(&options.id)?;
    let _lock = lock::acquire(&directory)?;
    let record = directory.present_record()?;
    let status = allow(Verb::Checkpoint, &directory, &record)?;
    if let Some(added) = record.mounts.first() {
        // A restore makes the mounts of the bundle's config.
        return Err(Error::Mount {
            path: added.destination.clone(),
            reason: "was mounted by `mount add`, so a restore would lack it: remove it first",
        });
    }
    let config = coracle_bundle::parse(&record.bundle, &directory.config()?)?;
    let mut status_fd = options.status_fd.map(open_status_fd).transpose()?;
    let criu = coracle_checkpoint::find()?;
    // An ordinary user may not copy them, and criu may not need them then.
    let mounts = match config.linux.namespaces.mount {
        Namespace::New | Namespace::Join { .. } if Uid::effective().is_root() => Mounts::Copied,
        _ => Mounts::Shared,
    };
    let mut session = Session::start(&criu, &StartOptions::plain(mounts), None)?;
    check(&mut session, options)?;
    let images = Images::open(
        &options.image_path,
        options.work_path.as_deref(),
        Need::Dump,
    )?;
    if let Some(parent) = &options.parent_path {
        images.check_parent(parent)?;
    }
    let facts = Facts::gather(&options.id, &record, &config)?;
    if !options.flags.contains(Flags::SHELL_JOB) {
        facts.check_streams()?;
    }
    images.write_descriptors(&facts.descriptors)?;
    images.note_readiness(directory.readiness())?;
    let request = coracle_checkpoint::dump(&facts.dump(options, &config));
    let mut notified = |notification| {
        match notification {
            Notification::Waiting => written(images.pages_bytes()),
            Notification::StatusReady => {
                // An error is ignored: the reader may be gone, and the end of file signals the
                // same.
                if let Some(mut file) = status_fd.take() {
                    let _ = file.write_all(b"\0");
                }
            }
            _ => {}
        }
        Ok::<(), Error>(())
    };
    let done = session.perform(&request, &images, &[], &mut notified);
    if let Err(error) = done {
        let_go_on(&record, status);
        return Err(error);
    }
    match options.kind {
        Kind::Dump => delete::end(&directory, &record, Force::No, None),
        Kind::DumpAndLeave | Kind::PreDump => Ok(Vec::new()),
    }
}

/// The version of the installed criu and the features that it has here; `None` if none answers.
#[must_use]
pub fn criu() -> Option<(Version, Features)> {
    let criu = coracle_checkpoint::find().ok()?;
    let mut session = Session::start(&criu, &StartOptions::plain(Mounts::Shared), None).ok()?;
    Some((session.version(&|| false).ok()?, session.features().ok()?))
}

/// Thaws a container that was not paused before: criu thaws it when it fails, but not when it is
/// killed.
fn let_go_on(record: &Record, before: Status) {
    if let (Status::Running, Some(cgroup)) = (before, record.own_cgroup()) {
        let _ = coracle_cgroups::thaw(cgroup);
    }
}

/// Refuses options that this criu or kernel does not support.
fn check(session: &mut Session, options: &CheckpointOptions) -> Result<(), Error> {
    session.version(&|| false)?;
    let tracking = options.kind == Kind::PreDump || options.parent_path.is_some();
    let lazy = options.flags.contains(Flags::LAZY_PAGES);
    if !tracking && !lazy {
        return Ok(());
    }
    let features = session.features()?;
    let missing = |flag, feature| Err(coracle_checkpoint::Error::Feature { flag, feature }.into());
    match () {
        () if lazy && !features.lazy_pages => missing("--lazy-pages", "userfaultfd for criu"),
        () if tracking && !features.memory_tracking => {
            let flag = match options.kind {
                Kind::PreDump => "--pre-dump",
                _ => "--parent-path",
            };
            missing(flag, "tracking of changed memory (CONFIG_MEM_SOFT_DIRTY)")
        }
        () => Ok(()),
    }
}

/// Opens once more a descriptor that the caller has opened for writing.
fn open_status_fd(number: i32) -> Result<File, Error> {
    let refused = |problem: &str| Error::Value {
        flag: "--status-fd",
        reason: format!("descriptor {number}: {problem}"),
    };
    match outputs::inherited_mode(number) {
        None => Err(refused("the caller has not opened it")),
        Some(OFlag::O_RDONLY) => Err(refused("it is not open for writing")),
        Some(_) => OpenOptions::new()
            .write(true)
            .open(format!("/proc/self/fd/{number}"))
            .map_err(|error| refused(&coracle_text::errno_text(io_errno(&error)))),
    }
}

/// The facts of the container that a dump needs.
struct Facts {
    init: i32,
    container_mounts: Vec<u8>,
    host_mounts: Vec<u8>,
    namespaces: Namespaces,
    freezer: Option<PathBuf>,
    config_file: Option<PathBuf>,
    descriptors: Descriptors,
}

impl Facts {
    fn gather(id: &ContainerId, record: &Record, config: &Config) -> Result<Self, Error> {
        let gone = || Error::NotRunning { id: id.clone() };
        let init = record.init.ok_or_else(gone)?;
        let pidfd = init.open().map_err(system("open init's pidfd"))?;
        let pidfd = pidfd.ok_or_else(gone)?;
        let joined = |namespace: &Namespace, name| match namespace {
            Namespace::Join { .. } => inode(init.pid, name),
            _ => None,
        };
        let kinds = &config.linux.namespaces;
        let read = |path: &str| {
            read(path).map_err(|error| with_path("read", Path::new(path))(io_errno(&error)))
        };
        let facts = Self {
            init: init.pid,
            container_mounts: read(&format!("/proc/{}/mountinfo", init.pid))?,
            host_mounts: restore::own_mounts()?,
            namespaces: Namespaces {
                network: match record.joined_network {
                    true => inode(init.pid, "net"),
                    false => joined(&kinds.network, "net"),
                },
                pid: joined(&kinds.pid, "pid"),
            },
            freezer: record
                .own_cgroup()
                .and_then(coracle_cgroups::freezer)
                .map(Path::to_owned),
            config_file: config_file(config, Path::exists),
            descriptors: Descriptors(record.descriptors.clone()),
        };
        match has_ended(pidfd.as_fd()).map_err(system("look for init's end"))? {
            true => Err(gone()),
            false => Ok(facts),
        }
    }

    /// Refuses a standard stream that is a terminal from outside of the container: criu's error
    /// would not say so.
    fn check_streams(&self) -> Result<(), Error> {
        let process = self.init.to_string();
        let streams = self.descriptors.0.iter().enumerate();
        let mut terminals = streams.filter(|(stream, name)| {
            name.starts_with("tty[") && descriptors::name(&process, *stream) == **name
        });
        match terminals.next() {
            None => Ok(()),
            Some((stream, _)) => Err(Error::Value {
                flag: "--shell-job",
                reason: format!("needed, since standard stream {stream} is a terminal outside"),
            }),
        }
    }

    fn dump<'a>(&'a self, options: &'a CheckpointOptions, config: &'a Config) -> Dump<'a> {
        Dump {
            config,
            kind: options.kind,
            flags: options.flags,
            cgroups: options.cgroups,
            init: self.init,
            mounts: DumpFacts {
                container: &self.container_mounts,
                host: &self.host_mounts,
            },
            namespaces: self.namespaces,
            freezer: self.freezer.as_deref(),
            parent: options.parent_path.as_deref(),
            page_server: options.page_server.as_ref(),
            config_file: self.config_file.as_deref(),
            descriptors: &self.descriptors,
        }
    }
}

fn inode(pid: i32, name: &str) -> Option<u64> {
    let path = format!("/proc/{pid}/ns/{name}");
    let status = nix::sys::stat::stat(path.as_str()).ok()?;
    Some(status.st_ino)
}
