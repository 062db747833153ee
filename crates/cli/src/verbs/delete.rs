//! `delete ID`: runtime.md § Delete.

use coracle_container::Force;

use super::targets::{self, Targets};
use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, switch};
use crate::arguments::{Arguments, Expected, Usage};
use crate::error::Error;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "delete",
        synopsis: "ID",
        about: "Delete a container and what it held",
        order: Order::Anywhere,
        flags: &[FLAGS, targets::FLAGS],
        examples: &[
            ("delete web1", "Delete a container that has stopped"),
            ("delete --force web1", "Kill it first, whatever it is doing"),
            (
                "delete --force --regex '^ci-[0-9]+$'",
                "Do so with all whose id matches",
            ),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

const FLAGS: &[Flag] = &[switch(
    "force",
    "Kill it first if it runs; succeed if it does not exist",
)
.short('f')];

pub(super) struct Delete {
    pub(super) targets: Targets,
    pub(super) force: Force,
}

fn read(arguments: &Arguments) -> Result<Delete, Usage> {
    arguments.expect(Expected::Exactly(1))?;
    let force = arguments.choose("force", Force::Yes, Force::No);
    Ok(Delete {
        targets: Targets::read(arguments)?,
        force,
    })
}

impl Request for Delete {
    /// A failed poststop hook is a warning, which runtime.md § Lifecycle requires to be logged.
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let store = context.store()?;
        let delete = |id: &_| {
            for warning in coracle_container::delete(&store, id, self.force)? {
                context.log.warn_always(&warning);
            }
            Ok(())
        };
        self.targets.each("delete", &store, |_| true, delete)?;
        Ok(0)
    }
}
