//! `NOTIFY_SOCKET`: what the container reports to the service manager above the runtime.

use std::fs;
use std::io::{Read, pipe};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Duration;

use coracle_integration::runner::patience;
use coracle_integration::{Runtime, wait_until};

/// A service manager's socket.
pub(crate) struct Manager {
    socket: UnixDatagram,
    pub(crate) path: PathBuf,
}

impl Manager {
    pub(crate) fn new(runtime: &Runtime) -> Self {
        let path = runtime.folder().join("manager");
        let socket = UnixDatagram::bind(&path).unwrap();
        let limit = Some(patience(10));
        socket.set_read_timeout(limit).unwrap();
        Self { socket, path }
    }

    #[track_caller]
    pub(crate) fn receives(&self, text: &str) {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a notification");
        assert_eq!(String::from_utf8_lossy(&bytes[..length]).trim_end(), text);
    }
}

/// The container's socket, as its init sees it.
fn inside(pid: i32) -> PathBuf {
    format!("/proc/{pid}/root/run/notify/notify.sock").into()
}

#[track_caller]
pub(crate) fn send(pid: i32, text: &str) {
    wait_until("the container's socket", || inside(pid).exists());
    let socket = UnixDatagram::unbound().unwrap();
    socket
        .send_to(text.as_bytes(), inside(pid))
        .expect("somebody listens");
}

/// The pid of the only container, once it runs.
pub(crate) fn pid_of(runtime: &Runtime, id: &str) -> i32 {
    let mut pid = 0;
    wait_until("the container", || {
        let state = runtime.command(["state", id]).output().stdout;
        let state: coracle_integration::Value = state.parse().unwrap_or_default();
        pid = state["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok())
            .unwrap_or(0);
        pid > 0 && state["status"] == "running"
    });
    pid
}

#[test]
fn the_container_is_told_of_a_socket() {
    let runtime = Runtime::new();
    let manager = Manager::new(&runtime);
    let script = "echo $NOTIFY_SOCKET; ls /run/notify; touch /run/notify/x; test -S $NOTIFY_SOCKET";
    let command = runtime.with_bundle("run", &runtime.bundle().shell(script));
    let output = command
        .arg(runtime.id())
        .env("NOTIFY_SOCKET", &manager.path)
        .output();
    assert_eq!(
        output.stdout, "/run/notify/notify.sock\nnotify.sock\n",
        "{output}"
    );
    assert!(output.stderr.contains("Read-only file system"), "{output}");
    output.ok();
}

#[test]
fn without_a_manager_there_is_none() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .shell("echo ${NOTIFY_SOCKET-none}; ls /run");
    assert_eq!(runtime.run(&bundle).ok().stdout, "none\n");
}

#[test]
fn start_waits_for_readiness() {
    let runtime = Runtime::new();
    let manager = Manager::new(&runtime);
    let (id, bundle) = (runtime.id(), runtime.bundle().args(["sleep", "1000"]));
    let create = runtime.with_bundle("create", &bundle).arg(&id);
    create.env("NOTIFY_SOCKET", &manager.path).output().ok();
    let start = runtime
        .command(["start", &id])
        .env("NOTIFY_SOCKET", &manager.path)
        .spawn();
    let pid = pid_of(&runtime, &id);
    send(pid, "STATUS=loading");
    manager.receives("STATUS=loading");
    assert!(
        !start.wait_briefly(Duration::from_millis(20)),
        "start did not wait"
    );
    send(pid, "READY=1\nSTATUS=up\n");
    start.wait().ok();
    manager.receives(&format!("READY=1\nMAINPID={pid}\nSTATUS=up"));
}

#[test]
fn readiness_comes_with_the_host_pid() {
    let runtime = Runtime::new();
    let manager = Manager::new(&runtime);
    let (id, bundle) = (runtime.id(), runtime.bundle().args(["sleep", "1000"]));
    let command = runtime.with_bundle("run", &bundle).arg(&id);
    let run = command.env("NOTIFY_SOCKET", &manager.path).spawn();
    let pid = pid_of(&runtime, &id);
    send(pid, "MAINPID=1\nREADY=1");
    manager.receives(&format!("READY=1\nMAINPID={pid}"));
    runtime.delete_all();
    run.wait().exits(128 + 9);
}

