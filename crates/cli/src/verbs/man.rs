//! `man DIR`: the manual pages, for those who make packages.

use std::path::PathBuf;

use super::verb::{Context, Request, Verb};
use crate::arguments::roff::{self, Section};
use crate::arguments::table::{Command, Order};
use crate::arguments::{Expected, global};
use crate::error::Error;
use crate::root;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "man",
        synopsis: "DIR",
        about: "Write the manual pages into a directory",
        order: Order::Anywhere,
        flags: &[],
        examples: &[(
            "man /usr/local/share/man/man8",
            "Make `man coracle` and `man coracle-run` work",
        )],
    },
    needs_seal: false,
    read: |arguments| {
        arguments.expect(Expected::Exactly(1))?;
        let directory = arguments.words.first().map(PathBuf::from);
        Ok(Box::new(Manual(directory.unwrap_or_default())))
    },
};

const EXIT_CODES: Section = (
    "EXIT STATUS",
    &[
        ("0", "Success; with --detach, the program runs"),
        ("1", "Failure; check: something is lacking"),
        ("3", "There is no such command"),
        ("255", "exec: coracle itself failed"),
        (
            "128 + N",
            "run and exec in the foreground: signal N ended the program; else its own exit status",
        ),
    ],
);

const ENVIRONMENT: Section = (
    "ENVIRONMENT",
    &[
        (
            "XDG_RUNTIME_DIR",
            "Where an ordinary user's state root is, below it",
        ),
        (
            "DBUS_SESSION_BUS_ADDRESS",
            "Where a user's service manager listens",
        ),
        (
            "NOTIFY_SOCKET",
            "Passed to the container, for services of systemd",
        ),
        (
            "LISTEN_FDS",
            "Descriptors from 3 on that the container keeps",
        ),
        (
            "PATH",
            "Where newuidmap, newgidmap, ps and criu are looked for",
        ),
    ],
);

const FILES: Section = ("FILES", &[(root::SYSTEM, "The state root of root")]);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manual(pub(super) PathBuf);

impl Request for Manual {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        for (name, page) in pages(context.verbs) {
            let path = self.0.join(name);
            std::fs::write(&path, page).map_err(|source| Error::Write { path, source })?;
        }
        Ok(0)
    }
}

/// The pages with the names of their files.
pub(super) fn pages(verbs: &'static [Verb]) -> Vec<(String, String)> {
    let commands = verbs.iter().map(|verb| &verb.command);
    let program = roff::page(
        &global::COMMAND,
        commands.clone(),
        &[EXIT_CODES, ENVIRONMENT, FILES],
    );
    let page = |command| roff::page(command, std::iter::empty(), &[]);
    let mut pages = vec![("coracle.8".to_owned(), program)];
    let file = |command| format!("{}.8", roff::name(command));
    pages.extend(commands.map(|command| (file(command), page(command))));
    pages
}
