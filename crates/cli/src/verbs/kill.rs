//! `kill ID [SIGNAL]`: runtime.md § Kill.

use coracle_container::{Scope, Status};

use super::targets::{self, Targets};
use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, switch};
use crate::arguments::{Arguments, Expected, Usage, parse_signal};
use crate::error::Error;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "kill",
        synopsis: "ID [SIGNAL]",
        about: "Send a signal to a container's init [default: TERM]",
        order: Order::Anywhere,
        flags: &[FLAGS, targets::FLAGS],
        examples: &[
            ("kill web1", "Send TERM to the container's program"),
            ("kill --all web1 KILL", "Send KILL to every process"),
            (
                "kill --regex '^web' KILL",
                "Send KILL to all whose id begins with web",
            ),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

const FLAGS: &[Flag] = &[switch(
    "all",
    "Send it to all processes; succeed if the container has stopped",
)
.short('a')];

pub(super) struct Kill {
    pub(super) targets: Targets,
    pub(super) signal: i32,
    pub(super) scope: Scope,
}

fn read(arguments: &Arguments) -> Result<Kill, Usage> {
    arguments.expect(Expected::Minimum(1))?;
    arguments.expect(Expected::Maximum(2))?;
    let signal = match arguments.words.get(1).map(|text| text.to_string_lossy()) {
        None => libc::SIGTERM,
        Some(text) => parse_signal(&text).ok_or_else(|| Usage::unknown_signal(&text))?,
    };
    let scope = arguments.choose("all", Scope::All, Scope::Init);
    Ok(Kill {
        targets: Targets::read(arguments)?,
        signal,
        scope,
    })
}

impl Request for Kill {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let store = context.store()?;
        // A pattern is for those that a signal can reach.
        let has_process = |status| status != Status::Stopped;
        let kill = |id: &_| coracle_container::kill(&store, id, self.signal, self.scope);
        self.targets.each("kill", &store, has_process, kill)?;
        Ok(0)
    }
}
