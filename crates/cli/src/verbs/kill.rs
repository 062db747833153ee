//! `kill ID [SIGNAL]`: runtime.md § Kill.

use clap::Command;
use coracle_container::Scope;

use super::{Request, Verb};
use crate::arguments::flag::switch;
use crate::arguments::{Expected, Given, Order, Usage, parse_signal};

pub(super) const VERB: Verb = Verb {
    name: "kill",
    synopsis: "ID [SIGNAL]",
    about: "Send a signal to a container's init [default: TERM]",
    order: Order::Anywhere,
    flags,
    read,
};

fn flags(command: Command) -> Command {
    let all = "Send it to all processes, and be content with a stopped container";
    command.arg(switch("all", all).short('a'))
}

fn read(given: &Given) -> Result<Request, Usage> {
    given.expect(Expected::Minimum(1))?;
    given.expect(Expected::Maximum(2))?;
    let signal = match given.arguments.get(1).map(|text| text.to_string_lossy()) {
        None => libc::SIGTERM,
        Some(text) => parse_signal(&text).ok_or_else(|| Usage::Signal(text.into_owned()))?,
    };
    let scope = if given.is_on("all") {
        Scope::All
    } else {
        Scope::Init
    };
    Ok(Request::Kill {
        id: given.id()?,
        signal,
        scope,
    })
}
