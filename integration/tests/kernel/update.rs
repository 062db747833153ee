//! `update`: new limits in a living container, all of them or none.

use std::fs;

use coracle_integration::{
    Bundle, Command, Container, Output, Runtime, Value, either, has_controller, is_v2, json, needs,
};

use crate::limits::disk;

const MEMORY: ((&str, &str), &str) = (("memory", "memory.limit_in_bytes"), "memory.max");
const SWAP: ((&str, &str), &str) = (("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max");
const SOFT: ((&str, &str), &str) = (("memory", "memory.soft_limit_in_bytes"), "memory.low");
const PIDS: ((&str, &str), &str) = (("pids", "pids.max"), "pids.max");
const WEIGHT: ((&str, &str), &str) = (("cpu", "cpu.shares"), "cpu.weight");
const QUOTA: ((&str, &str), &str) = (("cpu", "cpu.cfs_quota_us"), "cpu.max");
const PERIOD: ((&str, &str), &str) = (("cpu", "cpu.cfs_period_us"), "cpu.max");
const BURST: ((&str, &str), &str) = (("cpu", "cpu.cfs_burst_us"), "cpu.max.burst");
const IDLE: ((&str, &str), &str) = (("cpu", "cpu.idle"), "cpu.idle");
const CPUS: ((&str, &str), &str) = (("cpuset", "cpuset.cpus"), "cpuset.cpus");

fn update<const N: usize>(container: &Container, flags: [&str; N]) -> Output {
    let command = container.runtime.command(["update"]).args(flags);
    command.arg(&container.id).output()
}

/// `update` of a resources object on standard input.
fn update_with(container: &Container, resources: &Value) -> Output {
    let command = ["update", "--resources", "-", &container.id];
    let command = container.runtime.command(command);
    command.input(&resources.to_string()).output()
}

fn read(container: &Container, (v1, v2): ((&str, &str), &str)) -> String {
    container.control(v1, v2)
}

/// The private copy of the config, which later verbs read.
fn stored(container: &Container) -> Value {
    let path = container
        .runtime
        .root()
        .join(&container.id)
        .join("config.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn resources(container: &Container) -> Value {
    stored(container)["linux"]["resources"].clone()
}

fn limited(runtime: &Runtime, resources: Value) -> Bundle {
    runtime
        .bundle()
        .args(["sleep", "1000"])
        .set("/linux/resources", resources)
}

#[test]
fn flags_of_memory() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let flags = [
        "--memory",
        "64m",
        "--memory-swap=96MiB",
        "--memory-reservation",
        "1.5g",
    ];
    assert_eq!(update(&container, flags).ok().stderr, "");
    assert_eq!(read(&container, MEMORY), "67108864");
    assert_eq!(read(&container, SWAP), either("100663296", "33554432"));
    assert_eq!(read(&container, SOFT), "1610612736");
    let memory = json!({"limit": 64 << 20, "swap": 96 << 20, "reservation": 3u32 << 29});
    assert_eq!(resources(&container)["memory"], memory);
    update(&container, ["--memory", "-1"]).ok();
    for place in [MEMORY, SWAP] {
        assert_eq!(
            read(&container, place),
            either("9223372036854771712", "max")
        );
    }
    assert_eq!(resources(&container)["memory"]["swap"], json!(-1));
}

#[test]
fn flags_of_cpu() {
    needs::controller("cpu");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    update(
        &container,
        [
            "--cpu-share",
            "512",
            "--cpu-quota=20000",
            "--cpu-period",
            "50000",
        ],
    )
    .ok();
    assert_eq!(read(&container, WEIGHT), either("512", "59"));
    assert_eq!(read(&container, QUOTA), either("20000", "20000 50000"));
    assert_eq!(read(&container, PERIOD), either("50000", "20000 50000"));
    update(&container, ["--cpu-burst", "10000"]).ok();
    assert_eq!(read(&container, BURST), "10000");
    // The kernel refuses a quota below the burst, which therefore has to be cleared first.
    update(&container, ["--cpu-burst", "0", "--cpu-quota", "5000"]).ok();
    assert_eq!(
        (
            read(&container, BURST),
            read(&container, QUOTA).starts_with("5000")
        ),
        ("0".to_owned(), true)
    );
    update(&container, ["--cpu-quota", "-1"]).ok();
    assert_eq!(read(&container, QUOTA), either("-1", "max 50000"));
    update(&container, ["--cpu-idle", "1"]).ok();
    assert_eq!(read(&container, IDLE), "1");
}

#[test]
fn flags_of_cpusets() {
    needs::controller("cpuset");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    update(&container, ["--cpuset-cpus", "0", "--cpuset-mems", "0"]).ok();
    assert_eq!(read(&container, CPUS), "0");
    assert_eq!(
        read(&container, (("cpuset", "cpuset.mems"), "cpuset.mems")),
        "0"
    );
    let list = "sed -n 's/^Cpus_allowed_list:\\t//p' /proc/self/status";
    assert_eq!(container.shell(list).ok().line(), "0");
    let cpus = resources(&container)["cpu"]["cpus"].clone();
    assert_eq!(cpus, json!("0"));
    let all = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    update(&container, ["--cpuset-cpus", all.trim()]).ok();
    assert_eq!(read(&container, CPUS), all.trim());
}

#[test]
fn flags_of_processes_and_disks() {
    needs::controller("pids");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    update(&container, ["--pids-limit", "40"]).ok();
    assert_eq!(read(&container, PIDS), "40");
    update(&container, ["--pids-limit=-1"]).ok();
    assert_eq!(read(&container, PIDS), "max");
    // As in a config, where a limit of none would keep init itself out.
    update(&container, ["--pids-limit", "0"]).ok();
    assert_eq!(read(&container, PIDS), "1");
    assert_eq!(resources(&container)["pids"]["limit"], json!(0));
    update(&container, ["--pids-limit", "50"]).ok();
    update_with(&container, &json!({"pids": {"limit": 0}})).ok();
    assert_eq!(read(&container, PIDS), "1");
    let created = runtime.create(&limited(&runtime, json!({"pids": {"limit": 0}})));
    assert_eq!(read(&created, PIDS), "1");
    let place = (("blkio", "blkio.bfq.weight"), "io.bfq.weight");
    if has_controller(either("blkio", "io")) && container.control_file(place.0, place.1).exists() {
        update(&container, ["--blkio-weight", "300"]).ok();
        assert!(read(&container, place).ends_with("300"));
    }
}

#[test]
fn obsolete_flags_are_ignored() {
    let runtime = Runtime::new().options(["--log-level", "warning"]);
    let container = runtime.sleeper();
    update(&container, []).ok();
    let before = resources(&container);
    let flags = ["--kernel-memory", "5m", "--kernel-memory-tcp", "5m"];
    let output = update(&container, flags).ok();
    assert!(
        output.stderr.contains("--kernel-memory is ignored"),
        "{output}"
    );
    assert_eq!(resources(&container), before);
}

#[test]
fn a_file_or_standard_input_is_read() {
    needs::controller("pids");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let file = runtime.folder().join("limits");
    for (limit, flags) in [
        ("31", vec!["-r".to_owned(), file.display().to_string()]),
        ("32", vec![format!("--resources={}", file.display())]),
        ("33", vec!["--resources=-".to_owned()]),
        (
            "34",
            vec!["-r".to_owned(), "-".to_owned(), "--pids-limit=9".to_owned()],
        ),
    ] {
        let text = format!("{{\"pids\": {{\"limit\": {limit}}}}}");
        fs::write(&file, &text).unwrap();
        let command = runtime.command(["update"]).args(flags).arg(&container.id);
        command.input(&text).output().ok();
        assert_eq!(read(&container, PIDS), limit);
    }
    update(&container, ["-r", "/no/such/file"]).fails(["--resources", "ENOENT"]);
    for (text, expected) in [
        ("", "resources: line 1"),
        ("[]", "resources: found an array"),
        (
            "{\"pids\": {\"limit\": \"many\"}}",
            "resources.pids.limit: ",
        ),
        (
            "{\"cpu\": {\"period\": 5}}",
            "resources.cpu.period: 5 is not from",
        ),
    ] {
        let command = runtime.command(["update", "-r", "-", &container.id]);
        command.input(text).output().fails([expected]);
    }
    assert_eq!(read(&container, PIDS), "34");
}

#[test]
fn zeros_and_absent_values_stay() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let given = json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}, "pids": {"limit": 50},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000}});
    let container = runtime.start(&limited(&runtime, given.clone()));
    let zeros = json!({"memory": {"limit": 0, "swap": 0, "reservation": 0, "kernel": 0},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
        "pids": {"limit": null}, "blockIO": {"weight": 0}, "devices": null});
    for object in [zeros, json!({}), json!({"memory": null, "cpu": {}})] {
        update_with(&container, &object).ok();
        assert_eq!(read(&container, MEMORY), "67108864");
        assert_eq!(read(&container, SWAP), either("100663296", "33554432"));
        assert_eq!(read(&container, PIDS), "50");
        assert_eq!(read(&container, WEIGHT), either("512", "59"));
        assert_eq!(read(&container, QUOTA), either("20000", "20000 50000"));
        assert_eq!(resources(&container)["memory"], given["memory"]);
        assert_eq!(resources(&container)["cpu"], given["cpu"]);
    }
    update(&container, []).ok();
    assert_eq!(read(&container, MEMORY), "67108864");
}

