//! Between the caller and the container: streams, descriptors, signals, pid files.

use std::fs;
use std::io::{Read, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use coracle_integration::runner::patience;
use coracle_integration::{Bundle, Child, Command, Receiver, Runtime, json, wait_until};

#[test]
fn a_detached_container_has_the_callers_streams() {
    let runtime = Runtime::new();
    let (id, bundle) = (runtime.id(), runtime.bundle().shell("cat; echo err >&2"));
    let create = runtime
        .with_bundle("create", &bundle)
        .arg(&id)
        .input("in\n")
        .spawn();
    create.wait().ok();
    runtime.command(["start", &id]).output().ok();
    wait_until("the output", || create.stderr.text() == "err\n");
    assert_eq!(create.stdout.text(), "in\n");
}

#[test]
fn a_foreground_container_has_the_callers_streams() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell("cat; echo err >&2; exit 4");
    let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let output = command.input("some\ntext").output().exits(4);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("some\ntext", "err\n")
    );
}

/// Engines wait for the end of the pipe, which no process may keep open.
#[test]
fn nobody_else_keeps_the_streams_open() {
    let runtime = Runtime::new();
    let script = "echo last; exec </dev/null >/dev/null 2>&1; sleep 1000";
    let bundle = runtime.bundle().shell(script);
    for options in [["run", "--detach"], ["create", "--no-new-keyring"]] {
        let (mut reader, writer) = pipe().unwrap();
        let id = runtime.id();
        let command = runtime
            .with_bundle(options[0], &bundle)
            .arg(options[1])
            .arg(&id);
        // The command holds one end until it is dropped.
        command
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .output()
            .ok();
        if options[0] == "create" {
            runtime.command(["start", &id]).output().ok();
        }
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last\n", "{options:?}");
    }
}

#[test]
fn output_is_complete_at_the_end() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell("seq 1 100000; seq 1 1000 >&2");
    let output = runtime.run(&bundle).ok();
    assert_eq!(output.stdout.lines().count(), 100_000);
    assert!(output.stdout.ends_with("\n100000\n") && output.stderr.ends_with("\n1000\n"));
}

/// A run that waits for the end of a pipe which somebody else holds, or misses a quick end, hangs.
#[test]
fn short_processes_end() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    for _ in 0..coracle_integration::runner::times(20, 500) {
        let output = runtime.run(&bundle).ok();
        assert!(output.time < patience(10));
    }
}

#[test]
fn a_closed_reader_is_the_containers_affair() {
    let runtime = Runtime::new();
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let bundle = runtime
        .bundle()
        .shell("(echo x; echo $? >/tmp/code) 2>/tmp/error; exit 6");
    let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
    command.stdout(writer).output().exits(6);
    // SIGPIPE ended the shell: the runtime ignores it, and the container must not inherit that.
    assert!(!bundle.path("/tmp/code").exists());
}

/// Each way to close some of the three.
const CLOSINGS: [&str; 5] = ["0<&-", "1>&-", "2>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"];

/// Writes where the three streams lead to.
const STREAMS: &str = "found=$(for n in 0 1 2; do readlink /proc/$$/fd/$n; done)
    echo \"$found\" >/tmp/streams";

#[track_caller]
fn are_null(bundle: &Bundle, closing: &str) {
    let text = fs::read_to_string(bundle.path("/tmp/streams")).unwrap();
    for (number, target) in text.lines().enumerate() {
        let is_closed =
            closing.contains(&format!("{number}<")) || closing.contains(&format!("{number}>"));
        assert!(!is_closed || target == "/dev/null", "{closing}: {text}");
    }
    assert_eq!(text.lines().count(), 3, "{closing}: {text}");
}

