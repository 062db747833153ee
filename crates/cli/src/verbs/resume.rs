//! `resume ID`: thaws what `pause` froze.

use super::{Request, Verb};
use crate::arguments::Order;

pub(super) const VERB: Verb = Verb {
    name: "resume",
    synopsis: "ID",
    about: "Thaw the container's processes",
    order: Order::Anywhere,
    flags: |command| command,
    read: |given| given.only_id().map(Request::Resume),
};
