//! `mounts` of config.json: destinations, sources, filesystems and every option string.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use coracle_integration::{Bundle, Command, Output, Runtime, json, needs, wait_until};

coracle_integration::tests![
    mounts_are_made_in_order,
    a_missing_folder_is_made,
    a_missing_file_is_made,
    a_relative_destination_is_below_the_root,
    a_destination_through_links_stays_inside,
    a_relative_source_is_below_the_bundle,
    a_missing_source_is_refused,
    a_destination_on_the_root_is_refused,
    destinations_inside_proc_are_refused,
    lxcfs_files_are_allowed_in_proc,
    proc_on_a_link_is_refused,
    an_unknown_filesystem_is_refused,
    data_options_reach_the_filesystem,
    bad_data_options_are_refused,
    data_options_on_a_bind_are_refused,
    long_options_reach_the_filesystem,
    options_of_fresh_mounts,
    options_of_binds,
    clearing_options_of_binds,
    a_bind_keeps_the_flags_of_its_source,
    the_last_of_conflicting_options_counts,
    recursive_options_reach_submounts,
    plain_options_do_not_reach_submounts,
    clearing_recursive_options,
    defaults_is_no_option,
    propagation_is_set,
    a_bind_is_private_by_default,
    rslave_sees_later_mounts_of_the_host,
    rprivate_sees_none,
    rshared_works_both_ways,
    bind_alone_takes_no_submounts,
    rbind_takes_submounts,
    files_sockets_pipes_and_devices_are_bound,
    tmpfs_takes_the_mode_of_the_folder,
    a_read_only_tmpfs_is_filled_first,
    tmpcopyup_copies,
    tmpcopyup_keeps_what_the_config_gives,
    tmpcopyup_on_another_filesystem_is_refused,
    remount_changes_flags,
    remount_keeps_flags,
    proc_sysfs_and_mqueue_have_their_own_modes,
    sysfs_with_the_hosts_network_in_a_user_namespace,
    devpts_is_a_new_instance,
    control_groups_are_mounted,
    control_groups_can_be_read_only,
    id_mapped_mounts,
    id_mapped_mounts_of_the_user_namespace,
    id_maps_are_those_of_a_namespace,
    half_an_id_mapping_is_refused,
    id_mapping_without_a_mapping_is_refused,
    many_mounts,
    the_hosts_mounts_are_not_visible,
    copy_symlink_copies_the_link,
    a_locked_flag_cannot_be_cleared,
    nor_from_inside,
    what_a_mount_covers_stays_covered,
    the_hosts_sysfs_stays_whole,
    a_plain_bind_does_not_uncover,
    sources_need_not_be_reachable_from_inside,
    noop_options_are_accepted,
];

/// What a process inside sees of a mount: the fields of mountinfo.
struct Seen {
    /// Flags of the mount.
    flags: Vec<String>,
    /// `shared:1` and the like.
    propagation: String,
    kind: String,
    source: String,
    /// Options of the filesystem.
    data: Vec<String>,
}

fn seen(mountinfo: &str, point: &str) -> Seen {
    let line = mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(point));
    let line = line.unwrap_or_else(|| panic!("no mount on {point}:\n{mountinfo}"));
    let (front, back) = line.split_once(" - ").unwrap();
    let front: Vec<&str> = front.split(' ').collect();
    let back: Vec<&str> = back.split(' ').collect();
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    Seen {
        flags: list(front[5]),
        propagation: front[6..].join(" "),
        kind: back[0].to_owned(),
        source: back[1].to_owned(),
        data: list(back[2]),
    }
}

const MOUNTINFO: [&str; 2] = ["cat", "/proc/self/mountinfo"];

#[track_caller]
fn look(runtime: &Runtime, bundle: &Bundle, point: &str) -> Seen {
    let output = runtime.run(&bundle.clone().args(MOUNTINFO)).ok();
    seen(&output.stdout, point)
}

/// Mounts on the host, in the test's folder; the runtime's drop would find it, so it is unmounted.
struct HostMount(PathBuf);

impl HostMount {
    fn new(runtime: &Runtime, name: &str, options: &[&str]) -> Self {
        let path = runtime.folder().folder(name);
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", "mode=755", "x"])
            .arg(&path)
            .output()
            .ok();
        for option in options {
            Command::new("mount")
                .args(["-o", option])
                .arg(&path)
                .output()
                .ok();
        }
        Self(path)
    }

    fn tmpfs_below(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        Command::new("mount")
            .args(["-t", "tmpfs", "below"])
            .arg(&path)
            .output()
            .ok();
        path
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        Command::new("umount")
            .args(["-R", "-l"])
            .arg(&self.0)
            .output();
    }
}

fn mounts_are_made_in_order() {
    let runtime = Runtime::new();
    let (one, two) = (
        runtime.folder().folder("one"),
        runtime.folder().folder("two"),
    );
    fs::write(one.join("f"), "one").unwrap();
    fs::write(two.join("f"), "two").unwrap();
    let bundle = runtime.bundle().args(["cat", "/mnt/f"]);
    let bundle = bundle.bind(&one, "/mnt", []).bind(&two, "/mnt", []);
    assert_eq!(runtime.run(&bundle).ok().line(), "two");
}

