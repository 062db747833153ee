//! Mounts that come from the host. criu does not dump them: a dump gives each a name in the images,
//! and a restore tells criu what to bind for each name.
//!
//! The name is the path in the container, or `/dev/null` for a masked file. runc uses the same
//! names, so images can be exchanged with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use coracle_bundle::{Config, Device, FileSystem, Mount, Namespace};
use coracle_host::unescaped;
use coracle_sys::Depth;

const NULL: &str = "/dev/null";
/// Filesystems that criu mounts anew, even if the host has mounted the same.
const NATIVE: [&str; 6] = ["proc", "sysfs", "mqueue", "devpts", "cgroup", "cgroup2"];

/// The mounts before a dump, in the format of proc_pid_mountinfo(5).
#[derive(Clone, Copy, Debug)]
pub struct DumpFacts<'a> {
    /// Those of init.
    pub container: &'a [u8],
    /// Those of the runtime.
    pub host: &'a [u8],
}

/// The mounts before a restore.
#[derive(Clone, Copy, Debug)]
pub struct RestoreFacts<'a> {
    /// The destinations of the config's mounts, with links resolved.
    pub destinations: &'a [PathBuf],
    /// Those of the runtime, in the format of proc_pid_mountinfo(5).
    pub host: &'a [u8],
    /// The path of the root filesystem, with links resolved.
    pub root: &'a Path,
    /// The container's cgroup in each hierarchy: the hierarchy's mount point and the directory.
    pub cgroups: &'a [(PathBuf, PathBuf)],
}

/// One line of mountinfo.
struct Line {
    device: Vec<u8>,
    root: PathBuf,
    point: PathBuf,
    kind: Vec<u8>,
}

/// The mount point and name of each mount that criu must not dump.
pub(crate) fn externals(config: &Config, facts: DumpFacts) -> Vec<(PathBuf, PathBuf)> {
    let host = lines(facts.host);
    let all = lines(facts.container);
    let from_host = |line: &&Line| {
        let has_device = |other: &Line| other.device == line.device;
        let whole = |other: &Line| has_device(other) && other.root == Path::new("/");
        let is_group = line.kind.starts_with(b"cgroup");
        let native = NATIVE.iter().any(|kind| kind.as_bytes() == line.kind);
        // Seen from outside its cgroup namespace, a new cgroup mount looks like a bind mount.
        let fresh = is_group && config.linux.namespaces.cgroup != Namespace::Inherit;
        let bound =
            |mount: &Mount| mount.bind().is_some() && mount.destination.path() == line.point;
        config.mounts.iter().any(bound)
            || host.iter().any(has_device) && !fresh && !(native && all.iter().any(whole))
    };
    let inner = all.iter().filter(|line| line.point != Path::new("/"));
    let masks = &config.linux.masked_paths;
    let named = inner.filter(from_host).map(|line| {
        let name = match masks.contains(&line.point) {
            true => PathBuf::from(NULL),
            false => line.point.clone(),
        };
        (line.point.clone(), name)
    });
    named.collect()
}

/// The name of each mount that images may leave out, and the source to bind.
pub(crate) fn sources(config: &Config, facts: RestoreFacts) -> Vec<(PathBuf, PathBuf)> {
    let mut all: Vec<(PathBuf, PathBuf)> = Vec::new();
    let host = lines(facts.host);
    let mut add = |name: PathBuf, source: PathBuf| {
        if !all.iter().any(|(known, _)| *known == name) {
            all.push((name, source));
        }
    };
    for (mount, destination) in config.mounts.iter().zip(facts.destinations) {
        match mount.bind() {
            Some((source, depth)) => {
                add(destination.clone(), source.to_owned());
                if depth == Depth::Recursive {
                    below(&host, source).for_each(|(rest, path)| add(destination.join(rest), path));
                }
            }
            _ if is_cgroup(mount) && config.linux.namespaces.cgroup == Namespace::Inherit => {
                for (point, directory) in facts.cgroups {
                    let name = point.file_name().unwrap_or(OsStr::new(""));
                    add(destination.join(name), directory.clone());
                }
            }
            _ => {}
        }
    }
    below(&host, facts.root).for_each(|(rest, path)| add(Path::new("/").join(rest), path));
    // Where no node can be made, the host's is bound.
    let devices = Device::defaults().chain(config.linux.devices.iter().cloned());
    devices.for_each(|device| add(device.path.clone(), device.path));
    all
}

