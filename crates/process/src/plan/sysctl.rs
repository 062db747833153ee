//! Host name, domain name and sysctls: config.md § Hostname, config-linux.md § Sysctl.

use super::steps::{SeparateNamespace, Setting, Sysctl};
use coracle_bundle::{Config, Namespace};
use coracle_host::Host;
use coracle_sys::NamespaceKind;
use std::ffi::CString;

/// The settings in order, and the joined namespaces that must not be the host's own.
pub(super) fn machine(config: &Config, host: &Host) -> (Vec<Setting>, Vec<SeparateNamespace>) {
    let mut settings = Vec::new();
    let mut separate = Vec::new();
    let mut joins = |property: &str, kind: NamespaceKind| {
        let namespace = config.linux.namespaces.of(kind);
        separate.extend(joined(property, namespace, (host, kind)));
    };
    if let Some(name) = &config.hostname {
        joins("hostname", NamespaceKind::Uts);
        settings.push(Setting::Hostname(name.clone()));
    }
    if let Some(name) = &config.domainname {
        joins("domainname", NamespaceKind::Uts);
        settings.push(Setting::Domainname(name.clone()));
    }
    for sysctl in &config.linux.sysctl {
        let key = sysctl.key.clone();
        joins(&format!("linux.sysctl[{key:?}]"), sysctl.namespace);
        // The config's strings hold no NUL.
        let path = CString::new(format!("sys/{}", sysctl.path)).unwrap_or_default();
        let value = sysctl.value.clone();
        settings.push(Setting::Sysctl(Sysctl { key, path, value }));
    }
    (settings, separate)
}

/// The check that a namespace needs if the container joins it.
fn joined(
    property: &str,
    namespace: &Namespace,
    (host, kind): (&Host, NamespaceKind),
) -> Option<SeparateNamespace> {
    match namespace {
        Namespace::Join { path, .. } => Some(SeparateNamespace {
            property: property.to_owned(),
            path: path.clone(),
            host: *host.namespaces.of(kind),
        }),
        Namespace::New | Namespace::Inherit => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::config;
    use super::*;
    use coracle_host::fixture::v2;

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
        let (_, separate) = machine(&config, &v2());
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
}
