//! `network ls|inspect|check|gc`: networks of the Container Network Interface.

use coracle_bundle::ContainerId;
use coracle_container::{Network, Search};
use serde_json::Value;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, value};
use crate::arguments::{Arguments, Expected, Usage, network};
use crate::error::Error;
use crate::output;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "network",
        synopsis: "ls|inspect NAME|check ID|gc [NAME...]",
        about: "List networks, look at one, check a container's, clean up",
        order: Order::Anywhere,
        flags: &[FLAGS, network::SEARCH],
        examples: &[
            ("network ls", "List the networks that are configured"),
            ("network check web1", "Check the networks of a container"),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

/// The subcommand.
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

const FLAGS: &[Flag] =
    &[value("format", "table|json", "Let ls print so [default: table]").short('f')];

pub(super) struct Networks {
    pub(super) task: Task,
    pub(super) search: Search,
}

fn read(arguments: &Arguments) -> Result<Networks, Usage> {
    arguments.expect(Expected::Minimum(1))?;
    let forms = [("table", Form::Table), ("json", Form::Json)];
    let form = arguments.choice("format", forms)?;
    let words: Vec<String> = arguments
        .words
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
                verb: VERB.command.name,
                expected: VERB.command.synopsis,
            });
        }
    };
    Ok(Networks {
        task,
        search: network::search(arguments)?,
    })
}

impl Request for Networks {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        match &self.task {
            Task::List(form) => list(*form, &self.search)?,
            Task::Inspect(name) => {
                let store = context.store()?;
                let network = coracle_container::inspect_network(&store, &self.search, name)?;
                output::json(&network)?;
            }
            Task::Check(id) => coracle_container::check_network(&context.store()?, id)
                .map_err(|source| Error::failed("network check", id, source))?,
            Task::Clean(names) => {
                let released = coracle_container::gc(&context.store()?, &self.search, names)?;
                let lines = released
                    .iter()
                    .map(|gone| format!("{} {} of {}\n", gone.network, gone.interface, gone.id));
                output::text(&lines.collect::<String>())?;
            }
        }
        Ok(0)
    }
}

fn list(form: Form, search: &Search) -> Result<(), Error> {
    let (networks, broken) = coracle_container::networks(search)?;
    for line in &broken {
        output::notice(line);
    }
    match form {
        Form::Json => {
            let networks = networks.iter().map(Network::to_value);
            output::json_line(&networks.collect::<Value>())
        }
        Form::Table => output::text(&table(&networks)),
    }
}

/// A table in the format of `list`.
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
