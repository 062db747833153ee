//! Signals that interrupt a verb during each of its waits.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use coracle_integration::runner::patience;
use coracle_integration::terminal::Terminal;
use coracle_integration::{Bundle, Command, Output, Running, Runtime, Value, json, wait_until};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use crate::hooks::{CREATE_TIME, logging, shared, shell, text};
use crate::rootless;

/// A hook that prints a line, writes its pid into the file and hangs.
fn hanging(file: &Path) -> Value {
    let file = file.display();
    shell(&format!("echo busy; echo $$ >{file}; exec sleep 1000"))
}

/// Asserts that the signal ended the command, which reports it in one line.
#[track_caller]
fn ended_by(output: Output, signal: Signal, reason: &str) {
    assert_eq!(output.signal, Some(signal as i32), "{output}");
    let interrupted = format!("interrupted by {signal}: ");
    output.fails_as(128 + signal as i32, [interrupted.as_str(), reason]);
}

const INIT_KILLED: &str = "container init was killed before it executed the program";

#[test]
fn a_signal_ends_a_creation_and_its_hook() {
    for point in CREATE_TIME {
        for (verb, signal) in [
            ("create", Signal::SIGINT),
            ("create", Signal::SIGTERM),
            ("run", Signal::SIGINT),
            ("run", Signal::SIGTERM),
        ] {
            let runtime = Runtime::new();
            let (log, bundle) = logging(&runtime, &["poststop"]);
            let file = runtime.folder().join("shared/pid");
            let bundle = bundle.hook(point, hanging(&file));
            let command = runtime.with_bundle(verb, &bundle).arg(runtime.id()).spawn();
            wait_until("the hook", || !text(&file).is_empty());
            command.signal(signal);
            let hook = format!("error running {point} hook #0: /bin/sh: killed: busy");
            let reason = match point {
                "createContainer" => INIT_KILLED,
                _ => &hook,
            };
            ended_by(command.wait(), signal, reason);
            runtime.is_clean();
            assert_eq!(text(&log), "poststop\n");
        }
    }
}

/// Without a pid namespace of its own, a hook of init would survive init; it must be killed.
#[test]
fn a_signal_ends_hooks_in_the_hosts_pid_namespace() {
    let runtime = Runtime::new();
    let (folder, bundle) = shared(&runtime, runtime.bundle());
    let file = folder.join("pid");
    let bundle = bundle
        .without_namespace("pid")
        .hook("createContainer", hanging(&file));
    let command = runtime.with_bundle("create", &bundle).arg(runtime.id());
    let create = command.spawn();
    wait_until("the hook", || !text(&file).is_empty());
    create.signal(Signal::SIGTERM);
    ended_by(create.wait(), Signal::SIGTERM, INIT_KILLED);
    runtime.is_clean();
    let process = PathBuf::from(format!("/proc/{}", text(&file).trim()));
    wait_until("the hook's end", || !process.exists());
}

#[test]
fn a_signal_at_the_start_ends_the_container() {
    for (point, reason) in [
        ("startContainer", INIT_KILLED),
        (
            "poststart",
            "error running poststart hook #0: /bin/sh: killed: busy",
        ),
    ] {
        for verb in ["run", "start"] {
            let runtime = Runtime::new();
            let (folder, bundle) = shared(&runtime, runtime.bundle().args(["sleep", "1000"]));
            let file = folder.join("pid");
            let bundle = bundle.hook(point, hanging(&file));
            let id = runtime.id();
            let command = if verb == "run" {
                runtime.with_bundle(verb, &bundle).arg(&id)
            } else {
                runtime
                    .with_bundle("create", &bundle)
                    .arg(&id)
                    .output()
                    .ok();
                runtime.command([verb, &id])
            };
            let command = command.spawn();
            wait_until("the hook", || !text(&file).is_empty());
            command.signal(Signal::SIGINT);
            ended_by(command.wait(), Signal::SIGINT, reason);
            if (point, verb) == ("startContainer", "start") {
                let state = runtime.command(["state", &id]).output().ok();
                assert!(state.stdout.contains("\"stopped\""), "{state}");
                runtime.command(["delete", &id]).output().ok();
            }
            runtime.is_clean();
        }
    }
}

