//! `exec`: the process that joins has the whole confinement of the container.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use coracle_integration::runner::patience;
use coracle_integration::{
    Child, Command, Output, Running, Runtime, Value, groups, json, needs, wait_until,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::SETS;

#[test]
fn exit_codes_are_passed_on() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    for code in [0, 1, 7, 126, 254] {
        let output = container.shell(&format!("exit {code}")).exits(code);
        assert_eq!(output.stdout + &output.stderr, "");
    }
}

#[test]
fn signals_are_passed_on() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    container.shell("kill -KILL $$").exits(128 + 9);
    container.shell("kill -TERM $$").exits(128 + 15);
}

#[test]
fn own_failures_exit_with_255() {
    let runtime = Runtime::new();
    runtime
        .command(["exec", &runtime.id(), "true"])
        .output()
        .fails_as(255, ["does not exist"]);
}

#[test]
fn a_missing_program_is_named() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let output = container.exec(["missing"]);
    output.fails_as(255, ["missing", "executable file not found in $PATH"]);
    container
        .exec(["/bin/missing"])
        .fails_as(255, ["/bin/missing", "no such file or directory"]);
    container
        .exec(["/etc/passwd"])
        .fails_as(255, ["/etc/passwd", "permission denied"]);
}

#[test]
fn all_namespaces_are_joined() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .new_namespace("cgroup")
        .args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let of_init = fs::read_link(format!("/proc/{}/ns/{kind}", container.pid())).unwrap();
        let output = container
            .exec(["readlink", &format!("/proc/self/ns/{kind}")])
            .ok();
        assert_eq!(output.line(), of_init.to_str().unwrap());
    }
}

#[test]
fn the_control_group_is_joined() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let of_init = container.proc("cgroup");
    assert_eq!(
        container.exec(["cat", "/proc/self/cgroup"]).ok().stdout,
        of_init
    );
}

#[test]
fn the_root_is_the_containers() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .file("/etc/mark", "inside")
        .args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    assert_eq!(container.exec(["cat", "/etc/mark"]).ok().line(), "inside");
    let output = container.exec(["cat", "/proc/self/mountinfo"]).ok();
    assert_eq!(output.stdout, container.proc("mountinfo"));
}

#[test]
fn standard_streams_are_passed() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let output = container
        .exec_command([], ["sh", "-c", "cat; echo err >&2"])
        .input("in")
        .output();
    let output = output.ok();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("in", "err\n")
    );
}

#[test]
fn it_works_in_a_created_container() {
    let runtime = Runtime::new();
    let inside = runtime.create(&runtime.bundle().user_namespace().user(5, 5));
    assert_eq!(inside.exec(["id", "-u"]).ok().line(), "5");
    inside.start().ok();
    let container = runtime.create(&runtime.bundle());
    assert_eq!(container.exec(["echo", "early"]).ok().line(), "early");
    assert_eq!(container.status(), "created");
}

#[test]
fn it_fails_in_a_stopped_container() {
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle());
    container.wait_for_status("stopped");
    container.exec(["true"]).fails_as(255, ["stopped"]);
}

#[test]
fn it_fails_in_a_paused_container() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    container.verb("pause").ok();
    container.exec(["true"]).fails_as(255, ["paused"]);
    container.verb("resume").ok();
    container.exec(["true"]).ok();
}

#[test]
fn arguments_after_the_id_are_the_commands() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    assert_eq!(
        container
            .exec(["echo", "-n", "--user", "5", "--"])
            .ok()
            .stdout,
        "--user 5 --"
    );
    let output = runtime
        .command(["exec", &container.id, "--", "echo", "x"])
        .output();
    assert!(output.code == 255 || output.stdout == "x\n", "{output}");
}

#[test]
fn the_environment_is_the_configs_and_the_flags() {
    let runtime = Runtime::new();
    let env = json!(["PATH=/bin", "A=1", "B=2", "HOME=/h"]);
    let container = runtime.start(
        &runtime
            .bundle()
            .set("/process/env", env)
            .args(["sleep", "1000"]),
    );
    let output = container
        .exec_with(["--env", "B=3", "-e", "C=4"], ["env"])
        .ok();
    let mut lines: Vec<&str> = output.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=1", "B=3", "C=4", "HOME=/h", "PATH=/bin"]);
}

/// User, group and groups.
const IDS: [&str; 3] = [
    "sh",
    "-c",
    "grep -E '^(Uid|Gid|Groups)' /proc/self/status | cut -f2- | xargs",
];

