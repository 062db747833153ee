//! Control groups by systemd: units, their properties, and what becomes of both. Only where systemd
//! runs, on version 2.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coracle_integration::runner::patience;
use coracle_integration::{
    Bundle, Command, Container, Layout, Output, Running, Runtime, Value, groups, has_controller,
    json, machine, needs, program, skip, wait_until,
};
use nix::sys::signal::{Signal, kill};

use crate::cgroups::takes_no_place;
use crate::lifecycle::{fail_every_call, kill_at_every_call, without_a_record};
use crate::update::ends_the_idleness;

/// The user of the guest whose manager always runs.
const USER: u32 = 1000;

fn systemd() -> Runtime {
    needs::systemd();
    needs::version_2();
    Runtime::new().options(["--systemd-cgroup"])
}

/// A property of a unit as `systemctl show` prints it.
#[track_caller]
fn show(unit: &str, property: &str) -> String {
    let show = ["show", "--value", "--property", property, unit];
    let output = Command::new("systemctl").args(show).output().ok();
    output.stdout.trim_end().to_owned()
}

/// The unit of a container that asks for no name.
fn unit(container: &Container) -> String {
    format!("coracle-{}.scope", container.id)
}

#[track_caller]
fn is_gone(unit: &str) {
    assert_eq!(show(unit, "LoadState"), "not-found", "{unit}");
}

/// The folder of init's control group.
fn folder(container: &Container) -> PathBuf {
    let file = container.control_file(("", ""), "cgroup.procs");
    file.parent().unwrap().to_owned()
}

fn file(container: &Container, name: &str) -> String {
    let text = fs::read_to_string(folder(container).join(name));
    text.unwrap_or_default().trim_end().to_owned()
}

fn reload() {
    Command::new("systemctl").arg("daemon-reload").output().ok();
}

#[test]
fn init_is_in_a_scope() {
    let runtime = systemd();
    let container = runtime.sleeper();
    let unit = unit(&container);
    let group = format!("/system.slice/{unit}");
    assert_eq!(container.proc("cgroup"), format!("0::{group}\n"));
    assert_eq!(show(&unit, "ControlGroup"), group);
    for (property, value) in [
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("MemoryAccounting", "yes"),
        ("TasksAccounting", "yes"),
        ("IOAccounting", "yes"),
        ("CollectMode", "inactive-or-failed"),
        (
            "Description",
            &format!("coracle container {}", container.id),
        ),
    ] {
        assert_eq!(show(&unit, property), value, "{property}");
    }
    container.delete_by_force().ok();
    is_gone(&unit);
    runtime.is_clean();
}

/// conmon passes the flag only to `create`, and podman to no verb.
#[test]
fn the_choice_of_create_holds_for_all_verbs() {
    let runtime = systemd();
    let container = runtime.create(&runtime.bundle().args(["sleep", "1000"]));
    let bare = |arguments: &[&str]| {
        let root = runtime.root().to_str().unwrap();
        runtime
            .bare()
            .args(["--root", root])
            .args(arguments)
            .output()
    };
    let id = container.id.as_str();
    bare(&["start", id]).ok();
    let group = container.proc("cgroup");
    bare(&["exec", id, "true"]).ok();
    let pids = bare(&["ps", "--format", "json", id]).ok().stdout;
    assert!(pids.contains(&container.pid().to_string()), "{pids}");
    bare(&["pause", id]).ok();
    bare(&["resume", id]).ok();
    assert!(group.contains(&unit(&container)), "{group}");
    bare(&["kill", id, "9"]).ok();
    container.wait_for_status("stopped");
    bare(&["delete", id]).ok();
    is_gone(&unit(&container));
}

#[test]
fn run_to_the_end_leaves_no_unit() {
    let runtime = systemd();
    for _ in 0..3 {
        let output = runtime.run(&runtime.bundle().shell("cat /proc/self/cgroup; exit 3"));
        output.exits(3);
        runtime.is_clean();
    }
}

fn with_path(runtime: &Runtime, path: &str) -> Bundle {
    let path = path.replace('@', runtime.marker());
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    bundle.set("/linux/cgroupsPath", json!(path))
}

#[test]
fn the_path_names_slice_prefix_and_name() {
    let runtime = systemd();
    let container = runtime.create(&with_path(&runtime, "coracletest-deep.slice:pre:@n"));
    let unit = format!("pre-{}n.scope", runtime.marker());
    let group = format!("/coracletest.slice/coracletest-deep.slice/{unit}");
    assert_eq!(container.proc("cgroup"), format!("0::{group}\n"));
    assert_eq!(show(&unit, "ControlGroup"), group);
    container.delete_by_force().ok();
    is_gone(&unit);
    let container = runtime.create(&with_path(&runtime, ":pre:@m"));
    assert!(
        container
            .proc("cgroup")
            .starts_with("0::/system.slice/pre-")
    );
}

