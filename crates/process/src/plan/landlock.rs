//! Plans the rules of Landlock.

use super::steps::Landlock;
use crate::Error;
use coracle_bundle::annotation::LANDLOCK;
use coracle_bundle::{
    LANDLOCK_FS, LANDLOCK_NET, LANDLOCK_SCOPES, Landlock as Requested, LandlockRight,
    landlock_names,
};
use coracle_sys::LandlockHandled;

/// The steps, or none without the annotation. `abi` is the running kernel's.
///
/// A right that the kernel does not know is refused: without it the process could do what the
/// config denies.
pub(super) fn steps(requested: &Requested, abi: u32) -> Result<Vec<Landlock>, Error> {
    if abi == 0 {
        return Err(Error::NoLandlock {
            annotation: LANDLOCK,
        });
    }
    let tables = [
        ("handledAccessFs", &LANDLOCK_FS[..], requested.fs),
        ("handledAccessNet", &LANDLOCK_NET[..], requested.net),
        ("scoped", &LANDLOCK_SCOPES[..], requested.scoped),
    ];
    for (property, table, bits) in tables {
        if let Some(right) = landlock_names(table, bits).find(|right| right.abi > abi) {
            return Err(Error::LandlockRight {
                property: format!("annotations[{LANDLOCK:?}].{property}"),
                right: right.name,
                needed: right.abi,
                abi,
            });
        }
    }
    let paths = requested.paths.iter().cloned();
    let paths = paths.map(|(path, allowed)| Landlock::Path { path, allowed });
    let ports = requested.ports.iter();
    let ports = ports.map(|&(port, allowed)| Landlock::Port { port, allowed });
    let handled = LandlockHandled {
        fs: requested.fs,
        net: requested.net,
        scoped: requested.scoped,
    };
    let first = std::iter::once(Landlock::Handle(handled));
    Ok(first
        .chain(paths)
        .chain(ports)
        .chain([Landlock::Restrict])
        .collect())
}

impl Landlock {
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Handle(handled) => {
                let fs = landlock_names(&LANDLOCK_FS, handled.fs);
                let net = landlock_names(&LANDLOCK_NET, handled.net);
                let mut parts = Vec::new();
                let denied = names(fs.chain(net));
                if !denied.is_empty() {
                    parts.push(format!("deny {denied}, but for what follows"));
                }
                let scoped = names(landlock_names(&LANDLOCK_SCOPES, handled.scoped));
                if !scoped.is_empty() {
                    parts.push(format!("confine {scoped}"));
                }
                format!("Landlock: {}", parts.join("; "))
            }
            Self::Path { path, allowed } => {
                let allowed = names(landlock_names(&LANDLOCK_FS, *allowed));
                format!("Landlock: allow {allowed} below {}", path.to_string_lossy())
            }
            Self::Port { port, allowed } => {
                let allowed = names(landlock_names(&LANDLOCK_NET, *allowed));
                format!("Landlock: allow {allowed} of port {port}")
            }
            Self::Restrict => "Landlock: put the rules in force".to_owned(),
        }
    }
}

fn names(rights: impl Iterator<Item = &'static LandlockRight>) -> String {
    let names: Vec<_> = rights.map(|right| right.name).collect();
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(requested: &Requested, abi: u32) -> Vec<String> {
        match steps(requested, abi) {
            Ok(steps) => steps.iter().map(Landlock::describe).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn rules_are_steps() {
        let requested = Requested {
            fs: 0b101,
            net: 0b10,
            scoped: 0b10,
            paths: vec![(c"/usr".to_owned(), 0b101)],
            ports: vec![(443, 0b10)],
        };
        let expected = [
            "Landlock: deny execute read_file connect_tcp, but for what follows; confine signal",
            "Landlock: allow execute read_file below /usr",
            "Landlock: allow connect_tcp of port 443",
            "Landlock: put the rules in force",
        ];
        assert_eq!(check(&requested, 6), expected);
        let scopes = Requested {
            scoped: 0b1,
            ..Requested::default()
        };
        assert_eq!(
            check(&scopes, 6)[0],
            "Landlock: confine abstract_unix_socket"
        );
    }

    #[test]
    fn what_the_kernel_lacks_is_refused_by_name() {
        let at = "annotations[\"run.coracle.landlock\"]";
        let of = |fs, net, scoped| Requested {
            fs,
            net,
            scoped,
            ..Requested::default()
        };
        for (requested, abi, expected) in [
            (
                of(1, 0, 0),
                0,
                format!("{at}: this kernel has no Landlock, or it is not enabled"),
            ),
            (
                of(1 << 15, 0, 0),
                4,
                format!(
                    "{at}.handledAccessFs: ioctl_dev takes version 5 of Landlock, this kernel has 4"
                ),
            ),
            (
                of(1, 1, 0),
                3,
                format!(
                    "{at}.handledAccessNet: bind_tcp takes version 4 of Landlock, this kernel has 3"
                ),
            ),
            (
                of(1, 0, 2),
                5,
                format!("{at}.scoped: signal takes version 6 of Landlock, this kernel has 5"),
            ),
        ] {
            assert_eq!(check(&requested, abi), [expected]);
        }
        assert_eq!(check(&of(0x1fff, 0, 0), 1).len(), 2);
    }
}
