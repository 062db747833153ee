//! `update`: changes limits of a container, in its cgroups and in its stored config; in both or in
//! neither.

mod devices;
mod merge;

use std::path::PathBuf;

use coracle_bundle::{ContainerId, Document, member};
use coracle_cgroups::Change;
use coracle_host::Needs;
use serde_json::{Map, Value};

use crate::directory::Directory;
use crate::error::Error;
use crate::input;
use crate::inspect::allow;
use crate::lock;
use crate::moved;
use crate::record::Record;
use crate::status::Verb;
use crate::store::Store;
use crate::tree;
pub use devices::{DeviceChanges, NewDevice};
use devices::{Nodes, Place};
use merge::Extras;

/// The flags of `update`.
#[derive(Clone, Debug)]
pub struct UpdateOptions {
    /// The container.
    pub id: ContainerId,
    /// The new limits.
    pub resources: NewResources,
    /// A line for the `schemata` of the container's resctrl group.
    pub l3_cache_schema: Option<String>,
    /// A line for the same file, for memory bandwidth.
    pub mem_bw_schema: Option<String>,
    /// Devices to add and to remove, with their nodes.
    pub devices: DeviceChanges,
}

/// The source of new limits.
#[derive(Clone, Debug)]
pub enum NewResources {
    /// A file with an object like `linux.resources`.
    File(PathBuf),
    /// Such an object on standard input.
    StandardInput,
    /// The values of flags.
    Flags(Vec<Setting>),
}

/// A limit that a flag sets.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The flag's name, without dashes.
    pub flag: &'static str,
    /// Section and key in the `resources` object.
    pub property: (&'static str, &'static str),
    /// The value.
    pub value: Value,
}

/// Changes the limits of a container that is not stopped. Returns warnings, one line each.
///
/// # Errors
/// [`Error`] naming the property or the flag. Limits and config are unchanged then, except those
/// that [`coracle_cgroups::Error::Halfway`] names.
pub fn update(store: &Store, options: &UpdateOptions) -> Result<Vec<String>, Error> {
    let requested = tree(&options.resources);
    let result = requested.and_then(|requested| change(store, options, &requested));
    result.map_err(|error| by_callers_name(error, &options.resources))
}

/// The resources object.
fn tree(resources: &NewResources) -> Result<Value, Error> {
    let text = match resources {
        NewResources::Flags(settings) => return Ok(object(settings)),
        NewResources::StandardInput => input::standard("--resources")?,
        NewResources::File(path) => input::named("--resources", path)?,
    };
    Ok(coracle_bundle::tree(Document::Resources, &text)?)
}

fn object(settings: &[Setting]) -> Value {
    let mut sections = Map::new();
    for Setting {
        property, value, ..
    } in settings
    {
        let (section, key) = *property;
        let section = sections.entry(section).or_insert_with(|| Map::new().into());
        if let Some(section) = section.as_object_mut() {
            section.insert(key.to_owned(), value.clone());
        }
    }
    Value::Object(sections)
}

fn change(store: &Store, options: &UpdateOptions, requested: &Value) -> Result<Vec<String>, Error> {
    coracle_bundle::parse_resources(requested)?;
    let directory = store.open(&options.id)?;
    let _lock = lock::acquire(&directory)?;
    let record = directory.present_record()?;
    allow(Verb::Update, &directory, &record)?;
    let stored = coracle_bundle::tree(Document::Config, &directory.config()?)?;
    if options.devices.are_none() {
        return write(options, (&directory, &record), (stored, requested), None);
    }
    let (mut changed, mut requested) = (stored.clone(), requested.clone());
    let (nodes, rules) = Nodes::plan(&mut changed, &options.devices)?;
    if requested.get("devices").is_some_and(Value::is_array) {
        let reason = "the device list of --resources and devices exclude each other".to_owned();
        let flag = "--device";
        return Err(Error::Value { flag, reason });
    }
    *tree::at(&mut requested, &["devices"]) = rules;
    let nodes = Some((&nodes, &stored));
    write(options, (&directory, &record), (changed, &requested), nodes)
}

