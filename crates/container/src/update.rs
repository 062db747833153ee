//! `update`: new limits for a container, in its cgroups and in its stored config; both or neither.

mod limit;
mod merge;

use std::path::PathBuf;

use coracle_bundle::{ContainerId, Resources};
use coracle_cgroups::Change;
use coracle_host::Needs;
use serde_json::Value;

use crate::error::Error;
use crate::input;
use crate::inspect::allow;
use crate::lock;
use crate::moved;
use crate::status::Verb;
use crate::store::{Directory, Store};
pub use limit::{Kind, LIMITS, Limit};
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
    /// The same, for memory bandwidth.
    pub mem_bw_schema: Option<String>,
}

/// Where new limits come from.
#[derive(Clone, Debug)]
pub enum NewResources {
    /// A file with an object like `linux.resources`.
    File(PathBuf),
    /// The same on standard input.
    StandardInput,
    /// Flags, each with a number or text as its [`Kind`] says.
    Flags(Vec<(&'static Limit, Value)>),
}

/// Changes the limits of a container that is not stopped. Returns warnings, one line each.
///
/// # Errors
/// [`Error`] naming the property or the flag; limits and config are as they were then, or
/// [`coracle_cgroups::Error::Halfway`] says what is not.
pub fn update(store: &Store, options: &UpdateOptions) -> Result<Vec<String>, Error> {
    let text = text(&options.resources)?;
    let result = coracle_bundle::parse_resources(&text)
        .map_err(Error::from)
        .and_then(|requested| change(store, options, &requested, &text));
    result.map_err(|error| by_callers_name(error, &options.resources))
}

/// The resources object, as text.
fn text(resources: &NewResources) -> Result<Vec<u8>, Error> {
    match resources {
        NewResources::Flags(flags) => Ok(limit::object(flags).to_string().into_bytes()),
        NewResources::StandardInput => input::standard("--resources"),
        NewResources::File(path) => input::named("--resources", path),
    }
}

fn change(
    store: &Store,
    options: &UpdateOptions,
    requested: &Resources,
    text: &[u8],
) -> Result<Vec<String>, Error> {
    let directory = store.open(&options.id)?;
    let _lock = lock::acquire(&directory)?;
    let record = directory.present_record()?;
    allow(Verb::Update, &directory, &record)?;
    let groups = moved::groups(&record).ok_or_else(|| Error::NoCgroup {
        id: options.id.clone(),
        verb: "update",
    })?;
    let cgroup = groups.ours(&options.id, "update")?;
    let stored = directory.config()?;
    let old = coracle_bundle::parse(&record.bundle, &stored)?;
    let replaces_devices = coracle_cgroups::changes_devices(requested);
    let extras = Extras {
        replaces_devices,
        l3_cache_schema: options.l3_cache_schema.as_deref(),
        mem_bw_schema: options.mem_bw_schema.as_deref(),
    };
    let merged = merge::merge(tree(&directory, &stored)?, &tree(&directory, text)?, extras);
    let merged = merged.to_string().into_bytes();
    let new = coracle_bundle::parse(&record.bundle, &merged).map_err(beside_the_old)?;
    let schemata = [&options.l3_cache_schema, &options.mem_bw_schema];
    let schemata: Vec<String> = schemata.into_iter().flatten().cloned().collect();
    let change = Change {
        old: &old.linux.resources,
        requested,
        new: &new.linux.resources,
        schemata: &schemata,
    };
    let host = coracle_host::probe(Needs::default())?;
    let now = coracle_cgroups::survey(cgroup)?;
    let plan = coracle_cgroups::plan_update(&change, &host, &now)?;
    let undo = coracle_cgroups::update(cgroup, &plan)?;
    let progress = &directory.progress;
    progress.done(format_args!("wrote the limits that changed"));
    if let Err(error) = directory.replace_config(&merged) {
        undo.take_back()?;
        return Err(error);
    }
    let warnings = plan.warnings.into_iter();
    Ok(warnings.map(|text| renamed(&text, &[])).collect())
}

/// The caller's values are sound by themselves, so what is wrong with them is an old one.
fn beside_the_old(mut error: coracle_bundle::Error) -> coracle_bundle::Error {
    if let coracle_bundle::Error::Invalid { problem, .. } = &mut error {
        problem.push_str(" (with what the container has already)");
    }
    error
}

/// Both texts were parsed before, in stricter ways.
fn tree(directory: &Directory, text: &[u8]) -> Result<Value, Error> {
    serde_json::from_str(&String::from_utf8_lossy(text)).map_err(|error| Error::Corrupt {
        path: directory.path().join("config.json"),
        reason: error.to_string(),
    })
}

/// Names the value as the caller gave it: by the path in his object, or by the flag.
fn by_callers_name(mut error: Error, resources: &NewResources) -> Error {
    let flags = match resources {
        NewResources::Flags(flags) => &flags[..],
        _ => &[],
    };
    match &mut error {
        Error::Bundle(coracle_bundle::Error::Invalid { path, .. }) => *path = renamed(path, flags),
        Error::Cgroups(error) => {
            if let Some(path) = error.path_mut() {
                *path = renamed(path, flags);
            }
        }
        _ => {}
    }
    error
}

fn renamed(path: &str, flags: &[(&'static Limit, Value)]) -> String {
    let path = path.strip_prefix("config.json: ").unwrap_or(path);
    let inside = path.strip_prefix("linux.").unwrap_or(path);
    if inside.starts_with("intelRdt") {
        return path.to_owned();
    }
    let is_flag = |limit: &&Limit| flags.iter().any(|(flag, _)| flag == limit);
    match Limit::at(inside).filter(is_flag) {
        Some(limit) => format!("--{}", limit.flag),
        None => inside.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_called_as_the_caller_called_them() {
        let flags = [(limit::named("cpu-period"), Value::from(5))];
        for (path, flags, expected) in [
            ("resources.cpu.period", &flags[..], "--cpu-period"),
            (
                "config.json: linux.resources.cpu.period",
                &flags,
                "--cpu-period",
            ),
            ("linux.resources.cpu.period", &[], "resources.cpu.period"),
            ("linux.resources.cpu.burst", &flags, "resources.cpu.burst"),
            ("linux.intelRdt", &flags, "linux.intelRdt"),
        ] {
            assert_eq!(renamed(path, flags), expected);
        }
    }
}
