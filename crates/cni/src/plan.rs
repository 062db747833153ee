//! From the request and the configurations to attachments. Pure.

pub(crate) mod answer;
pub(crate) mod attachment;
pub(crate) mod call;
pub(crate) mod files;
pub(crate) mod list;
pub(crate) mod ports;
mod record;
pub(crate) mod request;
pub(crate) mod text;
pub(crate) mod verb;

use std::path::{Path, PathBuf};

use coracle_bundle::ContainerId;
use coracle_host::Host;
use coracle_sys::Capability;
use serde_json::{Map, Value, json};

pub use attachment::{Attachment, Plan, Search};
pub use files::{hosts, resolv_conf};
pub use list::{NetworkList, Plugin, Version};
pub use request::{ANNOTATIONS, Flags, Networks, Request, request};
pub use verb::Verb;

use crate::error::Error;
use call::{Arguments, Call};
use list::is_name;
use request::Argument;

/// The annotation in `state` that holds the plugins' results.
const RESULT_ANNOTATION: &str = "run.coracle.network.result";

/// The networks that a directory configures.
#[derive(Clone, Debug, Default)]
pub struct Configured {
    /// In the order of their files' names, each with its file.
    pub lists: Vec<(PathBuf, NetworkList)>,
    /// The errors of files that cannot be read, one line each.
    pub broken: Vec<String>,
}

/// The request, and the configurations that are available.
#[derive(Clone, Debug)]
pub struct Requested {
    /// The requested networks and arguments.
    pub networks: Networks,
    /// The configurations.
    pub configured: Configured,
    /// The directories, and the time limit of plugins.
    pub search: Search,
}

/// Plans the attachments of a container. None of them is made yet.
///
/// # Errors
/// A network that is not configured or configured twice; an argument that no plugin accepts; a
/// container id that plugins would refuse.
pub fn plan(requested: &Requested, id: &ContainerId, host: &Host) -> Result<Plan, Error> {
    let networks = &requested.networks;
    if !is_name(id.as_ref()) {
        let id = id.as_ref();
        return Err(Error::Request {
            by: format!("container ID {id:?}"),
            problem: "plugins take letters, digits, `_`, `.` and `-`, the first a letter or digit"
                .to_owned(),
        });
    }
    let mut attachments = Vec::new();
    for (index, name) in networks.names.iter().enumerate() {
        attachments.push(Attachment {
            network: find(&requested.configured, &requested.search.conf_dir, name)?.clone(),
            interface: format!("eth{index}"),
            arguments: Map::new(),
            begun: false,
            result: None,
        });
    }
    for argument in &networks.arguments {
        assign(&mut attachments, argument, networks.files)?;
    }
    Ok(Plan {
        attachments,
        search: requested.search.clone(),
        servers: networks.servers.clone(),
        files: networks.files,
        unprivileged: !host.has(Capability::NetAdmin),
    })
}

/// The network of this name.
///
/// # Errors
/// No configuration has the name, or two have it.
pub fn find<'a>(
    configured: &'a Configured,
    dir: &Path,
    name: &str,
) -> Result<&'a NetworkList, Error> {
    let mut found = configured
        .lists
        .iter()
        .filter(|(_, list)| list.name == name);
    match (found.next(), found.next()) {
        (Some((_, list)), None) => Ok(list),
        (Some((first, _)), Some((second, _))) => Err(Error::Twice {
            network: name.to_owned(),
            first: first.clone(),
            second: second.clone(),
        }),
        (None, _) => Err(Error::Unknown {
            network: name.to_owned(),
            dir: dir.to_owned(),
            broken: configured.broken.first().cloned(),
        }),
    }
}

/// An argument is for the first network that has a plugin for it, since a port of the host can be
/// forwarded to one address only.
fn assign(attachments: &mut [Attachment], argument: &Argument, files: bool) -> Result<(), Error> {
    let takes = |attachment: &&mut Attachment| {
        let plugins = &attachment.network.plugins;
        plugins.iter().any(|plugin| plugin.has(argument.capability))
    };
    if let Some(attachment) = attachments.iter_mut().find(takes) {
        let key = argument.capability.to_owned();
        attachment.arguments.insert(key, argument.value.clone());
        return Ok(());
    }
    // Name servers need no plugin if coracle writes them to resolv.conf.
    if argument.capability == "dns" && files {
        return Ok(());
    }
    let names: Vec<&str> = attachments
        .iter()
        .map(|attachment| attachment.network.name.as_str())
        .collect();
    Err(Error::Request {
        by: argument.by.clone(),
        problem: format!(
            "no plugin of {} has the capability {:?}",
            names.join(", "),
            argument.capability
        ),
    })
}

impl Plan {
    /// One sentence for each attachment, for `explain`.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let sentence = |attachment: &Attachment| {
            let network = &attachment.network;
            let plugins: Vec<&str> = network.plugins.iter().map(Plugin::kind).collect();
            let mut text = format!(
                "attach {} to network {} (CNI {}) by {}",
                attachment.interface,
                network.name,
                network.version,
                plugins.join(", ")
            );
            for (capability, value) in &attachment.arguments {
                text.push_str(&format!(", {capability} {value}"));
            }
            text
        };
        self.attachments.iter().map(sentence).collect()
    }

    /// The annotation with the results that `state` prints and hooks get, and its value; `None`
    /// while there is no result.
    #[must_use]
    pub fn annotation(&self) -> Option<(&'static str, String)> {
        let results: Vec<Value> = self
            .attachments
            .iter()
            .filter_map(|attachment| {
                let result = attachment.result.as_ref()?;
                let (network, interface) = (&attachment.network.name, &attachment.interface);
                Some(json!({"network": network, "interface": interface, "result": result}))
            })
            .collect();
        match results.is_empty() {
            true => None,
            false => Some((RESULT_ANNOTATION, Value::Array(results).to_string())),
        }
    }
}

