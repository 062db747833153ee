//! `events`: statistics in runc's shape, and out-of-memory events.

use std::fs;
use std::path::Path;

use coracle_integration::{
    Command, Container, Running, Runtime, Value, has_controller, is_v2, json, machine, needs,
    program, status_field, wait_until,
};
use nix::sys::signal::Signal;

/// The data of `events --stats`.
#[track_caller]
fn sample(container: &Container) -> Value {
    let command = ["events", "--stats", &container.id];
    let output = container.runtime.command(command).output().ok();
    assert_eq!(output.stdout.lines().count(), 1, "{output}");
    let line: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(line["type"], json!("stats"));
    assert_eq!(line["id"], json!(container.id));
    assert_eq!(line.as_object().unwrap().len(), 3);
    line["data"].clone()
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// What a person at a terminal sees; a pipe gets JSON.
#[test]
fn a_table_is_for_people() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let events = runtime.command(["events", "--stats", "--format", "table", &container.id]);
    let table = events.output().ok().stdout;
    let lines: Vec<Vec<_>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    let header = ["TIME", "CPU", "MEMORY", "LIMIT", "PIDS", "READ", "WRITTEN"];
    assert_eq!(
        (lines.len(), lines[0].as_slice()),
        (2, &header[..]),
        "{table}"
    );
    assert!(table.lines().nth(1).unwrap().contains(" s   "), "{table}");
    let script = format!(
        "exec script -qec '{} --root {} events --stats {}' /dev/null",
        program().display(),
        runtime.root().display(),
        container.id
    );
    needs::program("script");
    let output = Command::new("sh").args(["-c", &script]).output().ok();
    assert!(output.stdout.starts_with("TIME "), "{output}");
}

#[test]
fn one_sample_has_runcs_shape() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let data = sample(&container);
    let top = [
        "blkio",
        "cpu",
        "cpuset",
        "hugetlb",
        "intel_rdt",
        "memory",
        "network_interfaces",
        "pids",
    ];
    assert_eq!(keys(&data), top);
    assert_eq!(data["network_interfaces"], json!(null));
    assert_eq!(data["intel_rdt"], json!({}));
    for key in ["kernel", "user"] {
        assert!(data["cpu"]["usage"][key].is_u64(), "{data}");
    }
    assert!(data["cpu"]["throttling"].is_object());
    for name in ["kernel", "kernelTCP", "swap", "usage"] {
        for key in ["failcnt", "limit"] {
            assert!(data["memory"][name][key].is_u64(), "{name} {key}: {data}");
        }
    }
    let cpuset = [
        "cpu_exclusive",
        "mem_exclusive",
        "mem_hardwall",
        "memory_migrate",
        "memory_pressure",
        "memory_spread_page",
        "memory_spread_slab",
        "sched_load_balance",
        "sched_relax_domain_level",
    ];
    let found = keys(&data["cpuset"]);
    assert!(cpuset.iter().all(|key| found.contains(key)), "{found:?}");
    for pages in data["hugetlb"].as_object().unwrap().values() {
        assert!(pages["failcnt"].is_u64(), "{data}");
    }
}

#[test]
fn numbers_are_the_kernels() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let limits = json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}, "pids": {"limit": 50},
        "cpu": {"quota": 20000, "period": 100_000}});
    let script = "dd if=/dev/zero of=/tmp/x bs=1M count=2 2>/dev/null; i=0; \
                  while [ $i -lt 30000 ]; do i=$((i+1)); done; sleep 1000 & echo ready; wait";
    let bundle = runtime
        .bundle()
        .shell(script)
        .set("/linux/resources", limits);
    let container = runtime.start(&bundle);
    container.wait_for("ready");
    let data = sample(&container);
    assert_eq!(data["pids"], json!({"current": 2, "limit": 50}));
    let memory = &data["memory"];
    assert_eq!(memory["usage"]["limit"], json!(64 << 20));
    assert_eq!(memory["swap"]["limit"], json!(96 << 20));
    assert!(
        memory["usage"]["usage"].as_u64().unwrap() > 2 << 20,
        "{memory}"
    );
    assert!(
        memory["swap"]["usage"].as_u64() >= memory["usage"]["usage"].as_u64(),
        "{memory}"
    );
    assert!(memory["cache"].as_u64().unwrap() >= 2 << 20, "{memory}");
    assert!(
        memory["raw"][if is_v2() { "file" } else { "total_cache" }].is_u64(),
        "{memory}"
    );
    let cpu = &data["cpu"];
    assert!(cpu["usage"]["total"].as_u64().unwrap() > 1_000_000, "{cpu}");
    assert!(cpu["throttling"]["periods"].as_u64().unwrap() > 0, "{cpu}");
    let unlimited = runtime.sleeper();
    let data = sample(&unlimited);
    let none = if is_v2() {
        u64::MAX
    } else {
        9_223_372_036_854_771_712
    };
    assert_eq!(data["memory"]["usage"]["limit"], json!(none));
    assert_eq!(data["memory"]["swap"]["limit"], json!(none));
    assert_eq!(data["pids"], json!({"current": 1}));
    if !is_v2() {
        let online = data["cpu"]["usage"]["percpu"].as_array().unwrap().len();
        assert_eq!(
            online,
            data["cpu"]["usage"]["percpu_user"]
                .as_array()
                .unwrap()
                .len()
        );
        assert_eq!(data["cpuset"]["cpus"][0], json!(0));
    }
}