#[test]
fn the_user_is_the_configs_or_the_flags() {
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle().user(10, 20).args(["sleep", "1000"]));
    assert_eq!(container.exec(IDS).ok().line(), "10 10 10 10 20 20 20 20");
    let output = container.exec_with(["--user", "30"], IDS).ok();
    assert!(output.line().starts_with("30 30 30 30 "), "{output}");
    let output = container.exec_with(["-u", "30:40"], IDS).ok();
    assert_eq!(output.line(), "30 30 30 30 40 40 40 40");
}

#[test]
fn the_user_is_numeric_only() {
    let runtime = Runtime::new();
    let container = runtime.start(&runtime.bundle().user(5, 5).args(["sleep", "1000"]));
    let odd = [
        "root",
        "-1",
        "4294967296",
        "4294967295",
        "1000:4294967296",
        "1000:-1",
        "1 ",
        " 1",
        "+1",
    ];
    for user in odd.iter().chain(&[
        "1:2:3",
        ":",
        "1:",
        ":1",
        "0x1",
        "1.0",
        "",
        "99999999999999999999",
    ]) {
        container
            .exec_with(["--user", user], ["id"])
            .fails_as(255, []);
    }
}

#[test]
fn cwd_is_the_configs_or_the_flags() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .set("/process/cwd", json!("/usr"))
        .args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    assert_eq!(container.exec(["pwd"]).ok().line(), "/usr");
    assert_eq!(
        container.exec_with(["--cwd", "/tmp"], ["pwd"]).ok().line(),
        "/tmp"
    );
}

/// As with runc and crun a mistyped directory is an error, and the container stays as it is.
#[test]
fn a_missing_cwd_is_not_made() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    container
        .exec_with(["--cwd", "/a/b"], ["pwd"])
        .fails_as(255, ["process.cwd: ", "/a/b", "no such file or directory"]);
    assert_eq!(container.shell("test -e /a").code, 1);
}

#[test]
fn the_umask_is_the_configs() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .set("/process/user/umask", json!(0o77))
        .args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    assert_eq!(container.shell("umask").ok().line(), "0077");
    let command = runtime.sleeper().exec_command([], ["sh", "-c", "umask"]);
    assert_eq!(command.after("umask 0").output().ok().line(), "0022");
}

#[test]
fn groups_are_the_configs_and_the_flags() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .set("/process/user/additionalGids", json!([7]));
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    assert!(container.exec(IDS).ok().line().ends_with(" 7"));
    let output = container
        .exec_with(["--additional-gids", "8", "-g", "9"], IDS)
        .ok();
    assert!(output.line().ends_with(" 7 8 9"), "{output}");
}

#[test]
fn the_callers_groups_are_dropped() {
    let runtime = Runtime::new();
    let command = runtime
        .sleeper()
        .exec_command([], ["grep", "Groups", "/proc/self/status"]);
    let output = command
        .under("setpriv", ["--groups=4,27,44", "--"])
        .output()
        .ok();
    assert_eq!(output.line(), "Groups:");
}

#[test]
fn capabilities_are_the_configs() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .capabilities(["CAP_KILL"])
        .args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    let output = container.exec(SETS).ok();
    assert_eq!(output.stdout, "Inh: \nPrm: 20\nEff: 20\nBnd: 20\nAmb: \n");
    let bundle = bundle.remove("/process/capabilities");
    let output = runtime.start(&bundle).exec(SETS).ok();
    assert_eq!(output.stdout, "Inh: \nPrm: \nEff: \nBnd: \nAmb: \n");
}

#[test]
fn the_cap_flag_adds_but_inherits_nothing() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .capabilities(["CAP_KILL"])
        .args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    let output = container.exec_with(["--cap", "CAP_CHOWN"], SETS).ok();
    assert_eq!(output.stdout, "Inh: \nPrm: 21\nEff: 21\nBnd: 21\nAmb: \n");
}

#[test]
fn no_new_privileges_is_the_configs_or_the_flags() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let look = ["grep", "NoNewPrivs", "/proc/self/status"];
    assert_eq!(
        runtime.start(&bundle).exec(look).ok().line(),
        "NoNewPrivs:\t1"
    );
    let open = runtime.start(&bundle.set("/process/noNewPrivileges", json!(false)));
    assert_eq!(open.exec(look).ok().line(), "NoNewPrivs:\t0");
    assert_eq!(
        open.exec_with(["--no-new-privs"], look).ok().line(),
        "NoNewPrivs:\t1"
    );
}

