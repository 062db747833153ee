//! `explain`: what `create` or `restore` would do, without doing it.

use std::path::{Path, PathBuf};

use clap::Command;
use coracle_bundle::ContainerId;
use coracle_container::{CreateOptions, Store};

use super::{Request, Verb, create};
use crate::arguments::flag::{switch, value};
use crate::arguments::{Expected, Given, Order, Usage};
use crate::error::Error;
use crate::output;

pub(super) const VERB: Verb = Verb {
    name: "explain",
    synopsis: "[BUNDLE]",
    about: "Print the steps that create and start, or restore, would take",
    order: Order::Anywhere,
    flags,
    read,
};

/// Stands for the container's id where a step names it.
const ID: &str = "ID";

/// How the plan is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

fn flags(command: Command) -> Command {
    create::flags(command)
        .arg(value(
            "image-path",
            "DIR",
            "Print the steps of a restore of these images",
        ))
        .arg(value("format", "FORMAT", "Print text or json [default: text]").short('f'))
        .arg(switch("json", "The same as --format json"))
}

fn read(given: &Given) -> Result<Request, Usage> {
    given.expect(Expected::Maximum(1))?;
    let form = given.parsed("format", "text or json", |text| match text {
        b"text" => Some(Form::Text),
        b"json" => Some(Form::Json),
        _ => None,
    })?;
    let bundle = given
        .arguments
        .first()
        .map(PathBuf::from)
        .or_else(|| given.path("bundle"));
    Ok(Request::Explain {
        options: create::options(given, ContainerId::parse(ID)?, bundle)?,
        images: given.path("image-path"),
        form: if given.is_on("json") {
            Form::Json
        } else {
            form.unwrap_or(Form::Text)
        },
    })
}

pub(super) fn run(
    store: &Store,
    options: &CreateOptions,
    images: Option<&Path>,
    form: Form,
) -> Result<(), Error> {
    let explanation = match images {
        Some(images) => coracle_container::explain_restore(store, options, images)?,
        None => coracle_container::explain(store, options)?,
    };
    match form {
        Form::Text => output::text(&explanation.to_string()),
        Form::Json => output::json(&explanation),
    }
}
