//! `linux.resources.network`: cgroup-v1/net_cls.rst and net_prio.rst. v2 has neither.

use coracle_bundle::Network;

use super::limits::Version;
use super::write::Write;
use crate::{Error, Result};

const CLASS: &str = "linux.resources.network.classID";

/// The tag of the container's packets. Zero is the kernel's default: none.
pub(super) fn class(network: &Network, version: Version) -> Result<Vec<Write>> {
    match (network.class_id, version) {
        (None | Some(0), _) => Ok(Vec::new()),
        (Some(class), Version::V1) => Ok(vec![Write::new("net_cls.classid", class, CLASS)]),
        (Some(_), Version::V2) => Err(Error::config(CLASS, "cgroup v2 has no such setting")),
    }
}

/// Priorities by interface of the runtime's network namespace.
pub(super) fn priorities(network: &Network, version: Version) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    for (index, (name, priority)) in network.priorities.iter().enumerate() {
        let path = format!("linux.resources.network.priorities[{index}]");
        if version == Version::V2 {
            return Err(Error::config(path, "cgroup v2 has no such setting"));
        }
        if name.is_empty() || name.contains(char::is_whitespace) {
            let path = format!("{path}.name");
            return Err(Error::config(
                path,
                format!("{name:?} is no interface's name"),
            ));
        }
        let line = format!("{name} {priority}");
        writes.push(Write::new("net_prio.ifpriomap", line, &path));
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use super::super::write::text;
    use super::*;

    #[test]
    fn v1_has_both() {
        let network = Network {
            class_id: Some(0x10_0001),
            priorities: vec![("eth0".to_owned(), 500), ("lo".to_owned(), 0)],
        };
        assert_eq!(
            text(&class(&network, Version::V1)),
            "net_cls.classid=1048577"
        );
        assert_eq!(
            text(&priorities(&network, Version::V1)),
            "net_prio.ifpriomap=eth0 500 net_prio.ifpriomap=lo 0"
        );
    }

    #[test]
    fn v2_has_none() {
        let network = Network {
            class_id: Some(1),
            priorities: vec![("eth0".to_owned(), 5)],
        };
        let none = "cgroup v2 has no such setting";
        assert_eq!(
            text(&class(&network, Version::V2)),
            format!("error: linux.resources.network.classID: {none}")
        );
        assert_eq!(
            text(&priorities(&network, Version::V2)),
            format!("error: linux.resources.network.priorities[0]: {none}")
        );
        assert_eq!(text(&class(&Network::default(), Version::V2)), "");
    }
}
