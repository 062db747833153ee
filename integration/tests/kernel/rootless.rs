//! The runtime in the hands of an ordinary user, who has no account even.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use coracle_integration::terminal::Terminal;
use coracle_integration::{
    Bundle, Command, Runtime, Value, json, needs, program, skip, status_field,
};

const USER: u32 = 54_321;

/// A runtime for the user.
pub(crate) fn user() -> Runtime {
    let limit = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    if limit.trim() == "0" {
        skip!("ordinary users may make no user namespace here");
    }
    Runtime::for_user(USER)
}

/// The config that `spec --rootless` writes, without its terminal.
pub(crate) fn written(runtime: &Runtime) -> Bundle {
    let mut bundle = runtime.bundle();
    let spec = runtime.bare().args(["spec", "--rootless", "--bundle"]);
    spec.arg(&bundle.dir).output().ok();
    let text = fs::read_to_string(bundle.dir.join("config.json")).unwrap();
    bundle.config = text.parse().unwrap();
    bundle.set("/process/terminal", json!(false))
}

fn map(inside: u32, outside: u32, size: u32) -> Value {
    json!([{"containerID": inside, "hostID": outside, "size": size}])
}

fn with_maps(bundle: Bundle, maps: &Value) -> Bundle {
    let bundle = bundle.set("/linux/uidMappings", maps.clone());
    bundle.set("/linux/gidMappings", maps.clone())
}

#[test]
fn the_written_config_maps_the_caller() {
    let runtime = user();
    let config = written(&runtime).config;
    assert_eq!(config["linux"]["uidMappings"], map(0, USER, 1));
    assert_eq!(config["linux"]["gidMappings"], map(0, USER, 1));
}

#[test]
fn the_written_config_works() {
    let runtime = user();
    let bundle = written(&runtime).shell("id -u; id -g; cat /proc/self/uid_map | xargs; echo $$");
    let output = runtime.run(&bundle).ok();
    assert_eq!(output.line(), format!("0\n0\n0 {USER} 1\n1"));
}

#[test]
fn the_written_config_works_on_a_terminal() {
    let runtime = user();
    let bundle = written(&runtime).set("/process/terminal", json!(true));
    let bundle = bundle.shell("tty; [ -t 0 ] && echo is a terminal");
    let mut terminal = Terminal::new();
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let running = terminal.attach(run).spawn();
    terminal.expect("is a terminal");
    running.wait().ok();
}

#[test]
fn the_whole_life() {
    let runtime = user();
    let container = runtime.create(&written(&runtime).args(["sleep", "1000"]));
    assert_eq!(container.status(), "created");
    container.start().ok();
    assert_eq!(container.status(), "running");
    assert_eq!(
        status_field(container.pid(), "Uid").split('\t').next(),
        Some("54321")
    );
    container.delete().fails(["running"]);
    container.kill("KILL").ok();
    assert_eq!(container.exit_code(), 128 + 9);
    assert_eq!(container.status(), "stopped");
    container.delete().ok();
    runtime.is_clean();
}

#[test]
fn a_process_can_join() {
    let runtime = user();
    let container = runtime.start(&written(&runtime).args(["sleep", "1000"]));
    let output =
        container.shell("id -u; readlink /proc/self/ns/user; grep CapEff /proc/self/status");
    let namespace = fs::read_link(format!("/proc/{}/ns/user", container.pid())).unwrap();
    let expected = format!("0\n{}\nCapEff:\t0000000020000420", namespace.display());
    assert_eq!(output.ok().line(), expected);
    container
        .exec_with(["--user", "7"], ["true"])
        .fails_as(255, []);
}

#[test]
fn without_a_user_namespace_it_is_refused() {
    let runtime = user();
    let bundle = written(&runtime)
        .without_namespace("user")
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings");
    runtime.try_create(&bundle).fails(["--userns auto"]);
    runtime.is_clean();
}

/// The config that `spec` writes for root, without its terminal.
fn of_root(runtime: &Runtime) -> Bundle {
    let mut bundle = runtime.bundle();
    let spec = runtime.bare().args(["spec", "--bundle"]);
    spec.arg(&bundle.dir).output().ok();
    let text = fs::read_to_string(bundle.dir.join("config.json")).unwrap();
    bundle.config = text.parse().unwrap();
    bundle.set("/process/terminal", json!(false))
}

