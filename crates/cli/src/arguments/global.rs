//! The global flags, which may stand before or after the verb.

use coracle_container::{CgroupManager, Rootless};

use super::parse::parse_boolean;
use super::settings::Global;
use super::table::{Command, Flag, Order, switch, value};
use super::usage::Usage;
use super::values::Arguments;
use crate::log::{Format, Level, Settings};

/// The program itself.
pub(crate) const COMMAND: Command = Command {
    name: "",
    synopsis: "COMMAND [ARGUMENT...]",
    about: "Runs containers by the OCI runtime specification",
    order: Order::First,
    flags: &[FLAGS],
    examples: &[
        (
            "run --bundle /srv/web web1",
            "Run the container of a bundle",
        ),
        ("help run", "Explain a command"),
    ],
};

const FLAGS: &[Flag] = &[
    value("root", "DIR", "Keep the containers' state here"),
    value(
        "log",
        "FILE",
        "Append records to this file, not to stderr; or journald:NAME, syslog:NAME",
    ),
    value(
        "log-format",
        "text|json",
        "Write records so [default: text]",
    ),
    value(
        "log-level",
        "error|warning|info|debug",
        "Write records of this level and above [default: warning]",
    ),
    switch("debug", "The same as --log-level debug"),
    value(
        "trace",
        "FILE",
        "Write what is done when as JSON, which Perfetto and chrome://tracing show",
    ),
    value(
        "cgroup-manager",
        "cgroupfs|systemd|disabled",
        "Let this one make cgroups [default: cgroupfs]",
    ),
    switch("systemd-cgroup", "The same as --cgroup-manager systemd"),
    value(
        "rootless",
        "auto|true|false",
        "Tolerate missing rights on cgroups [default: auto]",
    ),
    value("criu", "PATH", "Ignored").hidden(),
];

/// The values of `--log-format`.
const FORMATS: [(&str, Format); 2] = [("text", Format::Text), ("json", Format::Json)];

/// Reads the global flags.
pub(crate) fn read(arguments: &Arguments) -> Result<Global, Usage> {
    Ok(Global {
        log: Settings {
            file: arguments.path("log"),
            format: arguments.choice("log-format", FORMATS)?.unwrap_or_default(),
            level: level(arguments)?,
        },
        trace: arguments.path("trace"),
        root: arguments.path("root"),
        cgroup_manager: cgroup_manager(arguments)?,
        rootless: arguments
            .parsed("rootless", "auto, true or false", parse_rootless)?
            .unwrap_or(Rootless::Auto),
        names_criu: arguments.value("criu").is_some(),
    })
}

/// The flags of logging on a line that is refused, if valid: engines read the reason from the log.
pub(crate) fn read_log(arguments: &Arguments) -> Settings {
    let mut formats = arguments.values("log-format").rev();
    Settings {
        file: arguments.path("log"),
        format: formats
            .find_map(|format| Some(FORMATS.iter().find(|(name, _)| format == name)?.1))
            .unwrap_or_default(),
        level: Level::default(),
    }
}

fn level(arguments: &Arguments) -> Result<Level, Usage> {
    let named = arguments.parsed("log-level", "error, warning, info or debug", parse_level)?;
    let default = arguments.choose("debug", Level::Debug, Level::default());
    Ok(named.unwrap_or(default))
}

fn cgroup_manager(arguments: &Arguments) -> Result<CgroupManager, Usage> {
    let managers = [
        ("cgroupfs", CgroupManager::Cgroupfs),
        ("systemd", CgroupManager::Systemd),
        ("disabled", CgroupManager::Disabled),
    ];
    let named = arguments.choice("cgroup-manager", managers)?;
    let default = arguments.choose(
        "systemd-cgroup",
        CgroupManager::Systemd,
        CgroupManager::Cgroupfs,
    );
    Ok(named.unwrap_or(default))
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

fn parse_rootless(text: &[u8]) -> Option<Rootless> {
    match text {
        b"auto" => Some(Rootless::Auto),
        _ => match parse_boolean(text)? {
            true => Some(Rootless::True),
            false => Some(Rootless::False),
        },
    }
}
