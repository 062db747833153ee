//! `ps ID`: the processes of a container.

mod table;

use std::ffi::OsString;
use std::process::{Command as Program, Stdio};

use coracle_bundle::ContainerId;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, value};
use crate::arguments::{Arguments, Expected, Usage};
use crate::error::Error;
use crate::output;
use table::Machine;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "ps",
        synopsis: "ID [OPTION OF ps...]",
        about: "Show the processes of a container",
        order: Order::First,
        flags: &[FLAGS],
        examples: &[
            ("ps web1", "Show the processes of a container"),
            ("ps web1 -o pid,rss,args", "Choose the columns, as for ps"),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

/// How the processes are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The columns of `ps -ef`.
    Table,
    /// The lines that ps(1) prints with these options.
    Ps(Vec<OsString>),
    /// The host's pids.
    Json,
}

const FLAGS: &[Flag] = &[value(
    "format",
    "table|json",
    "Print ps' table, or the pids alone [default: table]",
)
.short('f')];

pub(super) struct Ps {
    pub(super) id: ContainerId,
    pub(super) form: Form,
}

fn read(arguments: &Arguments) -> Result<Ps, Usage> {
    arguments.expect(Expected::Minimum(1))?;
    let is_json = arguments.choice("format", [("table", false), ("json", true)])?;
    let form = match (is_json, arguments.words.get(1..)) {
        (Some(true), _) => Form::Json,
        (_, Some(options @ [_, ..])) => Form::Ps(options.to_vec()),
        _ => Form::Table,
    };
    Ok(Ps {
        id: arguments.id()?,
        form,
    })
}

impl Request for Ps {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let pids = coracle_container::processes(&context.store()?, &self.id)?;
        match &self.form {
            Form::Json => output::json_line(&pids)?,
            Form::Table => {
                let processes = coracle_container::describe(pids)?;
                output::text(&table::table(&processes, &Machine::now()))?;
            }
            Form::Ps(options) => output::text(&filter(&ps(options)?, &pids)?)?,
        }
        Ok(0)
    }
}

/// The output of ps(1). Engines may call the runtime without PATH.
fn ps(options: &[OsString]) -> Result<String, Error> {
    let has_path = std::env::var_os("PATH").is_some_and(|path| !path.is_empty());
    let printed = Program::new(if has_path { "ps" } else { "/bin/ps" })
        .args(options)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::RunPs)?;
    if !printed.status.success() {
        let text = String::from_utf8_lossy(&printed.stderr).into_owned();
        return Err(Error::PsFailed {
            status: printed.status,
            text,
        });
    }
    Ok(String::from_utf8_lossy(&printed.stdout).into_owned())
}

/// The header, and the lines of these processes.
fn filter(table: &str, pids: &[i32]) -> Result<String, Error> {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or(Error::NoPidColumn)?;
    let is_wanted = |line: &&str| {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    let wanted = std::iter::once(header).chain(lines.filter(is_wanted));
    Ok(wanted.map(|line| line.to_owned() + "\n").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines_are_kept() {
        let table =
            "UID   PID  PPID CMD\nroot    1     0 init\nann    12     1 sh 5\nann   5 1 x\n";
        let kept = filter(table, &[12, 5, 99]).unwrap();
        assert_eq!(
            kept,
            "UID   PID  PPID CMD\nann    12     1 sh 5\nann   5 1 x\n"
        );
        assert_eq!(filter(table, &[]).unwrap(), "UID   PID  PPID CMD\n");
        assert!(matches!(
            filter("COMMAND\nsh\n", &[1]),
            Err(Error::NoPidColumn)
        ));
        assert!(matches!(filter("", &[1]), Err(Error::NoPidColumn)));
    }
}
