//! The verbs: one file each, with its flags, its reading and its running.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
mod help;
mod kill;
#[cfg(test)]
mod lines;
mod list;
mod network;
mod pause;
mod ps;
mod restore;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Command;
use coracle_bundle::ContainerId;
use coracle_container::{
    CheckpointOptions, CreateOptions, ExecOptions, Force, RestoreOptions, RunOptions, Scope,
    Search, Steps, Store, UpdateOptions,
};

use crate::arguments::{Given, Global, Order, Usage, flag};
use crate::error::Error;
use crate::log::{Level, Log};
use crate::output;
use crate::root::{self, Root};

pub(crate) use help::{overview, version};

/// A verb of the command line.
struct Verb {
    name: &'static str,
    /// What comes after the options, in `--help`.
    synopsis: &'static str,
    about: &'static str,
    order: Order,
    /// Adds the verb's own flags.
    flags: fn(Command) -> Command,
    read: fn(&Given) -> Result<Request, Usage>,
}

/// In the order of `help`: the life of a container, then the rest.
const VERBS: [Verb; 20] = [
    create::VERB,
    start::VERB,
    state::VERB,
    kill::VERB,
    delete::VERB,
    run::VERB,
    exec::VERB,
    list::VERB,
    ps::VERB,
    pause::VERB,
    resume::VERB,
    update::VERB,
    events::VERB,
    checkpoint::VERB,
    restore::VERB,
    network::VERB,
    spec::VERB,
    features::VERB,
    explain::VERB,
    help::VERB,
];

/// A verb with its arguments, valid in form.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Create(CreateOptions),
    Start(ContainerId),
    State(ContainerId),
    Kill {
        id: ContainerId,
        signal: i32,
        scope: Scope,
    },
    Delete {
        id: ContainerId,
        force: Force,
    },
    Run(RunOptions),
    Exec(ExecOptions),
    Checkpoint(CheckpointOptions),
    Restore(RestoreOptions),
    List(list::Form),
    Ps {
        id: ContainerId,
        form: ps::Form,
    },
    Pause(ContainerId),
    Resume(ContainerId),
    Update {
        options: UpdateOptions,
        /// Flags of limits that no kernel has any more.
        ignored: Vec<&'static str>,
    },
    Events {
        id: ContainerId,
        listening: events::Listening,
    },
    Network {
        task: network::Task,
        search: Search,
    },
    Spec {
        bundle: PathBuf,
        kind: spec::Kind,
    },
    Features,
    Explain {
        options: CreateOptions,
        /// Of a checkpoint: then it is about a restore.
        images: Option<PathBuf>,
        form: explain::Form,
    },
    /// Help or the version.
    Print(String),
}

impl Request {
    /// The container that the request is about.
    fn container(&self) -> Option<&ContainerId> {
        match self {
            Self::Create(options) => Some(&options.id),
            Self::Run(options) => Some(&options.create.id),
            Self::Exec(options) => Some(&options.id),
            Self::Checkpoint(options) => Some(&options.id),
            Self::Restore(options) => Some(&options.create.id),
            Self::Update { options, .. } => Some(&options.id),
            Self::Events { id, .. } => Some(id),
            Self::Start(id) | Self::State(id) | Self::Pause(id) | Self::Resume(id) => Some(id),
            Self::Kill { id, .. } | Self::Delete { id, .. } | Self::Ps { id, .. } => Some(id),
            Self::Network {
                task: network::Task::Check(id),
                ..
            } => Some(id),
            Self::List(_)
            | Self::Network { .. }
            | Self::Spec { .. }
            | Self::Features
            | Self::Explain { .. }
            | Self::Print(_) => None,
        }
    }

    /// The verb's name, for messages about its container.
    fn verb(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Run(_) => "run",
            Self::Exec(_) => "exec",
            Self::Checkpoint(_) => "checkpoint",
            Self::Restore(_) => "restore",
            Self::Start(_) => "start",
            Self::State(_) => "state",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Update { .. } => "update",
            Self::Events { .. } => "events",
            Self::Kill { .. } => "kill",
            Self::Delete { .. } => "delete",
            Self::Ps { .. } => "ps",
            Self::List(_) => "list",
            Self::Network { .. } => "network check",
            Self::Spec { .. } => "spec",
            Self::Features => "features",
            Self::Explain { .. } => "explain",
            Self::Print(_) => "help",
        }
    }
}

/// Whether the verb lets a container's process come near ours, so that our own file must be sealed.
pub(crate) fn needs_seal(name: &str) -> bool {
    matches!(name, "create" | "run" | "exec")
}

/// Puts global flags that stand behind the verb before it.
pub(crate) fn hoist(line: Vec<OsString>) -> Vec<OsString> {
    crate::arguments::hoist(line, |name| {
        let verb = find(name).ok()?;
        Some((table(verb), verb.order))
    })
}

/// Reads the words after the verb.
pub(crate) fn read(name: &str, global: &Global, line: Vec<OsString>) -> Result<Request, Usage> {
    let verb = find(name)?;
    let mut table = table(verb);
    let given = Given::read(&mut table, verb.name, global, (line, verb.order))?;
    if given.is_on("help") {
        return Ok(Request::Print(help::rendered(&mut table)));
    }
    if given.is_on("version") {
        return Ok(Request::Print(version()));
    }
    (verb.read)(&given)
}