#[test]
fn the_root_slice() {
    let runtime = systemd();
    let container = runtime.create(&with_path(&runtime, "-:p:@"));
    let expected = format!("0::/p-{}.scope\n", runtime.marker());
    assert_eq!(container.proc("cgroup"), expected);
}

#[test]
fn a_slice_by_name() {
    let runtime = systemd();
    let container = runtime.start(&with_path(&runtime, "::@x.slice"));
    let unit = format!("{}x.slice", runtime.marker());
    assert_eq!(container.proc("cgroup"), format!("0::/{unit}\n"));
    assert_eq!(show(&unit, "ActiveState"), "active");
    assert_eq!(
        container.exec(["cat", "/proc/self/cgroup"]).ok().line(),
        format!("0::/{unit}")
    );
    container.delete_by_force().ok();
    // systemd makes up an inactive slice for any name that it is asked about.
    assert_eq!(show(&unit, "ActiveState"), "inactive");
}

#[test]
fn wrong_paths_are_refused() {
    let runtime = systemd();
    for (path, reason) in [
        ("/a/b", "slice:prefix:name"),
        ("a.slice:b", "slice:prefix:name"),
        ("a.slice:b:c:d", "slice:prefix:name"),
        ("nodot:b:c", "does not end in .slice"),
        ("a--b.slice:b:c", "a dash needs a name"),
        ("a/b.slice:b:c", "no '/'"),
        ("a.slice:b:", "the name is empty"),
        ("a.slice:b:../c", "no '/'"),
    ] {
        let output = runtime.try_create(&with_path(&runtime, path));
        output.fails(["linux.cgroupsPath", reason]);
        runtime.is_clean();
    }
}

/// A limit for every property that systemd has on a kernel with few controllers.
fn limited(runtime: &Runtime) -> Bundle {
    let resources = json!({
        "memory": {"limit": 67_108_864, "swap": 67_108_864, "reservation": 33_554_432},
        "cpu": {"shares": 512, "quota": 12_345, "period": 50_000},
        "pids": {"limit": 17},
        "unified": {"memory.high": "60M", "memory.oom.group": "1", "memory.min": "4096"},
    });
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    bundle.set("/linux/resources", resources)
}

const LIMITS: [(&str, &str, &str, &str); 9] = [
    ("MemoryMax", "67108864", "memory.max", "67108864"),
    ("MemorySwapMax", "0", "memory.swap.max", "0"),
    ("MemoryLow", "33554432", "memory.low", "33554432"),
    ("MemoryHigh", "62914560", "memory.high", "62914560"),
    ("MemoryMin", "4096", "memory.min", "4096"),
    ("CPUWeight", "59", "cpu.weight", "59"),
    ("TasksMax", "17", "pids.max", "17"),
    ("CPUQuotaPeriodUSec", "50ms", "cpu.max", "12500 50000"),
    ("CPUQuotaPerSecUSec", "250ms", "cpu.max", "12500 50000"),
];

#[track_caller]
fn has_limits(container: &Container) {
    let unit = unit(container);
    for (property, value, name, text) in LIMITS {
        assert_eq!(show(&unit, property), value, "{property}");
        let path = folder(container).join(name);
        if path.exists() {
            assert_eq!(file(container, name), text, "{name}");
        }
    }
    assert_eq!(show(&unit, "OOMPolicy"), "kill");
    assert_eq!(file(container, "memory.oom.group"), "1");
}

#[test]
fn limits_are_properties_and_files() {
    let runtime = systemd();
    let container = runtime.create(&limited(&runtime));
    has_limits(&container);
    let more = json!({"cpu": {"idle": 1}, "pids": {"limit": 0}, "memory": {"limit": -1}});
    let bundle = runtime.bundle().set("/linux/resources", more);
    let container = runtime.create(&bundle);
    let unit = unit(&container);
    assert_eq!(show(&unit, "CPUWeight"), "idle");
    assert_eq!(show(&unit, "TasksMax"), "1");
    assert_eq!(show(&unit, "MemoryMax"), "infinity");
    assert_eq!(file(&container, "cpu.idle"), "1");
    assert_eq!(file(&container, "pids.max"), "1");
    assert_eq!(file(&container, "memory.max"), "max");
}

