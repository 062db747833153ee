//! Terminals: the console socket, and `run` and `exec` on a terminal of the caller's.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;

use coracle_integration::terminal::{Terminal, expect};
use coracle_integration::{
    Bundle, Child, Command, Container, Receiver, Running, Runtime, json, wait_until,
};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};

/// A bundle with a terminal.
fn tty(runtime: &Runtime) -> Bundle {
    runtime.bundle().set("/process/terminal", json!(true))
}

/// The test's side of a container's terminal.
struct Console {
    master: OwnedFd,
    seen: String,
}

impl Console {
    #[track_caller]
    fn receive(socket: &Receiver) -> Self {
        let (payload, master) = socket.receive();
        assert!(payload.starts_with("/dev/"), "{payload:?}");
        let seen = String::new();
        Self { master, seen }
    }

    #[track_caller]
    fn expect(&mut self, text: &str) -> String {
        expect(self.master.as_fd(), &mut self.seen, text)
    }

    fn send(&self, text: &str) {
        nix::unistd::write(&self.master, text.as_bytes()).expect("write to the terminal");
    }
}

fn socket(runtime: &Runtime) -> Receiver {
    Receiver::new(&runtime.folder().join(format!("socket{}", runtime.id())))
}

/// A started container and its terminal.
fn started<'a>(runtime: &'a Runtime, bundle: &Bundle) -> (Container<'a>, Console) {
    let socket = socket(runtime);
    let container = runtime.create_with(bundle, ["--console-socket", socket.path()]);
    let console = Console::receive(&socket);
    container.start().ok();
    (container, console)
}

#[test]
fn create_sends_one_master() {
    let runtime = Runtime::new();
    let socket = socket(&runtime);
    let bundle = tty(&runtime).shell("echo ready; read line; echo got $line");
    let container = runtime.create_with(&bundle, ["--console-socket", socket.path()]);
    let mut console = Console::receive(&socket);
    container.start().ok();
    console.expect("ready\r\n");
    console.send("text\r");
    console.expect("got text\r\n");
    assert_eq!(container.exit_code(), 0);
    assert!(socket.is_idle());
    assert_eq!(container.stdout() + &container.stderr(), "");
}

#[test]
fn run_detached_sends_one_master() {
    let runtime = Runtime::new();
    let socket = socket(&runtime);
    let command = runtime.with_bundle("run", &tty(&runtime).shell("echo ready; sleep 1000"));
    let command = command.args(["--detach", "--console-socket", socket.path()]);
    command.arg(runtime.id()).output().ok();
    Console::receive(&socket).expect("ready");
}