fn a_missing_folder_is_made() {
    let runtime = Runtime::new();
    let script = "stat -c %a /a /a/b; stat -fc %T /a/b/c";
    let bundle = runtime
        .bundle()
        .mount("/a/b/c", "tmpfs", "tmpfs", [])
        .shell(script);
    assert_eq!(runtime.run(&bundle).ok().line(), "755\n755\ntmpfs");
    assert!(bundle.path("/a/b/c").is_dir());
}

fn a_missing_file_is_made() {
    let runtime = Runtime::new();
    let file = runtime.folder().file("file", "text");
    let bundle = runtime
        .bundle()
        .bind(&file, "/x/y/file", [])
        .args(["cat", "/x/y/file"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "text");
    let made = fs::metadata(bundle.path("/x/y/file")).unwrap();
    assert_eq!((made.len(), made.permissions().mode()), (0, 0o100_644));
}

fn a_relative_destination_is_below_the_root() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .mount("mnt", "tmpfs", "tmpfs", [])
        .set("/process/cwd", json!("/usr"));
    assert_eq!(look(&runtime, &bundle, "/mnt").kind, "tmpfs");
}

fn a_destination_through_links_stays_inside() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .folder("/real")
        .link("/abs", "/real")
        .link("/rel", "../../../real");
    for (to, point) in [
        ("/abs/a", "/real/a"),
        ("/rel/b", "/real/b"),
        ("/usr/../abs/c", "/real/c"),
    ] {
        let bundle = bundle.clone().mount(to, "tmpfs", "tmpfs", []);
        assert_eq!(look(&runtime, &bundle, point).kind, "tmpfs", "{to}");
    }
}

fn a_relative_source_is_below_the_bundle() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .bind("data", "/data", [])
        .args(["cat", "/data/f"]);
    fs::create_dir(bundle.dir.join("data")).unwrap();
    fs::write(bundle.dir.join("data/f"), "mine").unwrap();
    assert_eq!(runtime.run(&bundle).ok().line(), "mine");
}

fn a_missing_source_is_refused() {
    let runtime = Runtime::new();
    let output = runtime.try_create(&runtime.bundle().bind("/no/such/thing", "/x", []));
    output.fails(["/no/such/thing"]);
    let output = runtime.try_create(&runtime.bundle().bind("", "/x", []));
    output.fails(["source"]);
    runtime.is_clean();
}

fn a_destination_on_the_root_is_refused() {
    let runtime = Runtime::new();
    for to in ["/", "/usr/..", "."] {
        let bundle = runtime.bundle().mount(to, "tmpfs", "tmpfs", []);
        runtime.try_create(&bundle).fails([]);
    }
}

fn destinations_inside_proc_are_refused() {
    let runtime = Runtime::new();
    for to in [
        "/proc/sys",
        "/proc/self",
        "/proc/1/attr",
        "/proc/../proc/tty",
        "/link/sys",
    ] {
        let bundle = runtime
            .bundle()
            .link("/link", "/proc")
            .mount(to, "tmpfs", "tmpfs", []);
        runtime.try_create(&bundle).fails(["/proc"]);
    }
    let fake = runtime.folder().folder("fake");
    runtime
        .try_create(&runtime.bundle().bind(&fake, "/proc", []))
        .fails(["/proc"]);
}

fn lxcfs_files_are_allowed_in_proc() {
    let runtime = Runtime::new();
    let file = runtime.folder().file("fake", "fake\n");
    for name in [
        "cpuinfo",
        "meminfo",
        "stat",
        "uptime",
        "loadavg",
        "diskstats",
        "swaps",
    ] {
        let to = format!("/proc/{name}");
        let bundle = runtime.bundle().bind(&file, &to, ["ro"]).args(["cat", &to]);
        assert_eq!(runtime.run(&bundle).ok().line(), "fake", "{name}");
    }
}

fn proc_on_a_link_is_refused() {
    let runtime = Runtime::new();
    for (kind, to) in [("proc", "/proc"), ("sysfs", "/sys")] {
        let bundle = runtime.bundle().folder("/fake").link(to, "/fake");
        runtime.try_create(&bundle).fails([to]);
        let bundle = runtime
            .bundle()
            .folder("/dir")
            .link("/l", "/dir")
            .mount("/l", kind, kind, []);
        runtime.try_create(&bundle).fails(["/l"]);
    }
}

fn an_unknown_filesystem_is_refused() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().mount("/x", "nosuchfs", "none", []);
    runtime.try_create(&bundle).fails(["nosuchfs", "/x"]);
    let bundle = runtime
        .bundle()
        .push("/mounts", json!({"destination": "/x"}));
    runtime.try_create(&bundle).fails(["mounts[6]"]);
}

fn data_options_reach_the_filesystem() {
    let runtime = Runtime::new();
    let how = [
        "size=64k",
        "nosuid",
        "mode=0701",
        "uid=5",
        "gid=6",
        "nr_inodes=9",
    ];
    let bundle = runtime.bundle().mount("/x", "tmpfs", "name", how);
    let mount = look(&runtime, &bundle, "/x");
    for option in ["size=64k", "mode=701", "uid=5", "gid=6", "nr_inodes=9"] {
        assert!(
            mount.data.iter().any(|one| one == option),
            "{option}: {:?}",
            mount.data
        );
    }
    assert_eq!(mount.source, "name");
}

