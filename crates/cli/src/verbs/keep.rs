//! `--keep-exit` of `create`, `run` and `restore`.

use coracle_bundle::ContainerId;
use coracle_container::{Attachment, Side, Store};

use super::verb::Context;
use crate::arguments::table::{Flag, switch};
use crate::arguments::{Arguments, Usage};
use crate::error::Error;

/// The flag.
pub(super) const FLAGS: &[Flag] = &[switch(
    "keep-exit",
    "Leave a process that records how the container ends",
)];

/// Whether a process waits for the container's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepExit {
    Yes,
    No,
}

impl KeepExit {
    pub(super) fn read(arguments: &Arguments) -> Self {
        arguments.choose("keep-exit", Self::Yes, Self::No)
    }

    /// For a verb that may wait for the container itself.
    pub(super) fn read_detached(arguments: &Arguments) -> Result<Self, Usage> {
        let keep_exit = Self::read(arguments);
        if keep_exit == Self::Yes && arguments.attachment() == Attachment::Foreground {
            return Err(Usage::Value {
                flag: "keep-exit",
                value: "true".to_owned(),
                expected: "--detach with it; without it, --keep records the end".to_owned(),
            });
        }
        Ok(keep_exit)
    }

    /// Performs the verb, which makes the container, and has its end recorded if that is wanted.
    pub(super) fn perform(
        self,
        context: &Context,
        id: &ContainerId,
        verb: impl FnOnce(&Store) -> Result<i32, Error>,
    ) -> Result<i32, Error> {
        let keeper = match self {
            Self::No => None,
            Self::Yes => match coracle_container::split()? {
                Side::Command(code) => return Ok(code),
                Side::Keeper(keeper) => Some(keeper),
            },
        };
        let store = context.new_store()?;
        let code = verb(&store)?;
        if let Some(keeper) = keeper {
            keeper.keep(&store, id)?;
        }
        Ok(code)
    }
}
