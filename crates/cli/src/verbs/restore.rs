//! `restore ID`: makes a running container from a checkpoint.

use coracle_container::{LsmLabels, RestoreOptions};

use super::create::creation_flags;
use super::keep::{self, KeepExit};
use super::verb::{Context, Request, Verb};
use super::{checkpoint, run};
use crate::arguments::table::{Command, Flag, Order, value};
use crate::arguments::{Arguments, Usage};
use crate::error::Error;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "restore",
        synopsis: "ID",
        about: "Make a container from the files of a checkpoint, by CRIU",
        order: Order::Anywhere,
        flags: creation_flags!(
            keep::FLAGS,
            run::FLAGS,
            checkpoint::SHARED,
            checkpoint::SHARED_SWITCHES,
            FLAGS
        ),
        examples: &[(
            "restore -d --bundle /srv/web --image-path /var/tmp/web1 web1",
            "Go on with a container that was written to files",
        )],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

const FLAGS: &[Flag] = &[
    value(
        "lsm-profile",
        "TYPE:NAME",
        "Give processes this label, apparmor or selinux first",
    ),
    value(
        "lsm-mount-context",
        "CONTEXT",
        "Give mounts this SELinux context",
    ),
];

pub(super) struct Restore {
    pub(super) options: RestoreOptions,
    pub(super) keep_exit: KeepExit,
}

fn read(arguments: &Arguments) -> Result<Restore, Usage> {
    let shared = checkpoint::read_shared(arguments)?;
    let options = RestoreOptions {
        run: run::read(arguments)?,
        image_path: shared.image_path,
        work_path: shared.work_path,
        flags: shared.flags,
        cgroups: shared.cgroups,
        labels: LsmLabels {
            profile: arguments.text("lsm-profile")?,
            mount_context: arguments.text("lsm-mount-context")?,
        },
    };
    Ok(Restore {
        options,
        keep_exit: KeepExit::read_detached(arguments)?,
    })
}

impl Request for Restore {
    /// Returns the container's exit code, or 0 when detached.
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let id = &self.options.run.create.id;
        self.keep_exit.perform(context, id, |store| {
            let ended = coracle_container::restore(store, &self.options)?;
            Ok(context.report(&ended))
        })
    }
}
