//! The requests to criu.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_bundle::{Config, Namespace, annotation};

use super::mounts::{self, DumpFacts, RestoreFacts};
use super::options::{CgroupsMode, Flags, LsmLabels, PageServer, SWITCHES, field, kind};
use super::wire::Writer;

/// criu's `Info` and `Warn`, but not each page.
const LOG_LEVEL: u64 = 4;
/// `CLONE_NEWNET`: criu leaves the network namespace empty. Hooks make devices and addresses, or
/// the owner of a joined namespace.
const NETWORK: u64 = 0x4000_0000;

/// What is dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The whole container, which is killed then.
    Dump,
    /// The whole container, which goes on.
    DumpAndLeave,
    /// Only memory, for a dump that names this one as its parent. The container goes on.
    PreDump,
}

/// A container that is to be dumped.
#[derive(Clone, Copy, Debug)]
pub struct Dump<'a> {
    /// The container's config.
    pub config: &'a Config,
    /// What is dumped.
    pub kind: Kind,
    /// Switches.
    pub flags: Flags,
    /// How criu handles cgroups.
    pub cgroups: CgroupsMode,
    /// Init's pid in the runtime's pid namespace.
    pub init: i32,
    /// Its mounts and the runtime's.
    pub mounts: DumpFacts<'a>,
    /// The namespaces that it joined by path.
    pub namespaces: Namespaces,
    /// The cgroup by whose freezer it is frozen.
    pub freezer: Option<&'a Path>,
    /// The directory of the parent images, relative to that of the images.
    pub parent: Option<&'a Path>,
    /// The page server that memory is sent to.
    pub page_server: Option<&'a PageServer>,
    /// criu's configuration file.
    pub config_file: Option<&'a Path>,
    /// Init's standard streams.
    pub descriptors: &'a Descriptors,
}

/// The inodes of joined namespaces, which are neither dumped nor made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// That of the network namespace, if it was joined by path.
    pub network: Option<u64>,
    /// That of the pid namespace, if it was joined by path.
    pub pid: Option<u64>,
}

/// The names of init's standard streams: links in `/proc/PID/fd`, or mount and inode. A restore
/// replaces each by the caller's stream. An empty name is not replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptors(pub Vec<String>);

impl Descriptors {
    /// The names of streams from outside the container, with the stream's number.
    pub(crate) fn external(&self) -> impl Iterator<Item = (usize, &str)> {
        let all = self.0.iter().take(3).map(String::as_str).enumerate();
        all.filter(|(_, name)| {
            ["pipe:[", "file[", "tty["]
                .iter()
                .any(|kind| name.starts_with(kind))
        })
    }
}

/// A container that is to be restored.
#[derive(Clone, Copy, Debug)]
pub struct Restore<'a> {
    /// The new container's config.
    pub config: &'a Config,
    /// Switches.
    pub flags: Flags,
    /// How criu handles cgroups.
    pub cgroups: CgroupsMode,
    /// Where the root filesystem will be mounted for criu.
    pub root: &'a Path,
    /// The sources of mounts.
    pub mounts: RestoreFacts<'a>,
    /// criu's configuration file.
    pub config_file: Option<&'a Path>,
    /// Labels that replace those of the images.
    pub labels: &'a LsmLabels,
    /// The streams of the init that was dumped.
    pub descriptors: &'a Descriptors,
}

/// A request to criu, except for what is known only when it is sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) kind: u64,
    pub(crate) options: Writer,
    /// The name and path of each namespace that criu gets as a descriptor.
    pub(crate) namespaces: Vec<(&'static str, PathBuf)>,
    /// The name and number of each of the runtime's streams that criu passes on.
    pub(crate) streams: Vec<(String, usize)>,
    /// criu's configuration file.
    pub(crate) config_file: Option<PathBuf>,
    notes: Vec<String>,
}

