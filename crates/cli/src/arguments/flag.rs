//! The words in which verbs write their table of flags.
//!
//! One table serves reading, `--help` and whatever is generated from it.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, value_parser};

/// Behind the flags that tell commands apart.
const LAST: usize = 999;

/// A command with the flags that each has. `synopsis` is what comes after the options.
pub(crate) fn command(name: &'static str, synopsis: &str, about: &'static str) -> Command {
    let own = if name.is_empty() {
        "coracle".to_owned()
    } else {
        format!("coracle {name}")
    };
    let usage = match synopsis {
        "" => format!("{own} [OPTIONS]"),
        _ => format!("{own} [OPTIONS] {synopsis}"),
    };
    Command::new(name)
        .about(about)
        .override_usage(usage)
        .no_binary_name(true)
        // A flag given twice counts as given last.
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(switch("help", "Print help").short('h').display_order(LAST))
        .arg(
            switch("version", "Print the version")
                .short('v')
                .display_order(LAST),
        )
}

/// A flag that is on or off.
pub(crate) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .action(ArgAction::SetTrue)
}

/// A flag with a value, any bytes.
pub(crate) fn value(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(placeholder)
        .help(help)
        .action(ArgAction::Set)
        .allow_hyphen_values(true)
        .value_parser(value_parser!(OsString))
}

/// A flag with a value that may be given several times.
pub(crate) fn values(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    value(name, placeholder, help).action(ArgAction::Append)
}

/// The flags of the sockets and of the pid file, which `create`, `run` and `exec` share.
pub(crate) fn handover() -> [Arg; 4] {
    [
        value(
            "console-socket",
            "PATH",
            "Send the terminal's master to this AF_UNIX socket",
        ),
        value(
            "pidfd-socket",
            "PATH",
            "Send a pidfd of the process to this AF_UNIX socket",
        ),
        value("pid-file", "PATH", "Write the process' id to this file"),
        value(
            "preserve-fds",
            "N",
            "Pass N more descriptors, after those of LISTEN_FDS",
        ),
    ]
}
