//! How a container ended, as `state`, `list` and `events` tell it.

use std::fs;

use coracle_integration::runner::patience;
use coracle_integration::{Bundle, Runtime, Value, json, needs, wait_until};

/// `ended` of a container that has stopped.
fn ended(runtime: &Runtime, id: &str) -> Value {
    let state = || -> Value {
        let output = runtime.command(["state", id]).output().ok();
        serde_json::from_str(&output.stdout).unwrap()
    };
    wait_until("its end", || state()["status"] == "stopped");
    let mut ended = Value::Null;
    wait_until("its record", || {
        ended = state()["ended"].clone();
        !ended.is_null()
    });
    ended
}

/// The same once a keeper has recorded it. Before, the zombie may tell it, without the time.
fn recorded(runtime: &Runtime, id: &str) -> Value {
    wait_until("its keeper's record", || {
        ended(runtime, id)["at"].is_string()
    });
    ended(runtime, id)
}

/// A detached container with a keeper, after the command has returned.
fn kept(runtime: &Runtime, bundle: &Bundle) -> String {
    let id = runtime.id();
    let command = runtime.with_bundle("run", bundle);
    command.args(["-d", "--keep-exit", &id]).output().ok();
    id
}

#[test]
fn a_keeper_records_code_and_signal() {
    let runtime = Runtime::new();
    for (script, expected) in [
        ("exit 7", json!({"exitCode": 7, "oomKilled": false})),
        ("exit 0", json!({"exitCode": 0, "oomKilled": false})),
        (
            "sleep 0.1; exec sh -c 'trap - TERM; sleep 1000'",
            json!({"exitCode": 137, "signal": "SIGKILL", "oomKilled": false}),
        ),
    ] {
        let id = kept(&runtime, &runtime.bundle().shell(script));
        if expected["signal"].is_string() {
            runtime.command(["kill", &id, "KILL"]).output().ok();
        }
        let mut ended = recorded(&runtime, &id);
        let at = ended.as_object_mut().unwrap().remove("at").unwrap();
        assert!(at.as_str().unwrap().ends_with('Z'), "{at}");
        assert_eq!(ended, expected, "{script}");
        let list = runtime.command(["list", "--format", "{{.ID}} {{.Ended}}"]);
        let list = list.output().ok().stdout;
        let shown = match expected["signal"].as_str() {
            Some(signal) => format!("{id} {signal}\n"),
            None => format!("{id} exit code {}\n", expected["exitCode"]),
        };
        assert!(list.contains(&shown), "{list}");
        runtime.command(["delete", &id]).output().ok();
    }
}

#[test]
fn a_keeper_holds_nothing_of_the_caller_and_ends_with_the_container() {
    let runtime = Runtime::new();
    let (bundle, id) = (runtime.bundle().args(["sleep", "1000"]), runtime.id());
    let silent = bundle.set("/process/terminal", json!(false));
    let parent = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.split(' ').nth(3).unwrap().to_owned()
    };
    // The reader of the pipe would never see its end if the keeper held a copy.
    let command = runtime.with_bundle("run", &silent);
    let file = runtime.folder().join("pid");
    let command = command.args(["-d", "--keep-exit", "--preserve-fds", "1", "--pid-file"]);
    let command = command
        .arg(&file)
        .arg(&id)
        .after("exec 3</dev/zero >/dev/null");
    command.output().ok();
    let init = fs::read_to_string(&file).unwrap();
    let keeper = parent(&init);
    let words = fs::read_to_string(format!("/proc/{keeper}/cmdline")).unwrap();
    assert!(words.contains("--keep-exit"), "{words}");
    let targets = || {
        let descriptors = fs::read_dir(format!("/proc/{keeper}/fd")).unwrap();
        let links = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let mut targets: Vec<_> = links
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        targets.sort();
        targets
    };
    // The keeper reports to the command before it closes the last of them.
    wait_until("the keeper's own descriptors", || targets().len() == 4);
    let targets = targets();
    assert_eq!(targets[..3], ["/dev/null"; 3], "{targets:?}");
    assert!(targets[3].contains("pidfd"), "{targets:?}");
    assert_eq!(
        fs::read_link(format!("/proc/{keeper}/cwd"))
            .unwrap()
            .to_str(),
        Some("/")
    );
    runtime.command(["delete", "--force", &id]).output().ok();
    wait_until("the keeper's end", || {
        let stat = fs::read_to_string(format!("/proc/{keeper}/stat"));
        stat.is_err() || stat.unwrap().contains(") Z ")
    });
}

