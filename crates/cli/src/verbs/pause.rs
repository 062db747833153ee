//! `pause ID`: freezes all processes of a container.

use coracle_bundle::ContainerId;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Order};
use crate::error::Error;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "pause",
        synopsis: "ID",
        about: "Freeze the container's processes",
        order: Order::Anywhere,
        flags: &[],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(Pause(arguments.only_id()?))),
};

struct Pause(ContainerId);

impl Request for Pause {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        coracle_container::pause(&context.store()?, &self.0)?;
        Ok(0)
    }
}
