//! What is known of a container whose record is torn or gone: what its private config says.

use coracle_bundle::{Config, Namespace};
use coracle_cgroups::{Manager, Options, Rootless};
use coracle_host::Needs;
use nix::errno::Errno;

use crate::error::Error;
use crate::record::Record;
use crate::store::{Directory, Store};

/// A record to end the container by, with what it cannot tell, one line each.
///
/// # Errors
/// [`Error::Torn`] where the container may live and nothing tells where.
pub(crate) fn record(store: &Store, directory: &Directory) -> Result<(Record, Vec<String>), Error> {
    let text = match directory.config() {
        Ok(text) => text,
        // A creation that was killed before its first word, a deletion before its last, or no
        // container of ours: both write it before they make anything.
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
        None => left.push(
            "the record could not be read, and the cgroup of config.json is not there: processes \
             of a container without one are left"
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

/// Whichever of the managers made it: the record would have said.
fn cgroup(
    directory: &Directory,
    config: &Config,
) -> Result<Option<coracle_cgroups::Record>, Error> {
    for manager in [Manager::Cgroupfs, Manager::Systemd] {
        let needs = Needs {
            cgroups: true,
            resctrl: config.linux.intel_rdt.is_some(),
            systemd: manager == Manager::Systemd,
            ..Needs::default()
        };
        let host = coracle_host::probe(needs)?;
        let options = Options {
            id: directory.id.as_ref(),
            manager,
            rootless: Rootless::True,
        };
        // A path that is none of this manager's, or no such manager.
        let Ok(plan) = coracle_cgroups::plan(config, &host, &options) else {
            continue;
        };
        if let Some(found) = coracle_cgroups::find(&plan) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The name may have become another container's since.
fn check_claims(
    store: &Store,
    directory: &Directory,
    found: &coracle_cgroups::Record,
) -> Result<(), Error> {
    let paths = |groups: &coracle_cgroups::Record| -> Vec<_> {
        let all = groups.hierarchies.iter().chain(&groups.unified);
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
