//! `update ID`: new limits for a container.

use coracle_container::{DeviceChanges, NewDevice, NewResources, Setting, UpdateOptions};
use serde_json::Value;
use std::path::PathBuf;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, flags_of, value};
use crate::arguments::{Arguments, Usage, parse_bytes, utf8};
use crate::error::Error;
use crate::log::Level;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "update",
        synopsis: "ID",
        about: "Change the limits of a container",
        order: Order::Anywhere,
        flags: &[RESOURCES, &flags_of(&LIMITS), OTHERS],
        examples: &[
            (
                "update --memory 512m --pids-limit 100 web1",
                "Set two limits of a running container",
            ),
            (
                "update --device /dev/fuse web1",
                "Give it a device of the host, with its node",
            ),
            (
                "update --resources limits.json web1",
                "Set those of a file, an object as linux.resources is",
            ),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

/// Flags of limits that kernels no longer have.
const OBSOLETE: [&str; 2] = ["kernel-memory", "kernel-memory-tcp"];

const RESOURCES: &[Flag] = &[value(
    "resources",
    "FILE",
    "Read linux.resources from this JSON file, or from standard input if it is -; \
     flags of limits are ignored then",
)
.short('r')];

const OTHERS: &[Flag] = &[
    value(
        "device",
        "PATH[:rwm]",
        "Add this device of the host with its node, and allow it [rwm]; may be repeated",
    ),
    value(
        "device-remove",
        "PATH",
        "Remove a device's node, and deny it; may be repeated",
    ),
    value("kernel-memory", "BYTES", "Ignored"),
    value("kernel-memory-tcp", "BYTES", "Ignored"),
    value(
        "l3-cache-schema",
        "LINE",
        "Change the resctrl group's line for the L3 cache",
    ),
    value(
        "mem-bw-schema",
        "LINE",
        "Change its line for memory bandwidth",
    ),
];

/// What a limit's flag takes, in words, and its value in JSON; `None` if the text has none.
type Kind = (&'static str, fn(&[u8]) -> Option<Value>);

const SIGNED: Kind = ("a whole number", number::<i64>);
const UNSIGNED: Kind = ("a whole number from 0", number::<u64>);
const LIST: Kind = ("a list such as 0-3,7", |text| utf8(text).map(Value::from));
const BYTES: Kind = ("bytes such as 64m, or -1", |text| {
    parse_bytes(text).map(Value::from)
});
/// For a file of cgroup v2, whose content is text in `unified`.
const BYTES_OR_MAX: Kind = (BYTES.0, |text| match parse_bytes(text)? {
    -1 => Some("max".into()),
    bytes => Some(bytes.to_string().into()),
});

/// What a limit's flag sets.
#[derive(Clone, Copy)]
struct Limit {
    kind: Kind,
    /// Section and key in the resources object.
    property: (&'static str, &'static str),
}

macro_rules! limits {
    ($($flag:literal $placeholder:literal $help:literal
    $kind:ident $section:literal $key:literal;)*) => {
        const LIMITS: [(Flag, Limit); [$($flag),*].len()] = [$((
            value($flag, $placeholder, $help),
            Limit { kind: $kind, property: ($section, $key) },
        )),*];
    };
}

limits! {
    "memory" "BYTES" "Memory; with a unit such as m or GiB, -1 is no limit"
        BYTES "memory" "limit";
    "memory-reservation" "BYTES" "Memory that is left to it under pressure"
        BYTES "memory" "reservation";
    "memory-swap" "BYTES" "Memory and swap together; -1 is no limit"
        BYTES "memory" "swap";
    "memory-zswap" "BYTES" "Compressed swap that stays in memory (cgroup v2); -1 is no limit"
        BYTES_OR_MAX "unified" "memory.zswap.max";
    "cpu-share" "N" "Weight against other containers, 2 to 262144"
        UNSIGNED "cpu" "shares";
    "cpu-period" "US" "Length of a period in microseconds"
        UNSIGNED "cpu" "period";
    "cpu-quota" "US" "CPU time in a period; -1 is no limit"
        SIGNED "cpu" "quota";
    "cpu-burst" "US" "Unused CPU time that may be saved for later periods"
        UNSIGNED "cpu" "burst";
    "cpu-idle" "0|1" "1: run only when the CPU is otherwise idle"
        SIGNED "cpu" "idle";
    "cpu-rt-period" "US" "Length of a period of realtime scheduling"
        UNSIGNED "cpu" "realtimePeriod";
    "cpu-rt-runtime" "US" "Realtime CPU time in such a period"
        SIGNED "cpu" "realtimeRuntime";
    "cpuset-cpus" "LIST" "CPUs to run on, such as 0-3,7"
        LIST "cpu" "cpus";
    "cpuset-mems" "LIST" "Memory nodes to use"
        LIST "cpu" "mems";
    "pids-limit" "N" "Number of processes; -1 is no limit"
        SIGNED "pids" "limit";
    "blkio-weight" "N" "Weight of its I/O, 10 to 1000"
        UNSIGNED "blockIO" "weight";
}

pub(super) struct Update {
    pub(super) options: UpdateOptions,
    /// The flags of [`OBSOLETE`] that are set.
    pub(super) ignored: Vec<&'static str>,
}

fn read(arguments: &Arguments) -> Result<Update, Usage> {
    let id = arguments.only_id()?;
    let resources = match arguments.path("resources") {
        Some(path) if path.as_os_str() == "-" => NewResources::StandardInput,
        Some(path) => NewResources::File(path),
        None => NewResources::Flags(limits(arguments)?),
    };
    let obsolete = OBSOLETE
        .into_iter()
        .filter(|name| arguments.value(name).is_some());
    Ok(Update {
        options: UpdateOptions {
            id,
            resources,
            l3_cache_schema: arguments.text("l3-cache-schema")?,
            mem_bw_schema: arguments.text("mem-bw-schema")?,
            devices: DeviceChanges {
                added: arguments.all_parsed("device", "PATH or PATH:rwm", device)?,
                removed: arguments
                    .values("device-remove")
                    .map(PathBuf::from)
                    .collect(),
            },
        },
        ignored: obsolete.collect(),
    })
}

/// An absolute path, and letters of `rwm` behind the last colon.
fn device(text: &[u8]) -> Option<NewDevice> {
    let text = utf8(text)?;
    let is_access =
        |access: &str| !access.is_empty() && access.chars().all(|letter| "rwm".contains(letter));
    let (path, access) = match text.rsplit_once(':') {
        Some((path, access)) if is_access(access) => (path.to_owned(), access.to_owned()),
        _ => (text, "rwm".to_owned()),
    };
    path.starts_with('/').then(|| NewDevice {
        path: path.into(),
        access,
    })
}

/// The limits whose flags are set. As in Go, an empty value counts as absent.
fn limits(arguments: &Arguments) -> Result<Vec<Setting>, Usage> {
    let mut settings = Vec::new();
    for (Flag { name, .. }, limit) in LIMITS {
        if arguments.value(name).is_some() {
            let value = arguments.parsed(name, limit.kind.0, limit.kind.1)?;
            settings.extend(value.map(|value| Setting {
                flag: name,
                property: limit.property,
                value,
            }));
        }
    }
    Ok(settings)
}

fn number<T: std::str::FromStr + Into<Value>>(text: &[u8]) -> Option<Value> {
    let number: T = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(number.into())
}

impl Request for Update {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let warnings = coracle_container::update(&context.store()?, &self.options)?;
        for name in &self.ignored {
            let text = format!("--{name} is ignored: kernels since 5.16 have no such limit");
            context.log.record(Level::Warning, &text);
        }
        context.log.warn_all(&warnings);
        Ok(0)
    }
}
