//! `events ID`: what a container uses and what happens to it, a JSON object a line.

use std::ops::ControlFlow;
use std::time::Duration;

use clap::Command;
use coracle_bundle::ContainerId;
use coracle_container::{Event, Store};
use serde::Serialize;

use super::{Request, Verb};
use crate::arguments::flag::{switch, value};
use crate::arguments::{Given, Order, Usage, parse_duration};
use crate::error::Error;
use crate::output::{self, Reader};

pub(super) const VERB: Verb = Verb {
    name: "events",
    synopsis: "ID",
    about: "Print statistics and out-of-memory events of a container",
    order: Order::Anywhere,
    flags,
    read,
};

const INTERVAL: Duration = Duration::from_secs(5);

/// How long to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listening {
    /// Statistics of now.
    Once,
    /// To the container's end, with statistics at intervals.
    Always(Duration),
}

/// A line, in runc's shape.
#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
}

fn flags(command: Command) -> Command {
    command
        .arg(value(
            "interval",
            "TIME",
            "Time between statistics, such as 1m30s [default: 5s]",
        ))
        .arg(switch("stats", "Print statistics once"))
}

fn read(given: &Given) -> Result<Request, Usage> {
    let id = given.only_id()?;
    let expected = "a duration interval that is greater than 0, such as 5s";
    let interval = given.parsed("interval", expected, parse_duration)?;
    let listening = if given.is_on("stats") {
        Listening::Once
    } else {
        Listening::Always(interval.unwrap_or(INTERVAL))
    };
    Ok(Request::Events { id, listening })
}

pub(super) fn run(store: &Store, id: &ContainerId, listening: Listening) -> Result<(), Error> {
    let interval = match listening {
        Listening::Once => {
            let sample = coracle_container::statistics(store, id)?;
            return tell(id, "stats", Some(&sample)).map(drop);
        }
        Listening::Always(interval) => interval,
    };
    let mut result = Ok(());
    let mut hear = |event| {
        let told = match event {
            Event::Statistics(sample) => tell(id, "stats", Some(&*sample)),
            Event::OutOfMemory => tell(id, "oom", None::<()>),
        };
        match told {
            Ok(Reader::There) => return ControlFlow::Continue(()),
            Ok(Reader::Gone) => {}
            Err(error) => result = Err(error),
        }
        ControlFlow::Break(())
    };
    coracle_container::events(store, id, interval, &mut hear)?;
    result
}

fn tell<T: Serialize>(
    id: &ContainerId,
    kind: &'static str,
    data: Option<T>,
) -> Result<Reader, Error> {
    let id = id.as_ref();
    let line = serde_json::to_string(&Line { kind, id, data })?;
    output::write(&(line + "\n"))
}
