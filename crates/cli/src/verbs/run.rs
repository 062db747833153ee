//! `run ID`: create, start, and wait unless detached.

use coracle_container::{After, RunOptions, Subreaper};

use super::create::{self, creation_flags};
use super::keep::{self, KeepExit};
use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, switch};
use crate::arguments::{Arguments, Usage};
use crate::error::Error;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "run",
        synopsis: "ID",
        about: "Create and start a container, and wait for its end",
        order: Order::Anywhere,
        flags: creation_flags!(keep::FLAGS, FLAGS),
        examples: &[
            (
                "run --bundle /srv/web web1",
                "Run a container in the foreground and delete it when it ends",
            ),
            (
                "run -d --keep-exit web1",
                "Run it in the background, and let `state` tell how it ended",
            ),
            (
                "run -d --publish 8080:80 --network web web1",
                "Run it in the background, attached to a CNI network",
            ),
        ],
    },
    needs_seal: true,
    read: |arguments| {
        Ok(Box::new(Run {
            options: read(arguments)?,
            keep_exit: KeepExit::read_detached(arguments)?,
        }))
    },
};

/// Flags of `run`, which are also `restore`'s.
pub(super) const FLAGS: &[Flag] = &[
    switch("detach", "Return once the container runs").short('d'),
    switch("keep", "Do not delete the container once it has ended"),
    switch(
        "no-subreaper",
        "Do not adopt the container's orphans while waiting",
    ),
];

pub(super) fn read(arguments: &Arguments) -> Result<RunOptions, Usage> {
    let subreaper = arguments.choose("no-subreaper", Subreaper::No, Subreaper::Yes);
    Ok(RunOptions {
        create: create::own_options(arguments)?,
        attachment: arguments.attachment(),
        after: arguments.choose("keep", After::Keep, After::Delete),
        subreaper,
    })
}

pub(super) struct Run {
    pub(super) options: RunOptions,
    pub(super) keep_exit: KeepExit,
}

impl Request for Run {
    /// Returns the container's exit code, or 0 when detached.
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let id = &self.options.create.id;
        self.keep_exit.perform(context, id, |store| {
            let ended = coracle_container::run(store, &self.options)?;
            Ok(context.report(&ended))
        })
    }
}
