//! `network ls`, `inspect`, `check` and `gc`: configured networks, and the attachments of the
//! containers of a state root.

use std::path::{Path, PathBuf};

use coracle_bundle::ContainerId;
use coracle_cni::{Configured, NetworkList, Plan, Plugin, Search};
use coracle_program::Limits;
use serde_json::{Value, json};

use crate::directory::Directory;
use crate::error::Error;
use crate::inspect::read;
use crate::interrupt;
use crate::lock;
use crate::network;
use crate::options::Force;
use crate::record::Record;
use crate::state;
use crate::status::Status;
use crate::store::Store;

/// One configured network.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The version of the CNI specification that its plugins are called with.
    pub cni_version: &'static str,
    /// The file that configures it.
    pub file: PathBuf,
    /// The types of its plugins, in order.
    pub plugins: Vec<String>,
}

impl Network {
    /// The network as JSON.
    #[must_use]
    pub fn to_value(&self) -> Value {
        json!({
            "name": self.name,
            "cniVersion": self.cni_version,
            "file": self.file.to_string_lossy(),
            "plugins": self.plugins,
        })
    }
}

/// An attachment that `gc` removed.
#[derive(Clone, Debug)]
pub struct Released {
    /// The container whose creation was not completed.
    pub id: String,
    /// The network.
    pub network: String,
    /// The interface in the container.
    pub interface: String,
}

/// The configured networks, and a line for each file that cannot be read.
///
/// # Errors
/// [`Error::Cni`] if the directory cannot be read.
pub fn networks(search: &Search) -> Result<(Vec<Network>, Vec<String>), Error> {
    let Configured { lists, broken } = coracle_cni::read(&search.conf_dir)?;
    let networks = lists.iter().map(|(file, list)| shown(file, list));
    Ok((networks.collect(), broken))
}

fn shown(file: &Path, list: &NetworkList) -> Network {
    Network {
        name: list.name.clone(),
        cni_version: list.version.text(),
        file: file.to_owned(),
        plugins: list.plugins.iter().map(|p| p.kind().to_owned()).collect(),
    }
}

/// A network with its plugins and the containers attached to it, as JSON.
///
/// # Errors
/// [`Error::Cni`] if there is no such network, or more than one.
pub fn inspect_network(store: &Store, search: &Search, name: &str) -> Result<Value, Error> {
    let configured = coracle_cni::read(&search.conf_dir)?;
    let list = coracle_cni::find(&configured, &search.conf_dir, name)?;
    let mut files = configured.lists.iter();
    let file = files.find(|(_, known)| known.name == name);
    let file = file.map_or(Path::new(""), |(file, _)| file);
    let mut containers = Vec::new();
    for (directory, _, plan) in attached(store)? {
        let attachments = plan.attachments.iter();
        for a in attachments.filter(|a| a.begun && a.network.name == name) {
            containers.push(json!({
                "id": directory.id.as_ref(),
                "interface": a.interface,
                "addresses": a.addresses(),
            }));
        }
    }
    let programs = list.plugins.iter();
    let programs: Vec<Value> = programs
        .map(|plugin| program(list, plugin, search))
        .collect();
    let problem = coracle_cni::status(list, search).err();
    Ok(json!({
        "name": list.name,
        "cniVersion": list.version.text(),
        "file": file.to_string_lossy(),
        "disableCheck": list.disable_check,
        "disableGC": list.disable_gc,
        "problem": problem.map(|error| error.to_string()),
        "programs": programs,
        "containers": containers,
    }))
}