fn bad_data_options_are_refused() {
    let runtime = Runtime::new();
    for option in ["nosuchoption", "size=many", "ROX", "bogus=1"] {
        let bundle = runtime.bundle().mount("/x", "tmpfs", "tmpfs", [option]);
        runtime.try_create(&bundle).fails(["/x"]);
    }
}

fn data_options_on_a_bind_are_refused() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().bind("/usr", "/x", ["nosuchoption"]);
    runtime.try_create(&bundle).fails(["nosuchoption"]);
}

fn long_options_reach_the_filesystem() {
    let runtime = Runtime::new();
    let parts = HostMount::new(&runtime, "parts", &[]);
    let part = |name: &str| {
        let path = parts.0.join(name);
        fs::create_dir_all(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (upper, work) = (part("upper"), part("work"));
    let layer = |count: usize| part(&["long".repeat(50).as_str()].repeat(count).join("/"));
    let overlay = |lower: &str| {
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let bundle = runtime.bundle().shell("ls /o; touch /o/made");
        bundle.mount("/o", "overlay", "overlay", [options.as_str(), "nosuid"])
    };
    let lower = layer(2);
    fs::write(format!("{lower}/here"), "").unwrap();
    assert_eq!(runtime.run(&overlay(&lower)).ok().line(), "here");
    assert!(fs::exists(format!("{upper}/made")).unwrap());
    let layers = [layer(10), layer(11)].join(":");
    let output = runtime.try_create(&overlay(&layers));
    output.fails(["mounts[6].options", "4095 bytes"]);
}

/// Options of a mount, what its flags must hold, and what they must not.
type Row = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

const FRESH: &[Row] = &[
    (
        &[],
        &["rw", "relatime"],
        &["nosuid", "nodev", "noexec", "nodiratime"],
    ),
    (&["defaults"], &["rw", "relatime"], &["nosuid"]),
    (&["ro"], &["ro"], &["rw"]),
    (&["ro", "rw"], &["rw"], &["ro"]),
    (&["rw", "ro"], &["ro"], &["rw"]),
    (&["nosuid"], &["nosuid"], &["nodev"]),
    (&["nosuid", "suid"], &[], &["nosuid"]),
    (&["suid", "nosuid"], &["nosuid"], &[]),
    (&["nodev"], &["nodev"], &[]),
    (&["nodev", "dev"], &[], &["nodev"]),
    (&["noexec"], &["noexec"], &[]),
    (&["noexec", "exec"], &[], &["noexec"]),
    (&["noatime"], &["noatime"], &["relatime"]),
    (&["noatime", "atime"], &["relatime"], &["noatime"]),
    (&["nodiratime"], &["nodiratime"], &[]),
    (&["nodiratime", "diratime"], &[], &["nodiratime"]),
    (&["relatime"], &["relatime"], &["noatime"]),
    (&["strictatime"], &[], &["relatime", "noatime"]),
    (&["strictatime", "relatime"], &["relatime"], &["noatime"]),
    (&["noatime", "strictatime"], &[], &["relatime", "noatime"]),
    (&["strictatime", "noatime"], &["noatime"], &["relatime"]),
    (&["noatime", "nostrictatime"], &["noatime"], &[]),
    (&["nosymfollow"], &["nosymfollow"], &[]),
    (&["nosymfollow", "symfollow"], &[], &["nosymfollow"]),
    (&["silent"], &["rw"], &[]),
    (&["loud"], &["rw"], &[]),
    (&["mand"], &["rw"], &[]),
    (&["nomand"], &["rw"], &[]),
    (&["async"], &["rw"], &[]),
    (&["norelatime"], &["rw"], &[]),
    (&["nolazytime", "noiversion"], &["rw"], &[]),
];

#[track_caller]
fn check_rows(
    runtime: &Runtime,
    rows: &[Row],
    mut bundle: Bundle,
    add: impl Fn(Bundle, &str, &[&str]) -> Bundle,
) {
    for (number, (options, _, _)) in rows.iter().enumerate() {
        bundle = add(bundle, &format!("/m/{number}"), options);
    }
    let output = runtime.run(&bundle.args(MOUNTINFO)).ok();
    for (number, (options, present, absent)) in rows.iter().enumerate() {
        let flags = seen(&output.stdout, &format!("/m/{number}")).flags;
        for flag in *present {
            assert!(
                flags.iter().any(|one| one == flag),
                "{options:?}: no {flag} in {flags:?}"
            );
        }
        for flag in *absent {
            assert!(
                !flags.iter().any(|one| one == flag),
                "{options:?}: {flag} in {flags:?}"
            );
        }
    }
}

fn add_mount(bundle: Bundle, to: &str, kind: &str, from: &str, options: &[&str]) -> Bundle {
    let mount = json!({"destination": to, "type": kind, "source": from, "options": options});
    bundle.push("/mounts", mount)
}

fn options_of_fresh_mounts() {
    let runtime = Runtime::new();
    check_rows(&runtime, FRESH, runtime.bundle(), |bundle, to, options| {
        add_mount(bundle, to, "tmpfs", "tmpfs", options)
    });
    for (option, shown) in [
        ("sync", "sync"),
        ("dirsync", "dirsync"),
        ("lazytime", "lazytime"),
    ] {
        let bundle = runtime.bundle().mount("/x", "tmpfs", "tmpfs", [option]);
        let mount = look(&runtime, &bundle, "/x");
        assert!(
            mount.data.iter().any(|one| one == shown),
            "{option}: {:?}",
            mount.data
        );
    }
    // It has no sign in mountinfo.
    runtime
        .run(&runtime.bundle().mount("/x", "tmpfs", "tmpfs", ["iversion"]))
        .ok();
}

fn options_of_binds() {
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &[]);
    let from = source.0.to_str().unwrap();
    check_rows(&runtime, FRESH, runtime.bundle(), |bundle, to, options| {
        add_mount(bundle, to, "bind", from, &[&["bind"], options].concat())
    });
    check_rows(&runtime, FRESH, runtime.bundle(), |bundle, to, options| {
        add_mount(bundle, to, "none", from, &[options, &["rbind"]].concat())
    });
}

fn clearing_options_of_binds() {
    let runtime = Runtime::new();
    let flags = "remount,bind,ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow";
    let source = HostMount::new(&runtime, "source", &[flags]);
    let from = source.0.to_str().unwrap();
    let rows: &[Row] = &[
        (&["rw"], &["rw"], &["ro"]),
        (&["suid"], &[], &["nosuid"]),
        (&["dev"], &[], &["nodev"]),
        (&["exec"], &[], &["noexec"]),
        (&["atime"], &[], &["noatime"]),
        (&["diratime"], &[], &["nodiratime"]),
        (&["relatime"], &["relatime"], &["noatime"]),
        (&["strictatime"], &[], &["noatime", "relatime"]),
        (&["symfollow"], &[], &["nosymfollow"]),
        (
            &["rw", "suid", "dev", "exec"],
            &["rw"],
            &["nosuid", "nodev", "noexec"],
        ),
    ];
    check_rows(&runtime, rows, runtime.bundle(), |bundle, to, options| {
        add_mount(bundle, to, "bind", from, &[&["bind"], options].concat())
    });
}

fn a_bind_keeps_the_flags_of_its_source() {
    let runtime = Runtime::new();
    let source = HostMount::new(
        &runtime,
        "source",
        &["remount,bind,ro,nosuid,nodev,noexec,noatime"],
    );
    let all = ["ro", "nosuid", "nodev", "noexec", "noatime"];
    let flags = look(&runtime, &runtime.bundle().bind(&source.0, "/x", []), "/x").flags;
    for flag in all {
        assert!(flags.iter().any(|one| one == flag), "{flag}: {flags:?}");
    }
}

fn the_last_of_conflicting_options_counts() {
    let runtime = Runtime::new();
    let how = [
        "ro", "noexec", "rw", "exec", "nosuid", "suid", "nosuid", "relatime", "noatime",
    ];
    let flags = look(
        &runtime,
        &runtime.bundle().mount("/x", "tmpfs", "tmpfs", how),
        "/x",
    )
    .flags;
    assert_eq!(flags, ["rw", "nosuid", "noatime"]);
}

/// Recursive options on a tree of two tmpfs: expected in the flags of both, or not.
const RECURSIVE: &[(&str, &str)] = &[
    ("rro", "ro"),
    ("rnosuid", "nosuid"),
    ("rnodev", "nodev"),
    ("rnoexec", "noexec"),
    ("rnoatime", "noatime"),
    ("rnodiratime", "nodiratime"),
    ("rnosymfollow", "nosymfollow"),
    ("rrelatime", "relatime"),
];

fn recursive_options_reach_submounts() {
    let runtime = Runtime::new();
    let tree = HostMount::new(&runtime, "tree", &[]);
    tree.tmpfs_below("sub");
    for (option, flag) in RECURSIVE {
        let bundle =
            runtime
                .bundle()
                .mount("/x", "bind", tree.0.to_str().unwrap(), ["rbind", option]);
        let output = runtime.run(&bundle.args(MOUNTINFO)).ok();
        for point in ["/x", "/x/sub"] {
            let flags = seen(&output.stdout, point).flags;
            assert!(
                flags.iter().any(|one| one == flag),
                "{option} on {point}: {flags:?}"
            );
        }
    }
    let bundle = runtime.bundle().mount(
        "/x",
        "bind",
        tree.0.to_str().unwrap(),
        ["rbind", "rstrictatime"],
    );
    let output = runtime.run(&bundle.args(MOUNTINFO)).ok();
    assert_eq!(seen(&output.stdout, "/x/sub").flags, ["rw"]);
}

fn plain_options_do_not_reach_submounts() {
    let runtime = Runtime::new();
    let tree = HostMount::new(&runtime, "tree", &[]);
    tree.tmpfs_below("sub");
    let from = tree.0.to_str().unwrap();
    let bundle = runtime
        .bundle()
        .mount("/x", "bind", from, ["rbind", "ro", "nosuid"]);
    let output = runtime.run(&bundle.args(MOUNTINFO)).ok();
    assert_eq!(
        seen(&output.stdout, "/x").flags,
        ["ro", "nosuid", "relatime"]
    );
    assert_eq!(seen(&output.stdout, "/x/sub").flags, ["rw", "relatime"]);
}

fn clearing_recursive_options() {
    let runtime = Runtime::new();
    let tree = HostMount::new(&runtime, "tree", &[]);
    let sub = tree.tmpfs_below("sub");
    for path in [&tree.0, &sub] {
        let flags = "remount,bind,ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow";
        Command::new("mount")
            .args(["-o", flags])
            .arg(path)
            .output()
            .ok();
    }
    for (option, flag) in [
        ("rrw", "ro"),
        ("rsuid", "nosuid"),
        ("rdev", "nodev"),
        ("rexec", "noexec"),
        ("ratime", "noatime"),
        ("rdiratime", "nodiratime"),
        ("rsymfollow", "nosymfollow"),
    ] {
        let bundle =
            runtime
                .bundle()
                .mount("/x", "bind", tree.0.to_str().unwrap(), ["rbind", option]);
        let output = runtime.run(&bundle.args(MOUNTINFO)).ok();
        for point in ["/x", "/x/sub"] {
            let flags = seen(&output.stdout, point).flags;
            assert!(
                !flags.iter().any(|one| one == flag),
                "{option} on {point}: {flags:?}"
            );
        }
    }
}

fn defaults_is_no_option() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .mount("/x", "tmpfs", "tmpfs", ["defaults", "size=64k"]);
    assert_eq!(look(&runtime, &bundle, "/x").kind, "tmpfs");
    look(
        &runtime,
        &runtime.bundle().bind("/usr", "/x", ["defaults"]),
        "/x",
    );
}

