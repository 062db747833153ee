//! From flags and annotations to a request. Each item has the same syntax in both.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::str::FromStr;

use coracle_bundle::ContainerId;
use serde_json::{Value, json};

use super::list::is_name;
use super::ports::{HostPort, host_port};
use super::text::shown;
use crate::error::Error;

/// The annotation that names the networks, or `none`; the keys of the other annotations begin with
/// it.
const ANNOTATION: &str = "run.coracle.network";

/// The network annotations that coracle obeys, sorted; `features` lists them.
pub const ANNOTATIONS: [&str; 7] = [
    ANNOTATION,
    "run.coracle.network.bandwidth",
    "run.coracle.network.dns",
    "run.coracle.network.files",
    "run.coracle.network.ip",
    "run.coracle.network.mac",
    "run.coracle.network.publish",
];

/// The values of the flags, not yet checked.
///
/// A flag overrides the annotation of the same item. `host` and `container:ID` are refused in an
/// annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--network none|host|container:ID|NAME[,NAME…]`.
    pub network: Option<String>,
    /// `--publish [IP:]HOST:CONTAINER[/PROTO]`.
    pub publish: Vec<String>,
    /// `--ip ADDRESS[/PREFIX]`.
    pub ip: Vec<String>,
    /// `--mac ADDRESS`.
    pub mac: Option<String>,
    /// `--dns ADDRESS`.
    pub dns: Vec<String>,
    /// `--bandwidth KEY=NUMBER`.
    pub bandwidth: Vec<String>,
    /// `--network-files`.
    pub files: bool,
}

/// Where the container's network comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A network namespace of its own with only `lo` in it.
    Empty,
    /// The runtime's own network namespace.
    Host,
    /// The network namespace of another container.
    Container(ContainerId),
    /// A network namespace of its own, attached to networks.
    Networks(Networks),
}

/// The requested networks, and the arguments for their plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// The names, in the order of the interfaces `eth0`, `eth1`, …
    pub(crate) names: Vec<String>,
    /// Capability arguments, each with the flag or annotation that it comes from.
    pub(crate) arguments: Vec<Argument>,
    /// Name servers for the container's `resolv.conf`.
    pub(crate) servers: Vec<String>,
    /// Whether `resolv.conf` and `hosts` are to be mounted in the container.
    pub files: bool,
}

/// One capability argument: CNI CONVENTIONS.md § Dynamic Plugin specific fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(crate) by: String,
    pub(crate) capability: &'static str,
    pub(crate) value: Value,
}

/// The request of the flags and the config's annotations; `None` if neither names a network.
///
/// # Errors
/// [`Error::Request`] for a flag or annotation with an invalid value, or one that does not fit the
/// others.
pub fn request(
    flags: &Flags,
    annotations: &BTreeMap<String, String>,
) -> Result<Option<Request>, Error> {
    let items = Items { flags, annotations };
    let files = items.files()?;
    let arguments = items.arguments()?;
    let Some((by, network)) = items.one("network", "", flags.network.as_ref()) else {
        let first = arguments.first().map(|argument| argument.by.clone());
        return match first.or(files) {
            Some(by) => Err(refuse(&by, "without a network to attach to: name one")),
            None => Ok(None),
        };
    };
    let is_another = network == "host" || network.starts_with("container:");
    if is_another && flags.network.is_none() {
        // These give the container more than its config lists, and an engine may copy annotations
        // from an image.
        let problem = "accepted only from --network, since an image may set annotations";
        return Err(refuse(&by, format!("{:?}: {problem}", shown(&network))));
    }
    let request = match network.as_str() {
        "none" => Request::Empty,
        "host" => Request::Host,
        name => match name.strip_prefix("container:") {
            Some(id) => {
                let id = ContainerId::parse(id).map_err(|error| refuse(&by, error))?;
                Request::Container(id)
            }
            None => {
                return Ok(Some(Request::Networks(Networks {
                    names: names(&by, name)?,
                    servers: items.servers()?,
                    arguments,
                    files: files.is_some(),
                })));
            }
        },
    };
    match arguments
        .first()
        .map(|argument| argument.by.clone())
        .or(files)
    {
        Some(by) => {
            let problem = format!("{network:?} attaches to no network: name one");
            Err(refuse(&by, problem))
        }
        None => Ok(Some(request)),
    }
}