#[test]
fn only_known_lines_are_passed_on() {
    let runtime = Runtime::new();
    let manager = Manager::new(&runtime);
    let (id, bundle) = (runtime.id(), runtime.bundle().args(["sleep", "1000"]));
    let command = runtime.with_bundle("run", &bundle).arg(&id);
    let run = command.env("NOTIFY_SOCKET", &manager.path).spawn();
    let pid = pid_of(&runtime, &id);
    // Messages that are not the container's to send: descriptors for the manager to keep, and
    // another main process.
    send(
        pid,
        "FDSTORE=1\nFDNAME=x\nMAINPID=1\nX=y\nRELOADING=0\nREADY=0",
    );
    send(pid, "ERRNO=5\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=7");
    let mut bytes = [0; 4096];
    let mut received = String::new();
    while !received.contains("EXTEND") {
        let length = manager.socket.recv(&mut bytes).expect("a notification");
        received += &String::from_utf8_lossy(&bytes[..length]);
    }
    for bad in ["FDSTORE", "FDNAME", "MAINPID", "X="] {
        assert!(!received.contains(bad), "{received}");
    }
    assert!(
        received.contains("ERRNO=5\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=7"),
        "{received}"
    );
    runtime.delete_all();
    run.wait().exits(128 + 9);
}

#[test]
fn start_ends_with_the_container() {
    let runtime = Runtime::new();
    let manager = Manager::new(&runtime);
    let (id, bundle) = (runtime.id(), runtime.bundle().args(["sleep", "1000"]));
    let create = runtime.with_bundle("create", &bundle).arg(&id);
    create.env("NOTIFY_SOCKET", &manager.path).output().ok();
    let start = runtime
        .command(["start", &id])
        .env("NOTIFY_SOCKET", &manager.path)
        .spawn();
    pid_of(&runtime, &id);
    runtime.command(["kill", &id, "KILL"]).output().ok();
    let output = start.wait();
    assert!(output.time < patience(10), "{output}");
}

#[test]
fn run_passes_on_as_long_as_it_lives() {
    let runtime = Runtime::new();
    let manager = Manager::new(&runtime);
    let (id, bundle) = (runtime.id(), runtime.bundle().args(["sleep", "1000"]));
    let command = runtime.with_bundle("run", &bundle).arg(&id);
    let run = command.env("NOTIFY_SOCKET", &manager.path).spawn();
    let pid = pid_of(&runtime, &id);
    send(pid, "READY=1");
    manager.receives(&format!("READY=1\nMAINPID={pid}"));
    for status in ["STATUS=one", "WATCHDOG=1", "STATUS=two"] {
        send(pid, status);
        manager.receives(status);
    }
    runtime.delete_all();
    run.wait().exits(128 + 9);
}

#[test]
fn run_detached_waits_for_readiness() {
    let runtime = Runtime::new();
    let manager = Manager::new(&runtime);
    let (id, bundle) = (runtime.id(), runtime.bundle().args(["sleep", "1000"]));
    let command = runtime.with_bundle("run", &bundle).args(["--detach", &id]);
    let run = command.env("NOTIFY_SOCKET", &manager.path).spawn();
    let pid = pid_of(&runtime, &id);
    send(pid, "STATUS=loading");
    manager.receives("STATUS=loading");
    assert!(
        !run.wait_briefly(Duration::from_millis(20)),
        "run did not wait"
    );
    send(pid, "READY=1");
    run.wait().ok();
    manager.receives(&format!("READY=1\nMAINPID={pid}"));
}

#[test]
fn an_abstract_socket_works() {
    let runtime = Runtime::new();
    let name = format!("coracle-{}", runtime.marker());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    let manager = Manager {
        socket,
        path: format!("@{name}").into(),
    };
    let (id, bundle) = (runtime.id(), runtime.bundle().args(["sleep", "1000"]));
    let command = runtime.with_bundle("run", &bundle).arg(&id);
    let run = command.env("NOTIFY_SOCKET", &manager.path).spawn();
    let pid = pid_of(&runtime, &id);
    send(pid, "READY=1");
    manager.receives(&format!("READY=1\nMAINPID={pid}"));
    runtime.delete_all();
    run.wait().exits(128 + 9);
}

