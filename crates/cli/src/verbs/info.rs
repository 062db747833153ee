//! `info`: what this host supports, as facts without a verdict, which `check` gives. `features`
//! prints what this build supports.

use coracle_host::{CgroupMode, Host, NamespaceIds, Needs, SystemdManager};
use serde_json::{Map, Value, json};

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, value};
use crate::arguments::{Arguments, Expected, Usage};
use crate::error::Error;
use crate::output;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "info",
        synopsis: "",
        about: "Print what this host offers to containers",
        order: Order::Anywhere,
        flags: &[FLAGS],
        examples: &[
            ("info", "Print it as text"),
            ("info --format json", "Print it for programs"),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

const FLAGS: &[Flag] = &[value("format", "text|json", "Print it so [default: text]").short('f')];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Info {
    Text,
    Json,
}

fn read(arguments: &Arguments) -> Result<Info, Usage> {
    arguments.expect(Expected::Exactly(0))?;
    let forms = [("text", Info::Text), ("json", Info::Json)];
    Ok(arguments.choice("format", forms)?.unwrap_or(Info::Text))
}

impl Request for Info {
    fn perform(&self, _: &Context) -> Result<i32, Error> {
        let needs = Needs {
            cgroups: true,
            id_maps: true,
            resctrl: true,
            apparmor: true,
            selinux: true,
            systemd: true,
            refusals: true,
            namespaces: true,
            ..Needs::default()
        };
        let host = coracle_host::probe(needs).map_err(coracle_container::Error::from)?;
        let mut facts = facts(&host);
        let seccomp = coracle_seccomp::supported_flags().ok();
        facts.push(("seccomp flags", json!(seccomp)));
        let criu = coracle_container::criu().map(|(version, _)| version.to_string());
        facts.push(("criu", criu.into()));
        match self {
            Self::Text => output::text(&table(&facts))?,
            Self::Json => output::json(&object(&facts))?,
        }
        Ok(0)
    }
}

/// The name of a fact and its value; null if the host has no such thing.
type Fact = (&'static str, Value);

fn facts(host: &Host) -> Vec<Fact> {
    let cgroups = &host.cgroups;
    let mode = match cgroups.mode {
        CgroupMode::None => Value::Null,
        CgroupMode::V1 => "v1".into(),
        CgroupMode::Hybrid => "hybrid".into(),
        CgroupMode::V2 => "v2".into(),
    };
    let v1 = cgroups.hierarchies.iter();
    let v1: Vec<_> = v1.flat_map(|hierarchy| &hierarchy.controllers).collect();
    let systemd = host.systemd.as_ref();
    let manager = systemd.map(|systemd| match systemd.manager {
        SystemdManager::System => "system",
        SystemdManager::User => "user",
    });
    let ranges = |ids: &[(u32, u32)]| -> Value {
        let ranges = ids.iter().map(|(first, count)| format!("{first}:{count}"));
        ranges.collect()
    };
    let ids = &host.subordinate_ids;
    let refusal = host.user_namespaces_refused.as_ref();
    let refusal = refusal.map(|refusal| format!("{} is {}", refusal.setting, refusal.value));
    vec![
        ("kernel", host.kernel.to_string().into()),
        ("uid", host.euid.into()),
        ("in a user namespace", host.in_user_namespace.into()),
        ("namespaces", namespaces(&host.namespaces)),
        ("cgroups", mode),
        ("v1 controllers", json!(v1)),
        (
            "v2 controllers",
            json!(cgroups.unified.as_ref().map(|tree| &tree.controllers)),
        ),
        ("systemd manager", manager.into()),
        ("systemd version", systemd.map(|it| it.version).into()),
        ("apparmor", (*host.apparmor).into()),
        ("selinux", (*host.selinux).into()),
        ("resctrl", json!(*host.resctrl)),
        ("subordinate uids", ranges(&ids.uid)),
        ("subordinate gids", ranges(&ids.gid)),
        ("newuidmap", json!(ids.newuidmap)),
        ("newgidmap", json!(ids.newgidmap)),
        ("user namespaces refused", refusal.into()),
    ]
}

/// The kinds of namespace that the kernel has.
fn namespaces(own: &NamespaceIds) -> Value {
    let kinds = [
        ("cgroup", own.cgroup),
        ("ipc", own.ipc),
        ("mount", own.mount),
        ("network", own.network),
        ("pid", own.pid),
        ("time", own.time),
        ("user", own.user),
        ("uts", own.uts),
    ];
    let there = kinds.into_iter().filter(|(_, id)| *id != (0, 0));
    there.map(|(kind, _)| kind).collect()
}

fn table(facts: &[Fact]) -> String {
    let lines = facts.iter().map(|(name, value)| {
        let text = match value {
            Value::Null => "-".to_owned(),
            Value::Bool(true) => "yes".to_owned(),
            Value::Bool(false) => "no".to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(items) if items.is_empty() => "-".to_owned(),
            Value::Array(items) => {
                let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
                items.join(" ")
            }
            other => other.to_string(),
        };
        [(*name).to_owned(), text]
    });
    output::columns(&lines.collect::<Vec<_>>())
}

/// The facts as an object, with their names in camel case.
fn object(facts: &[Fact]) -> Value {
    let named = facts.iter().map(|(name, value)| {
        let mut words = name.split(' ');
        let mut key = words.next().unwrap_or_default().to_owned();
        for word in words {
            let (first, rest) = word.split_at(1);
            key = key + &first.to_ascii_uppercase() + rest;
        }
        (key, value.clone())
    });
    Value::Object(named.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_host::fixture;

    #[test]
    fn facts_are_text_and_json() {
        let facts = facts(&fixture::with_systemd(fixture::unprivileged()));
        let text = table(&facts);
        let lines = text.lines().map(|line| line.split_once("   ").unwrap());
        let lines: Vec<_> = lines.map(|(name, fact)| (name, fact.trim())).collect();
        for line in [
            ("kernel", "6.12"),
            ("uid", "1000"),
            ("in a user namespace", "no"),
            ("namespaces", "cgroup ipc mount network pid time user uts"),
            ("cgroups", "v2"),
            ("v1 controllers", "-"),
            ("systemd manager", "user"),
            ("subordinate uids", "100000:65536"),
            ("resctrl", "-"),
        ] {
            assert!(lines.contains(&line), "{line:?}: {text}");
        }
        let json = object(&facts);
        assert_eq!(json["v2Controllers"][0], "cpuset");
        assert_eq!(json["inAUserNamespace"], false);
        assert_eq!(json["resctrl"], Value::Null);
        assert_eq!(json["newuidmap"], "/usr/bin/newuidmap");
    }
}