impl Request {
    /// The name of the log file.
    #[must_use]
    pub fn log_name(&self) -> &'static str {
        match self.kind {
            kind::RESTORE => "restore.log",
            _ => "dump.log",
        }
    }

    /// The verb for messages.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self.kind {
            kind::RESTORE => "restore",
            kind::PRE_DUMP => "pre-dump",
            _ => "dump",
        }
    }

    /// What criu does about resources that the images leave out, one line each.
    #[must_use]
    pub fn describe(&self) -> &[String] {
        &self.notes
    }
}

/// criu's configuration file: that of the annotation, or else the first of two that exists. criu
/// ignores one that is missing.
pub fn config_file(config: &Config, exists: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    const OURS: &str = "/etc/criu/coracle.conf";
    const PEERS: &str = "/etc/criu/runc.conf";
    match config.annotations.get(annotation::CRIU_CONFIG) {
        Some(none) if none.is_empty() => None,
        Some(path) => Some(path.into()),
        None if exists(Path::new(OURS)) => Some(OURS.into()),
        None => Some(PEERS.into()),
    }
}

/// The request of a dump.
#[must_use]
pub fn dump(dump: &Dump) -> Request {
    let mut options = begin(dump.flags, dump.cgroups, dump.config_file);
    options
        .number(field::PID, u64::try_from(dump.init).unwrap_or(0))
        .text(field::LOG_FILE, b"dump.log")
        .text(field::ROOT, bytes(&dump.config.root.path));
    if dump.kind == Kind::DumpAndLeave {
        options.number(field::LEAVE_RUNNING, 1);
    }
    if let Some(freezer) = dump.freezer {
        options.text(field::FREEZE_CGROUP, bytes(freezer));
    }
    if let Some(parent) = dump.parent {
        options.text(field::PARENT_IMG, bytes(parent));
    }
    if dump.parent.is_some() || dump.kind == Kind::PreDump {
        options.number(field::TRACK_MEM, 1);
    }
    if let Some(server) = dump.page_server {
        let mut place = Writer::default();
        place
            .text(1, server.address.as_bytes())
            .number(2, u64::from(server.port));
        options.message(field::PAGE_SERVER, &place);
    }
    let joined = [
        ("net", NETWORK_KEY, dump.namespaces.network),
        ("pid", PID_KEY, dump.namespaces.pid),
    ];
    for (name, key, inode) in joined {
        if let Some(inode) = inode {
            options.text(field::EXTERNAL, format!("{name}[{inode}]:{key}").as_bytes());
        }
    }
    for (_, name) in dump.descriptors.external() {
        if !name.starts_with("pipe:[") {
            options.text(field::EXTERNAL, name.as_bytes());
        }
    }
    for (point, name) in mounts::externals(dump.config, dump.mounts) {
        options.text(field::EXTERNAL, &external(&point, &name));
    }
    Request {
        kind: match dump.kind {
            Kind::PreDump => kind::PRE_DUMP,
            _ => kind::DUMP,
        },
        options,
        namespaces: Vec::new(),
        streams: Vec::new(),
        config_file: dump.config_file.map(Path::to_owned),
        notes: Vec::new(),
    }
}

/// Keys of joined namespaces in the images; runc's, so that images can be exchanged.
const NETWORK_KEY: &str = "extRootNetNS";
const PID_KEY: &str = "extRootPidNS";

