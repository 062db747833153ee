//! `check`: whether this host can run containers, or a bundle, where `info` prints facts and judges
//! nothing.

use std::path::PathBuf;

use coracle_bundle::ContainerId;
use coracle_container::{CreateOptions, Report, Store};
use coracle_text::escaped;

use super::create::{self, creation_flags};
use super::explain::{Form, ID};
use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, value};
use crate::arguments::{Arguments, Expected, Usage};
use crate::error::Error;
use crate::{output, root};

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "check",
        synopsis: "[BUNDLE]",
        about: "Tell whether this host can run containers, or a bundle, and what is lacking",
        order: Order::Anywhere,
        flags: creation_flags!(FLAGS),
        examples: &[
            ("check", "Judge this host for the user who asks"),
            (
                "check --systemd-cgroup /srv/web",
                "Judge it for a bundle too, with systemd making the cgroup",
            ),
            (
                "check --format json",
                "Judge it for programs; the exit code is 1 if something is lacking",
            ),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

const FLAGS: &[Flag] = &[value("format", "text|json", "Print it so [default: text]").short('f')];

/// Exit status where something is lacking.
const LACKING: i32 = 1;

pub(super) struct Check {
    pub(super) options: CreateOptions,
    /// The bundle is judged as well.
    pub(super) with_bundle: bool,
    pub(super) form: Form,
}

fn read(arguments: &Arguments) -> Result<Check, Usage> {
    arguments.expect(Expected::Maximum(1))?;
    let forms = [("text", Form::Text), ("json", Form::Json)];
    let form = arguments.choice("format", forms)?.unwrap_or(Form::Text);
    let bundle = arguments.words.first().map(PathBuf::from);
    let bundle = bundle.or_else(|| arguments.path("bundle"));
    Ok(Check {
        with_bundle: bundle.is_some(),
        options: create::options(arguments, ContainerId::parse(ID)?, bundle)?,
        form,
    })
}

impl Request for Check {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let mut report = match self.with_bundle {
            true => {
                // A bundle can be judged without a state root, which a user may lack.
                let store = context.store();
                let store = store.unwrap_or_else(|_| Store::new(root::SYSTEM.as_ref()));
                coracle_container::check_bundle(&store, &self.options)?
            }
            false => coracle_container::check_host(&self.options)?,
        };
        for finding in &mut report.findings {
            finding.found = context.log.named(&finding.found).into_owned();
        }
        match self.form {
            Form::Text => output::text(&text(&report))?,
            Form::Json => output::json(&report)?,
        }
        Ok(if report.able { 0 } else { LACKING })
    }
}

/// A line each, and one below it with what would mend it.
fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    for finding in &report.findings {
        let subject = finding.subject.to_owned();
        let found = escaped(&finding.found).to_string();
        lines.push([finding.level.name().to_owned(), subject, found]);
        lines.extend(finding.remedy.as_ref().map(|remedy| {
            let remedy = format!("=> {}", escaped(remedy));
            [String::new(), String::new(), remedy]
        }));
    }
    output::columns(&lines)
}