#[test]
fn exec_detached_sends_one_master() {
    let runtime = Runtime::new();
    let (container, socket) = (runtime.sleeper(), socket(&runtime));
    let file = runtime.folder().join("pid");
    let options = [
        "--tty",
        "--detach",
        "--console-socket",
        socket.path(),
        "--pid-file",
    ];
    let command = runtime
        .command(["exec"])
        .args(options)
        .arg(&file)
        .arg(&container.id);
    command.args(["sh", "-c", "tty; read line"]).output().ok();
    let process = Child::adopt(&file);
    let mut console = Console::receive(&socket);
    console.expect("/dev/pts/0");
    console.send("\r");
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn a_process_file_decides_on_the_terminal() {
    let runtime = Runtime::new();
    let (container, socket) = (runtime.sleeper(), socket(&runtime));
    let process = json!({
        "terminal": true, "consoleSize": {"height": 11, "width": 22}, "cwd": "/",
        "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"],
        "args": ["sh", "-c", "stty size; read x"],
    });
    let process = runtime.folder().file("process.json", &process.to_string());
    let pid = runtime.folder().join("pid");
    let command = runtime.command([
        "exec",
        "-d",
        "--console-socket",
        socket.path(),
        "--pid-file",
    ]);
    command
        .arg(&pid)
        .arg("--process")
        .arg(process)
        .arg(&container.id)
        .output()
        .ok();
    let process = Child::adopt(&pid);
    let mut console = Console::receive(&socket);
    console.expect("11 22");
    console.send("\r");
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn the_terminal_is_the_containers() {
    let runtime = Runtime::new();
    let script = "tty; for n in 0 1 2; do readlink /proc/$$/fd/$n; done; ls /dev/pts; \
                  ls -l /dev/console; echo done; sleep 1000";
    let (_container, mut console) = started(&runtime, &tty(&runtime).shell(script));
    let text = console.expect("done");
    assert_eq!(text.matches("/dev/pts/0\r\n").count(), 4, "{text}");
    assert!(text.contains("ptmx"), "{text}");
    assert!(text.contains("crw"), "{text}");
}

#[test]
fn it_is_the_controlling_terminal() {
    let runtime = Runtime::new();
    let script = "trap 'echo interrupted; exit 4' INT; echo by tty >/dev/tty; \
                  echo by console >/dev/console; while :; do sleep 0.01; done";
    let (container, mut console) = started(&runtime, &tty(&runtime).shell(script));
    console.expect("by tty");
    console.expect("by console");
    console.send("\x03");
    console.expect("interrupted");
    assert_eq!(container.exit_code(), 4);
}

#[test]
fn it_belongs_to_the_processes_user() {
    let runtime = Runtime::new();
    let script = "stat -c 'owner %u' $(tty); echo works >$(tty); sleep 1000";
    let (_container, mut console) =
        started(&runtime, &tty(&runtime).user(1000, 1000).shell(script));
    console.expect("owner 1000");
    console.expect("works");
}

#[test]
fn its_size_is_the_configs() {
    let runtime = Runtime::new();
    let size = json!({"height": 33, "width": 77});
    let bundle = tty(&runtime).set("/process/consoleSize", size);
    let (_container, mut console) = started(&runtime, &bundle.shell("stty size; sleep 1000"));
    console.expect("33 77");
}

#[test]
fn a_closed_master_hangs_up() {
    let runtime = Runtime::new();
    let (container, mut console) = started(
        &runtime,
        &tty(&runtime).shell("trap 'exit 5' HUP; echo up; while :; do sleep 0.01; done"),
    );
    console.expect("up");
    drop(console);
    assert_eq!(container.exit_code(), 5);
}

#[test]
fn a_long_socket_path_works() {
    let runtime = Runtime::new();
    let folder = runtime
        .folder()
        .folder("x".repeat(100))
        .join("y".repeat(100));
    fs::create_dir(&folder).unwrap();
    let short = runtime.folder().join("s");
    symlink(&folder, &short).unwrap();
    let socket = Receiver::new(&short.join("socket"));
    let long = folder.join("socket");
    let bundle = tty(&runtime).shell("echo up; sleep 1000");
    runtime
        .create_with(&bundle, ["--console-socket", long.to_str().unwrap()])
        .start()
        .ok();
    Console::receive(&socket).expect("up");
}

#[test]
fn a_bad_socket_undoes_all() {
    let runtime = Runtime::new();
    let file = runtime.folder().file("file", "");
    for path in ["/no/such/socket", file.to_str().unwrap(), "/", "/dev/null"] {
        let command = runtime
            .with_bundle("create", &tty(&runtime))
            .args(["--console-socket", path]);
        command
            .arg(runtime.id())
            .output()
            .fails(["--console-socket", path]);
        runtime.is_clean();
    }
}

const NO_SOCKET: &str = "cannot allocate tty if coracle will detach without setting console socket";
const NO_TERMINAL: &str = "cannot use console socket if coracle will not detach or allocate tty";

#[test]
fn a_terminal_without_a_socket_is_refused() {
    let runtime = Runtime::new();
    runtime.try_create(&tty(&runtime)).fails([NO_SOCKET]);
    runtime
        .run_with(&tty(&runtime), ["--detach"])
        .fails([NO_SOCKET]);
    runtime.is_clean();
}

#[test]
fn a_socket_without_a_terminal_is_refused() {
    let runtime = Runtime::new();
    let socket = socket(&runtime);
    let options = ["--console-socket", socket.path()];
    let command = runtime
        .with_bundle("create", &runtime.bundle())
        .args(options);
    command.arg(runtime.id()).output().fails([NO_TERMINAL]);
    runtime
        .run_with(&runtime.bundle(), options)
        .fails([NO_TERMINAL]);
    runtime
        .run_with(&tty(&runtime), options)
        .fails([NO_TERMINAL]);
    runtime.is_clean();
    assert!(socket.is_idle());
}

#[test]
fn exec_follows_the_same_rules() {
    let runtime = Runtime::new();
    let (container, socket) = (runtime.sleeper(), socket(&runtime));
    let option = ["--console-socket", socket.path()];
    container
        .exec_with(["--tty", "--detach"], ["true"])
        .fails_as(255, [NO_SOCKET]);
    container
        .exec_with(option, ["true"])
        .fails_as(255, [NO_TERMINAL]);
    container
        .exec_with([option[0], option[1], "--detach"], ["true"])
        .fails_as(255, [NO_TERMINAL]);
    container
        .exec_with([option[0], option[1], "--tty"], ["true"])
        .fails_as(255, [NO_TERMINAL]);
    assert!(socket.is_idle());
}

#[test]
fn without_a_pty_filesystem_it_fails() {
    let runtime = Runtime::new();
    let bundle = tty(&runtime).without_mount("/dev/pts");
    let output = runtime.run(&bundle);
    assert_ne!(output.code, 0, "{output}");
    assert!(
        output.stderr.contains("ptmx") || output.stderr.contains("devpts"),
        "{output}"
    );
    runtime.is_clean();
}

/// `run` of a script in the foreground of a terminal.
fn run(runtime: &Runtime, terminal: &Terminal, script: &str) -> Running {
    let command = runtime
        .with_bundle("run", &tty(runtime).shell(script))
        .arg(runtime.id());
    terminal.attach(command).spawn()
}

#[test]
fn run_shows_the_containers_output() {
    let runtime = Runtime::new();
    let mut terminal = Terminal::new();
    let run = run(&runtime, &terminal, "echo one; tty; echo two >&2");
    terminal.expect("one\r\n/dev/pts/0\r\ntwo\r\n");
    run.wait().ok();
}

#[test]
fn run_passes_typed_text() {
    let runtime = Runtime::new();
    let mut terminal = Terminal::new();
    let run = run(
        &runtime,
        &terminal,
        "echo ready; read line; echo got $line; read line; echo got $line",
    );
    terminal.expect("ready");
    terminal.send("one\r");
    terminal.expect("got one");
    terminal.send("two\r");
    terminal.expect("got two");
    run.wait().ok();
}

/// The terminal does not echo: what comes back was written by the container.
#[test]
fn run_passes_much_typed_text() {
    let runtime = Runtime::new();
    let mut terminal = Terminal::new();
    let script = "stty raw -echo; echo ready; head -c 100000 | tr -d '\\n' | wc -c";
    let run = run(&runtime, &terminal, script);
    terminal.expect("ready");
    for _ in 0..1000 {
        terminal.send(&"x".repeat(100));
    }
    terminal.expect("100000");
    run.wait().ok();
}

#[test]
fn an_interrupt_reaches_the_container() {
    let runtime = Runtime::new();
    let mut terminal = Terminal::new();
    let script = "trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.01; done";
    let run = run(&runtime, &terminal, script);
    terminal.expect("ready");
    terminal.send("\x03");
    terminal.expect("interrupted");
    run.wait().exits(4);
}

#[test]
fn an_end_of_input_reaches_the_container() {
    let runtime = Runtime::new();
    let mut terminal = Terminal::new();
    let run = run(&runtime, &terminal, "echo ready; cat; echo end");
    terminal.expect("ready");
    terminal.send("line\r\x04");
    terminal.expect("line");
    terminal.expect("end");
    run.wait().ok();
}

#[test]
fn the_size_follows_the_callers() {
    let runtime = Runtime::new();
    let mut terminal = Terminal::new();
    terminal.resize(41, 123);
    let script = "trap 'stty size' WINCH; stty size; echo ready; while :; do sleep 0.01; done";
    let run = run(&runtime, &terminal, script);
    terminal.expect("41 123");
    terminal.expect("ready");
    terminal.resize(50, 90);
    terminal.expect("50 90");
    runtime.delete_all();
    run.wait().exits(128 + 9);
}

/// As BuildKit gives a terminal to a step without input: for its output alone.
#[test]
fn the_size_is_that_of_a_terminal_for_output() {
    let runtime = Runtime::new();
    let mut terminal = Terminal::new();
    terminal.resize(41, 123);
    let script = "trap 'stty size' WINCH; stty size; echo ready; while :; do sleep 0.01; done";
    let command = runtime.with_bundle("run", &tty(&runtime).shell(script));
    let command = command.arg(runtime.id());
    let empty = fs::File::open("/dev/null").expect("no input");
    let command = command.stdin(empty).stdout(terminal.slave());
    let run = command.stderr(terminal.slave()).spawn();
    terminal.expect("41 123");
    terminal.expect("ready");
    terminal.resize(50, 90);
    kill(run.pid, Signal::SIGWINCH).expect("a signal");
    terminal.expect("50 90");
    runtime.delete_all();
    run.wait().exits(128 + 9);
}

#[test]
fn the_callers_terminal_is_raw_meanwhile() {
    let runtime = Runtime::new();
    let mut terminal = Terminal::new();
    let before = terminal.modes();
    let run = run(&runtime, &terminal, "echo ready; read x");
    terminal.expect("ready");
    let modes = terminal.modes();
    assert!(
        modes.contains("-icanon") && modes.contains("-isig") && modes.contains("-echo "),
        "{modes}"
    );
    terminal.send("\r");
    run.wait().ok();
    assert_eq!(terminal.modes(), before);
}

#[test]
fn the_callers_terminal_is_restored_after_a_kill() {
    let runtime = Runtime::new();
    let mut terminal = Terminal::new();
    let before = terminal.modes();
    let running = run(&runtime, &terminal, "echo ready; sleep 1000");
    terminal.expect("ready");
    runtime.delete_all();
    running.wait().exits(128 + 9);
    assert_eq!(terminal.modes(), before);
    let running = run(
        &runtime,
        &terminal,
        "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done",
    );
    terminal.expect("ready");
    running.signal(nix::sys::signal::SIGTERM);
    running.wait().exits(7);
    assert_eq!(terminal.modes(), before);
}

#[test]
fn the_callers_terminal_is_restored_after_a_failure() {
    let runtime = Runtime::new();
    let mut terminal = Terminal::new();
    let before = terminal.modes();
    let hook = json!({"path": "/bin/false"});
    for bundle in [
        tty(&runtime).args(["/missing"]),
        tty(&runtime).hook("startContainer", hook.clone()),
        tty(&runtime)
            .hook("poststart", hook)
            .args(["sleep", "1000"]),
    ] {
        let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
        terminal.attach(command).output().exits(1);
        // On a terminal the record is for people.
        terminal.expect("ERRO");
        assert_eq!(terminal.modes(), before);
        runtime.is_clean();
    }
}

#[test]
fn no_output_is_lost_at_the_end() {
    let runtime = Runtime::new();
    for lines in [1, 100, 20_000] {
        let bundle = tty(&runtime).shell(&format!("seq 1 {lines}"));
        let output = runtime.run(&bundle).ok();
        assert_eq!(output.stdout.lines().count(), lines);
        assert_eq!(
            output.stdout.lines().last(),
            Some(lines.to_string().as_str())
        );
    }
}

#[test]
fn exit_codes_are_passed_on() {
    let runtime = Runtime::new();
    let bundle = tty(&runtime).without_namespace("pid");
    runtime.run(&bundle.clone().shell("exit 7")).exits(7);
    runtime.run(&bundle.shell("kill -KILL $$")).exits(128 + 9);
}

#[test]
fn a_terminal_in_front_of_pipes() {
    let runtime = Runtime::new();
    let bundle =
        tty(&runtime).shell("test -t 0 && test -t 1 && test -t 2 && read x && echo got $x");
    let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let output = command.input("typed\n").output().ok();
    // One newline character a line: a second terminal would add a carriage return.
    assert!(output.stdout.ends_with("got typed\n"), "{output}");
}

#[test]
fn an_ended_input_is_no_end() {
    let runtime = Runtime::new();
    let output = runtime
        .run(&tty(&runtime).shell("sleep 0.1; echo still here"))
        .ok();
    assert_eq!(output.stdout, "still here\n");
}

/// `exec --tty` of a script in the foreground of a terminal.
fn exec(container: &Container, terminal: &Terminal, script: &str) -> Running {
    let command: Command = container.exec_command(["--tty"], ["sh", "-c", script]);
    terminal.attach(command).spawn()
}

#[test]
fn exec_shows_the_processes_output() {
    let runtime = Runtime::new();
    let (container, mut terminal) = (runtime.sleeper(), Terminal::new());
    terminal.resize(44, 55);
    let before = terminal.modes();
    let exec = exec(
        &container,
        &terminal,
        "tty; stty size; read x; echo got $x; exit 3",
    );
    terminal.expect("/dev/pts/0\r\n44 55\r\n");
    terminal.send("typed\r");
    terminal.expect("got typed");
    exec.wait().exits(3);
    assert_eq!(terminal.modes(), before);
}

#[test]
fn exec_passes_an_interrupt() {
    let runtime = Runtime::new();
    let (container, mut terminal) = (runtime.sleeper(), Terminal::new());
    let exec = exec(
        &container,
        &terminal,
        "trap 'exit 4' INT; echo ready; while :; do sleep 0.01; done",
    );
    terminal.expect("ready");
    terminal.send("\x03");
    exec.wait().exits(4);
    assert_eq!(container.status(), "running");
}

#[test]
fn exec_without_a_flag_has_no_terminal() {
    let runtime = Runtime::new();
    let (container, _console) = started(&runtime, &tty(&runtime).args(["sleep", "1000"]));
    let output = container
        .shell("test -t 0 || echo none; cat /dev/tty")
        .exits(1);
    assert_eq!(output.stdout, "none\n");
}

#[test]
fn exec_in_a_container_without_terminal() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let output = container
        .exec_with(["-t"], ["sh", "-c", "tty; echo x >/dev/tty"])
        .ok();
    assert_eq!(output.stdout, "/dev/pts/0\nx\n");
}