#[test]
fn compressed_swap_is_a_property_and_a_file() {
    let runtime = systemd();
    let container = runtime.sleeper();
    if !folder(&container).join("memory.zswap.max").exists() {
        coracle_integration::skip!("this kernel has no memory.zswap.max");
    }
    let bound = |limit: &str| {
        let flag = format!("--memory-zswap={limit}");
        runtime
            .command(["update", flag.as_str(), &container.id])
            .output()
            .ok();
        let property = show(&unit(&container), "MemoryZSwapMax");
        (property, file(&container, "memory.zswap.max"))
    };
    let both = |property: &str, file: &str| (property.to_owned(), file.to_owned());
    assert_eq!(bound("4m"), both("4194304", "4194304"));
    // systemd writes all files of a controller when it changes one of them.
    let name = unit(&container);
    let set = ["set-property", "--runtime", &name, "MemoryHigh=64M"];
    Command::new("systemctl").args(set).output().ok();
    assert_eq!(file(&container, "memory.zswap.max"), "4194304");
    assert_eq!(bound("-1"), both("infinity", "max"));
}

#[test]
fn cpusets_are_properties_and_files() {
    let runtime = systemd();
    needs::controller("cpuset");
    let cpu = json!({"cpus": "0", "mems": "0"});
    let container = runtime.create(&runtime.bundle().set("/linux/resources/cpu", cpu));
    assert_eq!(show(&unit(&container), "AllowedCPUs"), "0");
    assert_eq!(show(&unit(&container), "AllowedMemoryNodes"), "0");
    assert_eq!(file(&container, "cpuset.cpus"), "0");
    reload();
    assert_eq!(file(&container, "cpuset.cpus"), "0");
}

#[test]
fn a_weight_ends_the_idleness() {
    ends_the_idleness(&systemd());
}

#[test]
fn a_reload_keeps_limits() {
    let runtime = systemd();
    let container = runtime.start(&limited(&runtime));
    reload();
    has_limits(&container);
    // A change of any property makes systemd write all files again.
    let set = [
        "set-property",
        "--runtime",
        &unit(&container),
        "TasksMax=18",
    ];
    Command::new("systemctl").args(set).output().ok();
    assert_eq!(file(&container, "pids.max"), "18");
    assert_eq!(file(&container, "memory.max"), "67108864");
    assert_eq!(file(&container, "cpu.max"), "12500 50000");
}

/// A device that no driver stands for: who may open it gets ENXIO.
fn with_device(runtime: &Runtime, rules: Value) -> Bundle {
    let device = json!({"path": "/dev/none", "type": "c", "major": 240, "minor": 77,
        "fileMode": 0o666});
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let bundle = bundle.push("/linux/devices", device);
    bundle.set("/linux/resources/devices", rules)
}

/// Whether the filter lets a device be opened for reading and writing.
fn opens(container: &Container, device: &str) -> [bool; 2] {
    ["<", ">"].map(|direction| {
        let output = container.shell(&format!("exec 3{direction}{device}"));
        !output.stderr.contains("not permitted")
    })
}

#[test]
fn a_reload_keeps_devices() {
    let runtime = systemd();
    let rules = json!([{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 240, "minor": 77, "access": "r"}]);
    let container = runtime.start(&with_device(&runtime, rules));
    let expected = |container: &Container| {
        assert_eq!(opens(container, "/dev/none"), [true, false]);
        assert_eq!(opens(container, "/dev/null"), [true, true]);
        assert_eq!(opens(container, "/dev/random"), [true, true]);
    };
    expected(&container);
    reload();
    expected(&container);
    let set = [
        "set-property",
        "--runtime",
        &unit(&container),
        "TasksMax=500",
    ];
    Command::new("systemctl").args(set).output().ok();
    reload();
    expected(&container);
    assert_eq!(show(&unit(&container), "DevicePolicy"), "strict");
    let list = show(&unit(&container), "DeviceAllow");
    assert!(list.contains("/dev/char/240:77 r"), "{list}");
}

/// systemd's list knows no denials; ours is in force beside it.
#[test]
fn a_denied_part_stays_denied() {
    let runtime = systemd();
    let rules = json!([{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 240, "access": "rwm"},
        {"allow": false, "type": "c", "major": 240, "minor": 77, "access": "rwm"}]);
    let container = runtime.start(&with_device(&runtime, rules));
    assert_eq!(opens(&container, "/dev/none"), [false, false]);
    reload();
    assert_eq!(opens(&container, "/dev/none"), [false, false]);
    assert_eq!(opens(&container, "/dev/null"), [true, true]);
}

