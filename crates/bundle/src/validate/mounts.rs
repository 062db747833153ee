//! `mounts`: config.md § Mounts.

use super::ids;
use super::root;
use super::text::{absolute, check_path, optional_c_string, path_text};
use crate::error::{At, Document, Error, Shown};
use crate::options;
use crate::read::Notes;
use crate::{
    Config, Destination, FileSystem, IdMapping, IdMappings, Linux, Mount, MountIdMap, MountIds,
    MountKind, MountOptions, Namespace,
};
use coracle_sys::Depth;
use oci_spec::runtime as oci;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The maximum number of mounts, far above what engines need: each costs descriptors and kernel
/// memory.
const MAX_MOUNTS: usize = 10_000;

/// Validates the mounts, in listed order, in which they are made.
pub(super) fn mounts(
    raw: Option<&[oci::Mount]>,
    at: At<'_>,
    dir: &Path,
    linux: &Linux,
    notes: &mut Notes,
) -> Result<Vec<Mount>, Error> {
    let raw = raw.unwrap_or_default();
    if raw.len() > MAX_MOUNTS {
        return Err(at.refuse(format!("{} entries, above {MAX_MOUNTS}", raw.len())));
    }
    let mut mounts = Vec::with_capacity(raw.len());
    for (index, entry) in raw.iter().enumerate() {
        mounts.push(mount(entry, at.index(index), dir, linux, notes)?);
    }
    Ok(mounts)
}

fn mount(
    raw: &oci::Mount,
    at: At<'_>,
    dir: &Path,
    linux: &Linux,
    notes: &mut Notes,
) -> Result<Mount, Error> {
    let path = path_of_destination(raw, at.key("destination"), notes)?;
    let texts = raw.options().as_deref().unwrap_or_default();
    let at_options = at.key("options");
    let mut options = options::parse(texts, at_options, notes)?;
    let file_system = file_system(raw, &mut options, at.key("type"))?;
    if options.bind.is_some() {
        // A bind mount has the superblock of its source, whose flags it must not change.
        options.superblock.clear();
        drop_data(&mut options, at_options, notes);
    }
    check_options(&options, file_system.as_ref(), at_options)?;
    let mappings = &linux.id_mappings;
    check_ids(&options, file_system.as_ref(), mappings, at_options)?;
    let kind = kind(raw, &options, file_system, dir, at)?;
    let destination = destination(path, &kind, &linux.namespaces.mount, at.key("destination"))?;
    let id_map = id_map(raw, &options, linux, at)?;
    if id_map.is_some() && !can_be_id_mapped(&kind) {
        return Err(at.refuse("a remount, cgroups and the host's sysfs cannot be id-mapped"));
    }
    Ok(Mount {
        at: at.to_string(),
        destination,
        kind,
        options,
        id_map,
    })
}

