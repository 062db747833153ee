//! The operations of the specification's life cycle, and what a runtime leaves behind.

use std::fs;
use std::path::Path;

use coracle_integration::runner::{is_full, patience, times};
use coracle_integration::trace::{Moment, Seen, can_trace, observe};
use coracle_integration::{
    Bundle, Child, Output, Runtime, groups, json, needs, skip, status_field, wait_until,
};
use nix::libc;

#[test]
fn create_waits_for_start() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle().shell("echo ran"));
    assert_eq!(container.status(), "created");
    assert_eq!(container.stdout(), "");
    container.start().ok();
    container.wait_for("ran\n");
}

#[test]
fn state_tells_what_the_specification_wants() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    let container = runtime.create(&bundle);
    let state = container.state();
    assert_eq!(state["id"], container.id.as_str());
    assert_eq!(state["bundle"], bundle.dir.to_str().unwrap());
    assert_eq!(state["rootfs"], bundle.rootfs().to_str().unwrap());
    let (version, created) = (state["ociVersion"].as_str(), state["created"].as_str());
    assert!(version.unwrap().starts_with("1."), "{state}");
    assert!(created.unwrap().ends_with('Z'), "{state}");
    assert!(state["pid"].as_i64().unwrap() > 1, "{state}");
}

#[test]
fn status_follows_the_life() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle().args(["sleep", "1000"]));
    assert_eq!(container.status(), "created");
    container.start().ok();
    assert_eq!(container.status(), "running");
    container.kill("KILL").ok();
    container.exit_code();
    assert_eq!(container.status(), "stopped");
    assert_eq!(container.state()["pid"].as_i64().unwrap_or(0), 0);
    container.delete().ok();
    container.verb("state").fails(["does not exist"]);
}

#[test]
fn annotations_are_in_the_state() {
    let runtime = Runtime::new();
    let annotations = json!({"org.example.name": "value", "empty": ""});
    let bundle = runtime.bundle().set("/annotations", annotations.clone());
    assert_eq!(runtime.create(&bundle).state()["annotations"], annotations);
    assert!(
        runtime
            .create(&runtime.bundle())
            .state()
            .get("annotations")
            .is_none()
    );
}

#[test]
fn start_runs_the_program_once() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell("echo once >>/tmp/log");
    let container = runtime.create(&bundle);
    assert!(!bundle.path("/tmp/log").exists());
    container.start().ok();
    assert_eq!(container.exit_code(), 0);
    assert_eq!(
        fs::read_to_string(bundle.path("/tmp/log")).unwrap(),
        "once\n"
    );
}

#[test]
fn a_second_start_fails() {
    let runtime = Runtime::new();
    runtime
        .sleeper()
        .start()
        .fails(["cannot start an already running container"]);
}

#[test]
fn start_of_a_stopped_container_fails() {
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle());
    container.wait_for_status("stopped");
    container
        .start()
        .fails(["cannot start a container that has stopped"]);
}

#[test]
fn start_of_a_dead_init_fails_at_once() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle());
    let pid = container.pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
    container.exit_code();
    let output = container.start().fails(["stopped"]);
    assert!(output.time < patience(5), "{output}");
}

#[test]
fn start_of_an_absent_container_fails() {
    let runtime = Runtime::new();
    runtime
        .command(["start", &runtime.id()])
        .output()
        .fails(["does not exist"]);
}

#[test]
fn kill_sends_the_signal() {
    let runtime = Runtime::new();
    let script = "trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.01; done";
    let container = runtime.start(&runtime.bundle().shell(script));
    container.wait_for("ready");
    container.kill("USR1").ok();
    assert_eq!(container.exit_code(), 9);
    assert_eq!(container.stdout(), "ready\ngot\n");
}

#[test]
fn kill_takes_names_and_numbers() {
    let runtime = Runtime::new();
    for signal in ["9", "KILL", "SIGKILL", "kill", "SigKill"] {
        let container = runtime.sleeper();
        container.kill("0").ok();
        container.kill(signal).ok();
        assert_eq!(container.exit_code(), 128 + 9, "{signal}");
    }
    let container = runtime.sleeper();
    for bad in ["NOSUCH", "-1", "99", "", "9x", "1e1"] {
        container.kill(bad).fails([]);
    }
    assert_eq!(container.status(), "running");
}

#[test]
fn kill_defaults_to_term() {
    let runtime = Runtime::new();
    let script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let container = runtime.start(&runtime.bundle().shell(script));
    container.wait_for("ready");
    container.verb("kill").ok();
    assert_eq!(container.exit_code(), 5);
}

#[test]
fn kill_of_a_stopped_container_fails() {
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle());
    container.wait_for_status("stopped");
    container.kill("TERM").fails(["container not running"]);
}

#[test]
fn kill_all_of_a_stopped_container_succeeds() {
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle());
    container.wait_for_status("stopped");
    runtime
        .command(["kill", "--all", &container.id, "9"])
        .output()
        .ok();
}