fn refuse(by: &str, problem: impl ToString) -> Error {
    Error::Request {
        by: by.to_owned(),
        problem: problem.to_string(),
    }
}

fn unexpected(by: &str, value: &str, expected: &str) -> Error {
    refuse(by, format!("{:?}: expected {expected}", shown(value)))
}

fn names(by: &str, list: &str) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = Vec::new();
    for name in list.split(',') {
        if !is_name(name) || ["none", "host"].contains(&name) {
            return Err(unexpected(
                by,
                name,
                "none, host, container:ID or names of networks, with commas between",
            ));
        }
        if names.iter().any(|known| known == name) {
            return Err(refuse(by, format!("{name:?} is named twice")));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// The items of a request: each comes from its flag or else from its annotation.
struct Items<'a> {
    flags: &'a Flags,
    annotations: &'a BTreeMap<String, String>,
}

impl Items<'_> {
    /// The flag or annotation of an item with one value, and the value.
    fn one(&self, flag: &str, key: &str, flag_value: Option<&String>) -> Option<(String, String)> {
        match flag_value {
            Some(value) => Some((format!("--{flag}"), value.clone())),
            None => {
                let key = format!("{ANNOTATION}{key}");
                let value = self.annotations.get(&key)?;
                Some((annotation(&key), value.clone()))
            }
        }
    }

    /// Like [`Items::one`] for an item of several values, which an annotation separates by commas.
    fn several(&self, item: &str, flag_values: &[String]) -> Option<(String, Vec<String>)> {
        if !flag_values.is_empty() {
            let values = flag_values.iter().flat_map(|value| value.split(','));
            return Some((format!("--{item}"), values.map(str::to_owned).collect()));
        }
        let (by, list) = self.one(item, &format!(".{item}"), None)?;
        Some((by, list.split(',').map(str::to_owned).collect()))
    }

    /// The flag or annotation that requests `resolv.conf` and `hosts`.
    fn files(&self) -> Result<Option<String>, Error> {
        if self.flags.files {
            return Ok(Some("--network-files".to_owned()));
        }
        match self.one("", ".files", None) {
            None => Ok(None),
            Some((by, value)) => match value.as_str() {
                "true" => Ok(Some(by)),
                "false" => Ok(None),
                _ => Err(unexpected(&by, &value, "true or false")),
            },
        }
    }

    fn arguments(&self) -> Result<Vec<Argument>, Error> {
        let found = [
            self.ports()?,
            self.addresses()?,
            self.hardware_address()?,
            self.dns()?,
            self.bandwidth()?,
        ];
        Ok(found.into_iter().flatten().collect())
    }

    fn ports(&self) -> Result<Option<Argument>, Error> {
        let Some((by, list)) = self.several("publish", &self.flags.publish) else {
            return Ok(None);
        };
        let mut ports: Vec<HostPort> = Vec::new();
        let mut mappings = Vec::new();
        for text in list {
            let expected = "[IP:]HOST:CONTAINER[/tcp|udp|sctp], ports from 1 to 65535";
            let mapping = port_mapping(&text).ok_or_else(|| unexpected(&by, &text, expected))?;
            let port = host_port(&mapping).ok_or_else(|| unexpected(&by, &text, expected))?;
            if ports.iter().any(|known| known.clashes(&port)) {
                return Err(refuse(&by, format!("{text:?}: published twice")));
            }
            ports.push(port);
            mappings.push(mapping);
        }
        Ok(Some(argument(by, "portMappings", Value::Array(mappings))))
    }

    fn addresses(&self) -> Result<Option<Argument>, Error> {
        let Some((by, list)) = self.several("ip", &self.flags.ip) else {
            return Ok(None);
        };
        for text in &list {
            if !is_address(text) {
                let expected = "an address such as 10.1.2.3, 10.1.2.3/16 or fd00::2";
                return Err(unexpected(&by, text, expected));
            }
        }
        Ok(Some(argument(by, "ips", json!(list))))
    }

    fn hardware_address(&self) -> Result<Option<Argument>, Error> {
        let Some((by, text)) = self.one("mac", ".mac", self.flags.mac.as_ref()) else {
            return Ok(None);
        };
        match is_hardware_address(&text) {
            true => Ok(Some(argument(by, "mac", json!(text)))),
            false => {
                let expected = "an address of one host such as 02:42:ac:11:00:02";
                Err(unexpected(&by, &text, expected))
            }
        }
    }

    fn dns(&self) -> Result<Option<Argument>, Error> {
        let by = self.several("dns", &self.flags.dns).map(|(by, _)| by);
        let servers = self.servers()?;
        Ok(by.map(|by| argument(by, "dns", json!({ "servers": servers }))))
    }

    fn servers(&self) -> Result<Vec<String>, Error> {
        let Some((by, list)) = self.several("dns", &self.flags.dns) else {
            return Ok(Vec::new());
        };
        match list.iter().find(|text| IpAddr::from_str(text).is_err()) {
            Some(wrong) => Err(unexpected(&by, wrong, "the address of a name server")),
            None => Ok(list),
        }
    }

    fn bandwidth(&self) -> Result<Option<Argument>, Error> {
        let Some((by, list)) = self.several("bandwidth", &self.flags.bandwidth) else {
            return Ok(None);
        };
        let mut limits = serde_json::Map::new();
        for text in list {
            let expected = "ingressRate, ingressBurst, egressRate or egressBurst, `=` and bits";
            let (key, bits) = limit(&text).ok_or_else(|| unexpected(&by, &text, expected))?;
            if limits.insert(key.to_owned(), json!(bits)).is_some() {
                return Err(refuse(&by, format!("{key:?} is set twice")));
            }
        }
        Ok(Some(argument(by, "bandwidth", Value::Object(limits))))
    }
}