fn propagation_is_set() {
    let runtime = Runtime::new();
    let shared = HostMount::new(&runtime, "shared", &[]);
    Command::new("mount")
        .arg("--make-shared")
        .arg(&shared.0)
        .output()
        .ok();
    for (option, word) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", "master:"),
        ("rslave", "master:"),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let bundle = runtime.bundle().bind(&shared.0, "/x", [option]);
        let found = look(&runtime, &bundle, "/x").propagation;
        assert!(
            found.starts_with(word) && (word.len() > 1 || found.is_empty()),
            "{option}: {found}"
        );
    }
}

fn a_bind_is_private_by_default() {
    let runtime = Runtime::new();
    let shared = HostMount::new(&runtime, "shared", &[]);
    Command::new("mount")
        .arg("--make-shared")
        .arg(&shared.0)
        .output()
        .ok();
    let bundle = runtime.bundle().bind(&shared.0, "/x", []);
    assert_eq!(look(&runtime, &bundle, "/x").propagation, "");
}

/// A container that has a shared host folder bound with this option, and looks for a mount in it.
fn watcher(runtime: &Runtime, shared: &HostMount, option: &'static str) -> Output {
    Command::new("mount")
        .arg("--make-rshared")
        .arg(&shared.0)
        .output()
        .ok();
    let bundle =
        runtime
            .bundle()
            .mount("/x", "bind", shared.0.to_str().unwrap(), ["rbind", option]);
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    shared.tmpfs_below("later");
    container.exec(["grep", "-c", "/x/later", "/proc/self/mountinfo"])
}