#[test]
fn all_devices_can_be_allowed() {
    let runtime = systemd();
    let rules = json!([{"allow": true, "access": "rwm"}]);
    let container = runtime.start(&with_device(&runtime, rules));
    assert_eq!(show(&unit(&container), "DevicePolicy"), "auto");
    assert!(opens(&container, "/dev/none")[0]);
    reload();
    assert!(opens(&container, "/dev/none")[0]);
}

fn annotated(runtime: &Runtime, name: &str, value: &str) -> Bundle {
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let mut annotations = bundle.config["annotations"].clone();
    annotations[format!("org.systemd.property.{name}")] = json!(value);
    bundle.set("/annotations", annotations)
}

#[test]
fn annotations_are_properties() {
    let runtime = systemd();
    for (name, value, property, expected) in [
        ("KillSignal", "12", "KillSignal", "12"),
        ("TimeoutStopUSec", "uint64 7000000", "TimeoutStopUSec", "7s"),
        ("TimeoutStopSec", "8", "TimeoutStopUSec", "8s"),
        ("CollectMode", "'inactive'", "CollectMode", "inactive"),
        ("Description", "'what else'", "Description", "what else"),
        ("Before", "['shutdown.target']", "Before", "shutdown.target"),
        ("MemoryMax", "uint64 12345344", "MemoryMax", "12345344"),
    ] {
        let container = runtime.create(&annotated(&runtime, name, value));
        assert_eq!(
            show(&unit(&container), property),
            expected,
            "{name}={value}"
        );
        container.delete_by_force().ok();
        is_gone(&unit(&container));
    }
}

#[test]
fn bad_annotations_are_refused() {
    let runtime = systemd();
    for (name, value, reason) in [
        ("Ki", "9", "3 or more ASCII letters"),
        ("Kill-Signal", "9", "3 or more ASCII letters"),
        ("KillSignal", "nine", "expected a value"),
        ("KillSignal", "'9", "closing quote"),
        ("TimeoutStopSec", "-1", "not a number of seconds"),
        ("PIDs", "[uint32 1]", "the runtime's to set"),
        ("Slice", "'x.slice'", "the runtime's to set"),
    ] {
        let output = runtime.try_create(&annotated(&runtime, name, value));
        output.fails([&format!("org.systemd.property.{name}"), reason]);
        runtime.is_clean();
    }
}

#[test]
fn annotations_mean_nothing_to_cgroupfs() {
    let runtime = Runtime::new();
    let container = runtime.create(&annotated(&runtime, "KillSignal", "nonsense"));
    container.delete_by_force().ok();
}

#[test]
fn a_subgroup_is_the_root_of_the_cgroup_namespace() {
    let runtime = systemd();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let annotations = json!({"run.oci.systemd.subgroup": "sub"});
    let bundle = bundle.set("/annotations", annotations);
    let container = runtime.start(&bundle.new_namespace("cgroup"));
    let below = format!("{}/sub", unit(&container));
    assert!(folder(&container).ends_with(&below), "{below}");
    let seen = container.exec(["cat", "/proc/self/cgroup"]).stdout;
    assert_eq!(seen, "0::/\n");
    container.delete_by_force().ok();
    is_gone(&unit(&container));
}

/// A property that only systemd can judge.
#[test]
fn systemds_refusal_leaves_nothing() {
    let runtime = systemd();
    for (name, value) in [("NoSuchProperty", "1"), ("KillSignal", "'text'")] {
        let output = runtime.try_create(&annotated(&runtime, name, value));
        output.fails(["systemd: start coracle-"]);
        runtime.is_clean();
    }
}

/// A scope that somebody else has started.
fn foreign(unit: &str, options: &[&str]) -> Running {
    let command = Command::new("systemd-run").args(["--scope", "--quiet", "--unit", unit]);
    let running = command
        .args(options)
        .args(["sleep", "1000"])
        .limit(120)
        .spawn();
    // A scope with a time limit may have failed by now.
    let states = ["active", "failed"];
    wait_until("a scope", || {
        states.contains(&show(unit, "ActiveState").as_str())
    });
    running
}

#[test]
fn a_failed_unit_gives_way() {
    let runtime = systemd();
    let unit = format!("p-{}x.scope", runtime.marker());
    let running = foreign(&unit, &["--property", "RuntimeMaxSec=100ms"]);
    wait_until("the scope's failure", || {
        show(&unit, "ActiveState") == "failed"
    });
    drop(running);
    let container = runtime.create(&with_path(&runtime, ":p:@x"));
    assert_eq!(show(&unit, "ActiveState"), "active");
    container.delete_by_force().ok();
    is_gone(&unit);
}

