//! `list`: all containers below the state root.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use coracle_container::State;
use serde::Serialize;

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, switch, value};
use crate::arguments::{Arguments, Expected, Usage};
use crate::error::Error;
use crate::output;
use crate::root::Origin;

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
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

/// Only this much of /etc/passwd is read; users beyond it are shown by number.
const MAX_PASSWD_BYTES: u64 = 4 << 20;

/// The format of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Json,
    /// Only ids, one on each line.
    Ids,
}

/// A container's state and who created it.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    state: State,
    owner: String,
}

const FLAGS: &[Flag] = &[
    value("format", "table|json", "Print it so [default: table]").short('f'),
    switch("quiet", "Print only the ids").short('q'),
];

fn read(arguments: &Arguments) -> Result<Form, Usage> {
    arguments.expect(Expected::Exactly(0))?;
    let forms = [("table", Form::Table), ("json", Form::Json)];
    let format = arguments.choice("format", forms)?;
    Ok(arguments.choose("quiet", Form::Ids, format.unwrap_or(Form::Table)))
}

impl Request for Form {
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
        let listing = coracle_container::list(&context.store_at(&root))?;
        for line in &listing.broken {
            output::notice(line);
        }
        print(listing.containers, *self)?;
        Ok(0)
    }
}

fn print(containers: Vec<State>, form: Form) -> Result<(), Error> {
    if form == Form::Ids {
        let ids = containers.iter().map(|state| state.id.clone() + "\n");
        return output::text(&ids.collect::<String>());
    }
    let users = user_names();
    let owner = |uid| {
        let name = users.get(&uid).cloned();
        name.unwrap_or_else(|| format!("#{uid}"))
    };
    let rows: Vec<Row> = containers
        .into_iter()
        .map(|state| Row {
            owner: owner(state.owner),
            state,
        })
        .collect();
    match form {
        Form::Json => output::json_line(&rows),
        _ => output::text(&table(&rows)),
    }
}

/// User names by uid. The C library's lookup loads shared objects, which a static program cannot
/// do, so /etc/passwd is read here.
fn user_names() -> BTreeMap<u32, String> {
    // Non-blocking and limited: the file may be a FIFO, or endless.
    let opened = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open("/etc/passwd");
    let mut passwd = Vec::new();
    match opened.and_then(|file| file.take(MAX_PASSWD_BYTES).read_to_end(&mut passwd)) {
        Ok(_) => parse_passwd(&String::from_utf8_lossy(&passwd)),
        Err(_) => BTreeMap::new(),
    }
}

/// Of several names for a uid the first is used: passwd(5).
fn parse_passwd(passwd: &str) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(uid))) = (fields.next(), fields.nth(1).map(str::parse)) {
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    lines.extend(rows.iter().map(|Row { state, owner }| {
        [
            state.id.clone(),
            state.pid.to_string(),
            state.status.to_string(),
            state.bundle.display().to_string(),
            state.created.clone(),
            owner.clone(),
        ]
    }));
    output::columns(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_runcs() {
        let header = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
        assert_eq!(table(&[]), header);
    }

    #[test]
    fn the_first_name_of_a_uid_counts() {
        let names = parse_passwd("root:x:0:0::/:\ntoor:x:0:0\n\nbroken\nann:x:7:7\nbad:x:y:1\n");
        assert_eq!(
            names,
            BTreeMap::from([(0, "root".to_owned()), (7, "ann".to_owned())])
        );
    }
}
