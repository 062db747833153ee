//! `linux.namespaces`, id mappings, time offsets and network devices.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use coracle_integration::{Bundle, Command, Container, Runtime, json, needs, skip, wait_until};

const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("user", "user"),
    ("time", "time"),
];

fn inode(pid: impl std::fmt::Display, file: &str) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/{file}"))
        .unwrap_or_else(|e| panic!("{file}: {e}"))
        .ino()
}

/// A bundle with only these namespaces, and a mount one, that sleeps.
fn with_only(runtime: &Runtime, kind: &str) -> Bundle {
    let bundle = runtime
        .bundle()
        .set("/linux/namespaces", json!([{"type": "mount"}]));
    let bundle = bundle.remove("/hostname").args(["sleep", "1000"]);
    match kind {
        "user" => bundle
            .user_namespace()
            .without_mount("/sys")
            .without_mount("/proc")
            .without_mount("/dev/mqueue")
            .remove("/linux/maskedPaths")
            .remove("/linux/readonlyPaths"),
        _ => bundle.new_namespace(kind),
    }
}

#[test]
fn listed_namespaces_are_new() {
    let runtime = Runtime::new();
    for (kind, file) in KINDS {
        let container = runtime.start(&with_only(&runtime, kind));
        assert_ne!(inode(container.pid(), file), inode("self", file), "{kind}");
    }
}

#[test]
fn absent_namespaces_are_the_hosts() {
    let runtime = Runtime::new();
    for (kind, _) in KINDS {
        let container = runtime.start(&with_only(&runtime, kind));
        for (other, file) in KINDS
            .iter()
            .filter(|(other, _)| *other != kind && *other != "mount")
        {
            assert_eq!(
                inode(container.pid(), file),
                inode("self", file),
                "{other} beside {kind}"
            );
        }
    }
}

#[test]
fn a_namespace_is_joined_by_path() {
    let runtime = Runtime::new();
    for (kind, file) in KINDS
        .iter()
        .filter(|(kind, _)| *kind != "user" && *kind != "mount")
    {
        let first = runtime.start(&with_only(&runtime, kind));
        let path = format!("/proc/{}/ns/{file}", first.pid());
        let second = with_only(&runtime, "mount").join_namespace(kind, &path);
        let second = runtime.start(&second);
        assert_eq!(
            inode(second.pid(), file),
            inode(first.pid(), file),
            "{kind}"
        );
        let seen = second
            .exec(["readlink", &format!("/proc/self/ns/{file}")])
            .ok();
        let expected = fs::read_link(&path).unwrap();
        assert_eq!(seen.line(), expected.to_str().unwrap(), "{kind}");
    }
}

/// A bundle that joins all namespaces of a container but mount.
fn joined(runtime: &Runtime, first: &Container<'_>, kinds: &[&str]) -> Bundle {
    let mut bundle = runtime.bundle().remove("/hostname").args(["sleep", "1000"]);
    for (kind, file) in KINDS.iter().filter(|(kind, _)| kinds.contains(kind)) {
        bundle = bundle.join_namespace(kind, &format!("/proc/{}/ns/{file}", first.pid()));
    }
    bundle
}

#[test]
fn all_namespaces_are_joined_at_once() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .new_namespace("cgroup")
        .new_namespace("time");
    let first = runtime.start(&bundle.args(["sleep", "1000"]));
    let kinds = ["pid", "network", "ipc", "uts", "cgroup", "time"];
    let second = runtime.start(&joined(&runtime, &first, &kinds));
    for (kind, file) in KINDS.iter().filter(|(kind, _)| kinds.contains(kind)) {
        assert_eq!(
            inode(second.pid(), file),
            inode(first.pid(), file),
            "{kind}"
        );
    }
    second.exec(["true"]).ok();
}