#[test]
fn limits_are_the_configs() {
    let runtime = Runtime::new();
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}]);
    let bundle = runtime
        .bundle()
        .set("/process/rlimits", limits)
        .args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    assert_eq!(
        container.shell("ulimit -Sn; ulimit -Hn").ok().line(),
        "55\n66"
    );
}

#[test]
fn the_keyring_is_the_containers() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .remove("/linux/maskedPaths")
        .args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    let output = container.exec(["cat", "/proc/keys"]).ok();
    assert!(
        output.stdout.contains(&format!("_ses.{}", container.id)),
        "{output}"
    );
}

#[test]
fn signals_are_reset() {
    let runtime = Runtime::new();
    let look = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let command = runtime.sleeper().exec_command([], look);
    let command = command.under(
        "env",
        ["--block-signal=USR1,TERM", "--ignore-signal=PIPE,HUP,64"],
    );
    let zero = "0000000000000000";
    assert_eq!(
        command.output().ok().stdout,
        format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n")
    );
}

#[test]
fn no_descriptor_but_stdio_is_open() {
    let runtime = Runtime::new();
    let command = runtime.sleeper().exec_command([], ["ls", "/proc/self/fd"]);
    let output = command
        .after("exec 3</ 4</etc/passwd 9</dev/zero")
        .output()
        .ok();
    assert_eq!(output.stdout, "0\n1\n2\n3\n");
}

fn process_file(runtime: &Runtime, process: Value) -> String {
    let path = runtime.folder().file("process.json", &process.to_string());
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_process_file_decides_all() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let script = "echo $A; pwd; umask; ulimit -n; id -u; id -g; grep CapBnd /proc/self/status";
    let file = process_file(
        &runtime,
        json!({
            "args": ["sh", "-c", script], "cwd": "/usr", "env": ["PATH=/bin", "A=x"],
            "user": {"uid": 3, "gid": 4, "umask": 23}, "noNewPrivileges": false,
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}],
            "capabilities": {"bounding": ["CAP_CHOWN"]},
        }),
    );
    let output = runtime
        .command(["exec", "--process", &file, &container.id])
        .output()
        .ok();
    assert_eq!(
        output.stdout,
        "x\n/usr\n0027\n33\n3\n4\nCapBnd:\t0000000000000001\n"
    );
}

#[test]
fn a_bad_process_file_is_refused() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let exec = |file: &str| {
        runtime
            .command(["exec", "--process", file, &container.id])
            .output()
    };
    exec("/no/such/file").fails_as(255, ["/no/such/file"]);
    for (process, name) in [
        (json!({"args": ["true"], "cwd": "rel"}), "cwd"),
        (json!({"args": [], "cwd": "/"}), "args"),
        (
            json!({"args": ["true"], "cwd": "/", "user": {"uid": -1, "gid": 0}}),
            "uid",
        ),
        (
            json!({"args": ["true"], "cwd": "/", "env": ["NOEQUALS"]}),
            "env",
        ),
        (json!({"args": "true", "cwd": "/"}), "args"),
        (json!([]), ""),
    ] {
        exec(&process_file(&runtime, process)).fails_as(255, [name]);
    }
}

#[test]
fn detached_returns_while_it_runs() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let file = runtime.folder().join("pid");
    let options = ["--detach", "--pid-file", file.to_str().unwrap()];
    let running = container
        .exec_command(options, ["sh", "-c", "echo up; sleep 1000"])
        .spawn();
    running.wait().ok();
    let _process = Child::adopt(&file);
    wait_until("output", || running.stdout.text() == "up\n");
    let pids = runtime
        .command(["ps", "--format", "json", &container.id])
        .output()
        .ok();
    assert!(pids.line().split(',').count() > 1, "{pids}");
}

#[test]
fn the_pid_file_is_the_processes() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let file = runtime.folder().join("pid");
    let options = ["--detach", "--pid-file", file.to_str().unwrap()];
    container.exec_with(options, ["sleep", "999"]).ok();
    let process = Child::adopt(&file);
    let line = format!("/proc/{}/cmdline", process.pid);
    wait_until("exec", || {
        fs::read_to_string(&line).is_ok_and(|text| text == "sleep\x00999\x00")
    });
    let pid = nix::unistd::Pid::from_raw(process.pid);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    // It has become our child, as an engine expects.
    assert_eq!(process.exit_code(), 128 + 15);
}

#[test]
fn the_user_namespace_is_joined() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().user_namespace().args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    assert_eq!(container.exec(IDS).ok().line(), "0 0 0 0 0 0 0 0");
    let output = container.exec(["cat", "/proc/self/uid_map"]).ok();
    let map: Vec<&str> = output.stdout.split_whitespace().collect();
    assert_eq!(map, ["0", "100000", "65536"]);
    let output = container.exec_with(["--user", "70000"], ["id"]);
    output.fails_as(255, ["70000"]);
}

