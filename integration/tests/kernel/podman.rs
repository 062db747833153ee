//! podman and conmon above the runtime: what they expect of it shows in what the user gets.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_integration::terminal::Terminal;
use coracle_integration::{Command, Output, Runtime, control_file, needs, program, wait_until};

coracle_integration::tests![
    run_prints_and_exits,
    exit_codes_are_passed_on,
    a_missing_command_is_127,
    a_command_without_permission_is_126,
    input_is_passed,
    many_lines_are_complete,
    the_environment_and_the_user_are_asked_for,
    a_terminal_works,
    exec_runs_in_the_container,
    exec_of_a_missing_command_is_127,
    a_created_container_can_be_removed,
    stop_ends_the_container,
    kill_sends_a_signal,
    pause_and_unpause,
    limits_are_applied,
    limits_are_updated,
    volumes_and_tmpfs_are_mounted,
    a_read_only_root,
    two_containers_share_namespaces,
    hooks_of_a_folder_run,
    nothing_is_left_behind,
];

/// podman with a storage, a runtime folder and an image of its own.
struct Podman {
    runtime: Runtime,
    folder: PathBuf,
}

/// Where a runtime that is given no root keeps its state: podman gives none.
const STATE: &str = "/run/coracle";

impl Podman {
    fn new() -> Self {
        needs::program("podman");
        needs::program("conmon");
        let runtime = Runtime::new();
        let folder = runtime.folder().folder("podman");
        let podman = Self { runtime, folder };
        podman.configure();
        let image = podman.image();
        podman
            .command(&["import", image.to_str().unwrap(), "busybox"])
            .output()
            .ok();
        podman
    }

    /// Without what this root may lack, and without systemd, journal and networks.
    fn configure(&self) {
        let folder = self.folder.display();
        let text = format!(
            "[containers]\ndefault_ulimits = []\nlog_driver = \"k8s-file\"\nnetns = \"none\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
             tmp_dir = \"{folder}/tmp\"\nstatic_dir = \"{folder}/static\"\n\
             volume_path = \"{folder}/volumes\"\n"
        );
        fs::write(self.folder.join("containers.conf"), text).unwrap();
    }

    fn image(&self) -> PathBuf {
        let image = self.folder.join("image.tar");
        let bundle = self.runtime.bundle();
        let tar = Command::new("tar")
            .arg("-C")
            .arg(bundle.rootfs())
            .arg("-cf")
            .arg(&image);
        tar.arg(".").output().ok();
        image
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let path = |name: &str| self.folder.join(name);
        Command::new("podman")
            .env("CONTAINERS_CONF", path("containers.conf"))
            .env("CORACLE_TEST", self.runtime.marker())
            .arg("--runtime")
            .arg(program())
            .arg("--root")
            .arg(path("root"))
            .arg("--runroot")
            .arg(path("run"))
            .arg("--tmpdir")
            .arg(path("tmp"))
            .args(["--storage-driver", "vfs", "--events-backend", "file"])
            .args(["--cgroup-manager", "cgroupfs"])
            .args(arguments)
            .limit(120)
    }

    /// `podman run --rm` with these options and this command of the image's.
    fn run(&self, options: &[&str], command: &[&str]) -> Output {
        self.run_command(options, command).output()
    }

    fn run_command(&self, options: &[&str], command: &[&str]) -> Command {
        self.command(&["run", "--rm"])
            .args(SAFE)
            .args(options)
            .arg("busybox")
            .args(command)
    }

    /// The id of a container that runs this script in the background.
    fn start(&self, options: &[&str], script: &str) -> String {
        let command = self.command(&["run", "--detach"]).args(SAFE).args(options);
        let output = command.args(["busybox", "sh", "-c", script]).output().ok();
        output.line().to_owned()
    }

    fn inspect(&self, id: &str, what: &str) -> String {
        self.command(&["inspect", "--format", what, id])
            .output()
            .ok()
            .line()
            .to_owned()
    }
}

/// Networks need more than the runtime.
const SAFE: [&str; 2] = ["--network", "none"];

impl Drop for Podman {
    fn drop(&mut self) {
        self.command(&["rm", "--all", "--force", "--time", "0"])
            .output();
        // Layers are kept below a mount.
        self.command(&["rmi", "--all", "--force"]).output();
    }
}

fn run_prints_and_exits() {
    let podman = Podman::new();
    let output = podman.run(&[], &["echo", "hello"]).ok();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("hello\n", "")
    );
    let output = podman
        .run(&[], &["sh", "-c", "echo out; echo err >&2"])
        .ok();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

fn exit_codes_are_passed_on() {
    let podman = Podman::new();
    for code in [0, 1, 7, 255] {
        podman
            .run(&[], &["sh", "-c", &format!("exit {code}")])
            .exits(code);
    }
    podman
        .run(
            &["--init=false"],
            &["sh", "-c", "kill -9 $$; sleep 0.1; exit 3"],
        )
        .exits(3);
}

fn a_missing_command_is_127() {
    let podman = Podman::new();
    let output = podman.run(&[], &["no-such-command"]).exits(127);
    assert!(
        output.stderr.contains("executable file not found in $PATH"),
        "{output}"
    );
    podman.run(&[], &["/no/such/command"]).exits(127);
}

