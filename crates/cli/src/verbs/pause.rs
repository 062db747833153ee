//! `pause ID`: freezes all processes of a container.

use super::{Request, Verb};
use crate::arguments::Order;

pub(super) const VERB: Verb = Verb {
    name: "pause",
    synopsis: "ID",
    about: "Freeze the container's processes",
    order: Order::Anywhere,
    flags: |command| command,
    read: |given| given.only_id().map(Request::Pause),
};