/// Without a pid namespace of its own, a container is killed by its cgroup; init may have left
/// that.
#[test]
fn kill_reaches_an_init_that_left_its_cgroup() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().without_namespace("pid");
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    for group in groups(runtime.marker()) {
        let procs = group.ancestors().map(|folder| folder.join("cgroup.procs"));
        let root = procs.filter(|file| file.exists()).last().unwrap();
        fs::write(root, container.pid().to_string()).unwrap();
    }
    container.kill("KILL").ok();
    assert_eq!(container.exit_code(), 128 + 9);
}

#[test]
fn kill_of_an_absent_container_fails() {
    let runtime = Runtime::new();
    runtime
        .command(["kill", &runtime.id(), "TERM"])
        .output()
        .fails(["does not exist"]);
}

#[test]
fn kill_of_a_created_container_ends_it() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle());
    container.kill("KILL").ok();
    assert_eq!(container.exit_code(), 128 + 9);
    container.delete().ok();
}

/// Init waits as the first process of a pid namespace, to which the kernel gives no signal that it
/// does not handle.
#[test]
fn a_created_container_ends_by_any_fatal_signal() {
    let runtime = Runtime::new();
    let fatal = [
        ("TERM", 15),
        ("INT", 2),
        ("HUP", 1),
        ("QUIT", 3),
        ("USR1", 10),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("ABRT", 6),
        ("SEGV", 11),
        ("SYS", 31),
        ("IO", 29),
        ("34", 34),
        ("64", 64),
    ];
    for kind in [None, Some("pid")] {
        let bundle = || match kind {
            None => runtime.bundle(),
            Some(kind) => runtime.bundle().without_namespace(kind),
        };
        // The shell that waits for init has no names for the real-time signals.
        let known = |number: &i32| kind.is_none() || *number < 32;
        for (signal, number) in fatal.iter().filter(|(_, number)| known(number)) {
            let container = runtime.create(&bundle());
            container.kill(signal).ok();
            assert_eq!(container.exit_code(), 128 + number, "{signal}");
            container.wait_for_status("stopped");
            container.start().fails(["stopped"]);
            container.delete().ok();
        }
        let container = runtime.create(&bundle().args(["sleep", "1000"]));
        for signal in ["CHLD", "CONT", "WINCH", "URG"] {
            container.kill(signal).ok();
        }
        assert_eq!(container.status(), "created");
        container.start().ok();
        assert_eq!(container.status(), "running");
    }
    // The container's program inherits none of the runtime's signal handlers.
    let container = runtime.sleeper();
    let caught = status_field(container.pid(), "SigCgt");
    assert_eq!(caught.trim_start_matches('0'), "");
}

/// Under `ulimit -f` a write past the limit raises SIGXFSZ, which would end the runtime between two
/// steps.
#[test]
fn a_file_size_limit_is_an_error() {
    let runtime = Runtime::new();
    let look = "grep -E 'Sig(Ign|Cgt)' /proc/self/status; ulimit -f";
    let bundle = runtime.bundle().shell(look);
    for verb in ["create", "run"] {
        let command = runtime.with_bundle(verb, &bundle).arg(runtime.id());
        let output = command.after("trap '' XFSZ; ulimit -f 1").output();
        assert_eq!(output.signal, None);
        output.fails(["EFBIG"]);
        runtime.is_clean();
    }
    let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let output = command.after("ulimit -f 100000").output().ok();
    let zero = "0000000000000000";
    let limit = output.stdout.lines().last().unwrap_or_default().to_owned();
    assert_eq!(
        output.stdout,
        format!("SigIgn:\t{zero}\nSigCgt:\t{zero}\n{limit}\n")
    );
}

#[test]
fn delete_of_a_running_container_fails() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    container.delete().fails(["that is not stopped: running"]);
    assert_eq!(container.status(), "running");
}

#[test]
fn delete_of_a_created_container_kills_it() {
    let runtime = Runtime::new();
    runtime.create(&runtime.bundle()).delete().ok();
    runtime.is_clean();
}

/// A cgroup that has become empty can be given to the next container.
#[test]
fn delete_of_a_stopped_container_spares_its_successor() {
    let runtime = Runtime::new();
    let path = json!(format!("/{}shared", runtime.marker()));
    let bundle = runtime.bundle().set("/linux/cgroupsPath", path);
    let first = runtime.start(&bundle);
    first.wait_for_status("stopped");
    let script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let second = runtime.start(&bundle.shell(script));
    second.wait_for("ready");
    first.delete().fails(["EBUSY"]);
    second.kill("TERM").ok();
    assert_eq!(second.exit_code(), 5);
    first.delete().ok();
}

#[test]
fn delete_of_an_absent_container_fails() {
    let runtime = Runtime::new();
    runtime
        .command(["delete", &runtime.id()])
        .output()
        .fails(["does not exist"]);
}

#[test]
fn forced_delete_of_an_absent_container_succeeds() {
    let runtime = Runtime::new();
    let output = runtime
        .command(["delete", "--force", &runtime.id()])
        .output()
        .ok();
    assert_eq!(output.stdout + &output.stderr, "");
}

#[test]
fn forced_delete_kills() {
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle().shell("trap '' TERM; sleep 1000 & wait"));
    container.delete_by_force().ok();
    runtime.is_clean();
}

#[test]
fn forced_delete_kills_a_paused_container() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    container.verb("pause").ok();
    container.delete_by_force().ok();
    runtime.is_clean();
}