/// `systemd-notify` sends one end of a pipe and waits for the other to be closed.
#[test]
fn a_barrier_is_passed() {
    let runtime = Runtime::new();
    let manager = Manager::new(&runtime);
    let (id, bundle) = (runtime.id(), runtime.bundle().args(["sleep", "1000"]));
    let command = runtime.with_bundle("run", &bundle).arg(&id);
    let run = command.env("NOTIFY_SOCKET", &manager.path).spawn();
    let pid = pid_of(&runtime, &id);
    let (mut reader, writer) = pipe().unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    wait_until("the socket", || socket.connect(inside(pid)).is_ok());
    coracle_sys::send(socket.as_fd(), b"BARRIER=1", Some(writer.as_fd())).unwrap();
    drop(writer);
    reader.read_to_string(&mut String::new()).unwrap();
    runtime.delete_all();
    run.wait().exits(128 + 9);
}

#[test]
fn a_long_state_root_works() {
    let runtime = Runtime::new();
    let manager = Manager::new(&runtime);
    let root = runtime.folder().folder("x".repeat(150));
    let (id, bundle) = (
        runtime.id(),
        runtime
            .bundle()
            .args(["test", "-S", "/run/notify/notify.sock"]),
    );
    let command = runtime
        .bare()
        .arg("--root")
        .arg(root)
        .args(["run", "--bundle"]);
    let command = command.arg(&bundle.write().dir).arg(&id);
    command.env("NOTIFY_SOCKET", &manager.path).output().ok();
}

#[test]
fn an_empty_name_is_none() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell("echo ${NOTIFY_SOCKET-none}");
    let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
    assert_eq!(
        command.env("NOTIFY_SOCKET", "").output().ok().line(),
        "none"
    );
    assert!(fs::read_dir(runtime.root()).unwrap().next().is_none());
}

#[test]
fn a_manager_that_is_gone_is_a_warning() {
    let runtime = Runtime::new();
    let gone = runtime.folder().join("gone");
    let (id, bundle) = (runtime.id(), runtime.bundle().args(["sleep", "1000"]));
    let create = runtime.with_bundle("create", &bundle).arg(&id);
    create.env("NOTIFY_SOCKET", &gone).output().ok();
    let start = runtime.command(["start", &id]);
    let other = runtime.id();
    let run = runtime.with_bundle("run", &bundle);
    for (command, id) in [(start, id), (run.args(["--detach", &other]), other.clone())] {
        let running = command.env("NOTIFY_SOCKET", &gone).spawn();
        send(pid_of(&runtime, &id), "READY=1");
        let output = running.wait().ok();
        for text in ["level=warning", "notify the service manager", "ENOENT"] {
            assert!(output.stderr.contains(text), "{output}");
        }
    }
}

#[test]
fn any_user_reaches_the_socket() {
    let runtime = Runtime::new();
    let manager = Manager::new(&runtime);
    let script = "ls -ld $NOTIFY_SOCKET && test -w $NOTIFY_SOCKET";
    let bundle = runtime.bundle().shell(script).user(1000, 1000);
    for bundle in [bundle.clone(), bundle.user_namespace()] {
        let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
        let command = command.env("NOTIFY_SOCKET", &manager.path);
        command.after("umask 077").output().ok();
    }
}

/// The container needs the right to mount, and root in the host's user namespace.
#[test]
fn what_the_container_puts_beside_the_socket_goes() {
    let runtime = Runtime::new();
    let manager = Manager::new(&runtime);
    let script = "mount -o remount,bind,rw /run/notify && cd /run/notify && mkdir -p a/b/c && \
                  touch a/b/c/d x && ln -s / link && echo made; sleep 1000";
    let bundle = runtime.bundle().capabilities(["CAP_SYS_ADMIN"]);
    let (id, bundle) = (runtime.id(), bundle.shell(script));
    let command = runtime.with_bundle("run", &bundle).arg(&id);
    let run = command.env("NOTIFY_SOCKET", &manager.path).spawn();
    wait_until("the files", || run.stdout.text().contains("made"));
    let delete = runtime.command(["delete", "--force", &id]);
    delete.output().ok();
    run.wait().exits(128 + 9);
    runtime.is_clean();
}