#[test]
fn a_user_namespace_is_made_when_asked() {
    let runtime = user();
    let bundle = of_root(&runtime);
    let mounts = bundle.config["mounts"].as_array().unwrap();
    let is_devpts = |mount: &Value| mount["type"] == "devpts";
    let index = mounts.iter().position(is_devpts).unwrap();
    let create = |bundle: &Bundle, id: &str| {
        let create = runtime.with_bundle("create", bundle);
        let create = create.args(["--userns", "auto", id]);
        create.stdout(Stdio::null()).output()
    };
    // The group of terminals is none of the caller's ids.
    create(&bundle.clone().args(["true"]), &runtime.id())
        .fails([&format!("mounts[{index}].options: gid=5"), "gidMappings"]);
    let options = json!(["nosuid", "noexec", "newinstance"]);
    let bundle = bundle.set(&format!("/mounts/{index}/options"), options);
    let bundle = bundle.args(["sleep", "1000"]);
    let explain = runtime.with_bundle("explain", &bundle);
    let explained = explain.args(["--userns", "auto"]).output().ok();
    assert!(explained.stdout.contains("user namespace"), "{explained}");
    let id = runtime.id();
    create(&bundle, &id).ok();
    let state: Value = runtime
        .command(["state", &id])
        .output()
        .ok()
        .stdout
        .parse()
        .unwrap();
    assert_eq!(state["status"], "created");
    runtime.command(["start", &id]).output().ok();
    let look = "id -u; cat /proc/self/uid_map | xargs";
    let exec = runtime.command(["exec", &id, "sh", "-c", look]);
    assert_eq!(exec.output().ok().line(), format!("0\n0 {USER} 1"));
    runtime
        .command(["mount", "add", "--type", "tmpfs", &id, "none", "/tmp"])
        .output()
        .ok();
    runtime.command(["delete", "--force", &id]).output().ok();
    runtime.is_clean();
}

#[test]
fn a_user_namespace_made_when_asked_has_the_subordinate_ids() {
    needs::program("newuidmap");
    let runtime = user();
    let bundle = of_root(&runtime).user(500, 500);
    let bundle = bundle.shell("id -u; cat /proc/self/uid_map | xargs");
    let command = runtime.with_bundle("run", &bundle);
    let command = command.args(["--userns", "auto", &runtime.id()]);
    let output = with_subordinate_ids(&runtime, command).output().ok();
    assert_eq!(output.line(), format!("500\n0 {USER} 1 1 300000 1000"));
    runtime.is_clean();
}

#[test]
fn root_needs_no_user_namespace_made() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell("cat /proc/self/uid_map | xargs");
    let own = fs::read_to_string("/proc/self/uid_map").unwrap();
    let command = runtime.with_bundle("run", &bundle);
    let command = command.args(["--userns=auto", &runtime.id()]);
    let expected: Vec<_> = own.split_whitespace().collect();
    assert_eq!(command.output().ok().line(), expected.join(" "));
}

#[test]
fn the_own_id_can_be_any_inside() {
    let runtime = user();
    let bundle = with_maps(written(&runtime), &map(1000, USER, 1)).user(1000, 1000);
    let bundle = bundle.shell("id -u; id -g; stat -c %u /bin");
    assert_eq!(runtime.run(&bundle).ok().line(), "1000\n1000\n1000");
}

#[test]
fn an_unmapped_user_is_refused() {
    let runtime = user();
    let bundle = written(&runtime).user(5, 0);
    runtime.try_create(&bundle).fails(["process.user.uid"]);
    let bundle = written(&runtime).user(0, 5);
    runtime.try_create(&bundle).fails(["process.user.gid"]);
}

#[test]
fn anothers_id_is_refused() {
    let runtime = user();
    for maps in [map(0, 0, 1), map(0, USER, 2), map(0, USER + 1, 1)] {
        let bundle = with_maps(written(&runtime), &maps);
        runtime.try_create(&bundle).fails(["idMappings[0]"]);
    }
    runtime.is_clean();
}

/// Ids that only the helpers may map.
pub(crate) fn with_two_ids(runtime: &Runtime) -> Bundle {
    with_maps(written(runtime), &map(0, USER, 2))
}

