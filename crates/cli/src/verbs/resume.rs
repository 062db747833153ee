//! `resume ID`: thaws what `pause` froze.

use coracle_bundle::ContainerId;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Order};
use crate::error::Error;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "resume",
        synopsis: "ID",
        about: "Thaw the container's processes",
        order: Order::Anywhere,
        flags: &[],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(Resume(arguments.only_id()?))),
};

struct Resume(ContainerId);

impl Request for Resume {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        coracle_container::resume(&context.store()?, &self.0)?;
        Ok(0)
    }
}
