//! `linux.resources` property by property: the value asked, and the value in the kernel's file.
//! What `cgroups` has already is not repeated.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_integration::{
    Command, Runtime, Value, either, has_controller, is_v2, json, needs, skip,
};
use nix::unistd::User;

use crate::cgroups::{applied, with};

#[track_caller]
fn refused(name: &str, value: Value, texts: [&str; 2]) {
    let runtime = Runtime::new();
    runtime
        .try_create(&with(&runtime, name, value))
        .fails(texts);
    runtime.is_clean();
}

#[test]
fn hierarchical_accounting() {
    needs::version_1();
    let v1 = ("memory", "memory.use_hierarchy");
    assert_eq!(
        applied("memory", json!({"useHierarchy": true}), v1, ""),
        "1"
    );
}

/// On version 1 the same values are set.
#[test]
fn what_version_2_lacks_is_a_warning() {
    let runtime = Runtime::new().options(["--log-level", "warning"]);
    let memory = json!({"swappiness": 50, "disableOOMKiller": true, "kernel": 4096});
    let bundle = with(&runtime, "memory", memory).set("/process/args", json!(["true"]));
    let output = runtime.run(&bundle).ok();
    let warned = |path: &str| {
        output
            .stderr
            .contains(&format!("linux.resources.memory.{path}: ignored"))
    };
    assert!(warned("kernel"), "{output}");
    assert_eq!(
        (warned("swappiness"), warned("disableOOMKiller")),
        (is_v2(), is_v2()),
        "{output}"
    );
}

#[test]
fn shares_beyond_the_kernels_range() {
    needs::controller("cpu");
    for shares in [1u64, 300_000] {
        let value = json!({"shares": shares});
        if is_v2() {
            let expected = if shares == 1 { "1" } else { "10000" };
            assert_eq!(applied("cpu", value, ("cpu", ""), "cpu.weight"), expected);
        } else {
            refused(
                "cpu",
                value,
                ["linux.resources.cpu.shares", "is not within 2 to 262144"],
            );
        }
    }
}

#[test]
fn a_quota_of_zero_is_none() {
    let v1 = ("cpu", "cpu.cfs_quota_us");
    let text = applied("cpu", json!({"quota": 0, "period": 0}), v1, "cpu.max");
    assert_eq!(text, either("-1", "max 100000"));
}

#[test]
fn unlimited_reservation() {
    let v1 = ("memory", "memory.soft_limit_in_bytes");
    let text = applied("memory", json!({"reservation": -1}), v1, "memory.low");
    assert_eq!(text, either("9223372036854771712", "max"));
}

/// Major and minor number.
type Device = (u64, u64);

/// A disk that has a queue, and a partition of one.
fn disks() -> (Option<Device>, Option<Device>) {
    let numbers = |path: PathBuf| -> Option<Device> {
        let text = fs::read_to_string(path.join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let (mut disk, mut partition) = (None, None);
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("loop") {
            disk = disk.or(numbers(entry.path()));
        }
        for part in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            if part.path().join("partition").exists() {
                partition = partition.or(numbers(part.path()));
            }
        }
    }
    (disk, partition)
}

/// A disk that has a queue to throttle, or a skip.
pub(crate) fn disk() -> Device {
    disks()
        .0
        .unwrap_or_else(|| skip!("this machine has no disk"))
}

#[test]
fn weights_by_device() {
    let (major, minor) = disk();
    let io = either("blkio", "io");
    needs::controller(io);
    let runtime = Runtime::new();
    let one = json!([{"major": major, "minor": minor, "weight": 300}]);
    let bundle = with(
        &runtime,
        "blockIO",
        json!({"weight": 200, "weightDevice": one}),
    );
    let created = runtime.try_create(&bundle);
    if created.code != 0 {
        // The disk's scheduler may have no weights, or the disk no scheduler.
        created.fails(["linux.resources.blockIO.weight"]);
        skip!("this kernel has no weights for {major}:{minor}");
    }
    let group = coracle_integration::groups(runtime.marker());
    let files = [
        "blkio.weight_device",
        "blkio.bfq.weight_device",
        "io.bfq.weight",
        "io.weight",
    ];
    let texts = group
        .iter()
        .flat_map(|group| files.map(|file| group.join(file)));
    let texts: Vec<String> = texts
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect();
    let line = format!("{major}:{minor} 300\n");
    let spread = format!("{major}:{minor} {}\n", 1 + 290 * 9999 / 990);
    assert!(
        texts
            .iter()
            .any(|text| text.contains(&line) || text.contains(&spread)),
        "{texts:?}"
    );
}

