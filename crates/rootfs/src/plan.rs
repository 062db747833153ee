//! Plans what to mount, make and cover, in order. Pure.

mod added;
mod cgroup;
mod devices;
pub(crate) mod explain;
mod fresh;
mod mounts;
mod paths;
mod planner;
mod root;
mod steps;

use crate::Error;
use coracle_bundle::{Bundle, Config};
use coracle_host::{Host, Needs};
use planner::Planner;

pub use added::plan_added;
pub use planner::{CgroupDirectory, ChangeRoot, Context};
pub use steps::Plan;
pub(crate) use steps::*;

/// The facts that [`plan`] needs.
#[must_use]
pub fn needs(config: &Config) -> Needs {
    let binds = config.mounts.iter().any(|mount| mount.bind().is_some());
    Needs {
        cgroups: true,
        selinux: config.linux.mount_label.is_some(),
        // Only bind mounts have a source on the host, which may be in the root.
        root: binds.then(|| config.root.path.clone()),
        ..Needs::default()
    }
}

/// Plans the root filesystem of `bundle`.
///
/// # Errors
/// A property that the specification or the kernel would refuse, by its JSON path.
pub fn plan(bundle: &Bundle, host: &Host, context: &Context) -> Result<Plan, Error> {
    let config = &bundle.config;
    let mut planner = Planner::new(config, host, context);
    root::plan(&mut planner);
    mounts::plan(&mut planner)?;
    devices::plan(&mut planner);
    planner.plan.ends.mounts = planner.plan.steps.len();
    root::change(&mut planner)?;
    planner.plan.ends.pivot = planner.plan.steps.len();
    if config
        .process
        .as_ref()
        .is_some_and(|process| process.terminal)
    {
        planner.push("config.json: process.terminal", Step::Console);
    }
    planner.plan.ends.console = planner.plan.steps.len();
    paths::plan(&mut planner);
    Ok(planner.plan)
}

#[cfg(test)]
mod tests {
    use super::explain::Check;
    use super::*;
    use coracle_host::fixture;
    use coracle_sys::{Call, Cause, Fault, mount_attribute};
    use expect_test::{Expect, expect};
    use nix::errno::Errno;
    use std::fmt::Write as _;
    use std::path::Path;