impl Config {
    /// Adds a bind of the runtime's own after the mounts of the config: of something to be read.
    ///
    /// # Errors
    /// The container has the host's own root, in which nothing is mounted.
    pub fn add_bind(&mut self, source: PathBuf, destination: PathBuf) -> Result<(), Error> {
        let config = At::Root(Document::Config);
        let (root, mounts) = (config.key("root"), config.key("mounts"));
        let at = mounts.index(self.mounts.len());
        let texts = ["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned);
        self.mounts.push(Mount {
            at: at.to_string(),
            destination: Destination::Path(destination),
            kind: MountKind::Bind {
                source,
                depth: Depth::Single,
            },
            options: options::parse(&texts, at, &mut Notes::default())?,
            id_map: None,
        });
        root::check_host_root(&self.root, &self.linux, &self.mounts, root)
    }
}

fn path_of_destination(raw: &oci::Mount, at: At<'_>, notes: &mut Notes) -> Result<PathBuf, Error> {
    let text = path_text(raw.destination());
    check_path(text, at)?;
    let path = absolute(text);
    if !text.starts_with('/') {
        notes
            .warnings
            .push(format!("{at}: {} is relative, taken from /", Shown(text)));
    }
    Ok(path)
}

/// The type, which means nothing to a bind.
fn file_system(
    raw: &oci::Mount,
    options: &mut MountOptions,
    at: At<'_>,
) -> Result<Option<FileSystem>, Error> {
    // In the specification only the options make a bind mount; the type `bind` alone is crun's
    // form.
    if raw.typ().as_deref() == Some("bind") && options.bind.is_none() {
        options.bind = Some(Depth::Single);
    }
    let name = optional_c_string(raw.typ().as_deref(), at)?;
    let name = name.filter(|_| options.bind.is_none());
    Ok(name.map(FileSystem::new))
}

/// Validates the source: a path for a bind mount, otherwise a string for the filesystem.
fn kind(
    raw: &oci::Mount,
    options: &MountOptions,
    file_system: Option<FileSystem>,
    dir: &Path,
    at: At<'_>,
) -> Result<MountKind, Error> {
    let source = raw.source().as_deref().map(path_text);
    let source = optional_c_string(source, at.key("source"))?;
    Ok(match (options.bind, source, file_system) {
        _ if options.remount => MountKind::Remount {
            bind: options.bind.is_some(),
        },
        (Some(depth), Some(source), _) => MountKind::Bind {
            source: dir.join(OsStr::from_bytes(source.as_bytes())),
            depth,
        },
        (Some(_), None, _) => {
            return Err(at.key("source").refuse("a bind mount needs a source"));
        }
        (None, source, Some(file_system)) => MountKind::New {
            file_system,
            source,
        },
        (None, _, None) => {
            let problem = "required where the options have neither bind nor rbind, but missing";
            return Err(at.key("type").refuse(problem));
        }
    })
}

/// Drops filesystem options of a bind mount, with a warning: engines write them, but they have no
/// meaning.
fn drop_data(options: &mut MountOptions, at: At<'_>, notes: &mut Notes) {
    for (key, _) in options.data.drain(..) {
        notes.warnings.push(format!(
            "{at}: {} means nothing to a bind mount and is ignored",
            Shown(&key.to_string_lossy())
        ));
    }
}

/// Refuses combinations that the kernel would silently ignore.
fn check_options(
    options: &MountOptions,
    file_system: Option<&FileSystem>,
    at: At<'_>,
) -> Result<(), Error> {
    if (options.copy_symlink || options.src_nofollow) && options.bind.is_none() {
        return Err(at.refuse("copy-symlink and src-nofollow need a bind mount"));
    }
    if options.tmpcopyup && file_system != Some(&FileSystem::Tmpfs) {
        return Err(at.refuse("tmpcopyup needs a mount of type tmpfs"));
    }
    Ok(())
}

/// The only files of procfs that may be mounted over, as lxcfs does. Any other mount in procfs
/// could cover files that the runtime or the masked paths rely on.
const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Validates a destination. With another filesystem in place of procfs, labels and sysctls would be
/// written to fake files and not to the kernel (CVE-2019-16884, CVE-2019-19921). Links of the image
/// are resolved at run time, where the filesystem that they lead to is checked.
fn destination(
    path: PathBuf,
    kind: &MountKind,
    namespace: &Namespace,
    at: At<'_>,
) -> Result<Destination, Error> {
    let is_remount = matches!(kind, MountKind::Remount { .. });
    if path == Path::new("/") {
        // Else the second mount on the root's path would stay on the host.
        return match *namespace == Namespace::Inherit && !is_remount {
            true => Err(at.refuse("a mount on / needs a mount namespace")),
            false => Ok(Destination::Root),
        };
    }
    if !path.starts_with("/proc") {
        return Ok(Destination::Path(path));
    }
    let refuse = |why| {
        let path = Shown(path_text(&path));
        Err(at.refuse(format!(
            "{path} cannot be mounted because it is inside /proc{why}"
        )))
    };
    if path == Path::new("/proc") {
        return match kind {
            MountKind::New {
                file_system: FileSystem::Proc,
                ..
            }
            | MountKind::Bind { .. }
            | MountKind::Remount { .. } => Ok(Destination::Proc),
            MountKind::New { .. } => refuse(" (only a procfs may take its place)"),
        };
    }
    let mut files = PROC_FILES.into_iter();
    let is_bind = !matches!(
        kind,
        MountKind::New { .. } | MountKind::Remount { bind: false }
    );
    let file = files.find(|file| Path::new(file) == path && is_bind);
    file.map_or_else(|| refuse(""), |file| Ok(Destination::ProcFile(file)))
}

/// Checks that ids in options are mapped in the container's user namespace: the kernel would only
/// return EINVAL.
fn check_ids(
    options: &MountOptions,
    file_system: Option<&FileSystem>,
    mappings: &IdMappings,
    at: At<'_>,
) -> Result<(), Error> {
    let Some(FileSystem::Tmpfs | FileSystem::Devpts | FileSystem::Proc) = file_system else {
        return Ok(());
    };
    for (key, value) in &options.data {
        let (map, name) = match key.as_bytes() {
            b"uid" => (&mappings.uid, "uidMappings"),
            b"gid" => (&mappings.gid, "gidMappings"),
            _ => continue,
        };
        let text = value
            .as_deref()
            .map(CStr::to_string_lossy)
            .unwrap_or_default();
        if let Ok(id) = text.parse::<u32>()
            && !ids::is_mapped(map, id)
        {
            let key = key.to_string_lossy();
            return Err(at.refuse(format!("{key}={id} is not mapped by linux.{name}")));
        }
    }
    Ok(())
}

/// The id map of a mount: its own, in either form, or that of the container's user namespace.
fn id_map(
    raw: &oci::Mount,
    options: &MountOptions,
    linux: &Linux,
    at: At<'_>,
) -> Result<Option<MountIdMap>, Error> {
    let (uid, gid) = (raw.uid_mappings().as_deref(), raw.gid_mappings().as_deref());
    let (at_uid, at_gid) = (at.key("uidMappings"), at.key("gidMappings"));
    let ids = match (uid, gid, options.mapping.as_deref()) {
        (None, None, None) if options.idmap.is_none() => return Ok(None),
        (None, None, None) => of_container(linux, at.key("options"))?,
        (None, None, Some(text)) => {
            MountIds::Lines(written(text, at.key("options"), &linux.id_mappings)?)
        }
        (Some(uid), Some(gid), None) => MountIds::Lines(IdMappings {
            uid: non_empty(ids::map(uid, at_uid)?, at_uid)?,
            gid: non_empty(ids::map(gid, at_gid)?, at_gid)?,
        }),
        (None, Some(_), None) => return Err(at_uid.refuse("missing beside gidMappings")),
        (Some(_), None, None) => return Err(at_gid.refuse("missing beside uidMappings")),
        (_, _, Some(_)) => {
            return Err(at.key("options").refuse(
                "a mapping behind idmap= and one in uidMappings or gidMappings exclude each other",
            ));
        }
    };
    let depth = options.idmap.unwrap_or(Depth::Single);
    Ok(Some(MountIdMap { ids, depth }))
}

/// Only what is still detached can be, and cgroups and sysfs have no owners to map.
fn can_be_id_mapped(kind: &MountKind) -> bool {
    use FileSystem::{Cgroup, Cgroup2, Sysfs};
    let file_system = match kind {
        MountKind::Bind { .. } => return true,
        MountKind::Remount { .. } => return false,
        MountKind::New { file_system, .. } => file_system,
    };
    !matches!(file_system, Cgroup | Cgroup2 | Sysfs)
}

fn of_container(linux: &Linux, at: At<'_>) -> Result<MountIds, Error> {
    match &linux.namespaces.user {
        Namespace::New => Ok(MountIds::Lines(linux.id_mappings.clone())),
        Namespace::Join { path, .. } => Ok(MountIds::Namespace(path.clone())),
        Namespace::Inherit => Err(at.refuse(
            "idmap without uidMappings and gidMappings needs a user namespace, and \
             linux.namespaces has none",
        )),
    }
}

fn non_empty(map: Vec<IdMapping>, at: At<'_>) -> Result<Vec<IdMapping>, Error> {
    if map.is_empty() {
        Err(at.refuse("has no range"))
    } else {
        Ok(map)
    }
}

/// Parses `uids=0-1-10#10-11-10;gids=0-100-10`: the first id on the filesystem, the first id on the
/// host, and the size of each range. After `@` the second id is the container's, to be looked up in
/// its map.
fn written(text: &str, at: At<'_>, container: &IdMappings) -> Result<IdMappings, Error> {
    let wrong = || {
        at.refuse(format!(
            "idmap={} is not of the form uids=0-1-10#10-11-10;gids=0-100-10",
            Shown(text)
        ))
    };
    let mut mappings = IdMappings::default();
    for part in text.split(';') {
        let (target, map, list) = match part.split_once('=') {
            Some(("uids", list)) => (&mut mappings.uid, &container.uid, list),
            Some(("gids", list)) => (&mut mappings.gid, &container.gid, list),
            _ => return Err(wrong()),
        };
        for range in list.split('#') {
            let (relative, numbers) = match range.strip_prefix('@') {
                Some(numbers) => (true, numbers),
                None => (false, range),
            };
            let mut range = triplet(numbers).ok_or_else(wrong)?;
            if relative {
                let host = ids::to_host(map, range.host_id, range.size);
                range.host_id = host.ok_or_else(|| {
                    at.refuse(format!(
                        "idmap={}: @{} is not within one range of the container's mappings",
                        Shown(text),
                        numbers
                    ))
                })?;
            }
            target.push(range);
        }
    }
    if mappings.uid.is_empty() || mappings.gid.is_empty() {
        return Err(wrong());
    }
    Ok(IdMappings {
        uid: ids::check(mappings.uid, at)?,
        gid: ids::check(mappings.gid, at)?,
    })
}

fn triplet(text: &str) -> Option<IdMapping> {
    let mut numbers = text.split('-').map(|number| {
        number
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| number.parse::<u32>().ok())?
    });
    let mut next = || numbers.next().flatten();
    let range = IdMapping {
        container_id: next()?,
        host_id: next()?,
        size: next()?,
    };
    numbers.next().is_none().then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttributeChange;
    use crate::fixture::{
        accepted, accepted_from, base, base_with_user, parse_tree, refused, refused_from, remove,
        set, with,
    };
    use expect_test::expect;
    use serde_json::{Value, json};

