//! `events ID`: statistics and out-of-memory events of a container: one JSON object a line for
//! programs, a table for people.

mod table;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use coracle_bundle::ContainerId;
use coracle_container::{Ending, Event, Statistics, Store};
use serde::Serialize;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, switch, value};
use crate::arguments::{Arguments, Usage, parse_duration};
use crate::error::Error;
use crate::output::{self, Audience, Reader};
use table::Table;

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
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Statistics(&'a Statistics),
    Ending(&'a Ending),
}

const FLAGS: &[Flag] = &[
    value(
        "interval",
        "TIME",
        "Time between statistics, such as 1m30s [default: 5s]",
    ),
    switch("stats", "Print statistics once"),
    value(
        "format",
        "table|json",
        "Print it so [default: table on a terminal, else json]",
    )
    .short('f'),
];

pub(super) struct Events {
    pub(super) id: ContainerId,
    pub(super) listening: Listening,
    /// `None` is a table for a person, JSON for a program.
    pub(super) form: Option<Form>,
}

/// How events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Json,
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
    let form = arguments.choice("format", [("table", Form::Table), ("json", Form::Json)])?;
    Ok(Events {
        id,
        listening,
        form,
    })
}

impl Request for Events {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let store = context.store()?;
        let form = self.form.unwrap_or_else(|| match output::audience() {
            Audience::Person => Form::Table,
            Audience::Program => Form::Json,
        });
        let mut printer = Printer {
            id: &self.id,
            table: (form == Form::Table).then(Table::default),
        };
        match self.listening {
            Listening::Once => {
                let sample = coracle_container::statistics(&store, &self.id)?;
                printer.print(&Event::Statistics(Box::new(sample)))?;
            }
            Listening::Always(interval) => listen(&store, &mut printer, interval)?,
        }
        Ok(0)
    }
}

/// Prints events until the container ends or standard output is closed.
fn listen(store: &Store, printer: &mut Printer, interval: Duration) -> Result<(), Error> {
    let mut result = Ok(());
    let id = printer.id;
    let mut print_event = |event| {
        match printer.print(&event) {
            Ok(Reader::There) => return ControlFlow::Continue(()),
            Ok(Reader::Gone) => {}
            Err(error) => result = Err(error),
        }
        ControlFlow::Break(())
    };
    coracle_container::events(store, id, interval, &mut print_event)?;
    result
}

struct Printer<'a> {
    id: &'a ContainerId,
    /// `None` prints JSON.
    table: Option<Table>,
}

impl Printer<'_> {
    fn print(&mut self, event: &Event) -> Result<Reader, Error> {
        if let Some(table) = &mut self.table {
            return output::write(&table.lines(event, &coracle_container::now(), Instant::now()));
        }
        let id = self.id.as_ref();
        let (kind, data) = match event {
            Event::Statistics(sample) => ("stats", Some(Data::Statistics(sample))),
            Event::OutOfMemory => ("oom", None),
            Event::Ended(ending) => ("exit", Some(Data::Ending(ending))),
        };
        let line = serde_json::to_string(&Line { kind, id, data })?;
        output::write(&(line + "\n"))
    }
}