impl Attachment {
    /// The environment and input of a plugin for `verb`. It gets the arguments of the capabilities
    /// that it declares: CNI SPEC § Section 3.
    pub(crate) fn call(
        &self,
        verb: Verb,
        plugin: &Plugin,
        previous: Option<&Value>,
        arguments: &Arguments,
    ) -> Call {
        let mut taken = self.arguments.clone();
        taken.retain(|capability, _| plugin.has(capability));
        let mut extra = Map::new();
        if !taken.is_empty() {
            extra.insert("runtimeConfig".to_owned(), Value::Object(taken));
        }
        if let Some(previous) = previous {
            extra.insert("prevResult".to_owned(), previous.clone());
        }
        call::call(verb, (&self.network, plugin), extra, arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_host::fixture;
    use expect_test::{Expect, expect};
    use std::collections::BTreeMap;

    pub(super) fn list(config: &Value) -> NetworkList {
        let text = config.to_string();
        list::parse(Path::new("/n/x.conflist"), text.as_bytes())
            .expect("a good list")
            .list
    }

    fn requested(flags: Flags) -> Requested {
        let bridge = json!({"cniVersion": "1.0.0", "name": "web", "plugins": [
            {"type": "bridge", "capabilities": {"mac": true, "ips": true}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        let plain = json!({"cniVersion": "0.4.0", "name": "db", "plugins": [{"type": "ptp"}]});
        let named = |config| (PathBuf::from("/n/x.conflist"), list(config));
        let Ok(Some(Request::Networks(networks))) = request(&flags, &BTreeMap::new()) else {
            panic!("names of networks")
        };
        Requested {
            networks,
            configured: Configured {
                lists: vec![named(&bridge), named(&plain)],
                broken: vec!["\"/n/y.conf\": expected an object".to_owned()],
            },
            search: Search::default(),
        }
    }

    fn check(id: &str, flags: Flags, expected: &Expect) {
        let id = ContainerId::parse(id).unwrap();
        let text = match plan(&requested(flags), &id, &fixture::v2()) {
            Ok(plan) => plan.describe().join("\n"),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text.replace(": ", ":\n").replace(", portM", ",\nportM"));
    }

    fn flags(network: &str) -> Flags {
        Flags {
            network: Some(network.to_owned()),
            ..Flags::default()
        }
    }

    #[test]
    fn networks_in_their_order_and_arguments_where_they_are_taken() {
        let ports = Flags {
            publish: vec!["80:8080".to_owned()],
            mac: Some("02:00:00:00:00:01".to_owned()),
            ..flags("db,web")
        };
        check(
            "a",
            ports,
            &expect![[r#"
                attach eth0 to network db (CNI 0.4.0) by ptp
                attach eth1 to network web (CNI 1.0.0) by bridge, portmap, mac "02:00:00:00:00:01",
                portMappings [{"containerPort":8080,"hostPort":80,"protocol":"tcp"}]"#]],
        );
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        check(
            "a",
            flags("other"),
            &expect![[r#"
                network other:
                no configuration of that name in "/etc/cni/net.d" ("/n/y.conf":
                expected an object)"#]],
        );
        let address = Flags {
            ip: vec!["10.0.0.1".to_owned()],
            ..flags("db")
        };
        check(
            "a",
            address,
            &expect![[r#"
                --ip:
                no plugin of db has the capability "ips""#]],
        );
        let dns = Flags {
            dns: vec!["9.9.9.9".to_owned()],
            ..flags("db")
        };
        check(
            "a",
            dns.clone(),
            &expect![[r#"
                --dns:
                no plugin of db has the capability "dns""#]],
        );
        check(
            "a",
            Flags { files: true, ..dns },
            &expect!["attach eth0 to network db (CNI 0.4.0) by ptp"],
        );
        check(
            "+a",
            flags("db"),
            &expect![[r#"
                container ID "+a":
                plugins take letters, digits, `_`, `.` and `-`, the first a letter or digit"#]],
        );
    }

    #[test]
    fn a_name_that_stands_twice_is_nobodys() {
        let mut requested = requested(flags("db"));
        let again = (
            PathBuf::from("/n/z.conf"),
            requested.configured.lists[1].1.clone(),
        );
        requested.configured.lists.push(again);
        let id = ContainerId::parse("a").unwrap();
        let error = plan(&requested, &id, &fixture::v2())
            .unwrap_err()
            .to_string();
        let expected = "network db: configured twice, in \"/n/x.conflist\" and \"/n/z.conf\"";
        assert_eq!(error, expected);
    }

    #[test]
    fn results_become_an_annotation() {
        let id = ContainerId::parse("a").unwrap();
        let mut plan = plan(&requested(flags("db")), &id, &fixture::v2()).unwrap();
        assert_eq!(plan.annotation(), None);
        plan.attachments[0].result = Some(json!({"ips": []}));
        let (key, value) = plan.annotation().unwrap();
        assert_eq!(key, "run.coracle.network.result");
        expect![[r#"[{"interface":"eth0","network":"db","result":{"ips":[]}}]"#]].assert_eq(&value);
        assert_eq!(Plan::from_value(&plan.to_value()), Some(plan));
        assert_eq!(Plan::from_value(&json!({"attachments": [{}]})), None);
    }
}
