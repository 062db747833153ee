//! `update ID`: new limits for a container.

use clap::Command;
use coracle_container::{Limit, LimitKind, NewResources, Store, UpdateOptions};

use super::{Request, Verb};
use crate::arguments::flag::value;
use crate::arguments::{Given, Order, Usage, parse_bytes};
use crate::error::Error;
use crate::log::{Level, Log};

pub(super) const VERB: Verb = Verb {
    name: "update",
    synopsis: "ID",
    about: "Change the limits of a container",
    order: Order::Anywhere,
    flags,
    read,
};

/// Limits that no kernel has any more.
const OBSOLETE: [&str; 2] = ["kernel-memory", "kernel-memory-tcp"];

fn flags(command: Command) -> Command {
    let resources = "Read linux.resources from this JSON file, or from standard input if it is -; \
                     flags of limits are ignored then";
    let limits = Limit::ALL.map(|limit| {
        let (placeholder, help) = shown(limit);
        value(limit.flag(), placeholder, help)
    });
    command
        .arg(value("resources", "FILE", resources).short('r'))
        .args(limits)
        .args(OBSOLETE.map(|name| value(name, "BYTES", "Ignored")))
        .arg(value(
            "l3-cache-schema",
            "LINE",
            "Change the resctrl group's line for the L3 cache",
        ))
        .arg(value(
            "mem-bw-schema",
            "LINE",
            "Change its line for memory bandwidth",
        ))
}

fn shown(limit: Limit) -> (&'static str, &'static str) {
    match limit {
        Limit::Memory => (
            "BYTES",
            "Memory; with a unit such as m or GiB, -1 is no limit",
        ),
        Limit::MemoryReservation => ("BYTES", "Memory that is left to it under pressure"),
        Limit::MemorySwap => ("BYTES", "Memory and swap together; -1 is no limit"),
        Limit::CpuShare => ("N", "Weight against other containers, 2 to 262144"),
        Limit::CpuPeriod => ("US", "Length of a period in microseconds"),
        Limit::CpuQuota => ("US", "CPU time in a period; -1 is no limit"),
        Limit::CpuBurst => ("US", "Unused CPU time that may be saved for later periods"),
        Limit::CpuIdle => ("0|1", "1: run only when nobody else wants to"),
        Limit::CpuRtPeriod => ("US", "Length of a period of realtime scheduling"),
        Limit::CpuRtRuntime => ("US", "Realtime CPU time in such a period"),
        Limit::CpusetCpus => ("LIST", "CPUs to run on, such as 0-3,7"),
        Limit::CpusetMems => ("LIST", "Memory nodes to use"),
        Limit::PidsLimit => ("N", "Number of processes; -1 is no limit"),
        Limit::BlkioWeight => ("N", "Weight of its I/O, 10 to 1000"),
    }
}

fn read(given: &Given) -> Result<Request, Usage> {
    let id = given.only_id()?;
    let resources = match given.path("resources") {
        Some(path) if path.as_os_str() == "-" => NewResources::StandardInput,
        Some(path) => NewResources::File(path),
        None => NewResources::Flags(limits(given)?),
    };
    let obsolete = OBSOLETE
        .into_iter()
        .filter(|name| given.value(name).is_some());
    Ok(Request::Update {
        options: UpdateOptions {
            id,
            resources,
            l3_cache_schema: given.text("l3-cache-schema")?,
            mem_bw_schema: given.text("mem-bw-schema")?,
        },
        ignored: obsolete.collect(),
    })
}

/// The canonical spelling of a value; `None` if it is none.
type Parse = fn(&[u8]) -> Option<String>;

/// The limits whose flags are given. An empty value counts as none, as in Go.
fn limits(given: &Given) -> Result<Vec<(Limit, String)>, Usage> {
    let mut limits = Vec::new();
    for limit in Limit::ALL {
        if given.value(limit.flag()).is_none() {
            continue;
        }
        let (expected, parse): (_, Parse) = match limit.kind() {
            LimitKind::Signed => ("a whole number", |text| number::<i64>(text)),
            LimitKind::Unsigned => ("a whole number from 0", |text| number::<u64>(text)),
            LimitKind::Bytes => ("bytes such as 64m, or -1", |text| {
                Some(parse_bytes(text)?.to_string())
            }),
            LimitKind::Text => ("a list such as 0-3,7", |text| {
                Some(std::str::from_utf8(text).ok()?.to_owned())
            }),
        };
        let value = given.parsed(limit.flag(), expected, parse)?;
        limits.extend(value.map(|value| (limit, value)));
    }
    Ok(limits)
}

fn number<T: std::str::FromStr + ToString>(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    Some(text.parse::<T>().ok()?.to_string())
}

pub(super) fn run(
    store: &Store,
    options: &UpdateOptions,
    ignored: &[&str],
    log: &Log,
) -> Result<(), Error> {
    let warnings = coracle_container::update(store, options)?;
    for name in ignored {
        let text = format!("--{name} is ignored: kernels since 5.16 have no such limit");
        log.say(Level::Warning, &text);
    }
    log.say_all(Level::Warning, &warnings);
    Ok(())
}