#[test]
fn the_time_namespace_is_joined() {
    let runtime = Runtime::new();
    let offsets = json!({"boottime": {"secs": 1_000_000_000, "nanosecs": 0}});
    let bundle = runtime
        .bundle()
        .new_namespace("time")
        .set("/linux/timeOffsets", offsets);
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    let output = container.exec(["cat", "/proc/uptime"]).ok();
    assert!(output.stdout.starts_with("10000"), "{output}");
}

#[test]
fn a_joined_pid_namespace_is_joined() {
    let runtime = Runtime::new();
    let first = runtime.sleeper();
    let path = format!("/proc/{}/ns/pid", first.pid());
    let second = runtime.start(
        &runtime
            .bundle()
            .join_namespace("pid", &path)
            .args(["sleep", "999"]),
    );
    let output = second.exec(["ps"]).ok();
    assert!(
        output.stdout.contains("sleep 1000") && output.stdout.contains("sleep 999"),
        "{output}"
    );
}

#[test]
fn masked_paths_are_masked() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    assert_eq!(container.exec(["cat", "/proc/timer_list"]).ok().stdout, "");
    assert_ne!(container.shell("echo x >/proc/sys/kernel/hostname").code, 0);
}

#[test]
fn the_scheduler_of_init_is_not_inherited() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let output = container.shell("cut -d' ' -f19,41 /proc/self/stat").ok();
    assert_eq!(output.line(), "0 0");
}

#[test]
fn the_cpu_affinity_is_set() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let look = ["grep", "Cpus_allowed_list", "/proc/self/status"];
    let all = runtime.start(&bundle).exec(look).ok().stdout;
    let bound = bundle.set(
        "/process/execCPUAffinity",
        json!({"initial": "0", "final": "0"}),
    );
    let container = runtime.start(&bound);
    assert_eq!(container.exec(look).ok().line(), "Cpus_allowed_list:\t0");
    let of_init = container.proc("status");
    assert!(of_init.contains(&all), "init is not affected");
}

#[test]
fn many_leave_nothing() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    for _ in 0..coracle_integration::runner::times(50, 500) {
        container.exec(["true"]).ok();
    }
    let pids = runtime
        .command(["ps", "--format", "json", &container.id])
        .output()
        .ok();
    assert_eq!(pids.line(), format!("[{}]", container.pid()));
}

#[test]
fn many_at_once_work() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let commands: Vec<_> = (0..10)
        .map(|_| container.exec_command([], ["echo", "x"]).spawn())
        .collect();
    for command in commands {
        assert_eq!(command.wait().ok().stdout, "x\n");
    }
}

#[test]
fn the_process_dies_with_the_container() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let exec = container
        .exec_command([], ["sh", "-c", "echo up; sleep 1000"])
        .spawn();
    wait_until("the process", || exec.stdout.text() == "up\n");
    container.kill("KILL").ok();
    exec.wait().exits(128 + 9);
}

/// The kernel kills the process before it sends its first message. That must not be taken for a
/// kill at the clone, after which it would be launched once more.
#[test]
fn one_that_waits_for_the_resume_ends_with_the_container() {
    let runtime = Runtime::new();
    for shared in [false, true, false, true] {
        let bundle = runtime.bundle().args(["sleep", "1000"]);
        let container = runtime.start(&match shared {
            true => bundle.without_namespace("pid"),
            false => bundle,
        });
        container.verb("pause").ok();
        let command = container.exec_command(["--ignore-paused"], ["sleep", "1000"]);
        let exec = command.spawn();
        let holds_two = |group: &PathBuf| {
            let members = fs::read_to_string(group.join("cgroup.procs"));
            members.is_ok_and(|list| list.lines().count() == 2)
        };
        wait_until("the process", || {
            groups(&container.id).iter().any(holds_two)
        });
        let signal = ["kill", "--all", &container.id, "TERM"];
        runtime.command(signal).output().ok();
        container.delete_by_force().ok();
        exec.wait().fails_as(255, []);
    }
}

