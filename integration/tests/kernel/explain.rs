//! `explain`: the plan of a bundle, for everybody, with no effect.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coracle_integration::Receiver;
use coracle_integration::{Bundle, Runtime, Value, json, needs};

fn bundle(runtime: &Runtime) -> Bundle {
    runtime
        .bundle()
        .mount("/mnt/there", "tmpfs", "tmpfs", ["noexec", "size=1m"])
        .hook("createRuntime", json!({"path": "/bin/hook-of-runtime"}))
        .hook("startContainer", json!({"path": "/bin/hook-inside"}))
        .set("/hostname", json!("named-host"))
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
        .set("/linux/resources", json!({"pids": {"limit": 123}}))
        .args(["/bin/some-program", "argument"])
}

fn explain(runtime: &Runtime, bundle: &Bundle) -> String {
    let command = runtime.bare().arg("explain").arg(&bundle.write().dir);
    let output = command.output().ok();
    assert_eq!(output.stderr, "");
    output.stdout
}

#[test]
fn the_plan_names_what_the_config_asks_for() {
    let runtime = Runtime::new();
    let text = explain(&runtime, &bundle(&runtime));
    for part in [
        "/mnt/there",
        "noexec",
        "size=1m",
        "/bin/hook-of-runtime",
        "/bin/hook-inside",
        "named-host",
        "net.ipv4.ip_forward",
        "/proc/kcore",
        "/bin/some-program",
        "123",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

#[track_caller]
fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let Some(at) = rest.find(part) else {
            panic!("no {part} where it belongs in\n{text}")
        };
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn stages_are_in_the_order_of_the_life() {
    let runtime = Runtime::new();
    let text = explain(&runtime, &bundle(&runtime));
    in_order(
        &text,
        &[
            "make cgroup",
            "namespaces",
            "on /proc",
            "on /dev",
            "on /dev/pts",
            "/mnt/there",
        ],
    );
    in_order(
        &text,
        &[
            "/mnt/there",
            "/bin/hook-of-runtime",
            "pivot_root",
            "named-host",
        ],
    );
    in_order(
        &text,
        &[
            "named-host",
            "/bin/hook-inside",
            "execute /bin/some-program",
        ],
    );
}

#[test]
fn the_plan_is_json_too() {
    let runtime = Runtime::new();
    let bundle = bundle(&runtime);
    let text = explain(&runtime, &bundle);
    let command = runtime
        .bare()
        .args(["explain", "--format", "json"])
        .arg(&bundle.dir);
    let value: Value = command.output().ok().stdout.parse().unwrap();
    let stages = value["stages"].as_array().expect("stages");
    assert!(!stages.is_empty());
    for stage in stages {
        for step in stage["steps"].as_array().expect("steps") {
            let step = step.as_str().expect("a text");
            assert!(text.contains(step), "{step} is not in the text");
        }
    }
}

#[test]
fn no_privilege_is_needed() {
    let runtime = Runtime::for_user(1234);
    let map = json!([{"containerID": 0, "hostID": 1234, "size": 1}]);
    let bundle = runtime
        .bundle()
        .mount("/mnt/there", "tmpfs", "tmpfs", [])
        .new_namespace("user");
    let bundle = bundle
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    let output = runtime
        .bare()
        .arg("explain")
        .arg(&bundle.write().dir)
        .output()
        .ok();
    assert!(output.stdout.contains("/mnt/there"), "{output}");
}

/// Every file below a folder with its size and time of change.
fn listing(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, u32)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let data = entry.metadata().unwrap();
        if data.is_dir() {
            found.extend(listing(&path));
        }
        found.insert(path, (data.size(), data.mtime(), data.ctime(), data.mode()));
    }
    found
}

#[test]
fn nothing_is_touched() {
    let runtime = Runtime::new();
    let bundle = bundle(&runtime);
    bundle.write();
    let before = listing(runtime.folder().path());
    let command = runtime
        .bare()
        .arg("--root")
        .arg(runtime.root())
        .arg("explain");
    command.arg(&bundle.dir).output().ok();
    assert_eq!(listing(runtime.folder().path()), before);
    runtime.is_clean();
}