    const AT: &str = "/mounts/-";

    fn bind(destination: &str, options: &[&str]) -> Value {
        let options: Vec<&str> = [&["bind"], options].concat();
        json!({"destination": destination, "source": "/src", "options": options})
    }

    fn fresh(destination: &str, kind: &str, options: &[&str]) -> Value {
        json!({"destination": destination, "type": kind, "source": kind, "options": options})
    }

    fn last(mount: Value) -> Mount {
        with(AT, mount).mounts.pop().unwrap()
    }

    #[test]
    fn destinations() {
        refused(&[
            (
                AT,
                json!({"type": "tmpfs"}),
                "mounts[2].destination: required, but missing",
            ),
            (
                AT,
                fresh("", "tmpfs", &[]),
                "mounts[2].destination: \"\" is not a path",
            ),
            (
                AT,
                fresh("/a\0", "tmpfs", &[]),
                "mounts[2].destination: \"/a\\0\" holds a NUL byte",
            ),
            (
                "/mounts",
                json!(vec![fresh("/t", "tmpfs", &[]); 10_001]),
                "mounts: 10001 entries, above 10000",
            ),
        ]);
        assert_eq!(
            last(fresh("/../a//b/./c/", "tmpfs", &[])).destination,
            Destination::Path("/a/b/c".into())
        );
        for spelling in ["/", "//", "/.", "/../", "/a/..", ".."] {
            assert_eq!(last(bind(spelling, &[])).destination, Destination::Root);
        }
        let config = with(AT, fresh("run/x\n", "tmpfs", &[]));
        assert_eq!(config.mounts[2].destination.path(), Path::new("/run/x\n"));
        assert_eq!(
            config.warnings,
            ["config.json: mounts[2].destination: \"run/x\\n\" is relative, taken from /"]
        );
    }