/// The objects that docker and Kubernetes' engine send.
#[test]
fn what_engines_send() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let docker = json!({"memory": {"limit": 64 << 20, "reservation": 0, "swap": 128 << 20,
        "kernel": 0}, "cpu": {"shares": 0, "quota": 20000, "period": 100_000},
        "pids": {"limit": 60}, "blockIO": {"weight": 0}});
    update_with(&container, &docker).ok();
    assert_eq!(read(&container, PIDS), "60");
    let kubernetes = json!({"devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 32 << 20, "swap": 32 << 20}, "cpu": {"shares": 256, "quota": -1,
        "period": 100_000, "cpus": "", "mems": ""}, "unified": null, "hugepageLimits": []});
    update_with(&container, &kubernetes).ok();
    assert_eq!(read(&container, MEMORY), "33554432");
    assert_eq!(read(&container, SWAP), either("33554432", "0"));
    assert_eq!(read(&container, QUOTA), either("-1", "max 100000"));
    // A list that is a bare denial, as engines send it, takes no device away.
    container.shell("true </dev/zero").ok();
}

#[test]
fn halves_of_pairs_keep_the_other() {
    needs::controller("cpu");
    let runtime = Runtime::new();
    let cpu = json!({"cpu": {"quota": 20000, "period": 50000}});
    let container = runtime.start(&limited(&runtime, cpu));
    update(&container, ["--cpu-quota", "30000"]).ok();
    assert_eq!(read(&container, QUOTA), either("30000", "30000 50000"));
    update(&container, ["--cpu-period", "60000"]).ok();
    assert_eq!(read(&container, QUOTA), either("30000", "30000 60000"));
    assert_eq!(read(&container, PERIOD), either("60000", "30000 60000"));
    assert_eq!(
        resources(&container)["cpu"],
        json!({"quota": 30000, "period": 60000})
    );
    needs::controller("memory");
    update(&container, ["--memory", "64m", "--memory-swap", "128m"]).ok();
    update(&container, ["--memory", "96m"]).ok();
    assert_eq!(read(&container, SWAP), either("134217728", "33554432"));
    update(&container, ["--memory-swap", "96m"]).ok();
    assert_eq!(read(&container, SWAP), either("100663296", "0"));
    assert_eq!(read(&container, MEMORY), "100663296");
}

