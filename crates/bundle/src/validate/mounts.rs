//! `mounts`: config.md § Mounts.

use super::text::{check_path, clean, optional_c_string, path_text};
use super::{Scope, ids};
use crate::error::{At, Error, Shown};
use crate::options::{self, Parsed};
use crate::strict::Notes;
use crate::{IdMapping, IdMappings, Mount, MountOptions, Namespace};
use oci_spec::runtime as oci;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

/// Far above what any engine asks for; each costs descriptors and kernel memory.
const MAX_MOUNTS: usize = 10_000;

/// The mounts in listed order, which is the order to make them in.
pub(super) fn mounts(
    raw: Option<&[oci::Mount]>,
    at: At<'_>,
    scope: &Scope<'_>,
    notes: &mut Notes,
) -> Result<Vec<Mount>, Error> {
    let raw = raw.unwrap_or_default();
    if raw.len() > MAX_MOUNTS {
        return Err(at.refuse(format!("{} entries, above {MAX_MOUNTS}", raw.len())));
    }
    let mut mounts = Vec::with_capacity(raw.len());
    for (index, entry) in raw.iter().enumerate() {
        mounts.push(mount(entry, at.index(index), scope, notes)?);
    }
    Ok(mounts)
}

fn mount(
    raw: &oci::Mount,
    at: At<'_>,
    scope: &Scope<'_>,
    notes: &mut Notes,
) -> Result<Mount, Error> {
    let destination = destination(raw, at.key("destination"), notes)?;
    let given = raw.options().as_deref().unwrap_or_default();
    let at_options = at.key("options");
    let Parsed {
        mut options,
        mapping,
        meaningless,
    } = options::parse(given).map_err(|_| at_options.refuse("an option holds a NUL byte"))?;
    for option in meaningless {
        notes.warnings.push(format!(
            "{at_options}: {option} means nothing and is ignored"
        ));
    }
    // The spec looks at the options alone; this spelling is crun's.
    if raw.typ().as_deref() == Some("bind") && options.bind.is_none() {
        options.bind = Some(crate::Bind::Plain);
    }
    if options.bind.is_some() {
        // A bind shares its superblock with its source.
        options.superblock.clear();
        pass_over_data(&mut options, at_options, notes);
    }
    let kind = raw.typ().as_deref().filter(|kind| !kind.is_empty());
    check_options(&options, kind, at)?;
    check_proc(&destination, &options, kind, at.key("destination"))?;
    check_ids(&options, kind, scope.mappings, at_options)?;
    Ok(Mount {
        source: source(raw, &options, at.key("source"), scope)?,
        fs_type: optional_c_string(kind, at.key("type"))?,
        id_mappings: id_mappings(raw, &options, mapping, at, scope)?,
        destination,
        options,
    })
}

fn destination(raw: &oci::Mount, at: At<'_>, notes: &mut Notes) -> Result<PathBuf, Error> {
    let text = path_text(raw.destination());
    check_path(text, at)?;
    let path = clean(text);
    if !text.starts_with('/') {
        notes
            .warnings
            .push(format!("{at}: {} is relative, taken from /", Shown(text)));
    }
    Ok(path)
}

/// A bind's source is a path; any other is a word that the file system understands.
fn source(
    raw: &oci::Mount,
    options: &MountOptions,
    at: At<'_>,
    scope: &Scope<'_>,
) -> Result<Option<PathBuf>, Error> {
    let text = raw
        .source()
        .as_deref()
        .map(path_text)
        .filter(|text| !text.is_empty());
    let Some(text) = text else {
        // A remount has its mount already.
        return match options.bind {
            Some(_) if !options.remount => Err(at.refuse("a bind mount needs a source")),
            _ => Ok(None),
        };
    };
    check_path(text, at)?;
    Ok(Some(match options.bind {
        Some(_) => scope.dir.join(text),
        None => PathBuf::from(text),
    }))
}

/// What only a file system understands means nothing to a bind, and engines write it all the same.
fn pass_over_data(options: &mut MountOptions, at: At<'_>, notes: &mut Notes) {
    for (key, _) in options.data.drain(..) {
        notes.warnings.push(format!(
            "{at}: {} means nothing to a bind mount and is ignored",
            Shown(&key.to_string_lossy())
        ));
    }
}

/// Refuses combinations that the kernel would ignore in silence.
fn check_options(options: &MountOptions, kind: Option<&str>, at: At<'_>) -> Result<(), Error> {
    let at_options = at.key("options");
    match &options.bind {
        Some(_) => {}
        None => {
            if options.copy_symlink || options.src_nofollow {
                return Err(at_options.refuse("copy-symlink and src-nofollow need a bind mount"));
            }
            if kind.is_none() && !options.remount {
                return Err(at.key("type").refuse(
                    "required where the options have neither bind nor rbind, but missing",
                ));
            }
        }
    }
    if options.tmpcopyup && (kind != Some("tmpfs") || options.bind.is_some()) {
        return Err(at_options.refuse("tmpcopyup needs a mount of type tmpfs"));
    }
    Ok(())
}

/// Files of `/proc` that lxcfs and others stand in for; none of them takes our writes.
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

/// A file that looks like procfs and is not would take what is meant for the kernel: labels and
/// sysctls (CVE-2019-16884, CVE-2019-19921). Links in the image are followed only at run time,
/// where the same is asked of the resolved place.
fn check_proc(
    destination: &Path,
    options: &MountOptions,
    kind: Option<&str>,
    at: At<'_>,
) -> Result<(), Error> {
    let Ok(below) = destination.strip_prefix("/proc") else {
        return Ok(());
    };
    let allowed = if below == Path::new("") {
        options.bind.is_some() || options.remount || kind == Some("proc")
    } else {
        options.bind.is_some() && PROC_FILES.iter().any(|file| Path::new(file) == destination)
    };
    if allowed {
        return Ok(());
    }
    let why = if below == Path::new("") {
        " (only a procfs may take its place)"
    } else {
        ""
    };
    Err(at.refuse(format!(
        "{} cannot be mounted because it is inside /proc{why}",
        Shown(path_text(destination))
    )))
}