#[test]
fn closed_streams_become_null() {
    let runtime = Runtime::new();
    for closing in CLOSINGS {
        let bundle = runtime
            .bundle()
            .script("/streams", STREAMS)
            .args(["/streams"]);
        let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
        command.after(&format!("exec {closing}")).output().exits(0);
        are_null(&bundle, closing);
        let container = runtime.id();
        let command = runtime.with_bundle("create", &bundle).arg(&container);
        command.after(&format!("exec {closing}")).output().exits(0);
        fs::remove_file(bundle.path("/tmp/streams")).unwrap();
        runtime.command(["start", &container]).output().ok();
        let file = bundle.path("/tmp/streams");
        wait_until("the streams", || {
            fs::read_to_string(&file).is_ok_and(|t| t.lines().count() == 3)
        });
        are_null(&bundle, closing);
    }
}

#[test]
fn closed_streams_of_exec_become_null() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .script("/streams", STREAMS)
        .args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    for closing in CLOSINGS {
        let exec = container.exec_command([], ["/streams"]);
        exec.after(&format!("exec {closing}")).output().exits(0);
        are_null(&bundle, closing);
    }
}

#[test]
fn all_verbs_live_with_closed_streams() {
    let runtime = Runtime::new();
    for closing in CLOSINGS {
        let (id, bundle) = (runtime.id(), runtime.bundle().args(["sleep", "1000"]));
        let run = |command: Command| {
            command.after(&format!("exec {closing}")).output().exits(0);
        };
        run(runtime.with_bundle("create", &bundle).arg(&id));
        for verb in ["start", "pause", "resume"] {
            run(runtime.command([verb, &id]));
        }
        run(runtime.command(["kill", &id, "KILL"]));
        run(runtime.command(["delete", "--force", &id]));
        runtime.is_clean();
    }
}

/// Opens some on descriptors that engines leave open.
fn stray(command: Command) -> Command {
    let open = "exec 3</etc/passwd 4</ 5>/dev/null 11</etc/group 17</etc 200</etc/passwd";
    command.under("bash", ["-c", &format!("{open}; exec \"$@\""), "bash"])
}

/// Prints the numbers of the shell's descriptors, without the one that lists them.
const DESCRIPTORS: &str = "cd /proc/$$/fd; echo [0-9]*";

#[test]
fn stray_descriptors_do_not_reach_the_container() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell(DESCRIPTORS);
    let output = stray(runtime.with_bundle("run", &bundle).arg(runtime.id())).output();
    // The shell opens 3 itself while it lists.
    assert!(matches!(output.ok().line(), "0 1 2" | "0 1 2 3"));
}

fn targets(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let target = |path: &Path| fs::read_link(path).map(|target| target.display().to_string());
    entries
        .filter_map(|entry| target(&entry.path()).ok())
        .collect()
}

#[test]
fn stray_descriptors_do_not_reach_the_waiting_init() {
    let runtime = Runtime::new();
    let (id, bundle) = (runtime.id(), runtime.bundle());
    stray(runtime.with_bundle("create", &bundle).arg(&id))
        .output()
        .ok();
    let state = runtime.command(["state", &id]).output().ok();
    let state: coracle_integration::Value = serde_json_of(&state.stdout);
    let pid = i32::try_from(state["pid"].as_i64().unwrap()).unwrap();
    for target in targets(pid) {
        assert!(!target.starts_with("/etc") && target != "/", "{target}");
    }
}

fn serde_json_of(text: &str) -> coracle_integration::Value {
    text.parse().expect("JSON")
}

#[test]
fn preserved_descriptors_keep_their_numbers() {
    let runtime = Runtime::new();
    let script = format!("cat <&3; cat <&4; {DESCRIPTORS}");
    let command = runtime.with_bundle("run", &runtime.bundle().shell(&script));
    let command = command.args(["--preserve-fds", "2"]).arg(runtime.id());
    let (three, four) = (
        runtime.folder().file("3", "three "),
        runtime.folder().file("4", "four "),
    );
    let script = format!(
        "exec 3<{} 4<{} 5</etc/passwd",
        three.display(),
        four.display()
    );
    let output = command.after(&script).output().ok();
    assert!(
        output.stdout.starts_with("three four 0 1 2 3 4"),
        "{output}"
    );
    assert!(
        matches!(
            output.line(),
            "three four 0 1 2 3 4" | "three four 0 1 2 3 4 5"
        ),
        "{output}"
    );
}

