//! `state`, `list`, `ps`, `pause` and `resume`.

use coracle_bundle::ContainerId;

use crate::directory::Directory;
use crate::error::Error;
use crate::lock;
use crate::moved;
use crate::record::Record;
use crate::state::{self, State};
use crate::status::{Status, Verb, refusal};
use crate::store::Store;

/// All containers of a state root, and a line for each that could not be read.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Sorted by id.
    pub containers: Vec<State>,
    /// One line each.
    pub broken: Vec<String>,
}

/// The container's state. Takes no lock and writes nothing.
///
/// # Errors
/// [`Error::Absent`], [`Error::Foreign`], [`Error::Corrupt`].
pub fn state(store: &Store, id: &ContainerId) -> Result<State, Error> {
    let (directory, record) = read(store, id)?;
    Ok(state::current(&directory, &record))
}

/// The states of all containers.
///
/// # Errors
/// [`Error::Store`] when the state root cannot be read; a missing one is empty.
pub fn list(store: &Store) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    for id in store.ids()? {
        match state(store, &id) {
            Ok(state) => listing.containers.push(state),
            // Gone since, or another runtime's.
            Err(Error::Absent { .. } | Error::Foreign { .. }) => {}
            Err(error) => listing.broken.push(format!("{id}: {error}")),
        }
    }
    Ok(listing)
}

/// The pids of all processes of the container, in the runtime's pid namespace; none once it has
/// ended.
///
/// Without a cgroup only init is known.
///
/// # Errors
/// [`Error::Absent`] and its like; the cgroup's when it cannot be read.
pub fn processes(store: &Store, id: &ContainerId) -> Result<Vec<i32>, Error> {
    let (directory, record) = read(store, id)?;
    let is_stopped = state::status(&directory, &record) == Status::Stopped;
    // All its processes ended with init, and the cgroup may belong to another container by now.
    if is_stopped && record.own_pid_namespace {
        return Ok(Vec::new());
    }
    match moved::groups(&record).filter(|groups| groups.now().has_cgroups()) {
        Some(groups) => match groups.processes() {
            // The host has removed the empty cgroup.
            Err(_) if is_stopped => Ok(Vec::new()),
            processes => processes,
        },
        None if is_stopped => Ok(Vec::new()),
        None => Ok(record.init.map(|init| init.pid).into_iter().collect()),
    }
}

/// Freezes the container's processes.
///
/// # Errors
/// [`Error::Status`], [`Error::NoCgroup`], or the freezer's answer; the container runs on then.
pub fn pause(store: &Store, id: &ContainerId) -> Result<(), Error> {
    freezer(store, id, Verb::Pause)
}

/// Lets the container's processes go on.
///
/// # Errors
/// As [`pause`].
pub fn resume(store: &Store, id: &ContainerId) -> Result<(), Error> {
    freezer(store, id, Verb::Resume)
}

fn freezer(store: &Store, id: &ContainerId, verb: Verb) -> Result<(), Error> {
    let directory = store.open(id)?;
    let _lock = lock::acquire(&directory)?;
    let record = directory.present_record()?;
    allow(verb, &directory, &record)?;
    let (name, apply): (
        _,
        fn(&coracle_cgroups::Record) -> coracle_cgroups::Result<()>,
    ) = match verb {
        Verb::Resume => ("resume", coracle_cgroups::thaw),
        _ => ("pause", coracle_cgroups::freeze),
    };
    match moved::groups(&record).filter(|groups| groups.now().has_cgroups()) {
        Some(groups) => {
            apply(groups.ours(name)?)?;
            let progress = &directory.progress;
            progress.done(format_args!("{name}d every process of the cgroup"));
            Ok(())
        }
        None => Err(Error::NoCgroup { verb: name }),
    }
}

pub(crate) fn read(store: &Store, id: &ContainerId) -> Result<(Directory, Record), Error> {
    let directory = store.open(id)?;
    let record = directory.present_record()?;
    Ok((directory, record))
}

/// Returns the status if it allows the verb.
pub(crate) fn allow(verb: Verb, directory: &Directory, record: &Record) -> Result<Status, Error> {
    allow_in(state::status(directory, record), verb)
}

/// Returns this status if it allows the verb.
pub(crate) fn allow_in(status: Status, verb: Verb) -> Result<Status, Error> {
    match refusal(verb, status) {
        Some(refusal) => Err(Error::Status { refusal, status }),
        None => Ok(status),
    }
}
