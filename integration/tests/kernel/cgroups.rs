//! Control groups: limits, devices, the freezer, and what is left of them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::limits::disk;

use coracle_integration::{
    Bundle, Command, Container, Output, Runtime, Value, either, groups, has_controller, is_v2,
    json, machine, needs, wait_until,
};

/// The container's groups with this runtime's mark, which all hierarchies have.
fn folders(runtime: &Runtime) -> Vec<PathBuf> {
    groups(runtime.marker())
}

pub(crate) fn with(runtime: &Runtime, name: &str, value: Value) -> Bundle {
    runtime
        .bundle()
        .set(&format!("/linux/resources/{name}"), value)
}

/// The content of a control file for this value of `linux.resources.NAME`.
#[track_caller]
pub(crate) fn applied(name: &str, value: Value, v1: (&str, &str), v2: &str) -> String {
    needs::controller(v1.0);
    let runtime = Runtime::new();
    let container = runtime.create(&with(&runtime, name, value));
    let file = container.control_file(v1, v2);
    if !file.exists() {
        coracle_integration::skip!("this kernel has no {}", file.display());
    }
    container.control(v1, v2)
}

/// Asserts that `linux.resources.NAME` of these values is refused, with the JSON path and a text.
#[track_caller]
fn refused<const N: usize>(name: &str, cases: [(Value, &str, &str); N]) {
    let runtime = Runtime::new();
    for (value, path, text) in cases {
        let output = runtime.try_create(&with(&runtime, name, value));
        output.fails([format!("linux.resources.{path}").as_str(), text]);
        runtime.is_clean();
    }
}

#[test]
fn init_is_in_a_group_of_its_own_everywhere() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    for line in container.proc("cgroup").lines() {
        assert!(line.ends_with(&container.id), "{line}");
    }
    for folder in folders(&runtime) {
        let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap();
        assert_eq!(
            members,
            format!("{}\n", container.pid()),
            "{}",
            folder.display()
        );
    }
}

#[test]
fn the_group_is_there_before_hooks_run() {
    let runtime = Runtime::new();
    let file = runtime.folder().join("found");
    let script = format!(
        "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); cp /proc/$pid/cgroup {}",
        file.display()
    );
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    let container = runtime.create(&runtime.bundle().hook("createRuntime", hook));
    assert_eq!(fs::read_to_string(file).unwrap(), container.proc("cgroup"));
}

/// A path of the config that leads to one place in all hierarchies.
fn with_path(runtime: &Runtime, path: &str) -> Bundle {
    let path = path.replace('@', runtime.marker());
    runtime.bundle().set("/linux/cgroupsPath", json!(path))
}

fn paths(container: &Container) -> Vec<String> {
    let text = container.proc("cgroup");
    let path = |line: &str| line.splitn(3, ':').nth(2).unwrap_or_default().to_owned();
    text.lines().map(path).collect()
}

#[test]
fn the_path_is_absolute_from_the_mount_point() {
    let runtime = Runtime::new();
    let container = runtime.create(&with_path(&runtime, "/@top/@below/@leaf"));
    let expected = "/@top/@below/@leaf".replace('@', runtime.marker());
    for path in paths(&container) {
        assert_eq!(path, expected);
    }
}

#[test]
fn a_relative_path_is_near_the_callers_group() {
    let runtime = Runtime::new();
    let container = runtime.create(&with_path(&runtime, "@relative"));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    for (line, path) in own.lines().zip(paths(&container)) {
        let own = Path::new(line.splitn(3, ':').nth(2).unwrap());
        let base = if is_v2() {
            own.parent().unwrap_or(own)
        } else {
            own
        };
        let expected = base.join(format!("{}relative", runtime.marker()));
        assert_eq!(Path::new(&path), expected);
    }
}

#[test]
fn dots_do_not_leave_the_hierarchy() {
    let runtime = Runtime::new();
    for path in ["/../../x/.././../@dots", "../@dots", "/a/../../@dots"] {
        runtime
            .try_create(&with_path(&runtime, path))
            .fails(["linux.cgroupsPath", "`..`"]);
    }
    runtime.is_clean();
    let container = runtime.create(&with_path(&runtime, "/./@dots/./x"));
    for path in paths(&container) {
        assert_eq!(path, format!("/{}dots/x", runtime.marker()));
    }
}

#[test]
fn a_path_that_names_nothing_is_refused() {
    let runtime = Runtime::new();
    for path in ["/", "//", "/..", "a/..", "."] {
        runtime
            .try_create(&with_path(&runtime, path))
            .fails(["linux.cgroupsPath"]);
    }
    runtime.is_clean();
}

#[test]
fn parents_that_were_made_are_removed() {
    let runtime = Runtime::new();
    let container = runtime.create(&with_path(&runtime, "/@a/@b/@c"));
    assert!(!folders(&runtime).is_empty());
    container.delete().ok();
    assert_eq!(folders(&runtime), Vec::<PathBuf>::new());
}

/// Makes a group in the hierarchy that holds the freezer, or in the only one.
fn make_group(name: &str) -> PathBuf {
    make_group_of("freezer", name)
}

/// Makes a group in the hierarchy of a controller, or in the only one.
fn make_group_of(controller: &str, name: &str) -> PathBuf {
    let base = coracle_integration::control_file(1, (controller, ""), "");
    let root = base
        .ancestors()
        .find(|path| path.ends_with(either(controller, "cgroup")));
    let path = root.unwrap_or(&base).join(name);
    fs::create_dir_all(&path).expect("a group");
    path
}

#[test]
fn a_group_that_was_there_stays() {
    let runtime = Runtime::new();
    let parent = make_group(&format!("{}mine", runtime.marker()));
    let container = runtime.create(&with_path(&runtime, "/@mine/@leaf"));
    container.delete().ok();
    assert_eq!(folders(&runtime), std::slice::from_ref(&parent));
    fs::remove_dir(parent).unwrap();
}

#[test]
fn a_group_for_init_in_one_that_stays_is_removed() {
    needs::version_2();
    let runtime = Runtime::new();
    let parent = make_group(&format!("{}mine", runtime.marker()));
    let bundle = with_path(&runtime, "/@mine").new_namespace("cgroup");
    let bundle = bundle.set("/annotations", json!({"run.coracle.init_cgroup": "init"}));
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    assert_eq!(folders(&runtime), [parent.join("init"), parent.clone()]);
    container.delete_by_force().ok();
    assert_eq!(folders(&runtime), std::slice::from_ref(&parent));
    fs::remove_dir(parent).unwrap();
}

#[test]
fn a_group_with_processes_is_refused() {
    let runtime = Runtime::new();
    let limited = |limit: i64| {
        let bundle = with_path(&runtime, "/@shared");
        bundle
            .set("/linux/resources/pids/limit", json!(limit))
            .args(["sleep", "1000"])
    };
    let first = runtime.start(&limited(70));
    runtime
        .try_create(&limited(80))
        .fails(["container's cgroup is not empty"]);
    assert_eq!(first.status(), "running");
    assert_eq!(first.control(("pids", "pids.max"), "pids.max"), "70");
    first.exec(["true"]).ok();
}

