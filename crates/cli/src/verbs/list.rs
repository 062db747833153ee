//! `list`: all containers below the state root.

mod filter;
mod row;
mod template;

use coracle_container::State;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, switch, value, values};
use crate::arguments::{Arguments, Expected, Usage, utf8};
use crate::error::Error;
use crate::output::{self, Audience};
use crate::people;
use crate::root::Origin;
use crate::users;
use filter::Filter;
use row::Row;
use template::Template;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "list",
        synopsis: "",
        about: "List the containers",
        order: Order::Anywhere,
        flags: &[FLAGS],
        examples: &[
            ("list", "Show all containers"),
            ("list --quiet", "Print the ids, for scripts"),
            (
                "list --filter status=running --format {{.ID}}",
                "Print those that run, in a form of your own",
            ),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

/// The format of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Json,
    /// Only ids, one on each line.
    Ids,
    Template(Template),
}

const FLAGS: &[Flag] = &[
    value(
        "format",
        "table|json|TEMPLATE",
        "Print it so [default: table]",
    )
    .short('f'),
    values(
        "filter",
        "KEY=VALUE",
        "Only those of a status, id or annotation",
    ),
    switch("quiet", "Print only the ids").short('q'),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) form: Form,
    pub(super) filters: Vec<Filter>,
}

fn read(arguments: &Arguments) -> Result<List, Usage> {
    arguments.expect(Expected::Exactly(0))?;
    let format = match arguments.parsed("format", "UTF-8", utf8)?.as_deref() {
        None | Some("table") => Form::Table,
        Some("json") => Form::Json,
        Some(text) => Form::Template(Template::parse(text).map_err(|wrong| Usage::Value {
            flag: "format",
            value: wrong.to_owned(),
            expected: template::EXPECTED.to_owned(),
        })?),
    };
    let filter = |text: &[u8]| Filter::parse(std::str::from_utf8(text).ok()?);
    Ok(List {
        form: arguments.choose("quiet", Form::Ids, format),
        filters: arguments.all_parsed("filter", filter::EXPECTED, filter)?,
    })
}

impl Request for List {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let root = context.root()?;
        if root.origin == Origin::Flag {
            // A root that the caller names must exist; the default one is made by the first
            // `create`.
            std::fs::metadata(&root.path).map_err(|source| Error::NoRoot {
                path: root.path.clone(),
                source,
            })?;
        }
        let mut listing = coracle_container::list(&context.store_at(&root))?;
        for line in &listing.broken {
            output::notice(line);
        }
        let containers = &mut listing.containers;
        containers.retain(|state| filter::takes(&self.filters, state));
        print(listing.containers, &self.form)?;
        Ok(0)
    }
}

fn print(containers: Vec<State>, form: &Form) -> Result<(), Error> {
    if *form == Form::Ids {
        let ids = containers.iter().map(|state| state.id.clone() + "\n");
        return output::text(&ids.collect::<String>());
    }
    let users = users::names();
    let owner = |uid| {
        let name = users.get(&uid).cloned();
        name.unwrap_or_else(|| format!("#{uid}"))
    };
    let row = |state: State| Row {
        owner: owner(state.owner),
        age: coracle_container::age(&state.created).unwrap_or_default(),
        state,
    };
    let rows: Vec<Row> = containers.into_iter().map(row).collect();
    match form {
        Form::Json => output::json_line(&rows),
        Form::Template(template) => {
            let lines = rows.iter().map(|row| template.line(row));
            output::text(&lines.collect::<String>())
        }
        _ => output::text(&table(&rows, output::audience())),
    }
}

/// runc's columns. Scripts cut them, so only a person is shown an age in place of a time.
fn table(rows: &[Row], audience: Audience) -> String {
    let mut lines = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    lines.extend(rows.iter().map(|Row { state, owner, age }| {
        [
            state.id.clone(),
            state.pid.to_string(),
            match (&state.ended, audience) {
                (Some(ending), Audience::Person) => {
                    format!("{} ({})", state.status, people::ending(ending))
                }
                _ => state.status.to_string(),
            },
            state.bundle.display().to_string(),
            match audience {
                Audience::Person => format!("{} ago", people::age(*age)),
                Audience::Program => state.created.clone(),
            },
            owner.clone(),
        ]
    }));
    output::columns(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use row::row;

    #[test]
    fn a_person_is_shown_an_age_and_a_program_the_time() {
        let shown = |audience| table(&[row("web1", &[])], audience);
        assert!(shown(Audience::Person).contains(" 2 hours ago  "));
        assert!(shown(Audience::Program).contains(" 2026-01-01T00:00:00Z   "));
    }

    #[test]
    fn a_person_is_shown_how_it_ended() {
        let ended = |audience| {
            let mut row = row("web1", &[]);
            row.state.status = coracle_container::Status::Stopped;
            row.state.ended = Some(coracle_container::Ending {
                exit_code: 137,
                signal: Some("SIGKILL".to_owned()),
                oom_killed: true,
                at: None,
            });
            table(&[row], audience)
        };
        assert!(ended(Audience::Person).contains(" stopped (SIGKILL, out of memory) "));
        assert!(ended(Audience::Program).contains(" stopped     "));
    }

    #[test]
    fn an_empty_table_is_runcs() {
        let header = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
        assert_eq!(table(&[], Audience::Program), header);
        assert_eq!(table(&[], Audience::Person), header);
    }
}
