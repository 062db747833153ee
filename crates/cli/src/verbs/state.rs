//! `state ID`: runtime.md § Query State.

use coracle_bundle::ContainerId;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Order};
use crate::error::Error;
use crate::output;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "state",
        synopsis: "ID",
        about: "Print a container's state as JSON",
        order: Order::Anywhere,
        flags: &[],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(State(arguments.only_id()?))),
};

struct State(ContainerId);

impl Request for State {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        output::json(&coracle_container::state(&context.store()?, &self.0)?)?;
        Ok(0)
    }
}