#[test]
fn a_frozen_group_is_refused() {
    let runtime = Runtime::new();
    let group = make_group(&format!("{}frozen", runtime.marker()));
    let (file, frozen) = if is_v2() {
        ("cgroup.freeze", "1")
    } else {
        ("freezer.state", "FROZEN")
    };
    fs::write(group.join(file), frozen).unwrap();
    for path in ["/@frozen", "/@frozen/@new"] {
        runtime
            .try_create(&with_path(&runtime, path))
            .fails(["frozen"]);
    }
    fs::remove_dir(group).unwrap();
}

/// Version 1 holds even what was killed.
#[test]
fn what_is_frozen_from_above_is_told() {
    needs::version_1();
    let runtime = Runtime::new();
    let parent = make_group(&format!("{}above", runtime.marker()));
    let container = runtime.start(&with_path(&runtime, "/@above/@c").args(["sleep", "1000"]));
    fs::write(parent.join("freezer.state"), "FROZEN").unwrap();
    let waits = format!("process {} is in an uninterruptible wait", container.pid());
    container
        .delete_by_force()
        .fails(["container init still running", &waits]);
    fs::write(parent.join("freezer.state"), "THAWED").unwrap();
    container.delete_by_force().ok();
    fs::remove_dir(parent).unwrap();
}

const MEMORY: (&str, &str) = ("memory", "memory.limit_in_bytes");

#[test]
fn memory_limit() {
    let value = json!({"limit": 64 << 20});
    assert_eq!(applied("memory", value, MEMORY, "memory.max"), "67108864");
}

#[test]
fn memory_swap() {
    let value = json!({"limit": 64 << 20, "swap": 96 << 20});
    let v1 = ("memory", "memory.memsw.limit_in_bytes");
    assert_eq!(
        applied("memory", value, v1, "memory.swap.max"),
        either("100663296", "33554432")
    );
    let value = json!({"limit": 64 << 20, "swap": 64 << 20});
    assert_eq!(
        applied("memory", value, v1, "memory.swap.max"),
        either("67108864", "0")
    );
}

#[test]
fn memory_reservation() {
    let v1 = ("memory", "memory.soft_limit_in_bytes");
    let value = json!({"reservation": 32 << 20});
    assert_eq!(applied("memory", value, v1, "memory.low"), "33554432");
}

/// Engines send the whole object with zeros in it.
#[test]
fn memory_of_zero_is_no_limit() {
    let value = json!({"limit": 0, "swap": 0, "reservation": 0, "kernel": 0});
    let text = applied("memory", value, MEMORY, "memory.max");
    assert_eq!(text, either("9223372036854771712", "max"));
}

#[test]
fn unlimited_memory() {
    let value = json!({"limit": -1, "swap": -1, "reservation": -1});
    let text = applied("memory", value, MEMORY, "memory.max");
    assert_eq!(text, either("9223372036854771712", "max"));
}

#[test]
fn swappiness() {
    needs::version_1();
    for percent in ["0", "37", "100"] {
        let value = json!({"swappiness": percent.parse::<u32>().unwrap()});
        assert_eq!(
            applied("memory", value, ("memory", "memory.swappiness"), ""),
            percent
        );
    }
}

#[test]
fn oom_killer() {
    needs::version_1();
    let value = json!({"limit": 64 << 20, "disableOOMKiller": true});
    let text = applied("memory", value, ("memory", "memory.oom_control"), "");
    assert!(text.starts_with("oom_kill_disable 1"), "{text}");
}

#[test]
fn kernel_memory_is_ignored() {
    let runtime = Runtime::new();
    let value = json!({"kernel": 1 << 20, "kernelTCP": 1 << 20, "useHierarchy": true});
    let output = runtime.run(&with(&runtime, "memory", value)).ok();
    for name in ["kernel", "kernelTCP"] {
        let warning =
            format!("level=warning msg=\"config.json: linux.resources.memory.{name}: ignored");
        assert!(output.stderr.contains(&warning), "{output}");
    }
}

#[test]
fn bad_memory_is_refused() {
    needs::controller("memory");
    refused(
        "memory",
        [
            (json!({"limit": -2}), "memory.limit", "-1"),
            (json!({"reservation": -5}), "memory.reservation", "-1"),
            (
                json!({"limit": 100 << 20, "swap": 50 << 20}),
                "memory.swap",
                "below",
            ),
            (json!({"swap": 50 << 20}), "memory.swap", "limit"),
            (
                json!({"limit": -1, "swap": 50 << 20}),
                "memory.swap",
                "limit",
            ),
            (json!({"swappiness": 101}), "memory.swappiness", "100"),
            (json!({"limit": "64m"}), "memory.limit", ""),
            (json!({"limit": 1.5}), "memory.limit", ""),
            (json!({"limit": 1u64 << 63}), "memory.limit", ""),
        ],
    );
}

#[test]
fn a_process_beyond_its_memory_is_killed() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let value = json!({"limit": 32 << 20, "swap": 32 << 20});
    let bundle = with(&runtime, "memory", value).shell("tail /dev/zero; echo $?");
    assert!(runtime.run(&bundle).ok().stdout.ends_with("137\n"));
    let bundle = bundle.args(["tail", "/dev/zero"]);
    runtime.run(&bundle).exits(137);
}

/// However small the limit: either init lives with it, or the cause is reported and nothing hangs.
#[test]
fn too_little_memory_for_init_is_told() {
    needs::controller("memory");
    let runtime = Runtime::new();
    for limit in [1, 4096, 65536, 200 << 10, 400 << 10, 1 << 20] {
        let value = json!({"limit": limit, "swap": limit});
        let output = runtime.try_create(&with(&runtime, "memory", value));
        if output.code != 0 {
            output.fails(["memory"]);
            runtime.is_clean();
        }
        runtime.delete_all();
    }
}

const PIDS: (&str, &str) = ("pids", "pids.max");

#[test]
fn pids_limit() {
    assert_eq!(
        applied("pids", json!({"limit": 77}), PIDS, "pids.max"),
        "77"
    );
    // A limit of 0 becomes 1: systemd has no 0, and no process could be cloned into such a cgroup.
    assert_eq!(applied("pids", json!({"limit": 0}), PIDS, "pids.max"), "1");
}

#[test]
fn unlimited_pids() {
    assert_eq!(
        applied("pids", json!({"limit": -1}), PIDS, "pids.max"),
        "max"
    );
    assert_eq!(applied("pids", json!({}), PIDS, "pids.max"), "max");
}

#[test]
fn a_fork_beyond_the_limit_fails() {
    needs::controller("pids");
    let runtime = Runtime::new();
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo unlimited";
    let bundle = with(&runtime, "pids", json!({"limit": 5})).shell(script);
    let output = runtime.run(&bundle);
    assert!(output.stderr.contains("can't fork"), "{output}");
    assert!(!output.stdout.contains("unlimited"), "{output}");
}