#[test]
fn a_namespace_of_another_type_is_refused() {
    let runtime = Runtime::new();
    for (kind, path) in [
        ("ipc", "/proc/self/ns/uts"),
        ("network", "/proc/self/ns/pid"),
        ("pid", "/proc/self/ns/net"),
    ] {
        let bundle = runtime.bundle().without_namespace(kind);
        let index = bundle.config["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .len();
        let output = runtime.try_create(&bundle.join_namespace(kind, path));
        output.fails([
            &format!("linux.namespaces[{index}].path"),
            path,
            "namespace",
        ]);
    }
}

#[test]
fn bad_paths_are_refused() {
    let runtime = Runtime::new();
    for path in [
        "relative/ns",
        "/no/such/file",
        "/etc/passwd",
        "/dev/null",
        "/usr",
    ] {
        let bundle = runtime.bundle().join_namespace("network", path);
        runtime
            .try_create(&bundle)
            .fails(["linux.namespaces[4].path", path]);
    }
}

/// The caller has a private mount namespace, so that a failure of this test does not damage the
/// machine.
#[test]
fn the_runtimes_own_mount_namespace_is_refused() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .join_namespace("mount", "/proc/self/ns/mnt");
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let output = run.under("unshare", ["--mount"]).output();
    output.fails(["linux.namespaces[4].path", "own mount namespace"]);
    runtime.is_clean();
}

#[test]
fn no_namespaces_at_all() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .remove("/linux")
        .remove("/hostname")
        .set("/mounts", json!([]));
    let output = runtime
        .run(&bundle.shell("echo inside; ls /; readlink /proc/self"))
        .exits(1);
    assert!(output.stdout.starts_with("inside\nbin\n"), "{output}");
}

#[test]
fn only_a_mount_namespace() {
    let runtime = Runtime::new();
    let bundle = with_only(&runtime, "mount").shell("cat /proc/1/comm; hostname");
    let output = runtime.run(&bundle).ok();
    let host = fs::read_to_string("/proc/1/comm").unwrap();
    assert!(output.stdout.starts_with(&host), "{output}");
}

#[test]
fn the_first_process_is_1() {
    let runtime = Runtime::new();
    assert_eq!(
        runtime.run(&runtime.bundle().shell("echo $$")).ok().line(),
        "1"
    );
}

#[test]
fn a_joined_pid_namespace_has_two_inits() {
    let runtime = Runtime::new();
    let first = runtime.sleeper();
    let bundle = joined(&runtime, &first, &["pid"]).shell("echo $$; ps");
    let output = runtime.run(&bundle).ok();
    assert!(!output.stdout.starts_with("1\n"), "{output}");
    assert!(output.stdout.contains("sleep 1000"), "{output}");
}

#[test]
fn the_second_container_of_a_pod_ends_alone() {
    let runtime = Runtime::new();
    let first = runtime.sleeper();
    let second = runtime.start(&joined(&runtime, &first, &["pid", "network", "ipc", "uts"]));
    second.delete_by_force().ok();
    assert_eq!(first.status(), "running");
    first.exec(["true"]).ok();
}

#[test]
fn kill_ends_all_in_a_shared_pid_namespace() {
    let runtime = Runtime::new();
    let first = runtime.sleeper();
    let bundle = joined(&runtime, &first, &["pid"]).shell("sleep 999 & sleep 998 & echo up; wait");
    let second = runtime.start(&bundle);
    second.wait_for("up");
    second.kill("KILL").ok();
    let gone = || !first.exec(["ps"]).ok().stdout.contains("sleep 99");
    coracle_integration::wait_until("the end of all processes", gone);
    second.wait_for_status("stopped");
    second.delete().ok();
}

#[test]
fn the_hosts_pid_namespace_leaves_no_process() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .without_namespace("pid")
        .shell("sleep 999 & echo up; wait");
    let container = runtime.start(&bundle);
    container.wait_for("up");
    container.delete_by_force().ok();
    runtime.is_clean();
}

#[test]
fn loopback_is_up() {
    let runtime = Runtime::new();
    let output = runtime
        .run(&runtime.bundle().args(["ip", "-o", "addr", "show", "lo"]))
        .ok();
    assert!(output.stdout.contains("127.0.0.1/8"), "{output}");
}