#[test]
fn preserved_descriptors_must_be_open() {
    let runtime = Runtime::new();
    let (bundle, text) = (runtime.bundle(), "unable to stat preserved-fd 4");
    let command = || {
        runtime
            .with_bundle("run", &bundle)
            .args(["--preserve-fds", "2"])
    };
    command()
        .arg(runtime.id())
        .after("exec 3</etc/passwd 4<&-")
        .output()
        .fails([text]);
    runtime.is_clean();
    let container = runtime.sleeper();
    let exec = container.exec_command(["--preserve-fds", "2"], ["true"]);
    exec.after("exec 3</etc/passwd 4<&-")
        .output()
        .fails_as(255, [text]);
    let exec = container.exec_command(["--preserve-fds", "2"], ["true"]);
    exec.after("exec 3<&- 4<&-")
        .output()
        .fails_as(255, ["preserved-fd 4"]);
    let exec = container.exec_command(["--preserve-fds", "4000000000"], ["true"]);
    exec.output().fails_as(255, ["preserved-fd"]);
}

/// Whatever the runtime opens meanwhile has the lowest free numbers.
#[test]
fn gaps_among_the_preserved_descriptors_stay() {
    let runtime = Runtime::new();
    let (four, nine) = (
        runtime.folder().file("4", "four "),
        runtime.folder().file("9", "nine"),
    );
    let (four, nine) = (four.display(), nine.display());
    let open = format!("exec 3<&- 4<{four} 5<&- 6<&- 7<&- 8<&- 9<{nine}");
    // The shell's own script and the listing itself have none: they are read from the arguments.
    let script = "cat <&4; cat <&9; for n in 3 5 6 7 8 10 11; do
        [ ! -e /proc/$$/fd/$n ] || ls -l /proc/$$/fd/$n; done";
    let log = runtime.folder().join("log");
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "true"]});
    let bundle = runtime.bundle().shell(script).hook("startContainer", hook);
    let options = ["--preserve-fds", "7"];
    let run = runtime
        .bare()
        .arg("--log")
        .arg(&log)
        .arg("--root")
        .arg(runtime.root());
    let run = run.args(["run", "--bundle"]).arg(&bundle.write().dir);
    let run = run.args(options).arg(runtime.id()).after(&open).output();
    assert_eq!(run.ok().stdout, "four nine");
    let container = runtime.sleeper();
    let exec = container.exec_command(options, ["sh", "-c", script]);
    assert_eq!(exec.after(&open).output().ok().stdout, "four nine");
}

/// The variables and descriptors of sd_listen_fds(3) in the container.
const LISTENING: &str = "echo ${LISTEN_FDS-no} ${LISTEN_PID-no} ${LISTEN_FDNAMES-no}; cat <&3";

fn listening(setup: &str, options: &[&str]) -> String {
    let runtime = Runtime::new();
    let command = runtime.with_bundle("run", &runtime.bundle().shell(LISTENING));
    let (one, two) = (
        runtime.folder().file("1", "one\n"),
        runtime.folder().file("2", "two\n"),
    );
    let open = format!("exec 3<{} 4<{}; {setup}", one.display(), two.display());
    command
        .args(options)
        .arg(runtime.id())
        .after(&open)
        .output()
        .stdout
}

#[test]
fn listen_descriptors_are_passed() {
    let setup = "export LISTEN_FDS=1 LISTEN_PID=$$";
    assert_eq!(listening(setup, &[]), "1 1 no\none\n");
    let setup = "export LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=a:b";
    assert_eq!(listening(setup, &[]), "2 1 a:b\none\n");
}

#[test]
fn listen_descriptors_of_another_are_not() {
    assert_eq!(
        listening("export LISTEN_FDS=1 LISTEN_PID=1", &[]),
        "no no no\n"
    );
    assert_eq!(
        listening("export LISTEN_FDS=x LISTEN_PID=$$", &[]),
        "no no no\n"
    );
    assert_eq!(
        listening("export LISTEN_FDS=0 LISTEN_PID=$$", &[]),
        "no no no\n"
    );
}