#[test]
fn memory_moves_in_both_directions() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    for (limit, swap) in [
        (64, 64),
        (128, 256),
        (32, 40),
        (40, 48),
        (200, 200),
        (16, 400),
    ] {
        let flags = [
            &format!("--memory={limit}m"),
            &format!("--memory-swap={swap}m"),
        ];
        update(&container, flags.map(String::as_str)).ok();
        let megabytes = |count: u64| (count << 20).to_string();
        assert_eq!(read(&container, MEMORY), megabytes(limit));
        let (together, alone) = (megabytes(swap), megabytes(swap - limit));
        assert_eq!(read(&container, SWAP), either(&together, &alone));
    }
}

#[test]
fn an_idle_container_gets_its_weight_back() {
    needs::controller("cpu");
    let runtime = Runtime::new();
    let container = runtime.start(&limited(&runtime, json!({"cpu": {"shares": 512}})));
    update(&container, ["--cpu-idle", "1"]).ok();
    assert_eq!(read(&container, IDLE), "1");
    update(&container, ["--cpu-idle", "0"]).ok();
    assert_eq!(read(&container, IDLE), "0");
    assert_eq!(read(&container, WEIGHT), either("512", "59"));
}

/// The kernel takes no weight for an idle group.
#[test]
fn a_weight_ends_the_idleness() {
    needs::controller("cpu");
    ends_the_idleness(&Runtime::new());
}

pub(crate) fn ends_the_idleness(runtime: &Runtime) {
    let container = runtime.start(&limited(runtime, json!({"cpu": {"idle": 1}})));
    assert_eq!(read(&container, IDLE), "1");
    update(&container, ["--cpu-share", "2048"]).ok();
    assert_eq!(read(&container, IDLE), "0");
    assert_eq!(read(&container, WEIGHT), either("2048", "174"));
    assert_eq!(
        resources(&container)["cpu"],
        json!({"idle": 0, "shares": 2048})
    );
    let idle = json!({"cpu": {"idle": 1, "shares": 512}});
    update_with(&container, &idle).ok();
    assert_eq!(read(&container, IDLE), "1");
    update_with(&container, &json!({"cpu": {"shares": 0}})).ok();
    assert_eq!(read(&container, IDLE), "1");
    if is_v2() {
        let weight = json!({"unified": {"cpu.weight": "50"}});
        update_with(&container, &weight).ok();
        assert_eq!(
            (read(&container, IDLE), read(&container, WEIGHT)),
            ("0".into(), "50".into())
        );
        let by_file = json!({"unified": {"cpu.idle": "1"}});
        let container = runtime.start(&limited(runtime, by_file));
        update(&container, ["--cpu-share", "2048"]).ok();
        assert_eq!(
            (read(&container, IDLE), read(&container, WEIGHT)),
            ("0".into(), "174".into())
        );
    }
}

