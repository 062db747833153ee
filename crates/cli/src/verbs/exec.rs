//! `exec ID COMMAND`: one more process in a container.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use coracle_container::{ExecOptions, ExecProcess};

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, OUTPUTS, Order, switch, value, values};
use crate::arguments::{Arguments, Expected, Usage, parse_id, parse_user};
use crate::error::Error;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "exec",
        synopsis: "ID COMMAND [ARGUMENT...]",
        about: "Execute a process in a running container",
        order: Order::First,
        flags: &[FLAGS, OUTPUTS, CONFINEMENT],
        examples: &[
            ("exec -t web1 sh", "Open a shell in a container"),
            (
                "exec --user 1000:1000 --env LANG=C web1 ls -l /",
                "Execute a program as another user",
            ),
        ],
    },
    needs_seal: true,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

const FLAGS: &[Flag] = &[
    value("process", "FILE", "Execute the process object in this file").short('p'),
    value("cwd", "CWD", "Change the working directory"),
    values("env", "NAME=VALUE", "Add to the environment").short('e'),
    switch("tty", "Allocate a terminal").short('t'),
    value("user", "UID[:GID]", "Change the user; numbers only").short('u'),
    values("additional-gids", "GID", "Add a supplementary group").short('g'),
    switch("detach", "Return once the process runs").short('d'),
];
const CONFINEMENT: &[Flag] = &[
    value("process-label", "LABEL", "Change the SELinux label"),
    value("apparmor", "PROFILE", "Change the AppArmor profile"),
    switch("no-new-privs", "Set no_new_privs"),
    values("cap", "CAPABILITY", "Add a capability").short('c'),
    values(
        "cgroup",
        "[CONTROLLER,...:]PATH",
        "Join a cgroup below the container's",
    ),
    switch("ignore-paused", "Go on in a paused container"),
];

fn read(arguments: &Arguments) -> Result<ExecOptions, Usage> {
    arguments.expect(Expected::Minimum(1))?;
    let capability = |text: &[u8]| {
        let name = std::str::from_utf8(text).ok()?.to_ascii_uppercase();
        coracle_bundle::parse_capability(&name)
    };
    Ok(ExecOptions {
        id: arguments.id()?,
        process: process(arguments)?,
        cwd: arguments.value("cwd").map(OsString::from),
        env: environment(arguments)?,
        tty: arguments.is_on("tty"),
        user: arguments.parsed("user", "UID or UID:GID, decimal numbers", parse_user)?,
        additional_gids: arguments.all_parsed("additional-gids", "a decimal number", parse_id)?,
        attachment: arguments.attachment(),
        outputs: arguments.outputs(),
        process_label: arguments.text("process-label")?,
        apparmor: arguments.text("apparmor")?,
        no_new_privs: arguments.is_on("no-new-privs"),
        capabilities: arguments.all_parsed("cap", "the name of a capability", capability)?,
        preserve_fds: arguments.preserve_fds()?,
        cgroup: arguments.texts("cgroup")?,
        ignore_paused: arguments.is_on("ignore-paused"),
    })
}

/// As in runc, a file takes precedence over a command.
fn process(arguments: &Arguments) -> Result<ExecProcess, Usage> {
    if let Some(file) = arguments.path("process") {
        return Ok(ExecProcess::File(file));
    }
    match arguments.words.get(1..) {
        Some(command @ [_, ..]) => Ok(ExecProcess::Command(command.to_vec())),
        _ => Err(Usage::NoCommand),
    }
}

fn environment(arguments: &Arguments) -> Result<Vec<OsString>, Usage> {
    let is_pair = |text: &[u8]| {
        text.iter()
            .position(|byte| *byte == b'=')
            .is_some_and(|at| at > 0)
    };
    arguments.all_parsed("env", "NAME=VALUE", |text| {
        is_pair(text).then(|| std::ffi::OsStr::from_bytes(text).to_owned())
    })
}

impl Request for ExecOptions {
    /// Returns the process's exit code, or 0 when detached.
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let ended = coracle_container::exec(&context.store()?, self)?;
        Ok(context.report(&ended))
    }
}