fn a_command_without_permission_is_126() {
    let podman = Podman::new();
    let output = podman.run(&[], &["/etc"]).exits(126);
    assert!(output.stderr.contains("permission denied"), "{output}");
    podman.run(&[], &["/etc/passwd"]).exits(126);
}

fn input_is_passed() {
    let podman = Podman::new();
    let command = podman.run_command(&["--interactive"], &["cat"]);
    assert_eq!(
        command.input("some\ntext\n").output().ok().stdout,
        "some\ntext\n"
    );
}

fn many_lines_are_complete() {
    let podman = Podman::new();
    let output = podman.run(&[], &["seq", "1", "20000"]).ok();
    assert_eq!(output.stdout.lines().count(), 20_000);
    assert!(output.stdout.ends_with("\n20000\n"));
}

fn the_environment_and_the_user_are_asked_for() {
    let podman = Podman::new();
    let options = [
        "--env",
        "A=b c",
        "--user",
        "1000:2000",
        "--workdir",
        "/tmp",
        "--hostname",
        "name",
    ];
    let output = podman
        .run(
            &options,
            &["sh", "-c", "echo $A; id -u; id -g; pwd; hostname"],
        )
        .ok();
    assert_eq!(output.stdout, "b c\n1000\n2000\n/tmp\nname\n");
}

fn a_terminal_works() {
    let podman = Podman::new();
    let mut terminal = Terminal::new();
    let script = "tty; stty size; read line; echo got $line; exit 6";
    let command = podman.run_command(&["--tty", "--interactive"], &["sh", "-c", script]);
    let running = terminal.attach(command).spawn();
    terminal.expect("/dev/pts/0");
    terminal.send("typed\r");
    terminal.expect("got typed");
    running.wait().exits(6);
}

fn exec_runs_in_the_container() {
    let podman = Podman::new();
    let id = podman.start(&[], "echo mark >/tmp/mark; sleep 1000");
    let exec = |arguments: &[&str]| podman.command(&["exec"]).args(arguments).output();
    wait_until("the mark", || {
        exec(&[&id, "cat", "/tmp/mark"]).stdout == "mark\n"
    });
    exec(&[&id, "sh", "-c", "exit 9"]).exits(9);
    let output = exec(&[
        "--user",
        "7",
        "--env",
        "X=y",
        &id,
        "sh",
        "-c",
        "id -u; echo $X",
    ])
    .ok();
    assert_eq!(output.stdout, "7\ny\n");
    let mut terminal = Terminal::new();
    let command = podman.command(&["exec", "-it", &id, "sh", "-c", "tty; read x; exit 5"]);
    let running = terminal.attach(command).spawn();
    terminal.expect("/dev/pts/0");
    terminal.send("\r");
    running.wait().exits(5);
}

fn exec_of_a_missing_command_is_127() {
    let podman = Podman::new();
    let id = podman.start(&[], "sleep 1000");
    podman
        .command(&["exec", &id, "no-such-command"])
        .output()
        .exits(127);
    podman.command(&["exec", &id, "/etc"]).output().exits(126);
    assert_eq!(podman.inspect(&id, "{{.State.Status}}"), "running");
}

fn a_created_container_can_be_removed() {
    let podman = Podman::new();
    let create = podman
        .command(&["create"])
        .args(SAFE)
        .args(["busybox", "echo", "late"]);
    let id = create.output().ok().line().to_owned();
    podman.command(&["init", &id]).output().ok();
    assert_eq!(state_of(&id), "\"created\"");
    podman.command(&["rm", "--force", &id]).output().ok();
    assert!(!Path::new(STATE).join(&id).exists());
    let create = podman
        .command(&["create"])
        .args(SAFE)
        .args(["busybox", "echo", "late"]);
    let id = create.output().ok().line().to_owned();
    assert_eq!(
        podman
            .command(&["start", "--attach", &id])
            .output()
            .ok()
            .stdout,
        "late\n"
    );
}

/// The status that the runtime itself tells.
fn state_of(id: &str) -> String {
    let output = Command::new(program()).args(["state", id]).output().ok();
    let state: coracle_integration::Value = output.stdout.parse().unwrap();
    state["status"].to_string()
}