#[test]
fn forced_delete_goes_by_what_it_can_read() {
    let runtime = Runtime::new();
    for (name, value, refusal) in [
        ("version", json!(99), "newer release"),
        ("bundle", json!(7), "invalid type"),
    ] {
        let container = runtime.sleeper();
        let path = runtime.root().join(&container.id).join("record.json");
        let mut record: serde_json::Value = fs::read_to_string(&path).unwrap().parse().unwrap();
        record[name] = value;
        fs::write(path, record.to_string()).unwrap();
        container.delete().fails([refusal]);
        container.delete_by_force().ok();
        assert_eq!(container.exit_code(), 128 + 9);
        runtime.is_clean();
    }
}

#[test]
fn forced_delete_without_a_record_goes_by_the_config() {
    without_a_record(&Runtime::new(), &json!(null));
    let runtime = Runtime::new();
    let path = json!(format!("/{}named", runtime.marker()));
    without_a_record(&runtime, &path);
}

/// Without a usable record the private config names the control group.
pub(crate) fn without_a_record(runtime: &Runtime, path: &serde_json::Value) {
    let bundle = runtime.bundle().shell("sleep 1000 & echo two; wait");
    let shared = bundle.clone().without_namespace("pid");
    for bundle in [bundle, shared] {
        let bundle = bundle.set("/linux/cgroupsPath", path.clone());
        for torn in [Some(0), Some(1), Some(2), None] {
            let container = runtime.start(&bundle);
            container.wait_for("two");
            let record = runtime.root().join(&container.id).join("record.json");
            let text = fs::read_to_string(&record).unwrap();
            fs::remove_file(&record).unwrap();
            if let Some(part) = torn {
                fs::write(&record, &text[..text.len() * part / 3]).unwrap();
                container.kill("9").fails(["record.json"]);
                container.verb("state").fails(["record.json"]);
            }
            runtime.command(["list"]).output();
            container.delete().fails([]);
            let output = container.delete_by_force().ok();
            assert_eq!(output.stderr, "");
            assert_eq!(container.exit_code(), 128 + 9);
            runtime.is_clean();
        }
    }
}

/// A relative path, or none, counts from the control group of whoever created the container, and
/// that need not be the group of who deletes it.
#[test]
fn forced_delete_without_a_record_goes_by_no_relative_path() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let folder = runtime.root().join(&container.id);
    let [record, config] = ["record.json", "config.json"].map(|name| folder.join(name));
    let text = [&record, &config].map(|path| fs::read_to_string(path).unwrap());
    let mut moved: serde_json::Value = text[1].parse().unwrap();
    fs::write(&record, "").unwrap();
    for path in ["elsewhere", "elsewhere/deeper"] {
        moved["linux"]["cgroupsPath"] = json!(format!("{}{path}", runtime.marker()));
        fs::write(&config, moved.to_string()).unwrap();
        let delete = container.delete_by_force();
        delete.fails(["relative", "processes", &container.id]);
        assert!(folder.exists());
    }
    fs::write(&config, &text[1]).unwrap();
    fs::write(&record, &text[0]).unwrap();
    assert_eq!(container.status(), "running");
    container.delete_by_force().ok();
    runtime.is_clean();
}

/// Where neither record nor config names what has to be ended, nothing is removed.
#[test]
fn forced_delete_without_record_and_config_says_what_stays() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let folder = runtime.root().join(&container.id);
    let [record, config] = ["record.json", "config.json"].map(|name| folder.join(name));
    let text = [&record, &config].map(|path| fs::read(path).unwrap());
    for torn in ["", "{", "\0\0\0"] {
        fs::write(&record, torn).unwrap();
        fs::write(&config, torn).unwrap();
        let output = container.delete_by_force();
        output.fails([
            "config.json cannot be read either",
            "processes",
            &container.id,
        ]);
        assert!(folder.exists());
    }
    fs::write(&config, &text[1]).unwrap();
    // The same config under another id.
    let copy = runtime.id();
    let path = format!("/{}shared", runtime.marker());
    let named = runtime.bundle().args(["sleep", "1000"]);
    let named = runtime.start(&named.set("/linux/cgroupsPath", json!(path)));
    let other = runtime.root().join(&copy);
    fs::create_dir(&other).unwrap();
    let named_config = runtime.root().join(&named.id).join("config.json");
    fs::copy(named_config, other.join("config.json")).unwrap();
    let delete = runtime.command(["delete", "--force", &copy]).output();
    delete.fails(["another container's"]);
    assert_eq!(named.status(), "running");
    fs::remove_dir_all(other).unwrap();
    fs::write(&record, &text[0]).unwrap();
    container.delete_by_force().ok();
    named.delete_by_force().ok();
    runtime.is_clean();
}

#[test]
fn forced_delete_without_record_and_group_says_what_stays() {
    let runtime = Runtime::new().options(["--cgroup-manager", "disabled"]);
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let path = json!(format!("/{}named", runtime.marker()));
    let container = runtime.create(&bundle.set("/linux/cgroupsPath", path));
    let record = runtime.root().join(&container.id).join("record.json");
    let text = fs::read(&record).unwrap();
    fs::write(&record, "").unwrap();
    let output = container.delete_by_force();
    output.fails(["init waits for its start"]);
    fs::write(&record, text).unwrap();
    container.start().ok();
    let pid = container.pid();
    fs::write(&record, "").unwrap();
    let output = container.delete_by_force().ok();
    assert!(
        output
            .stderr
            .contains("processes that are in no cgroup of the container's may be left"),
        "{output}"
    );
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(container.exit_code(), 128 + 9);
    runtime.is_clean();
}

