//! `mount add|remove|list`: mounts of a running container.

use std::path::PathBuf;

use coracle_bundle::ContainerId;
use coracle_container::{AddedMount, NewMount};

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, value};
use crate::arguments::{Arguments, Usage};
use crate::error::Error;
use crate::output;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "mount",
        synopsis: "add ID SOURCE DESTINATION|remove ID DESTINATION|list ID",
        about: "Mount in a running container, unmount it again, list such mounts",
        order: Order::Anywhere,
        flags: &[FLAGS],
        examples: &[
            (
                "mount add -o ro web1 /srv/data /data",
                "Show the host's /srv/data on /data, read-only",
            ),
            (
                "mount add -t tmpfs -o size=64m,mode=1777 web1 tmpfs /scratch",
                "Mount a new file system",
            ),
            ("mount remove web1 /data", "Unmount it again"),
        ],
    },
    // Its child enters the container.
    needs_seal: true,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

const FLAGS: &[Flag] = &[
    value(
        "type",
        "TYPE",
        "Mount a file system of this type [default: bind]",
    )
    .short('t'),
    value(
        "options",
        "LIST",
        "Options as in config.json, with commas between; may be repeated [default: rbind]",
    )
    .short('o'),
    value("format", "table|json", "Let list print so [default: table]").short('f'),
];

/// How mounts are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Table,
    Json,
}

/// The subcommand.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Add(NewMount),
    Remove(ContainerId, PathBuf),
    List(ContainerId, Form),
}

fn read(arguments: &Arguments) -> Result<Task, Usage> {
    let forms = [("table", Form::Table), ("json", Form::Json)];
    let form = arguments.choice("format", forms)?;
    let words = &arguments.words;
    let id = || {
        let id = words.get(1).map(|id| id.to_string_lossy());
        Ok::<_, Usage>(ContainerId::parse(&id.unwrap_or_default())?)
    };
    match words.as_slice() {
        [task, _, source, destination] if task == "add" => Ok(Task::Add(NewMount {
            id: id()?,
            source: source.into(),
            destination: destination.into(),
            kind: arguments.text("type")?.unwrap_or_else(|| "bind".to_owned()),
            options: options(arguments)?,
        })),
        [task, _, destination] if task == "remove" => Ok(Task::Remove(id()?, destination.into())),
        [task, _] if task == "list" => Ok(Task::List(id()?, form.unwrap_or(Form::Table))),
        _ => Err(Usage::Subcommand {
            verb: VERB.command.name,
            expected: VERB.command.synopsis,
        }),
    }
}

fn options(arguments: &Arguments) -> Result<Vec<String>, Usage> {
    let lists = arguments.texts("options")?;
    let options = lists.iter().flat_map(|list| list.split(','));
    let options = options.filter(|option| !option.is_empty());
    Ok(options.map(str::to_owned).collect())
}

impl Request for Task {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let store = context.store()?;
        match self {
            Task::Add(new) => {
                let added = coracle_container::add_mount(&store, &named_by_the_host(new));
                let warnings =
                    added.map_err(|source| Error::failed("mount add", &new.id, source))?;
                context.log.warn_all(&warnings);
            }
            Task::Remove(id, destination) => {
                coracle_container::remove_mount(&store, id, destination)
                    .map_err(|source| Error::failed("mount remove", id, source))?;
            }
            Task::List(id, form) => {
                let mounts = coracle_container::list_mounts(&store, id)
                    .map_err(|source| Error::failed("mount list", id, source))?;
                match form {
                    Form::Json => output::json_line(&mounts)?,
                    Form::Table => output::text(&table(&mounts))?,
                }
            }
        }
        Ok(0)
    }
}

/// A bind mount whose source is a path from the working directory, and which shows what is mounted
/// below unless `bind` was given.
fn named_by_the_host(new: &NewMount) -> NewMount {
    let mut new = new.clone();
    let is_depth = |option: &String| option == "bind" || option == "rbind";
    if new.kind == "bind" || new.options.iter().any(is_depth) {
        // Only an empty path, or a working directory that is gone, has no absolute form.
        new.source = std::path::absolute(&new.source).unwrap_or(new.source);
        if !new.options.iter().any(is_depth) {
            new.options.push("rbind".to_owned());
        }
    }
    new
}

/// A table in the format of `list`.
fn table(mounts: &[AddedMount]) -> String {
    let mut lines = vec![["DESTINATION", "TYPE", "SOURCE", "OPTIONS"].map(str::to_owned)];
    lines.extend(mounts.iter().map(|mount| {
        [
            mount.destination.display().to_string(),
            mount.kind.clone(),
            mount.source.display().to_string(),
            mount.options.join(","),
        ]
    }));
    output::columns(&lines)
}
