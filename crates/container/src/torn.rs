//! Recovers a container whose record is corrupt or gone, from its private config.

use coracle_bundle::{Config, Namespace};
use coracle_cgroups::{Manager, Options, Rootless};
use nix::errno::Errno;

use crate::directory::Directory;
use crate::error::Error;
use crate::record::Record;
use crate::store::Store;

/// Makes a record by which the container can be deleted. Also returns warnings of what may be left,
/// one line each.
///
/// # Errors
/// [`Error::Torn`] if the container may be running in an unknown cgroup.
pub(crate) fn record(store: &Store, directory: &Directory) -> Result<(Record, Vec<String>), Error> {
    let text = match directory.config() {
        Ok(text) => text,
        // Without the config, nothing else can be left: a creation writes it before it makes
        // anything, and a deletion removes it last but for the record. Or the directory is not a
        // container of this runtime.
        Err(Error::Store {
            errno: Errno::ENOENT,
            ..
        }) => return Ok((Record::default(), Vec::new())),
        Err(_) => return Err(torn(directory, "config.json cannot be read either")),
    };
    let config = coracle_bundle::parse(directory.path(), &text)
        .map_err(|_| torn(directory, "config.json cannot be read either"))?;
    let cgroup = cgroup(directory, &config)?;
    let mut left = Vec::new();
    match &cgroup {
        None if directory.is_awaiting_start() => {
            let reason = "init waits for its start, and is not in the cgroup of config.json";
            return Err(torn(directory, reason));
        }
        None if counts_from_creator(&config) => {
            let reason = "the cgroup of config.json is relative to that of whoever created it, and \
                          is not there for this caller";
            return Err(torn(directory, reason));
        }
        None => left.push(
            "the record could not be read, and the cgroup of config.json is not there: processes \
             that are in no cgroup of the container's may be left"
                .to_owned(),
        ),
        Some(cgroup) => check_claims(store, directory, cgroup)?,
    }
    if config.linux.namespaces.mount == Namespace::Inherit {
        left.push("the record could not be read: a mount of the root is left".to_owned());
    }
    if directory.pinned_network().is_some() {
        left.push(
            "the record could not be read: `network gc` takes back what its networks left"
                .to_owned(),
        );
    }
    let record = Record {
        cgroup_made: cgroup.is_some(),
        cgroup,
        ..Record::default()
    };
    Ok((record, left))
}

/// Whether the cgroup's path is relative to the cgroup of the runtime that created the container.
/// `slice:prefix:name` is not: it names the same unit for every caller.
fn counts_from_creator(config: &Config) -> bool {
    let path = config.linux.cgroups_path.as_deref().unwrap_or_default();
    !path.starts_with('/') && !path.contains(':')
}

/// Finds the cgroup as either manager would name it: only the record says which of them made it.
fn cgroup(
    directory: &Directory,
    config: &Config,
) -> Result<Option<coracle_cgroups::Record>, Error> {
    for manager in [Manager::Cgroupfs, Manager::Systemd] {
        let host = coracle_host::probe(coracle_cgroups::needs(config, manager))?;
        let options = Options {
            id: directory.id.as_ref(),
            manager,
            rootless: Rootless::True,
        };
        // The path is not in this manager's form, or there is no such manager here.
        let Ok(plan) = coracle_cgroups::plan(config, &host, &options) else {
            continue;
        };
        if let Some(found) = coracle_cgroups::find(&plan) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Refuses a cgroup that belongs to another container by now.
fn check_claims(
    store: &Store,
    directory: &Directory,
    found: &coracle_cgroups::Record,
) -> Result<(), Error> {
    let paths = |groups: &coracle_cgroups::Record| -> Vec<_> {
        let all = groups.all();
        all.map(|directory| directory.path.clone()).collect()
    };
    let found = paths(found);
    for id in store.ids()? {
        if id == directory.id {
            continue;
        }
        let other = store.find(&id)?.and_then(|other| other.record().ok()?);
        let claimed = other.as_ref().and_then(Record::own_groups).map(paths);
        if claimed.is_some_and(|claimed| claimed.iter().any(|path| found.contains(path))) {
            return Err(torn(
                directory,
                "the cgroup of config.json is another container's",
            ));
        }
    }
    Ok(())
}

fn torn(directory: &Directory, reason: &'static str) -> Error {
    Error::Torn {
        directory: directory.path().to_owned(),
        reason,
    }
}
