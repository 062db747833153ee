//! `mount add`, `mount remove` and `mount list`: mounts of a running container. They end with its
//! mount namespace, so nothing is left to undo when it ends.

mod table;

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_bundle::{Config, ContainerId, Document, Namespace};
use coracle_host::Host;
use coracle_launch::{Running, Taken};
use coracle_sys::{NamespaceKind, mount_id, open_in_root};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde_json::{Value, json};

use crate::error::{Error, system, with_path};
use crate::identity::{Identity, has_ended};
use crate::inspect::{allow, read};
use crate::lock;
use crate::record::{AddedMount, Record};
use crate::status::Verb;
use crate::store::Store;
use crate::tree;
use table::Table;

/// A mount that is requested for a running container, as in `mounts` of config.json.
#[derive(Clone, Debug)]
pub struct NewMount {
    /// The container.
    pub id: ContainerId,
    /// An absolute path on the host, or a word for the file system.
    pub source: PathBuf,
    /// An absolute path in the container, at which a file or a directory is.
    pub destination: PathBuf,
    /// The type of the file system; `bind` for a bind mount.
    pub kind: String,
    /// The options.
    pub options: Vec<String>,
}

/// Mounts in a running container. Returns warnings, one line each.
///
/// # Errors
/// [`Error`] naming the part of the mount that is wrong; nothing is mounted then.
pub fn add_mount(store: &Store, new: &NewMount) -> Result<Vec<String>, Error> {
    if !new.destination.is_absolute() {
        return Err(refused(&new.destination, "is not absolute"));
    }
    let directory = store.open(&new.id)?;
    let _lock = lock::acquire(&directory)?;
    let mut record = directory.present_record()?;
    allow(Verb::Update, &directory, &record)?;
    let stored = coracle_bundle::tree(Document::Config, &directory.config()?)?;
    let request = json!({
        "destination": new.destination, "type": new.kind,
        "source": new.source, "options": new.options,
    });
    let config = only(stored, &record, json!([request]), json!([]));
    let mut config = config.map_err(by_callers_name)?;
    let mounts = config.mounts.iter_mut();
    mounts.for_each(|mount| mount.at = named(&mount.at));
    let host = coracle_host::probe(coracle_host::Needs {
        namespaces: true,
        ..coracle_launch::needs_added(&config)
    })?;
    let plan = coracle_launch::plan_added(&config, &host).map_err(coracle_launch::Error::from)?;
    let (init, running) = find(&directory.id, &record, &config, &host)?;
    check_destination(&new.destination, init, &running)?;
    let root = running.root.as_fd().try_clone_to_owned();
    let root = root.map_err(|e| system("duplicate a descriptor")(coracle_text::io_errno(&e)))?;
    coracle_launch::add(running, &plan, &host)?;
    let progress = &directory.progress;
    (0..plan.steps()).for_each(|step| progress.done(format_args!("{}", plan.describe(step))));
    record.mounts.push(found(new, init, &root)?);
    directory.write_record(&record)?;
    let warnings = config.warnings.iter();
    Ok(warnings.map(|warning| named(warning)).collect())
}

/// Unmounts what [`add_mount`] mounted there last.
///
/// # Errors
/// [`Error::Mount`] if there is no such mount.
pub fn remove_mount(store: &Store, id: &ContainerId, destination: &Path) -> Result<(), Error> {
    let directory = store.open(id)?;
    let _lock = lock::acquire(&directory)?;
    let mut record = directory.present_record()?;
    allow(Verb::Update, &directory, &record)?;
    let is_there = |added: &AddedMount| added.destination == destination;
    let Some(index) = record.mounts.iter().rposition(is_there) else {
        let reason = "no mount was added there by `mount add`";
        return Err(refused(destination, reason));
    };
    let config = coracle_bundle::parse(&record.bundle, &directory.config()?)?;
    let host = coracle_host::probe(coracle_host::Needs {
        namespaces: true,
        ..coracle_host::Needs::default()
    })?;
    let (init, running) = find(id, &record, &config, &host)?;
    let added = record.mounts.remove(index);
    // The container may have unmounted it.
    if Table::of(init.pid)?.has(&added) {
        let place = c_string(&added.place)?;
        coracle_launch::remove(running, Taken::Mount(&place, added.mount), &host)?;
        let progress = &directory.progress;
        progress.done(format_args!("unmounted {}", added.place.display()));
    }
    directory.write_record(&record)
}