#[test]
fn anothers_id_names_the_helper_or_its_file() {
    let runtime = user();
    let bundle = with_two_ids(&runtime);
    let output = runtime.try_create(&bundle);
    match fs::exists("/usr/bin/newuidmap") {
        Ok(true) => output.fails(["newgidmap", "linux.gidMappings[0]", "/etc/subgid"]),
        _ => output.fails(["newuidmap", "uidmap"]),
    };
}

/// Executes the command where the user has an account and ids 300000 to 300999: in a mount
/// namespace with other account files.
fn with_subordinate_ids(runtime: &Runtime, command: Command) -> Command {
    with_account_files(runtime, 0o644, command)
}

/// The same, with this mode of the files of subordinate ids.
fn with_account_files(runtime: &Runtime, mode: u32, command: Command) -> Command {
    let folder = runtime.folder().folder("accounts");
    let line = format!("subordinate:x:{USER}:{USER}::/:/bin/sh\n");
    let accounts = fs::read_to_string("/etc/passwd").unwrap() + &line;
    fs::write(folder.join("passwd"), accounts).unwrap();
    for name in ["subuid", "subgid"] {
        fs::write(folder.join(name), "subordinate:300000:1000\n").unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let script = r#"
        for name in passwd subuid subgid; do
            mount --bind "$0/$name" "/etc/$name" || exit 9
        done
        exec "$@""#;
    let folder = folder.to_str().unwrap();
    command.under("unshare", ["--mount", "sh", "-c", script, folder])
}

#[test]
fn subordinate_ids_are_mapped_by_the_helpers() {
    needs::program("newuidmap");
    let runtime = user();
    let maps = json!([{"containerID": 0, "hostID": USER, "size": 1},
        {"containerID": 1, "hostID": 300_000, "size": 1000}]);
    let bundle = with_maps(written(&runtime), &maps).user(500, 500);
    let bundle = bundle.set("/process/user/additionalGids", json!([7]));
    let bundle = bundle.shell("id -u; id -G; wc -l </proc/self/uid_map");
    let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let output = with_subordinate_ids(&runtime, command).output().ok();
    assert_eq!(output.line(), "500\n500 7\n2");
    let (id, bundle) = (runtime.id(), bundle.args(["sleep", "1000"]));
    let command = runtime.with_bundle("run", &bundle);
    let command = command.args(["--detach", &id]).stdout(Stdio::null());
    with_subordinate_ids(&runtime, command).output().ok();
    // The account's current groups have no effect on a further process.
    let exec = runtime.command(["exec", &id, "id", "-G"]);
    assert_eq!(exec.output().ok().line(), "500 7");
}

/// As tools that shift ids write them: the caller in the middle of the range.
#[test]
fn maps_of_three_lines_are_written() {
    needs::program("newuidmap");
    let runtime = user();
    let maps = json!([{"containerID": 0, "hostID": 300_000, "size": 500},
        {"containerID": 500, "hostID": USER, "size": 1},
        {"containerID": 501, "hostID": 300_500, "size": 500}]);
    // Root of the container is none of the user's ids, so the bundle lies where all can search.
    let bundle = with_maps(written(&runtime), &maps).user(500, 500);
    let bundle = bundle.shell("id -u; id -g; wc -l </proc/self/uid_map");
    let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let output = with_subordinate_ids(&runtime, command).output().ok();
    assert_eq!(output.line(), "500\n500\n3");
}

#[test]
fn without_subordinate_ids_the_remedy_is_named() {
    needs::program("newuidmap");
    let runtime = user();
    let maps = json!([{"containerID": 0, "hostID": USER, "size": 1},
        {"containerID": 1, "hostID": 300_000, "size": 65536}]);
    let bundle = with_maps(written(&runtime), &maps);
    let hide = "for name in subuid subgid; do mount --bind /dev/null /etc/$name; done; exec \"$@\"";
    let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let command = command.under("unshare", ["--mount", "sh", "-c", hide, "sh"]);
    let output = command.output();
    output.fails([
        "linux.gidMappings[1]",
        "usermod --add-subgids 300000-365535",
    ]);
    runtime.is_clean();
}

/// The setting counts per user namespace, so that one of the test's own shows it.
#[test]
fn where_user_namespaces_are_switched_off_the_setting_is_named() {
    let runtime = user();
    let bundle = with_maps(written(&runtime), &map(0, 0, 1));
    let off = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"";
    let options = [
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        off,
        "sh",
    ];
    let (folder, id) = (bundle.write().dir.clone(), runtime.id());
    let inside = |verb: &[&str]| {
        let command = Command::new("setpriv")
            .args([format!("--reuid={USER}"), format!("--regid={USER}")])
            .args(["--clear-groups", "--", "unshare"])
            .args(options)
            .arg(runtime.folder().join("runtime"))
            .arg("--root")
            .arg(runtime.root())
            .args(verb);
        command.arg(&folder).env("CORACLE_TEST", runtime.marker())
    };
    let output = inside(&["run", &id, "--bundle"]).output();
    output.fails(["ENOSPC", "sysctl -w user.max_user_namespaces=15000"]);
    let check = inside(&["check"]).output();
    assert!(
        check.stdout.contains("user.max_user_namespaces is 0"),
        "{check}"
    );
    runtime.is_clean();
}

/// Hosts whose `/` is read-only, as those that are made to run containers alone.
#[test]
fn a_read_only_host_needs_a_state_root_alone() {
    let runtime = user();
    let bundle = written(&runtime);
    let folder = bundle.write().dir.clone();
    let id = runtime.id();
    let on = |state: Option<&std::path::Path>| {
        let command = match state {
            Some(state) => runtime.bare().env("XDG_RUNTIME_DIR", state),
            None => runtime.bare(),
        };
        let script = "mount -o remount,bind,ro / && mount -t tmpfs -o mode=777 run /run && \
             mount -t tmpfs -o mode=777 x /mnt && exec \"$@\"";
        let command = command.args(["run", "--bundle"]).arg(&folder).arg(&id);
        command.under("unshare", ["--mount", "sh", "-c", script, "sh"])
    };
    let mnt = std::path::Path::new("/mnt");
    on(Some(mnt)).output().ok();
    let nowhere = std::path::Path::new("/nowhere");
    on(Some(nowhere))
        .output()
        .fails(["/nowhere/coracle", "EROFS", "--root"]);
    on(None).output().fails(["XDG_RUNTIME_DIR", "--root"]);
}

/// The helpers may know of more ids than the files show: here the user may not read those.
#[test]
fn the_helpers_decide_about_subordinate_ids() {
    needs::program("newuidmap");
    let runtime = user();
    let maps = json!([{"containerID": 0, "hostID": USER, "size": 1},
        {"containerID": 1, "hostID": 300_000, "size": 1000}]);
    let bundle = with_maps(written(&runtime), &maps).shell("wc -l </proc/self/uid_map");
    let run = |bundle: &Bundle| {
        let command = runtime.with_bundle("run", bundle).arg(runtime.id());
        with_account_files(&runtime, 0o600, command).output()
    };
    assert_eq!(run(&bundle).ok().line(), "2");
    let maps = json!([{"containerID": 0, "hostID": USER, "size": 1},
        {"containerID": 1, "hostID": 300_000, "size": 1001}]);
    let bundle = with_maps(written(&runtime), &maps);
    run(&bundle).fails([
        "newgidmap",
        "not allowed",
        "linux.gidMappings[1]",
        "/etc/subgid",
    ]);
    runtime.is_clean();
}

#[test]
fn additional_groups_are_refused() {
    let runtime = user();
    let bundle = written(&runtime).set("/process/user/additionalGids", json!([0]));
    runtime.try_create(&bundle).fails(["additionalGids"]);
    let look = written(&runtime).args(["cat", "/proc/self/setgroups"]);
    assert_eq!(runtime.run(&look).ok().line(), "deny");
}

/// Where setgroups(2) is denied, root of the host could not drop its groups after joining.
#[test]
fn root_comes_in_without_its_groups() {
    const LOOK: &str = "id -u; grep ^Groups /proc/self/status";
    let (runtime, root) = (user(), Runtime::new());
    let container = runtime.start(&written(&runtime).args(["sleep", "1000"]));
    let with_groups = |command: Command| {
        let command = command.under("setpriv", ["--groups=4,27,44", "--"]);
        command.output()
    };
    let exec = |options: &[&str]| {
        let command = Command::new(program()).arg("--root").arg(runtime.root());
        let command = command.arg("exec").args(options).arg(&container.id);
        with_groups(command.args(["sh", "-c", LOOK]))
    };
    assert_eq!(exec(&[]).ok().line(), "0\nGroups:");
    let denied = "process.user.additionalGids: [0] cannot be set, setgroups is not allowed";
    exec(&["--additional-gids", "0"]).fails_as(255, [denied]);
    let bundle = written(&runtime)
        .without_namespace("user")
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings")
        .join_namespace("user", &format!("/proc/{}/ns/user", container.pid()))
        .shell(LOOK);
    let run = |bundle: &Bundle| with_groups(root.with_bundle("run", bundle).arg(root.id()));
    assert_eq!(run(&bundle).ok().line(), "0\nGroups:");
    let groups = bundle.set("/process/user/additionalGids", json!([0]));
    run(&groups).fails([denied]);
    root.is_clean();
}

#[test]
fn devices_are_bound() {
    let runtime = user();
    let own = json!({"path": "/dev/zero", "type": "c", "major": 1, "minor": 5});
    let bundle = written(&runtime).push("/linux/devices", own);
    let script = "stat -c %t:%T /dev/null /dev/zero /dev/tty; echo x >/dev/null; \
        head -c2 /dev/zero | wc -c; grep -c ' /dev/zero ' /proc/self/mountinfo";
    assert_eq!(
        runtime.run(&bundle.shell(script)).ok().line(),
        "1:3\n1:5\n5:0\n2\n1"
    );
}

#[test]
fn sysfs_is_there_and_read_only() {
    let runtime = user();
    let script = "ls /sys/class/net; touch /sys/x 2>&1; ls -A /sys/firmware";
    let output = runtime.run(&written(&runtime).shell(script)).ok();
    assert!(
        output.stdout.starts_with("lo\n") || output.stdout.contains("\nlo\n"),
        "{output}"
    );
    assert!(output.stdout.contains("Read-only"), "{output}");
}

#[test]
fn control_groups_are_there_or_hidden() {
    let runtime = user();
    let script = "find /sys/fs/cgroup -maxdepth 2 -type d | while read d; do \
        mkdir $d/x 2>/dev/null && echo MADE $d; done; true";
    assert_eq!(
        runtime.run(&written(&runtime).shell(script)).ok().stdout,
        ""
    );
}

/// Without a control group and a namespace of its own the process is in the caller's groups, and a
/// service manager in the container looks for them.
#[test]
fn control_groups_of_the_host_are_bound() {
    let user = user();
    let root = Runtime::new().options(["--cgroup-manager", "disabled"]);
    for (runtime, bundle) in [
        (&user, written(&user)),
        (&root, root.bundle()),
        (&root, root.bundle().user_namespace()),
    ] {
        let bundle = bundle
            .without_namespace("cgroup")
            .without_mount("/sys/fs/cgroup")
            .mount("/sys/fs/cgroup", "cgroup", "cgroup", ["ro"]);
        let script = "cd /sys/fs/cgroup; cat cgroup.controllers >/dev/null 2>&1 && exec echo v2
            for name in $(grep -o '^[a-z]*.[0-9]' /proc/cgroups | cut -f1); do
                grep -q \":$name:\" /proc/self/cgroup || continue
                cat $name/tasks >/dev/null || exit 1
            done; echo v1";
        let output = runtime.run(&bundle.shell(script)).ok();
        assert!(["v1", "v2"].contains(&output.line()), "{output}");
    }
}

#[test]
fn masks_lie() {
    let runtime = user();
    let script = "stat -c %t:%T /proc/keys; echo 1 2>&1 >/proc/sys/kernel/domainname";
    let output = runtime.run(&written(&runtime).shell(script));
    assert!(output.stdout.starts_with("1:3\n"), "{output}");
    assert!(
        output.stdout.contains("Read-only") || output.stderr.contains("Read-only"),
        "{output}"
    );
}

#[test]
fn unmapped_ids_of_mounts_are_refused() {
    let runtime = user();
    for option in ["uid=5", "gid=5"] {
        let bundle = written(&runtime).mount("/x", "tmpfs", "tmpfs", [option]);
        runtime
            .try_create(&bundle)
            .fails(["mounts[7].options", option]);
    }
    let twin = written(&runtime).mount("/x", "tmpfs", "tmpfs", ["uid=0", "gid=0"]);
    runtime.run(&twin).ok();
}

#[test]
fn id_mapped_mounts_are_refused() {
    let runtime = user();
    let mount = json!({"destination": "/x", "source": "/usr", "options": ["bind", "idmap"],
        "uidMappings": map(0, USER, 1), "gidMappings": map(0, USER, 1)});
    let bundle = written(&runtime).push("/mounts", mount);
    runtime.try_create(&bundle).fails(["mounts[7]"]);
    runtime.is_clean();
}

#[test]
fn network_devices_are_refused() {
    let runtime = user();
    let bundle = written(&runtime).new_namespace("network");
    let bundle = bundle.set("/linux/netDevices", json!({"lo": {"name": "x"}}));
    runtime.try_create(&bundle).fails(["linux.netDevices"]);
    runtime.is_clean();
}

#[test]
fn limits_without_a_control_group_are_refused() {
    let runtime = user();
    let bundle = written(&runtime);
    for (name, limit) in [
        ("memory", json!({"limit": 100_000_000})),
        ("pids", json!({"limit": 50})),
        ("cpu", json!({"shares": 512})),
    ] {
        let bundle = bundle
            .clone()
            .set(&format!("/linux/resources/{name}"), limit);
        runtime.try_create(&bundle).fails(["cgroup"]);
        runtime.is_clean();
    }
}

#[test]
fn a_named_control_group_without_the_right_is_refused() {
    let runtime = user();
    let path = json!(format!("/{}x", runtime.marker()));
    let bundle = written(&runtime).set("/linux/cgroupsPath", path);
    runtime
        .try_create(&bundle)
        .fails(["cgroup", "permission denied"]);
    runtime.is_clean();
}

#[test]
fn pausing_without_a_control_group_is_refused() {
    let runtime = user();
    let container = runtime.start(&written(&runtime).args(["sleep", "1000"]));
    container.verb("pause").fails(["cgroup"]);
    assert_eq!(container.status(), "running");
}

#[test]
fn no_control_groups_are_no_failure() {
    for option in ["auto", "true"] {
        let runtime = user().options(["--rootless", option]);
        runtime.run(&written(&runtime)).ok();
    }
}

#[test]
fn a_lower_oom_score_is_no_failure() {
    let runtime = user();
    let bundle = written(&runtime).args(["cat", "/proc/self/oom_score_adj"]);
    let before = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let lower = bundle.clone().set("/process/oomScoreAdj", json!(-1000));
    assert_eq!(runtime.run(&lower).ok().line(), before.trim());
    let higher = bundle.set("/process/oomScoreAdj", json!(1000));
    assert_eq!(runtime.run(&higher).ok().line(), "1000");
    let container = runtime.start(&lower.args(["sleep", "1000"]));
    let exec = runtime.command(["--log-level", "warning", "exec"]);
    let output = exec.args([&container.id, "true"]).output().ok();
    assert!(output.stderr.contains("process.oomScoreAdj"), "{output}");
}

#[test]
fn the_state_root_is_in_the_runtime_folder() {
    let runtime = user();
    let folder = runtime.folder().join("user");
    let bundle = written(&runtime).args(["sleep", "1000"]);
    let id = runtime.id();
    let command = |verb: &[&str]| {
        let command = runtime.bare().env("XDG_RUNTIME_DIR", &folder);
        command.args(verb)
    };
    let dir = bundle.write().dir.to_str().unwrap();
    command(&["create", "--bundle", dir, &id]).output().ok();
    let root = folder.join("coracle");
    assert!(root.join(&id).exists());
    let mode = fs::metadata(&root).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o1700, "{mode:o}");
    command(&["delete", "--force", &id]).output().ok();
    assert!(!root.join(&id).exists());
}