#[test]
fn no_call_changes_the_machine() {
    needs::program("strace");
    let runtime = Runtime::new();
    let (bundle, trace) = (bundle(&runtime), runtime.folder().join("trace"));
    let calls = "mount,umount2,pivot_root,open_tree,move_mount,fsopen,fsmount,mount_setattr,\
                 clone,clone3,fork,vfork,unshare,setns,mkdir,mkdirat,unlink,unlinkat,rename,\
                 renameat,renameat2,mknodat,chown,fchownat,fchown,chmod,fchmod,fchmodat,\
                 sethostname,setrlimit,bpf,kill,symlinkat,linkat,truncate,ftruncate,socket,\
                 execve,openat,open,creat";
    let command = runtime.bare().arg("explain").arg(&bundle.write().dir);
    let strace = [
        "-f",
        "-o",
        trace.to_str().unwrap(),
        "-e",
        &format!("trace={calls}"),
    ]
    .map(str::to_owned);
    command.under("strace", strace).output().ok();
    for line in fs::read_to_string(trace).unwrap().lines() {
        let is_reading = line.contains("O_RDONLY") || line.contains("O_PATH");
        let is_start = line.contains("execve(") || line.contains("+++ exited");
        assert!(
            is_start || is_reading && !line.contains("O_CREAT"),
            "{line}"
        );
    }
}

#[test]
fn it_refuses_what_create_refuses() {
    let runtime = Runtime::new();
    for bundle in [
        runtime.bundle().set("/ociVersion", json!("2.0.0")),
        runtime.bundle().set("/process/cwd", json!("relative")),
        runtime
            .bundle()
            .set("/linux/namespaces/0/type", json!("nothing")),
        runtime
            .bundle()
            .hook("prestart", json!({"path": "relative"})),
        runtime
            .bundle()
            .set("/linux/resources", json!({"pids": {"limit": "x"}})),
        runtime.bundle().mount("", "tmpfs", "tmpfs", []),
    ] {
        let create = runtime.try_create(&bundle).fails([]);
        let explain = runtime
            .bare()
            .arg("explain")
            .arg(&bundle.dir)
            .output()
            .fails([]);
        let message = |text: &str| {
            text.split_once("config.json: ")
                .map(|(_, rest)| rest.to_owned())
        };
        let (one, two) = (message(&create.stderr), message(&explain.stderr));
        assert!(one.is_some() && one == two, "{create}\n{explain}");
    }
}

#[test]
fn the_bundle_is_named_in_three_ways() {
    let runtime = Runtime::new();
    let bundle = bundle(&runtime);
    let expected = explain(&runtime, &bundle);
    let by_flag = runtime
        .bare()
        .args(["explain", "--bundle"])
        .arg(&bundle.dir)
        .output()
        .ok();
    assert_eq!(by_flag.stdout, expected);
    let here = runtime
        .bare()
        .arg("explain")
        .folder(&bundle.dir)
        .output()
        .ok();
    assert_eq!(here.stdout, expected);
}

#[test]
fn the_same_bundle_has_the_same_plan() {
    let runtime = Runtime::new();
    let bundle = bundle(&runtime);
    assert_eq!(explain(&runtime, &bundle), explain(&runtime, &bundle));
}

/// One way to use flags of `run`, and a step that it leads to.
#[derive(Clone, Copy, Default)]
struct Row {
    global: &'static [&'static str],
    flags: &'static [&'static str],
    /// Of `run` alone: `explain` does not know them.
    of_run: &'static [&'static str],
    variable: &'static str,
    /// With a user namespace and maps of 65,536 ids.
    is_mapped: bool,
    step: &'static str,
}

impl Row {
    const fn new(flags: &'static [&'static str], step: &'static str) -> Self {
        Self {
            global: &[],
            flags,
            of_run: &[],
            variable: "",
            is_mapped: false,
            step,
        }
    }

    const fn global(global: &'static [&'static str], step: &'static str) -> Self {
        let row = Self::new(&[], step);
        Self { global, ..row }
    }

    const fn of_run(of_run: &'static [&'static str]) -> Self {
        let row = Self::new(&[], "");
        Self { of_run, ..row }
    }

    const fn variable(variable: &'static str, step: &'static str) -> Self {
        let row = Self::new(&[], step);
        Self { variable, ..row }
    }
}

