//! `update --device`, `--device-remove`: devices of a running container, with their nodes and their
//! lines of the device filter.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use coracle_bundle::Config;
use coracle_host::Host;
use coracle_launch::Taken;
use nix::sys::stat::{major, minor};
use serde_json::{Value, json};

use crate::directory::Directory;
use crate::error::{Error, with_path};
use crate::mounts;
use crate::record::Record;
use crate::tree;

/// The nodes of the config.
const NODES: [&str; 2] = ["linux", "devices"];
/// The device list of its filter.
const RULES: [&str; 3] = ["linux", "resources", "devices"];

/// A device that is requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// Its path, on the host and in the container.
    pub path: PathBuf,
    /// Letters of `rwm`.
    pub access: String,
}

/// The devices that an update adds and removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceChanges {
    /// To add.
    pub added: Vec<NewDevice>,
    /// Paths of devices to remove.
    pub removed: Vec<PathBuf>,
}

impl DeviceChanges {
    pub(super) fn are_none(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// The nodes to make and to remove, as entries of `linux.devices`.
pub(super) struct Nodes {
    made: Vec<Value>,
    removed: Vec<Value>,
}

impl Nodes {
    /// Puts the changes into the stored config, and returns them with the device
    /// list of the filter that they lead to. Reads the host's nodes.
    ///
    /// A removed device is denied by name: a list without its line may allow it by another.
    pub(super) fn plan(
        stored: &mut Value,
        changes: &DeviceChanges,
    ) -> Result<(Self, Value), Error> {
        let found = changes.added.iter().map(|new| on_host(&new.path));
        let added = found.collect::<Result<Vec<_>, _>>()?;
        let mut nodes = taken(tree::at(stored, &NODES));
        let mut removed = Vec::new();
        for path in &changes.removed {
            let index = nodes.iter().position(|node| is_at(node, path));
            let index = index.ok_or_else(|| refused(path, "is no device of linux.devices"))?;
            removed.push(nodes.remove(index));
        }
        // A node that is there already stays: another mount would be bound over it, and an undo
        // would take it away.
        let is_same = |known: &Value, node: &Value| {
            let keys = ["path", "type", "major", "minor"];
            keys.iter().all(|key| known[*key] == node[*key])
        };
        let new = |node: &&Value| !nodes.iter().any(|known| is_same(known, node));
        let made = added.iter().filter(new).cloned().collect();
        for node in &added {
            nodes.retain(|known| known["path"] != node["path"]);
            nodes.push(node.clone());
        }
        *tree::at(stored, &NODES) = nodes.into();
        let mut rules = taken(tree::at(stored, &RULES));
        for node in removed.iter().chain(&added) {
            let keys = ["type", "major", "minor"];
            rules.retain(|rule| keys.iter().any(|key| rule[*key] != node[*key]));
        }
        rules.extend(removed.iter().map(|node| rule(node, "rwm", false)));
        let access = changes.added.iter().map(|new| new.access.as_str());
        rules.extend(
            added
                .iter()
                .zip(access)
                .map(|(node, access)| rule(node, access, true)),
        );
        *tree::at(stored, &RULES) = rules.clone().into();
        Ok((Self { made, removed }, rules.into()))
    }

    /// Makes and removes the nodes.
    ///
    /// # Errors
    /// The first that fails; the nodes are as before then.
    pub(super) fn change(&self, place: &Place) -> Result<(), Error> {
        let mut undo = Vec::new();
        for (node, is_new) in self.each() {
            let done = match is_new {
                true => place.make(node),
                false => place.remove(node),
            };
            if let Err(error) = done {
                undo.iter().rev().for_each(|undo| place.take_back(*undo));
                return Err(error);
            }
            undo.push((node, is_new));
        }
        Ok(())
    }

    /// Takes the changes back, as far as the container lets it.
    pub(super) fn take_back(&self, place: &Place) {
        self.each().rev().for_each(|done| place.take_back(done));
    }

    fn each(&self) -> impl DoubleEndedIterator<Item = (&Value, bool)> {
        let removed = self.removed.iter().map(|node| (node, false));
        removed.chain(self.made.iter().map(|node| (node, true)))
    }
}

/// Where the nodes are.
pub(super) struct Place<'a> {
    pub(super) directory: &'a Directory,
    pub(super) record: &'a Record,
    /// The config as it is stored.
    pub(super) stored: &'a Value,
    pub(super) host: &'a Host,
}

impl Place<'_> {
    fn config(&self, node: &Value) -> Result<Config, Error> {
        let stored = self.stored.clone();
        Ok(mounts::only(stored, self.record, json!([]), json!([node]))?)
    }