#[test]
fn one_process_is_enough() {
    needs::controller("pids");
    let runtime = Runtime::new();
    let bundle = with(&runtime, "pids", json!({"limit": 1}));
    assert_eq!(
        runtime.run(&bundle.args(["echo", "one"])).ok().stdout,
        "one\n"
    );
}

#[test]
fn setting_up_takes_no_place() {
    needs::controller("pids");
    takes_no_place(&Runtime::new());
}

/// Processes that only bring another one into the container don't count against its pids limit.
pub(crate) fn takes_no_place(runtime: &Runtime) {
    let limit = |bundle: Bundle, limit: u32| {
        let bundle = bundle.args(["sleep", "1000"]);
        bundle.set("/linux/resources/pids", json!({"limit": limit}))
    };
    let first = runtime.start(&limit(runtime.bundle(), 2));
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", first.pid());
    for bundle in [
        runtime.bundle().join_namespace("pid", &path("pid")),
        runtime.bundle().new_namespace("time"),
        runtime.bundle().new_namespace("time").user_namespace(),
    ] {
        let container = runtime.start(&limit(bundle, 1));
        assert_eq!(pids_of(&container), [container.pid()]);
        container.delete_by_force().ok();
    }
    for bundle in [
        runtime.bundle(),
        runtime.bundle().new_namespace("cgroup"),
        runtime.bundle().user_namespace(),
        runtime.bundle().user_namespace().new_namespace("cgroup"),
    ] {
        let container = runtime.start(&limit(bundle, 2));
        let own = container.proc("cgroup");
        for _ in 0..3 {
            let output = container.exec(["cat", "/proc/self/cgroup"]).ok();
            let same = output.stdout == own || output.stdout.lines().all(|it| it.ends_with(":/"));
            assert!(same, "{output}{own}");
        }
        let peak = container.control_file(("pids", "pids.peak"), "pids.peak");
        if let Ok(peak) = fs::read_to_string(peak) {
            assert_eq!(peak, "2\n");
        }
    }
}

#[test]
fn cpu_shares() {
    let v1 = ("cpu", "cpu.shares");
    let of = |shares: u64| applied("cpu", json!({"shares": shares}), v1, "cpu.weight");
    assert_eq!(of(2), either("2", "1"));
    assert_eq!(of(1024), either("1024", "100"));
    assert_eq!(of(262_144), either("262144", "10000"));
    assert_eq!(of(0), either("1024", "100"));
}

const QUOTA: (&str, &str) = ("cpu", "cpu.cfs_quota_us");
const PERIOD: (&str, &str) = ("cpu", "cpu.cfs_period_us");

#[test]
fn cpu_quota_and_period() {
    let value = json!({"quota": 20000, "period": 50000});
    assert_eq!(
        applied("cpu", value.clone(), QUOTA, "cpu.max"),
        either("20000", "20000 50000")
    );
    assert_eq!(
        applied("cpu", value, PERIOD, "cpu.max"),
        either("50000", "20000 50000")
    );
    let value = json!({"quota": -1, "period": 50000});
    assert_eq!(
        applied("cpu", value, QUOTA, "cpu.max"),
        either("-1", "max 50000")
    );
}

#[test]
fn cpu_quota_alone() {
    let value = json!({"quota": 30000});
    assert_eq!(
        applied("cpu", value, QUOTA, "cpu.max"),
        either("30000", "30000 100000")
    );
}

#[test]
fn cpu_period_alone() {
    let value = json!({"period": 30000});
    assert_eq!(
        applied("cpu", value, PERIOD, "cpu.max"),
        either("30000", "max 30000")
    );
}

#[test]
fn the_usual_period_replaces_another_one() {
    needs::version_1();
    let runtime = Runtime::new();
    let group = make_group_of("cpu", &format!("{}mine", runtime.marker()));
    fs::write(group.join("cpu.cfs_period_us"), "50000").unwrap();
    let value = json!({"quota": 20000, "period": 100_000});
    let bundle = with_path(&runtime, "/@mine").set("/linux/resources/cpu", value);
    let container = runtime.create(&bundle);
    assert_eq!(container.control(PERIOD, "cpu.max"), "100000");
    container.delete().ok();
    fs::remove_dir(group).unwrap();
}

#[test]
fn cpu_burst() {
    let value = json!({"quota": 20000, "period": 50000, "burst": 10000});
    let v1 = ("cpu", "cpu.cfs_burst_us");
    assert_eq!(applied("cpu", value, v1, "cpu.max.burst"), "10000");
}

#[test]
fn cpu_idle() {
    let v1 = ("cpu", "cpu.idle");
    assert_eq!(applied("cpu", json!({"idle": 1}), v1, "cpu.idle"), "1");
    assert_eq!(applied("cpu", json!({"idle": 0}), v1, "cpu.idle"), "0");
    // The kernel takes no weight of an idle group.
    assert_eq!(
        applied("cpu", json!({"idle": 1, "shares": 500}), v1, "cpu.idle"),
        "1"
    );
}

#[test]
fn cpu_realtime() {
    let value = json!({"realtimeRuntime": 1000, "realtimePeriod": 500_000});
    if is_v2() {
        return refused("cpu", [(value, "cpu.realtime", "cgroup v2")]);
    }
    if !Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        coracle_integration::skip!("this kernel has no realtime groups");
    }
    assert_eq!(
        applied("cpu", value.clone(), ("cpu", "cpu.rt_runtime_us"), ""),
        "1000"
    );
    assert_eq!(
        applied("cpu", value, ("cpu", "cpu.rt_period_us"), ""),
        "500000"
    );
}

#[test]
fn bad_cpu_is_refused() {
    needs::controller("cpu");
    refused(
        "cpu",
        [
            (json!({"idle": 2}), "cpu.idle", ""),
            (json!({"idle": -1}), "cpu.idle", ""),
            (json!({"quota": 1000, "burst": 2000}), "cpu.burst", "above"),
            (json!({"shares": -1}), "cpu.shares", ""),
            (json!({"period": 1}), "cpu.period", ""),
            (json!({"period": 2_000_000}), "cpu.period", ""),
            (json!({"quota": 5}), "cpu.quota", ""),
            (json!({"cpus": 5}), "cpu.cpus", ""),
        ],
    );
}

const CPUS: (&str, &str) = ("cpuset", "cpuset.cpus");
const MEMS: (&str, &str) = ("cpuset", "cpuset.mems");

#[test]
fn cpusets() {
    let value = json!({"cpus": " 0 \n", "mems": "0"});
    assert_eq!(applied("cpu", value.clone(), CPUS, "cpuset.cpus"), "0");
    assert_eq!(applied("cpu", value, MEMS, "cpuset.mems"), "0");
    let value = json!({"cpus": "", "mems": ""});
    assert_ne!(applied("cpu", value, CPUS, "cpuset.cpus.effective"), "");
}