/// All limits that the test below sets.
fn state(container: &Container) -> Vec<String> {
    let mut state = vec![stored(container).to_string()];
    for ((controller, file), v2) in [
        MEMORY, SWAP, SOFT, PIDS, WEIGHT, QUOTA, PERIOD, BURST, IDLE, CPUS,
    ] {
        if has_controller(controller) {
            state.push(format!(
                "{file} {}",
                read(container, ((controller, file), v2))
            ));
        }
    }
    state
}

#[test]
fn the_oom_killer_can_be_had_back() {
    needs::version_1();
    needs::controller("memory");
    let runtime = Runtime::new();
    let memory = json!({"limit": 64 << 20, "disableOOMKiller": true});
    let container = runtime.create(&limited(&runtime, json!({"memory": memory})));
    let control = || container.control(("memory", "memory.oom_control"), "");
    assert!(control().starts_with("oom_kill_disable 1"));
    update_with(&container, &json!({"memory": {"disableOOMKiller": false}})).ok();
    assert!(control().starts_with("oom_kill_disable 0"));
}

#[test]
fn a_failing_value_takes_back_all_others() {
    fail_every_value(&Runtime::new());
}

/// Whichever value the kernel refuses, the first to be written or the last, all others are restored.
pub(crate) fn fail_every_value(runtime: &Runtime) {
    needs::controller("memory");
    let old = json!({"memory": {"limit": 64 << 20, "swap": 96 << 20},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 10000},
        "pids": {"limit": 50}});
    let good = json!({"memory": {"limit": 128 << 20, "swap": 256 << 20, "reservation": 1 << 20},
        "cpu": {"shares": 2048, "quota": 40000, "period": 100_000, "burst": 30000},
        "pids": {"limit": 70}});
    let mut failing = vec![
        (
            "blkio",
            "blockIO",
            "throttleReadBpsDevice",
            json!([{"major": 4000, "minor": 0, "rate": 1}]),
        ),
        (
            "io",
            "blockIO",
            "throttleReadBpsDevice",
            json!([{"major": 4000, "minor": 0, "rate": 1}]),
        ),
        ("cpuset", "cpu", "cpus", json!("9999")),
        ("cpuset", "cpu", "mems", json!("9999")),
    ];
    if is_v2() {
        failing.push(("cpu", "unified", "cpu.weight", json!("0")));
        failing.push(("memory", "unified", "memory.oom.group", json!("7")));
        failing.push(("pids", "unified", "pids.max", json!("many")));
    } else {
        // Below what it uses: the first value of all.
        failing.push(("memory", "memory", "limit", json!(4096)));
        failing.push(("memory", "memory", "swappiness", json!(100)));
    }
    let container = runtime.start(&limited(runtime, old));
    let before = state(&container);
    for (controller, section, key, value) in failing {
        if !has_controller(controller) || key == "swappiness" {
            continue;
        }
        let mut asked = good.clone();
        if asked[section].is_null() {
            asked[section] = json!({});
        }
        asked[section][key] = value;
        let place = match section {
            "unified" => format!(r#"resources.unified[\"{key}\"]"#),
            _ => format!("resources.{section}.{key}"),
        };
        update_with(&container, &asked).fails([place.as_str()]);
        assert_eq!(state(&container), before, "{place}");
    }
    update_with(&container, &good).ok();
    assert_eq!(read(&container, PIDS), "70");
}

#[test]
fn a_config_that_cannot_be_stored_takes_the_limits_back() {
    needs::controller("pids");
    let runtime = Runtime::new();
    let container = runtime.start(&limited(&runtime, json!({"pids": {"limit": 50}})));
    // Where the new config is written before it takes the old one's name.
    let blocker = runtime.root().join(&container.id).join(".config.json");
    fs::create_dir(&blocker).unwrap();
    update(&container, ["--pids-limit", "60"]).fails([".config.json", "is a directory"]);
    assert_eq!(read(&container, PIDS), "50");
    assert_eq!(resources(&container)["pids"]["limit"], json!(50));
    fs::remove_dir(&blocker).unwrap();
    update(&container, ["--pids-limit", "60"]).ok();
    assert_eq!(read(&container, PIDS), "60");
    assert!(!blocker.exists());
}

