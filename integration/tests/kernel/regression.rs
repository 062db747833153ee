//! Faults that other runtimes had, by the number or release that names them, and our own.

use std::fs;

use coracle_integration::{Command, Runtime, json, needs, wait_until};

fn shell(script: &str) -> coracle_integration::Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// Even if the container's own hooks take their time.
#[test]
fn runc_4347_poststart_hooks_find_the_program() {
    let runtime = Runtime::new();
    let file = runtime.folder().join("found");
    let pid = "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p')";
    let script = format!("{pid}; cat /proc/$pid/comm >{}", file.display());
    let bundle = runtime.bundle().args(["sleep", "0.2"]);
    let bundle = bundle.hook("startContainer", shell("sleep 0.1"));
    runtime.run(&bundle.hook("poststart", shell(&script))).ok();
    assert_eq!(fs::read_to_string(file).unwrap(), "sleep\n");
}

#[test]
fn runc_3448_start_of_a_dying_init_does_not_hang() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .hook("startContainer", shell("echo x >/here; sleep 1000"));
    let container = runtime.create(&bundle);
    let start = runtime.command(["start", &container.id]).spawn();
    wait_until("the hook", || bundle.path("/here").exists());
    let pid = container.pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
    let output = start.wait();
    assert_ne!(output.code, 0, "{output}");
    assert_eq!(container.exit_code(), 128 + 9);
    container.delete_by_force().ok();
}

#[test]
fn runc_1_4_2_many_mounts_need_few_descriptors() {
    let runtime = Runtime::new();
    let source = runtime.folder().folder("source");
    let mut bundle = runtime.bundle();
    for number in 0..600 {
        bundle = bundle.bind(&source, &format!("/mnt/{number}"), ["ro"]);
    }
    let bundle = bundle.shell("grep -c ' /mnt/' /proc/self/mountinfo");
    let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let output = command.under("prlimit", ["--nofile=1024:1024"]).output();
    assert_eq!(output.ok().line(), "600");
}

#[test]
fn runc_1_5_a_written_spec_warns_of_nothing() {
    let runtime = Runtime::new();
    let (bundle, log) = (runtime.bundle(), runtime.folder().join("log"));
    runtime.bare().arg("spec").folder(&bundle.dir).output().ok();
    let path = bundle.dir.join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let text = text
        .replace("\"terminal\": true", "\"terminal\": false")
        .replace("\"sh\"", "\"false\"");
    fs::write(path, text).unwrap();
    let command = runtime
        .bare()
        .arg("--root")
        .arg(runtime.root())
        .arg("--log")
        .arg(&log);
    let output = command
        .args(["run", "--bundle"])
        .arg(&bundle.dir)
        .arg(runtime.id())
        .output();
    assert_eq!(output.exits(1).stderr, "");
    assert_eq!(fs::read_to_string(log).unwrap(), "");
}

#[test]
fn moby_41168_little_memory_is_enough() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let container = runtime.start(&bundle.set("/linux/resources/memory/limit", json!(4 << 20)));
    assert_eq!(container.exec(["echo", "lives"]).ok().line(), "lives");
}

/// dockerd names itself by `/proc/self/exe`, a magic link that leads to the file without a path.
#[test]
fn moby_a_hook_by_the_daemons_own_file_works() {
    let runtime = Runtime::new();
    let daemon = Command::new("/bin/busybox").args(["sleep", "1000"]).spawn();
    let (path, file) = (
        format!("/proc/{}/exe", daemon.pid),
        runtime.folder().join("ran"),
    );
    let args = ["sh", "-c", &format!("echo ran >{}", file.display())];
    let bundle = runtime
        .bundle()
        .hook("prestart", json!({"path": path, "args": args}));
    let output = runtime.run(&bundle);
    daemon.signal(nix::sys::signal::SIGKILL);
    daemon.wait();
    output.ok();
    assert_eq!(fs::read_to_string(file).unwrap(), "ran\n");
}