/// Replaces a file by things that no text can be read from, one after the other, and calls `each`
/// with what the refusal says.
fn spoiled(path: &Path, mut each: impl FnMut(&str)) {
    let _ = fs::remove_file(path);
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    each("not a regular file");
    fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    each("");
    fs::remove_file(path).unwrap();
    fs::File::create(path).unwrap().set_len(1 << 30).unwrap();
    each("larger than 16777216 bytes");
    fs::remove_file(path).unwrap();
}

#[test]
fn files_that_are_none_hold_nobody() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let other = runtime.sleeper();
    let folder = runtime.root().join(&container.id);
    let verb = |arguments: &[&str]| runtime.command(arguments.iter()).output();
    let id = container.id.as_str();
    let (record, config) = (folder.join("record.json"), folder.join("config.json"));
    let text = fs::read(&record).unwrap();
    spoiled(&record, |refusal| {
        for verb in ["state", "ps", "pause", "events", "delete"] {
            container.verb(verb).fails(["record.json", refusal]);
        }
        container.kill("9").fails(["record.json", refusal]);
        let exec = verb(&["exec", id, "true"]);
        exec.fails_as(255, ["record.json", refusal]);
        assert_eq!(verb(&["list", "-q"]).ok().line(), other.id);
    });
    fs::write(record, text).unwrap();
    let text = fs::read(&config).unwrap();
    spoiled(&config, |refusal| {
        let exec = verb(&["exec", id, "true"]);
        exec.fails_as(255, ["config.json", refusal]);
        let update = verb(&["update", "--pids-limit", "9", id]);
        update.fails(["config.json", refusal]);
    });
    fs::write(&config, text).unwrap();
    container.exec(["true"]).ok();
    let bundle = runtime.bundle();
    bundle.write();
    spoiled(&bundle.dir.join("config.json"), |refusal| {
        let create = runtime.command(["create", "--bundle", bundle.dir.to_str().unwrap()]);
        create
            .arg(runtime.id())
            .output()
            .fails(["config.json", refusal]);
    });
}

/// Files that flags name may be pipes as well.
#[test]
fn files_of_flags_are_files_or_pipes() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let process = runtime.bundle().args(["echo", "said"]).config["process"].to_string();
    let resources = r#"{"pids": {"limit": 40}}"#;
    let command =
        |verb: &str, flag: &str, path: &str| runtime.command([verb, flag, path, &container.id]);
    for (verb, flag, text, code) in [
        ("exec", "--process", process.as_str(), 255),
        ("update", "--resources", resources, 1),
    ] {
        let said = if verb == "exec" { "said" } else { "" };
        let file = runtime.folder().file("input", text);
        let path = file.to_str().unwrap();
        assert_eq!(command(verb, flag, path).output().ok().line(), said);
        let piped = command(verb, flag, "/dev/stdin").input(text);
        assert_eq!(piped.output().ok().line(), said);
        // A writer that takes its time.
        let slow = format!("(sleep 0.2; cat {path}) | ");
        let piped = command(verb, flag, "/dev/stdin");
        let piped = piped.under("sh", ["-c", &format!("{slow} \"$@\""), "sh"]);
        assert_eq!(piped.output().ok().line(), said);
        for (path, refusal) in [
            ("/dev/zero", "neither a regular file nor a pipe"),
            ("/dev", "neither a regular file nor a pipe"),
            ("/dev/null", "neither a regular file nor a pipe"),
            ("/no/such", "ENOENT"),
        ] {
            let output = command(verb, flag, path).output();
            output.fails_as(code, [flag, path, refusal]);
        }
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        command(verb, flag, path).output().fails_as(code, ["EOF"]);
        fs::remove_file(&file).unwrap();
        fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
        let output = command(verb, flag, path).output();
        output.fails_as(code, [flag, "larger than"]);
    }
}

#[test]
fn an_id_is_unique() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    let container = runtime.create(&bundle);
    let again = runtime
        .with_bundle("create", &bundle)
        .arg(&container.id)
        .output();
    again.fails(["already exists"]);
    assert_eq!(container.status(), "created");
    container.start().ok();
}

#[test]
fn an_id_can_be_used_again() {
    let runtime = Runtime::new();
    let (bundle, id) = (runtime.bundle(), runtime.id());
    for _ in 0..3 {
        runtime.with_bundle("run", &bundle).arg(&id).output().ok();
    }
}