/// Each flag of `run`, and each global one, in at least one row. `FOLDER` is the test's own.
const ROWS: &[Row] = &[
    Row::new(&["--bundle=FOLDER/BUNDLE"], "pivot_root"),
    Row::new(&["--config=FOLDER/BUNDLE/config.json"], ""),
    Row::new(&["--no-pivot"], "move the root over / and chroot"),
    Row::new(&["--no-new-keyring"], ""),
    // Root needs none: see the module `rootless` for users.
    Row::new(&["--userns=auto"], ""),
    Row::new(&["--preserve-fds=2"], "2 descriptors"),
    Row::new(&["--network=none"], "bring up loopback"),
    Row::new(&["--network=host"], ""),
    Row::new(&["--network=n", "--publish=127.0.0.1:4711:80"], "4711"),
    Row::new(&["--network=n", "--ip=10.7.0.9"], "10.7.0.9"),
    Row::new(
        &["--network=n", "--mac=02:00:00:00:00:07"],
        "02:00:00:00:00:07",
    ),
    Row::new(&["--network=n", "--dns=10.7.0.53"], "10.7.0.53"),
    Row::new(
        &["--network=n", "--bandwidth=ingressRate=8000000"],
        "8000000",
    ),
    Row::new(&["--network=n", "--network-files"], "on /etc/resolv.conf"),
    Row::new(&["--network=n", "--cni-timeout=7"], ""),
    Row::new(
        &[
            "--network=n",
            "--cni-conf-dir=FOLDER/conf",
            "--cni-bin-dir=FOLDER/bin",
        ],
        "",
    ),
    Row::new(&["--network=absent"], ""),
    Row::new(&["--console-socket=FOLDER/console"], "terminal"),
    Row::new(&["--pidfd-socket=FOLDER/pidfd"], ""),
    Row::new(&["--pid-file=FOLDER/pid"], ""),
    Row::of_run(&["--detach"]),
    Row::of_run(&["--keep"]),
    Row::of_run(&["--detach", "--keep-exit"]),
    Row::of_run(&["--no-subreaper"]),
    Row::variable("NOTIFY_SOCKET", "on /run/notify"),
    Row::variable("LISTEN_FDS", ""),
    Row {
        is_mapped: true,
        ..Row::new(&[], "65536")
    },
    Row::global(&["--cgroup-manager=disabled"], ""),
    Row::global(&["--systemd-cgroup"], ""),
    Row::global(&["--rootless=true"], ""),
    Row::global(&["--root=FOLDER/root"], ""),
    Row::global(&["--debug", "--log=FOLDER/log", "--log-format=json"], ""),
    Row::global(&["--log-level=debug"], ""),
];

/// A flag that is new has no row yet.
#[test]
fn every_flag_of_run_has_a_row() {
    let runtime = Runtime::new();
    let help = |words: &[&str]| runtime.bare().args(words).output().ok().stdout;
    let text = help(&["--help"]) + &help(&["run", "--help"]);
    let flag = |line: &str| {
        let (_, flag) = line.strip_prefix("  ")?.split_once("--")?;
        Some(flag.split_whitespace().next()?.to_owned())
    };
    let listed: Vec<String> = text.lines().filter_map(flag).collect();
    assert!(listed.len() > 20, "{text}");
    let tried: Vec<&str> = ROWS
        .iter()
        .flat_map(|row| row.global.iter().chain(row.flags).chain(row.of_run))
        .filter_map(|flag| flag.trim_start_matches("--").split('=').next())
        .collect();
    // With `--trace` each line of the log has its time as well: see the module `timeline`.
    let others = ["help", "version", "trace"];
    for flag in listed.iter().map(String::as_str) {
        let is_known = others.contains(&flag) || tried.contains(&flag);
        assert!(is_known, "--{flag} has no row");
    }
}

/// The steps that `run` logs when they are done are those of `explain` with the same flags, in the
/// same order; what one refuses, the other refuses with the same words. What plugins receive is
/// not logged: they write it down.
#[test]
fn every_flag_of_run_is_explained() {
    ROWS.iter().for_each(is_explained);
}