fn rslave_sees_later_mounts_of_the_host() {
    let runtime = Runtime::new();
    let shared = HostMount::new(&runtime, "shared", &[]);
    assert_eq!(watcher(&runtime, &shared, "rslave").line(), "1");
}

fn rprivate_sees_none() {
    let runtime = Runtime::new();
    let shared = HostMount::new(&runtime, "shared", &[]);
    assert_eq!(watcher(&runtime, &shared, "rprivate").line(), "0");
}

fn rshared_works_both_ways() {
    let runtime = Runtime::new();
    let shared = HostMount::new(&runtime, "shared", &[]);
    assert_eq!(watcher(&runtime, &shared, "rshared").line(), "1");
    let script = "mkdir /x/mine && mount -t tmpfs mine /x/mine && sleep 1000";
    let bundle = runtime
        .bundle()
        .capabilities(["CAP_SYS_ADMIN"])
        .shell(script);
    let bundle = bundle.mount(
        "/x",
        "bind",
        shared.0.to_str().unwrap(),
        ["rbind", "rshared"],
    );
    let _container = runtime.start(&bundle);
    let point = format!("{}/mine ", shared.0.display());
    wait_until("the container's mount on the host", || {
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains(&point)
    });
}

fn bind_alone_takes_no_submounts() {
    let runtime = Runtime::new();
    let tree = HostMount::new(&runtime, "tree", &[]);
    tree.tmpfs_below("sub");
    let output = runtime
        .run(&runtime.bundle().bind(&tree.0, "/x", []).args(MOUNTINFO))
        .ok();
    assert!(!output.stdout.contains("/x/sub"), "{output}");
}

fn rbind_takes_submounts() {
    let runtime = Runtime::new();
    let tree = HostMount::new(&runtime, "tree", &[]);
    tree.tmpfs_below("sub");
    // The type is a dummy: the options decide.
    let bundle = runtime
        .bundle()
        .mount("/x", "ext4", tree.0.to_str().unwrap(), ["rbind"]);
    assert_eq!(look(&runtime, &bundle, "/x/sub").kind, "tmpfs");
}