#[test]
fn an_active_unit_is_left_alone() {
    let runtime = systemd();
    let unit = format!("p-{}x.scope", runtime.marker());
    let running = foreign(&unit, &[]);
    let output = runtime.try_create(&with_path(&runtime, ":p:@x"));
    output.fails(["container's cgroup is not empty"]);
    assert_eq!(show(&unit, "ActiveState"), "active");
    assert_eq!(fs::read_dir(runtime.root()).map_or(0, Iterator::count), 0);
    let stop = Command::new("systemctl").args(["stop", &unit]);
    stop.output().ok();
    running.wait_or_kill();
    is_gone(&unit);
}

/// A group without a unit, which systemd would take over.
#[test]
fn a_used_group_is_refused() {
    let runtime = systemd();
    let group = format!("/sys/fs/cgroup/system.slice/p-{}x.scope", runtime.marker());
    fs::create_dir(&group).unwrap();
    let sleeper = Command::new("sleep").arg("1000").spawn();
    fs::write(format!("{group}/cgroup.procs"), sleeper.pid.to_string()).unwrap();
    let output = runtime.try_create(&with_path(&runtime, ":p:@x"));
    kill(sleeper.pid, Signal::SIGKILL).unwrap();
    sleeper.wait();
    wait_until("the end of a group", || fs::remove_dir(&group).is_ok());
    output.fails(["container's cgroup is not empty"]);
}

#[test]
fn a_frozen_slice_is_refused() {
    let runtime = systemd();
    let group = "/sys/fs/cgroup/coraclefrozen.slice";
    fs::create_dir(group).unwrap();
    fs::write(format!("{group}/cgroup.freeze"), "1").unwrap();
    let output = runtime.try_create(&with_path(&runtime, "coraclefrozen.slice:p:@x"));
    fs::remove_dir(group).unwrap();
    output.fails(["container's cgroup unexpectedly frozen", group]);
}

#[test]
fn a_group_out_of_memory_leaves_no_unit() {
    let runtime = systemd();
    let script = "head -c 100000000 /dev/zero | tail > /dev/null; sleep 1000";
    let bundle = runtime.bundle().shell(script);
    let bundle = bundle.set("/linux/resources/memory", json!({"limit": 16_777_216}));
    let bundle = bundle.set("/linux/resources/unified", json!({"memory.oom.group": "1"}));
    let container = runtime.start(&bundle);
    container.wait_for_status("stopped");
    container.delete().ok();
    is_gone(&unit(&container));
    runtime.is_clean();
}

#[test]
fn pause_and_kill_of_all() {
    let runtime = systemd();
    let container = runtime.start(&runtime.bundle().shell("sleep 1000 & sleep 1000 & wait"));
    container.verb("pause").ok();
    assert_eq!(container.status(), "paused");
    reload();
    assert_eq!(container.status(), "paused");
    container.verb("resume").ok();
    container.wait_for_status("running");
    container.kill("9").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
    is_gone(&unit(&container));
}

#[test]
fn one_process_is_enough() {
    let runtime = systemd();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let container = runtime.start(&bundle.set("/linux/resources/pids", json!({"limit": 1})));
    assert_eq!(file(&container, "pids.current"), "1");
    container.exec(["true"]).fails_as(255, ["EAGAIN"]);
}

/// Joining a pid namespace takes one more process, which is in the scope before init.
#[test]
fn setting_up_takes_no_place() {
    takes_no_place(&systemd());
}

#[test]
fn init_behind_an_intermediate_is_in_the_scope() {
    let runtime = systemd();
    let first = runtime.sleeper();
    let path = format!("/proc/{}/ns/pid", first.pid());
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let second = runtime.start(&bundle.join_namespace("pid", &path));
    let expected = format!("0::/system.slice/{}\n", unit(&second));
    assert_eq!(second.proc("cgroup"), expected);
    second.delete_by_force().ok();
    is_gone(&unit(&second));
}

#[test]
fn forced_delete_without_a_record_goes_by_the_config() {
    let runtime = systemd();
    without_a_record(&runtime, &json!(null));
    let path = json!(format!("a-b.slice:{}:x", runtime.marker()));
    without_a_record(&runtime, &path);
}

#[test]
fn a_killed_runtime_leaves_nothing() {
    let runtime = systemd();
    kill_at_every_call(&runtime, &runtime.bundle().args(["sleep", "1000"]));
}

#[test]
fn failing_calls_are_undone() {
    fail_every_call(&systemd());
}