#[test]
fn version_2_has_pressure_and_a_peak() {
    needs::version_2();
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let data = sample(&container);
    if machine().kernel >= (5, 19) && has_controller("memory") {
        let (max, usage) = (
            &data["memory"]["usage"]["max"],
            &data["memory"]["usage"]["usage"],
        );
        assert!(max.as_u64() >= usage.as_u64(), "{data}");
    }
    if !Path::new("/proc/pressure/cpu").exists() {
        assert_eq!(data["cpu"].get("psi"), None);
        coracle_integration::skip!("this kernel has no pressure information");
    }
    for name in ["cpu", "memory", "blkio"] {
        let psi = &data[name]["psi"];
        for half in ["some", "full"] {
            assert!(
                psi[half]["avg10"].is_f64() && psi[half]["total"].is_u64(),
                "{name}: {psi}"
            );
        }
    }
}

fn kinds(text: &str) -> Vec<String> {
    let kind = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["type"].as_str().unwrap().to_owned()
    };
    text.lines().map(kind).collect()
}

#[test]
fn samples_come_at_intervals_until_the_end() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let command = ["events", "--interval", "50ms", &container.id];
    let events = runtime.command(command).spawn();
    wait_until("three samples", || kinds(&events.stdout.text()).len() >= 3);
    container.kill("KILL").ok();
    let output = events.wait().ok();
    // How it ended is among the events where the kernel reports it.
    let kinds = kinds(&output.stdout);
    let samples = kinds.strip_suffix(&["exit".to_owned()]);
    let samples = samples.unwrap_or(&kinds);
    assert!(samples.iter().all(|kind| kind == "stats"), "{output}");
    assert_eq!(output.stderr, "");
}

#[test]
fn running_out_of_memory_is_told() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let limits = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let container = runtime.start(&bundle.set("/linux/resources", limits));
    let events = runtime
        .command(["events", "--interval=1h", &container.id])
        .spawn();
    // It listens once it holds the file; an event before that would not be received.
    let file = if is_v2() {
        "memory.events"
    } else {
        "[eventfd]"
    };
    wait_until("the listening", || holds(&events, file));
    assert_eq!(container.exec(["tail", "/dev/zero"]).code, 137);
    let line = format!("{{\"type\":\"oom\",\"id\":\"{}\"}}\n", container.id);
    wait_until("the event", || events.stdout.text().starts_with(&line));
    assert_eq!(container.status(), "running");
    container.kill("KILL").ok();
    events.wait().ok();
}

/// Whether a process has a file of this name open.
fn holds(running: &coracle_integration::Running, name: &str) -> bool {
    let open = fs::read_dir(format!("/proc/{}/fd", running.pid))
        .into_iter()
        .flatten()
        .flatten();
    let mut targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| target.to_string_lossy().contains(name))
}

#[test]
fn an_init_out_of_memory_is_told_before_its_end() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let limits = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let bundle = runtime.bundle().args(["tail", "/dev/zero"]);
    let container = runtime.create(&bundle.set("/linux/resources", limits));
    let events = runtime
        .command(["events", "--interval=1h", &container.id])
        .spawn();
    let file = if is_v2() {
        "memory.events"
    } else {
        "[eventfd]"
    };
    wait_until("the listening", || holds(&events, file));
    container.start();
    let output = events.wait().ok();
    assert!(
        kinds(&output.stdout).contains(&"oom".to_owned()),
        "{output}"
    );
}

#[test]
fn a_paused_container_tells() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    container.verb("pause").ok();
    sample(&container);
    container.verb("resume").ok();
    let created = runtime.create(&runtime.bundle());
    sample(&created);
}

/// `events`, which has printed something.
fn listener(runtime: &Runtime, container: &Container) -> Running {
    let events = runtime
        .command(["events", "--interval=20ms", &container.id])
        .spawn();
    wait_until("a sample", || !events.stdout.text().is_empty());
    events
}

#[test]
fn a_deleted_container_ends_the_listening() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let events = listener(&runtime, &container);
    container.delete_by_force().ok();
    assert_eq!(events.wait().ok().stderr, "");
}

/// Version 1 wakes the listener for the removal of the group, too.
#[test]
fn a_deleted_container_was_not_out_of_memory() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let events = listener(&runtime, &container);
    events.signal(Signal::SIGSTOP);
    wait_until("a late listener", || {
        status_field(events.pid, "State").starts_with('T')
    });
    container.delete_by_force().ok();
    // The kernel takes its time to report it, but not that long.
    runtime.run(&runtime.bundle()).ok();
    events.signal(Signal::SIGCONT);
    let output = events.wait().ok();
    assert!(!output.stdout.contains("\"oom\""), "{output}");
}

#[test]
fn a_reader_that_goes_away_ends_the_listening() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let (reader, writer) = std::io::pipe().unwrap();
    let command = runtime.command(["events", "--interval=20ms", &container.id]);
    let events = command.stdout(writer).spawn();
    drop(reader);
    events.wait().ok();
}

#[test]
fn stopped_and_absent_containers_are_refused() {
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle().args(["true"]));
    container.exit_code();
    container.wait_for_status("stopped");
    let text = format!("container with id {} is not running", container.id);
    for flag in ["--stats", "--interval=1s"] {
        let output = runtime.command(["events", flag, &container.id]).output();
        let output = output.fails([text.as_str()]);
        assert_eq!(output.stdout, "");
    }
    let absent = runtime.command(["events", "--stats", "absent"]).output();
    absent.fails(["events absent: container does not exist"]);
    runtime
        .command(["events", "--interval=0s", &container.id])
        .output()
        .fails(["interval"]);
}

#[test]
fn a_container_without_a_group_is_refused() {
    let runtime = Runtime::new().options(["--cgroup-manager", "disabled"]);
    let container = runtime.sleeper();
    let output = runtime
        .command(["events", "--stats", &container.id])
        .output();
    output.fails(["container has no cgroup of its own"]);
}