#[test]
fn leaf_weights() {
    let io = either("blkio", "io");
    needs::controller(io);
    let runtime = Runtime::new().options(["--log-level", "warning"]);
    let bundle = with(&runtime, "blockIO", json!({"leafWeight": 300})).args(["true"]);
    let output = runtime.run(&bundle);
    if is_v2() {
        let text = "linux.resources.blockIO.leafWeight: ignored";
        assert!(output.ok().stderr.contains(text));
    } else if output.code != 0 {
        output.fails([
            "linux.resources.blockIO.leafWeight",
            "this kernel has no such file",
        ]);
    }
}

#[test]
fn throttles_of_zero_are_none() {
    let (major, minor) = disk();
    let value = json!({"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 0}]});
    let v1 = (either("blkio", "io"), "blkio.throttle.read_bps_device");
    assert_eq!(applied("blockIO", value, v1, "io.max"), "");
}

#[test]
fn throttles_need_a_whole_disk() {
    needs::controller(either("blkio", "io"));
    let value = |(major, minor): (u64, u64)| json!({"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 600}]});
    let path = "linux.resources.blockIO.throttleReadBpsDevice[0]";
    refused(
        "blockIO",
        value((4000, 1)),
        [path, "the device must be an existing whole disk"],
    );
    let partition = disks()
        .1
        .unwrap_or_else(|| skip!("this machine has no partition"));
    refused(
        "blockIO",
        value(partition),
        [path, "the device must be an existing whole disk"],
    );
}

/// The group that bounds huge pages, on a hybrid host maybe that of version 2.
fn huge_group(runtime: &Runtime, name: &str) -> PathBuf {
    let groups = coracle_integration::groups(runtime.marker());
    let found = groups.into_iter().find(|group| group.join(name).exists());
    found.unwrap_or_else(|| skip!("no hugetlb controller"))
}

fn has_hugetlb() -> bool {
    let list = fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").unwrap_or_default();
    has_controller("hugetlb") || list.contains("hugetlb")
}

#[test]
fn huge_pages_are_bounded_in_use_and_reservation() {
    if !has_hugetlb() {
        skip!("needs the hugetlb controller");
    }
    let runtime = Runtime::new();
    let limits = json!([{"pageSize": "2MB", "limit": 6 << 20}]);
    let _container = runtime.create(&with(&runtime, "hugepageLimits", limits));
    let on_v1 = !is_v2() && has_controller("hugetlb");
    let end = if on_v1 { "limit_in_bytes" } else { "max" };
    let group = huge_group(&runtime, &format!("hugetlb.2MB.{end}"));
    for file in ["hugetlb.2MB.", "hugetlb.2MB.rsvd."] {
        let text = fs::read_to_string(group.join(format!("{file}{end}"))).unwrap();
        assert_eq!(text, "6291456\n");
    }
}

#[test]
fn a_missing_page_size_names_those_that_are_there() {
    if !has_hugetlb() {
        skip!("needs the hugetlb controller");
    }
    let limits = json!([{"pageSize": "3MB", "limit": 0}]);
    let path = "linux.resources.hugepageLimits[0].limit";
    refused("hugepageLimits", limits, [path, "page sizes here are"]);
}

#[test]
fn network_class() {
    let value = json!({"classID": 0x10_0001});
    if is_v2() {
        return refused(
            "network",
            value,
            ["linux.resources.network.classID", "cgroup v2"],
        );
    }
    let v1 = ("net_cls", "net_cls.classid");
    assert_eq!(applied("network", value, v1, ""), "1048577");
}

#[test]
fn network_priorities() {
    let value = json!({"priorities": [{"name": "lo", "priority": 7}]});
    if is_v2() {
        let path = "linux.resources.network.priorities[0]";
        return refused("network", value, [path, "cgroup v2"]);
    }
    let text = applied("network", value, ("net_prio", "net_prio.ifpriomap"), "");
    assert!(text.lines().any(|line| line == "lo 7"), "{text}");
}

#[test]
fn rdma_devices_are_looked_up_by_the_kernel() {
    needs::controller("rdma");
    let value = json!({"none_0": {"hcaHandles": 3, "hcaObjects": 9}});
    refused(
        "rdma",
        value,
        ["linux.resources.rdma", "no rdma device has this name"],
    );
}

#[test]
fn unified_files_override_converted_values() {
    needs::version_2();
    let runtime = Runtime::new();
    let bundle = with(&runtime, "pids", json!({"limit": 40}))
        .set(
            "/linux/resources/unified",
            json!({"pids.max": "41", "cpu.weight": "77"}),
        )
        .set("/linux/resources/cpu", json!({"shares": 1024}));
    let container = runtime.create(&bundle);
    assert_eq!(container.control(("", ""), "pids.max"), "41");
    assert_eq!(container.control(("", ""), "cpu.weight"), "77");
}

#[test]
fn unified_values_of_several_lines() {
    needs::version_2();
    let (major, minor) = disk();
    let value = json!({"io.max": format!("{major}:{minor} rbps=600\n{major}:{minor} wiops=7\n")});
    let text = applied("unified", value, ("io", ""), "io.max");
    assert_eq!(
        text,
        format!("{major}:{minor} rbps=600 wbps=max riops=max wiops=7")
    );
}

#[test]
fn resources_may_be_absent() {
    let runtime = Runtime::new();
    for resources in [json!(null), json!({}), json!({"memory": {}, "cpu": null})] {
        let bundle = runtime.bundle().set("/linux/resources", resources);
        let output = runtime.run(&bundle.shell("cat /proc/self/cgroup; true </dev/zero"));
        assert!(output.ok().stdout.contains(runtime.marker()));
    }
}

/// The very first process is in its groups and bounded: a fork of the first instruction fails.
#[test]
fn limits_hold_before_the_first_instruction() {
    needs::controller("pids");
    let runtime = Runtime::new();
    let bundle = with(&runtime, "pids", json!({"limit": 1})).shell("(echo forked); true");
    let output = runtime.run(&bundle);
    assert!(
        !output.stdout.contains("forked") && output.stderr.contains("fork"),
        "{output}"
    );
}

/// A process is moved within one hierarchy only, to where `delete` does not look for the
/// container's.
#[test]
fn a_process_that_stays_is_named_and_removal_ends() {
    needs::version_1();
    needs::controller("memory");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let procs = container.control_file(("memory", "cgroup.procs"), "");
    let stranger = Command::new("sleep").arg("1000").spawn();
    fs::write(&procs, stranger.pid.to_string()).unwrap();
    let named = format!("process {} is left in it", stranger.pid);
    container.delete_by_force().fails(["remove cgroup", &named]);
    assert!(Path::new("/proc").join(stranger.pid.to_string()).exists());
    stranger.signal(nix::sys::signal::Signal::SIGKILL);
    stranger.wait();
    container.delete_by_force().ok();
    runtime.is_clean();
}

/// Runs in the user's own service manager, which delegates a group to each service that asks.
const SERVICE: [&str; 7] = [
    "--user",
    "--machine=tester@.host",
    "--quiet",
    "--wait",
    "--pipe",
    "--collect",
    "--property=Delegate=yes",
];

/// One container's life, and what its files say on the way.
const LIFE: &str = r#"set -e
program=$1 root=$2 bundle=$3 id=$4
coracle() { "$program" --root "$root" "$@"; }
coracle run --detach --bundle "$bundle" "$id" </dev/null
group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$(coracle ps -f json "$id" | tr -d '[]')/cgroup)
show() { for file; do echo "$file $(cat "$group/$file")"; done; }
show memory.max memory.swap.max pids.max cpu.weight
coracle update --memory 32m --memory-swap 32m --pids-limit 60 "$id"
show memory.max memory.swap.max pids.max cgroup.freeze
coracle pause "$id"
show cgroup.freeze
coracle resume "$id"
coracle events --stats "$id" | grep -o '"limit":60'
coracle delete --force "$id"
[ ! -e "$group" ] && echo removed
"#;

#[test]
fn an_ordinary_user_with_delegated_groups() {
    needs::version_2();
    needs::systemd();
    let Ok(Some(tester)) = User::from_name("tester") else {
        skip!("needs the user `tester` with a service manager");
    };
    let uid = tester.uid.as_raw();
    let runtime = Runtime::for_user(uid);
    let map = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    let map_groups = json!([{"containerID": 0, "hostID": tester.gid.as_raw(), "size": 1}]);
    let limits = json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}, "pids": {"limit": 50},
        "cpu": {"shares": 512}});
    let bundle = runtime
        .bundle()
        .args(["sleep", "1000"])
        .new_namespace("user")
        .set("/linux/uidMappings", map)
        .set("/linux/gidMappings", map_groups)
        .set("/linux/resources", limits);
    let script = runtime.folder().join("life");
    fs::write(&script, LIFE).unwrap();
    let program = runtime.folder().join("runtime");
    let root = runtime.root().display().to_string();
    let output = Command::new("systemd-run")
        .args(SERVICE)
        .args([
            "sh",
            &script.display().to_string(),
            &program.display().to_string(),
            &root,
        ])
        .arg(&bundle.write().dir)
        .arg(runtime.id())
        .output()
        .ok();
    let expected = "memory.max 67108864\nmemory.swap.max 33554432\npids.max 50\ncpu.weight 59\n\
                    memory.max 33554432\nmemory.swap.max 0\npids.max 60\ncgroup.freeze 0\n\
                    cgroup.freeze 1\n\"limit\":60\nremoved\n";
    assert_eq!(output.stdout, expected, "{output}");
}