#[test]
fn a_joined_network_is_shared() {
    let runtime = Runtime::new();
    let first = runtime.start(
        &runtime
            .bundle()
            .shell("echo text | nc -l -p 7777; sleep 1000"),
    );
    let listens = || {
        first
            .exec(["netstat", "-ltn"])
            .ok()
            .stdout
            .contains(":7777")
    };
    coracle_integration::wait_until("a listener", listens);
    let bundle = joined(&runtime, &first, &["network"]).args(["nc", "127.0.0.1", "7777"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "text");
}

#[test]
fn a_joined_host_name_is_changed() {
    let runtime = Runtime::new();
    let first = runtime.sleeper();
    let bundle = joined(&runtime, &first, &["uts"]).set("/hostname", json!("second"));
    runtime.run(&bundle.args(["true"])).ok();
    assert_eq!(first.exec(["hostname"]).ok().line(), "second");
}

/// In a uts namespace that stands for the host's.
#[test]
fn the_hosts_own_name_is_not_changed() {
    let runtime = Runtime::new();
    for property in ["hostname", "domainname"] {
        let bundle = runtime.bundle().remove("/hostname").args(["true"]);
        let bundle = bundle.join_namespace("uts", "/proc/self/ns/uts");
        let run = |bundle: &Bundle| {
            let run = runtime.with_bundle("run", bundle).arg(runtime.id());
            run.under("unshare", ["--uts", "--"]).output()
        };
        run(&bundle).ok();
        let renamed = bundle.set(&format!("/{property}"), json!("second"));
        let said = format!("{property}: /proc/self/ns/uts is the host's own");
        run(&renamed).fails([&said]);
    }
}

#[test]
fn a_joined_ipc_namespace_is_shared() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .set("/linux/sysctl", json!({"kernel.msgmax": "9999"}));
    let first = runtime.start(&bundle.args(["sleep", "1000"]));
    let bundle = joined(&runtime, &first, &["ipc"]).args(["cat", "/proc/sys/kernel/msgmax"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "9999");
}

#[test]
fn the_control_group_namespace_hides_the_path() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .new_namespace("cgroup")
        .args(["cat", "/proc/self/cgroup"]);
    let output = runtime.run(&bundle).ok();
    assert!(
        output.stdout.lines().all(|line| line.ends_with(":/")),
        "{output}"
    );
}

#[test]
fn user_namespaces_map_ids() {
    let runtime = Runtime::new();
    let script = "id -u; xargs </proc/self/uid_map; xargs </proc/self/gid_map; sleep 1000";
    let container = runtime.start(&runtime.bundle().user_namespace().shell(script));
    container.wait_for("0\n0 100000 65536\n0 100000 65536\n");
    assert!(
        container
            .proc("status")
            .contains("\nUid:\t100000\t100000\t100000\t100000\n")
    );
}

fn map(lines: &[[u32; 3]]) -> serde_json::Value {
    let line = |l: &[u32; 3]| json!({"containerID": l[0], "hostID": l[1], "size": l[2]});
    lines.iter().map(line).collect()
}

#[test]
fn several_lines_of_mapping() {
    let runtime = Runtime::new();
    let lines = map(&[[0, 1000, 1], [1, 200_000, 999], [1000, 0, 1]]);
    let bundle = runtime
        .bundle()
        .user_namespace()
        .set("/linux/uidMappings", lines);
    let bundle = bundle.shell("xargs </proc/self/uid_map");
    assert_eq!(
        runtime.run(&bundle).ok().line(),
        "0 1000 1 1 200000 999 1000 0 1"
    );
}

#[test]
fn more_than_five_lines_of_mapping() {
    let runtime = Runtime::new();
    let lines: Vec<[u32; 3]> = (0..300).map(|n| [n, 100_000 + 2 * n, 1]).collect();
    let bundle = runtime
        .bundle()
        .user_namespace()
        .set("/linux/uidMappings", map(&lines));
    let bundle = bundle.shell("wc -l </proc/self/uid_map");
    assert_eq!(runtime.run(&bundle).ok().line(), "300");
}

#[test]
fn the_root_filesystem_is_not_chowned() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().user_namespace();
    for path in ["/tmp", "/bin/busybox", "/etc/passwd"] {
        std::os::unix::fs::chown(bundle.path(path), Some(7), Some(7)).unwrap();
    }
    runtime.run(&bundle).ok();
    for path in ["/tmp", "/bin/busybox", "/etc/passwd"] {
        assert_eq!(fs::metadata(bundle.path(path)).unwrap().uid(), 7, "{path}");
    }
}

#[test]
fn files_made_inside_belong_to_the_mapped_id() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().user_namespace().args(["touch", "/tmp/f"]);
    runtime.run(&bundle).ok();
    let made = fs::metadata(bundle.path("/tmp/f")).unwrap();
    assert_eq!((made.uid(), made.gid()), (100_000, 100_000));
}

