//! `explain`: what `create` or `restore` would do, without doing it.

use std::path::{Path, PathBuf};

use coracle_bundle::ContainerId;
use coracle_container::{CreateOptions, Store};

use super::create::{self, creation_flags};
use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, switch, value};
use crate::arguments::{Arguments, Expected, Usage};
use crate::error::Error;
use crate::{output, root};

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "explain",
        synopsis: "[BUNDLE]",
        about: "Print the steps that create and start, or restore, would take",
        order: Order::Anywhere,
        flags: creation_flags!(FLAGS),
        examples: &[
            (
                "explain /srv/web",
                "Print what `create` would do with a bundle",
            ),
            (
                "explain --cgroup-manager systemd --format json /srv/web",
                "Print it for programs, with systemd making the cgroup",
            ),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

/// The container id in the printed steps.
pub(super) const ID: &str = "ID";

/// How the plan is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

const FLAGS: &[Flag] = &[
    value(
        "image-path",
        "DIR",
        "Print the steps of a restore of these images",
    ),
    value("format", "text|json", "Print it so [default: text]").short('f'),
    switch("json", "The same as --format json"),
];

pub(super) struct Explain {
    pub(super) options: CreateOptions,
    /// The images of a checkpoint; with them the plan is that of a restore.
    pub(super) images: Option<PathBuf>,
    pub(super) form: Form,
}

fn read(arguments: &Arguments) -> Result<Explain, Usage> {
    arguments.expect(Expected::Maximum(1))?;
    let forms = [("text", Form::Text), ("json", Form::Json)];
    let form = arguments.choice("format", forms)?.unwrap_or(Form::Text);
    let bundle = arguments
        .words
        .first()
        .map(PathBuf::from)
        .or_else(|| arguments.path("bundle"));
    Ok(Explain {
        options: create::options(arguments, ContainerId::parse(ID)?, bundle)?,
        images: arguments.path("image-path"),
        form: arguments.choose("json", Form::Json, form),
    })
}

impl Request for Explain {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        // A plan needs no state root, and a user may have none.
        let store = context.store();
        let store = store.unwrap_or_else(|_| Store::new(Path::new(root::SYSTEM)));
        let mut explanation = match &self.images {
            Some(images) => coracle_container::explain_restore(&store, &self.options, images)?,
            None => coracle_container::explain(&store, &self.options)?,
        };
        for warning in &mut explanation.warnings {
            *warning = context.log.named(warning).into_owned();
        }
        match self.form {
            Form::Text => output::text(&explanation.to_string())?,
            Form::Json => output::json(&explanation)?,
        }
        Ok(0)
    }
}