/// The request of a restore.
#[must_use]
pub fn restore(restore: &Restore) -> Request {
    let mut options = begin(restore.flags, restore.cgroups, restore.config_file);
    options
        .text(field::LOG_FILE, b"restore.log")
        .text(field::ROOT, bytes(restore.root))
        .number(field::EVASIVE_DEVICES, 1)
        .number(field::RST_SIBLING, 1);
    let labels = [
        (field::LSM_PROFILE, &restore.labels.profile),
        (field::LSM_MOUNT_CONTEXT, &restore.labels.mount_context),
    ];
    for (number, label) in labels {
        if let Some(label) = label {
            options.text(number, label.as_bytes());
        }
    }
    let mut notes = Vec::new();
    for (name, source) in mounts::sources(restore.config, restore.mounts) {
        options.text(field::EXTERNAL, &external(&name, &source));
        notes.push(format!("bind {} as {}", source.display(), name.display()));
    }
    let kinds = &restore.config.linux.namespaces;
    let joined = [
        ("ipc", &kinds.ipc),
        ("uts", &kinds.uts),
        ("time", &kinds.time),
        ("user", &kinds.user),
    ];
    for (name, namespace) in joined {
        if let Namespace::Join { path, .. } = namespace {
            let mut join = Writer::default();
            join.text(1, name.as_bytes()).text(2, bytes(path));
            options.message(field::JOIN_NS, &join);
            notes.push(format!("join the {name} namespace {}", path.display()));
        }
    }
    let opened = [(NETWORK_KEY, &kinds.network), (PID_KEY, &kinds.pid)];
    let opened = opened.into_iter().filter_map(|(key, kind)| match kind {
        Namespace::Join { path, .. } => Some((key, path.clone())),
        _ => None,
    });
    let namespaces: Vec<_> = opened.collect();
    for (key, path) in &namespaces {
        notes.push(format!("use the namespace {} as {key}", path.display()));
    }
    for (number, name) in restore.descriptors.external() {
        notes.push(format!("use stream {number} as {name}"));
    }
    Request {
        kind: kind::RESTORE,
        options,
        namespaces,
        streams: streams(restore.descriptors),
        config_file: restore.config_file.map(Path::to_owned),
        notes,
    }
}

/// The streams that criu inherits, by name. criu would open a regular file anew and demand its old
/// size, unless it finds an inherited descriptor by the file's path first. Its code drops the first
/// character of the name as if it were a slash (open_path() of criu/files-reg.c), so a file is
/// listed under that name as well.
fn streams(descriptors: &Descriptors) -> Vec<(String, usize)> {
    let mut all = Vec::new();
    for (number, name) in descriptors.external() {
        all.push((name.to_owned(), number));
        if name.starts_with("file[") {
            all.push((name.chars().skip(1).collect(), number));
        }
    }
    all
}

fn begin(flags: Flags, cgroups: CgroupsMode, config_file: Option<&Path>) -> Writer {
    let mut options = Writer::default();
    options
        .number(field::LOG_LEVEL, LOG_LEVEL)
        .number(field::NOTIFY_SCRIPTS, 1)
        .number(
            field::MANAGE_CGROUPS,
            u64::from(cgroups != CgroupsMode::Ignore),
        )
        .number(field::MANAGE_CGROUPS_MODE, cgroups.number())
        .number(field::EMPTY_NS, NETWORK)
        .number(field::ORPHAN_PTS_MASTER, 1);
    for (flag, number) in SWITCHES {
        if flags.contains(flag) {
            options.number(number, 1);
        }
    }
    if let Some(file) = config_file {
        options.text(field::CONFIG_FILE, bytes(file));
    }
    options
}

