//! `delete ID`: runtime.md § Delete.

use clap::Command;
use coracle_bundle::ContainerId;
use coracle_container::{Force, Store};

use super::{Request, Verb};
use crate::arguments::flag::switch;
use crate::arguments::{Given, Order, Usage};
use crate::error::Error;
use crate::log::Log;

pub(super) const VERB: Verb = Verb {
    name: "delete",
    synopsis: "ID",
    about: "Delete a container and what it held",
    order: Order::Anywhere,
    flags,
    read,
};

fn flags(command: Command) -> Command {
    let force = "Kill it first if it runs, and be content if there is none";
    command.arg(switch("force", force).short('f'))
}

fn read(given: &Given) -> Result<Request, Usage> {
    let force = if given.is_on("force") {
        Force::Yes
    } else {
        Force::No
    };
    Ok(Request::Delete {
        id: given.only_id()?,
        force,
    })
}

/// A failed poststop hook is a warning, which runtime.md § Lifecycle wants logged.
pub(super) fn run(store: &Store, id: &ContainerId, force: Force, log: &Log) -> Result<(), Error> {
    for warning in coracle_container::delete(store, id, force)? {
        log.warn_always(&warning);
    }
    Ok(())
}