fn program(list: &NetworkList, plugin: &Plugin, search: &Search) -> Value {
    let (versions, problem) = match coracle_cni::versions(list, plugin, search) {
        Ok(versions) => (versions, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let path = coracle_cni::locate(&list.name, plugin, search).ok();
    json!({
        "type": plugin.kind(),
        "path": path.as_ref().map(|path| path.to_string_lossy()),
        "supportedVersions": versions,
        "problem": problem,
    })
}

/// All containers with a network, as far as they can be read.
fn attached(store: &Store) -> Result<Vec<(Directory, Record, Plan)>, Error> {
    let mut found = Vec::new();
    for id in store.ids()? {
        let Some(directory) = store.find(&id)? else {
            continue;
        };
        if let Ok(Some(record)) = directory.record()
            && let Ok(Some(plan)) = network::plan(&directory, &record)
        {
            found.push((directory, record, plan));
        }
    }
    Ok(found)
}

/// Checks that the plugins of the requested networks exist and the published ports are free.
///
/// # Errors
/// [`Error::PortTaken`], [`Error::Cni`].
pub(crate) fn check_requested(
    store: &Store,
    id: &ContainerId,
    plan: Option<&Plan>,
) -> Result<(), Error> {
    let Some(plan) = plan else { return Ok(()) };
    coracle_cni::locate_all(plan)?;
    check_ports(store, id, plan)
}

/// Checks that no other container publishes a port that `id` is to publish: both would succeed, and
/// only the first would be reached.
pub(crate) fn check_ports(store: &Store, id: &ContainerId, plan: &Plan) -> Result<(), Error> {
    if !plan.publishes() {
        return Ok(());
    }
    for (directory, _, other) in attached(store)? {
        if directory.id != *id
            && let Some(port) = plan.clash(&other)
        {
            let holder = directory.id;
            return Err(Error::PortTaken { port, holder });
        }
    }
    Ok(coracle_cni::check_ports(plan)?)
}

/// Runs CHECK of the plugins of the container's attachments (CNI SPEC § CHECK).
///
/// # Errors
/// [`Error::Cni`] with what a plugin found missing; [`Error::NotAttached`].
pub fn check_network(store: &Store, id: &ContainerId) -> Result<(), Error> {
    let (directory, record) = read(store, id)?;
    let plan = network::plan(&directory, &record)?.ok_or(Error::NotAttached)?;
    let namespace = directory.pinned_network();
    let container = coracle_cni::Container {
        id: id.as_ref(),
        namespace: namespace.as_deref(),
        limits: Limits::default(),
    };
    let mut attachments = plan.attachments.iter();
    attachments.try_for_each(|attachment| coracle_cni::check(&plan, attachment, &container))?;
    Ok(())
}

/// Removes what belongs to no container: attachments of creations that were killed, and everything
/// else that GC of the plugins finds, of the named networks or, if none is named, of all.
///
/// It knows only the containers of this state root: those of another one would lose their networks.
///
/// # Errors
/// The first failure, after everything else was tried.
pub fn gc(store: &Store, search: &Search, names: &[String]) -> Result<Vec<Released>, Error> {
    let configured = coracle_cni::read(&search.conf_dir)?;
    for name in names {
        coracle_cni::find(&configured, &search.conf_dir, name)?;
    }
    let is_meant = |network: &NetworkList| names.is_empty() || names.contains(&network.name);
    // Without a state root there is nothing to lock out.
    let _alone = match store.root().exists() {
        true => Some(lock::networks(store.root(), lock::Kind::Exclusive, None)?),
        false => None,
    };
    let (mut released, mut valid, mut failed) = (Vec::new(), Vec::new(), Ok(()));
    for (directory, record, plan) in attached(store)? {
        let begun: Vec<_> = plan.attachments.iter().filter(|a| a.begun).collect();
        let is_dead = !record.complete && state::status(&directory, &record) == Status::Stopped;
        if !is_dead || !begun.iter().any(|a| is_meant(&a.network)) {
            valid.extend(begun.iter().map(|a| key(&directory, a)));
            continue;
        }
        match release(&directory) {
            Ok(()) => released.extend(begun.iter().map(|a| Released {
                id: directory.id.as_ref().to_owned(),
                network: a.network.name.clone(),
                interface: a.interface.clone(),
            })),
            Err(error) => {
                valid.extend(begun.iter().map(|a| key(&directory, a)));
                failed = failed.and(Err(error));
            }
        }
    }
    for (_, network) in &configured.lists {
        if !is_meant(network) || !coracle_cni::knows_gc(network) {
            continue;
        }
        let ours = valid.iter().filter(|(name, _)| *name == network.name);
        let ours: Vec<_> = ours.map(|(_, pair)| pair.clone()).collect();
        let done = coracle_cni::gc(network, &ours, search).map_err(Error::from);
        failed = failed.and(done);
    }
    failed.map(|()| released)
}

/// The network's name, and the attachment's container and interface.
fn key(directory: &Directory, a: &coracle_cni::Attachment) -> (String, (String, String)) {
    let id = directory.id.as_ref().to_owned();
    (a.network.name.clone(), (id, a.interface.clone()))
}

/// Detaches the networks of a creation that was killed. `delete` does the rest.
fn release(directory: &Directory) -> Result<(), Error> {
    let _lock = lock::acquire(directory)?;
    let Some(mut record) = directory.record()? else {
        return Ok(());
    };
    network::detach(
        directory,
        &record,
        Force::No,
        Some(&interrupt::catch_for_undo()?),
    )?;
    record.network = None;
    directory.write_record(&record)
}