#[test]
fn listen_descriptors_come_before_the_preserved() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .shell("cat <&3; cat <&4; cat <&5; echo $LISTEN_FDS");
    let names: Vec<_> = ["a", "b", "c"]
        .map(|n| runtime.folder().file(n, &format!("{n}\n")))
        .into();
    let mut open = "export LISTEN_FDS=1 LISTEN_PID=$$".to_owned();
    for (number, name) in names.iter().enumerate() {
        open += &format!("; exec {}<{}", number + 3, name.display());
    }
    let command = runtime
        .with_bundle("run", &bundle)
        .args(["--preserve-fds=2"]);
    assert_eq!(
        command.arg(runtime.id()).after(&open).output().ok().stdout,
        "a\nb\nc\n1\n"
    );
}

fn pid_file(runtime: &Runtime, name: &str) -> (String, Command) {
    let id = runtime.id();
    let command = runtime
        .with_bundle("create", &runtime.bundle())
        .args(["--pid-file", name]);
    (id.clone(), command.arg(id))
}

fn pid_of(runtime: &Runtime, id: &str) -> String {
    let state = runtime.command(["state", id]).output().ok();
    serde_json_of(&state.stdout)["pid"].to_string()
}

#[test]
fn the_pid_file_is_relative_to_the_callers_folder() {
    let runtime = Runtime::new();
    let (id, command) = pid_file(&runtime, "some.pid");
    let folder = runtime.folder().folder("here");
    command.folder(&folder).output().ok();
    let text = fs::read_to_string(folder.join("some.pid")).unwrap();
    assert_eq!(text, pid_of(&runtime, &id));
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        1,
        "something else is there"
    );
}

#[test]
fn the_pid_file_replaces_an_older_one() {
    let runtime = Runtime::new();
    let file = runtime
        .folder()
        .file("pid", "99999999999999 of a longer life\n");
    runtime.folder().file(".pid", "left by a crash");
    let (id, command) = pid_file(&runtime, file.to_str().unwrap());
    command.output().ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), pid_of(&runtime, &id));
    assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn the_pid_file_does_not_follow_a_link() {
    let runtime = Runtime::new();
    let precious = runtime.folder().file("precious", "data");
    for name in ["pid", ".pid"] {
        symlink(&precious, runtime.folder().join(name)).unwrap();
    }
    let file = runtime.folder().join("pid");
    let (id, command) = pid_file(&runtime, file.to_str().unwrap());
    command.output().ok();
    assert_eq!(fs::read_to_string(precious).unwrap(), "data");
    assert_eq!(fs::read_to_string(file).unwrap(), pid_of(&runtime, &id));
}

#[test]
fn a_pid_file_that_cannot_be_written_undoes_all() {
    let runtime = Runtime::new();
    for name in [
        "/no/such/folder/pid",
        "/",
        "/proc/pid",
        "..",
        "/etc/passwd/pid",
    ] {
        let (_, command) = pid_file(&runtime, name);
        command.output().fails(["--pid-file"]);
        runtime.is_clean();
    }
    let container = runtime.sleeper();
    let options = ["--pid-file", "/no/such/folder/pid"];
    container
        .exec_with(options, ["sleep", "1000"])
        .fails_as(255, ["--pid-file"]);
    let pids = container.verb("ps").ok();
    assert_eq!(pids.stdout.matches("sleep 1000").count(), 1, "{pids}");
}