    #[test]
    fn inside_proc() {
        let refusal = |path: &str| {
            format!("mounts[2].destination: {path:?} cannot be mounted because it is inside /proc")
        };
        for path in [
            "/proc/sys",
            "/proc/self/attr",
            "/proc/sys/kernel",
            "/proc/cpuinfo2",
        ] {
            refused(&[(AT, bind(path, &[]), &refusal(path))]);
        }
        refused(&[
            (
                AT,
                bind("/proc/1/../sysrq-trigger", &[]),
                &refusal("/proc/sysrq-trigger"),
            ),
            (AT, bind("/x/../proc//sys", &[]), &refusal("/proc/sys")),
            (AT, bind("proc/sys", &[]), &refusal("/proc/sys")),
            (AT, fresh("/proc/x", "proc", &[]), &refusal("/proc/x")),
            (
                AT,
                fresh("/proc/stat", "tmpfs", &[]),
                &refusal("/proc/stat"),
            ),
            (
                AT,
                fresh("/proc", "tmpfs", &[]),
                &format!("{} (only a procfs may take its place)", refusal("/proc")),
            ),
        ]);
        accepted(&[
            (AT, bind("/proc", &[])),
            (AT, fresh("/proc/", "proc", &["ro"])),
        ]);
        accepted(&[
            (AT, bind("/procfs/sys", &[])),
            (AT, bind("/a/proc/sys", &[])),
        ]);
        for path in PROC_FILES {
            accepted(&[(AT, bind(path, &["ro"]))]);
        }
    }

