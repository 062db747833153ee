//! Published ports of the host, and conflicts between them. Pure.

use core::net::{IpAddr, SocketAddr};
use std::fmt;

use serde_json::Value;

use super::attachment::{Attachment, Plan};

/// A port of the host that is forwarded to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// `None`: all addresses.
    pub(crate) address: Option<IpAddr>,
    pub(crate) number: u16,
    pub(crate) protocol: String,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}", SocketAddr::new(address, self.number))?,
            None => write!(f, "{}", self.number)?,
        }
        write!(f, "/{}", self.protocol)
    }
}

impl HostPort {
    /// Whether both use the same port of the host; a port without an address is for all addresses.
    pub(super) fn clashes(&self, other: &Self) -> bool {
        self.number == other.number
            && self.protocol == other.protocol
            && overlap(self.address, other.address)
    }
}

/// Whether two ports can receive traffic for the same address: no address means all, and the
/// unspecified one means all of its family.
fn overlap(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return true;
    };
    let is_any = one.is_unspecified() || other.is_unspecified();
    one == other || (is_any && one.is_ipv4() == other.is_ipv4())
}

impl Attachment {
    /// The ports that its plugins are to publish.
    fn host_ports(&self) -> Vec<HostPort> {
        let list = self.arguments.get("portMappings").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(host_port).collect()
    }
}

/// The port of the host in an item of `portMappings`.
pub(super) fn host_port(value: &Value) -> Option<HostPort> {
    let address = value.get("hostIP").and_then(Value::as_str);
    Some(HostPort {
        address: address.and_then(|text| text.parse().ok()),
        number: u16::try_from(value.get("hostPort")?.as_u64()?).ok()?,
        protocol: value.get("protocol")?.as_str()?.to_owned(),
    })
}

impl Plan {
    /// The ports of the host that are to be published.
    pub(crate) fn host_ports(&self) -> Vec<HostPort> {
        let attachments = self.attachments.iter();
        attachments.flat_map(Attachment::host_ports).collect()
    }

    /// Whether there are any.
    #[must_use]
    pub fn publishes(&self) -> bool {
        !self.host_ports().is_empty()
    }

    /// The first of its ports that the other container already publishes.
    #[must_use]
    pub fn clash(&self, other: &Plan) -> Option<String> {
        let begun = other.attachments.iter().filter(|a| a.begun);
        let taken: Vec<HostPort> = begun.flat_map(Attachment::host_ports).collect();
        let own = self.host_ports();
        let clash = own.iter().find(|own| taken.iter().any(|t| t.clashes(own)));
        clash.map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_clash_by_number_protocol_and_address() {
        let port = |address: &str, number: u16, protocol: &str| {
            let mut value = json!({"hostPort": number, "containerPort": 1, "protocol": protocol});
            if !address.is_empty() {
                value["hostIP"] = json!(address);
            }
            host_port(&value).unwrap()
        };
        let all = port("", 80, "tcp");
        assert_eq!(all.to_string(), "80/tcp");
        assert_eq!(port("::1", 80, "udp").to_string(), "[::1]:80/udp");
        for (other, clashes) in [
            (port("", 80, "tcp"), true),
            (port("::1", 80, "tcp"), true),
            (port("", 81, "tcp"), false),
            (port("", 80, "udp"), false),
        ] {
            assert_eq!(
                (all.clashes(&other), other.clashes(&all)),
                (clashes, clashes)
            );
        }
        let one = port("127.0.0.1", 80, "tcp");
        for (address, clashes) in [
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("0.0.0.0", true),
            ("::", false),
            ("::1", false),
        ] {
            assert_eq!(one.clashes(&port(address, 80, "tcp")), clashes, "{address}");
        }
    }
}