#[test]
fn a_cpuset_is_what_the_process_gets() {
    needs::controller("cpuset");
    let runtime = Runtime::new();
    let bundle = with(&runtime, "cpu", json!({"cpus": "0"}));
    let list = "sed -n 's/^Cpus_allowed_list:\\t//p' /proc/self/status";
    let container = runtime.start(&bundle.shell(&format!("{list}; sleep 1000")));
    container.wait_for("\n");
    assert_eq!(container.stdout(), "0\n");
    assert_eq!(container.shell(list).ok().line(), "0");
}

#[test]
fn bad_cpusets_are_refused() {
    needs::controller("cpuset");
    for (cpus, errno) in [
        ("9999", ""),
        ("x", "EINVAL"),
        ("0-", "EINVAL"),
        ("2-1", "EINVAL"),
    ] {
        refused("cpu", [(json!({"cpus": cpus}), "cpu.cpus", errno)]);
        refused("cpu", [(json!({"mems": cpus}), "cpu.mems", errno)]);
    }
}

#[test]
fn block_io_throttling() {
    let ((major, minor), io) = (disk(), either("blkio", "io"));
    for (name, v1, key) in [
        (
            "throttleReadBpsDevice",
            "blkio.throttle.read_bps_device",
            "rbps",
        ),
        (
            "throttleWriteBpsDevice",
            "blkio.throttle.write_bps_device",
            "wbps",
        ),
        (
            "throttleReadIOPSDevice",
            "blkio.throttle.read_iops_device",
            "riops",
        ),
        (
            "throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
            "wiops",
        ),
    ] {
        let value = json!({name: [{"major": major, "minor": minor, "rate": 600}]});
        let text = applied("blockIO", value, (io, v1), "io.max");
        let (old, new) = (format!("{major}:{minor} 600"), format!("{key}=600"));
        assert!(text.contains(either(&old, &new)), "{name}: {text}");
    }
    let value = json!({"throttleReadBpsDevice": [{"major": 999, "minor": 0, "rate": 600}]});
    let path = "blockIO.throttleReadBpsDevice[0]";
    refused("blockIO", [(value, path, "an existing whole disk")]);
}

#[test]
fn block_io_weights() {
    let io = either("blkio", "io");
    needs::controller(io);
    // bfq takes the value as it is; the range of other schedulers is another.
    let files = [
        ("blkio.bfq.weight", "300"),
        ("io.bfq.weight", "300"),
        ("io.weight", "2930"),
    ];
    let runtime = Runtime::new();
    let sleeper = runtime.sleeper();
    let there = |(file, _): &(&str, &str)| sleeper.control_file((io, file), file).exists();
    let Some((file, expected)) = files.into_iter().find(there) else {
        coracle_integration::skip!("this kernel has no weights of I/O");
    };
    let of = |value| applied("blockIO", value, (io, file), file);
    let text = of(json!({"weight": 300}));
    let mut words = text.split([' ', '\n']);
    assert!(words.any(|word| word == expected), "{text}");
    // Engines send the whole object with zeros in it.
    assert!(!of(json!({"weight": 0})).contains(expected));
    for (value, path) in [
        (json!({"weight": 9}), "blockIO.weight"),
        (json!({"weight": 1001}), "blockIO.weight"),
        (json!({"leafWeight": 1001}), "blockIO.leafWeight"),
        (
            json!({"weightDevice": [{"major": 8, "minor": 0}]}),
            "blockIO.weightDevice[0]",
        ),
    ] {
        refused("blockIO", [(value, path, "")]);
    }
}

/// The unified hierarchy's folder of this runtime's only container.
fn unified(runtime: &Runtime) -> Option<PathBuf> {
    folders(runtime)
        .into_iter()
        .find(|folder| folder.join("cgroup.events").exists())
}

#[test]
fn hugepages() {
    let v2 = fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers")
        .or_else(|_| fs::read_to_string("/sys/fs/cgroup/cgroup.controllers"));
    if !v2.is_ok_and(|list| list.contains("hugetlb")) || has_controller("hugetlb") && !is_v2() {
        coracle_integration::skip!("no hugetlb controller of version 2");
    }
    let runtime = Runtime::new();
    let value = json!([{"pageSize": "2MB", "limit": 4 << 20}]);
    let _container = runtime.create(&with(&runtime, "hugepageLimits", value));
    let folder = unified(&runtime).expect("a group of version 2");
    let text = fs::read_to_string(folder.join("hugetlb.2MB.max")).unwrap();
    assert_eq!(text, "4194304\n");
    refused(
        "hugepageLimits",
        [
            (
                json!([{"pageSize": "3MB", "limit": 0}]),
                "hugepageLimits[0]",
                "",
            ),
            (
                json!([{"pageSize": "2M", "limit": 0}]),
                "hugepageLimits[0].pageSize",
                "",
            ),
            (
                json!([{"pageSize": "../2MB", "limit": 0}]),
                "hugepageLimits[0].pageSize",
                "",
            ),
            (
                json!([{"pageSize": "2MB", "limit": -1}]),
                "hugepageLimits[0].limit",
                "",
            ),
        ],
    );
}

#[test]
fn limits_without_a_controller_are_refused() {
    for (controller, name, value, path) in [
        (
            "net_cls",
            "network",
            json!({"classID": 5}),
            "network.classID",
        ),
        (
            "net_prio",
            "network",
            json!({"priorities": [{"name": "lo", "priority": 1}]}),
            "network.priorities",
        ),
        ("rdma", "rdma", json!({"mlx5_1": {"hcaHandles": 3}}), "rdma"),
    ] {
        if !has_controller(controller) {
            refused(name, [(value, path, "")]);
        }
    }
}

#[test]
fn unified_files() {
    needs::version_2();
    let value = json!({"memory.high": "50000000", "pids.max": "55", "memory.low": "1048576"});
    let of = |file| applied("unified", value.clone(), ("memory", ""), file);
    assert_eq!(of("memory.high"), "49999872");
    assert_eq!(of("pids.max"), "55");
    assert_eq!(of("memory.low"), "1048576");
    refused("unified", [(json!({"memory/high": "1"}), "unified", "")]);
    refused(
        "unified",
        [(
            json!({"nothing.max": "1"}),
            r#"unified[\"nothing.max\"]"#,
            "nothing",
        )],
    );
    refused(
        "unified",
        [(
            json!({"memory.nothing": "1"}),
            r#"unified[\"memory.nothing\"]"#,
            "",
        )],
    );
}

/// The write succeeds, and only reading the file shows that the kernel made no partition.
#[test]
fn a_partition_that_is_none_is_refused() {
    needs::version_2();
    needs::controller("cpuset");
    let cpus = fs::read_to_string("/sys/fs/cgroup/cpuset.cpus.effective").unwrap();
    for kind in ["root", "isolated"] {
        let value = json!({"cpuset.cpus.partition": kind, "cpuset.cpus": cpus.trim()});
        let place = "unified.cpuset.cpus.partition";
        refused("unified", [(value, place, &format!("{kind} invalid ("))]);
    }
    let value = json!({"cpuset.cpus.partition": "member"});
    let of = |value| applied("unified", value, ("cpuset", ""), "cpuset.cpus.partition");
    assert_eq!(of(value), "member");
}