#[test]
fn a_usage_above_the_limit_is_refused_if_asked() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let asked = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}});
    let text = "resources.memory.limit: rejecting memory limit 4096: ";
    update_with(&container, &asked).fails([text]);
    assert_eq!(container.status(), "running");
    assert_eq!(
        read(&container, MEMORY),
        either("9223372036854771712", "max")
    );
    // Once stored, the check holds for later updates, too.
    let asked = json!({"memory": {"limit": 64 << 20, "checkBeforeUpdate": true}});
    update_with(&container, &asked).ok();
    let text = "--memory: rejecting memory limit 8192: ";
    update(&container, ["--memory", "8192"]).fails([text]);
}

#[test]
fn bad_values_are_named() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let before = stored(&container);
    for (flag, value, text) in [
        ("--memory", "lots", "expected bytes such as 64m, or -1"),
        ("--memory", "-2", "expected bytes"),
        (
            "--cpu-period",
            "1",
            "1 is not from 1000 to 1000000 microseconds",
        ),
        ("--cpu-period", "-1", "expected a whole number"),
        ("--cpu-quota", "5", "5 is below 1000 microseconds"),
        ("--cpu-idle", "2", "2 is neither 0 nor 1"),
        ("--cpuset-cpus", "0;1", "is not a list"),
        ("--blkio-weight", "5", "5"),
        ("--pids-limit", "x", "expected a whole number"),
    ] {
        let output = update(&container, [flag, value]);
        output.fails([flag.trim_start_matches('-'), text]);
    }
    let both = ["--memory=64m", "--memory-swap=32m"];
    update(&container, both).fails(["--memory-swap: 33554432 is below limit, 67108864"]);
    if is_v2() {
        update(&container, ["--cpu-rt-runtime", "5"]).fails(["--cpu-rt-runtime", "cgroup v2"]);
    } else {
        update(&container, ["--cpu-share", "1"]).fails(["--cpu-share: 1 is not within"]);
    }
    assert_eq!(stored(&container), before);
}

#[test]
fn old_values_may_stand_in_the_way() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let memory = json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}});
    let container = runtime.start(&limited(&runtime, memory));
    let text = "resources.memory.swap: 100663296 is below limit, 134217728, which it includes \
                (with what the container has already)";
    update(&container, ["--memory", "128m"]).fails([text]);
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let text = "--memory-swap: 67108864 is given without limit";
    update(&container, ["--memory-swap", "64m"]).fails([text]);
}

#[test]
fn block_devices_are_added() {
    needs::controller(either("blkio", "io"));
    let (major, minor) = disk();
    let runtime = Runtime::new();
    let entry = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let old = json!({"blockIO": {"throttleReadBpsDevice": entry(1 << 20)}});
    let container = runtime.start(&limited(&runtime, old));
    let written = json!({"blockIO": {"throttleWriteBpsDevice": entry(2 << 20)}});
    update_with(&container, &written).ok();
    let place = |name| read(&container, (("blkio", name), "io.max"));
    let has = |text: String, v1: u64, key: &str| {
        let (old, new) = (format!("{major}:{minor} {v1}"), format!("{key}={v1}"));
        assert!(text.contains(either(&old, &new)), "{text}");
    };
    has(place("blkio.throttle.read_bps_device"), 1 << 20, "rbps");
    has(place("blkio.throttle.write_bps_device"), 2 << 20, "wbps");
    // The limit of the same device is changed, and restored when a later write fails.
    update_with(
        &container,
        &json!({"blockIO": {"throttleReadBpsDevice": entry(3 << 20)}}),
    )
    .ok();
    has(place("blkio.throttle.read_bps_device"), 3 << 20, "rbps");
    let stored = resources(&container)["blockIO"]["throttleReadBpsDevice"].clone();
    assert_eq!(stored, entry(3 << 20));
    let mut both = entry(4 << 20);
    let unknown = json!({"major": 4000, "minor": 0, "rate": 5});
    both.as_array_mut().unwrap().push(unknown);
    let asked = json!({"blockIO": {"throttleReadBpsDevice": both}});
    update_with(&container, &asked).fails(["resources.blockIO.throttleReadBpsDevice[1]"]);
    has(place("blkio.throttle.read_bps_device"), 3 << 20, "rbps");
}