/// How the verb is used, in a line; of the program when there is no such verb.
pub(crate) fn usage(name: &str) -> String {
    let mut table = find(name).map_or_else(|_| crate::arguments::global_table(), table);
    table.render_usage().to_string()
}

/// Does what was asked and gives the exit status.
pub(crate) fn perform(request: Request, global: &Global, log: &Rc<Log>) -> Result<i32, Error> {
    let (verb, whom) = (request.verb(), request.container().cloned());
    let outcome = carry_out(request, global, log);
    if outcome.is_ok() && global.names_criu {
        log.say(Level::Warning, "--criu is ignored");
    }
    outcome.map_err(|error| match (error, whom) {
        (Error::Container(source), Some(id)) => Error::Verb {
            verb,
            id,
            source: Box::new(source),
        },
        (error, _) => error,
    })
}

fn carry_out(request: Request, global: &Global, log: &Rc<Log>) -> Result<i32, Error> {
    // Looked for only where it is used: `features` and the like work without one.
    let root = || {
        let root = root::find(global.root.as_deref())?;
        log.say(
            Level::Debug,
            &format!("state root: {}", root.path.display()),
        );
        Ok::<Root, Error>(root)
    };
    let at = |root: &Root| Store::new(&root.path).logging(steps(log));
    let store = || Ok::<Store, Error>(at(&root()?));
    // For the verbs that make the root.
    let prepared = || {
        let root = root()?;
        root::prepare(&root);
        Ok::<Store, Error>(at(&root))
    };
    match request {
        Request::Create(options) => create::run(&prepared()?, &options, log)?,
        Request::Run(options) => return run::run(&prepared()?, &options, log),
        Request::Exec(options) => return exec::run(&store()?, &options, log),
        Request::Checkpoint(options) => checkpoint::run(&store()?, &options, log)?,
        Request::Restore(options) => return restore::run(&prepared()?, &options, log),
        Request::Start(id) => {
            let failures = coracle_container::start(&store()?, &id)?;
            failures.iter().for_each(|failure| log.warn_always(failure));
        }
        Request::State(id) => output::json(&coracle_container::state(&store()?, &id)?)?,
        Request::Kill { id, signal, scope } => {
            coracle_container::kill(&store()?, &id, signal, scope)?
        }
        Request::Delete { id, force } => delete::run(&store()?, &id, force, log)?,
        Request::List(form) => {
            let root = root()?;
            list::run(&root, &at(&root), form)?;
        }
        Request::Ps { id, form } => ps::run(&store()?, &id, &form)?,
        Request::Pause(id) => coracle_container::pause(&store()?, &id)?,
        Request::Resume(id) => coracle_container::resume(&store()?, &id)?,
        Request::Update { options, ignored } => update::run(&store()?, &options, &ignored, log)?,
        Request::Events { id, listening } => events::run(&store()?, &id, listening)?,
        Request::Network { task, search } => network::run(store, &task, &search)?,
        Request::Spec { bundle, kind } => spec::run(&bundle, kind)?,
        Request::Features => features::run()?,
        Request::Explain {
            options,
            images,
            form,
        } => {
            // A plan can be made where no state root is to be had.
            let store = store().unwrap_or_else(|_| Store::new(Path::new(root::SYSTEM)));
            explain::run(&store, &options, images.as_deref(), form)?;
        }
        Request::Print(text) => output::text(&text)?,
    }
    Ok(0)
}

/// Where the steps of a verb go: to the log, if it is to have them.
fn steps(log: &Rc<Log>) -> Steps {
    if !log.has(Level::Debug) {
        return Steps::default();
    }
    let log = Rc::clone(log);
    Steps::logged_by(Rc::new(move |step| log.say(Level::Debug, step)))
}

fn find(name: &str) -> Result<&'static Verb, Usage> {
    let found = VERBS.iter().find(|verb| verb.name == name);
    found.ok_or_else(|| Usage::NoHelpTopic(name.to_owned()))
}

/// The verb's table of flags, for reading and for help.
fn table(verb: &Verb) -> Command {
    (verb.flags)(flag::command(verb.name, verb.synopsis, verb.about))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(
        include_str!("../../../../docs/cli.md"),
        include_str!("../../../../docs/checkpoint.md"),
    );

    #[test]
    fn the_documents_name_every_verb_and_flag() {
        let readme = include_str!("../../../../README.md");
        let row = readme.lines().find(|line| line.starts_with("| verbs |"));
        let listed = row
            .unwrap()
            .trim_matches(|c| " |".contains(c))
            .replace("verbs | ", "");
        let mut listed: Vec<_> = listed.split(", ").collect();
        let mut verbs = VERBS.map(|verb| verb.name);
        listed.sort_unstable();
        verbs.sort_unstable();
        assert_eq!(listed, verbs);
        for name in verbs {
            assert!(PAGE.contains(&format!("`{name}")), "{name}");
        }
        let tables = VERBS
            .iter()
            .map(table)
            .chain([crate::arguments::global_table()]);
        for table in tables {
            for flag in table.get_arguments().filter_map(|arg| arg.get_long()) {
                let is_common = ["help", "version"].contains(&flag);
                let is_named = PAGE.contains(&format!("--{flag}"));
                assert!(is_common || is_named, "{}: --{flag}", table.get_name());
            }
        }
    }
}