/// Hides files from the runtime alone.
fn without(command: Command, hidden: &[&str]) -> Command {
    let mounts = hidden
        .iter()
        .map(|path| format!("mount -t tmpfs none {path}\n"));
    let script = mounts.collect::<String>() + "exec \"$@\"";
    command.under("unshare", ["--mount", "sh", "-ec", &script, "sh"])
}

/// systemd forgets what it was asked there when it is reloaded, as other tests do meanwhile.
#[test]
fn the_managers_own_socket_is_enough() {
    let runtime = systemd();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let create = || {
        let id = runtime.id();
        let create = runtime.with_bundle("create", &bundle).arg(&id).limit(90);
        let output = without(create, &["/run/dbus"]).output();
        if output.code == 0 {
            return Some(id);
        }
        output.fails(["no answer within 30 s"]);
        runtime.is_clean();
        None
    };
    let id = (0..4).find_map(|_| create()).expect("a container");
    let unit = format!("coracle-{id}.scope");
    assert_eq!(show(&unit, "ActiveState"), "active");
    runtime.command(["delete", "--force", &id]).output().ok();
    is_gone(&unit);
}

#[test]
fn without_a_bus_it_is_refused() {
    let runtime = systemd();
    let bundle = runtime.bundle();
    let create = || runtime.with_bundle("create", &bundle).arg(runtime.id());
    let output = without(create(), &["/run/dbus", "/run/systemd"]).output();
    output.fails(["--systemd-cgroup", "systemd not running on this host"]);
    let hidden = without(create(), &["/run/dbus"]).after(
        "mount -t tmpfs none /run/systemd; \
        mkdir /run/systemd/system",
    );
    let output = hidden.under("unshare", ["--mount"]).output();
    output.fails(["--systemd-cgroup", "/run/dbus/system_bus_socket", "ENOENT"]);
    runtime.is_clean();
}

/// systemd ends a scope whose group it sees empty, but not one whose group is gone before it has
/// looked: while it reloads, it looks late.
#[test]
fn a_delete_without_a_bus_leaves_no_unit() {
    let runtime = systemd();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    for _ in 0..5 {
        let container = runtime.start(&bundle);
        let reload = Command::new("systemctl").arg("daemon-reload").spawn();
        let delete = runtime.command(["delete", "--force", &container.id]);
        let hidden = ["/run/dbus", "/run/systemd"];
        without(delete.limit(60), &hidden).output().ok();
        reload.wait_briefly(patience(60));
        runtime.is_clean();
    }
}

/// Its own namespace and mount of control groups, to be written to.
fn delegated(bundle: Bundle) -> Bundle {
    let bundle = bundle
        .new_namespace("cgroup")
        .without_mount("/sys/fs/cgroup");
    bundle.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        ["nosuid", "noexec", "nodev"],
    )
}

#[test]
fn the_user_of_a_namespace_owns_the_group() {
    let runtime = systemd();
    let bundle = delegated(runtime.bundle().user_namespace().args(["sleep", "1000"]));
    let container = runtime.start(&bundle);
    let owner = fs::metadata(format!("/proc/{}", container.pid()))
        .unwrap()
        .uid();
    assert_ne!(owner, 0);
    for name in ["", "cgroup.procs", "cgroup.subtree_control"] {
        let path = folder(&container).join(name);
        assert_eq!(
            fs::metadata(&path).unwrap().uid(),
            owner,
            "{}",
            path.display()
        );
    }
    let limit = folder(&container).join("pids.max");
    assert_eq!(fs::metadata(limit).unwrap().uid(), 0);
    reload();
    let made = container.shell("mkdir /sys/fs/cgroup/x && rmdir /sys/fs/cgroup/x");
    made.ok();
}

/// A user namespace may not mount the tree itself, and the scope is there only after the sources of
/// mounts were opened.
#[test]
fn the_hosts_tree_is_seen_without_a_namespace() {
    let script = "cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/cgroup.procs >/dev/null \
        && mkdir /sys/fs/cgroup/x; cat /proc/self/cgroup";
    let check = |runtime: &Runtime, bundle: Bundle| {
        let bundle = bundle
            .without_namespace("cgroup")
            .without_mount("/sys/fs/cgroup")
            .mount("/sys/fs/cgroup", "cgroup", "cgroup", ["ro"]);
        let output = runtime.run(&bundle.shell(script)).ok();
        assert!(output.line().ends_with(".scope"), "{output}");
        assert!(output.stderr.contains("Read-only file system"), "{output}");
    };
    let runtime = systemd();
    check(&runtime, runtime.bundle());
    check(&runtime, runtime.bundle().user_namespace());
    let runtime = user();
    check(&runtime, rootless(&runtime));
}