#[test]
fn bad_ids_are_refused() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    let long = "x".repeat(5000);
    let marker = runtime.marker().to_owned();
    for id in [
        "", ".", "..", "../x", "a/b", "a b", "a\nb", "ä", "/", "a:b", "$x", &long,
    ] {
        runtime
            .with_bundle("create", &bundle)
            .arg(id)
            .output()
            .fails([]);
        runtime
            .with_bundle("run", &bundle)
            .arg(id)
            .output()
            .fails([]);
        for verb in ["state", "start", "delete", "pause", "ps"] {
            runtime.command([verb, id]).output().fails([]);
        }
        runtime.command(["kill", id, "9"]).output().fails([]);
        runtime
            .command(["exec", id, "true"])
            .output()
            .fails_as(255, []);
    }
    for id in ["a-b_c+d.e", "0", "_", &"y".repeat(100)] {
        let id = format!("{marker}{id}");
        runtime.with_bundle("run", &bundle).arg(&id).output().ok();
    }
}

#[test]
fn exit_codes_are_passed_on() {
    let runtime = Runtime::new();
    for code in [0, 1, 7, 127, 255] {
        let output = runtime
            .run(&runtime.bundle().shell(&format!("exit {code}")))
            .exits(code);
        assert_eq!(output.stderr, "");
    }
}

#[test]
fn signals_are_passed_on() {
    let runtime = Runtime::new();
    // A process that is 1 of its namespace is not ended by signals of its own.
    let bundle = runtime.bundle().without_namespace("pid");
    for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("40", 40)] {
        let output = runtime.run(&bundle.clone().shell(&format!("kill -{name} $$")));
        assert_eq!(output.exits(128 + number).signal, None);
    }
    let output = runtime.sleeper().shell("kill -34 $$");
    assert_eq!(output.exits(128 + 34).signal, None);
}

#[test]
fn an_orphan_may_end_by_any_signal() {
    let runtime = Runtime::new();
    let script = "(sh -c 'kill -40 $$' &); sleep 0.1; exit 6";
    let bundle = runtime.bundle().without_namespace("pid").shell(script);
    runtime.run(&bundle).exits(6);
    runtime.is_clean();
}

#[test]
fn a_run_that_cannot_wait_leaves_nothing() {
    needs::program("strace");
    let runtime = Runtime::new();
    let script = "(true &); sleep 1000";
    let bundle = runtime.bundle().without_namespace("pid").shell(script);
    let options = ["-o", "/dev/null", "-e", "inject=waitid:error=EPERM"].map(str::to_owned);
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let output = run.under("strace", options).output();
    output.fails(["wait for the process", "EPERM"]);
    runtime.is_clean();
}

/// The limit on descriptors is met at each of them in turn.
#[test]
fn without_descriptors_nothing_is_left() {
    let runtime = Runtime::new();
    let how = ["nosuid", "noexec", "nodev"];
    let plain = runtime.bundle().args(["sleep", "1000"]);
    let many = plain.clone().new_namespace("cgroup");
    let many = many.mount("/sys/fs/cgroup", "cgroup", "cgroup", how);
    let hook = json!({"path": "/bin/true"});
    let many = many.hook("createContainer", hook.clone());
    let unmounted = plain.clone().without_namespace("mount");
    let unmounted = unmounted
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths");
    let bundles = [
        many.hook("createRuntime", hook),
        plain.clone().user_namespace().new_namespace("time"),
        unmounted,
        plain.clone().without_namespace("pid"),
        plain.clone(),
    ];
    for bundle in bundles.into_iter().take(times(2, 5)) {
        until_there_are_enough(|limit| {
            let id = runtime.id();
            let create = runtime.with_bundle("create", &bundle).arg(&id);
            let output = create.after(&limit).output();
            if output.code == 0 {
                runtime.command(["delete", "--force", &id]).output().ok();
            }
            let left = runtime.leftovers();
            assert!(left.is_empty(), "{left:?} {output}");
            output
        });
        let ended = bundle.clone().args(["true"]);
        until_there_are_enough(|limit| {
            let run = runtime.with_bundle("run", &ended).arg(runtime.id());
            let output = run.after(&limit).output();
            let left = runtime.leftovers();
            assert!(left.is_empty(), "{left:?} {output}");
            output
        });
    }
    runtime.is_clean();
    let container = runtime.start(&plain);
    for detach in [true, false] {
        until_there_are_enough(|limit| {
            let file = runtime.folder().join("pid");
            let detached = ["exec", "--detach", "--pid-file", file.to_str().unwrap()];
            let exec = match detach {
                true => runtime.command(detached),
                false => runtime.command(["exec"]),
            };
            let exec = exec.args([&container.id, "true"]);
            let output = exec.after(&limit).output();
            if output.code == 0 && detach {
                assert_eq!(Child::adopt(&file).exit_code(), 0);
            }
            let ps = ["ps", "--format", "json", &container.id];
            wait_until("only init", || {
                runtime.command(ps).output().line() == format!("[{}]", container.pid())
            });
            output
        });
    }
}

/// Runs the verb with a growing limit on descriptors, until it has succeeded some times.
fn until_there_are_enough(mut verb: impl FnMut(String) -> Output) {
    let mut enough = 0;
    for limit in 3..200 {
        let output = verb(format!("ulimit -n {limit}"));
        if output.code == 0 {
            enough += 1;
        } else {
            assert_eq!(
                output.stderr.lines().count(),
                1,
                "{limit} descriptors: {output}"
            );
            assert!(
                output.stderr.contains("EMFILE"),
                "{limit} descriptors: {output}"
            );
        }
        if enough == 3 {
            return;
        }
    }
    panic!("200 descriptors are not enough");
}

