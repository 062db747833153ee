//! `exec ID COMMAND`: one more process in a container.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Command;
use coracle_container::{ExecOptions, ExecProcess, Store};

use super::run::attachment;
use super::{Request, Verb};
use crate::arguments::flag::{handover, switch, value, values};
use crate::arguments::{Expected, Given, Order, Usage, parse_id, parse_user};
use crate::error::Error;
use crate::log::{Level, Log};

pub(super) const VERB: Verb = Verb {
    name: "exec",
    synopsis: "ID COMMAND [ARGUMENT...]",
    about: "Execute a process in a running container",
    order: Order::First,
    flags,
    read,
};

fn flags(command: Command) -> Command {
    command
        .arg(value("process", "FILE", "Execute the process object in this file").short('p'))
        .arg(value("cwd", "DIR", "Change the working directory"))
        .arg(values("env", "NAME=VALUE", "Add to the environment").short('e'))
        .arg(switch("tty", "Allocate a terminal").short('t'))
        .arg(value("user", "UID[:GID]", "Change the user; numbers only").short('u'))
        .arg(values("additional-gids", "GID", "Add a supplementary group").short('g'))
        .arg(switch("detach", "Return once the process runs").short('d'))
        .args(handover())
        .arg(value("process-label", "LABEL", "Change the SELinux label"))
        .arg(value("apparmor", "PROFILE", "Change the AppArmor profile"))
        .arg(switch("no-new-privs", "Set no_new_privs"))
        .arg(values("cap", "CAPABILITY", "Add a capability").short('c'))
        .arg(values(
            "cgroup",
            "[CONTROLLER,...:]PATH",
            "Join a cgroup below the container's",
        ))
        .arg(switch("ignore-paused", "Go on in a paused container"))
}

fn read(given: &Given) -> Result<Request, Usage> {
    given.expect(Expected::Minimum(1))?;
    let capability = |text: &[u8]| {
        let name = std::str::from_utf8(text).ok()?.to_ascii_uppercase();
        coracle_bundle::parse_capability(&name)
    };
    let text = |text: &[u8]| std::str::from_utf8(text).ok().map(str::to_owned);
    Ok(Request::Exec(ExecOptions {
        id: given.id()?,
        process: process(given)?,
        cwd: given.value("cwd").map(OsString::from),
        env: environment(given)?,
        tty: given.is_on("tty"),
        user: given.parsed("user", "UID or UID:GID, decimal numbers", parse_user)?,
        additional_gids: given.all_parsed("additional-gids", "a decimal number", parse_id)?,
        attachment: attachment(given),
        console_socket: given.path("console-socket"),
        pidfd_socket: given.path("pidfd-socket"),
        pid_file: given.path("pid-file"),
        process_label: given.text("process-label")?,
        apparmor: given.text("apparmor")?,
        no_new_privs: given.is_on("no-new-privs"),
        capabilities: given.all_parsed("cap", "the name of a capability", capability)?,
        preserve_fds: given.preserve_fds()?,
        cgroup: given.all_parsed("cgroup", "UTF-8", text)?,
        ignore_paused: given.is_on("ignore-paused"),
    }))
}

/// A file wins over a command line, as in runc.
fn process(given: &Given) -> Result<ExecProcess, Usage> {
    if let Some(file) = given.path("process") {
        return Ok(ExecProcess::File(file));
    }
    match given.arguments.get(1..) {
        Some(command @ [_, ..]) => Ok(ExecProcess::Command(command.to_vec())),
        _ => Err(Usage::NoCommand),
    }
}

fn environment(given: &Given) -> Result<Vec<OsString>, Usage> {
    let is_pair = |text: &[u8]| {
        text.iter()
            .position(|byte| *byte == b'=')
            .is_some_and(|at| at > 0)
    };
    given.all_parsed("env", "NAME=VALUE", |text| {
        is_pair(text).then(|| std::ffi::OsStr::from_bytes(text).to_owned())
    })
}

/// Gives the process' exit code, or 0 when detached.
pub(super) fn run(store: &Store, options: &ExecOptions, log: &Log) -> Result<i32, Error> {
    let ended = coracle_container::exec(store, options)?;
    log.say_all(Level::Warning, &ended.warnings);
    Ok(ended.code)
}
