//! `events ID`: statistics and out-of-memory events of a container, as one JSON object on each
//! line.

use std::ops::ControlFlow;
use std::time::Duration;

use coracle_bundle::ContainerId;
use coracle_container::{Event, Store};
use serde::Serialize;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, switch, value};
use crate::arguments::{Arguments, Usage, parse_duration};
use crate::error::Error;
use crate::output::{self, Reader};

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "events",
        synopsis: "ID",
        about: "Print statistics and out-of-memory events of a container",
        order: Order::Anywhere,
        flags: &[FLAGS],
        examples: &[
            (
                "events --interval 1s web1",
                "Print what a container uses, every second, until it ends",
            ),
            ("events --stats web1", "Print it once"),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

const INTERVAL: Duration = Duration::from_secs(5);

/// How long events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listening {
    /// The current statistics only.
    Once,
    /// Until the container ends, with statistics at this interval.
    Always(Duration),
}

/// A line, in runc's format.
#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
}

const FLAGS: &[Flag] = &[
    value(
        "interval",
        "TIME",
        "Time between statistics, such as 1m30s [default: 5s]",
    ),
    switch("stats", "Print statistics once"),
];

pub(super) struct Events {
    pub(super) id: ContainerId,
    pub(super) listening: Listening,
}

fn read(arguments: &Arguments) -> Result<Events, Usage> {
    let id = arguments.only_id()?;
    let expected = "a duration interval that is greater than 0, such as 5s";
    let interval = arguments.parsed("interval", expected, parse_duration)?;
    let listening = if arguments.is_on("stats") {
        Listening::Once
    } else {
        Listening::Always(interval.unwrap_or(INTERVAL))
    };
    Ok(Events { id, listening })
}

impl Request for Events {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let store = context.store()?;
        match self.listening {
            Listening::Once => {
                let sample = coracle_container::statistics(&store, &self.id)?;
                print(&self.id, "stats", Some(&sample))?;
            }
            Listening::Always(interval) => listen(&store, &self.id, interval)?,
        }
        Ok(0)
    }
}

/// Prints events until the container ends or standard output is closed.
fn listen(store: &Store, id: &ContainerId, interval: Duration) -> Result<(), Error> {
    let mut result = Ok(());
    let mut print_event = |event| {
        let printed = match event {
            Event::Statistics(sample) => print(id, "stats", Some(&*sample)),
            Event::OutOfMemory => print(id, "oom", None::<()>),
        };
        match printed {
            Ok(Reader::There) => return ControlFlow::Continue(()),
            Ok(Reader::Gone) => {}
            Err(error) => result = Err(error),
        }
        ControlFlow::Break(())
    };
    coracle_container::events(store, id, interval, &mut print_event)?;
    result
}

fn print<T: Serialize>(
    id: &ContainerId,
    kind: &'static str,
    data: Option<T>,
) -> Result<Reader, Error> {
    let id = id.as_ref();
    let line = serde_json::to_string(&Line { kind, id, data })?;
    output::write(&(line + "\n"))
}