/// The process between the runtime and init dies after it has cloned init, whose end of the socket
/// stays open.
#[test]
fn it_ends_with_the_intermediate_process() {
    needs::program("strace");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let path = format!("/proc/{}/ns/pid", container.pid());
    let joining = runtime.bundle().join_namespace("pid", &path);
    for verb in ["exec", "run"] {
        let command = || match verb {
            "exec" => container.exec_command([], ["true"]),
            _ => runtime.with_bundle("run", &joining).arg(runtime.id()),
        };
        // Its first write after the clone is the message `Forked`.
        let (output, trace) = traced(&runtime, command(), None).end();
        output.ok();
        let (pid, _) = intermediate(&trace).expect("an intermediate");
        let own = trace.lines().filter(|line| line.starts_with(&pid));
        let joined = own.take_while(|line| !line.contains("CLONE_PARENT"));
        let word = joined.filter(|line| line.contains("write(")).count() + 1;
        let start = Instant::now();
        let run = traced(&runtime, command(), Some(word));
        wait_until("the intermediate", || intermediate(&run.text()).is_some());
        let (_, pid) = intermediate(&run.text()).expect("an intermediate");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it waits to say its word");
        let (output, _) = run.end();
        // Some kernels kill a process that is cloned into a full cgroup, and it is cloned once more
        // then.
        assert!(
            output.code == 0 || output.stderr.contains("SIGKILL"),
            "{output}"
        );
        assert!(start.elapsed() < patience(20), "{output}");
    }
    assert_eq!(container.status(), "running");
    container.exec(["true"]).ok();
}

/// A command under strace(1), and what that writes.
struct Traced {
    running: Running,
    trace: PathBuf,
}

impl Traced {
    fn text(&self) -> String {
        fs::read_to_string(&self.trace).unwrap_or_default()
    }

    fn end(self) -> (Output, String) {
        (self.running.wait(), self.text())
    }
}

/// Holds each process up for 2 s in its write(2) of that number, if there is one.
fn traced(runtime: &Runtime, command: Command, held: Option<usize>) -> Traced {
    let trace = runtime.folder().join(format!("trace{}", runtime.id()));
    let mut options = vec![
        "-f".to_owned(),
        "-o".to_owned(),
        trace.display().to_string(),
    ];
    options.push("--trace=clone3,write".to_owned());
    options.extend(held.map(|n| format!("--inject=write:delay_enter=2000000:when={n}")));
    let running = command.under("strace", options).spawn();
    Traced { running, trace }
}

/// The process that cloned a sibling: its number as it stands in the trace, and as such.
fn intermediate(trace: &str) -> Option<(String, i32)> {
    let mut lines = trace.lines();
    let clone = lines.find(|line| line.contains("CLONE_PARENT"))?;
    let pid = clone.split(' ').next()?;
    let own = format!("{pid} ");
    // The clone may be seen in two parts, with calls of what it made between them.
    let is_resumed = |line: &str| line.starts_with(&own) && line.contains("clone3 resumed");
    let is_done = clone.contains(") = ") || lines.any(is_resumed);
    is_done.then_some(())?;
    let number = pid.parse().ok()?;
    Some((own, number))
}

#[test]
fn the_oom_score_adjustment_is_the_configs() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .set("/process/oomScoreAdj", json!(321))
        .args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    assert_eq!(
        container
            .exec(["cat", "/proc/self/oom_score_adj"])
            .ok()
            .line(),
        "321"
    );
}

#[test]
fn personality_is_the_configs() {
    needs_personality();
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .set("/linux/personality", json!({"domain": "LINUX32"}));
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    assert_eq!(container.exec(["uname", "-m"]).ok().line(), "i686");
}

/// User-mode Linux supports no personality but its own.
pub(crate) fn needs_personality() {
    let i686 = Command::new("setarch").args(["i686", "true"]).output();
    if i686.code != 0 {
        coracle_integration::skip!("this kernel has no personality LINUX32");
    }
}

#[test]
fn preserved_descriptors_are_passed() {
    let runtime = Runtime::new();
    let file = runtime.folder().file("text", "kept");
    let container = runtime.sleeper();
    let command = container.exec_command(["--preserve-fds", "1"], ["sh", "-c", "cat <&3"]);
    let command = command.after(&format!("exec 3<{} 4</", file.display()));
    assert_eq!(command.output().ok().stdout, "kept");
    let command = container.exec_command(["--preserve-fds", "2"], ["true"]);
    command.output().fails_as(255, ["preserve"]);
}

#[test]
fn it_survives_a_deleted_bundle() {
    needs::program("mv");
    let runtime = Runtime::new();
    let bundle = runtime.bundle().user(11, 12).args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    fs::rename(&bundle.dir, runtime.folder().join("gone")).unwrap();
    assert_eq!(container.exec(IDS).ok().line(), "11 11 11 11 12 12 12 12");
}