/// A hook that writes its pid into the first file and ends once the second exists.
fn held(runtime: &Runtime) -> (Value, PathBuf, PathBuf) {
    let (file, release) = (
        runtime.folder().join("pid"),
        runtime.folder().join("release"),
    );
    let script = format!(
        "echo $$ >{}; while ! test -e {}; do sleep 0.01; done",
        file.display(),
        release.display()
    );
    (shell(&script), file, release)
}

/// A shell ignores SIGINT for a command in the background, and nohup(1) ignores SIGHUP. An exec
/// keeps blocked signals blocked, too.
#[test]
fn an_ignored_or_blocked_signal_ends_no_creation() {
    for (verb, before) in [
        ("create", "trap '' HUP INT; exec \"$@\""),
        (
            "create",
            "exec env --block-signal=HUP --block-signal=INT \"$@\"",
        ),
        (
            "run",
            "exec env --block-signal=HUP --block-signal=INT \"$@\"",
        ),
    ] {
        let runtime = Runtime::new();
        let (hook, file, release) = held(&runtime);
        let bundle = runtime.bundle().hook("createRuntime", hook);
        let command = runtime.with_bundle(verb, &bundle).arg(runtime.id());
        let create = command.under("sh", ["-c", before, "sh"]).spawn();
        wait_until("the hook", || !text(&file).is_empty());
        create.signal(Signal::SIGINT);
        create.signal(Signal::SIGHUP);
        fs::write(release, "").unwrap();
        create.wait().ok();
    }
}

/// The first signal kills the poststart hook, and the second one the poststop hook.
#[test]
fn two_signals_end_a_start_and_what_takes_it_back() {
    for verb in ["run", "start"] {
        let runtime = Runtime::new();
        let (folder, bundle) = shared(&runtime, runtime.bundle().args(["sleep", "1000"]));
        let (first, second) = (folder.join("first"), folder.join("second"));
        let bundle = bundle
            .hook("poststart", hanging(&first))
            .hook("poststop", hanging(&second))
            .hook("poststop", shell("true"));
        let id = runtime.id();
        let command = if verb == "run" {
            runtime.with_bundle(verb, &bundle).arg(&id)
        } else {
            let create = runtime.with_bundle("create", &bundle).arg(&id);
            create.output().ok();
            runtime.command([verb, &id])
        };
        let command = command.spawn();
        wait_until("the poststart hook", || !text(&first).is_empty());
        command.signal(Signal::SIGINT);
        wait_until("the poststop hook", || !text(&second).is_empty());
        command.signal(Signal::SIGTERM);
        let left = "poststop hook #0: /bin/sh: killed: busy; error running poststop hook #1: \
                    /bin/sh: not started, since a signal came";
        ended_by(command.wait(), Signal::SIGINT, left);
        runtime.is_clean();
    }
}

#[test]
fn a_deletion_is_ended_by_the_second_signal_alone() {
    for signals in [&[Signal::SIGINT][..], &[Signal::SIGINT, Signal::SIGTERM]] {
        let runtime = Runtime::new();
        let (hook, file, release) = held(&runtime);
        let bundle = runtime.bundle().hook("poststop", hook);
        let container = runtime.create(&bundle.args(["sleep", "1000"]));
        let delete = runtime
            .command(["delete", "--force", &container.id])
            .spawn();
        wait_until("the hook", || !text(&file).is_empty());
        for signal in signals {
            delete.signal(*signal);
        }
        if signals.len() == 1 {
            fs::write(release, "").unwrap();
        }
        let output = delete.wait().ok();
        let killed = output.stderr.contains("poststop hook #0: /bin/sh: killed");
        assert_eq!(killed, signals.len() == 2, "{output}");
        runtime.is_clean();
    }
}

/// A bundle whose calls of getppid(2) are notified to an agent, with a state of this size.
fn notified(runtime: &Runtime, agent: &Path, state_bytes: usize) -> Bundle {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent,
        "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]});
    runtime
        .bundle()
        .set("/linux/seccomp", profile)
        .set("/annotations", json!({"long": "x".repeat(state_bytes)}))
}