fn files_sockets_pipes_and_devices_are_bound() {
    let runtime = Runtime::new();
    let folder = runtime.folder();
    folder.file("file", "x");
    let _socket = UnixListener::bind(folder.join("socket")).unwrap();
    Command::new("mkfifo")
        .arg(folder.join("pipe"))
        .output()
        .ok();
    let mut bundle = runtime
        .bundle()
        .shell("cd /m; stat -c %F file socket pipe device");
    for name in ["file", "socket", "pipe"] {
        bundle = bundle.bind(folder.join(name), &format!("/m/{name}"), ["ro", "nosuid"]);
    }
    let bundle = bundle.bind("/dev/full", "/m/device", ["rw"]);
    let output = runtime.run(&bundle).ok();
    assert_eq!(
        output.line(),
        "regular file\nsocket\nfifo\ncharacter special file"
    );
}

fn tmpfs_takes_the_mode_of_the_folder() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .folder("/odd")
        .mount("/odd", "tmpfs", "tmpfs", []);
    fs::set_permissions(bundle.path("/odd"), PermissionsExt::from_mode(0o1770)).unwrap();
    let bundle = bundle.mount("/given", "tmpfs", "tmpfs", ["mode=711"]);
    let output = runtime
        .run(&bundle.args(["stat", "-c", "%a", "/odd", "/given"]))
        .ok();
    assert_eq!(output.line(), "1770\n711");
}

fn a_read_only_tmpfs_is_filled_first() {
    let runtime = Runtime::new();
    let file = runtime.folder().file("file", "inside");
    let bundle =
        runtime
            .bundle()
            .mount("/x", "tmpfs", "tmpfs", ["ro"])
            .bind(&file, "/x/a/file", []);
    let bundle = bundle.shell("cat /x/a/file; touch /x/new");
    let output = runtime.run(&bundle).exits(1);
    assert_eq!(output.stdout, "inside");
    assert!(output.stderr.contains("Read-only"), "{output}");
}

fn tmpcopyup_copies() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .file("/x/dir/file", "text")
        .link("/x/link", "/etc/passwd");
    fs::set_permissions(bundle.path("/x/dir"), PermissionsExt::from_mode(0o750)).unwrap();
    std::os::unix::fs::chown(bundle.path("/x/dir/file"), Some(7), Some(8)).unwrap();
    let script = "cat /x/dir/file; stat -c %a /x/dir; stat -c %u:%g /x/dir/file; readlink /x/link; echo y >/x/new";
    let bundle = bundle
        .mount("/x", "tmpfs", "tmpfs", ["tmpcopyup", "size=1m"])
        .shell(script);
    assert_eq!(
        runtime.run(&bundle).ok().line(),
        "text750\n7:8\n/etc/passwd"
    );
    assert!(!bundle.path("/x/new").exists());
    let absent = runtime
        .bundle()
        .mount("/y", "tmpfs", "tmpfs", ["tmpcopyup"]);
    assert_eq!(look(&runtime, &absent, "/y").kind, "tmpfs");
}

fn tmpcopyup_keeps_what_the_config_gives() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().file("/x/file", "").file("/y/file", "");
    std::os::unix::fs::chown(bundle.path("/x"), Some(7), Some(8)).unwrap();
    fs::set_permissions(bundle.path("/x"), PermissionsExt::from_mode(0o750)).unwrap();
    let bundle = bundle.mount("/x", "tmpfs", "tmpfs", ["tmpcopyup"]).mount(
        "/y",
        "tmpfs",
        "tmpfs",
        ["tmpcopyup", "mode=701", "uid=5"],
    );
    let bundle = bundle.args(["stat", "-c", "%a %u:%g", "/x", "/y"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "750 7:8\n701 5:0");
}

fn tmpcopyup_on_another_filesystem_is_refused() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().bind("/usr", "/x", ["tmpcopyup"]);
    runtime.try_create(&bundle).fails(["tmpcopyup"]);
}

fn remount_changes_flags() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().mount("/x", "tmpfs", "tmpfs", ["nosuid"]);
    let bundle = bundle.mount("/x", "bind", "/x", ["bind", "remount", "ro"]);
    let flags = look(&runtime, &bundle, "/x").flags;
    assert!(flags.iter().any(|one| one == "ro"), "{flags:?}");
    assert!(flags.iter().any(|one| one == "nosuid"), "{flags:?}");
}

fn remount_keeps_flags() {
    let runtime = Runtime::new();
    let flags = ["nosymfollow", "nosuid", "noatime"];
    let bundle = runtime.bundle().mount("/x", "tmpfs", "tmpfs", flags);
    let remount = json!({"destination": "/x", "options": ["remount", "size=64k"]});
    let mount = look(&runtime, &bundle.push("/mounts", remount), "/x");
    for flag in flags {
        assert!(mount.flags.iter().any(|one| one == flag), "{flag}");
    }
    assert!(mount.data.iter().any(|one| one == "size=64k"));
}