    #[test]
    fn sources() {
        let missing = "mounts[2].source: a bind mount needs a source";
        refused(&[
            (
                AT,
                json!({"destination": "/a", "options": ["bind"]}),
                missing,
            ),
            (
                AT,
                json!({"destination": "/a", "source": "", "options": ["rbind"]}),
                missing,
            ),
            (AT, json!({"destination": "/a", "type": "bind"}), missing),
            (
                AT,
                json!({"destination": "/a", "source": "x\0", "options": ["bind"]}),
                "mounts[2].source: \"x\\0\" holds a NUL byte",
            ),
            (
                AT,
                json!({"destination": "/a", "source": "x\0", "type": "tmpfs"}),
                "mounts[2].source: \"x\\0\" holds a NUL byte",
            ),
            (
                AT,
                json!({"destination": "/a", "options": ["rslave"]}),
                "mounts[2].type: required where the options have neither bind nor rbind, but \
                 missing",
            ),
            (
                AT,
                json!({"destination": "/a", "type": "tm\0pfs"}),
                "mounts[2].type: \"tm\\0pfs\" holds a NUL byte",
            ),
        ]);
        let kind = |mount: Value| last(mount).kind;
        let bound = |source: &str| MountKind::Bind {
            source: source.into(),
            depth: Depth::Single,
        };
        let relative = json!({"destination": "/a", "source": "x/y", "options": ["bind"]});
        assert_eq!(kind(relative), bound("/b/x/y"));
        assert_eq!(kind(bind("/a", &[])), bound("/src"));
        assert_eq!(
            kind(fresh("/a", "overlay", &[])),
            MountKind::New {
                file_system: FileSystem::NoDevice(c"overlay".to_owned()),
                source: Some(c"overlay".to_owned())
            }
        );
        assert_eq!(
            kind(json!({"destination": "/a", "options": ["bind", "remount", "ro"]})),
            MountKind::Remount { bind: true }
        );
    }

    #[test]
    fn binds_by_option_or_type() {
        let kind = |mount: Value| last(mount).bind().map(|(_, depth)| depth);
        let typed = json!({"destination": "/a", "source": "/x", "type": "bind"});
        assert_eq!(kind(typed), Some(Depth::Single));
        let both =
            json!({"destination": "/a", "source": "/x", "type": "bind", "options": ["rbind"]});
        assert_eq!(kind(both), Some(Depth::Recursive));
        assert_eq!(
            kind(fresh("/a", "none", &["bind", "rbind"])),
            Some(Depth::Recursive)
        );
        assert_eq!(kind(fresh("/a", "cgroup2", &["ro"])), None);
        assert_eq!(last(bind("/a", &["sync"])).options.superblock.len(), 0);
        assert_eq!(
            last(fresh("/a", "tmpfs", &["sync"])).options.superblock,
            [c"sync"]
        );
    }