#[test]
fn a_user_in_a_user_namespace() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .user_namespace()
        .user(1000, 1001)
        .shell("id -u; id -g; touch /tmp/f");
    assert_eq!(runtime.run(&bundle).ok().line(), "1000\n1001");
    assert_eq!(fs::metadata(bundle.path("/tmp/f")).unwrap().uid(), 101_000);
}

#[test]
fn groups_in_a_user_namespace() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .user_namespace()
        .args(["grep", "Groups", "/proc/self/status"]);
    let bundle = bundle.set("/process/user/additionalGids", json!([5, 60]));
    assert_eq!(runtime.run(&bundle).ok().line(), "Groups:\t5 60");
}

#[test]
fn an_unmapped_user_is_refused() {
    let runtime = Runtime::new();
    runtime
        .try_create(&runtime.bundle().user_namespace().user(70000, 0))
        .fails(["70000"]);
    runtime
        .try_create(&runtime.bundle().user_namespace().user(0, 70000))
        .fails(["70000"]);
    let bundle = runtime.bundle().user_namespace();
    let bundle = bundle.set("/process/user/additionalGids", json!([70000]));
    runtime.try_create(&bundle).fails(["70000"]);
}

#[test]
fn a_user_namespace_owns_the_others() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .user_namespace()
        .capabilities(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
    let bundle =
        bundle.shell("hostname new && ip link set lo down && mount -t tmpfs x /tmp && hostname");
    assert_eq!(runtime.run(&bundle).ok().line(), "new");
}

#[test]
fn a_joined_user_namespace() {
    let runtime = Runtime::new();
    let first = runtime.start(&runtime.bundle().user_namespace().args(["sleep", "1000"]));
    let bundle = joined(&runtime, &first, &["user"]).shell("id -u; xargs </proc/self/uid_map");
    assert_eq!(runtime.run(&bundle).ok().line(), "0\n0 100000 65536");
    // containerd sends the mappings as well: the same ones are accepted.
    let bundle = bundle.set("/linux/uidMappings", map(&[[0, 100_000, 65536]]));
    runtime
        .run(&bundle.set("/linux/gidMappings", map(&[[0, 100_000, 65536]])))
        .ok();
}

#[test]
fn a_joined_user_namespace_with_other_mappings_is_refused() {
    let runtime = Runtime::new();
    let first = runtime.start(&runtime.bundle().user_namespace().args(["sleep", "1000"]));
    let bundle = joined(&runtime, &first, &["user"]);
    let bundle = bundle.set("/linux/uidMappings", map(&[[0, 5, 5]]));
    let bundle = bundle.set("/linux/gidMappings", map(&[[0, 5, 5]]));
    runtime.try_create(&bundle).fails(["uidMappings"]);
}

#[test]
fn a_pod_with_a_user_namespace() {
    let runtime = Runtime::new();
    let first = runtime.start(&runtime.bundle().user_namespace().args(["sleep", "1000"]));
    let second = runtime.start(&joined(
        &runtime,
        &first,
        &["user", "network", "ipc", "uts", "pid"],
    ));
    for file in ["user", "net", "ipc", "uts", "pid"] {
        assert_eq!(
            inode(second.pid(), file),
            inode(first.pid(), file),
            "{file}"
        );
    }
    assert_eq!(second.exec(["id", "-u"]).ok().line(), "0");
}

#[test]
fn devices_in_a_user_namespace() {
    let runtime = Runtime::new();
    let script =
        "echo x >/dev/null && head -c 4 /dev/zero | wc -c && head -c 1 /dev/urandom | wc -c";
    let output = runtime
        .run(&runtime.bundle().user_namespace().shell(script))
        .ok();
    assert_eq!(output.line(), "4\n1");
}

#[test]
fn time_offsets_are_set() {
    let runtime = Runtime::new();
    let offsets =
        json!({"monotonic": {"secs": 100, "nanosecs": 5}, "boottime": {"secs": 1_000_000_000}});
    let bundle = runtime
        .bundle()
        .new_namespace("time")
        .set("/linux/timeOffsets", offsets);
    let bundle = bundle.shell("cat /proc/self/timens_offsets | xargs; cut -c1-5 /proc/uptime");
    let output = runtime.run(&bundle).ok();
    assert_eq!(
        output.line(),
        "monotonic 100 5 boottime 1000000000 0\n10000"
    );
}

