//! `restore ID`: files become a running container.

use clap::Command;
use coracle_container::{LsmLabels, RestoreOptions, Store};

use super::{Request, Verb, checkpoint, run};
use crate::arguments::flag::value;
use crate::arguments::{Given, Order, Usage};
use crate::error::Error;
use crate::log::{Level, Log};

pub(super) const VERB: Verb = Verb {
    name: "restore",
    synopsis: "ID",
    about: "Make a container of the files of a checkpoint, by CRIU",
    order: Order::Anywhere,
    flags,
    read,
};

fn flags(command: Command) -> Command {
    checkpoint::shared(run::flags(command))
        .arg(value(
            "lsm-profile",
            "TYPE:NAME",
            "Give processes this label, apparmor or selinux first",
        ))
        .arg(value(
            "lsm-mount-context",
            "CONTEXT",
            "Give mounts this SELinux context",
        ))
}

fn read(given: &Given) -> Result<Request, Usage> {
    let shared = checkpoint::read_shared(given)?;
    let run = run::read_options(given)?;
    Ok(Request::Restore(RestoreOptions {
        create: run.create,
        image_path: shared.image_path,
        work_path: shared.work_path,
        flags: shared.flags,
        cgroups: shared.cgroups,
        labels: LsmLabels {
            profile: given.text("lsm-profile")?,
            mount_context: given.text("lsm-mount-context")?,
        },
        attachment: run.attachment,
        after: run.after,
        subreaper: run.subreaper,
    }))
}

/// Gives the container's exit code, or 0 when detached.
pub(super) fn run(store: &Store, options: &RestoreOptions, log: &Log) -> Result<i32, Error> {
    let ended = coracle_container::restore(store, options)?;
    log.say_all(Level::Warning, &ended.warnings);
    for failure in &ended.failures {
        log.warn_always(failure);
    }
    Ok(ended.code)
}
