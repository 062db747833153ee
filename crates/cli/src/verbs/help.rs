//! `help [COMMAND]`, and what `--help` and `--version` print.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Order};
use crate::arguments::{Arguments, Expected, Usage, global, help};
use crate::error::Error;
use crate::output;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "help",
        synopsis: "[COMMAND]",
        about: "Print help, of a command if one is named",
        order: Order::Anywhere,
        flags: &[],
        examples: &[("help", "List the commands"), ("help run", "Explain one")],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

/// The commit of this build, if `CORACLE_COMMIT` was set.
pub(super) const COMMIT: Option<&str> = option_env!("CORACLE_COMMIT");

/// Help on a command, or on the program.
pub(super) struct Help(Option<String>);

fn read(arguments: &Arguments) -> Result<Help, Usage> {
    arguments.expect(Expected::Maximum(1))?;
    let name = arguments.words.first();
    Ok(Help(name.map(|name| name.to_string_lossy().into_owned())))
}

impl Request for Help {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        output::text(&self.text(context.verbs)?)?;
        Ok(0)
    }
}

impl Help {
    pub(super) fn text(&self, verbs: &'static [Verb]) -> Result<String, Usage> {
        let Some(name) = &self.0 else {
            return Ok(overview(verbs));
        };
        let commands = verbs.iter().map(|verb| &verb.command);
        let named = commands.clone().find(|command| command.name == name);
        let named = named.ok_or_else(|| Usage::no_help_topic(name, commands))?;
        Ok(help::help(named, [].iter()))
    }
}

/// The commands and the global flags.
pub(crate) fn overview(verbs: &[Verb]) -> String {
    help::help(&global::COMMAND, verbs.iter().map(|verb| &verb.command))
}

/// The version text, whose three lines go-runc and podman parse. go-runc requires the name `runc`
/// before the version, so a file of that name prints it.
pub(crate) fn version() -> String {
    let program = coracle_sys::arguments().next().unwrap_or_default();
    let program = Path::new(OsStr::from_bytes(program.to_bytes()));
    let name = match program.file_name() {
        Some(name) if name == "runc" => "runc",
        _ => "coracle",
    };
    let mut text = format!("{name} version {}\n", env!("CARGO_PKG_VERSION"));
    if let Some(commit) = COMMIT {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "commit: {commit}");
    }
    let _ = writeln!(text, "spec: {}", coracle_container::OCI_VERSION);
    text
}