#[test]
fn a_pid_file_in_the_way_of_a_failure_stays() {
    let runtime = Runtime::new();
    let folder = runtime.folder().folder("pid");
    let (_, command) = pid_file(&runtime, folder.to_str().unwrap());
    command.output().fails(["--pid-file", "rename"]);
    assert!(!runtime.folder().join(".pid").exists());

    // The console socket fails before the pid file is written.
    let (socket, closed) = (
        runtime.folder().join("socket"),
        runtime.folder().join("closed"),
    );
    let listener = UnixListener::bind(&socket).unwrap();
    let file = runtime.folder().file("old", "7");
    let script = format!("until test -e {}; do sleep 0.01; done", closed.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    let bundle = runtime.bundle().set("/process/terminal", json!(true));
    let bundle = bundle.hook("createRuntime", hook);
    let create = runtime.with_bundle("create", &bundle).arg("--pid-file");
    let create = create.arg(&file).arg("--console-socket").arg(&socket);
    let create = create.arg(runtime.id()).spawn();
    drop(listener.accept().unwrap());
    fs::write(closed, "").unwrap();
    create.wait().fails(["--console-socket", "EPIPE"]);
    assert_eq!(fs::read_to_string(file).unwrap(), "7");
    runtime.is_clean();
}

#[test]
fn a_failed_exec_leaves_no_pid_file() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().file("/bad", "").args(["sleep", "1000"]);
    fs::set_permissions(bundle.path("/bad"), fs::Permissions::from_mode(0o755)).unwrap();
    let (container, file) = (runtime.start(&bundle), runtime.folder().join("pid"));
    let options = ["--pid-file", file.to_str().unwrap()];
    container
        .exec_with(options, ["/bad"])
        .fails_as(255, ["exec format error"]);
    assert!(!file.exists());
}

#[test]
fn the_pid_file_is_there_when_create_returns() {
    let runtime = Runtime::new();
    let (id, file) = (runtime.id(), runtime.folder().join("pid"));
    let bundle = runtime.bundle().shell("exec sleep 1000");
    let command = runtime
        .with_bundle("run", &bundle)
        .arg("--detach")
        .arg("--pid-file")
        .arg(&file);
    command.arg(&id).output().ok();
    let pid = fs::read_to_string(file).unwrap();
    assert_eq!(pid, pid_of(&runtime, &id));
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert!(name == "sleep\n" || name == "sh\n", "{name}");
}

#[track_caller]
fn is_pidfd_of(descriptor: &impl AsRawFd, pid: &str) {
    let info = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let info = fs::read_to_string(info).unwrap();
    assert!(info.contains(&format!("Pid:\t{pid}\n")), "{pid}: {info}");
}

#[test]
fn the_pidfd_is_inits() {
    let runtime = Runtime::new();
    let socket = Receiver::new(&runtime.folder().join("socket"));
    let container = runtime.create_with(&runtime.bundle(), ["--pidfd-socket", socket.path()]);
    let (text, pidfd) = socket.receive();
    assert_eq!(text, "standard");
    is_pidfd_of(&pidfd, &container.pid().to_string());
}

#[test]
fn the_pidfd_of_exec_is_the_processes() {
    let runtime = Runtime::new();
    let socket = Receiver::new(&runtime.folder().join("socket"));
    let (container, file) = (runtime.sleeper(), runtime.folder().join("pid"));
    let options = [
        "--detach",
        "--pidfd-socket",
        socket.path(),
        "--pid-file",
        file.to_str().unwrap(),
    ];
    container.exec_with(options, ["sleep", "1000"]).ok();
    let process = Child::adopt(&file);
    let (text, pidfd) = socket.receive();
    assert_eq!(text, "setns");
    is_pidfd_of(&pidfd, &process.pid.to_string());
}

#[test]
fn a_missing_pidfd_socket_undoes_all() {
    let runtime = Runtime::new();
    let file = runtime.folder().file("file", "");
    for path in [Path::new("/no/such/socket"), &file] {
        let command = runtime
            .with_bundle("create", &runtime.bundle())
            .arg("--pidfd-socket");
        let output = command.arg(path).arg(runtime.id()).output();
        output.fails(["--pidfd-socket", path.to_str().unwrap()]);
        runtime.is_clean();
    }
}