/// A failure to release a lock or a descriptor cannot be mended by another try, so it is not
/// reported.
#[test]
fn what_cannot_be_given_back_ends_no_verb() {
    needs::program("strace");
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    for injected in ["flock:error=EIO:when=2+", "close:error=EIO"] {
        let verb = |arguments: &[&str]| {
            let inject = format!("inject={injected}");
            let options = ["-o", "/dev/null", "-e", &inject].map(str::to_owned);
            let output = runtime.command(arguments).under("strace", options).output();
            assert!(!output.stderr.contains("panicked"), "{output}");
            output.ok()
        };
        let container = runtime.create(&bundle);
        let id = container.id.as_str();
        verb(&["start", id]);
        verb(&["pause", id]);
        assert_eq!(verb(&["list", "-q"]).line(), id);
        verb(&["resume", id]);
        verb(&["update", "--pids-limit", "9", id]);
        verb(&["kill", id, "9"]);
        container.wait_for_status("stopped");
        verb(&["delete", id]);
        runtime.is_clean();
    }
}

#[test]
fn init_becomes_the_child_of_the_caller() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle().shell("exit 33"));
    let parent = status_field(container.pid(), "PPid");
    assert_eq!(parent, std::process::id().to_string());
    container.start().ok();
    assert_eq!(container.exit_code(), 33);
}

#[test]
fn run_deletes_the_container() {
    let runtime = Runtime::new();
    runtime.run(&runtime.bundle()).ok();
    runtime.is_clean();
}

#[test]
fn run_with_keep_does_not() {
    let runtime = Runtime::new();
    let (bundle, id) = (runtime.bundle(), runtime.id());
    if runtime
        .with_bundle("run", &bundle)
        .args(["--keep", &id])
        .output()
        .code
        != 0
    {
        // Old releases of runc lack the flag.
        runtime.command(["run", "--help"]).output().ok();
    }
    let state = runtime.command(["state", &id]).output().ok();
    assert!(state.stdout.contains("\"stopped\""), "{state}");
    runtime.command(["delete", &id]).output().ok();
}

#[test]
fn run_detached_returns_while_it_runs() {
    let runtime = Runtime::new();
    let id = runtime.id();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let output = runtime
        .with_bundle("run", &bundle)
        .args(["--detach", &id])
        .output()
        .ok();
    assert_eq!(output.stdout + &output.stderr, "");
    let state = runtime.command(["state", &id]).output().ok();
    assert!(state.stdout.contains("\"running\""), "{state}");
}

#[test]
fn run_forwards_signals() {
    let runtime = Runtime::new();
    let script = "trap 'exit 3' HUP; echo ready; while :; do sleep 0.01; done";
    let bundle = runtime.bundle().shell(script);
    let running = runtime
        .with_bundle("run", &bundle)
        .arg(runtime.id())
        .spawn();
    wait_until("the container", || running.stdout.text().contains("ready"));
    running.signal(nix::sys::signal::SIGHUP);
    running.wait().exits(3);
}

#[test]
fn list_tells_all() {
    let runtime = Runtime::new();
    let (one, two) = (runtime.sleeper(), runtime.create(&runtime.bundle()));
    let quiet = runtime.command(["list", "--quiet"]).output().ok();
    assert_eq!(quiet.stdout, format!("{}\n{}\n", one.id, two.id));
    let json = runtime
        .command(["list", "--format", "json"])
        .output()
        .ok()
        .stdout;
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(list[0]["status"], "running");
    assert_eq!(list[1]["status"], "created");
    assert_eq!(list[1]["owner"], "root");
    let table = runtime.command(["list"]).output().ok().stdout;
    assert!(table.starts_with("ID "), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
}

#[test]
fn list_of_nothing_is_an_empty_array() {
    let runtime = Runtime::new();
    let root = runtime.folder().folder("empty");
    let list = runtime
        .bare()
        .arg("--root")
        .arg(root)
        .args(["list", "-f", "json"])
        .output()
        .ok();
    assert_eq!(list.line(), "[]");
}

#[test]
fn ps_tells_host_pids() {
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle().shell("sleep 1000 & echo ready; wait"));
    container.wait_for("ready");
    let output = runtime
        .command(["ps", "--format", "json", &container.id])
        .output()
        .ok();
    let pids: Vec<i32> = serde_json::from_str(&output.stdout).expect("a bare array");
    assert_eq!(pids.len(), 2, "{output}");
    assert!(pids.contains(&container.pid()), "{output}");
    let table = container.verb("ps").ok();
    assert!(
        table.stdout.contains("PID") && table.stdout.contains("sleep 1000"),
        "{table}"
    );
    let chosen = runtime
        .command(["ps", &container.id, "-o", "pid,comm"])
        .output()
        .ok();
    assert_eq!(chosen.stdout.lines().count(), 3, "{chosen}");
}

#[test]
fn pause_and_resume() {
    let runtime = Runtime::new();
    let script = "while :; do echo tick; sleep 0.01; done";
    let container = runtime.start(&runtime.bundle().shell(script));
    container.wait_for("tick");
    container.verb("pause").ok();
    assert_eq!(container.status(), "paused");
    let ticks = container.stdout().len();
    container
        .verb("start")
        .fails(["cannot start a container in the paused state"]);
    assert_eq!(container.stdout().len(), ticks);
    container.verb("resume").ok();
    assert_eq!(container.status(), "running");
    wait_until("more ticks", || container.stdout().len() > ticks);
}

