//! `create ID`: runtime.md § Create.

use std::path::PathBuf;

use clap::Command;
use coracle_bundle::ContainerId;
use coracle_container::{ChangeRoot, CreateOptions, Keyring, Store};

use super::{Request, Verb};
use crate::arguments::flag::{handover, switch, value};
use crate::arguments::{Expected, Given, Order, Usage, network};
use crate::error::Error;
use crate::log::{Level, Log};

pub(super) const VERB: Verb = Verb {
    name: "create",
    synopsis: "ID",
    about: "Create a container that waits for `start`",
    order: Order::Anywhere,
    flags,
    read: |given| read(given).map(Request::Create),
};

/// The flags of `create`, which are also `run`'s.
pub(super) fn flags(command: Command) -> Command {
    let command = command
        .arg(value("bundle", "DIR", "Find config.json here [default: .]").short('b'))
        .args(handover())
        .arg(switch(
            "no-pivot",
            "Change the root without pivot_root, as on a ramdisk",
        ))
        .arg(switch(
            "no-new-keyring",
            "Let the container inherit the session keyring",
        ));
    network::asking(command)
}

pub(super) fn read(given: &Given) -> Result<CreateOptions, Usage> {
    given.expect(Expected::Exactly(1))?;
    let bundle = given.path("bundle");
    options(given, given.id()?, bundle)
}

/// What the flags of `create` say of a container of this id.
pub(super) fn options(
    given: &Given,
    id: ContainerId,
    bundle: Option<PathBuf>,
) -> Result<CreateOptions, Usage> {
    let keyring = if given.is_on("no-new-keyring") {
        Keyring::Inherited
    } else {
        Keyring::New
    };
    Ok(CreateOptions {
        bundle: bundle.unwrap_or_else(|| PathBuf::from(".")),
        id,
        console_socket: given.path("console-socket"),
        pidfd_socket: given.path("pidfd-socket"),
        pid_file: given.path("pid-file"),
        change_root: if given.is_on("no-pivot") {
            ChangeRoot::MoveAndChroot
        } else {
            ChangeRoot::PivotRoot
        },
        keyring,
        preserve_fds: given.preserve_fds()?,
        cgroup_manager: given.global.cgroup_manager,
        rootless: given.global.rootless,
        network: network::asked(given)?,
        search: network::search(given)?,
    })
}

pub(super) fn run(store: &Store, options: &CreateOptions, log: &Log) -> Result<(), Error> {
    log.say_all(Level::Warning, &coracle_container::create(store, options)?);

    Ok(())
}