#[test]
fn unified_on_version_1_is_refused() {
    needs::version_1();
    let text = "cannot use unified on cgroup v1";
    refused(
        "unified",
        [(json!({"memory.max": "1000000"}), "unified", text)],
    );
}

#[test]
fn a_failed_write_undoes_the_groups() {
    needs::controller("cpuset");
    let runtime = Runtime::new();
    let bundle = with(&runtime, "cpu/cpus", json!("9999"));
    let bundle = bundle.set(
        "/linux/cgroupsPath",
        json!(format!("/{}/a/b", runtime.marker())),
    );
    runtime.try_create(&bundle).fails(["cpu.cpus"]);
    assert_eq!(folders(&runtime), Vec::<PathBuf>::new());
    runtime.is_clean();
}

/// The kernel takes a value whole or not at all, so there is no limit by the beginning of one. The
/// reason stands on the line, however long the value is.
#[test]
fn a_value_that_is_too_long_is_refused() {
    needs::controller("cpuset");
    let runtime = Runtime::new();
    let cpus = vec!["0"; 2049].join(",");
    let bundle = with(&runtime, "cpu/cpus", json!(cpus));
    let output = runtime.try_create(&bundle);
    output.fails(["linux.resources.cpu.cpus", "cpuset.cpus", "E2BIG"]);
    runtime.is_clean();
}

/// A device that nobody has: opening it says EPERM if the group denies it, else ENXIO.
fn odd_device(runtime: &Runtime, rules: Value) -> Bundle {
    let device =
        json!({"path": "/dev/odd", "type": "c", "major": 240, "minor": 77, "fileMode": 0o666});
    runtime
        .bundle()
        .set("/linux/devices", json!([device]))
        .set("/linux/resources/devices", rules)
}

const OPEN: &str = "for f in '<' '>' '<>'; do
    error=$(sh -c \"true $f/dev/odd\" 2>&1)
    echo $error | grep -o -e 'Operation not permitted' -e 'No such device' | tr -d '\\n'
    echo ' '$f
done";

/// The results of reading, writing and both.
fn opened(rules: Value) -> String {
    let runtime = Runtime::new();
    let bundle = odd_device(&runtime, rules).shell(OPEN);
    let text = runtime.run(&bundle).ok().stdout;
    text.replace("Operation not permitted", "EPERM")
        .replace("No such device", "ENXIO")
}

const DENIED: &str = "EPERM <\nEPERM >\nEPERM <>\n";
const ALLOWED: &str = "ENXIO <\nENXIO >\nENXIO <>\n";

#[test]
fn devices_are_denied_by_default() {
    assert_eq!(opened(json!([])), DENIED);
    assert_eq!(opened(json!(null)), DENIED);
    assert_eq!(opened(json!([{"allow": false, "access": "rwm"}])), DENIED);
    assert_eq!(
        opened(json!([{"allow": false, "type": "a", "access": "rwm"}])),
        DENIED
    );
}

#[test]
fn default_devices_are_allowed() {
    let runtime = Runtime::new();
    let rules = json!([{"allow": false, "access": "rwm"}]);
    let script = "for d in null zero random urandom ptmx; do true <>/dev/$d || exit 1; done
        true >/dev/null; echo x 2>&1 >/dev/full; mknod /tmp/n c 240 77 && echo made; true </tmp/n";
    let bundle = odd_device(&runtime, rules)
        .shell(script)
        .capabilities(["CAP_MKNOD"]);
    let output = runtime.run(&bundle);
    assert!(output.stdout.contains("No space left"), "{output}");
    assert!(output.stdout.contains("made"), "{output}");
    assert!(
        output.stderr.contains("/tmp/n: Operation not permitted"),
        "{output}"
    );
}

fn rules<const N: usize>(list: [(bool, &str, i64, i64, &str); N]) -> Value {
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    rules.extend(list.map(|(allow, kind, major, minor, access)| {
        json!({"allow": allow, "type": kind, "major": major, "minor": minor, "access": access})
    }));
    json!(rules)
}

#[test]
fn a_device_can_be_allowed() {
    assert_eq!(opened(rules([(true, "c", 240, 77, "rwm")])), ALLOWED);
    assert_eq!(opened(rules([(true, "c", 240, 78, "rwm")])), DENIED);
    assert_eq!(opened(rules([(true, "c", 241, 77, "rwm")])), DENIED);
    assert_eq!(opened(rules([(true, "b", 240, 77, "rwm")])), DENIED);
}

#[test]
fn access_is_allowed_in_parts() {
    assert_eq!(
        opened(rules([(true, "c", 240, 77, "r")])),
        "ENXIO <\nEPERM >\nEPERM <>\n"
    );
    assert_eq!(
        opened(rules([(true, "c", 240, 77, "w")])),
        "EPERM <\nENXIO >\nEPERM <>\n"
    );
    assert_eq!(opened(rules([(true, "c", 240, 77, "m")])), DENIED);
    let both = rules([(true, "c", 240, 77, "r"), (true, "c", 240, 77, "w")]);
    assert_eq!(opened(both), ALLOWED);
}

#[test]
fn a_later_rule_wins() {
    let twice = rules([(true, "c", 240, 77, "rw"), (false, "c", 240, 77, "rw")]);
    assert_eq!(opened(twice), DENIED);
    let part = rules([(true, "c", 240, 77, "rw"), (false, "c", 240, 77, "w")]);
    assert_eq!(opened(part), "ENXIO <\nEPERM >\nEPERM <>\n");
    let again = rules([(false, "c", 240, 77, "rw"), (true, "c", 240, 77, "rw")]);
    assert_eq!(opened(again), ALLOWED);
}

#[test]
fn all_devices_can_be_allowed() {
    assert_eq!(opened(json!([{"allow": true, "access": "rwm"}])), ALLOWED);
    assert_eq!(opened(rules([(true, "a", -1, -1, "rwm")])), ALLOWED);
    assert_eq!(opened(rules([(true, "c", -1, -1, "rw")])), ALLOWED);
    // A list that began by allowing all, and takes one device away.
    let all = json!({"allow": true, "access": "rwm"});
    let one = json!({"allow": false, "type": "c", "major": 240, "minor": 77, "access": "rwm"});
    assert_eq!(opened(json!([all, one])), DENIED);
}

#[test]
fn a_whole_major_can_be_allowed() {
    assert_eq!(opened(rules([(true, "c", 240, -1, "rw")])), ALLOWED);
    assert_eq!(opened(rules([(true, "c", -1, 77, "rw")])), ALLOWED);
    assert_eq!(opened(rules([(true, "c", 239, -1, "rw")])), DENIED);
}

/// A rule for both types is one for each, whatever the kernel of version 1 makes of such a line.
#[test]
fn numbers_of_both_types_are_those_alone() {
    assert_eq!(opened(rules([(true, "a", 240, 77, "rw")])), ALLOWED);
    assert_eq!(opened(rules([(true, "a", 240, -1, "rw")])), ALLOWED);
    assert_eq!(opened(rules([(true, "a", 241, 77, "rwm")])), DENIED);
    assert_eq!(opened(rules([(true, "a", -1, 78, "rwm")])), DENIED);
    let all = json!({"allow": true, "access": "rwm"});
    let untyped = json!({"allow": false, "major": 240, "minor": 77, "access": "rwm"});
    assert_eq!(opened(json!([all, untyped])), DENIED);
}

#[test]
fn exec_is_denied_the_same_devices() {
    let runtime = Runtime::new();
    let bundle = odd_device(&runtime, rules([(true, "c", 240, 77, "r")]));
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    let output = container.shell(OPEN).ok();
    let errors: Vec<_> = output.stdout.lines().collect();
    assert!(errors[0].starts_with("No such device"), "{output}");
    assert!(errors[1].starts_with("Operation not permitted"), "{output}");
}

#[test]
fn bad_device_rules_are_refused() {
    let runtime = Runtime::new();
    for rule in [
        json!({"allow": true, "access": ""}),
        json!({"allow": true}),
        json!({"allow": true, "access": "rwx"}),
        json!({"allow": true, "type": "x", "access": "rwm"}),
        json!({"allow": true, "type": "c", "major": -2, "minor": 1, "access": "rwm"}),
        json!({"allow": true, "type": "c", "major": 1i64 << 40, "minor": 1, "access": "rwm"}),
        json!({"access": "rwm"}),
        json!("c 1:3 rwm"),
    ] {
        let bundle = with(&runtime, "devices", json!([rule]));
        runtime
            .try_create(&bundle)
            .fails(["linux.resources.devices[0]"]);
    }
    runtime.is_clean();
}

/// On a hybrid host either version may hold them.
fn is_frozen(container: &Container) -> bool {
    let text = container.control(("freezer", "freezer.state"), "cgroup.events");
    let unified = unified(container.runtime).map(|folder| folder.join("cgroup.events"));
    let events = unified.and_then(|path| fs::read_to_string(path).ok());
    text.contains("FROZEN") || events.is_some_and(|events| events.contains("frozen 1"))
}

#[test]
fn the_freezer_holds_all_processes() {
    let runtime = Runtime::new();
    let script = "sleep 1000 & sleep 1000 & echo ready; wait";
    let container = runtime.start(&runtime.bundle().shell(script));
    container.wait_for("ready");
    assert!(!is_frozen(&container));
    container.verb("pause").ok();
    assert!(is_frozen(&container));
    container.verb("pause").fails([]);
    container.verb("resume").ok();
    assert!(!is_frozen(&container));
}

fn pids_of(container: &Container) -> Vec<i32> {
    let command = container
        .runtime
        .command(["ps", "-f", "json", &container.id]);
    serde_json::from_str(&command.output().ok().stdout).expect("pids")
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ") && !stat.contains(") X ")
}