/// The container can enable its controllers for cgroups below its own.
fn init_below_its_group(runtime: &Runtime) {
    let script = "cat /proc/self/cgroup; cd /sys/fs/cgroup; echo +pids > cgroup.subtree_control \
        && mkdir x && echo 5 > x/pids.max && echo handed; sleep 1000";
    let bundle = delegated(runtime.bundle().shell(script));
    let bundle = bundle.set("/annotations", json!({"run.coracle.init_cgroup": "init"}));
    let bundle = bundle.set("/linux/resources/pids", json!({"limit": 50}));
    let container = runtime.start(&bundle);
    container.wait_for("handed");
    assert!(
        container.stdout().starts_with("0::/init\n"),
        "{}",
        container.stdout()
    );
    let own = folder(&container).parent().unwrap().to_owned();
    assert_eq!(fs::read_to_string(own.join("pids.max")).unwrap(), "50\n");
    assert_eq!(
        container.exec(["cat", "/proc/self/cgroup"]).ok().line(),
        "0::/init"
    );
    container.delete_by_force().ok();
    assert!(!own.exists());
    let wrong = json!({"run.coracle.init_cgroup": "../x"});
    let output = runtime.try_create(&runtime.bundle().set("/annotations", wrong));
    output.fails(["run.coracle.init_cgroup", "expected up to 64 ASCII letters"]);
    runtime.is_clean();
}

#[test]
fn init_below_its_group_by_systemd() {
    init_below_its_group(&systemd());
}

#[test]
fn init_below_its_group_by_files() {
    needs::version_2();
    init_below_its_group(&Runtime::new());
}

/// A service manager in the container moves itself to a cgroup below, and enables controllers for
/// others.
#[test]
fn exec_finds_init_in_a_group_below() {
    let runtime = systemd();
    let script = "cd /sys/fs/cgroup; mkdir init.scope; echo 1 > init.scope/cgroup.procs; \
        echo +pids > cgroup.subtree_control && echo handed; exec sleep 1000";
    let container = runtime.start(&delegated(runtime.bundle().shell(script)));
    container.wait_for("handed");
    let output = container.exec(["cat", "/proc/self/cgroup"]).ok();
    assert_eq!(output.line(), "0::/init.scope");
}

/// One for the user whose manager runs, or a skip.
fn user() -> Runtime {
    needs::systemd();
    needs::version_2();
    let directory = format!("/run/user/{USER}");
    if !Path::new(&directory).join("bus").exists() {
        skip!("needs a manager of user {USER}");
    }
    Runtime::for_user(USER)
        .options(["--systemd-cgroup"])
        .variable("XDG_RUNTIME_DIR", &directory)
}

/// `systemctl --user show` for that user.
#[track_caller]
fn show_user(unit: &str, property: &str) -> String {
    let id = USER.to_string();
    let show = [
        "systemctl",
        "--user",
        "show",
        "--value",
        "--property",
        property,
        unit,
    ];
    let command = Command::new("setpriv").args(["--reuid", &id, "--regid", &id]);
    let command = command.args(["--clear-groups", "--"]).args(show);
    let command = command.env("XDG_RUNTIME_DIR", format!("/run/user/{USER}"));
    command.output().ok().stdout.trim_end().to_owned()
}

fn rootless(runtime: &Runtime) -> Bundle {
    let mut bundle = runtime.bundle();
    let spec = runtime.bare().args(["spec", "--rootless", "--bundle"]);
    spec.arg(&bundle.dir).output().ok();
    let text = fs::read_to_string(bundle.dir.join("config.json")).unwrap();
    bundle.config = text.parse().unwrap();
    bundle
        .set("/process/terminal", json!(false))
        .args(["sleep", "1000"])
}

/// The runtime itself is in a group of root's here: systemd moves processes where it may not.
#[test]
fn an_ordinary_user_has_the_users_manager() {
    let runtime = user();
    let container = runtime.start(&rootless(&runtime));
    let unit = unit(&container);
    let slice = format!("/user.slice/user-{USER}.slice/user@{USER}.service/user.slice");
    assert_eq!(container.proc("cgroup"), format!("0::{slice}/{unit}\n"));
    assert_eq!(show_user(&unit, "ActiveState"), "active");
    assert_eq!(show_user(&unit, "Delegate"), "yes");
    let output = container.exec(["cat", "/proc/self/cgroup"]).ok();
    assert!(
        output.stdout.trim_end().ends_with(&unit) || output.line() == "0::/",
        "{output}"
    );
    container.verb("pause").ok();
    container.verb("resume").ok();
    container.kill("9").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
    assert_eq!(show_user(&unit, "LoadState"), "not-found");
    runtime.is_clean();
}