fn stop_ends_the_container() {
    let podman = Podman::new();
    let id = podman.start(
        &[],
        "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done",
    );
    let logs = || podman.command(&["logs", &id]).output().stdout;
    wait_until("the container", || logs() == "ready\n");
    podman.command(&["stop", "--time", "20", &id]).output().ok();
    assert_eq!(
        podman.inspect(&id, "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 5"
    );
    let id = podman.start(&[], "trap '' TERM; while :; do sleep 0.01; done");
    podman.command(&["stop", "--time", "0", &id]).output().ok();
    assert_eq!(podman.inspect(&id, "{{.State.ExitCode}}"), "137");
}

fn kill_sends_a_signal() {
    let podman = Podman::new();
    let id = podman.start(
        &[],
        "trap 'exit 8' USR1; echo ready; while :; do sleep 0.01; done",
    );
    wait_until("the container", || {
        podman.command(&["logs", &id]).output().stdout == "ready\n"
    });
    podman
        .command(&["kill", "--signal", "USR1", &id])
        .output()
        .ok();
    assert_eq!(podman.command(&["wait", &id]).output().ok().line(), "8");
}

fn pause_and_unpause() {
    let podman = Podman::new();
    let id = podman.start(&[], "sleep 1000");
    podman.command(&["pause", &id]).output().ok();
    assert_eq!(state_of(&id), "\"paused\"");
    podman.command(&["unpause", &id]).output().ok();
    assert_eq!(state_of(&id), "\"running\"");
}

fn limits_are_applied() {
    needs::controller("pids");
    let podman = Podman::new();
    let options = [
        "--memory",
        "64m",
        "--pids-limit",
        "55",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
    ];
    let id = podman.start(&options, "sleep 1000");
    let pid: i32 = podman.inspect(&id, "{{.State.Pid}}").parse().unwrap();
    let of = |v1, v2| fs::read_to_string(coracle_integration::control_file(pid, v1, v2)).unwrap();
    assert_eq!(of(("pids", "pids.max"), "pids.max"), "55\n");
    assert_eq!(
        of(("memory", "memory.limit_in_bytes"), "memory.max"),
        "67108864\n"
    );
}

fn limits_are_updated() {
    needs::controller("memory");
    let podman = Podman::new();
    let id = podman.start(&["--memory", "64m"], "sleep 1000");
    let options = ["--memory", "32m", "--cpu-shares", "512"];
    let command = podman.command(&["update"]).args(options).arg(&id);
    command.output().ok();
    let pid = podman.inspect(&id, "{{.State.Pid}}").parse().unwrap();
    let read = |v1, v2| {
        let text = fs::read_to_string(control_file(pid, v1, v2)).unwrap();
        text.trim_end().to_owned()
    };
    let memory = read(("memory", "memory.limit_in_bytes"), "memory.max");
    assert_eq!(memory, "33554432");
    let weight = read(("cpu", "cpu.shares"), "cpu.weight");
    assert!(["512", "59"].contains(&weight.as_str()), "{weight}");
}

fn volumes_and_tmpfs_are_mounted() {
    let podman = Podman::new();
    let folder = podman.runtime.folder().folder("volume");
    let volume = format!("{}:/volume", folder.display());
    let options = ["--volume", &volume, "--tmpfs", "/scratch:size=1m"];
    let script = "echo x >/volume/file; df -m /scratch | tail -n 1 | awk '{print $2}'";
    assert_eq!(
        podman.run(&options, &["sh", "-c", script]).ok().stdout,
        "1\n"
    );
    assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "x\n");
}

fn a_read_only_root() {
    let podman = Podman::new();
    let script = "touch /x || echo refused; touch /tmp/x && echo made";
    let output = podman.run(&["--read-only"], &["sh", "-c", script]).ok();
    assert_eq!(output.stdout, "refused\nmade\n");
}

fn two_containers_share_namespaces() {
    let podman = Podman::new();
    let id = podman.start(&["--ipc", "shareable"], "sleep 1000");
    let (pid, ipc) = (format!("container:{id}"), format!("container:{id}"));
    let command = podman.command(&["run", "--rm"]);
    let command = command.args(["--pid", &pid, "--ipc", &ipc, "--network", &pid, "busybox"]);
    let output = command
        .args(["sh", "-c", "ps | grep -c '[s]leep 1000'"])
        .output()
        .ok();
    assert_eq!(output.line(), "1");
}

fn hooks_of_a_folder_run() {
    let podman = Podman::new();
    let (folder, log) = (
        podman.runtime.folder().folder("hooks"),
        podman.runtime.folder().join("log"),
    );
    let hook = podman
        .runtime
        .folder()
        .script("hook", &format!("cat >>{}; echo >>{0}", log.display()));
    let text = format!(
        "{{\"version\": \"1.0.0\", \"hook\": {{\"path\": \"{}\"}}, \"when\": {{\"always\": true}}, \
         \"stages\": [\"createRuntime\", \"poststop\"]}}",
        hook.display()
    );
    fs::write(folder.join("hook.json"), text).unwrap();
    let command = podman.command(&["--hooks-dir", folder.to_str().unwrap(), "run", "--rm"]);
    command.args(SAFE).args(["busybox", "true"]).output().ok();
    wait_until("both hooks", || {
        fs::read_to_string(&log).unwrap_or_default().lines().count() == 2
    });
    let text = fs::read_to_string(log).unwrap();
    assert!(
        text.contains("\"creating\"") && text.contains("\"stopped\""),
        "{text}"
    );
}

fn nothing_is_left_behind() {
    let podman = Podman::new();
    let id = podman.start(&["--name", "some"], "sleep 1000");
    assert!(Path::new(STATE).join(&id).exists());
    podman
        .command(&["rm", "--force", "--time", "0", "some"])
        .output()
        .ok();
    assert!(!Path::new(STATE).join(&id).exists());
    assert_eq!(coracle_integration::groups(&id), Vec::<PathBuf>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&id), "{mounts}");
}