/// A process that still has the terminal open when the program ends.
#[test]
fn a_background_process_does_not_hold_run() {
    let runtime = Runtime::new();
    let bundle = tty(&runtime).without_namespace("pid");
    let bundle = bundle.shell("trap '' HUP; sleep 1000 & echo $! >/tmp/pid; echo end");
    let output = runtime.run(&bundle).ok();
    assert_eq!(output.stdout, "end\n");
    wait_until("the end of the other", || runtime.leftovers().is_empty());
}

/// As services do that have their streams elsewhere and the console for messages.
#[test]
fn a_terminal_may_be_closed_and_opened_again() {
    let runtime = Runtime::new();
    let script = "for n in 1 2; do exec </dev/null >/dev/null 2>&1; sleep 0.1; exec >/dev/console; \
                  head -c 20000 /dev/zero | tr '\\0' $n; done; exit 7";
    let output = runtime.run(&tty(&runtime).shell(script)).exits(7);
    assert_eq!(output.stdout, "1".repeat(20_000) + &"2".repeat(20_000));
}

#[test]
fn a_stopped_reader_does_not_hold_run() {
    let runtime = Runtime::new();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    writer.write_all(&[0; 4096]).unwrap();
    let command = runtime.with_bundle("run", &tty(&runtime).shell("echo unread; exit 7"));
    command.arg(runtime.id()).stdout(writer).output().exits(7);
    runtime.is_clean();
}