#[test]
fn pause_of_a_stopped_container_fails() {
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle());
    container.wait_for_status("stopped");
    container.verb("pause").fails(["not running"]);
}

#[test]
fn resume_of_a_running_container_fails() {
    let runtime = Runtime::new();
    runtime.sleeper().verb("resume").fails(["not paused"]);
}

#[test]
fn kill_reaches_a_paused_container() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    container.verb("pause").ok();
    container.kill("KILL").ok();
    assert_eq!(container.exit_code(), 128 + 9);
    container.delete().ok();
}

#[test]
fn edits_of_the_bundle_have_no_effect() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .shell("umask; sleep 1000")
        .set("/process/user/umask", json!(7));
    let container = runtime.create(&bundle);
    fs::write(bundle.dir.join("config.json"), "{").unwrap();
    container.start().ok();
    container.wait_for("0007");
    assert_eq!(container.shell("umask").ok().line(), "0007");
    fs::remove_file(bundle.dir.join("config.json")).unwrap();
    assert_eq!(container.shell("umask").ok().line(), "0007");
    container.delete_by_force().ok();
}

#[test]
fn an_unwaited_zombie_counts_as_stopped() {
    let runtime = Runtime::new();
    let container = runtime.create_unwaited(&runtime.bundle());
    let pid = container.pid();
    container.start().ok();
    wait_until("a zombie", || container_is_zombie(pid));
    assert_eq!(container.status(), "stopped");
    container.delete().ok();
    assert!(
        container_is_zombie(pid),
        "somebody else collected our child"
    );
}

/// Runs `create`, and something else at its first call that is meant while the container's directory
/// is there.
fn create_with_a_rival(
    (runtime, id): (&Runtime, &str),
    is_meant: fn(&Seen) -> bool,
    rival: impl Fn() + Sync,
) -> Output {
    if !can_trace() {
        skip!("needs x86_64, whose registers the tracer knows");
    }
    let bundle = runtime.bundle();
    bundle.write();
    let directory = runtime.root().join(id);
    let mut was_there = false;
    let create = runtime.with_bundle("create", &bundle).arg(id);
    let trace = observe(create, &mut |seen| {
        if !was_there && is_meant(seen) && directory.exists() {
            was_there = true;
            // The thread that traces may have no other children.
            std::thread::scope(|scope| scope.spawn(&rival).join().expect("the rival"));
        }
    });
    assert!(was_there, "{}", trace.output);
    trace.output
}

/// Before the directory is opened, `delete --force` removes it and another `create` makes its own.
#[test]
fn an_id_is_claimed_once() {
    let runtime = Runtime::new();
    let id = runtime.id();
    let other = runtime.bundle();
    other.write();
    let made = |seen: &Seen| seen.moment == Moment::Exit;
    let output = create_with_a_rival((&runtime, &id), made, || {
        runtime.command(["delete", "--force", &id]).output().ok();
        let create = runtime.with_bundle("create", &other).arg(&id);
        create.output().ok();
    });
    output.fails(["container with given ID already exists"]);
    let state = runtime.command(["state", &id]).output().ok();
    assert!(state.stdout.contains("\"created\""), "{state}");
    runtime.command(["delete", "--force", &id]).output().ok();
    runtime.is_clean();
}

/// Before the directory is locked, `delete --force` removes it.
#[test]
fn a_claim_that_was_removed_is_made_again() {
    let runtime = Runtime::new();
    let id = runtime.id();
    let locks = |seen: &Seen| seen.moment == Moment::Entry && seen.call == libc::SYS_flock;
    let delete = || drop(runtime.command(["delete", "--force", &id]).output().ok());
    create_with_a_rival((&runtime, &id), locks, delete).ok();
    delete();
    runtime.is_clean();
}

/// Init of a pid namespace has not ended while a member of it is a zombie.
#[test]
fn who_keeps_a_killed_init_is_told() {
    let runtime = Runtime::new();
    let first = runtime.start(&runtime.bundle().args(["sleep", "1000"]));
    let namespace = format!("/proc/{}/ns/pid", first.pid());
    let joined = runtime.bundle().join_namespace("pid", &namespace);
    let member = runtime.create_unwaited(&joined);
    let pid = member.pid();
    member.start().ok();
    wait_until("a zombie", || container_is_zombie(pid));
    let ours = std::process::id();
    first.delete_by_force().fails([
        &format!("container init still running: process {}", first.pid()),
        &format!("process {pid} of its pid namespace has ended"),
        &format!("its parent, process {ours}, has not reaped it"),
    ]);
    drop(member);
    first.delete_by_force().ok();
}

fn container_is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn many_runs_leave_nothing() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["true"]);
    for _ in 0..times(100, 1000) {
        runtime.run(&bundle).ok();
    }
    runtime.is_clean();
}