fn annotation(key: &str) -> String {
    format!("config.json: annotations[{key:?}]")
}

fn argument(by: String, capability: &'static str, value: Value) -> Argument {
    Argument {
        by,
        capability,
        value,
    }
}

/// An item of `portMappings` from `[IP:]HOST:CONTAINER[/PROTO]`, an IPv6 address in brackets.
fn port_mapping(text: &str) -> Option<Value> {
    let (ports, protocol) = match text.split_once('/') {
        None => (text, "tcp"),
        Some((ports, "tcp")) => (ports, "tcp"),
        Some((ports, "udp")) => (ports, "udp"),
        Some((ports, "sctp")) => (ports, "sctp"),
        Some(_) => return None,
    };
    let (rest, container) = ports.rsplit_once(':')?;
    let (host_ip, host) = match rest.rsplit_once(':') {
        None => (None, rest),
        Some((address, host)) => (Some(bracketed(address)?), host),
    };
    let mut mapping = json!({
        "hostPort": port_number(host)?,
        "containerPort": port_number(container)?,
        "protocol": protocol,
    });
    if let (Some(address), Some(object)) = (host_ip, mapping.as_object_mut()) {
        object.insert("hostIP".to_owned(), json!(address));
    }
    Some(mapping)
}

fn bracketed(text: &str) -> Option<&str> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let bare = inner.unwrap_or(text);
    let address = IpAddr::from_str(bare).ok()?;
    (address.is_ipv6() == inner.is_some()).then_some(bare)
}

/// Only digits: no sign, no leading zero.
fn port_number(text: &str) -> Option<u16> {
    digits(text).and_then(|number| u16::try_from(number).ok())
}