#[test]
fn without_a_runtime_folder_the_root_must_be_named() {
    let runtime = user();
    let output = runtime.bare().arg("list").output();
    output.fails(["XDG_RUNTIME_DIR", "--root"]);
}

#[test]
fn anothers_containers_are_out_of_reach() {
    let runtime = user();
    let container = runtime.start(&written(&runtime).args(["sleep", "1000"]));
    let as_another = |verb: &[&str]| {
        let command = Command::new("setpriv").args(["--reuid=54322", "--regid=54322"]);
        let command = command.args(["--clear-groups", "--"]);
        let command = command.arg(runtime.folder().join("runtime"));
        command
            .arg("--root")
            .arg(runtime.root())
            .args(verb)
            .output()
    };
    for verb in ["state", "start", "delete", "pause"] {
        as_another(&[verb, &container.id]).fails(["permission denied"]);
    }
    as_another(&["kill", &container.id, "KILL"]).fails(["permission denied"]);
    as_another(&["exec", &container.id, "true"]).fails_as(255, ["permission denied"]);
    assert_eq!(container.status(), "running");
}

/// Whatever the set-up needed: afterwards no process of the container holds a capability in the
/// host's user namespace or another user's id.
#[test]
fn cve_2016_8659_no_process_has_the_hosts_capabilities() {
    let runtime = user();
    let container = runtime.create(&written(&runtime).args(["sleep", "1000"]));
    let host = fs::read_link("/proc/self/ns/user").unwrap();
    for is_started in [false, true] {
        if is_started {
            container.start().ok();
        }
        let pid = container.pid();
        assert_ne!(fs::read_link(format!("/proc/{pid}/ns/user")).unwrap(), host);
        for field in ["Uid", "Gid"] {
            let ids = status_field(pid, field);
            assert!(ids.split('\t').all(|id| id == "54321"), "{field}: {ids}");
        }
    }
}