fn proc_sysfs_and_mqueue_have_their_own_modes() {
    let runtime = Runtime::new();
    let script = "stat -c %a /proc /sys /dev/mqueue /dev/shm /dev/pts /dev; \
        for p in /proc /sys /dev/mqueue; do stat -fc %T $p; done";
    let output = runtime.run(&runtime.bundle().shell(script)).ok();
    let expected = "555\n555\n1777\n1777\n755\n755\nproc\nsysfs\n";
    assert!(output.stdout.starts_with(expected), "{output}");
}

fn sysfs_with_the_hosts_network_in_a_user_namespace() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .user_namespace()
        .without_namespace("network");
    let bundle = bundle.shell("ls /sys/class/net && ! touch /sys/x");
    let output = runtime.run(&bundle).ok();
    assert!(output.stdout.contains("lo"), "{output}");
    let flags = look(&runtime, &bundle, "/sys").flags;
    assert!(flags.iter().any(|one| one == "ro"), "{flags:?}");
}

fn devpts_is_a_new_instance() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .shell("ls /dev/pts; readlink /dev/ptmx; stat -c %a /dev/pts/ptmx");
    assert_eq!(runtime.run(&bundle).ok().line(), "ptmx\npts/ptmx\n666");
}

fn control_groups_are_mounted() {
    let runtime = Runtime::new();
    for bundle in [runtime.bundle(), runtime.bundle().new_namespace("cgroup")] {
        let bundle = bundle.mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            ["nosuid", "noexec", "nodev"],
        );
        // On version 2 a mount without a namespace shows the whole tree, whose groups come and go.
        let script = "find /sys/fs/cgroup -name cgroup.procs -exec cat {} + 2>/dev/null; \
            ls /sys/fs/cgroup";
        let output = runtime.run(&bundle.shell(script)).ok();
        assert!(
            output.stdout.lines().any(|line| line == "1"),
            "its own group is not there: {output}"
        );
    }
}

fn control_groups_can_be_read_only() {
    let runtime = Runtime::new();
    for bundle in [runtime.bundle(), runtime.bundle().new_namespace("cgroup")] {
        let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["ro"]);
        let script =
            "find /sys/fs/cgroup -maxdepth 2 -type d | while read d; do mkdir $d/x 2>&1; done";
        let output = runtime.run(&bundle.shell(script));
        // Without a namespace, groups of others are seen, and may go meanwhile.
        let refusals = ["Read-only file system", "Permission denied", "No such file"];
        let refused = |line: &str| refusals.iter().any(|refusal| line.contains(refusal));
        let bad = output.stdout.lines().filter(|line| !refused(line));
        assert_eq!(bad.count(), 0, "{output}");
        assert!(output.stdout.contains("Read-only"), "{output}");
    }
}

fn id_mapped_mounts() {
    needs::kernel(6, 3);
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &[]);
    fs::write(source.0.join("f"), "").unwrap();
    std::os::unix::fs::chown(source.0.join("f"), Some(5), Some(6)).unwrap();
    let map = |from: u32| json!([{"containerID": 0, "hostID": from, "size": 1000}]);
    let mount = json!({"destination": "/x", "type": "bind", "source": source.0,
        "options": ["bind", "idmap"], "uidMappings": map(3000), "gidMappings": map(4000)});
    let bundle = runtime
        .bundle()
        .push("/mounts", mount)
        .args(["stat", "-c", "%u:%g", "/x/f"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "3005:4006");
}