    /// A bundle with this `mounts` list and these further members of the config and of `linux`.
    fn bundle(mounts: &str, members: &str, linux: &str) -> Bundle {
        let text = format!(
            r#"{{"ociVersion": "1.2.0", "root": {{"path": "rootfs"}}, "mounts": [{mounts}],
                "process": {{"cwd": "/", "args": ["sh"], "user": {{"uid": 0, "gid": 0}}}}{members},
                "linux": {{{linux}}}}}"#
        );
        let dir = Path::new("/b");
        let config = coracle_bundle::parse(dir, text.as_bytes()).expect("a valid config");
        Bundle {
            dir: dir.to_owned(),
            raw: text.into_bytes(),
            config,
        }
    }

    const NEW_MOUNT: &str = r#""namespaces": [{"type": "mount"}]"#;
    const NEW_USER: &str = r#""namespaces": [{"type": "mount"}, {"type": "user"}],
        "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}]"#;

    const PROC: &str = r#"{"destination": "/proc", "type": "proc", "source": "proc"}"#;

    fn text(plan: &Plan) -> String {
        let mut text = String::new();
        for step in 0..plan.steps() {
            writeln!(text, "{}", plan.describe(step)).expect("a string takes all");
        }
        text
    }

    fn check(bundle: &Bundle, host: &Host, context: &Context, expected: Expect) {
        let text = match plan(bundle, host, context) {
            Ok(plan) => text(&plan),
            Err(error) => format!("{error}\n"),
        };
        expected.assert_eq(&text);
    }

    /// The sources with the changes that are made on them before anything is attached.
    fn check_sources(bundle: &Bundle, host: &Host, context: &Context, expected: Expect) {
        let plan = plan(bundle, host, context).expect("a plan");
        let mut text = format!("by {:?}\n", plan.source_by);
        for source in &plan.sources {
            let depth = if source.recursive { "tree" } else { "mount" };
            let path = source.path.to_string_lossy();
            let at = source.at.trim_start_matches("config.json: ");
            write!(text, "{at} {depth} {path} step {}:", source.step).expect("a string");
            for change in &source.changes {
                let depth = if change.recursive { "all" } else { "top" };
                write!(text, " {depth}").expect("a string");
                if change.propagation != 0 {
                    write!(text, " {}", change.name()).expect("a string");
                }
                write!(text, " +{:x} -{:x}", change.set, change.clear).expect("a string");
                if change.clear_unlocked != 0 {
                    write!(text, " unlocked {:x}", change.clear_unlocked).expect("a string");
                }
                text.push(';');
            }
            text.push('\n');
        }
        expected.assert_eq(&text);
    }

    /// The destinations of new mounts, each with where its path is resolved: `root`, or `made`
    /// where nobody else can exchange a name.
    fn check_places(mounts: &[&str], linux: &str, expected: Expect) {
        let bundle = bundle(&mounts.join(", "), "", linux);
        let plan = plan(&bundle, &fixture::v1(), &Context::default()).expect("a plan");
        let mut text = String::new();
        for step in &plan.steps {
            let target = match step {
                Step::Fresh(fresh) => &fresh.target,
                Step::Bind(bind) => &bind.target,
                Step::Cgroup(cgroup) => &cgroup.target,
                _ => continue,
            };
            let place = match (target.base, target.exchangeable) {
                (Some(_), false) => "made",
                (Some(_), true) => "made, looked at again",
                (None, _) => "root",
            };
            let path = target.path.to_string_lossy();
            writeln!(text, "{path} {place}").expect("a string takes all");
        }
        expected.assert_eq(&text);
    }

    const DEV: &str = r#"{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}"#;
    const PTS: &str = r#"{"destination": "/dev/pts", "type": "devpts", "source": "devpts"}"#;
    const SYS: &str = r#"{"destination": "/sys", "type": "sysfs", "source": "sysfs"}"#;
    const CGROUP: &str =
        r#"{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}"#;

    #[test]
    fn what_lies_in_a_file_system_just_made_goes_there_through_it() {
        let usual = [PROC, DEV, PTS, SYS, CGROUP];
        check_places(
            &usual,
            NEW_MOUNT,
            expect![[r#"
                /proc root
                /dev root
                /pts made
                /sys root
                /fs/cgroup made
            "#]],
        );
        // Others are in a mount namespace that is not the container's own.
        check_places(&[DEV, PTS], "", expect![["/dev root\n/dev/pts root\n"]]);
    }

    #[test]
    fn not_where_names_are_anybodys() {
        let bind =
            |to: &str| format!(r#"{{"destination": "{to}", "source": "/v", "options": ["bind"]}}"#);
        let (volume, shm) = (bind("/data"), bind("/dev/shm"));
        let below = bind("/dev/shm/x");
        // A link of the image may have led the volume over /dev.
        check_places(
            &[DEV, &volume, PTS],
            NEW_MOUNT,
            expect![["/dev root\n/data root\n/dev/pts root\n"]],
        );
        // The names in the volume at /dev/shm are its owner's.
        check_places(
            &[DEV, &shm, &below],
            NEW_MOUNT,
            expect![["/dev root\n/shm made\n/dev/shm/x root\n"]],
        );
        // The image's own links are copied.
        let copied = DEV.replace('}', r#", "options": ["tmpcopyup"]}"#);
        check_places(
            &[&copied, PTS],
            NEW_MOUNT,
            expect![["/dev root\n/dev/pts root\n"]],
        );
        let whole = bind("/");
        check_places(
            &[DEV, &whole, PTS],
            NEW_MOUNT,
            expect![["/dev root\n/ root\n/dev/pts root\n"]],
        );
    }

    #[test]
    fn an_ordinary_container() {
        let mounts = r#"
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
            {"destination": "/dev", "type": "tmpfs", "options": ["ro", "size=1m"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
            {"destination": "/etc/hosts", "source": "/h", "options": ["rbind", "ro"]}"#;
        let linux = format!(
            r#"{NEW_MOUNT}, "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
               "devices": [{{"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200}}]"#
        );
        let mut bundle = bundle(mounts, "", &linux);
        let process = bundle.config.process.as_mut();
        process.expect("a process").terminal = true;
        check(
            &bundle,
            &fixture::v2(),
            &Context::default(),
            expect![[r#"
            make mounts rslave
            bind /b/rootfs as the root
            mount proc on /proc (nosuid)
            mount tmpfs on /dev (ro,size=1m)
            mount devpts on /dev/pts
            bind /h on /etc/hosts (ro)
            make device /dev/null c 1:3
            make device /dev/zero c 1:5
            make device /dev/full c 1:7
            make device /dev/random c 1:8
            make device /dev/urandom c 1:9
            make device /dev/tty c 5:0
            make device /dev/net/tun c 10:200
            link /dev/fd to /proc/self/fd
            link /dev/stdin to /proc/self/fd/0
            link /dev/stdout to /proc/self/fd/1
            link /dev/stderr to /proc/self/fd/2
            link /dev/core to /proc/kcore
            link /dev/ptmx to pts/ptmx
            pivot_root
            bind the terminal on /dev/console
            make /proc/sys read-only
            mask /proc/kcore
            make /dev read-only
        "#]],
        );
    }

    #[test]
    fn options_of_binds_become_few_calls() {
        let mounts = r#"
            {"destination": "/a", "source": "/a", "options": ["rbind", "rprivate"]},
            {"destination": "/b", "source": "b", "options": ["bind", "ro", "rslave"]},
            {"destination": "/c", "source": "/c", "options": ["rbind", "ro", "noatime"]},
            {"destination": "/d", "source": "/d", "options": ["rbind", "rro", "rshared"]},
            {"destination": "/e", "source": "/e", "options": ["rbind", "slave", "shared"]}"#;
        let bundle = bundle(mounts, "", NEW_MOUNT);
        check_sources(
            &bundle,
            &fixture::v2(),
            &Context::default(),
            expect![[r#"
                by Init
                root.path tree /b/rootfs step 1: all rslave +0 -0;
                mounts[0].source tree /a step 2: all rprivate +0 -0;
                mounts[1].source mount /b/b step 3: top slave +1 -0 unlocked 20000e;
                mounts[2].source tree /c step 4: all rprivate +0 -0; top +11 -70 unlocked 20000e;
                mounts[3].source tree /d step 5: all rshared +1 -0;
                mounts[4].source tree /e step 6: top slave +0 -0; top shared +0 -0;
                default devices mount /dev/null step 7: top private +a -0;
                default devices mount /dev/zero step 8: top private +a -0;
                default devices mount /dev/full step 9: top private +a -0;
                default devices mount /dev/random step 10: top private +a -0;
                default devices mount /dev/urandom step 11: top private +a -0;
                default devices mount /dev/tty step 12: top private +a -0;
            "#]],
        );
    }

    #[test]
    fn root_propagation_decides_for_binds_without_their_own() {
        let mounts = r#"{"destination": "/a", "source": "/a", "options": ["rbind"]}"#;
        let linux = format!(r#"{NEW_MOUNT}, "rootfsPropagation": "rshared""#);
        let bundle = bundle(mounts, "", &linux);
        check_sources(
            &bundle,
            &fixture::v2(),
            &Context::default(),
            expect![[r#"
                by Init
                root.path tree /b/rootfs step 1: all rslave +0 -0;
                mounts[0].source tree /a step 2: all rshared +0 -0;
                default devices mount /dev/null step 3: top private +a -0;
                default devices mount /dev/zero step 4: top private +a -0;
                default devices mount /dev/full step 5: top private +a -0;
                default devices mount /dev/random step 6: top private +a -0;
                default devices mount /dev/urandom step 7: top private +a -0;
                default devices mount /dev/tty step 8: top private +a -0;
            "#]],
        );
        check(
            &bundle,
            &fixture::v2(),
            &Context::default(),
            expect![[r#"
            make mounts rslave
            bind /b/rootfs as the root
            bind /a on /a
            make device /dev/null c 1:3
            make device /dev/zero c 1:5
            make device /dev/full c 1:7
            make device /dev/random c 1:8
            make device /dev/urandom c 1:9
            make device /dev/tty c 5:0
            link /dev/ptmx to pts/ptmx
            pivot_root
            make the root rshared
        "#]],
        );
    }

    #[test]
    fn a_user_namespace_binds_devices_and_the_hosts_sysfs() {
        let mounts = r#"{"destination": "/sys", "type": "sysfs",
            "options": ["ro", "nosuid", "nosymfollow", "noatime", "rslave"]}"#;
        let bundle = bundle(mounts, "", NEW_USER);
        check(
            &bundle,
            &fixture::v2(),
            &Context::default(),
            expect![[r#"
                make mounts rslave
                bind /b/rootfs as the root
                mount sysfs on /sys (ro,nosuid,nosymfollow,noatime,rslave)
                bind device /dev/null c 1:3
                bind device /dev/zero c 1:5
                bind device /dev/full c 1:7
                bind device /dev/random c 1:8
                bind device /dev/urandom c 1:9
                bind device /dev/tty c 5:0
                link /dev/ptmx to pts/ptmx
                pivot_root
            "#]],
        );
        check_sources(
            &bundle,
            &fixture::v2(),
            &Context::default(),
            expect![[r#"
                by Child
                root.path tree /b/rootfs step 1: all rslave +0 -0;
                mounts[0] tree /sys step 2: all rprivate +200003 -0;
                default devices mount /dev/null step 3: top private +a -0;
                default devices mount /dev/zero step 4: top private +a -0;
                default devices mount /dev/full step 5: top private +a -0;
                default devices mount /dev/random step 6: top private +a -0;
                default devices mount /dev/urandom step 7: top private +a -0;
                default devices mount /dev/tty step 8: top private +a -0;
            "#]],
        );
    }

    /// With a user namespace, its root may lack the permission to reach a source; a joined mount
    /// namespace has none of the host's mounts; and a mount that is to be a peer of the host's
    /// cannot be cloned from a slave.
    #[test]
    fn sources_come_from_where_they_can_be_had() {
        let mounts = r#"
            {"destination": "/a", "source": "/a", "options": ["bind"]},
            {"destination": "/b", "source": "/b", "options": ["bind", "rshared"]},
            {"destination": "/c", "source": "/c", "options": ["bind", "rslave"]}"#;
        let provided = |linux: &str, host: &Host, namespaces: &str| {
            let linux = format!(r#""namespaces": [{namespaces}]{linux}"#);
            let bundle = bundle(mounts, "", &linux);
            let plan = plan(&bundle, host, &Context::default()).expect("a plan");
            let sources = plan.sources.iter().filter(|source| !source.optional);
            let letters = sources.map(|source| match plan.is_provided(source) {
                true => 'p',
                false => 'i',
            });
            // The root, and the three binds.
            letters.take(4).collect::<String>()
        };
        let own = r#"{"type": "mount"}"#;
        let joined = r#"{"type": "mount", "path": "/m"}"#;
        let user = format!(r#"{own}, {{"type": "user"}}"#);
        let joined_user = format!(r#"{own}, {{"type": "user", "path": "/u"}}"#);
        let maps = NEW_USER.split_once("],").expect("maps").1;
        let (maps, private) = (format!(", {maps}"), r#", "rootfsPropagation": "rprivate""#);
        let root = fixture::v2();
        assert_eq!(provided("", &root, own), "iipi");
        assert_eq!(provided(private, &root, own), "iipp");
        assert_eq!(provided("", &root, joined), "pppp");
        assert_eq!(provided("", &root, ""), "iiii");
        assert_eq!(provided(&maps, &root, &user), "pppp");
        assert_eq!(provided("", &root, &joined_user), "pppp");
        let mut nobody = fixture::unprivileged();
        let private = format!("{maps}{private}");
        assert_eq!(provided(&private, &nobody, &user), "iiii");
        nobody.in_user_namespace = true;
        assert_eq!(provided("", &nobody, joined), "iiii");
    }

    /// By whatever spelling and through links above the root; what climbs out is the host's.
    #[test]
    fn sources_in_the_root_are_found_at_their_turn() {
        let host = Host {
            real_root: Some("/real/rootfs".into()).into(),
            ..fixture::v2()
        };
        let inside = |source: &str| {
            let mounts =
                format!(r#"{{"destination": "/x", "source": "{source}", "options": ["rbind"]}}"#);
            let plan = plan(&bundle(&mounts, "", NEW_MOUNT), &host, &Context::default());
            let plan = plan.expect("a plan");
            let bind = plan.steps.iter().find_map(|step| match step {
                Step::Bind(bind) => Some(bind.source),
                _ => None,
            });
            let inside = plan.sources[bind.expect("a bind")].inside.clone();
            inside.map(|path| path.into_string().expect("UTF-8"))
        };
        for source in [
            "/b/rootfs/x/y",
            "rootfs/x/y",
            "/b/./rootfs//x/y/",
            "/real/rootfs/x/y",
        ] {
            assert_eq!(inside(source).as_deref(), Some("/x/y"), "{source}");
        }
        assert_eq!(inside("rootfs").as_deref(), Some("/"));
        assert_eq!(inside("rootfs/l/../x").as_deref(), Some("/l/../x"));
        for source in [
            "/b/rootfs2/x",
            "/b/rootfs/../x",
            "rootfs/l/../../x",
            "/b",
            "/real",
        ] {
            assert_eq!(inside(source), None, "{source}");
        }
    }

    /// runc 1.5: one named flag of the mount clears the others.
    #[test]
    fn one_named_flag_clears_the_restrictions_that_are_not() {
        let cleared = |options: &str| {
            let mounts = format!(
                r#"{{"destination": "/x", "source": "/x", "options": ["rbind"{options}]}}"#
            );
            let plan = plan(
                &bundle(&mounts, "", NEW_MOUNT),
                &fixture::v2(),
                &Context::default(),
            );
            let plan = plan.expect("a plan");
            let changes = &plan.sources[1].changes;
            let of = |change: &Change| change.clear_unlocked;
            changes.iter().map(of).fold(0, |all, one| all | one)
        };
        use mount_attribute::{NODEV, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY};
        let all = RDONLY | NOSUID | NODEV | NOEXEC | NOSYMFOLLOW;
        assert_eq!(cleared(""), 0);
        assert_eq!(cleared(r#", "rslave", "rro""#), 0);
        assert_eq!(cleared(r#", "ro""#), all & !RDONLY);
        assert_eq!(cleared(r#", "rw""#), all & !RDONLY);
        assert_eq!(cleared(r#", "noatime""#), all);
        assert_eq!(
            cleared(r#", "nosuid", "dev", "rslave""#),
            all & !NOSUID & !NODEV
        );
    }

    #[test]
    fn a_shared_root_is_no_slave() {
        let changes = |wanted: &str| {
            let linux = format!(r#"{NEW_MOUNT}, "rootfsPropagation": "{wanted}""#);
            let plan = plan(&bundle("", "", &linux), &fixture::v2(), &Context::default());
            let steps = plan.expect("a plan").steps.into_iter();
            let mut changes = steps.filter_map(|step| match step {
                Step::RootPropagation(changes) => Some(changes),
                _ => None,
            });
            changes.next().unwrap_or_default()
        };
        let names = |wanted| changes(wanted).iter().map(Change::name).collect::<Vec<_>>();
        assert_eq!(names("shared"), ["private", "shared"]);
        assert_eq!(names("rshared"), ["private", "rshared"]);
        assert_eq!(names("unbindable"), ["unbindable"]);
        assert!(names("rslave").is_empty());
    }

    #[test]
    fn the_hosts_own_stands_in_only_for_its_namespaces() {
        let stands_in = |fs_type: &str, linux: &str| {
            let mounts = format!(
                r#"{{"destination": "/x", "type": "{fs_type}", "source": "x", "options": ["ro"]}}"#
            );
            let bundle = bundle(&mounts, "", linux);
            let plan = plan(&bundle, &fixture::v2(), &Context::default()).expect("a plan");
            let fallback = plan.steps.iter().find_map(|step| match step {
                Step::Fresh(fresh) => fresh.fallback,
                _ => None,
            });
            match fallback {
                Some(Fallback::Bind(index) | Fallback::BindOrNothing(index)) => {
                    let source = &plan.sources[index];
                    assert!(source.optional);
                    Some(source.path.clone().into_string().expect("UTF-8"))
                }
                None => None,
            }
        };
        let own = NEW_USER.replace(
            r#"{"type": "user"}"#,
            r#"{"type": "user"}, {"type": "pid"}, {"type": "ipc"}, {"type": "network"}"#,
        );
        assert_eq!(stands_in("sysfs", &own).as_deref(), Some("/sys"));
        assert_eq!(stands_in("proc", &own), None);
        assert_eq!(stands_in("mqueue", &own), None);
        assert_eq!(stands_in("proc", NEW_USER).as_deref(), Some("/proc"));
        let queues = stands_in("mqueue", NEW_USER);
        assert_eq!(queues.as_deref(), Some("/dev/mqueue"));
        assert_eq!(stands_in("tmpfs", NEW_USER), None);
        assert_eq!(stands_in("sysfs", NEW_MOUNT), None);
        let tree = stands_in("cgroup2", NEW_MOUNT);
        assert_eq!(tree.as_deref(), Some("/sys/fs/cgroup"));
    }

    #[test]
    fn cgroups_of_v1_are_mounted_one_by_one() {
        let mounts = r#"{"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]}"#;
        let linux = r#""namespaces": [{"type": "mount"}, {"type": "cgroup"}]"#;
        let bundle = bundle(mounts, "", linux);
        let host = fixture::v1();
        let plan = plan(&bundle, &host, &Context::default()).expect("a plan");
        let Some(Step::Cgroup(cgroup)) = plan.steps.get(2) else {
            panic!("{:?}", plan.steps)
        };
        assert_eq!(cgroup.entries.len(), host.cgroups.hierarchies.len());
        assert!(cgroup.read_only);
        for entry in &cgroup.entries {
            let CgroupFill::Fresh { attributes, .. } = &entry.fill else {
                panic!("{entry:?}")
            };
            assert_eq!(
                *attributes,
                mount_attribute::RDONLY,
                "CVE-2022-0492: {entry:?}"
            );
        }
    }

    #[test]
    fn without_a_cgroup_namespace_the_cgroup_of_init_is_shown() {
        let mounts = r#"{"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]}"#;
        let bundle = bundle(mounts, "", NEW_MOUNT);
        let mut host = fixture::v1();
        host.cgroups.hierarchies.truncate(3);
        let last = host.cgroups.hierarchies.last_mut().expect("a hierarchy");
        last.own = "/own".into();
        let own = host
            .cgroups
            .hierarchies
            .iter()
            .take(2)
            .map(|hierarchy| CgroupDirectory {
                mount: hierarchy.mount.clone(),
                directory: hierarchy.mount.join("web1"),
            });
        let context = Context {
            cgroup_directories: own.collect(),
            ..Context::default()
        };
        check_sources(
            &bundle,
            &host,
            &context,
            expect![[r#"
                by Init
                root.path tree /b/rootfs step 1: all rslave +0 -0;
                mounts[0] tree /sys/fs/cgroup/systemd/web1 step 2: all rprivate +1 -0;
                mounts[0] tree /sys/fs/cgroup/cpu,cpuacct/web1 step 2: all rprivate +1 -0;
                mounts[0] tree /sys/fs/cgroup/cpuset/own step 2: all rprivate +1 -0;
                default devices mount /dev/null step 3: top private +a -0;
                default devices mount /dev/zero step 4: top private +a -0;
                default devices mount /dev/full step 5: top private +a -0;
                default devices mount /dev/random step 6: top private +a -0;
                default devices mount /dev/urandom step 7: top private +a -0;
                default devices mount /dev/tty step 8: top private +a -0;
            "#]],
        );
    }

    /// Whether its own cgroup is there before init is, as systemd's is not, makes no difference.
    #[test]
    fn cgroup2_in_a_user_namespace_has_a_way_out() {
        let mounts = r#"{"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]}"#;
        let bundle = bundle(mounts, "", NEW_USER);
        let context = Context {
            unified_directory: Some("/sys/fs/cgroup/web1".into()),
            ..Context::default()
        };
        check_sources(
            &bundle,
            &fixture::v2(),
            &context,
            expect![[r#"
                by Child
                root.path tree /b/rootfs step 1: all rslave +0 -0;
                mounts[0] tree /sys/fs/cgroup step 2: all rprivate +1 -0;
                default devices mount /dev/null step 3: top private +a -0;
                default devices mount /dev/zero step 4: top private +a -0;
                default devices mount /dev/full step 5: top private +a -0;
                default devices mount /dev/random step 6: top private +a -0;
                default devices mount /dev/urandom step 7: top private +a -0;
                default devices mount /dev/tty step 8: top private +a -0;
            "#]],
        );
    }

    #[test]
    fn changes_of_the_root() {
        let bundle = bundle("", "", NEW_MOUNT);
        let moved = Context {
            change_root: ChangeRoot::MoveAndChroot,
            ..Context::default()
        };
        let plan_in = |bundle: &Bundle, context: &Context| {
            plan(bundle, &fixture::v2(), context).expect("a plan")
        };
        let plan_of = |context: &Context| plan_in(&bundle, context);
        let last = |plan: &Plan| plan.describe(plan.steps() - 1);
        assert_eq!(last(&plan_of(&Context::default())), "pivot_root");
        assert_eq!(last(&plan_of(&moved)), "move the root over / and chroot");
        let without = self::bundle("", "", "");
        let on_host = plan_in(&without, &Context::default());
        assert_eq!(last(&on_host), "chroot into /b/rootfs");
        assert_eq!(on_host.host_mount(), Some(Path::new("/b/rootfs")));
        assert_eq!(plan_of(&moved).host_mount(), None);
    }

    #[test]
    fn a_bound_dev_is_left_alone() {
        let mounts = r#"{"destination": "/dev", "source": "/dev", "options": ["rbind"]}"#;
        let bundle = bundle(mounts, "", NEW_MOUNT);
        check(
            &bundle,
            &fixture::v2(),
            &Context::default(),
            expect![[r#"
            make mounts rslave
            bind /b/rootfs as the root
            bind /dev on /dev
            pivot_root
        "#]],
        );
    }

    #[test]
    fn so_is_one_that_a_bind_remount_changes() {
        let mounts = r#"{"destination": "/dev", "type": "tmpfs"},
            {"destination": "/dev", "options": ["bind", "remount", "ro"]}"#;
        let bundle = bundle(mounts, "", NEW_MOUNT);
        let plan = plan(&bundle, &fixture::v2(), &Context::default()).expect("a plan");
        let devices = plan
            .steps
            .iter()
            .filter(|step| matches!(step, Step::Device(_)));
        assert_eq!(devices.count(), 0);
    }

    #[test]
    fn files_of_procfs_are_reached_through_the_mount_that_was_made() {
        let mounts = format!(
            r#"{PROC}, {{"destination": "/proc/cpuinfo", "source": "/c", "options": ["bind"]}}"#
        );
        let linux = format!(r#"{NEW_MOUNT}, "maskedPaths": ["/proc/kcore", "/etc/shadow"]"#);
        let bundle = bundle(&mounts, "", &linux);
        let plan = plan(&bundle, &fixture::v2(), &Context::default()).expect("a plan");
        let bases = plan.steps.iter().filter_map(|step| match step {
            Step::Bind(bind) => Some((bind.target.path.clone(), bind.target.base)),
            Step::Mask(path) => Some((path.path.clone(), path.base)),
            _ => None,
        });
        let expected = [
            (c"/cpuinfo".to_owned(), Some(0)),
            (c"/kcore".to_owned(), Some(0)),
            (c"/etc/shadow".to_owned(), None),
        ];
        assert_eq!(bases.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn long_options_go_through_mount() {
        let layers = "/l".repeat(200);
        let mounts = format!(
            r#"{{"destination": "/o", "type": "overlay", "source": "overlay",
                "options": ["lowerdir={layers}", "ro", "noatime", "nodiratime"]}}"#
        );
        let bundle = bundle(&mounts, "", NEW_MOUNT);
        let plan = plan(&bundle, &fixture::v2(), &Context::default()).expect("a plan");
        let Some(Step::Fresh(fresh)) = plan.steps.get(2) else {
            panic!("{:?}", plan.steps)
        };
        let long = fresh.long.as_ref().expect("too long for fsconfig");
        assert_eq!(
            long.data.to_bytes(),
            format!("lowerdir={layers}").as_bytes()
        );
        assert_eq!(
            long.flags,
            libc::MS_RDONLY | libc::MS_NOATIME | libc::MS_NODIRATIME
        );
    }

    #[test]
    fn labels_are_quoted_for_mount() {
        let layers = "/l".repeat(200);
        let mounts = format!(
            r#"{{"destination": "/o", "type": "overlay", "source": "overlay",
                "options": ["lowerdir={layers}"]}},
               {{"destination": "/o", "options": ["remount", "context=\"u:s:t,u\"", "x=1,y=2"]}}"#
        );
        let linux = format!(r#"{NEW_MOUNT}, "mountLabel": "a:b:c:s0:c1,c2""#);
        let mut host = fixture::v2();
        host.selinux = true.into();
        let plan = plan(&bundle(&mounts, "", &linux), &host, &Context::default());
        let data = plan.expect("a plan").steps.into_iter().filter_map(|step| {
            let data = match step {
                Step::Fresh(fresh) => fresh.long.map(|long| long.data),
                Step::Remount(remount) => remount.data,
                _ => None,
            };
            data.map(|data| data.to_string_lossy().into_owned())
        });
        let expected = [
            format!(r#"lowerdir={layers},context="a:b:c:s0:c1,c2""#),
            r#"context="u:s:t,u",x=1,y=2"#.to_owned(),
        ];
        assert_eq!(data.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn long_options_that_would_be_cut_or_forgotten_are_refused() {
        let check = |fs_type: &str, options: &str| {
            let mounts =
                format!(r#"{{"destination": "/o", "type": "{fs_type}", "options": [{options}]}}"#);
            let bundle = bundle(&mounts, "", NEW_MOUNT);
            plan(&bundle, &fixture::v2(), &Context::default()).map(drop)
        };
        let value = |length| format!(r#""x={}""#, "y".repeat(length));
        assert!(check("overlay", &value(4093)).is_ok());
        for (fs_type, options) in [
            ("overlay", value(4094)),
            ("overlay", format!("{}, {}", value(4000), value(92))),
        ] {
            let error = check(fs_type, &options).expect_err("a refusal");
            assert_eq!(
                error.to_string(),
                "config.json: mounts[0].options: more than 4095 bytes"
            );
        }
        let long = value(256);
        for (fs_type, options) in [
            ("tmpfs", format!(r#""mode=755", {long}"#)),
            ("tmpfs", format!(r#""mode=755", "tmpcopyup", {long}"#)),
            ("overlay", format!(r#""rshared", {long}"#)),
        ] {
            assert!(check(fs_type, &options).is_ok(), "{options}");
        }
        // The mode of the directory is put in front.
        assert!(check("tmpfs", &value(4083)).is_ok());
        assert!(check("tmpfs", &value(4084)).is_err());
    }

    #[test]
    fn refusals_name_the_place() {
        let refused = |mounts: &str, linux: &str, context: &Context, expected: Expect| {
            check(
                &bundle(mounts, "", linux),
                &fixture::v2(),
                context,
                expected,
            );
        };
        let none = Context::default();
        let private = format!(r#"{NEW_MOUNT}, "rootfsPropagation": "rprivate""#);
        let moved = Context {
            change_root: ChangeRoot::MoveAndChroot,
            ..Context::default()
        };
        refused(
            "",
            &private,
            &moved,
            expect![[r#"
                config.json: linux.rootfsPropagation: private cannot be had with --no-pivot
            "#]],
        );
        for option in ["size=3", "sync"] {
            let mounts =
                format!(r#"{{"destination": "/a", "type": "cgroup", "options": ["{option}"]}}"#);
            let error = plan(&bundle(&mounts, "", NEW_MOUNT), &fixture::v1(), &none);
            let text = error.expect_err("a refusal").to_string();
            assert!(
                text.starts_with("config.json: mounts[0].options: "),
                "{text}"
            );
        }
        let mounts = r#"{"destination": "/a", "source": "/a", "options": ["bind"],
            "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}"#;
        let host = fixture::unprivileged();
        check(
            &bundle(mounts, "", NEW_MOUNT),
            &host,
            &none,
            expect![[r#"
            config.json: mounts[0]: id-mapped mounts need CAP_SYS_ADMIN on the host
        "#]],
        );
    }

    #[test]
    fn faults_become_sentences() {
        let mounts = format!(
            r#"{PROC}, {{"destination": "/x", "type": "nosuchfs", "options": ["size=1"]}},
               {{"destination": "/y", "source": "/y", "options": ["bind"]}}"#
        );
        let bundle = bundle(&mounts, "", NEW_USER);
        let plan = plan(&bundle, &fixture::v2(), &Context::default()).expect("a plan");
        let mut text = String::new();
        let faults = [
            (0, Cause::Call(Call::Mount, Errno::EACCES)),
            (2, Cause::Call(Call::Fsmount, Errno::EPERM)),
            (2, Check::NotOrdinary.into()),
            (3, Cause::Call(Call::Fsopen, Errno::ENODEV)),
            (3, Cause::Call(Call::Fsconfig, Errno::EINVAL)),
            (3, Cause::Call(Call::Mkdir, Errno::EROFS)),
            (4, Cause::Call(Call::MoveMount, Errno::EINVAL)),
            (4, Check::InProc.into()),
            (4, Check::Swapped.into()),
            (4, Cause::Call(Call::Openat2, Errno::ELOOP)),
            (99, Cause::Call(Call::Open, Errno::EIO)),
        ];
        for (step, cause) in faults {
            let line = plan.explain(&Fault::new(step, cause), "").text;
            // Only the test breaks the line.
            let line = line.replace(": ", ":\n  ").replace(", and", ",\n  and");
            writeln!(text, "{line}").expect("a string takes all");
        }
        expect![[r#"
            config.json:
              linux.rootfsPropagation:
              make mounts rslave:
              a security module forbids mounts, as AppArmor does in containers:
              ask the runtime outside for --security-opt apparmor=unconfined:
              mount:
              permission denied (EACCES)
            config.json:
              mounts[0]:
              mount proc on /proc:
              in a user namespace the kernel allows it only with an own pid namespace,
              and where the runtime's /proc has no other mounts over it:
              operation not permitted (EPERM)
            config.json:
              mounts[0]:
              mount proc on /proc:
              must be mounted on ordinary directory, not a link or a file
            config.json:
              mounts[1]:
              mount nosuchfs on /x (size=1):
              unknown file system type "nosuchfs":
              no such device (ENODEV)
            config.json:
              mounts[1]:
              mount nosuchfs on /x (size=1):
              nosuchfs does not accept the options size=1:
              invalid argument (EINVAL)
            config.json:
              mounts[1]:
              mount nosuchfs on /x (size=1):
              its place cannot be made in a read-only file system:
              read-only file system (EROFS)
            config.json:
              mounts[2]:
              bind /y on /y:
              not a directory:
              are you trying to mount a directory onto a file (or vice-versa)?:
              move_mount:
              invalid argument (EINVAL)
            config.json:
              mounts[2]:
              bind /y on /y:
              cannot be mounted because it is inside /proc
            config.json:
              mounts[2]:
              bind /y on /y:
              the path leads elsewhere than a moment before
            config.json:
              mounts[2]:
              bind /y on /y:
              the source is reached through a magic link of procfs, or through too many links:
              openat2:
              too many levels of symbolic links (ELOOP)
            open:
              input/output error (EIO)
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn an_empty_plan_has_no_steps() {
        let plan = Plan::empty();
        assert_eq!(
            (plan.steps(), plan.describe(0), plan.host_mount()),
            (0, String::new(), None)
        );
    }

    proptest::proptest! {
        /// Whatever a destination says, what is inside /proc is refused unless it is on the list,
        /// and every target is absolute below its base, without a part that climbs.
        #[test]
        fn targets_stay_in_the_root(
            parts in proptest::collection::vec("[a-z.]{1,4}|proc|sys", 1..5),
        ) {
            let path = format!("/{}", parts.join("/"));
            let mounts = format!(
                r#"{PROC}, {{"destination": "{path}", "type": "tmpfs", "source": "t"}}"#
            );
            let text = format!(
                r#"{{"ociVersion": "1.2.0", "root": {{"path": "r"}}, "mounts": [{mounts}],
                    "linux": {{{NEW_MOUNT}}}}}"#
            );
            let Ok(config) = coracle_bundle::parse(Path::new("/b"), text.as_bytes()) else {
                return Ok(());
            };
            let bundle = Bundle { dir: "/b".into(), raw: Vec::new(), config };
            let destination = bundle.config.mounts[1].destination.path().to_owned();
            match plan(&bundle, &fixture::v2(), &Context::default()) {
                Ok(plan) => {
                    proptest::prop_assert!(!destination.starts_with("/proc"));
                    let climbs = |step: &Step| match step {
                        Step::Fresh(fresh) => fresh.target.path.to_bytes().split(|b| *b == b'/')
                            .any(|part| part == b".."),
                        _ => false,
                    };
                    proptest::prop_assert!(!plan.steps.iter().any(climbs));
                }
                Err(error) => {
                    proptest::prop_assert!(destination.starts_with("/proc"), "{error}");
                }
            }
        }

        /// A masked path is looked up below the mount that it lies in, or below the root: never
        /// beside.
        #[test]
        fn masks_stay_where_they_belong(name in "[a-z]{1,8}", top in "/proc|/sys|/etc|/process") {
            let mounts = format!(
                r#"{PROC}, {{"destination": "/sys", "type": "sysfs", "source": "sysfs"}}"#
            );
            let path = format!("{top}/{name}");
            let linux = format!(
                r#"{NEW_MOUNT}, "maskedPaths": ["{path}"], "readonlyPaths": ["{path}"]"#
            );
            let bundle = bundle(&mounts, "", &linux);
            let plan = plan(&bundle, &fixture::v2(), &Context::default()).expect("a plan");
            let covered = plan.steps.iter().filter_map(|step| match step {
                Step::Mask(path) | Step::ReadOnlyPath(path) => Some(path),
                _ => None,
            });
            for covered in covered {
                let below = covered.path.to_str().expect("UTF-8");
                match top.as_str() {
                    "/proc" => proptest::prop_assert_eq!(covered.base, Some(0)),
                    "/sys" => proptest::prop_assert_eq!(covered.base, Some(1)),
                    _ => proptest::prop_assert_eq!(below, path.as_str()),
                }
                let end = format!("/{name}");
                proptest::prop_assert!(below.ends_with(&end));
            }
        }
    }
}
