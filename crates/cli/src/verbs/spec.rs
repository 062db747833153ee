//! `spec`: a template config.json.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, switch, value};
use crate::arguments::{Arguments, Expected, Usage};
use crate::error::Error;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "spec",
        synopsis: "",
        about: "Write a template config.json",
        order: Order::Anywhere,
        flags: &[FLAGS],
        examples: &[
            ("spec", "Write ./config.json for root"),
            (
                "spec --rootless --bundle /srv/web",
                "Write one for an ordinary user",
            ),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

/// The kind of user that the config is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Root,
    /// For a user namespace in which the caller is root, without a network namespace, resources or
    /// anything else that an ordinary user may not create.
    Rootless,
}

const ROOT: &str = include_str!("../spec/root.json");
/// `UID` and `GID` stand for the caller's ids.
const ROOTLESS: &str = include_str!("../spec/rootless.json");
/// The entry of the cgroup namespace in both templates.
const CGROUP_NAMESPACE: &str = "\t\t\t{\n\t\t\t\t\"type\": \"cgroup\"\n\t\t\t},\n";

/// The cgroup version of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hierarchy {
    /// Only version 2, on which a cgroup namespace shows a container its own part of the tree.
    Unified,
    Other,
}

const FLAGS: &[Flag] = &[
    value("bundle", "DIR", "Write it here [default: .]").short('b'),
    switch("rootless", "Write one that works without root's rights"),
];

pub(super) struct Spec {
    pub(super) bundle: PathBuf,
    pub(super) kind: Kind,
}

fn read(arguments: &Arguments) -> Result<Spec, Usage> {
    arguments.expect(Expected::Exactly(0))?;
    let bundle = arguments
        .path("bundle")
        .unwrap_or_else(|| PathBuf::from("."));
    let kind = arguments.choose("rootless", Kind::Rootless, Kind::Root);
    Ok(Spec { bundle, kind })
}

impl Request for Spec {
    fn perform(&self, _: &Context) -> Result<i32, Error> {
        write(&self.bundle, self.kind)?;
        Ok(0)
    }
}

fn write(bundle: &Path, kind: Kind) -> Result<(), Error> {
    let caller = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    let unified = File::open("/sys/fs/cgroup").is_ok_and(|directory| {
        coracle_sys::file_system_magic(directory.as_fd()) == Ok(coracle_sys::CGROUP2_MAGIC)
    });
    let hierarchy = match unified {
        true => Hierarchy::Unified,
        false => Hierarchy::Other,
    };
    let path = bundle.join("config.json");
    let write = |source| Error::Write {
        path: path.clone(),
        source,
    };
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::SpecExists(path));
        }
        Err(error) => return Err(write(error)),
    };
    file.write_all(config(kind, hierarchy, caller).as_bytes())
        .map_err(write)
}

/// The config's text for a caller's uid and gid.
fn config(kind: Kind, hierarchy: Hierarchy, (uid, gid): (u32, u32)) -> String {
    let text = match kind {
        Kind::Root => ROOT.to_owned(),
        Kind::Rootless => ROOTLESS
            .replace("\"UID\"", &uid.to_string())
            .replace("\"GID\"", &gid.to_string()),
    };
    match hierarchy {
        Hierarchy::Unified => text,
        Hierarchy::Other => text.replacen(CGROUP_NAMESPACE, "", 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_bundle::{IdMapping, Namespace};

    fn parsed(kind: Kind) -> coracle_bundle::Config {
        parsed_for(kind, Hierarchy::Unified)
    }

    fn parsed_for(kind: Kind, hierarchy: Hierarchy) -> coracle_bundle::Config {
        let text = config(kind, hierarchy, (1000, 100));
        coracle_bundle::parse(Path::new("/bundle"), text.as_bytes()).unwrap()
    }

    #[test]
    fn both_forms_are_valid_and_raise_no_warning() {
        for kind in [Kind::Root, Kind::Rootless] {
            let config = parsed(kind);
            assert_eq!(config.warnings, Vec::<String>::new());
            assert_eq!(config.oci_version, coracle_container::OCI_VERSION);
            assert_eq!(config.root.path, Path::new("/bundle/rootfs"));
            let process = config.process.unwrap();
            assert!(process.terminal && process.no_new_privileges);
            assert_eq!(process.args, [c"sh".to_owned()]);
            assert_eq!(process.capabilities.ambient.0, 0);
        }
    }

    #[test]
    fn root_has_every_namespace_but_user_and_time() {
        let all = parsed(Kind::Root).linux.namespaces;
        for new in [
            all.pid,
            all.network,
            all.mount,
            all.ipc,
            all.uts,
            all.cgroup,
        ] {
            assert_eq!(new, Namespace::New);
        }
        assert_eq!(
            (all.user, all.time),
            (Namespace::Inherit, Namespace::Inherit)
        );
    }

    #[test]
    fn a_cgroup_namespace_is_for_version_2() {
        for kind in [Kind::Root, Kind::Rootless] {
            let mut both = [Hierarchy::Unified, Hierarchy::Other]
                .map(|hierarchy| parsed_for(kind, hierarchy).linux.namespaces);
            assert_eq!(both[0].cgroup, Namespace::New);
            assert_eq!(both[1].cgroup, Namespace::Inherit);
            both[1].cgroup = Namespace::New;
            assert_eq!(format!("{:?}", both[0]), format!("{:?}", both[1]));
        }
    }

    #[test]
    fn rootless_maps_the_caller_and_asks_for_nothing_more() {
        let linux = parsed(Kind::Rootless).linux;
        let only = |host_id| {
            vec![IdMapping {
                container_id: 0,
                host_id,
                size: 1,
            }]
        };
        assert_eq!(linux.id_mappings.uid, only(1000));
        assert_eq!(linux.id_mappings.gid, only(100));
        assert_eq!(linux.namespaces.user, Namespace::New);
        assert_eq!(linux.namespaces.network, Namespace::Inherit);
        assert_eq!(linux.resources, coracle_bundle::Resources::default());
    }

    #[test]
    fn the_text_is_indented_by_tabs_and_ends_its_line() {
        for kind in [Kind::Root, Kind::Rootless] {
            let text = config(kind, Hierarchy::Other, (0, 0));
            assert!(text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n") && text.ends_with("}\n"));
            assert!(!text.contains("  ") && !text.contains("ID\","));
        }
    }
}