fn is_cgroup(mount: &Mount) -> bool {
    mount.file_system() == Some(&FileSystem::Cgroup)
}

/// The host's mounts below a directory: the path relative to it, and the whole path.
fn below<'a>(host: &'a [Line], top: &'a Path) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    host.iter().filter_map(move |line| {
        let rest = line.point.strip_prefix(top).ok()?;
        let is_below = !rest.as_os_str().is_empty() && top != Path::new("/");
        is_below.then(|| (rest.to_owned(), line.point.clone()))
    })
}

/// Parses mountinfo. A malformed line is left out: criu reads the same file and reports it.
fn lines(mountinfo: &[u8]) -> Vec<Line> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines.filter_map(parse).collect()
}

fn parse(line: &[u8]) -> Option<Line> {
    let mut words = line.split(|byte| *byte == b' ');
    let device = words.nth(2)?.to_owned();
    let (root, point) = (words.next()?, words.next()?);
    words.find(|word| *word == b"-")?;
    Some(Line {
        device,
        root: unescaped(root),
        point: unescaped(point),
        kind: words.next()?.to_owned(),
    })
}

/// The mount point of one of the config's mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mountpoint {
    /// The mount's index in the config, for messages: `mounts[3]`.
    pub index: usize,
    /// The filesystem that the mount point is in.
    pub parent: Parent,
    /// The path of the mount point in that.
    pub below: PathBuf,
    /// The source of a bind mount: the mount point is a file if the source is one. Otherwise it is
    /// a directory.
    pub source: Option<PathBuf>,
}

/// The filesystem that a mount point is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The root filesystem, where it is made if it is missing.
    Root,
    /// The source of an earlier bind mount of this index, where it is made if it is missing.
    Bound(usize, PathBuf),
    /// Another earlier mount of this index, whose contents criu or the kernel makes.
    Filled(usize),
}