#[test]
fn a_created_container_has_a_keeper_too() {
    let runtime = Runtime::new();
    let (bundle, id) = (runtime.bundle().args(["sh", "-c", "exit 5"]), runtime.id());
    let create = runtime.with_bundle("create", &bundle);
    create.args(["--keep-exit", &id]).output().ok();
    runtime.command(["start", &id]).output().ok();
    assert_eq!(recorded(&runtime, &id)["exitCode"], 5);
    runtime.command(["delete", &id]).output().ok();
}

#[test]
fn a_verb_that_fails_beside_its_keeper_fails_once() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["/no/such/program"]);
    let command = runtime.with_bundle("run", &bundle);
    let output = command.args(["-d", "--keep-exit", &runtime.id()]).output();
    let output = output.fails(["/no/such/program"]);
    assert_eq!(output.stderr.trim_end().lines().count(), 1, "{output}");
    runtime.is_clean();
}

#[test]
fn a_signal_to_the_command_takes_the_creation_back() {
    let runtime = Runtime::new();
    let hook = json!({"path": "/bin/sleep", "args": ["sleep", "1000"]});
    let bundle = runtime.bundle().hook("createRuntime", hook);
    let command = runtime.with_bundle("run", &bundle);
    let command = command.args(["-d", "--keep-exit", &runtime.id()]);
    let options = ["--preserve-status", "--signal=TERM", "0.5"];
    let output = command.under("timeout", options).limit(20).output();
    assert_eq!(output.code, 143, "{output}");
    wait_until("nothing is left", || runtime.leftovers().is_empty());
}

#[test]
fn memory_that_ran_out_is_told() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let limit = json!({"limit": 16 << 20, "swap": 16 << 20});
    let bundle = runtime.bundle().set("/linux/resources/memory", limit);
    let bundle = bundle.shell("exec tail /dev/zero");
    let ended = recorded(&runtime, &kept(&runtime, &bundle));
    assert_eq!(
        (&ended["signal"], &ended["oomKilled"]),
        (&json!("SIGKILL"), &json!(true))
    );
}

#[test]
fn a_foreground_that_keeps_the_container_records_its_end() {
    let runtime = Runtime::new();
    let (bundle, id) = (runtime.bundle().args(["sh", "-c", "exit 9"]), runtime.id());
    let command = runtime.with_bundle("run", &bundle).args(["--keep", &id]);
    assert_eq!(command.output().exits(9).code, 9);
    assert_eq!(recorded(&runtime, &id)["exitCode"], 9);
    let refused = runtime
        .with_bundle("run", &bundle)
        .args(["--keep-exit", &runtime.id()]);
    refused
        .output()
        .fails(["--keep-exit: ", "expected --detach"]);
}

/// A program whose orphans become its children, and which reaps none.
const SUBREAPER: &str = "import ctypes, os, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
assert subprocess.call(sys.argv[2:]) == 0
open(sys.argv[1], 'w').close()
time.sleep(1000)
";

#[test]
fn a_zombie_tells_it_itself() {
    needs::program("python3");
    let runtime = Runtime::new();
    let (bundle, id) = (
        runtime.bundle().args(["sh", "-c", "sleep 0.2; exit 11"]),
        runtime.id(),
    );
    let done = runtime.folder().join("done");
    let script = runtime.folder().file("subreaper.py", SUBREAPER);
    let words = [script.to_str().unwrap(), done.to_str().unwrap()];
    let command = runtime.with_bundle("run", &bundle).args(["-d", &id]);
    let parent = command.under("python3", words).spawn();
    wait_until("the run", || done.exists());
    let ended = ended(&runtime, &id);
    assert_eq!(ended, json!({"exitCode": 11, "oomKilled": false}));
    parent.signal(nix::sys::signal::Signal::SIGKILL);
    parent.wait_briefly(patience(10));
    runtime.command(["delete", &id]).output().ok();
}

#[test]
fn nobody_knows_it_of_one_that_nobody_waited_for() {
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle().args(["true"]));
    container.exit_code();
    assert_eq!(container.state().get("ended"), None);
}

#[test]
fn the_last_event_tells_it() {
    needs::kernel(6, 15);
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle().args(["sleep", "1000"]));
    let events = runtime
        .command(["events", "--interval", "50ms", &container.id])
        .spawn();
    wait_until("the first event", || events.stdout.text().contains("stats"));
    container.kill("KILL").ok();
    let output = events.wait().ok();
    let last: Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
    let data = json!({"exitCode": 137, "signal": "SIGKILL", "oomKilled": false});
    let expected = json!({"type": "exit", "id": container.id, "data": data});
    assert_eq!(last, expected);
}