const NOT_TAKEN: &str = "did not take the listener before a signal came";

/// connect(2) blocks while the queue of a listener is full.
#[test]
fn a_signal_ends_the_wait_for_an_agent_that_accepts_nobody() {
    for verb in ["create", "run"] {
        let runtime = Runtime::new();
        let path = runtime.folder().join("agent");
        let (family, kind) = (AddressFamily::Unix, SockType::Stream);
        let agent = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(agent.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&agent, Backlog::new(0).unwrap()).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        let bundle = notified(&runtime, &path, 1);
        let command = runtime.with_bundle(verb, &bundle).arg(runtime.id()).spawn();
        let connect = format!("{} ", nix::libc::SYS_connect);
        let call = format!("/proc/{}/syscall", command.pid());
        wait_until("connect", || {
            text(&call.clone().into()).starts_with(&connect)
        });
        command.signal(Signal::SIGTERM);
        ended_by(command.wait(), Signal::SIGTERM, NOT_TAKEN);
        runtime.is_clean();
    }
}

/// sendmsg(2) blocks while the peer's buffer is full.
#[test]
fn a_signal_ends_the_wait_for_an_agent_that_reads_nothing() {
    let runtime = Runtime::new();
    let path = runtime.folder().join("agent");
    let agent = UnixListener::bind(&path).unwrap();
    let bundle = notified(&runtime, &path, 1 << 20);
    let command = runtime.with_bundle("create", &bundle).arg(runtime.id());
    let create = command.spawn();
    let _client = agent.accept().unwrap();
    create.signal(Signal::SIGINT);
    ended_by(create.wait(), Signal::SIGINT, NOT_TAKEN);
    runtime.is_clean();
}

/// The helper of the test is the first in `PATH`.
#[test]
fn a_signal_ends_a_helper_that_maps_ids() {
    let runtime = rootless::user();
    let folder = runtime.folder().folder("helpers");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let file = folder.join("pid");
    for name in ["helpers/newuidmap", "helpers/newgidmap"] {
        let script = format!(
            "#!/bin/sh\necho busy; echo $$ >{}; exec sleep 1000",
            file.display()
        );
        runtime.folder().script(name, &script);
    }
    let bundle = rootless::with_two_ids(&runtime);
    let command = runtime.with_bundle("create", &bundle).arg(runtime.id());
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let create = command.env("PATH", path).spawn();
    wait_until("the helper", || !text(&file).is_empty());
    create.signal(Signal::SIGHUP);
    ended_by(
        create.wait(),
        Signal::SIGHUP,
        "helpers/newgidmap: killed: busy",
    );
    let helper = PathBuf::from(format!("/proc/{}", text(&file).trim()));
    wait_until("the helper's end", || !helper.exists());
    runtime.is_clean();
}

/// What the manager of a test sends when a method is called, with the serial of the call.
type Answer = dyn Fn(&str, u32) -> Vec<u8> + Send + Sync;

/// A systemd manager that replies to calls for its properties; to others what a test wants.
struct Manager {
    socket: PathBuf,
    calls: Receiver<String>,
}

impl Manager {
    fn listen(runtime: &Runtime, answer: Box<Answer>) -> Self {
        let socket = runtime.folder().join("manager");
        let listener = UnixListener::bind(&socket).unwrap();
        let (sender, calls) = channel();
        let answer: Arc<Answer> = answer.into();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (sender, answer) = (sender.clone(), answer.clone());
                std::thread::spawn(move || converse(stream, &sender, &*answer));
            }
        });
        Self { socket, calls }
    }

    /// Starts the verb with this manager as the system's.
    fn spawn(&self, runtime: &Runtime, verb: &str) -> Running {
        self.command(runtime, verb).spawn()
    }

    fn command(&self, runtime: &Runtime, verb: &str) -> Command {
        let bundle = runtime.bundle();
        let command = runtime.command(["--systemd-cgroup", verb, "--bundle"]);
        let command = command.arg(&bundle.write().dir).arg(runtime.id());
        let script = format!(
            "mount -t tmpfs none /run\nmkdir -p /run/systemd/system\n>/run/systemd/private\n\
             mount --bind {} /run/systemd/private\nexec \"$@\"",
            self.socket.display()
        );
        command.under("unshare", ["--mount", "sh", "-ec", &script, "sh"])
    }

    /// Waits for a call of this method.
    fn is_called(&self, method: &str) {
        let limit = patience(60);
        while self.calls.recv_timeout(limit).expect("a call") != method {}
    }
}

