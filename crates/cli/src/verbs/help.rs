//! `help [COMMAND]`, and what `--help` and `--version` print.

use std::fmt::Write;
use std::path::Path;

use clap::Command;

use super::{Request, VERBS, Verb, find, table};
use crate::arguments::{Expected, Given, Order, Usage, global_table};

pub(super) const VERB: Verb = Verb {
    name: "help",
    synopsis: "[COMMAND]",
    about: "Print help, of a command if one is named",
    order: Order::Anywhere,
    flags: |command| command,
    read,
};

/// git's hash, for builds that say it.
pub(super) const COMMIT: Option<&str> = option_env!("CORACLE_COMMIT");

fn read(given: &Given) -> Result<Request, Usage> {
    given.expect(Expected::Maximum(1))?;
    let text = match given.arguments.first() {
        None => overview(),
        Some(name) => rendered(&mut table(find(&name.to_string_lossy())?)),
    };
    Ok(Request::Print(text))
}

/// A command's `--help`.
pub(super) fn rendered(table: &mut Command) -> String {
    table.render_help().to_string()
}

/// The commands and the global flags.
pub(crate) fn overview() -> String {
    let mut commands = String::from("Commands:");
    for verb in &VERBS {
        // Writing to a String cannot fail.
        let _ = write!(commands, "\n  {:<10} {}", verb.name, verb.about);
    }
    let template = "{about}\n\n{usage-heading} {usage}\n\n{before-help}Options:\n{options}";
    let mut table = global_table().before_help(commands).help_template(template);
    table.render_help().to_string()
}

/// Three lines that go-runc and podman read.
pub(crate) fn version() -> String {
    version_of(called_runc())
}

/// Who is told the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Called {
    Runc,
    Otherwise,
}

/// Was this file started in runc's place?
fn called_runc() -> Called {
    let program = std::env::args_os().next().unwrap_or_default();
    match Path::new(&program).file_name() {
        Some(name) if name == "runc" => Called::Runc,
        _ => Called::Otherwise,
    }
}

/// go-runc reads a version only after runc's name, which whoever starts `runc` expects as well.
fn version_of(called: Called) -> String {
    let name = match called {
        Called::Runc => "runc",
        Called::Otherwise => "coracle",
    };
    let mut text = format!("{name} version {}\n", env!("CARGO_PKG_VERSION"));
    if let Some(commit) = COMMIT {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "commit: {commit}");
    }
    let _ = writeln!(text, "spec: {}", coracle_container::OCI_VERSION);
    text
}
