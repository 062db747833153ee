//! `network ls|inspect|check|gc`: networks of the Container Network Interface.

use clap::Command;
use coracle_bundle::ContainerId;
use coracle_container::{Network, Search, Store};
use serde_json::Value;

use super::{Request, Verb};
use crate::arguments::flag::value;
use crate::arguments::{Expected, Given, Order, Usage, network};
use crate::error::Error;
use crate::output;

pub(super) const VERB: Verb = Verb {
    name: "network",
    synopsis: "ls|inspect NAME|check ID|gc [NAME...]",
    about: "List networks, look at one, check a container's, clean up",
    order: Order::Anywhere,
    flags,
    read,
};

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    List(Form),
    Inspect(String),
    Check(ContainerId),
    Clean(Vec<String>),
}

/// How networks are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Json,
}

fn flags(command: Command) -> Command {
    let help = "Let ls print a table or json [default: table]";
    command
        .arg(value("format", "FORMAT", help).short('f'))
        .args(network::searching())
}

fn read(given: &Given) -> Result<Request, Usage> {
    given.expect(Expected::Minimum(1))?;
    let form = given.parsed("format", "table or json", |text| match text {
        b"table" => Some(Form::Table),
        b"json" => Some(Form::Json),
        _ => None,
    })?;
    let words: Vec<String> = given
        .arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let task = match words.as_slice() {
        [task] if task == "ls" => Task::List(form.unwrap_or(Form::Table)),
        [task, name] if task == "inspect" => Task::Inspect(name.clone()),
        [task, id] if task == "check" => Task::Check(ContainerId::parse(id)?),
        [task, names @ ..] if task == "gc" => Task::Clean(names.to_vec()),
        _ => {
            return Err(Usage::Subcommand {
                verb: VERB.name,
                expected: VERB.synopsis,
            });
        }
    };
    Ok(Request::Network {
        task,
        search: network::search(given)?,
    })
}

pub(super) fn run(
    store: impl FnOnce() -> Result<Store, Error>,
    task: &Task,
    search: &Search,
) -> Result<(), Error> {
    match task {
        Task::List(form) => list(*form, search),
        Task::Inspect(name) => output::json(&coracle_container::inspect_network(
            &store()?,
            search,
            name,
        )?),
        Task::Check(id) => Ok(coracle_container::check_network(&store()?, id)?),
        Task::Clean(names) => {
            let released = coracle_container::gc(&store()?, search, names)?;
            let lines = released
                .iter()
                .map(|gone| format!("{} {} of {}\n", gone.network, gone.interface, gone.id));
            output::text(&lines.collect::<String>())
        }
    }
}

fn list(form: Form, search: &Search) -> Result<(), Error> {
    let (networks, broken) = coracle_container::networks(search)?;
    for line in &broken {
        output::aside(line);
    }
    match form {
        Form::Json => {
            let networks = networks.iter().map(Network::to_value);
            output::json_line(&networks.collect::<Value>())
        }
        Form::Table => output::text(&table(&networks)),
    }
}

/// Columns as `list` has them.
fn table(networks: &[Network]) -> String {
    let mut lines = vec![["NAME", "CNI", "PLUGINS", "FILE"].map(str::to_owned)];
    lines.extend(networks.iter().map(|network| {
        [
            network.name.clone(),
            network.cni_version.to_owned(),
            network.plugins.join(","),
            network.file.display().to_string(),
        ]
    }));
    output::columns(&lines)
}