/// Serves one D-Bus connection until the client closes it.
fn converse(mut stream: UnixStream, calls: &Sender<String>, answer: &Answer) -> Option<()> {
    let mut line = [0; 22];
    stream.read_exact(&mut line).ok()?;
    stream.write_all(b"DATA\r\nOK 0123\r\n").ok()?;
    stream.read_exact(&mut [0; 7]).ok()?;
    loop {
        let mut fixed = [0; 16];
        stream.read_exact(&mut fixed).ok()?;
        let number = |at: usize| u32::from_le_bytes(*fixed[at..].first_chunk().unwrap());
        let (body, serial, fields) = (number(4), number(8), number(12));
        let mut rest = vec![0; (fields.next_multiple_of(8) + body) as usize];
        stream.read_exact(&mut rest).ok()?;
        let rest = String::from_utf8_lossy(&rest).into_owned();
        let names = [
            "Version",
            "ControlGroup",
            "StartTransientUnit",
            "StopUnit",
            "ResetFailedUnit",
        ];
        let name = *names.iter().find(|name| rest.contains(**name))?;
        let answer = match name {
            "Version" => property(serial, "255"),
            "ControlGroup" => property(serial, ""),
            name => {
                let _ = calls.send(name.to_owned());
                answer(name, serial)
            }
        };
        stream.write_all(&answer).ok()?;
    }
}

/// The reply to a call for a property: a variant that holds a string.
fn property(serial: u32, value: &str) -> Vec<u8> {
    message(
        2,
        &[&reply_to(serial), b"\x08\x01g\0\x01v\0"],
        &[b"\x01s\0\0", &*string(value)],
    )
}

/// The reply to a call that starts a job: the job's path.
fn job(serial: u32) -> Vec<u8> {
    message(
        2,
        &[&reply_to(serial), b"\x08\x01g\0\x01o\0"],
        &[&string("/job")],
    )
}

/// The signal that this job has ended with success.
fn job_removed() -> Vec<u8> {
    let interface = string("org.freedesktop.systemd1.Manager");
    let fields: [&[u8]; 4] = [
        b"\x01\x01o\0\x02\0\0\0/o\0",
        &[b"\x02\x01s\0", &*interface].concat(),
        &[b"\x03\x01s\0", &*string("JobRemoved")].concat(),
        b"\x08\x01g\0\x04uoss\0",
    ];
    // The strings begin at multiples of four.
    let body: [&[u8]; 5] = [
        &[1, 0, 0, 0],
        &[&*string("/job"), &[0; 3]].concat(),
        &[&*string("a"), &[0; 2]].concat(),
        &string("done"),
        &[],
    ];
    message(4, &fields, &body)
}

fn unit_exists(serial: u32) -> Vec<u8> {
    let name = string("org.freedesktop.systemd1.UnitExists");
    message(
        3,
        &[&reply_to(serial), &[b"\x04\x01s\0", &*name].concat()],
        &[],
    )
}

fn reply_to(serial: u32) -> Vec<u8> {
    [b"\x05\x01u\0", &serial.to_le_bytes()[..]].concat()
}

fn string(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    [&length[..], text.as_bytes(), b"\0"].concat()
}

/// A message of this type: D-Bus Specification § Message Format. Fields begin at multiples of 8.
fn message(kind: u8, fields: &[&[u8]], body: &[&[u8]]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    let mut list = Vec::new();
    for field in fields {
        list.resize(list.len().next_multiple_of(8), 0);
        list.extend(*field);
    }
    let body = body.concat();
    let mut bytes = [
        [b'l', kind, 0, 1],
        length(&body),
        [1, 0, 0, 0],
        length(&list),
    ]
    .concat();
    bytes.extend(list);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body);
    bytes
}