#[test]
fn an_ordinary_users_limits() {
    let runtime = user();
    let limits = json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 17},
        "cpu": {"quota": 50_000, "period": 100_000}});
    let container = runtime.start(&rootless(&runtime).set("/linux/resources", limits));
    let unit = unit(&container);
    assert_eq!(show_user(&unit, "MemoryMax"), "67108864");
    assert_eq!(show_user(&unit, "TasksMax"), "17");
    assert_eq!(file(&container, "memory.max"), "67108864");
    assert_eq!(file(&container, "pids.max"), "17");
    assert_eq!(file(&container, "cpu.max"), "50000 100000");
    container.delete_by_force().ok();
    assert_eq!(show_user(&unit, "LoadState"), "not-found");
    if has_controller("hugetlb") {
        // The hugetlb controller is not delegated to the user.
        let huge = json!([{"pageSize": "2MB", "limit": 0}]);
        let bundle = rootless(&runtime).set("/linux/resources/hugepageLimits", huge);
        let output = runtime.try_create(&bundle);
        output.fails(["linux.resources.hugepageLimits[0]", "hugetlb", "Delegate="]);
        runtime.is_clean();
    }
}

#[test]
fn an_ordinary_users_annotations_and_failures() {
    let runtime = user();
    let annotate = |name: &str, value: &str| {
        let key = format!("org.systemd.property.{name}");
        rootless(&runtime).set("/annotations", json!({key: value}))
    };
    let container = runtime.create(&annotate("TimeoutStopSec", "7"));
    assert_eq!(show_user(&unit(&container), "TimeoutStopUSec"), "7s");
    container.delete_by_force().ok();
    runtime
        .try_create(&annotate("NoSuchProperty", "1"))
        .fails(["systemd: start coracle-"]);
    let bundle = rootless(&runtime).args(["/no/such"]);
    runtime
        .try_create(&bundle)
        .fails(["no such file or directory"]);
    runtime.is_clean();
}

#[test]
fn an_ordinary_user_without_a_manager_is_refused() {
    needs::systemd();
    let runtime = Runtime::for_user(54_321).options(["--systemd-cgroup"]);
    let output = runtime.try_create(&rootless(&runtime));
    output.fails(["--systemd-cgroup", "/run/user/54321/bus", "ENOENT"]);
    runtime.is_clean();
}

/// conmon hands slice:prefix:name on, and the flag to create alone.
#[test]
fn podman_as_root() {
    needs::systemd();
    needs::version_2();
    needs::program("podman");
    let runtime = Runtime::new();
    let podman = |arguments: &[&str]| -> Output {
        let path = |name: &str| runtime.folder().join(name);
        Command::new("podman")
            .env("CORACLE_TEST", runtime.marker())
            .args(["--cgroup-manager", "systemd", "--events-backend", "file"])
            .args(["--storage-driver", "vfs", "--runtime"])
            .arg(program())
            .arg("--root")
            .arg(path("root"))
            .arg("--runroot")
            .arg(path("run"))
            .args(arguments)
            .limit(240)
            .output()
    };
    let rootfs = runtime.bundle().rootfs();
    let name = format!("{}p", runtime.marker());
    let run = [
        "run",
        "--detach",
        "--name",
        &name,
        "--security-opt",
        "seccomp=unconfined",
    ];
    let more = [
        "--network",
        "none",
        "--memory",
        "64m",
        "--pids-limit",
        "17",
        "--log-driver",
    ];
    let rest = [
        "k8s-file",
        "--rootfs",
        rootfs.to_str().unwrap(),
        "sleep",
        "1000",
    ];
    let id = podman(&[&run[..], &more, &rest].concat())
        .ok()
        .line()
        .to_owned();
    let unit = format!("libpod-{id}.scope");
    assert_eq!(
        show(&unit, "ControlGroup"),
        format!("/machine.slice/{unit}")
    );
    assert_eq!(show(&unit, "MemoryMax"), "67108864");
    assert_eq!(show(&unit, "TasksMax"), "17");
    let output = podman(&["exec", &name, "cat", "/proc/self/cgroup"]).ok();
    assert_eq!(output.line(), "0::/");
    podman(&["stop", "--time", "1", &name]).ok();
    podman(&["rm", "--force", &name]).ok();
    is_gone(&unit);
    let left = groups(&id);
    assert!(left.is_empty(), "{left:?}");
    assert_ne!(machine().layout, Layout::None);
}
