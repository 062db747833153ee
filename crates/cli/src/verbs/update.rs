//! `update ID`: new limits for a container.

use coracle_container::{LIMITS, Limit, LimitKind, NewResources, UpdateOptions};
use serde_json::Value;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, value};
use crate::arguments::{Arguments, Usage, parse_bytes};
use crate::error::Error;
use crate::log::Level;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "update",
        synopsis: "ID",
        about: "Change the limits of a container",
        order: Order::Anywhere,
        flags: &[FLAGS],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

/// Flags of limits that kernels no longer have.
const OBSOLETE: [&str; 2] = ["kernel-memory", "kernel-memory-tcp"];

const FLAGS: &[Flag] = &[
    value(
        "resources",
        "FILE",
        "Read linux.resources from this JSON file, or from standard input if it is -; \
         flags of limits are ignored then",
    )
    .short('r'),
    value(
        "memory",
        "BYTES",
        "Memory; with a unit such as m or GiB, -1 is no limit",
    ),
    value(
        "memory-reservation",
        "BYTES",
        "Memory that is left to it under pressure",
    ),
    value(
        "memory-swap",
        "BYTES",
        "Memory and swap together; -1 is no limit",
    ),
    value(
        "memory-zswap",
        "BYTES",
        "Compressed swap that stays in memory (cgroup v2); -1 is no limit",
    ),
    value(
        "cpu-share",
        "N",
        "Weight against other containers, 2 to 262144",
    ),
    value("cpu-period", "US", "Length of a period in microseconds"),
    value("cpu-quota", "US", "CPU time in a period; -1 is no limit"),
    value(
        "cpu-burst",
        "US",
        "Unused CPU time that may be saved for later periods",
    ),
    value(
        "cpu-idle",
        "0|1",
        "1: run only when the CPU is otherwise idle",
    ),
    value(
        "cpu-rt-period",
        "US",
        "Length of a period of realtime scheduling",
    ),
    value("cpu-rt-runtime", "US", "Realtime CPU time in such a period"),
    value("cpuset-cpus", "LIST", "CPUs to run on, such as 0-3,7"),
    value("cpuset-mems", "LIST", "Memory nodes to use"),
    value("pids-limit", "N", "Number of processes; -1 is no limit"),
    value("blkio-weight", "N", "Weight of its I/O, 10 to 1000"),
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
        },
        ignored: obsolete.collect(),
    })
}

/// A value's number or text; `None` if it is none.
type Parse = fn(&[u8]) -> Option<Value>;

/// The limits whose flags are set. An empty value counts as absent, as in Go.
fn limits(arguments: &Arguments) -> Result<Vec<(&'static Limit, Value)>, Usage> {
    let mut limits = Vec::new();
    for limit in &LIMITS {
        if arguments.value(limit.flag).is_none() {
            continue;
        }
        let (expected, parse): (_, Parse) = match limit.kind {
            LimitKind::Signed => ("a whole number", number::<i64>),
            LimitKind::Unsigned => ("a whole number from 0", number::<u64>),
            LimitKind::Bytes => ("bytes such as 64m, or -1", |text| {
                parse_bytes(text).map(Value::from)
            }),
            LimitKind::Text => ("a list such as 0-3,7", |text| {
                Some(Value::from(std::str::from_utf8(text).ok()?))
            }),
        };
        let value = arguments.parsed(limit.flag, expected, parse)?;
        limits.extend(value.map(|value| (limit, value)));
    }
    Ok(limits)
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