#[test]
fn a_long_pidfd_socket_path_works() {
    let runtime = Runtime::new();
    let folder = runtime
        .folder()
        .folder("x".repeat(100))
        .join("y".repeat(100));
    fs::create_dir(&folder).unwrap();
    // Bound by a short name: a path in the address has at most 107 bytes.
    let short = runtime.folder().join("s");
    symlink(&folder, &short).unwrap();
    let socket = Receiver::new(&short.join("socket"));
    let long = folder.join("socket");
    let command = runtime
        .with_bundle("create", &runtime.bundle())
        .arg("--pidfd-socket");
    command.arg(long).arg(runtime.id()).output().ok();
    assert_eq!(socket.receive().0, "standard");
}

const SIGNALS: &str = "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2 | xargs";
const NONE: &str = "0000000000000000 0000000000000000";

/// As a caller that blocks and ignores signals would start it.
fn careless(command: Command) -> Command {
    command.under(
        "env",
        [
            "--block-signal=USR1,TERM,CHLD,WINCH",
            "--ignore-signal=HUP,PIPE,INT,USR2",
        ],
    )
}

#[test]
fn blocked_and_ignored_signals_do_not_reach_the_container() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell(SIGNALS);
    let output = careless(runtime.with_bundle("run", &bundle).arg(runtime.id())).output();
    assert_eq!(output.ok().line(), NONE);
    let id = runtime.id();
    let create = careless(runtime.with_bundle("create", &bundle).arg(&id)).spawn();
    create.wait().ok();
    careless(runtime.command(["start", &id])).output().ok();
    wait_until("the masks", || create.stdout.text().trim_end() == NONE);
}

#[test]
fn blocked_and_ignored_signals_do_not_reach_exec() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let exec = careless(container.exec_command([], ["sh", "-c", SIGNALS]));
    assert_eq!(exec.output().ok().line(), NONE);
}

#[test]
fn an_ignored_sigchld_does_not_lose_the_exit_code() {
    let runtime = Runtime::new();
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 0"]});
    let bundle = runtime.bundle().shell("exit 9").hook("createRuntime", hook);
    let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
    command
        .under("env", ["--ignore-signal=CHLD"])
        .output()
        .exits(9);
    let container = runtime.sleeper();
    let exec = container.exec_command([], ["sh", "-c", "exit 8"]);
    exec.under("env", ["--ignore-signal=CHLD"])
        .output()
        .exits(8);
}

#[test]
fn blocked_signals_do_not_stop_deletion() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    careless(runtime.command(["kill", &container.id, "KILL"]))
        .output()
        .ok();
    container.exit_code();
    careless(runtime.command(["delete", &container.id]))
        .output()
        .ok();
    runtime.is_clean();
}

#[test]
fn run_forwards_most_signals() {
    use nix::sys::signal::Signal;
    let runtime = Runtime::new();
    let traps =
        "for s in HUP INT QUIT USR1 USR2 TERM CONT WINCH ALRM; do trap \"echo $s\" $s; done";
    let script = format!("{traps}; echo ready; while :; do sleep 0.01; done");
    let bundle = runtime.bundle().shell(&script);
    let run = runtime
        .with_bundle("run", &bundle)
        .arg(runtime.id())
        .spawn();
    wait_until("the container", || run.stdout.text().contains("ready"));
    for (signal, name) in [
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGQUIT, "QUIT"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGUSR2, "USR2"),
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGALRM, "ALRM"),
        (Signal::SIGCONT, "CONT"),
        (Signal::SIGWINCH, "WINCH"),
    ] {
        run.signal(signal);
        wait_until(name, || run.stdout.text().ends_with(&format!("{name}\n")));
    }
    runtime.delete_all();
    run.wait().exits(128 + 9);
}

/// Without a pid namespace orphans come to the nearest subreaper.
#[test]
fn run_collects_orphans() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().without_namespace("pid");
    let script = "for i in 1 2 3 4 5; do (sh -c 'exit 1' &); done; sleep 0.05; exit 3";
    runtime.run(&bundle.clone().shell(script)).exits(3);
    let bundle = bundle.shell("exit 5");
    runtime.run_with(&bundle, ["--no-subreaper"]).exits(5);
}