#[test]
fn a_joined_time_namespace() {
    let runtime = Runtime::new();
    let offsets = json!({"boottime": {"secs": 1_000_000_000, "nanosecs": 0}});
    let bundle = runtime
        .bundle()
        .new_namespace("time")
        .set("/linux/timeOffsets", offsets);
    let first = runtime.start(&bundle.args(["sleep", "1000"]));
    let bundle = joined(&runtime, &first, &["time"]).args(["cut", "-c1-5", "/proc/uptime"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "10000");
    let offsets = json!({"boottime": {"secs": 1, "nanosecs": 0}});
    runtime
        .try_create(&bundle.set("/linux/timeOffsets", offsets))
        .fails(["timeOffsets"]);
}

#[test]
fn standard_streams_in_a_user_namespace() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().user_namespace().user(1000, 1000);
    let script = "echo out >/proc/self/fd/1; echo err >/proc/self/fd/2";
    let output = runtime.run(&bundle.shell(script)).ok();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

/// Makes a device on the host of a kind that this kernel has, and returns its name.
pub(crate) fn host_device(runtime: &Runtime) -> String {
    needs::program("ip");
    let name = format!(
        "c{}",
        runtime
            .marker()
            .split('.')
            .skip(1)
            .collect::<Vec<_>>()
            .join("")
    );
    let name = name[..name.len().min(14)].to_owned();
    for kind in ["dummy", "veth", "vcan"] {
        let add = Command::new("ip")
            .args(["link", "add", &name, "type", kind])
            .output();
        if add.code == 0 {
            return name;
        }
    }
    skip!("this kernel makes no network device to move")
}

#[test]
fn network_devices_are_moved() {
    let runtime = Runtime::new();
    let device = host_device(&runtime);
    let bundle = runtime.bundle().args(["ip", "-o", "link"]);
    let bundle = bundle.set(
        &format!("/linux/netDevices/{device}"),
        json!({"name": "inside0"}),
    );
    let output = runtime.run(&bundle);
    Command::new("ip").args(["link", "del", &device]).output();
    assert!(output.ok().stdout.contains("inside0"));
    assert!(!Path::new("/sys/class/net").join(&device).exists());
}

#[test]
fn network_devices_keep_what_they_had() {
    let runtime = Runtime::new();
    let device = host_device(&runtime);
    for arguments in ["address add 192.0.2.9/24 dev", "link set mtu 1400 dev"] {
        let words = arguments.split(' ');
        Command::new("ip").args(words).arg(&device).output().ok();
    }
    let name = json!({"name": "in%d"});
    let bundle = runtime.bundle().args(["ip", "address", "show", "in0"]);
    let output = runtime.run(&bundle.set(&format!("/linux/netDevices/{device}"), name));
    Command::new("ip").args(["link", "del", &device]).output();
    let output = output.ok();
    for text in ["mtu 1400", "192.0.2.9/24", "UP"] {
        assert!(output.stdout.contains(text), "{text}: {output}");
    }
}

/// Whether a device of the host is there with this address, and whether it is up.
pub(crate) fn has_address(device: &str, address: &str) -> (bool, bool) {
    let show = |what: &[&str]| {
        let show = Command::new("ip").args(what).args(["show", device]);
        show.output().stdout
    };
    let link = show(&["-o", "link"]);
    let up = link.contains(",UP") || link.contains("<UP");
    (show(&["-o", "addr"]).contains(address), up)
}

#[test]
fn network_devices_come_back_after_a_failure() {
    let runtime = Runtime::new();
    let device = host_device(&runtime);
    let ip = |arguments: &str| {
        let words = arguments.split(' ');
        Command::new("ip").args(words).arg(&device).output().ok();
    };
    ip("address add 192.0.2.7/32 dev");
    ip("link set up dev");
    let other = Command::new("unshare").args(["--net", "sleep", "1000"]);
    let other = other.spawn();
    let path = format!("/proc/{}/ns/net", other.pid);
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    wait_until("another network namespace", || {
        fs::read_link(&path).is_ok_and(|link| link != own)
    });
    let new = runtime.bundle().args(["/no/such/program"]);
    let new = new.set(&format!("/linux/netDevices/{device}/name"), json!("eth7"));
    let joined = new.clone().join_namespace("network", &path);
    let state: Vec<_> = [new, joined]
        .iter()
        .map(|bundle| {
            runtime.try_create(bundle).fails(["/no/such/program"]);
            has_address(&device, "192.0.2.7/32")
        })
        .collect();
    Command::new("ip").args(["link", "del", &device]).output();
    other.signal(nix::sys::signal::SIGKILL);
    assert_eq!(state, [(true, true); 2]);
}

#[test]
fn network_devices_that_were_down_keep_their_addresses() {
    let runtime = Runtime::new();
    let device = host_device(&runtime);
    let add = ["address", "add", "192.0.2.8/32", "dev", &device];
    Command::new("ip").args(add).output().ok();
    let bundle = runtime.bundle().set(
        &format!("/linux/netDevices/{device}"),
        json!({"name": "lo"}),
    );
    runtime.try_create(&bundle).fails(["linux.netDevices"]);
    let bundle = bundle.args(["/no/such/program"]).set(
        &format!("/linux/netDevices/{device}"),
        json!({"name": "eth7"}),
    );
    runtime.try_create(&bundle).fails(["/no/such/program"]);
    let state = has_address(&device, "192.0.2.8/32");
    Command::new("ip").args(["link", "del", &device]).output();
    assert_eq!(state, (true, false));
}

#[test]
fn a_missing_network_device_is_refused() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().set("/linux/netDevices/nosuch0", json!({}));
    runtime.try_create(&bundle).fails(["nosuch0"]);
}