fn external(key: &Path, value: &Path) -> Vec<u8> {
    [b"mnt[", bytes(key), b"]:", bytes(value)].concat()
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::wire::{Value, read};
    use expect_test::{Expect, expect};
    use serde_json::{Value as Json, json};

    fn config(namespaces: Json) -> Config {
        let text = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/a", "type": "bind", "source": "/src", "options": ["bind"]},
            ],
            "linux": {"namespaces": namespaces},
        });
        coracle_bundle::parse(Path::new("/b"), text.to_string().as_bytes()).unwrap()
    }

    fn check(request: Request, expected: Expect) {
        let bytes = request.options.clone().into_bytes();
        let mut text = format!("{} into {}\n", request.verb(), request.log_name());
        read(&bytes, |field, value| {
            text += &match value {
                Value::Bytes(bytes) => {
                    format!(
                        "{field}: {}\n",
                        String::from_utf8_lossy(bytes).escape_debug()
                    )
                }
                value => format!("{field}: {}\n", value.number()?),
            };
            Ok(())
        })
        .unwrap();
        for line in request.describe() {
            text = text + line + "\n";
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn a_dump_is_requested() {
        let config = config(json!([{"type": "mount"}, {"type": "network", "path": "/n"}]));
        let descriptors = Descriptors(vec!["file[2a:3]".into(), "pipe:[77]".into(), "/x".into()]);
        let server = PageServer {
            address: "::1".into(),
            port: 9,
        };
        let options = Dump {
            config: &config,
            kind: Kind::DumpAndLeave,
            flags: Flags::TCP_ESTABLISHED | Flags::LAZY_PAGES,
            cgroups: CgroupsMode::Soft,
            init: 12,
            mounts: DumpFacts {
                container: b"9 8 1:2 /src /a rw - ext4 /dev/x rw\n",
                host: b"",
            },
            namespaces: Namespaces {
                network: Some(4_026_531_840),
                pid: None,
            },
            freezer: Some(Path::new("/sys/fs/cgroup/freezer/c")),
            parent: Some(Path::new("../one")),
            page_server: Some(&server),
            config_file: Some(Path::new("/etc/criu/runc.conf")),
            descriptors: &descriptors,
        };
        check(
            dump(&options),
            expect![[r#"
            dump into dump.log
            9: 4
            12: 1
            24: 1
            34: 3
            38: 1073741824
            50: 1
            5: 1
            48: 1
            51: /etc/criu/runc.conf
            2: 12
            10: dump.log
            13: /b/rootfs
            3: 1
            44: /sys/fs/cgroup/freezer/c
            14: ../one
            15: 1
            11: \n\u{3}::1\u{10}\t
            37: net[4026531840]:extRootNetNS
            37: file[2a:3]
            37: mnt[/a]:/a
        "#]],
        );
    }

    #[test]
    fn a_restore_is_requested() {
        let config = config(json!([
            {"type": "mount"}, {"type": "pid", "path": "/p"}, {"type": "uts", "path": "/u"},
        ]));
        let labels = LsmLabels {
            profile: Some("apparmor:x".into()),
            mount_context: None,
        };
        let options = Restore {
            config: &config,
            flags: Flags::TCP_CLOSE,
            cgroups: CgroupsMode::Ignore,
            root: Path::new("/run/c/root"),
            mounts: RestoreFacts {
                destinations: &["/a".into()],
                host: b"",
                root: Path::new("/b/rootfs"),
                cgroups: &[],
            },
            config_file: None,
            labels: &labels,
            descriptors: &Descriptors(vec!["/dev/null".into(), "pipe:[1]".into()]),
        };
        check(
            restore(&options),
            expect![[r#"
                restore into restore.log
                9: 4
                12: 1
                24: 0
                34: 0
                38: 1073741824
                50: 1
                52: 1
                10: restore.log
                13: /run/c/root
                6: 1
                26: 1
                53: apparmor:x
                37: mnt[/a]:/src
                37: mnt[/dev/null]:/dev/null
                37: mnt[/dev/zero]:/dev/zero
                37: mnt[/dev/full]:/dev/full
                37: mnt[/dev/random]:/dev/random
                37: mnt[/dev/urandom]:/dev/urandom
                37: mnt[/dev/tty]:/dev/tty
                39: \n\u{3}uts\u{12}\u{2}/u
                bind /src as /a
                bind /dev/null as /dev/null
                bind /dev/zero as /dev/zero
                bind /dev/full as /dev/full
                bind /dev/random as /dev/random
                bind /dev/urandom as /dev/urandom
                bind /dev/tty as /dev/tty
                join the uts namespace /u
                use the namespace /p as extRootPidNS
                use stream 1 as pipe:[1]
            "#]],
        );
    }

    #[test]
    fn the_configuration_file_is_the_annotations() {
        let mut config = config(json!([{"type": "mount"}]));
        let file = |config: &Config, exists| config_file(config, |_| exists);
        assert_eq!(file(&config, true), Some("/etc/criu/coracle.conf".into()));
        assert_eq!(file(&config, false), Some("/etc/criu/runc.conf".into()));
        config
            .annotations
            .insert(annotation::CRIU_CONFIG.into(), "/x".into());
        assert_eq!(file(&config, true), Some("/x".into()));
        config
            .annotations
            .insert(annotation::CRIU_CONFIG.into(), String::new());
        assert_eq!(file(&config, true), None);
    }
}
