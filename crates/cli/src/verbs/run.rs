//! `run ID`: create, start, and wait unless detached.

use clap::Command;
use coracle_container::{After, Attachment, RunOptions, Store, Subreaper};

use super::{Request, Verb, create};
use crate::arguments::flag::switch;
use crate::arguments::{Given, Order, Usage};
use crate::error::Error;
use crate::log::{Level, Log};

pub(super) const VERB: Verb = Verb {
    name: "run",
    synopsis: "ID",
    about: "Create and start a container, and wait for its end",
    order: Order::Anywhere,
    flags,
    read,
};

/// The flags of `run`, which are also `restore`'s.
pub(super) fn flags(command: Command) -> Command {
    create::flags(command)
        .arg(switch("detach", "Return once the container runs").short('d'))
        .arg(switch(
            "keep",
            "Do not delete the container once it has ended",
        ))
        .arg(switch(
            "no-subreaper",
            "Do not adopt the container's orphans while waiting",
        ))
}

fn read(given: &Given) -> Result<Request, Usage> {
    read_options(given).map(Request::Run)
}

pub(super) fn read_options(given: &Given) -> Result<RunOptions, Usage> {
    let subreaper = if given.is_on("no-subreaper") {
        Subreaper::No
    } else {
        Subreaper::Yes
    };
    Ok(RunOptions {
        create: create::read(given)?,
        attachment: attachment(given),
        after: if given.is_on("keep") {
            After::Keep
        } else {
            After::Delete
        },
        subreaper,
    })
}

/// What `--detach` says, here and in `exec`.
pub(super) fn attachment(given: &Given) -> Attachment {
    if given.is_on("detach") {
        Attachment::Detached
    } else {
        Attachment::Foreground
    }
}

/// Gives the container's exit code, or 0 when detached.
pub(super) fn run(store: &Store, options: &RunOptions, log: &Log) -> Result<i32, Error> {
    let ended = coracle_container::run(store, options)?;
    log.say_all(Level::Warning, &ended.warnings);
    for failure in &ended.failures {
        log.warn_always(failure);
    }
    Ok(ended.code)
}