/// Writes the limits, then makes and removes nodes, then replaces the stored config.
fn write(
    options: &UpdateOptions,
    (directory, record): (&Directory, &Record),
    (stored, requested): (Value, &Value),
    nodes: Option<(&Nodes, &Value)>,
) -> Result<Vec<String>, Error> {
    let resources = coracle_bundle::parse_resources(requested)?;
    let groups = moved::groups(record).ok_or(Error::NoCgroup { verb: "update" })?;
    let cgroup = groups.ours("update")?;
    let before = nodes.map_or(&stored, |(_, before)| before);
    let old = coracle_bundle::parse_tree(&record.bundle, before)?;
    let extras = Extras {
        replaces_devices: coracle_cgroups::changes_devices(&resources),
        l3_cache_schema: options.l3_cache_schema.as_deref(),
        mem_bw_schema: options.mem_bw_schema.as_deref(),
    };
    let merged = merge::merge(stored.clone(), requested, extras);
    let new = coracle_bundle::parse_tree(&record.bundle, &merged).map_err(beside_the_old)?;
    let merged = coracle_bundle::text(Document::Config, &merged)?;
    let schemata = [&options.l3_cache_schema, &options.mem_bw_schema];
    let schemata: Vec<String> = schemata.into_iter().flatten().cloned().collect();
    let change = Change {
        old: &old.linux.resources,
        requested: &resources,
        new: &new.linux.resources,
        schemata: &schemata,
    };
    let host = coracle_host::probe(Needs {
        namespaces: nodes.is_some(),
        ..Needs::default()
    })?;
    let now = coracle_cgroups::survey(cgroup)?;
    let plan = coracle_cgroups::plan_update(&change, &host, &now)?;
    let undo = coracle_cgroups::update(cgroup, &plan)?;
    let progress = &directory.progress;
    progress.done(format_args!("wrote the limits that changed"));
    let place = Place {
        directory,
        record,
        stored: &stored,
        host: &host,
    };
    let made = nodes.map_or(Ok(()), |(nodes, _)| nodes.change(&place));
    let stored = made.and_then(|()| {
        let replaced = directory.replace_config(&merged);
        replaced.inspect_err(|_| {
            if let Some((nodes, _)) = nodes {
                nodes.take_back(&place);
            }
        })
    });
    if let Err(error) = stored {
        undo.take_back()?;
        return Err(error);
    }
    let warnings = plan.warnings.into_iter();
    Ok(warnings.map(|text| renamed(&text, &[])).collect())
}

/// Adds to an error that a stored value is the cause: the request was valid by itself.
fn beside_the_old(mut error: coracle_bundle::Error) -> coracle_bundle::Error {
    if let coracle_bundle::Error::Invalid { problem, .. } = &mut error {
        problem.push_str(" (with what the container has already)");
    }
    error
}

/// Names the value as the caller does: by its path in the request, or by the flag.
fn by_callers_name(mut error: Error, resources: &NewResources) -> Error {
    let settings = match resources {
        NewResources::Flags(settings) => &settings[..],
        _ => &[],
    };
    match &mut error {
        Error::Bundle(coracle_bundle::Error::Invalid { path, .. }) => {
            *path = renamed(path, settings)
        }
        Error::Cgroups(error) => {
            if let Some(path) = error.path_mut() {
                *path = renamed(path, settings);
            }
        }
        _ => {}
    }
    error
}

fn renamed(path: &str, settings: &[Setting]) -> String {
    let path = path.strip_prefix("config.json: ").unwrap_or(path);
    let inside = path.strip_prefix("linux.").unwrap_or(path);
    if inside.starts_with("intelRdt") {
        return path.to_owned();
    }
    let is_here = |setting: &&Setting| {
        let (section, key) = setting.property;
        member(&format!("resources.{section}"), key) == inside
    };
    match settings.iter().find(is_here) {
        Some(setting) => format!("--{}", setting.flag),
        None => inside.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn setting(flag: &'static str, section: &'static str, key: &'static str) -> Setting {
        Setting {
            flag,
            property: (section, key),
            value: json!(5),
        }
    }

    #[test]
    fn flags_become_an_object() {
        let settings = [
            setting("memory", "memory", "limit"),
            setting("cpu-period", "cpu", "period"),
            setting("cpu-quota", "cpu", "quota"),
        ];
        assert_eq!(
            object(&settings),
            json!({"memory": {"limit": 5}, "cpu": {"period": 5, "quota": 5}})
        );
    }

    #[test]
    fn values_are_called_as_the_caller_called_them() {
        let zswap = "resources.unified[\"memory.zswap.max\"]";
        let settings = [
            setting("cpu-period", "cpu", "period"),
            setting("memory-zswap", "unified", "memory.zswap.max"),
        ];
        for (path, settings, expected) in [
            ("resources.cpu.period", &settings[..], "--cpu-period"),
            (
                "config.json: linux.resources.cpu.period",
                &settings,
                "--cpu-period",
            ),
            (zswap, &settings, "--memory-zswap"),
            ("linux.resources.cpu.period", &[], "resources.cpu.period"),
            (
                "linux.resources.cpu.burst",
                &settings,
                "resources.cpu.burst",
            ),
            ("linux.intelRdt", &settings, "linux.intelRdt"),
        ] {
            assert_eq!(renamed(path, settings), expected);
        }
    }
}
