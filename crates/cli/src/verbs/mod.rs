//! The verbs, each in a file of its own except those that take only an id: the row of the table,
//! the parser of the arguments, and the action.

mod check;
mod checkpoint;
mod completion;
mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
pub(crate) mod help;
mod info;
mod keep;
mod kill;
#[cfg(test)]
mod lines;
mod list;
mod man;
mod mount;
mod network;
mod only_id;
mod ps;
mod restore;
mod run;
mod spec;
mod targets;
mod update;
pub(crate) mod verb;

use verb::Verb;

/// In the order of `help`: the life of a container, then the rest.
pub(crate) static VERBS: &[Verb] = &[
    create::VERB,
    only_id::START,
    only_id::STATE,
    kill::VERB,
    delete::VERB,
    run::VERB,
    exec::VERB,
    list::VERB,
    ps::VERB,
    only_id::PAUSE,
    only_id::RESUME,
    update::VERB,
    mount::VERB,
    events::VERB,
    checkpoint::VERB,
    restore::VERB,
    network::VERB,
    spec::VERB,
    features::VERB,
    info::VERB,
    check::VERB,
    explain::VERB,
    completion::VERB,
    man::VERB,
    help::VERB,
];
