//! `explain`: the plan of a bundle, for everybody, with no effect.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

/// The steps that `run` logs when they are done are those of `explain` with the same flags, in the
/// same order.
#[test]
fn every_flag_of_run_is_explained() {
    for (global, flags, variable, part) in [
        (&[][..], &[][..], "", "pivot_root"),
        (&[], &["--no-pivot"], "", "move the root over / and chroot"),
        (&[], &["--no-new-keyring"], "", ""),
        (&[], &["--preserve-fds=2"], "", "2 descriptors"),
        (&[], &["--network=none"], "", "bring up loopback"),
        (&[], &["--network=host"], "", ""),
        (&[], &[], "NOTIFY_SOCKET", "on /run/notify"),
        (&[], &[], "LISTEN_FDS", ""),
        (&["--cgroup-manager=disabled"], &[], "", ""),
        (&["--rootless=true"], &[], "", ""),
    ] {
        let runtime = Runtime::new();
        let (log, id) = (runtime.folder().join("log"), runtime.id());
        let bundle = runtime.bundle().args(["true"]);
        let bundle = bundle.set("/linux/resources", json!({"pids": {"limit": 123}}));
        bundle.write();
        let command = |verb: &str| {
            let command = runtime
                .command(global)
                .arg("--debug")
                .arg("--log")
                .arg(&log);
            let command = command.arg("--log-format=json").arg(verb).args(flags);
            let command = command.arg("--bundle").arg(&bundle.dir);
            let command = match variable {
                "" => command,
                name => command.env(name, "1"),
            };
            command.after("exec 3</etc 4</etc")
        };
        let explained = command("explain").arg("--json").output().ok().stdout;
        let explained: Value = explained.parse().unwrap();
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
        fs::remove_file(&log).unwrap();
        command("run").arg(&id).output().ok();
        let text = fs::read_to_string(&log).unwrap().replace(&id, "ID");
        let records = text.lines().map(|line| line.parse::<Value>().unwrap());
        let logged = records.map(|record| record["msg"].as_str().unwrap().to_owned());
        let is_step = |line: &String| line.starts_with("init: ") || line.starts_with("runtime: ");
        let done: Vec<_> = logged.filter(is_step).collect();
        assert_eq!(explained, done, "{global:?} {flags:?} {variable}");
        let is_named = explained.iter().any(|step| step.contains(part));
        assert!(is_named, "no {part} in {explained:#?}");
    }
}
