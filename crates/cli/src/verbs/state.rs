//! `state ID`: runtime.md § Query State.

use super::{Request, Verb};
use crate::arguments::Order;

pub(super) const VERB: Verb = Verb {
    name: "state",
    synopsis: "ID",
    about: "Print a container's state as JSON",
    order: Order::Anywhere,
    flags: |command| command,
    read: |given| given.only_id().map(Request::State),
};