#[test]
fn crun_1_27_the_state_names_the_bundle() {
    let runtime = Runtime::new();
    let file = runtime.folder().join("found");
    let bundle = runtime
        .bundle()
        .hook("createRuntime", shell(&format!("cat >{}", file.display())));
    let elsewhere = runtime.folder().folder("elsewhere");
    let command = runtime.with_bundle("create", &bundle).arg(runtime.id());
    command.folder(&elsewhere).output().ok();
    let state: coracle_integration::Value = fs::read_to_string(file).unwrap().parse().unwrap();
    assert_eq!(state["bundle"], bundle.dir.to_str().unwrap());
}

#[test]
fn crun_1_29_1_a_signal_leaves_no_frozen_group() {
    let runtime = Runtime::new();
    let script = "trap '' USR1; while :; do (sleep 0.001 &); done";
    let container = runtime.start(&runtime.bundle().without_namespace("pid").shell(script));
    for _ in 0..10 {
        runtime
            .command(["kill", "--all", &container.id, "CONT"])
            .output()
            .ok();
        assert_eq!(container.status(), "running");
    }
    container.delete_by_force().ok();
}

#[test]
fn youki_a_status_is_not_guessed_from_signals() {
    let runtime = Runtime::new();
    let script = "trap 'echo got' USR1 TERM; echo ready; while :; do sleep 0.01; done";
    let container = runtime.start(&runtime.bundle().shell(script));
    container.wait_for("ready");
    for signal in ["USR1", "TERM", "WINCH", "0"] {
        container.kill(signal).ok();
        assert_eq!(container.status(), "running");
    }
    container.wait_for("got");
}

/// podman exits with 127 if it finds this text anywhere.
#[test]
fn podman_only_a_missing_command_reads_like_one() {
    let runtime = Runtime::new();
    for bundle in [
        runtime.bundle().bind("/no/such/source", "/mnt", []),
        runtime.bundle().set("/root/path", json!("/no/such/root")),
        runtime
            .bundle()
            .join_namespace("network", "/no/such/namespace"),
        runtime
            .bundle()
            .hook("createRuntime", json!({"path": "/no/such/hook"})),
        runtime
            .bundle()
            .hook("createContainer", json!({"path": "/no/such/hook"})),
    ] {
        let output = runtime.try_create(&bundle).fails(["/no/such/"]);
        let text = output.stderr.to_lowercase();
        assert!(!text.contains("no such file or directory"), "{output}");
        assert!(!text.contains("executable file not found"), "{output}");
    }
}

#[test]
fn podman_a_directory_as_command_reads_like_one() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["/etc"]);
    runtime
        .try_create(&bundle)
        .fails(["/etc", "permission denied", "is a directory"]);
}

/// The shim kills twice after the end, and takes either of two error texts for success.
#[test]
fn containerd_repeated_kills_of_the_dead_are_harmless() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    for _ in 0..3 {
        runtime
            .command(["kill", "--all", &container.id, "9"])
            .output()
            .ok();
        container.wait_for_status("stopped");
    }
    container.kill("9").fails(["container not running"]);
    container.delete().ok();
    container.kill("9").fails(["does not exist"]);
    container.delete().fails(["does not exist"]);
    container.delete_by_force().ok();
}

#[test]
fn deletions_at_once_delete_once() {
    let runtime = Runtime::new();
    let log = runtime.folder().join("log");
    let hook = shell(&format!("echo stopped >>{}", log.display()));
    let container = runtime.start(
        &runtime
            .bundle()
            .hook("poststop", hook)
            .args(["sleep", "1000"]),
    );
    let delete = || {
        runtime
            .command(["delete", "--force", &container.id])
            .spawn()
    };
    let deletions: Vec<_> = (0..5).map(|_| delete()).collect();
    for deletion in deletions {
        deletion.wait().ok();
    }
    assert_eq!(fs::read_to_string(log).unwrap(), "stopped\n");
    runtime.is_clean();
}

#[test]
fn a_long_path_of_the_bundle_works() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["echo", "here"]);
    let mut folder = runtime.folder().join("deep");
    for _ in 0..15 {
        folder.push("x".repeat(200));
    }
    fs::create_dir_all(&folder).unwrap();
    let moved = folder.join("bundle");
    bundle.write();
    fs::rename(&bundle.dir, &moved).unwrap();
    let command = runtime
        .command(["run", "--bundle"])
        .arg(&moved)
        .arg(runtime.id());
    assert_eq!(command.output().ok().line(), "here");
    fs::rename(moved, &bundle.dir).unwrap();
}