#[test]
fn kill_of_all_reaches_execs() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let exec = container.exec_command([], ["sleep", "1000"]).spawn();
    let is_sleep = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
    };
    wait_until("the exec", || {
        pids_of(&container)
            .iter()
            .filter(|pid| is_sleep(pid))
            .count()
            == 2
    });
    runtime
        .command(["kill", "--all", &container.id, "9"])
        .output()
        .ok();
    exec.wait().exits(128 + 9);
    assert_eq!(container.exit_code(), 128 + 9);
}

/// A container without a pid namespace of its own, with three processes.
fn shared<'a>(runtime: &'a Runtime, signal: &str) -> (Container<'a>, Vec<i32>) {
    let script =
        format!("trap '{signal}' TERM; sleep 1000 & (trap '' TERM; sleep 1000) & echo ready; wait");
    let bundle = runtime.bundle().without_namespace("pid").shell(&script);
    let container = runtime.start(&bundle);
    container.wait_for("ready");
    wait_until("all processes", || pids_of(&container).len() >= 3);
    let pids = pids_of(&container);
    (container, pids)
}

#[test]
fn kill_in_a_shared_pid_namespace_reaches_all() {
    let runtime = Runtime::new();
    let (container, pids) = shared(&runtime, "");
    container.kill("KILL").ok();
    wait_until("the end of all", || !pids.iter().any(|pid| lives(*pid)));
    container.delete().ok();
}

#[test]
fn delete_in_a_shared_pid_namespace_kills_all() {
    let runtime = Runtime::new();
    let (container, pids) = shared(&runtime, "exit 3");
    // Init ends, the others go on.
    container.kill("TERM").ok();
    assert_eq!(container.exit_code(), 3);
    assert!(pids.iter().any(|pid| lives(*pid)));
    assert_eq!(container.status(), "stopped");
    container.delete().ok();
    wait_until("the end of all", || !pids.iter().any(|pid| lives(*pid)));
}

#[test]
fn a_signal_to_all_of_a_shared_pid_namespace() {
    let runtime = Runtime::new();
    let (container, pids) = shared(&runtime, "");
    runtime
        .command(["kill", "--all", &container.id, "9"])
        .output()
        .ok();
    wait_until("the end of all", || !pids.iter().any(|pid| lives(*pid)));
}

#[test]
fn a_signal_reaches_more_processes_than_descriptors() {
    let runtime = Runtime::new();
    let script = "for i in $(seq 400); do sleep 1000 & done; echo ready; wait";
    let bundle = runtime.bundle().without_namespace("pid").shell(script);
    let container = runtime.start(&bundle);
    container.wait_for("ready");
    let pids = pids_of(&container);
    assert_eq!(pids.len(), 401);
    let kill = runtime.command(["kill", "--all", &container.id, "TERM"]);
    kill.under("prlimit", ["--nofile=300:300"]).output().ok();
    wait_until("the end of all", || !pids.iter().any(|pid| lives(*pid)));
}

#[test]
fn threads_are_listed_and_signalled_as_their_process() {
    needs::version_2();
    needs::program("python3");
    let runtime = Runtime::new();
    let group = make_group(&format!("{}threaded", runtime.marker())).join("leaf");
    fs::create_dir(&group).unwrap();
    fs::write(group.join("cgroup.type"), "threaded").unwrap();
    let bundle = with_path(&runtime, "/@threaded/leaf").without_namespace("pid");
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    let script = "import sys, threading, time
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
open(sys.argv[1], 'w').write('0')
time.sleep(1000)";
    let python = Command::new("python3").args(["-c", script]);
    let python = python.arg(group.join("cgroup.procs")).spawn();
    let threads = || fs::read_to_string(group.join("cgroup.threads")).unwrap();
    wait_until("two more threads", || threads().lines().count() == 3);
    let mut expected = vec![container.pid(), python.pid.as_raw()];
    expected.sort_unstable();
    assert_eq!(pids_of(&container), expected);
    let kill = runtime.command(["kill", "--all", &container.id, "TERM"]);
    kill.output().ok();
    python.wait().exits(128 + 15);
    assert_eq!(container.exit_code(), 128 + 15);
    container.delete().ok();
    fs::remove_dir(&group).unwrap();
    fs::remove_dir(group.parent().unwrap()).unwrap();
}