    #[test]
    fn options_that_would_be_lost() {
        let tmpcopyup = "mounts[2].options: tmpcopyup needs a mount of type tmpfs";
        let links = "mounts[2].options: copy-symlink and src-nofollow need a bind mount";
        refused(&[
            (AT, bind("/a", &["tmpcopyup"]), tmpcopyup),
            (AT, fresh("/a", "ramfs", &["tmpcopyup"]), tmpcopyup),
            (AT, fresh("/a", "tmpfs", &["copy-symlink"]), links),
            (AT, fresh("/a", "tmpfs", &["src-nofollow"]), links),
            (
                AT,
                fresh("/a", "tmpfs", &["a\0"]),
                "mounts[2].options: an option holds a NUL byte",
            ),
        ]);
        accepted(&[
            (AT, fresh("/a", "tmpfs", &["tmpcopyup", "dest-nofollow"])),
            (
                AT,
                bind("/a", &["copy-symlink", "src-nofollow", "", "defaults"]),
            ),
        ]);
        let config = with(AT, bind("/a", &["ro", "mode=755,acl"]));
        assert!(config.mounts[2].options.data.is_empty());
        let expected = ["mode", "acl"].map(|key| {
            format!(
                "config.json: mounts[2].options: {key:?} means nothing to a bind mount and is \
                 ignored"
            )
        });
        assert_eq!(config.warnings, expected);
        let config = with(AT, bind("/a", &["rsync", "rnomand"]));
        assert_eq!(config.warnings.len(), 2);
        assert!(
            config.warnings[0].ends_with("mounts[2].options: rsync means nothing and is ignored")
        );
    }

    #[test]
    fn a_mount_on_the_root_needs_a_namespace() {
        let mut tree = base();
        remove(&mut tree, "/linux");
        remove(&mut tree, "/hostname");
        let refusal = "mounts[2].destination: a mount on / needs a mount namespace";
        refused_from(&tree, &[(AT, bind("/", &[]), refusal)]);
        accepted_from(&tree, &[(AT, bind("/", &["remount"]))]);
    }

    #[test]
    fn ids_in_data_are_mapped() {
        let wrong = "mounts[2].options: gid=65536 is not mapped by linux.gidMappings";
        refused_from(
            &base_with_user(),
            &[
                (AT, fresh("/a", "devpts", &["gid=65536"]), wrong),
                (AT, fresh("/a", "tmpfs", &["size=1m,gid=65536"]), wrong),
                (
                    AT,
                    fresh("/a", "tmpfs", &["uid=100000"]),
                    "mounts[2].options: uid=100000 is not mapped by linux.uidMappings",
                ),
            ],
        );
        accepted_from(
            &base_with_user(),
            &[(AT, fresh("/a", "devpts", &["gid=5", "uid=65535"]))],
        );
        accepted(&[(AT, fresh("/a", "tmpfs", &["gid=65536"]))]);
    }

    fn mapped(options: &[&str], uid: Value, gid: Value) -> Value {
        let mut mount = bind("/a", options);
        mount["uidMappings"] = uid;
        mount["gidMappings"] = gid;
        mount
    }

    fn lines(id_map: &MountIdMap) -> &IdMappings {
        match &id_map.ids {
            MountIds::Lines(lines) => lines,
            MountIds::Namespace(path) => panic!("{path:?}"),
        }
    }

    #[test]
    fn mappings_of_mounts() {
        let one = || json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
        let zero = || json!([{"containerID": 0, "hostID": 1000, "size": 0}]);
        refused(&[
            (
                AT,
                mapped(&[], one(), json!(null)),
                "mounts[2].gidMappings: missing beside uidMappings",
            ),
            (
                AT,
                mapped(&[], json!(null), one()),
                "mounts[2].uidMappings: missing beside gidMappings",
            ),
            (
                AT,
                mapped(&[], json!([]), one()),
                "mounts[2].uidMappings: has no range",
            ),
            (
                AT,
                mapped(&["idmap"], json!([]), json!([])),
                "mounts[2].uidMappings: has no range",
            ),
            (
                AT,
                mapped(&[], one(), zero()),
                "mounts[2].gidMappings[0].size: 0: a range has at least one id",
            ),
            (
                AT,
                mapped(&["idmap=uids=0-1-1;gids=0-1-1"], one(), one()),
                "mounts[2].options: a mapping behind idmap= and one in uidMappings or gidMappings \
                 exclude each other",
            ),
        ]);
        for option in ["idmap", "ridmap"] {
            let expected = "mounts[2].options: idmap without uidMappings and gidMappings needs a \
                            user namespace, and linux.namespaces has none";
            refused(&[(AT, bind("/a", &[option]), expected)]);
            accepted_from(&base_with_user(), &[(AT, bind("/a", &[option]))]);
        }
        for other in [
            fresh("/a", "cgroup2", &[]),
            fresh("/a", "sysfs", &[]),
            bind("/a", &["remount"]),
        ] {
            let mut mount = other;
            mount["uidMappings"] = one();
            mount["gidMappings"] = one();
            let refusal = "mounts[2]: a remount, cgroups and the host's sysfs cannot be id-mapped";
            refused(&[(AT, mount, refusal)]);
        }
        let mount = last(mapped(&["ridmap"], one(), one()));
        let range = IdMapping {
            container_id: 0,
            host_id: 1000,
            size: 10,
        };
        let id_map = mount.id_map.unwrap();
        assert_eq!(lines(&id_map).gid, [range]);
        assert_eq!(id_map.depth, Depth::Recursive);
        accepted(&[(AT, mapped(&[], one(), one()))]);
    }