fn id_mapped_mounts_of_the_user_namespace() {
    needs::kernel(6, 3);
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &[]);
    fs::write(source.0.join("f"), "").unwrap();
    let bundle = runtime
        .bundle()
        .user_namespace()
        .bind(&source.0, "/x", ["idmap"]);
    let output = runtime
        .run(&bundle.shell("stat -c %u:%g /x/f; touch /x/new"))
        .ok();
    assert_eq!(output.line(), "0:0");
    let made = fs::metadata(source.0.join("new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 0);
}

fn id_maps_are_those_of_a_namespace() {
    let runtime = Runtime::new();
    let fifo = runtime.folder().join("fifo");
    Command::new("mkfifo").arg(&fifo).output().ok();
    for (path, text) in [
        ("/proc/self/ns/net", "is a network namespace, not user"),
        (fifo.to_str().unwrap(), "is not a namespace"),
    ] {
        let bundle = runtime.bundle().join_namespace("user", path);
        let bundle = bundle.bind("/usr", "/x", ["idmap"]);
        let output = runtime.try_create(&bundle);
        output.fails(["linux.namespaces[5].path", text]);
    }
}

fn half_an_id_mapping_is_refused() {
    let runtime = Runtime::new();
    let mount = json!({"destination": "/x", "type": "bind", "source": "/usr", "options": ["bind"],
        "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]});
    runtime
        .try_create(&runtime.bundle().push("/mounts", mount))
        .fails(["gidMappings"]);
}

fn id_mapping_without_a_mapping_is_refused() {
    let runtime = Runtime::new();
    for option in ["idmap", "ridmap"] {
        let bundle = runtime.bundle().bind("/usr", "/x", [option]);
        runtime.try_create(&bundle).fails(["mounts[6]"]);
    }
}

fn many_mounts() {
    let runtime = Runtime::new();
    let mut bundle = runtime.bundle();
    for number in 0..500 {
        bundle = bundle.bind("/usr", &format!("/m/{number}"), ["ro"]);
    }
    let bundle = bundle.shell("grep -c ' /m/' /proc/self/mountinfo");
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    assert_eq!(run.after("ulimit -n 1024").output().ok().line(), "500");
}

fn the_hosts_mounts_are_not_visible() {
    let runtime = Runtime::new();
    let output = runtime
        .run(
            &runtime
                .bundle()
                .args(["cut", "-d ", "-f5", "/proc/self/mountinfo"]),
        )
        .ok();
    let folder = runtime.folder().path().to_str().unwrap();
    assert!(!output.stdout.contains(folder), "{output}");
    let expected = ["/", "/proc", "/dev", "/sys"];
    for point in output.stdout.lines() {
        let is_known = expected.iter().any(|known| point.starts_with(known));
        assert!(
            is_known && !point.starts_with("/sys/fs"),
            "{point} is mounted"
        );
    }
}

fn copy_symlink_copies_the_link() {
    let runtime = Runtime::new();
    std::os::unix::fs::symlink("/to/nowhere", runtime.folder().join("link")).unwrap();
    let bundle = runtime
        .bundle()
        .bind(runtime.folder().join("link"), "/a/link", ["copy-symlink"]);
    assert_eq!(
        runtime
            .run(&bundle.args(["readlink", "/a/link"]))
            .ok()
            .line(),
        "/to/nowhere"
    );
}

fn a_locked_flag_cannot_be_cleared() {
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &["remount,bind,ro,nosuid"]);
    let bundle = runtime.bundle().user_namespace();
    // A flag more is fine, the locked ones stay; to clear one is refused, or done from outside.
    let flags = look(
        &runtime,
        &bundle.clone().bind(&source.0, "/x", ["noexec"]),
        "/x",
    )
    .flags;
    for flag in ["ro", "nosuid", "noexec"] {
        assert!(flags.iter().any(|one| one == flag), "{flag}: {flags:?}");
    }
}

/// Runs a script as an administrator of the container's user namespace.
fn in_user_namespace(bundle: Bundle, script: &str) -> Bundle {
    let bundle = bundle.user_namespace().shell(script);
    bundle.capabilities(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"])
}

fn nor_from_inside() {
    let runtime = Runtime::new();
    let locked = "remount,bind,ro,nosuid,nodev,noexec";
    let source = HostMount::new(&runtime, "source", &[locked]);
    let script = "for flag in rw suid dev exec; do mount -o $0,$flag /x; done; mount -o $0 /x";
    let bundle = in_user_namespace(runtime.bundle().bind(&source.0, "/x", []), script);
    let output = runtime.run(&bundle.push("/process/args", json!(locked)));
    assert_eq!(output.ok().stderr.matches("denied").count(), 4);
}

fn what_a_mount_covers_stays_covered() {
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &[]);
    fs::create_dir(source.0.join("below")).unwrap();
    fs::write(source.0.join("below/secret"), "secret").unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "below"]);
    mount.arg(source.0.join("below")).output().ok();
    let script = "umount /x/below; umount -l /x/below; cat /x/below/secret";
    let bundle = runtime.bundle().bind(&source.0, "/x", ["rbind"]);
    let output = runtime.run(&in_user_namespace(bundle, script));
    assert_eq!(output.stdout, "", "{output}");
    assert_eq!(output.stderr.matches("umount: ").count(), 2, "{output}");
}

fn the_hosts_sysfs_stays_whole() {
    let runtime = Runtime::new();
    let script = "cd /sys; for m in $(cut -d' ' -f5 /proc/self/mountinfo | grep ^/sys/); do \
        umount -l $m; done 2>/dev/null; grep -c ' /sys/' /proc/self/mountinfo";
    let bundle = runtime.bundle().without_namespace("network");
    let bundle = bundle.set("/linux/maskedPaths", json!([]));
    let output = runtime.run(&in_user_namespace(bundle, script));
    let own = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = own.lines().filter(|line| line.contains(" /sys/")).count();
    assert_eq!(output.line(), below.to_string(), "{output}");
}

fn a_plain_bind_does_not_uncover() {
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &[]);
    source.tmpfs_below("below");
    let bundle = runtime.bundle().user_namespace();
    let plain = bundle.clone().bind(&source.0, "/x", []);
    runtime.try_create(&plain).fails(["/x", "use rbind"]);
    runtime.run(&bundle.bind(&source.0, "/x", ["rbind"])).ok();
}

fn sources_need_not_be_reachable_from_inside() {
    let runtime = Runtime::new();
    let closed = runtime.folder().folder("closed");
    fs::create_dir(closed.join("open")).unwrap();
    fs::write(closed.join("open/f"), "text").unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let bundle = runtime
        .bundle()
        .user_namespace()
        .bind(closed.join("open"), "/x", []);
    assert_eq!(
        runtime.run(&bundle.args(["cat", "/x/f"])).ok().line(),
        "text"
    );
}

fn noop_options_are_accepted() {
    let runtime = Runtime::new();
    for option in ["rsync", "rasync", "rdirsync", "rmand", "rnomand"] {
        look(
            &runtime,
            &runtime.bundle().bind("/usr", "/x", [option]),
            "/x",
        );
    }
}
