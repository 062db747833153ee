//! systemd: which of its managers serves the caller, where it listens, and what it answers.

use std::path::Path;

use coracle_dbus::{Bus, Peer, Value};

use crate::SystemdManager;

/// The inputs that determine the addresses of a manager.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) manager: SystemdManager,
    /// `DBUS_SESSION_BUS_ADDRESS`.
    pub(crate) session_bus: Option<&'a str>,
    /// `XDG_RUNTIME_DIR`.
    pub(crate) runtime_directory: Option<&'a str>,
    /// The user's id in the parent user namespace, by [`outer_uid`].
    pub(crate) uid: u32,
}

/// The addresses to try, in order. The manager's private socket comes last: it is no public
/// interface, but it exists where no bus runs.
pub(crate) fn buses(here: &Surroundings) -> Vec<Bus> {
    let at = |peer| {
        move |path: String| Bus {
            address: format!("unix:path={}", escape(&path)),
            peer,
        }
    };
    let (daemon, service) = (at(Peer::Daemon), at(Peer::Service));
    if here.manager == SystemdManager::System {
        return vec![
            daemon("/run/dbus/system_bus_socket".to_owned()),
            service("/run/systemd/private".to_owned()),
        ];
    }
    // An empty variable counts as unset: engines pass one on as empty.
    let set = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let runtime = set(here.runtime_directory);
    let runtime = runtime.filter(|path| Path::new(path).is_absolute());
    let usual = format!("/run/user/{}", here.uid);
    let mut buses = Vec::new();
    buses.extend(set(here.session_bus).map(|address| Bus {
        address,
        peer: Peer::Daemon,
    }));
    let directories: Vec<String> = runtime.into_iter().chain([usual]).collect();
    let below = |name: &str| {
        let path = |directory: &String| format!("{directory}/{name}");
        directories.iter().map(path).collect::<Vec<_>>()
    };
    buses.extend(below("bus").into_iter().map(daemon));
    buses.extend(below("systemd/private").into_iter().map(service));
    buses.dedup();
    buses
}

/// Escapes the bytes that the D-Bus specification does not allow in an address.
fn escape(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.\\*".contains(&byte);
    path.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02x}"),
        })
        .collect()
}

/// The id in the parent user namespace for `uid` of this one: user_namespaces(7). An unmapped id is
/// returned unchanged.
pub(crate) fn outer_uid(uid_map: &str, uid: u32) -> u32 {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let offset = uid.checked_sub(inside)?;
        (offset < numbers.next()?.ok()?).then(|| outside.checked_add(offset))?
    };
    uid_map.lines().find_map(line).unwrap_or(uid)
}

/// The major version: 257 of `257.5-2` and of `v257`; 0 if there is none, so that an unknown
/// version counts as an old one.
pub(crate) fn version(value: Option<&Value>) -> u32 {
    let text = value.and_then(|value| value.inner().text());
    let text = text.unwrap_or_default().trim_start_matches('v');
    let end = text.find(|c: char| !c.is_ascii_digit());
    let digits = text.get(..end.unwrap_or(text.len()));
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(session_bus: Option<&str>, runtime_directory: Option<&str>) -> Vec<String> {
        let here = Surroundings {
            manager: SystemdManager::User,
            session_bus,
            runtime_directory,
            uid: 1000,
        };
        let text = |bus: &Bus| bus.address.replace("unix:path=", "");
        buses(&here).iter().map(text).collect()
    }

    #[test]
    fn where_the_users_manager_listens() {
        let (bus, private) = ("/run/user/1000/bus", "/run/user/1000/systemd/private");
        assert_eq!(user(None, None), [bus, private]);
        assert_eq!(user(Some(""), Some("")), [bus, private]);
        assert_eq!(
            user(Some("unix:path=/x"), Some("not absolute")),
            ["/x", bus, private]
        );
        assert_eq!(
            user(None, Some("/run/u r")),
            ["/run/u%20r/bus", bus, "/run/u%20r/systemd/private", private]
        );
        assert_eq!(user(None, Some("/run/user/1000")), [bus, private]);
    }

    #[test]
    fn the_owner_of_a_user_namespace() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outer_uid(map, 0), 1000);
        assert_eq!(outer_uid(map, 5), 100_004);
        assert_eq!(outer_uid("0 0 4294967295\n", 1000), 1000);
        assert_eq!(outer_uid("", 7), 7);
    }

    #[test]
    fn versions() {
        for (text, expected) in [("257.5-2", 257), ("v255", 255), ("249", 249), ("x", 0)] {
            assert_eq!(
                version(Some(&Value::Variant(Box::new(text.into())))),
                expected
            );
        }
        assert_eq!(version(None), 0);
    }
}