/// Another process of the same user must not get at init while it is set up. Created, init holds
/// nothing any more that its user could not have otherwise.
#[test]
fn cve_2020_5291_no_process_is_traceable_while_it_is_set_up() {
    let runtime = user();
    let script = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')
        ls /proc/$pid/fd >&2 && exit 3
        ls /proc/self/fd >/dev/null && [ $pid -gt 1 ]";
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script],
        "env": ["PATH=/usr/bin:/bin"]});
    let bundle = written(&runtime).hook("createRuntime", hook);
    let container = runtime.create(&bundle.args(["sleep", "1000"]));
    container.start().ok();
}

/// As an engine prepares a container whose program does not run yet.
#[test]
fn a_process_can_join_before_the_start() {
    let runtime = user();
    for privileges in [true, false] {
        let bundle = written(&runtime).args(["sleep", "1000"]);
        let bundle = bundle.set("/process/noNewPrivileges", json!(privileges));
        let container = runtime.create(&bundle);
        let look = "readlink /proc/self/ns/user; readlink /proc/self/ns/pid";
        let names = container.shell(look).ok();
        let pid = container.pid();
        let namespace = |kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        let expected = ["user", "pid"].map(|kind| namespace(kind).display().to_string());
        assert!(
            names
                .stdout
                .starts_with(&format!("{}\n", expected.join("\n"))),
            "{names}"
        );
        // Init has no descriptor of the host open.
        let open = container
            .shell("ls -l /proc/1/fd; ls -d /proc/1/cwd/ /proc/1/root/")
            .ok();
        let marker = runtime.folder().path().to_str().unwrap().to_owned();
        let odd = |line: &&str| line.contains(&marker) && !line.contains("start");
        assert_eq!(open.stdout.lines().find(odd), None, "{open}");
        container.start().ok();
        assert_eq!(container.status(), "running");
    }
}