/// With the container's groups mounted writable.
fn mounted(runtime: &Runtime) -> Bundle {
    let how = ["nosuid", "noexec", "nodev", "relatime"];
    runtime
        .bundle()
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", how)
}

#[test]
fn groups_made_by_the_container_are_removed() {
    let runtime = Runtime::new();
    let place = either("/sys/fs/cgroup/pids", "/sys/fs/cgroup");
    let script = format!("mkdir -p {place}/a/b/c {place}/d && echo made; sleep 1000");
    let container = runtime.start(&mounted(&runtime).new_namespace("cgroup").shell(&script));
    container.wait_for("made");
    let made = folders(&runtime)
        .into_iter()
        .any(|folder| folder.ends_with("a/b/c"));
    assert!(made, "{:?}", folders(&runtime));
    container.delete_by_force().ok();
    assert_eq!(folders(&runtime), Vec::<PathBuf>::new());
}

#[test]
fn groups_nested_deeply_are_listed_and_removed() {
    let runtime = Runtime::new();
    let script = "sleep 1000 &
        for top in $0; do
            cd $top
            for i in $(seq 100); do mkdir x; cd x; done
            echo $! >cgroup.procs
        done
        echo nested; wait";
    let tops = either(
        "/sys/fs/cgroup/freezer /sys/fs/cgroup/pids",
        "/sys/fs/cgroup",
    );
    let bundle = mounted(&runtime).new_namespace("cgroup");
    let container = runtime.start(&bundle.args(["sh", "-c", script, tops]));
    container.wait_for("nested");
    assert_eq!(pids_of(&container).len(), 2);
    container.delete_by_force().ok();
    assert_eq!(folders(&runtime), Vec::<PathBuf>::new());
}

/// Init of a pid namespace waits for all others, and version 1's freezer holds even the killed.
#[test]
fn groups_frozen_by_the_container_do_not_hold_it() {
    let runtime = Runtime::new();
    let (file, frozen) = either("freezer.state FROZEN", "cgroup.freeze 1")
        .split_once(' ')
        .unwrap();
    let script = format!(
        "cd {}; mkdir -p sub/below; sleep 1000 & echo $! >sub/below/cgroup.procs
        echo {frozen} >sub/below/{file}; echo {frozen} >sub/{file}; echo frozen; wait",
        either("/sys/fs/cgroup/freezer", "/sys/fs/cgroup")
    );
    let frozen = || {
        let bundle = mounted(&runtime).new_namespace("cgroup");
        let container = runtime.start(&bundle.shell(&script));
        container.wait_for("frozen");
        container
    };
    frozen().delete_by_force().ok();
    assert_eq!(folders(&runtime), Vec::<PathBuf>::new());
    let killed = frozen();
    killed.kill("KILL").ok();
    assert_eq!(killed.exit_code(), 128 + 9);
    killed.delete().ok();
}

/// The container's pids limit in its cgroup mount, and its cgroups in /proc.
fn seen(change: impl Fn(Bundle) -> Bundle) -> (String, String) {
    needs::controller("pids");
    let runtime = Runtime::new();
    let file = either("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max");
    let bundle = mounted(&runtime).set("/linux/resources/pids/limit", json!(66));
    let output = runtime
        .run(&change(
            bundle.shell(&format!("cat {file} /proc/self/cgroup")),
        ))
        .ok();
    let (limit, groups) = output.stdout.split_once('\n').unwrap_or_default();
    (limit.to_owned(), groups.replace(runtime.marker(), "@"))
}

#[test]
fn the_mount_shows_the_containers_group() {
    if is_v2() {
        // Without a cgroup namespace, version 2's whole tree is mounted.
        coracle_integration::skip!("of version 1");
    }
    let (limit, groups) = seen(|bundle| bundle);
    assert_eq!(limit, "66");
    assert!(groups.contains("@"), "{groups}");
}

#[test]
fn the_mount_with_a_namespace_shows_the_containers_group() {
    let (limit, groups) = seen(|bundle| bundle.new_namespace("cgroup"));
    assert_eq!(limit, "66");
    assert!(groups.lines().all(|line| line.ends_with(":/")), "{groups}");
}

#[test]
fn a_read_only_mount_cannot_be_changed() {
    let runtime = Runtime::new();
    for namespaced in [true, false] {
        let bundle = runtime.bundle();
        let how = ["nosuid", "noexec", "nodev", "ro"];
        let mut bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", how);
        if namespaced {
            bundle = bundle.new_namespace("cgroup");
        }
        let folder = either("/sys/fs/cgroup/pids/x", "/sys/fs/cgroup/x");
        let script = format!("mkdir {folder} || mkdir /sys/fs/cgroup/y || echo refused");
        let output = runtime.run(&bundle.shell(&script)).ok();
        assert_eq!(output.stdout, "refused\n", "{output}");
        assert_eq!(
            output.stderr.matches("Read-only file system").count(),
            2,
            "{output}"
        );
    }
}

#[test]
fn a_mount_of_version_1_has_all_controllers() {
    needs::version_1();
    let runtime = Runtime::new();
    for bundle in [mounted(&runtime), mounted(&runtime).new_namespace("cgroup")] {
        let output = runtime.run(&bundle.shell("ls /sys/fs/cgroup; ls -d /sys/fs/cgroup/*/tasks"));
        let text = output.ok().stdout;
        for name in [
            "cpu", "cpuset", "memory", "pids", "devices", "freezer", "blkio",
        ] {
            if has_controller(name) {
                assert!(
                    text.contains(&format!("/sys/fs/cgroup/{name}/tasks")),
                    "{name}: {text}"
                );
            }
        }
    }
}

/// Moves init into groups beside its own, and removes those.
fn moved_away(container: &Container) -> Vec<PathBuf> {
    let own = folders(container.runtime);
    let move_from = |own: &PathBuf| {
        let other = own.with_file_name(format!("{}moved", container.runtime.marker()));
        fs::create_dir(&other).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if own.starts_with("/sys/fs/cgroup/cpuset") {
                fs::copy(own.join(file), other.join(file)).unwrap();
            }
        }
        fs::write(other.join("cgroup.procs"), container.pid().to_string()).unwrap();
        fs::remove_dir(own).unwrap();
        other
    };
    own.iter().map(move_from).collect()
}