fn digits(text: &str) -> Option<u64> {
    let is_plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

fn is_address(text: &str) -> bool {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = IpAddr::from_str(address) else {
        return false;
    };
    let longest = if address.is_ipv6() { 128 } else { 32 };
    let is_specific = !address.is_unspecified() && !address.is_multicast();
    is_specific
        && prefix.is_none_or(|prefix| digits(prefix).is_some_and(|length| length <= longest))
}

/// Whether it is the address of one host: six octets, without the lowest bit of the first, which
/// marks a group.
fn is_hardware_address(text: &str) -> bool {
    let octets: Vec<Option<u8>> = text
        .split(':')
        .map(|part| {
            let is_hex = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            u8::from_str_radix(part, 16).ok().filter(|_| is_hex)
        })
        .collect();
    let first = octets.first().copied().flatten();
    octets.len() == 6
        && octets.iter().all(Option::is_some)
        && octets.iter().any(|octet| *octet != Some(0))
        && first.is_some_and(|first| first & 1 == 0)
}

fn limit(text: &str) -> Option<(&'static str, u64)> {
    const KEYS: [&str; 4] = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];
    let (key, bits) = text.split_once('=')?;
    let key = KEYS.into_iter().find(|known| *known == key)?;
    Some((key, digits(bits)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(items: &[(&str, &str)]) -> BTreeMap<String, String> {
        let item =
            |(key, value): &(&str, &str)| (format!("{ANNOTATION}{key}"), (*value).to_owned());
        items.iter().map(item).collect()
    }

    fn annotated(items: &[(&str, &str)]) -> Result<Option<Request>, Error> {
        request(&Flags::default(), &annotations(items))
    }

    /// With `--network`.
    fn flagged(network: &str, items: &[(&str, &str)]) -> Result<Option<Request>, Error> {
        let flags = Flags {
            network: Some(network.to_owned()),
            ..Flags::default()
        };
        request(&flags, &annotations(items))
    }

    fn problem(items: &[(&str, &str)]) -> String {
        let text = annotated(items).expect_err("a refusal").to_string();
        text.strip_prefix("config.json: annotations[\"run.coracle.network")
            .expect("the annotation")
            .to_owned()
    }

    fn values(items: &[(&str, &str)]) -> String {
        let mut all = vec![("", "net")];
        all.extend(items);
        match annotated(&all).expect("a good value") {
            Some(Request::Networks(networks)) => networks
                .arguments
                .iter()
                .map(|argument| format!("{} {}", argument.capability, argument.value))
                .collect::<Vec<_>>()
                .join("; "),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn modes() {
        assert_eq!(annotated(&[]).unwrap(), None);
        assert_eq!(annotated(&[("", "none")]).unwrap(), Some(Request::Empty));
        assert_eq!(flagged("host", &[]).unwrap(), Some(Request::Host));
        let id = ContainerId::parse("a").unwrap();
        let peer = flagged("container:a", &[]).unwrap();
        assert_eq!(peer, Some(Request::Container(id)));
        match annotated(&[("", "a,b-1.c")]).unwrap() {
            Some(Request::Networks(networks)) => assert_eq!(networks.names, ["a", "b-1.c"]),
            other => panic!("{other:?}"),
        }
        let rule = "expected none, host, container:ID or names of networks, with commas between";
        for bad in [
            "", "a,", "a,,b", "../x", "a b", "a/b", "-a", "none,a", "a,host", "con:a",
        ] {
            let wrong = bad
                .split(',')
                .find(|name| !is_name(name) || ["none", "host"].contains(name));
            let expected = format!("\"]: {:?}: {rule}", wrong.unwrap());
            assert_eq!(problem(&[("", bad)]), expected);
        }
        assert_eq!(problem(&[("", "a,a")]), "\"]: \"a\" is named twice");
        let bad = flagged("container:..", &[]).unwrap_err().to_string();
        assert!(bad.starts_with("--network: invalid container ID format"));
    }

    #[test]
    fn an_annotation_leads_to_no_other_network() {
        let rule = "accepted only from --network, since an image may set annotations";
        for other in ["host", "container:a", "container:"] {
            let expected = format!("\"]: {other:?}: {rule}");
            assert_eq!(problem(&[("", other)]), expected);
        }
    }

    #[test]
    fn a_flag_takes_the_annotations_place() {
        let annotations = BTreeMap::from([
            (ANNOTATION.to_owned(), "wrong name".to_owned()),
            (format!("{ANNOTATION}.publish"), "80:80".to_owned()),
        ]);
        let flags = Flags {
            network: Some("a".to_owned()),
            ..Flags::default()
        };
        match request(&flags, &annotations).unwrap() {
            Some(Request::Networks(networks)) => assert_eq!(networks.arguments.len(), 1),
            other => panic!("{other:?}"),
        }
        let flags = Flags {
            publish: vec!["x".to_owned()],
            ..flags
        };
        let text = request(&flags, &annotations).unwrap_err().to_string();
        assert!(
            text.starts_with("--publish: \"x\": expected [IP:]HOST"),
            "{text}"
        );
    }

    #[test]
    fn items_need_a_network() {
        for item in [".publish", ".ip", ".mac", ".dns", ".bandwidth", ".files"] {
            let value = match item {
                ".publish" => "1:2",
                ".mac" => "02:00:00:00:00:01",
                ".bandwidth" => "egressRate=8",
                ".files" => "true",
                _ => "10.0.0.1",
            };
            let text = problem(&[(item, value)]);
            let expected = format!("{item}\"]: without a network to attach to: name one");
            assert_eq!(text, expected);
            let text = flagged("host", &[(item, value)]).unwrap_err().to_string();
            let expected = format!("{item}\"]: \"host\" attaches to no network: name one");
            assert!(text.ends_with(&expected), "{text}");
        }
    }

    #[test]
    fn good_values() {
        assert_eq!(
            values(&[(".publish", "8080:80,127.0.0.1:53:53/udp,[::1]:1:65535/sctp")]),
            "portMappings [{\"containerPort\":80,\"hostPort\":8080,\"protocol\":\"tcp\"},\
             {\"containerPort\":53,\"hostIP\":\"127.0.0.1\",\"hostPort\":53,\"protocol\":\"udp\"},\
             {\"containerPort\":65535,\"hostIP\":\"::1\",\"hostPort\":1,\"protocol\":\"sctp\"}]"
        );
        assert_eq!(
            values(&[(".ip", "10.0.0.9/24,fd00::9")]),
            "ips [\"10.0.0.9/24\",\"fd00::9\"]"
        );
        assert_eq!(
            values(&[(".mac", "02:42:AC:11:00:02")]),
            "mac \"02:42:AC:11:00:02\""
        );
        assert_eq!(
            values(&[(".dns", "9.9.9.9")]),
            "dns {\"servers\":[\"9.9.9.9\"]}"
        );
        assert_eq!(
            values(&[(".bandwidth", "ingressRate=1000,egressBurst=5")]),
            "bandwidth {\"egressBurst\":5,\"ingressRate\":1000}"
        );
        assert_eq!(values(&[(".files", "false")]), "");
    }

    #[test]
    fn bad_values_are_named() {
        for (item, values) in [
            (
                ".publish",
                &[
                    "",
                    "80",
                    ":80",
                    "80:",
                    "0:80",
                    "80:65536",
                    "80:80/icmp",
                    "80:80/",
                    "a:80",
                    "+1:80",
                    "080:80",
                    "1.2.3:80:80",
                    "::1:80:80",
                    "[1.2.3.4]:80:80",
                    "80:80,",
                    "80:80-90",
                    " 80:80",
                    "1:2:3:4",
                ][..],
            ),
            (
                ".ip",
                &[
                    "",
                    "10.0.0",
                    "10.0.0.1/33",
                    "10.0.0.1/",
                    "fd00::/129",
                    "0.0.0.0",
                    "224.0.0.1",
                    "x",
                ],
            ),
            (
                ".mac",
                &[
                    "",
                    "02:42:ac:11:00",
                    "02:42:ac:11:00:02:03",
                    "01:42:ac:11:00:02",
                    "2:42:ac:11:0:2",
                    "00:00:00:00:00:00",
                    "02-42-ac-11-00-02",
                    "+2:42:ac:11:00:02",
                ],
            ),
            (".dns", &["", "localhost", "9.9.9.9/32", "9.9.9.9,,"]),
            (
                ".bandwidth",
                &[
                    "",
                    "rate=1",
                    "ingressRate",
                    "ingressRate=-1",
                    "ingressRate=1k",
                ],
            ),
            (".files", &["", "yes", "1"]),
        ] {
            for value in values {
                let text = problem(&[("", "net"), (item, value)]);
                assert!(text.starts_with(&format!("{item}\"]: \"")), "{text}");
                assert!(text.contains(": expected "), "{text}");
            }
        }
        let twice = problem(&[("", "net"), (".publish", "80:80,127.0.0.1:80:81")]);
        assert_eq!(twice, ".publish\"]: \"127.0.0.1:80:81\": published twice");
        let twice = problem(&[("", "net"), (".bandwidth", "egressRate=1,egressRate=2")]);
        assert_eq!(twice, ".bandwidth\"]: \"egressRate\" is set twice");
    }
}