/// Sends the signal, and waits until the command has read it.
fn signal_and_read(command: &Running, signal: Signal) {
    command.signal(signal);
    let status = PathBuf::from(format!("/proc/{}/status", command.pid()));
    let read = "ShdPnd:\t0000000000000000";
    wait_until("the signal to be read", || text(&status).contains(read));
}

const UNANSWERED: &str = "a signal came before the answer";

/// The first signal ends the wait for the unit's start, the second one the wait for its stop. The
/// init of a pid namespace would ignore systemd's SIGTERM, so it is killed before.
#[test]
fn signals_end_the_wait_for_systemd() {
    for verb in ["create", "run"] {
        let runtime = Runtime::new();
        let answer = |method: &str, serial| match method {
            "StartTransientUnit" => job(serial),
            _ => Vec::new(),
        };
        let manager = Manager::listen(&runtime, Box::new(answer));
        let command = manager.spawn(&runtime, verb);
        manager.is_called("StartTransientUnit");
        command.signal(Signal::SIGINT);
        manager.is_called("StopUnit");
        let children = format!("/proc/{0}/task/{0}/children", command.pid());
        wait_until("init's end", || {
            let init = text(&children.clone().into());
            let stat = format!("/proc/{}/stat", init.trim());
            !init.is_empty() && text(&stat.into()).contains(") Z ")
        });
        command.signal(Signal::SIGTERM);
        ended_by(command.wait(), Signal::SIGINT, UNANSWERED);
        runtime.is_clean();
    }
}

/// A unit that systemd refuses to start, since its name is taken, is not stopped, even if the
/// refusal comes after the signal.
#[test]
fn a_signal_stops_no_unit_of_another_program() {
    let runtime = Runtime::new();
    let release = runtime.folder().join("release");
    let released = release.clone();
    let answer = move |method: &str, serial| match method {
        "StartTransientUnit" => {
            wait_until("the signal", || released.exists());
            unit_exists(serial)
        }
        _ => Vec::new(),
    };
    let manager = Manager::listen(&runtime, Box::new(answer));
    let command = manager.spawn(&runtime, "create");
    manager.is_called("StartTransientUnit");
    signal_and_read(&command, Signal::SIGINT);
    fs::write(release, "").unwrap();
    ended_by(command.wait(), Signal::SIGINT, UNANSWERED);
    let later: Vec<String> = manager.calls.try_iter().collect();
    assert!(later.is_empty(), "{later:?}");
    runtime.is_clean();
}

#[test]
fn a_long_wait_for_systemd_is_told_on_a_terminal() {
    let runtime = Runtime::new();
    let release = runtime.folder().join("release");
    let file = release.clone();
    let answer = move |method: &str, serial| {
        if method == "StartTransientUnit" {
            wait_until("the release", || file.exists());
        }
        unit_exists(serial)
    };
    let manager = Manager::listen(&runtime, Box::new(answer));
    let mut terminal = Terminal::new();
    let command = terminal.attach(manager.command(&runtime, "create")).spawn();
    terminal.expect("waiting for StartTransientUnit of org.freedesktop.systemd1 …\r\n");
    fs::write(release, "").unwrap();
    assert_eq!(command.wait().code, 1);
    runtime.is_clean();
}

/// The unit is started, but init is not in its cgroup: a first signal then does not end the undo.
#[test]
fn a_signal_does_not_end_the_stop_of_a_unit() {
    let runtime = Runtime::new();
    let release = runtime.folder().join("release");
    let released = release.clone();
    let answer = move |method: &str, serial| match method {
        "StartTransientUnit" => [job(serial), job_removed()].concat(),
        "StopUnit" => {
            wait_until("the signal", || released.exists());
            [job(serial), job_removed()].concat()
        }
        _ => Vec::new(),
    };
    let manager = Manager::listen(&runtime, Box::new(answer));
    let command = manager.spawn(&runtime, "create");
    manager.is_called("StopUnit");
    signal_and_read(&command, Signal::SIGINT);
    fs::write(release, "").unwrap();
    manager.is_called("ResetFailedUnit");
    command.signal(Signal::SIGTERM);
    ended_by(command.wait(), Signal::SIGINT, "cgroup");
    runtime.is_clean();
}