/// The mounts that were added and are still there, in their order; none once the container has
/// ended. Takes no lock.
///
/// # Errors
/// [`Error::Absent`] and its like.
pub fn list_mounts(store: &Store, id: &ContainerId) -> Result<Vec<AddedMount>, Error> {
    let (_, record) = read(store, id)?;
    let Some(init) = record.init.filter(Identity::is_alive) else {
        return Ok(Vec::new());
    };
    if record.mounts.is_empty() {
        return Ok(Vec::new());
    }
    let table = Table::of(init.pid)?;
    let mut mounts = record.mounts;
    mounts.retain(|added| table.has(added));
    Ok(mounts)
}

/// The container's config with these mounts and devices only.
pub(crate) fn only(
    mut stored: Value,
    record: &Record,
    mounts: Value,
    devices: Value,
) -> Result<Config, coracle_bundle::Error> {
    *tree::at(&mut stored, &["mounts"]) = mounts;
    *tree::at(&mut stored, &["linux", "devices"]) = devices;
    coracle_bundle::parse_tree(&record.bundle, &stored)
}

/// Names a part of the mount as the caller does.
fn by_callers_name(mut error: coracle_bundle::Error) -> coracle_bundle::Error {
    if let coracle_bundle::Error::Invalid { path, .. } = &mut error {
        *path = named(path);
    }
    error
}

fn named(text: &str) -> String {
    text.replace("config.json: mounts[0]", "mount")
}

/// The container's init and what its mounts are changed by.
pub(crate) fn find(
    id: &ContainerId,
    record: &Record,
    config: &Config,
    host: &Host,
) -> Result<(Identity, Running), Error> {
    let ended = || Error::NotRunning { id: id.clone() };
    let init = record.init.ok_or_else(ended)?;
    let pidfd = init.open().map_err(system("open init's pidfd"))?;
    let pidfd = pidfd.ok_or_else(ended)?;
    let namespaces = coracle_host::namespaces_of(init.pid)?;
    let kind = NamespaceKind::Mount;
    if config.linux.namespaces.mount != Namespace::New
        || namespaces.of(kind) == host.namespaces.of(kind)
    {
        return Err(Error::SharedMounts);
    }
    let root = opened(&init, "root", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let mounts = opened(&init, "ns/mnt", OFlag::O_RDONLY)?;
    // If init is alive after the opens, the paths were not those of a later process with its pid.
    match has_ended(pidfd.as_fd()) {
        Ok(false) => Ok((
            init,
            Running {
                init: pidfd.into(),
                root,
                mounts,
                namespaces,
            },
        )),
        Ok(true) => Err(ended()),
        Err(errno) => Err(system("look whether init has ended")(errno)),
    }
}

fn opened(init: &Identity, name: &str, flags: OFlag) -> Result<OwnedFd, Error> {
    let path = PathBuf::from(format!("/proc/{}/{name}", init.pid));
    let file = open(&path, flags | OFlag::O_CLOEXEC, Mode::empty());
    file.map_err(with_path("open", &path))
}

/// `create` makes missing mount points, while nothing runs in the container. Here a misspelt path
/// would make one in what may be a volume of the host. And a mount on one that the host's mounts
/// are peers of would appear on the host, and outlive the container there.
fn check_destination(path: &Path, init: Identity, running: &Running) -> Result<(), Error> {
    let place = open_in_root(
        running.root.as_fd(),
        &c_string(path)?,
        OFlag::O_PATH,
        Mode::empty(),
    );
    let place = place.map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => refused(path, "does not exist in the container"),
        errno => with_path("open", path)(errno),
    })?;
    let id = mount_id(place.as_fd()).map_err(with_path("look at", path))?;
    match Table::of(init.pid)?.is_peer_of(id, &Table::own()?) {
        true => Err(refused(
            path,
            "the mount there is shared with the host, on which the new mount would appear",
        )),
        false => Ok(()),
    }
}

/// The facts of the mount that was just made.
fn found(new: &NewMount, init: Identity, root: &OwnedFd) -> Result<AddedMount, Error> {
    let path = &new.destination;
    let mount = open_in_root(root.as_fd(), &c_string(path)?, OFlag::O_PATH, Mode::empty())
        .and_then(|place| mount_id(place.as_fd()))
        .map_err(with_path("look at", path))?;
    let place = Table::of(init.pid)?.place(mount);
    Ok(AddedMount {
        destination: path.clone(),
        kind: new.kind.clone(),
        source: new.source.clone(),
        options: new.options.clone(),
        mount,
        place: place.ok_or_else(|| refused(path, "the container has unmounted it already"))?,
    })
}

fn refused(path: &Path, reason: &'static str) -> Error {
    Error::Mount {
        path: path.to_owned(),
        reason,
    }
}

pub(crate) fn c_string(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| refused(path, "has a NUL in it"))
}