#[test]
fn compressed_swap_is_bounded() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let bounded = update(&container, ["--memory-zswap", "4m"]);
    if !is_v2() {
        bounded.fails(["resources.unified", "cgroup v1"]);
        return;
    }
    if bounded.code != 0 {
        bounded.fails(["--memory-zswap: ", "this kernel has no such file"]);
        coracle_integration::skip!("this kernel has no memory.zswap.max");
    }
    assert_eq!(read(&container, (("", ""), "memory.zswap.max")), "4194304");
    update(&container, ["--memory-zswap", "-1"]).ok();
    assert_eq!(read(&container, (("", ""), "memory.zswap.max")), "max");
}

#[test]
fn unified_files_are_written() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let asked = json!({"unified": {"memory.high": "50000000", "pids.max": "55"}});
    if !is_v2() {
        update_with(&container, &asked).fails(["resources.unified", "cgroup v1"]);
        return;
    }
    update_with(&container, &asked).ok();
    assert_eq!(read(&container, (("", ""), "memory.high")), "49999872");
    assert_eq!(read(&container, PIDS), "55");
    update_with(&container, &json!({"unified": {"memory.low": "1048576"}})).ok();
    update_with(&container, &json!({"unified": {"cpu.max": "20000 90000"}})).ok();
    update(&container, ["--cpu-period=50000"]).ok();
    assert_eq!(read(&container, QUOTA), "20000 50000");
    let stored = json!({"cpu.max": "20000 90000",
        "memory.high": "50000000", "memory.low": "1048576", "pids.max": "55"});
    assert_eq!(resources(&container)["unified"], stored);
    update_with(&container, &json!({"unified": {"nothing.max": "1"}}))
        .fails([r#"resources.unified[\"nothing.max\"]"#, "nothing"]);
}

/// On a hybrid host the v2 group gets only what a limit of create needs.
#[test]
fn a_controller_that_was_not_handed_down_is_named() {
    let unified = fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers");
    if !unified.is_ok_and(|list| list.contains("hugetlb")) || has_controller("hugetlb") {
        coracle_integration::skip!("no hybrid host with hugetlb in version 2");
    }
    let runtime = Runtime::new();
    let path = format!("/{0}top/leaf", runtime.marker());
    let container = runtime.create(&runtime.bundle().set("/linux/cgroupsPath", json!(path)));
    let asked = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]});
    let group = format!("nor does /sys/fs/cgroup/unified{path}");
    update_with(&container, &asked).fails(["cgroup hugetlb is required", &group]);
}

#[test]
fn created_and_paused_containers_are_updated() {
    needs::controller("pids");
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle().args(["sleep", "1000"]));
    update(&container, ["--pids-limit", "60"]).ok();
    assert_eq!(
        (read(&container, PIDS), container.status()),
        ("60".to_owned(), "created".to_owned())
    );
    container.start().ok();
    container.verb("pause").ok();
    update(&container, ["--pids-limit", "61"]).ok();
    assert_eq!(
        (read(&container, PIDS), container.status()),
        ("61".to_owned(), "paused".to_owned())
    );
    container.verb("resume").ok();
}

#[test]
fn stopped_and_absent_containers_are_not() {
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle().args(["true"]));
    container.exit_code();
    container.wait_for_status("stopped");
    update(&container, ["--pids-limit", "60"]).fails(["container not running"]);
    let absent = runtime.command(["update", "--pids-limit", "60", "absent"]);
    absent
        .output()
        .fails(["update absent: container does not exist"]);
}

#[test]
fn a_container_without_a_group_is_not() {
    let runtime = Runtime::new().options(["--cgroup-manager", "disabled"]);
    let container = runtime.sleeper();
    update(&container, ["--pids-limit", "60"]).fails(["container has no cgroup of its own"]);
}

#[test]
fn exec_and_delete_work_after() {
    needs::controller("pids");
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let container = runtime.start(&bundle.set("/process/env", json!(["PATH=/bin", "A=é\n"])));
    let mut before = stored(&container);
    update(&container, ["--pids-limit", "60"]).ok();
    let after = stored(&container);
    assert_eq!(
        container.exec(["/bin/sh", "-c", "echo $A"]).ok().line(),
        "é"
    );
    before["linux"]["resources"] = json!({"pids": {"limit": 60}});
    assert_eq!(after, before);
    container.delete_by_force().ok();
    runtime.is_clean();
}

/// A device that nobody has: opening it says EPERM if the group denies it, else ENXIO.
fn odd_device(runtime: &Runtime, rules: Value) -> Bundle {
    let device =
        json!({"path": "/dev/odd", "type": "c", "major": 240, "minor": 77, "fileMode": 0o666});
    limited(runtime, json!({"devices": rules})).set("/linux/devices", json!([device]))
}

/// Whether the device may be read in the container, and written.
fn allowed(container: &Container) -> (bool, bool) {
    let open = |how: &str| {
        let output = container.shell(&format!("true {how}/dev/odd"));
        let denied = output.stderr.contains("Operation not permitted");
        assert!(
            denied || output.stderr.contains("No such device"),
            "{output}"
        );
        !denied
    };
    (open("<"), open(">"))
}