#[test]
fn the_runtime_leaves_no_namespace_behind() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle());
    // No process but init lives in the namespace: no helper stays.
    let pid = container.pid();
    let wanted = inode(pid, "pid");
    let inside = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        fs::metadata(entry.path().join("ns/pid")).is_ok_and(|data| data.ino() == wanted)
    });
    assert_eq!(inside.count(), 1);
}

#[test]
fn sysctls_follow_the_namespaces() {
    let runtime = Runtime::new();
    let sysctl = json!({"kernel.shmmni": "1234"});
    let bundle = runtime
        .bundle()
        .without_namespace("ipc")
        .set("/linux/sysctl", sysctl);
    runtime.try_create(&bundle).fails(["kernel.shmmni"]);
    let first = runtime.sleeper();
    let path = format!("/proc/{}/ns/ipc", first.pid());
    let bundle = bundle
        .join_namespace("ipc", &path)
        .args(["cat", "/proc/sys/kernel/shmmni"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "1234");
}

/// Groups that the user namespace does not map show as 65534, and open the host's files all the
/// same: that is what the annotation is for.
#[test]
fn the_callers_groups_are_kept_where_asked() {
    const LOOK: &str = "id -G; cat /shared/of-4; sed -n 's/^Groups:.//p' /proc/self/status";
    let runtime = Runtime::new();
    let shared = runtime.folder().folder("shared");
    let file = shared.join("of-4");
    fs::write(&file, "opened\n").unwrap();
    std::os::unix::fs::chown(&file, None, Some(4)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let bundle = runtime
        .bundle()
        .user_namespace()
        .bind(&shared, "/shared", ["bind"]);
    let keep = "/annotations/run.oci.keep_original_groups";
    let kept = bundle.clone().set(keep, json!("1"));
    let with_groups = |command: Command| {
        let command = command.under("setpriv", ["--groups=4,27", "--"]);
        command.output()
    };
    let run = |bundle: &Bundle| with_groups(runtime.with_bundle("run", bundle).arg(runtime.id()));
    let output = run(&kept.clone().shell(LOOK)).ok();
    assert_eq!(output.stdout.lines().nth(1), Some("opened"), "{output}");
    assert_eq!(
        output.stdout.lines().nth(2).map(str::trim),
        Some("65534 65534"),
        "{output}"
    );
    let dropped = run(&bundle.shell(LOOK));
    assert!(dropped.stderr.contains("ermission denied"), "{dropped}");
    let container = runtime.start(&kept.args(["sleep", "1000"]));
    let exec = with_groups(container.exec_command([], ["sh", "-c", LOOK])).ok();
    assert_eq!(exec.stdout.lines().nth(1), Some("opened"), "{exec}");
}