/// Once a container has ended, another one may have its cgroup.
#[test]
fn a_deletion_lets_nobody_else_run_on() {
    let runtime = Runtime::new();
    let path = json!(format!("/{}common", runtime.marker()));
    let bundle = runtime.bundle().set("/linux/cgroupsPath", path);
    let first = runtime.start(&bundle.clone().args(["true"]));
    first.wait_for_status("stopped");
    let second = runtime.start(&bundle.args(["sleep", "1000"]));
    // On a hybrid host `pause` would use the freezer of the other version.
    let file = second.control_file(("freezer", "freezer.state"), "cgroup.freeze");
    fs::write(file, either("FROZEN", "1")).unwrap();
    second.wait_for_status("paused");
    first.delete_by_force();
    assert_eq!(second.status(), "paused");
    second.delete_by_force().ok();
    first.delete_by_force();
    runtime.is_clean();
}

#[test]
fn init_that_was_moved_is_followed() {
    needs::controller("pids");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let groups = moved_away(&container);
    let own = container.proc("cgroup");
    assert_eq!(
        container.exec(["cat", "/proc/self/cgroup"]).ok().stdout,
        own
    );
    assert_eq!(pids_of(&container), [container.pid()]);
    container.verb("pause").ok();
    assert_eq!(container.status(), "paused");
    assert!(is_frozen(&container));
    container.verb("resume").ok();
    assert_eq!(container.status(), "running");
    let update = ["update", "--pids-limit", "33", &container.id];
    runtime.command(update).output().ok();
    assert_eq!(container.control(("pids", "pids.max"), "pids.max"), "33");
    let events = runtime.command(["events", "--stats", &container.id]);
    let text = events.output().ok().stdout;
    assert!(
        text.contains(r#""pids":{"current":1,"limit":33}"#),
        "{text}"
    );

    // With a process of another's in the group, nothing is done to the group as a whole.
    let other = Command::new("sleep").args(["1000"]).spawn();
    for group in &groups {
        fs::write(group.join("cgroup.procs"), other.pid.to_string()).unwrap();
    }
    assert_eq!(pids_of(&container), [container.pid()]);
    container
        .verb("pause")
        .fails(["cannot pause: init was moved"]);
    let refused = runtime.command(update).output();
    refused.fails(["cannot update: init was moved", &other.pid.to_string()]);
    container.exec(["true"]).ok();
    other.signal(nix::sys::signal::Signal::SIGKILL);
    other.wait_or_kill();

    // SIGKILL ends a frozen init.
    container.verb("pause").ok();
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
    for group in groups {
        fs::remove_dir(group).unwrap();
    }
    runtime.is_clean();
}

/// The top of a hierarchy has neither limits nor a freezer.
#[test]
fn init_that_was_moved_to_the_top_is_followed() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    for own in folders(&runtime) {
        let top = own.parent().unwrap();
        // Only the top itself takes processes beside groups with limits.
        let top = if is_v2() {
            Path::new("/sys/fs/cgroup")
        } else {
            top
        };
        fs::write(top.join("cgroup.procs"), container.pid().to_string()).unwrap();
        fs::remove_dir(own).unwrap();
    }
    let own = container.proc("cgroup");
    assert_eq!(
        container.exec(["cat", "/proc/self/cgroup"]).ok().stdout,
        own
    );
    assert_eq!(pids_of(&container), [container.pid()]);
    container
        .verb("pause")
        .fails(["cannot pause: init was moved"]);
    assert_eq!(container.status(), "running");
    container.delete_by_force().ok();
    runtime.is_clean();
}

#[test]
fn no_manager_means_no_group() {
    let runtime = Runtime::new().options(["--cgroup-manager", "disabled"]);
    let bundle = with(&runtime, "pids", json!({"limit": 5})).args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(container.proc("cgroup"), own);
    assert_eq!(folders(&runtime), Vec::<PathBuf>::new());
    assert_eq!(container.exec(["echo", "x"]).ok().line(), "x");
    container.verb("pause").fails(["cgroup"]);
    container.delete_by_force().ok();
}

#[test]
fn systemd_is_refused_where_there_is_none() {
    if machine().has_systemd {
        coracle_integration::skip!("systemd is here");
    }
    for options in [
        ["--systemd-cgroup", "--debug=false"],
        ["--cgroup-manager", "systemd"],
    ] {
        let runtime = Runtime::new().options(options);
        let failure: Output = runtime.try_create(&runtime.bundle());
        failure.fails(["systemd"]);
        runtime.is_clean();
    }
}

#[test]
fn exec_joins_a_group_below() {
    let runtime = Runtime::new();
    let place = either("/sys/fs/cgroup/pids", "/sys/fs/cgroup");
    let script = format!("mkdir {place}/below && echo made; sleep 1000");
    let container = runtime.start(&mounted(&runtime).new_namespace("cgroup").shell(&script));
    container.wait_for("made");
    let option = either("--cgroup=pids:below", "--cgroup=below");
    let output = container
        .exec_with([option], ["cat", "/proc/self/cgroup"])
        .ok();
    let line = output
        .stdout
        .lines()
        .find(|line| line.contains(either(":pids:", "0::")));
    assert!(
        line.is_some_and(|line| line.ends_with(":/below")),
        "{output}"
    );
}

#[test]
fn exec_tells_why_a_group_takes_nobody() {
    if is_v2() {
        coracle_integration::skip!("init's own group is the second choice");
    }
    let controllers = fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers");
    if !controllers.is_ok_and(|list| list.contains("hugetlb")) {
        coracle_integration::skip!("no hugetlb controller of version 2");
    }
    let runtime = Runtime::new();
    let script = "cd /sys/fs/cgroup/unified; mkdir sub; echo $$ >sub/cgroup.procs
        echo +hugetlb >cgroup.subtree_control && echo handed; sleep 1000";
    let limits = json!([{"pageSize": "2MB", "limit": 4 << 20}]);
    let bundle = mounted(&runtime).new_namespace("cgroup").shell(script);
    let container = runtime.start(&bundle.set("/linux/resources/hugepageLimits", limits));
    container.wait_for("handed");
    let exec = container.exec(["true"]);
    exec.fails_as(255, ["EBUSY", "enables controllers for children"]);
}

#[test]
fn bad_groups_for_exec_are_refused() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let path = either("pids:", "");
    for bad in ["..", "../x", "a/../..", "missing"] {
        let option = format!("--cgroup={path}{bad}");
        container.exec_with([&option], ["true"]).fails_as(255, []);
    }
    needs::version_1();
    container
        .exec_with(["--cgroup=nothing:x"], ["true"])
        .fails_as(255, ["nothing"]);
    let twice = ["--cgroup=pids:x", "--cgroup=pids:y"];
    container.exec_with(twice, ["true"]).fails_as(255, []);
}

#[test]
fn resources_of_an_exited_container_are_removed() {
    let runtime = Runtime::new();
    let container = runtime.start(&with(&runtime, "pids", json!({"limit": 10})));
    container.exit_code();
    container.wait_for_status("stopped");
    container.delete().ok();
    assert_eq!(folders(&runtime), Vec::<PathBuf>::new());
}