    fn make(&self, node: &Value) -> Result<(), Error> {
        let config = self.config(node)?;
        let plan = coracle_launch::plan_added(&config, self.host);
        let plan = plan.map_err(coracle_launch::Error::from)?;
        let id = &self.directory.id;
        let (_, running) = mounts::find(id, self.record, &config, self.host)?;
        coracle_launch::add(running, &plan, self.host)?;
        let progress = &self.directory.progress;
        progress.done(format_args!("{}", plan.describe(0)));
        Ok(())
    }

    fn remove(&self, node: &Value) -> Result<(), Error> {
        let config = self.config(node)?;
        let id = &self.directory.id;
        for device in &config.linux.devices {
            let (_, running) = mounts::find(id, self.record, &config, self.host)?;
            let place = mounts::c_string(&device.path)?;
            coracle_launch::remove(running, Taken::Node(&place, device), self.host)?;
            let progress = &self.directory.progress;
            progress.done(format_args!("removed device {}", device.path.display()));
        }
        Ok(())
    }

    /// The error that led here is reported, and not one of this.
    fn take_back(&self, (node, is_new): (&Value, bool)) {
        let _ = match is_new {
            true => self.remove(node),
            false => self.make(node),
        };
    }
}

/// Takes the list out; none where it is missing or null.
fn taken(place: &mut Value) -> Vec<Value> {
    match place.take() {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

fn is_at(node: &Value, path: &Path) -> bool {
    node["path"].as_str().map(Path::new) == Some(path)
}

fn rule(node: &Value, access: &str, allow: bool) -> Value {
    json!({
        "allow": allow, "type": node["type"], "major": node["major"], "minor": node["minor"],
        "access": access,
    })
}

/// The host's device, as an entry of `linux.devices`.
fn on_host(path: &Path) -> Result<Value, Error> {
    let found = std::fs::metadata(path)
        .map_err(|error| with_path("look at", path)(coracle_text::io_errno(&error)))?;
    let kind = found.file_type();
    let kind = match (kind.is_char_device(), kind.is_block_device()) {
        (true, _) => "c",
        (_, true) => "b",
        _ => return Err(refused(path, "is no device of the host")),
    };
    Ok(json!({
        "path": path, "type": kind,
        "major": major(found.rdev()), "minor": minor(found.rdev()),
        "fileMode": found.mode() & 0o777, "uid": 0, "gid": 0,
    }))
}

fn refused(path: &Path, reason: &'static str) -> Error {
    Error::Mount {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(
        stored: &mut Value,
        added: &[&str],
        removed: &[&str],
    ) -> Result<(Value, usize), String> {
        let changes = DeviceChanges {
            added: added
                .iter()
                .map(|path| NewDevice {
                    path: path.into(),
                    access: "rw".to_owned(),
                })
                .collect(),
            removed: removed.iter().map(PathBuf::from).collect(),
        };
        let planned = Nodes::plan(stored, &changes);
        planned
            .map(|(nodes, rules)| (rules, nodes.made.len()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_device_comes_and_goes() {
        let deny = json!({"allow": false, "access": "rwm"});
        let mut stored = json!({"linux": {"resources": {"devices": [deny]}, "devices": null}});
        let allowed = json!({
            "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"
        });
        let (rules, made) = planned(&mut stored, &["/dev/null"], &[]).unwrap();
        assert_eq!((&rules, made), (&json!([deny, allowed]), 1));
        assert_eq!(stored["linux"]["devices"][0]["path"], "/dev/null");
        // Once more changes nothing.
        let again = planned(&mut stored, &["/dev/null"], &[]).unwrap();
        assert_eq!(again, (rules, 0));
        let denied = json!({
            "allow": false, "type": "c", "major": 1, "minor": 3, "access": "rwm"
        });
        let (rules, _) = planned(&mut stored, &[], &["/dev/null"]).unwrap();
        assert_eq!(rules, json!([deny, denied]));
        assert_eq!(stored["linux"]["devices"], json!([]));
    }

    #[test]
    fn what_is_no_device_is_refused() {
        let mut stored = json!({"linux": {}});
        let refused = planned(&mut stored, &["/usr"], &[]).unwrap_err();
        assert_eq!(refused, "\"/usr\": is no device of the host");
        let refused = planned(&mut stored, &[], &["/dev/null"]).unwrap_err();
        assert_eq!(refused, "\"/dev/null\": is no device of linux.devices");
    }
}