/// podman runs the runtime as root of a user namespace that it made; the container has no further
/// one.
#[test]
fn root_of_a_user_namespace_needs_no_other() {
    let runtime = user();
    let bundle = written(&runtime)
        .without_namespace("user")
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings")
        .shell("id -u; stat -c %t:%T /dev/null; cat /proc/self/uid_map | xargs");
    let user = [format!("--reuid={USER}"), format!("--regid={USER}")];
    let command = Command::new("setpriv")
        .args(user)
        .args(["--clear-groups", "--"]);
    let command = command.args(["unshare", "--user", "--map-root-user", "--mount", "--"]);
    let command = command.arg(runtime.folder().join("runtime")).arg("--root");
    let command = command.arg(runtime.root()).args(["run", "--bundle"]);
    let command = command.arg(&bundle.write().dir).arg(runtime.id());
    let output = command.env("CORACLE_TEST", runtime.marker()).output().ok();
    assert_eq!(output.line(), format!("0\n1:3\n0 {USER} 1"));
}

#[test]
fn failures_leave_nothing() {
    let runtime = user();
    let bundle = written(&runtime);
    let rows = [
        bundle.clone().args(["/no/such/program"]),
        bundle.clone().mount("/x", "nosuchfs", "x", []),
        bundle.clone().bind("/no/such/source", "/x", []),
        bundle.clone().set("/process/cwd", json!("/bin/sh")),
        bundle.set("/root/path", json!("missing")),
    ];
    for bundle in rows {
        runtime.try_create(&bundle).fails([]);
        runtime.is_clean();
    }
}
