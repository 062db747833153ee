//! `start ID`: runtime.md § Start.

use super::{Request, Verb};
use crate::arguments::Order;

pub(super) const VERB: Verb = Verb {
    name: "start",
    synopsis: "ID",
    about: "Start a container that was created",
    order: Order::Anywhere,
    flags: |command| command,
    read: |given| given.only_id().map(Request::Start),
};
