//! `start ID`: runtime.md § Start.

use coracle_bundle::ContainerId;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Order};
use crate::error::Error;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "start",
        synopsis: "ID",
        about: "Start a container that was created",
        order: Order::Anywhere,
        flags: &[],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(Start(arguments.only_id()?))),
};

struct Start(ContainerId);

impl Request for Start {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        for failure in coracle_container::start(&context.store()?, &self.0)? {
            context.log.warn_always(&failure);
        }
        Ok(0)
    }
}