fn is_explained(row: &Row) {
    let runtime = Runtime::new();
    let folder = runtime.folder();
    for name in ["conf", "bin", "BUNDLE"] {
        folder.folder(name);
    }
    let capabilities = json!({"portMappings": true, "ips": true, "mac": true, "dns": true,
        "bandwidth": true});
    let network = json!({"cniVersion": "1.1.0", "name": "n",
        "plugins": [{"type": "p", "capabilities": capabilities}]});
    folder.file("conf/n.conflist", &network.to_string());
    let script = format!(
        "#!/bin/sh\ncat >>{}\n[ $CNI_COMMAND != ADD ] || echo '{}'",
        folder.join("received").display(),
        r#"{"cniVersion":"1.1.0","ips":[{"address":"10.7.0.2/24"}]}"#
    );
    folder.script("bin/p", &script);
    let sockets = ["console", "pidfd"].map(|name| Receiver::new(&folder.join(name)));
    let id = runtime.id();
    let has_console = row.flags.iter().any(|flag| flag.starts_with("--console"));
    let bundle = runtime
        .bundle()
        .args(["true"])
        .set("/linux/resources", json!({"pids": {"limit": 123}}))
        .set("/process/terminal", json!(has_console));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let bundle = match row.is_mapped {
        true => bundle
            .new_namespace("user")
            .set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map),
        false => bundle,
    };
    bundle.write();
    for name in ["config.json", "rootfs"] {
        let link = folder.join("BUNDLE").join(name);
        std::os::unix::fs::symlink(bundle.dir.join(name), link).unwrap();
    }
    let own = |flag: &&str| flag.replace("FOLDER", folder.path().to_str().unwrap());
    let log = folder.join("log");
    let command = |verb: &str| {
        let command = runtime.command(row.global.iter().map(own));
        let command = command.arg("--debug").arg("--log").arg(&log);
        let command = command.arg("--log-format=json").arg(verb);
        let command = command.arg("--bundle").arg(&bundle.dir);
        let command = command.args([own(&"--cni-conf-dir=FOLDER/conf")]);
        let command = command.args([own(&"--cni-bin-dir=FOLDER/bin")]);
        let command = command.args(row.flags.iter().map(own));
        match row.variable {
            "" => command,
            name => command.env(name, "1"),
        }
    };
    let explain = command("explain")
        .arg("--json")
        .after("exec 3</etc 4</etc")
        .output();
    let _ = fs::remove_file(&log);
    let mut run = command("run").args(row.of_run);
    if has_console {
        run = run.arg("--detach");
    }
    let run = run.arg(&id).after("exec 3</etc 4</etc").output();
    drop(sockets);
    let logged = fs::read_to_string(&log)
        .unwrap_or_default()
        .replace(&id, "ID");
    let records = logged.lines().map(|line| line.parse::<Value>().unwrap());
    let messages: Vec<String> = records
        .map(|record| record["msg"].as_str().unwrap().to_owned())
        .collect();
    if explain.code != 0 {
        let reason = run.stderr.replace(&format!("run {id}: "), "");
        assert_ne!(run.code, 0, "{explain}{run}");
        assert_eq!(explain.stderr, reason, "{explain}{run}");
        return;
    }
    runtime.command(["delete", "--force", &id]).output();
    let explained: Value = explain.stdout.parse().unwrap();
    let lines = |stage: &Value| -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let about = format!("{}: {}", text(&stage["actor"]), text(&stage["name"]));
        let steps = stage["steps"].as_array().unwrap().iter();
        steps
            .map(|step| format!("{about}: {}", text(step)))
            .collect()
    };
    let stages = explained["stages"].as_array().unwrap();
    let explained: Vec<_> = stages.iter().flat_map(lines).collect();
    let is_of_network = |line: &&String| line.starts_with("runtime: network: ");
    let is_step = |line: &&String| line.starts_with("init: ") || line.starts_with("runtime: ");
    let expected: Vec<_> = explained
        .iter()
        .filter(|line| !is_of_network(line))
        .collect();
    let done: Vec<_> = messages.iter().filter(is_step).collect();
    assert_eq!(expected, done, "{run}");
    let named = explained.iter().find(|step| step.contains(row.step));
    assert!(named.is_some(), "no {} in {explained:#?}", row.step);
    if named.filter(is_of_network).is_some() && !row.step.is_empty() {
        let received = fs::read_to_string(folder.join("received")).unwrap_or_default();
        assert!(received.contains(row.step), "no {} in {received}", row.step);
    }
}
