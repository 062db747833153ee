//! Host name, domain name and sysctls: config.md § Hostname, config-linux.md § Sysctl.
//!
//! The config holds sysctls of listed namespaces only; which of them, is seen from the key.

use super::steps::{SeparateNamespace, Setting, Sysctl};
use crate::Error;
use coracle_bundle::{Config, Namespace};
use coracle_host::Host;
use std::ffi::CString;

/// The settings in order, and the joined namespaces that must not be the host's own.
pub(super) fn machine(
    config: &Config,
    host: &Host,
) -> Result<(Vec<Setting>, Vec<SeparateNamespace>), Error> {
    let mut settings = Vec::new();
    let mut separate = Vec::new();
    let uts = (&config.linux.namespaces.uts, host.namespaces.uts);
    if let Some(name) = &config.hostname {
        separate.extend(joined("hostname", uts));
        settings.push(Setting::Hostname(name.clone()));
    }
    if let Some(name) = &config.domainname {
        separate.extend(joined("domainname", uts));
        settings.push(Setting::Domainname(name.clone()));
    }
    for (key, value) in &config.linux.sysctl {
        let path = path(key);
        if path == "kernel/domainname" && config.domainname.is_some() {
            return Err(Error::DomainnameTwice);
        }
        let property = format!("linux.sysctl[{key:?}]");
        separate.extend(joined(&property, owner(&path, config, host)));
        // The config's strings hold no NUL.
        let path = CString::new(format!("sys/{path}")).unwrap_or_default();
        let (key, value) = (key.clone(), value.clone());
        settings.push(Setting::Sysctl(Sysctl { key, path, value }));
    }
    Ok((settings, separate))
}

/// The key as a path below `/proc/sys`.
///
/// The first separator decides, as for sysctl(8): in `net.ipv4.conf.eno2/100.rp_filter` the dots
/// separate and the slash stands for the interface's own dot; after a first slash all is literal.
fn path(key: &str) -> String {
    match key.find(['.', '/']).and_then(|at| key.get(at..)) {
        Some(rest) if rest.starts_with('/') => key.to_owned(),
        _ => key.chars().map(swap_separator).collect(),
    }
}

fn swap_separator(letter: char) -> char {
    match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    }
}

/// The namespace that owns the sysctl, and the host's own of that kind.
fn owner<'a>(path: &str, config: &'a Config, host: &Host) -> (&'a Namespace, (u64, u64)) {
    let asked = &config.linux.namespaces;
    let own = &host.namespaces;
    match path.split('/').next() {
        Some("net") => (&asked.network, own.network),
        Some("user") => (&asked.user, own.user),
        _ if path == "kernel/domainname" => (&asked.uts, own.uts),
        _ => (&asked.ipc, own.ipc),
    }
}

/// What has to be looked at, if the container joins the namespace.
fn joined(property: &str, owner: (&Namespace, (u64, u64))) -> Option<SeparateNamespace> {
    let (namespace, host) = owner;
    match namespace {
        Namespace::Join { path, .. } => Some(SeparateNamespace {
            property: property.to_owned(),
            path: path.clone(),
            host,
        }),
        Namespace::New | Namespace::Inherit => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::config;
    use super::*;
    use coracle_host::fixture::v2;
    use proptest::prelude::*;

    #[test]
    fn a_joined_namespace_is_looked_at_later() {
        let mut config = config("", r#", "sysctl": {"net.core.somaxconn": "1"}"#);
        let path = std::path::PathBuf::from("/run/netns/x");
        config.linux.namespaces.network = Namespace::Join {
            path: path.clone(),
            index: 0,
        };
        config.domainname = Some(c"b".to_owned());
        config.linux.namespaces.uts = Namespace::Join {
            path: path.clone(),
            index: 1,
        };
        let (_, separate) = machine(&config, &v2()).expect("a plan");
        let own = v2().namespaces;
        let expected = [
            ("hostname", own.uts),
            ("domainname", own.uts),
            ("linux.sysctl[\"net.core.somaxconn\"]", own.network),
        ];
        let expected = expected.map(|(property, host)| SeparateNamespace {
            property: property.to_owned(),
            path: path.clone(),
            host,
        });
        assert_eq!(separate, expected);
    }

    #[test]
    fn a_domainname_is_set_once() {
        let mut config = config("", r#", "sysctl": {"kernel.domainname": "a"}"#);
        assert!(machine(&config, &v2()).is_ok());
        config.domainname = Some(c"b".to_owned());
        assert_eq!(machine(&config, &v2()).err(), Some(Error::DomainnameTwice));
    }

    #[test]
    fn separators_may_be_swapped() {
        let with_a_dot = "net/ipv4/conf/eno2.100/rp_filter";
        assert_eq!(path("net.ipv4.conf.eno2/100.rp_filter"), with_a_dot);
        assert_eq!(path(with_a_dot), with_a_dot);
        assert_eq!(path("kernel.shmmax"), "kernel/shmmax");
    }

    proptest! {
        #[test]
        fn a_path_and_its_dotted_spelling_are_one_key(
            parts in prop::collection::vec("[a-z_0-9]{1,4}(\\.[a-z_0-9]{1,4})?", 2..6)
        ) {
            // The first separator decides, so that the first part holds none.
            let first = parts[0].replace('.', "_");
            let slashed = [&[first], &parts[1..]].concat().join("/");
            let dotted: String = slashed.chars().map(swap_separator).collect();
            prop_assert_eq!(path(&slashed), slashed.clone());
            prop_assert_eq!(path(&dotted), slashed);
        }
    }
}