/// The host's node is made in the container, or bound into it, and its line added to the filter.
#[test]
fn a_device_comes_and_goes_with_its_node() {
    let runtime = Runtime::new();
    let path = runtime.folder().join("odd");
    let path = path.to_str().unwrap();
    let make = Command::new("mknod").args(["-m", "666", path, "c", "240", "77"]);
    make.output().ok();
    let nothing = json!([{"allow": false, "access": "rwm"}]);
    let bundle = || limited(&runtime, json!({"devices": nothing}));
    for bundle in [bundle(), bundle().user_namespace()] {
        let container = runtime.start(&bundle);
        let update = |flag: &str, value: &str| {
            let command = runtime.command(["update", flag, value]);
            command.arg(&container.id).output()
        };
        let open = |how: &str| container.shell(&format!("true {how}{path}")).stderr;
        update("--device", &format!("{path}:r")).ok();
        let kind = container.shell(&format!("stat -c '%F %t:%T' {path}")).ok();
        assert_eq!(kind.line(), "character special file f0:4d");
        assert!(open("<").contains("No such device"), "{}", open("<"));
        assert!(open(">").contains("not permitted"), "{}", open(">"));
        assert_eq!(resources(&container)["devices"][1]["minor"], 77);
        update("--device", path).ok();
        update("--device-remove", path).ok();
        container.shell(&format!("! ls {path}")).ok();
        assert_eq!(resources(&container)["devices"][1]["allow"], false);
        // The filter would deny the device even if its node were still there.
        update("--device-remove", path).fails(["is no device of linux.devices"]);
        update("--device", "/usr").fails(["is no device of the host"]);
        container.delete_by_force().ok();
        runtime.is_clean();
    }
}

/// A file that stands at the node's path stays, and the filter is restored.
#[test]
fn a_device_takes_no_files_place() {
    let runtime = Runtime::new();
    let path = runtime.folder().join("odd");
    let path = path.to_str().unwrap();
    let make = Command::new("mknod").args([path, "c", "240", "77"]);
    make.output().ok();
    let container = runtime.start(&odd_device(&runtime, rules("w")));
    let before = resources(&container);
    let script = format!("mkdir -p {path} && rmdir {path} && echo text >{path}");
    container.shell(&script).ok();
    let update = runtime.command(["update", "--device", path, &container.id]);
    let taken = "make device ";
    update
        .output()
        .fails([taken, "a file that is not this device is there already"]);
    assert_eq!(container.shell(&format!("cat {path}")).line(), "text");
    assert_eq!(resources(&container), before);
    assert_eq!(allowed(&container), (false, true));
}

fn rules(access: &str) -> Value {
    let one = json!({"allow": true, "type": "c", "major": 240, "minor": 77, "access": access});
    json!([{"allow": false, "access": "rwm"}, one])
}

#[test]
fn devices_are_allowed_and_denied_in_a_living_container() {
    let runtime = Runtime::new();
    let nothing = json!([{"allow": false, "access": "rwm"}]);
    let container = runtime.start(&odd_device(&runtime, nothing));
    assert_eq!(allowed(&container), (false, false));
    let everything = json!([{"allow": true, "access": "rwm"}]);
    // The list has another rule as well, so that it is no bare denial.
    let other = json!([{"allow": true, "type": "c", "major": 241, "minor": 1, "access": "r"}]);
    for (list, expected) in [
        (rules("rw"), (true, true)),
        (rules("r"), (true, false)),
        (other.clone(), (false, false)),
        (rules("w"), (false, true)),
        (everything, (true, true)),
        (other, (false, false)),
    ] {
        update_with(&container, &json!({"devices": list})).ok();
        assert_eq!(allowed(&container), expected, "{list}");
        assert_eq!(resources(&container)["devices"], list);
        container.shell("true </dev/zero && true >/dev/null").ok();
    }
    let bad = json!({"devices": [{"allow": true, "access": "x"}]});
    update_with(&container, &bad).fails(["resources.devices[0].access"]);
    assert_eq!(allowed(&container), (false, false));
}

#[test]
fn a_device_that_stays_allowed_is_never_denied() {
    let runtime = Runtime::new();
    let script = "while true; do true </dev/odd; done 2>&1 | grep -m1 permitted";
    let container = runtime.start(&odd_device(&runtime, rules("r")));
    let loops = container
        .exec_command([], ["/bin/sh", "-c", script])
        .spawn();
    for _ in 0..20 {
        update_with(&container, &json!({"devices": rules("rw")})).ok();
        update_with(&container, &json!({"devices": rules("r")})).ok();
    }
    assert_eq!(loops.stdout.text(), "");
    container.kill("KILL").ok();
    loops.wait();
}