/// The kernel says a bare EINVAL to ids that the container's user namespace does not map.
fn check_ids(
    options: &MountOptions,
    kind: Option<&str>,
    mappings: &IdMappings,
    at: At<'_>,
) -> Result<(), Error> {
    if options.bind.is_some() || !matches!(kind, Some("tmpfs" | "devpts" | "proc")) {
        return Ok(());
    }
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

/// The mapping of the mount itself, from either of its spellings.
fn id_mappings(
    raw: &oci::Mount,
    options: &MountOptions,
    mapping: Option<&str>,
    at: At<'_>,
    scope: &Scope<'_>,
) -> Result<Option<IdMappings>, Error> {
    let (uid, gid) = (raw.uid_mappings().as_deref(), raw.gid_mappings().as_deref());
    match (uid, gid, mapping) {
        (None, None, None) => {
            if options.idmap.is_some() && scope.namespaces.user == Namespace::Inherit {
                return Err(at.key("options").refuse(
                    "idmap without uidMappings and gidMappings needs a user namespace, and \
                     linux.namespaces has none",
                ));
            }
            Ok(None)
        }
        (None, None, Some(text)) => written(text, at.key("options"), scope.mappings).map(Some),
        (Some(uid), Some(gid), None) => Ok(Some(IdMappings {
            uid: non_empty(ids::map(uid, at.key("uidMappings"))?, at.key("uidMappings"))?,
            gid: non_empty(ids::map(gid, at.key("gidMappings"))?, at.key("gidMappings"))?,
        })),
        (None, Some(_), None) => Err(at.key("uidMappings").refuse("missing beside gidMappings")),
        (Some(_), None, None) => Err(at.key("gidMappings").refuse("missing beside uidMappings")),
        (_, _, Some(_)) => Err(at.key("options").refuse(
            "a mapping behind idmap= and one in uidMappings or gidMappings exclude each other",
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

/// `uids=0-1-10#10-11-10;gids=0-100-10`: first id on the file system, first id on the host, size.
/// With `@` in front the second number is the container's, to be looked up in its own map.
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
    use crate::fixture::{
        accepted, accepted_from, base_with_user, parse_tree, refused, refused_from, set, with,
    };
    use crate::{AttributeChange, Bind, IdmapOption};
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
            Path::new("/a/b/c")
        );
        for spelling in ["/", "//", "/.", "/../", "/a/..", ".."] {
            assert_eq!(last(bind(spelling, &[])).destination, Path::new("/"));
        }
        let config = with(AT, fresh("run/x\n", "tmpfs", &[]));
        assert_eq!(config.mounts[2].destination, Path::new("/run/x\n"));
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
        let source = |mount: Value| last(mount).source;
        let relative = json!({"destination": "/a", "source": "x/y", "options": ["bind"]});
        assert_eq!(source(relative), Some(PathBuf::from("/b/x/y")));
        assert_eq!(source(bind("/a", &[])), Some(PathBuf::from("/src")));
        assert_eq!(
            source(fresh("/a", "overlay", &[])),
            Some(PathBuf::from("overlay"))
        );
        assert_eq!(
            source(json!({"destination": "/a", "options": ["bind", "remount", "ro"]})),
            None
        );
    }

    #[test]
    fn binds_by_option_or_type() {
        let kind = |mount: Value| last(mount).options.bind;
        let typed = json!({"destination": "/a", "source": "/x", "type": "bind"});
        assert_eq!(kind(typed), Some(Bind::Plain));
        let both =
            json!({"destination": "/a", "source": "/x", "type": "bind", "options": ["rbind"]});
        assert_eq!(kind(both), Some(Bind::Recursive));
        assert_eq!(
            kind(fresh("/a", "none", &["bind", "rbind"])),
            Some(Bind::Recursive)
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
        let mount = last(mapped(&["ridmap"], one(), one()));
        let range = IdMapping {
            container_id: 0,
            host_id: 1000,
            size: 10,
        };
        assert_eq!(mount.id_mappings.unwrap().gid, [range]);
        assert_eq!(mount.options.idmap, Some(IdmapOption::Recursive));
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
        let mappings = mount.id_mappings.unwrap();
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
                bind,
                propagation,
                data,
                ..
            } = &mount.options;
            let AttributeChange { set, clear } = attributes;
            let (kind, data) = (mount.fs_type.as_ref().unwrap(), data.len());
            let words: Vec<_> = propagation
                .iter()
                .map(|word| (word.kind, word.recursive))
                .collect();
            format!(
                "{} {kind:?} {bind:?} +{set:#x} -{clear:#x} {words:?} data {data}\n",
                mount.destination.display()
            )
        };
        let lines: String = config.mounts.iter().map(line).collect();
        expect![[r#"
            /proc "proc" None +0xe -0x0 [] data 0
            /dev "tmpfs" None +0x2a -0x70 [] data 2
            /dev/pts "devpts" None +0xa -0x0 [] data 4
            /dev/shm "bind" Some(Plain) +0xe -0x0 [(Private, true)] data 0
            /vol "bind" Some(Recursive) +0x0 -0x1 [(Slave, true)] data 0
            /sys/fs/cgroup "cgroup" None +0xf -0x70 [(Private, true)] data 0
        "#]]
        .assert_eq(&lines);
    }
}