    #[test]
    fn mappings_in_an_option() {
        let form = "is not of the form uids=0-1-10#10-11-10;gids=0-100-10";
        for wrong in [
            "",
            "uids=0-1-10",
            "uids=0-1;gids=0-1-1",
            "uids=0-1-1-1;gids=0-1-1",
            "x=0-1-1",
            "uids=+0-1-1;gids=0-1-1",
            "uids=0-1-1;gids=",
            "uids=@;gids=0-1-1",
        ] {
            let expected = format!("mounts[2].options: idmap={wrong:?} {form}");
            refused(&[(AT, bind("/a", &[&format!("idmap={wrong}")]), &expected)]);
        }
        refused(&[
            (
                AT,
                bind("/a", &["idmap=uids=@0-0-1;gids=0-1-1"]),
                "mounts[2].options: idmap=\"uids=@0-0-1;gids=0-1-1\": @0-0-1 is not within one \
                 range of the container's mappings",
            ),
            (
                AT,
                bind("/a", &["idmap=uids=0-0-0;gids=0-1-1"]),
                "mounts[2].options[0].size: 0: a range has at least one id",
            ),
        ]);
        let mut tree = base_with_user();
        let option = "idmap=uids=0-1-10#10-21-5;gids=@7-65535-1";
        set(&mut tree, AT, bind("/a", &[option]));
        let mount = parse_tree(&tree).unwrap().mounts.pop().unwrap();
        let id_map = mount.id_map.unwrap();
        let mappings = lines(&id_map);
        let range = |container_id, host_id, size| IdMapping {
            container_id,
            host_id,
            size,
        };
        assert_eq!(mappings.uid, [range(0, 1, 10), range(10, 21, 5)]);
        assert_eq!(mappings.gid, [range(7, 165_535, 1)]);
    }

    #[test]
    fn mounts_of_an_engine() {
        let text = include_bytes!("../../tests/podman-userns.json");
        let config = crate::parse(Path::new("/b"), text).unwrap();
        let line = |mount: &Mount| {
            let MountOptions {
                attributes,
                propagation,
                data,
                ..
            } = &mount.options;
            let AttributeChange { set, clear } = attributes;
            let fs_type = mount.file_system().map(FileSystem::name);
            let depth = mount.bind().map(|(_, depth)| depth);
            let data = data.len();
            let words: Vec<_> = propagation
                .iter()
                .map(|word| (word.kind, word.recursive))
                .collect();
            format!(
                "{} {fs_type:?} {depth:?} +{set:#x} -{clear:#x} {words:?} data {data}\n",
                mount.destination.path().display()
            )
        };
        let lines: String = config.mounts.iter().map(line).collect();
        expect![[r#"
            /proc Some("proc") None +0xe -0x0 [] data 0
            /dev Some("tmpfs") None +0x2a -0x70 [] data 2
            /dev/pts Some("devpts") None +0xa -0x0 [] data 4
            /dev/shm None Some(Single) +0xe -0x0 [(Private, true)] data 0
            /vol None Some(Recursive) +0x0 -0x1 [(Slave, true)] data 0
            /sys/fs/cgroup Some("cgroup") None +0xf -0x70 [(Private, true)] data 0
        "#]]
        .assert_eq(&lines);
    }
}
