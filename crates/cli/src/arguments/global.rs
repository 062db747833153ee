//! The flags of all verbs, before the verb or behind it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Command;
use coracle_container::{CgroupManager, Rootless};

use super::flag::{command, switch, value};
use super::given::Given;
use super::spelling::{Order, parse_boolean, part, spell};
use super::usage::Usage;
use crate::log::{Format, Level, Settings};

/// What holds for every verb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Global {
    pub(crate) log: Settings,
    /// As given; `None` is the caller's default.
    pub(crate) root: Option<PathBuf>,
    pub(crate) cgroup_manager: CgroupManager,
    pub(crate) rootless: Rootless,
    /// `--criu` of old go-runc, which nothing reads.
    pub(crate) names_criu: bool,
}

/// What the line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    Help,
    Version,
    Verb { name: String, rest: Vec<OsString> },
}

/// The table of the global flags.
pub(crate) fn table() -> Command {
    command(
        "",
        "COMMAND",
        "Runs containers by the OCI runtime specification",
    )
    .override_usage("coracle [OPTIONS] COMMAND [ARGUMENT...]")
    .arg(value("root", "DIR", "Keep the containers' state here"))
    .arg(value(
        "log",
        "FILE",
        "Append records to this file, not to stderr",
    ))
    .arg(value(
        "log-format",
        "FORMAT",
        "Write records as text or json [default: text]",
    ))
    .arg(value(
        "log-level",
        "LEVEL",
        "Write error, warning, info or debug and what is above it",
    ))
    .arg(switch("debug", "The same as --log-level debug"))
    .arg(value(
        "cgroup-manager",
        "NAME",
        "Use cgroupfs, systemd or disabled",
    ))
    .arg(switch(
        "systemd-cgroup",
        "The same as --cgroup-manager systemd",
    ))
    .arg(value(
        "rootless",
        "WHEN",
        "Tolerate missing rights on cgroups: auto, true or false",
    ))
    .arg(value("criu", "PATH", "Ignored").hide(true))
}

/// Puts global flags that stand behind the verb before it, where they are read. `own` has the
/// verb's table and says where its flags end; flags that both have are the verb's.
pub(crate) fn hoist(
    line: Vec<OsString>,
    own: impl FnOnce(&str) -> Option<(Command, Order)>,
) -> Vec<OsString> {
    let table = table();
    // What cannot be read before the verb is refused as it stands.
    let Ok(spelled) = spell(&table, line.clone(), Order::First) else {
        return line;
    };
    let behind = spelled.arguments.len();
    let mut arguments = spelled.arguments.into_iter();
    let verb = arguments.next();
    let Some((verb, (own, order))) = verb.and_then(|verb| {
        let own = own(&verb.to_string_lossy())?;
        Some((verb, own))
    }) else {
        return line;
    };
    let parted = part(&own, &table, arguments.collect(), order);
    let before = line.len().saturating_sub(behind);
    let mut line: Vec<OsString> = line.into_iter().take(before).collect();
    // `coracle -- VERB`
    if line.last().is_some_and(|word| word == "--") {
        line.pop();
    }
    match parted {
        Ok((hoisted, rest)) => {
            line.extend(hoisted);
            line.push(verb);
            line.extend(rest);
        }
        // What is missing is refused there: the verb must not be taken for it.
        Err(hoisted) => line.extend(hoisted),
    }
    line
}

/// Reads the global flags and finds the verb.
pub(crate) fn read(line: Vec<OsString>) -> Result<(Global, Called), Usage> {
    let none = Global::default();
    let given = Given::read(&mut table(), "", &none, (line, Order::First))?;
    if given.is_on("version") {
        return Ok((none, Called::Version));
    }
    if given.is_on("help") || given.arguments.is_empty() {
        return Ok((none, Called::Help));
    }
    let global = Global {
        log: Settings {
            file: given.path("log"),
            format: given
                .parsed("log-format", "text or json", parse_format)?
                .unwrap_or_default(),
            level: level(&given)?,
        },
        root: given.path("root"),
        cgroup_manager: cgroup_manager(&given)?,
        rootless: given
            .parsed("rootless", "auto, true or false", parse_rootless)?
            .unwrap_or(Rootless::Auto),
        names_criu: given.value("criu").is_some(),
    };
    let mut arguments = given.arguments.into_iter();
    let name = arguments
        .next()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok((
        global,
        Called::Verb {
            name,
            rest: arguments.collect(),
        },
    ))
}

/// What a line that is refused says of logging, since the log is where its caller looks for why.
/// Read as far as it can be taken apart.
pub(crate) fn read_log(mut line: Vec<OsString>) -> Settings {
    let table = table();
    let options = loop {
        match spell(&table, line.clone(), Order::First) {
            Ok(spelled) => break spelled.options,
            Err(_) => drop(line.pop()),
        }
    };
    let values = |flag: &'static [u8]| {
        let last_first = options.iter().rev();
        last_first.filter_map(move |option| option.as_bytes().strip_prefix(flag))
    };
    Settings {
        file: values(b"--log=")
            .next()
            .map(|path| OsStr::from_bytes(path).into()),
        format: values(b"--log-format=")
            .find_map(parse_format)
            .unwrap_or_default(),
        level: Level::default(),
    }
}

fn level(given: &Given) -> Result<Level, Usage> {
    let named = given.parsed("log-level", "error, warning, info or debug", parse_level)?;
    let default = if given.is_on("debug") {
        Level::Debug
    } else {
        Level::default()
    };
    Ok(named.unwrap_or(default))
}

fn cgroup_manager(given: &Given) -> Result<CgroupManager, Usage> {
    let expected = "cgroupfs, systemd or disabled";
    let named = given.parsed("cgroup-manager", expected, parse_cgroup_manager)?;
    let systemd = given.is_on("systemd-cgroup");
    let default = if systemd {
        CgroupManager::Systemd
    } else {
        CgroupManager::Cgroupfs
    };
    Ok(named.unwrap_or(default))
}

fn parse_format(text: &[u8]) -> Option<Format> {
    match text {
        b"text" => Some(Format::Text),
        b"json" => Some(Format::Json),
        _ => None,
    }
}

fn parse_level(text: &[u8]) -> Option<Level> {
    match text.to_ascii_lowercase().as_slice() {
        b"error" => Some(Level::Error),
        b"warning" | b"warn" => Some(Level::Warning),
        b"info" => Some(Level::Info),
        b"debug" | b"trace" => Some(Level::Debug),
        _ => None,
    }
}

fn parse_cgroup_manager(text: &[u8]) -> Option<CgroupManager> {
    match text {
        b"cgroupfs" => Some(CgroupManager::Cgroupfs),
        b"systemd" => Some(CgroupManager::Systemd),
        b"disabled" => Some(CgroupManager::Disabled),
        _ => None,
    }
}

fn parse_rootless(text: &[u8]) -> Option<Rootless> {
    match text {
        b"auto" => Some(Rootless::Auto),
        _ => match parse_boolean(text)? {
            true => Some(Rootless::True),
            false => Some(Rootless::False),
        },
    }
}