/// One mount point for each of the config's mounts.
#[must_use]
pub fn mountpoints(config: &Config) -> Vec<Mountpoint> {
    let mountpoint = |index: usize| {
        let mount = config.mounts.get(index)?;
        let destination = mount.destination.path();
        let earlier = config.mounts.get(..index)?.iter().enumerate();
        let over = earlier
            .filter(|(_, other)| destination.starts_with(other.destination.path()))
            .max_by_key(|(_, other)| other.destination.path().as_os_str().len());
        let (parent, top) = match over {
            None => (Parent::Root, Path::new("/")),
            Some((number, other)) => {
                let parent = match other.bind() {
                    Some((source, _)) => Parent::Bound(number, source.to_owned()),
                    None => Parent::Filled(number),
                };
                (parent, other.destination.path())
            }
        };
        let below = destination.strip_prefix(top).ok()?.to_owned();
        let source = mount.bind().map(|(source, _)| source.to_owned());
        Some(Mountpoint {
            index,
            parent,
            below,
            source,
        })
    };
    (0..config.mounts.len()).filter_map(mountpoint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    fn config(mounts: serde_json::Value) -> Config {
        let text = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "mounts": mounts,
            "linux": {
                "namespaces": [{"type": "mount"}, {"type": "pid"}],
                "maskedPaths": ["/proc/keys", "/sys/firmware"],
                "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
            },
        });
        coracle_bundle::parse(Path::new("/b"), text.to_string().as_bytes()).unwrap()
    }

    fn shown(pairs: &[(PathBuf, PathBuf)]) -> String {
        let lines = pairs
            .iter()
            .map(|(a, b)| format!("{} = {}\n", a.display(), b.display()));
        lines.collect()
    }

    const HOST: &[u8] = b"20 1 254:0 / / rw - ext4 /dev/vda rw\n\
        21 20 0:6 / /dev rw - devtmpfs devtmpfs rw\n\
        22 20 0:7 / /proc rw - proc proc rw\n\
        23 20 0:31 / /vol/deep\\040er rw shared:3 - tmpfs tmpfs rw\n";

    #[test]
    fn what_the_host_has_mounted_too_is_left_out() {
        let config = config(json!([
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/var/run", "type": "bind", "source": "/vol", "options": ["rbind"]},
            {"destination": "/hostproc", "type": "bind", "source": "/proc", "options": ["rbind"]},
        ]));
        let container = b"53 55 254:0 /b/rootfs / rw - ext4 /dev/vda rw\n\
            84 53 0:47 / /proc rw - proc proc rw\n\
            54 84 0:6 /null /proc/keys rw - devtmpfs devtmpfs rw\n\
            56 84 0:47 /bus /proc/bus ro - proc proc rw\n\
            85 53 0:48 / /dev rw - tmpfs tmpfs rw\n\
            86 85 0:6 /fuse /dev/fuse rw - devtmpfs devtmpfs rw\n\
            88 53 254:0 /vol /run rw - ext4 /dev/vda rw\n\
            89 88 0:31 / /run/deep\\040er rw master:3 - tmpfs tmpfs rw\n\
            90 53 0:7 / /hostproc rw - proc proc rw\n\
            91 53 0:49 / /sys/firmware ro - tmpfs tmpfs rw\n\
            a line that is none\n";
        let facts = DumpFacts {
            container,
            host: HOST,
        };
        expect![[r#"
            /proc/keys = /dev/null
            /dev/fuse = /dev/fuse
            /run = /run
            /run/deep er = /run/deep er
            /hostproc = /hostproc
        "#]]
        .assert_eq(&shown(&externals(&config, facts)));
    }

    #[test]
    fn each_name_finds_its_source() {
        let config = config(json!([
            {"destination": "/var/run", "type": "bind", "source": "/vol", "options": ["rbind"]},
            {"destination": "/data", "type": "bind", "source": "/data", "options": ["bind"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"},
        ]));
        let destinations = ["/run", "/data", "/sys/fs/cgroup"].map(PathBuf::from);
        let cgroups = [(
            PathBuf::from("/sys/fs/cgroup/memory"),
            PathBuf::from("/sys/fs/cgroup/memory/web1"),
        )];
        let facts = RestoreFacts {
            destinations: &destinations,
            host: HOST,
            root: Path::new("/vol"),
            cgroups: &cgroups,
        };
        expect![[r#"
            /run = /vol
            /run/deep er = /vol/deep er
            /data = /data
            /sys/fs/cgroup/memory = /sys/fs/cgroup/memory/web1
            /deep er = /vol/deep er
            /dev/null = /dev/null
            /dev/zero = /dev/zero
            /dev/full = /dev/full
            /dev/random = /dev/random
            /dev/urandom = /dev/urandom
            /dev/tty = /dev/tty
            /dev/fuse = /dev/fuse
        "#]]
        .assert_eq(&shown(&sources(&config, facts)));
    }

    #[test]
    fn mount_points_lie_in_the_root_or_in_what_covers_it() {
        let config = config(json!([
            {"destination": "/a", "type": "bind", "source": "/src", "options": ["bind"]},
            {"destination": "/a/b/c", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/a/b/c/d", "type": "bind", "source": "/file", "options": ["bind"]},
            {"destination": "/ab", "type": "proc", "source": "proc"},
        ]));
        let all = mountpoints(&config);
        let of = |parent: Parent, below: &str, source: Option<&str>, index| Mountpoint {
            index,
            parent,
            below: below.into(),
            source: source.map(PathBuf::from),
        };
        assert_eq!(
            all,
            [
                of(Parent::Root, "a", Some("/src"), 0),
                of(Parent::Bound(0, "/src".into()), "b/c", None, 1),
                of(Parent::Filled(1), "d", Some("/file"), 2),
                of(Parent::Root, "ab", None, 3),
            ]
        );
    }
}