#[test]
fn the_bare_denial_of_devices_says_nothing() {
    let runtime = Runtime::new();
    let container = runtime.start(&odd_device(&runtime, rules("r")));
    let bare = json!([{"allow": false, "access": "rwm"}]);
    for list in [bare, json!([]), json!(null), rules("r")] {
        update_with(&container, &json!({"devices": list})).ok();
        assert_eq!(allowed(&container), (true, false));
        assert_eq!(resources(&container)["devices"], rules("r"));
    }
}

#[test]
fn devices_are_taken_back_with_the_rest() {
    let runtime = Runtime::new();
    let container = runtime.start(&odd_device(&runtime, rules("r")));
    let blocker = runtime.root().join(&container.id).join(".config.json");
    fs::create_dir(&blocker).unwrap();
    for list in [rules("w"), json!([{"allow": true, "access": "rwm"}])] {
        update_with(&container, &json!({"devices": list})).fails([".config.json"]);
        assert_eq!(allowed(&container), (true, false), "{list}");
    }
    fs::remove_dir(&blocker).unwrap();
}

/// The kernel refuses a change of version 1's device rules while there are groups below.
#[test]
fn device_groups_below_keep_the_verdict() {
    needs::version_1();
    needs::controller("devices");
    let runtime = Runtime::new();
    let bundle = odd_device(&runtime, rules("r")).new_namespace("cgroup");
    let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", []);
    let script = "mkdir /sys/fs/cgroup/devices/below && echo made; sleep 1000";
    let container = runtime.start(&bundle.shell(script));
    container.wait_for("made");
    let all = json!({"devices": [{"allow": true, "access": "rwm"}]});
    let output = update_with(&container, &all).fails(["EINVAL", "device cgroups below"]);
    assert!(!output.stderr.contains("taken back"), "{output}");
    assert_eq!(allowed(&container), (true, false));
}

/// Attaches a program that allows everything to the group at argv[1], without a name, and prints
/// how many there are then: bpf(2).
const ATTACH: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, attributes):
    memory = ctypes.create_string_buffer(attributes, len(attributes))
    answer = libc.syscall(321, command, memory, len(attributes))
    if answer < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    return answer, memory.raw
group = os.open(sys.argv[1], os.O_RDONLY)
if len(sys.argv) > 2:
    code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xb7, 0, 0, 1, 0x95, 0, 0, 0))
    text = ctypes.create_string_buffer(b"GPL")
    load = struct.pack("<IIQQIIQII", 15, 2, ctypes.addressof(code), ctypes.addressof(text), 0, 0, 0, 0, 0)
    program, _ = bpf(5, load)
    bpf(8, struct.pack("<IIIII", group, program, 6, 2, 0))
ids = ctypes.create_string_buffer(256)
_, raw = bpf(16, struct.pack("<IIIIQII", group, 6, 0, 0, ctypes.addressof(ids), 64, 0))
print(struct.unpack("<IIIIQII", raw)[5])
"#;

#[test]
fn programs_of_others_stay() {
    needs::version_2();
    needs::program("python3");
    let runtime = Runtime::new();
    let container = runtime.start(&odd_device(&runtime, rules("r")));
    let group = container.control_file(("", ""), "");
    let count = |more: &[&str]| {
        let command = Command::new("python3").args(["-c", ATTACH]).arg(&group);
        command.args(more).output().ok().line().to_owned()
    };
    assert_eq!(count(&[]), "1");
    assert_eq!(count(&["attach"]), "2");
    for _ in 0..3 {
        update_with(&container, &json!({"devices": rules("rw")})).ok();
        assert_eq!(
            (allowed(&container), count(&[]).as_str()),
            ((true, true), "2")
        );
        update_with(&container, &json!({"devices": rules("r")})).ok();
        assert_eq!(
            (allowed(&container), count(&[]).as_str()),
            ((true, false), "2")
        );
    }
    update_with(
        &container,
        &json!({"devices": [{"allow": true, "access": "rwm"}]}),
    )
    .ok();
    assert_eq!(count(&[]), "1");
    update_with(&container, &json!({"devices": rules("r")})).ok();
    assert_eq!(
        (allowed(&container), count(&[]).as_str()),
        ((true, false), "2")
    );
}

#[test]
fn schemata_need_a_group() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    for flag in ["--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=20"] {
        update(&container, [flag]).fails(["linux.intelRdt", "resctrl"]);
    }
    assert_eq!(stored(&container)["linux"]["intelRdt"], json!(null));
}