#[test]
fn exec_forwards_signals() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let script = "trap 'exit 3' USR2; echo ready; while :; do sleep 0.01; done";
    let exec = container.exec_command([], ["sh", "-c", script]).spawn();
    wait_until("the process", || exec.stdout.text().contains("ready"));
    exec.signal(nix::sys::signal::SIGUSR2);
    exec.wait().exits(3);
}

/// podman's clean-up has XDG_RUNTIME_DIR and nothing else.
#[test]
fn verbs_need_no_environment() {
    let runtime = Runtime::new();
    let (id, bundle) = (runtime.id(), runtime.bundle().args(["sleep", "1000"]));
    let bare = |command: Command| {
        command
            .under("env", ["-i", "XDG_RUNTIME_DIR=/run"])
            .output()
            .ok()
    };
    bare(runtime.with_bundle("create", &bundle).arg(&id));
    for verb in ["start", "state", "pause", "resume", "ps"] {
        bare(runtime.command([verb, &id]));
    }
    bare(runtime.command(["exec", &id, "true"]));
    bare(runtime.command(["kill", &id, "9"]));
    bare(runtime.command(["delete", "--force", &id]));
}

#[test]
fn the_callers_umask_is_of_no_consequence() {
    let runtime = Runtime::new();
    for umask in ["umask 0", "umask 0777"] {
        let (id, bundle) = (
            runtime.id(),
            runtime.bundle().shell("umask; exec sleep 1000"),
        );
        let bundle = bundle.mount("/new/point", "tmpfs", "tmpfs", []);
        let create = runtime
            .with_bundle("create", &bundle)
            .arg(&id)
            .after(umask)
            .spawn();
        create.wait().ok();
        runtime.command(["start", &id]).after(umask).output().ok();
        wait_until("the umask", || create.stdout.text() == "0022\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(runtime.root()), 0o700);
        assert_eq!(mode(&bundle.path("/new")), 0o755);
        let exec = runtime
            .command(["exec", &id, "sh", "-c", "umask"])
            .after(umask)
            .output();
        assert_eq!(exec.ok().line(), "0022");
    }
}

#[test]
fn the_callers_folder_may_be_gone() {
    let runtime = Runtime::new();
    let gone = runtime.folder().join("gone");
    let script = format!("mkdir {0}; cd {0}; rmdir {0}", gone.display());
    let command = runtime
        .with_bundle("run", &runtime.bundle().shell("pwd"))
        .arg(runtime.id());
    assert_eq!(command.after(&script).output().ok().line(), "/");
    let container = runtime.sleeper();
    let exec = container.exec_command([], ["pwd"]).after(&script).output();
    assert_eq!(exec.ok().line(), "/");
}

#[test]
fn the_callers_environment_is_not_the_containers() {
    let runtime = Runtime::new();
    let command = runtime
        .with_bundle("run", &runtime.bundle().args(["env"]))
        .arg(runtime.id());
    let output = command
        .env("SECRET", "1")
        .env("LD_PRELOAD", "")
        .output()
        .ok();
    assert!(!output.stdout.contains("SECRET"), "{output}");
    assert!(!output.stdout.contains("CORACLE"), "{output}");
}

#[test]
fn a_bundle_is_the_current_folder_by_default() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["echo", "here"]);
    let command = runtime.command(["run"]).arg(runtime.id());
    assert_eq!(
        command.folder(&bundle.write().dir).output().ok().line(),
        "here"
    );
    let command = runtime.command(["run", "--bundle", "."]).arg(runtime.id());
    assert_eq!(command.folder(&bundle.dir).output().ok().line(), "here");
    let name = bundle.dir.file_name().unwrap().to_owned();
    let command = runtime
        .command(["create", "-b"])
        .arg(name)
        .arg(runtime.id());
    command.folder(bundle.dir.parent().unwrap()).output().ok();
}
