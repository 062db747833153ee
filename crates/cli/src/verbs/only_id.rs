//! The verbs that take only an id.

use coracle_bundle::ContainerId;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Example, Order};
use crate::arguments::{Arguments, Usage};
use crate::error::Error;
use crate::output;

/// `start ID`: runtime.md § Start.
pub(super) const START: Verb = verb(
    "start",
    "Start a container that was created",
    &[("start web1", "Let the program of web1 go")],
    |arguments| {
        request(arguments, |context, id| {
            for failure in coracle_container::start(&context.store()?, id)? {
                context.log.warn_always(&failure);
            }
            Ok(())
        })
    },
);

/// `state ID`: runtime.md § Query State.
pub(super) const STATE: Verb = verb(
    "state",
    "Print a container's state as JSON",
    &[("state web1", "Print status, pid, bundle and annotations")],
    |arguments| {
        request(arguments, |context, id| {
            output::json(&coracle_container::state(&context.store()?, id)?)
        })
    },
);

/// `pause ID`: freezes all processes of a container.
pub(super) const PAUSE: Verb = verb(
    "pause",
    "Freeze the container's processes",
    &[("pause web1", "Freeze it until `resume web1`")],
    |arguments| {
        request(arguments, |context, id| {
            Ok(coracle_container::pause(&context.store()?, id)?)
        })
    },
);

/// `resume ID`: thaws what `pause` froze.
pub(super) const RESUME: Verb = verb(
    "resume",
    "Thaw the container's processes",
    &[("resume web1", "Let it go on")],
    |arguments| {
        request(arguments, |context, id| {
            Ok(coracle_container::resume(&context.store()?, id)?)
        })
    },
);

const fn verb(
    name: &'static str,
    about: &'static str,
    examples: &'static [Example],
    read: fn(&Arguments) -> Result<Box<dyn Request>, Usage>,
) -> Verb {
    Verb {
        command: Command {
            name,
            synopsis: "ID",
            about,
            order: Order::Anywhere,
            flags: &[],
            examples,
        },
        needs_seal: false,
        read,
    }
}

type Act = fn(&Context, &ContainerId) -> Result<(), Error>;

struct OnlyId(ContainerId, Act);

fn request(arguments: &Arguments, act: Act) -> Result<Box<dyn Request>, Usage> {
    Ok(Box::new(OnlyId(arguments.only_id()?, act)))
}

impl Request for OnlyId {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        (self.1)(context, &self.0)?;
        Ok(0)
    }
}