#[test]
fn creates_at_once_do_not_disturb_one_another() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell("echo fine");
    bundle.write();
    let commands: Vec<_> = (0..times(10, 50))
        .map(|_| {
            runtime
                .with_bundle("run", &bundle)
                .arg(runtime.id())
                .spawn()
        })
        .collect();
    for command in commands {
        assert_eq!(command.wait().ok().stdout, "fine\n");
    }
}

#[test]
fn starts_at_once_start_once() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle().shell("echo ran; sleep 1000"));
    let starts: Vec<_> = (0..5)
        .map(|_| runtime.command(["start", &container.id]).spawn())
        .collect();
    let good = starts.iter().filter(|start| start.wait().code == 0).count();
    assert_eq!(good, 1);
    container.wait_for("ran\n");
}

#[test]
fn a_failed_create_frees_the_id() {
    let runtime = Runtime::new();
    let (bundle, id) = (runtime.bundle(), runtime.id());
    let bad = bundle.clone().args(["/no/such/program"]);
    runtime
        .with_bundle("create", &bad)
        .arg(&id)
        .output()
        .fails(["no such file or directory"]);
    runtime.is_clean();
    runtime.with_bundle("run", &bundle).arg(&id).output().ok();
}

/// The runtime is killed at its Nth system call, for many N: the states of a crash.
#[test]
fn a_killed_runtime_leaves_nothing_that_delete_cannot_remove() {
    let runtime = Runtime::new();
    let path = format!("/{0}top/{0}below/{0}leaf", runtime.marker());
    let bundle = runtime.bundle().set("/linux/cgroupsPath", json!(path));
    kill_at_every_call(&runtime, &bundle.args(["sleep", "1000"]));
}

pub(crate) fn kill_at_every_call(runtime: &Runtime, bundle: &Bundle) {
    for call in system_calls(runtime, bundle) {
        let (id, output) = create_with(runtime, bundle, &format!("signal=KILL:when={call}"));
        runtime.command(["delete", "--force", &id]).output().ok();
        let left = runtime.leftovers();
        assert!(
            left.is_empty(),
            "killed at call {call}: {}\n{output}",
            left.join("\n")
        );
    }
}

/// The record is written before the groups are made, and may name one that belongs to somebody
/// else.
#[test]
fn a_killed_runtime_takes_no_group_of_others() {
    needs::program("strace");
    let runtime = Runtime::new();
    let path = format!("/{0}top/{0}shared", runtime.marker());
    let bundle = runtime.bundle().set("/linux/cgroupsPath", json!(path));
    let bundle = bundle.args(["sleep", "1000"]);
    let other = runtime.start(&bundle);
    let folders = || {
        let mut folders = groups(&format!("{}shared", runtime.marker()));
        folders.sort();
        folders
    };
    for folder in folders() {
        fs::create_dir(folder.join("empty")).unwrap();
    }
    let before = folders();
    for call in 1..8 {
        let fault = format!("inject=mkdirat:signal=KILL:when={call}");
        let (id, _) = create_under(&runtime, &bundle, &fault);
        runtime.command(["delete", "--force", &id]).output().ok();
        assert_eq!(folders(), before, "killed at the {call}th directory");
    }
    assert_eq!(other.status(), "running");
    other.exec(["true"]).ok();
}

/// Each system call of the runtime fails once: it either goes on or undoes all it did.
#[test]
fn every_failing_call_is_undone() {
    fail_every_call(&Runtime::new());
}

pub(crate) fn fail_every_call(runtime: &Runtime) {
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    for call in system_calls(runtime, &bundle) {
        let (id, output) = create_with(runtime, &bundle, &format!("error=EIO:when={call}"));
        // strace counts each kind of call by itself: one of another kind may fail as well, while
        // the first failure is undone.
        let failed_twice = output.stderr.contains("; then, when it was taken back: ");
        if output.code != 1 || failed_twice {
            // It succeeded, or could not report: a process that is refused memory ends at once.
            runtime.command(["delete", "--force", &id]).output().ok();
        }
        let left = runtime.leftovers();
        assert!(
            left.is_empty(),
            "call {call} failed: {}\n{output}",
            left.join("\n")
        );
    }
}

/// Numbers of the system calls that `create` makes: some in a quick run, all in a full one.
fn system_calls(runtime: &Runtime, bundle: &Bundle) -> impl Iterator<Item = usize> {
    needs::program("strace");
    let (trace, id) = (runtime.folder().join("trace"), runtime.id());
    let strace = ["-o", trace.to_str().unwrap()];
    runtime
        .with_bundle("create", bundle)
        .arg(&id)
        .under("strace", strace)
        .output()
        .ok();
    runtime.command(["delete", "--force", &id]).output().ok();
    let count = fs::read_to_string(trace).unwrap().lines().count();
    let step = if is_full() { 1 } else { count.div_ceil(40) };
    (1..count).step_by(step)
}

fn create_with(runtime: &Runtime, bundle: &Bundle, fault: &str) -> (String, Output) {
    create_under(runtime, bundle, &format!("inject=all:{fault}"))
}

fn create_under(runtime: &Runtime, bundle: &Bundle, fault: &str) -> (String, Output) {
    let id = runtime.id();
    let options = ["-o", "/dev/null", "-e", fault].map(str::to_owned);
    let create = runtime
        .with_bundle("create", bundle)
        .arg(&id)
        .under("strace", options);
    (id, create.output())
}
