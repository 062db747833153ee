//! Hooks: when, where and with what they run, and what follows if one fails.

use std::fs;
use std::path::PathBuf;

use coracle_integration::runner::patience;
use coracle_integration::{Bundle, Child, Output, Runtime, Value, json, needs, wait_until};
use nix::sys::signal::Signal;

pub(crate) const POINTS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];
pub(crate) const CREATE_TIME: [&str; 3] = ["prestart", "createRuntime", "createContainer"];

pub(crate) fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// A folder of the host that hooks inside of the container see as well, in the same place.
pub(crate) fn shared(runtime: &Runtime, bundle: Bundle) -> (PathBuf, Bundle) {
    let folder = runtime.folder().folder("shared");
    let to = folder.to_str().unwrap().to_owned();
    (folder.clone(), bundle.bind(folder, &to, []))
}

/// Each point appends its name, or what the shell makes of `text`, to a log.
pub(crate) fn logging(runtime: &Runtime, points: &[&str]) -> (PathBuf, Bundle) {
    let (folder, mut bundle) = shared(runtime, runtime.bundle());
    let log = folder.join("log");
    for point in points {
        bundle = bundle.hook(point, shell(&format!("echo {point} >>{}", log.display())));
    }
    (log, bundle)
}

pub(crate) fn text(path: &PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The output of a script that runs as a hook of this point.
fn found(point: &str, script: &str, change: impl Fn(Bundle) -> Bundle) -> String {
    let runtime = Runtime::new();
    let (folder, bundle) = shared(&runtime, runtime.bundle());
    let file = folder.join("found");
    let script = format!("({script}) >{} 2>&1", file.display());
    runtime
        .run(&change(bundle.hook(point, shell(&script))))
        .ok();
    text(&file)
}

fn same(bundle: Bundle) -> Bundle {
    bundle
}

#[test]
fn all_points_run_in_the_order_of_the_life() {
    let runtime = Runtime::new();
    let (log, bundle) = logging(&runtime, &POINTS);
    let container = runtime.create(&bundle.args(["sleep", "1000"]));
    assert_eq!(text(&log), "prestart\ncreateRuntime\ncreateContainer\n");
    container.start().ok();
    assert!(
        text(&log).ends_with("startContainer\npoststart\n"),
        "{}",
        text(&log)
    );
    container.kill("KILL").ok();
    container.exit_code();
    assert_eq!(text(&log).lines().count(), 5);
    container.delete().ok();
    assert_eq!(text(&log).lines().collect::<Vec<_>>(), POINTS);
}

#[test]
fn run_passes_all_points() {
    let runtime = Runtime::new();
    let (log, bundle) = logging(&runtime, &POINTS);
    runtime.run(&bundle).ok();
    assert_eq!(text(&log).lines().collect::<Vec<_>>(), POINTS);
}

#[test]
fn hooks_of_a_point_run_in_listed_order() {
    for point in POINTS {
        let runtime = Runtime::new();
        let (folder, mut bundle) = shared(&runtime, runtime.bundle());
        let log = folder.join("log");
        for number in 0..5 {
            bundle = bundle.hook(point, shell(&format!("echo {number} >>{}", log.display())));
        }
        runtime.run(&bundle).ok();
        assert_eq!(text(&log), "0\n1\n2\n3\n4\n", "{point}");
    }
}

#[test]
fn exec_runs_no_hooks() {
    let runtime = Runtime::new();
    let (log, bundle) = logging(&runtime, &POINTS);
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    container.exec(["true"]).ok();
    assert_eq!(text(&log).lines().count(), 5);
}

/// The states that all hooks got, in the order of [`POINTS`], and init's pid.
fn states(runtime: &Runtime) -> (Vec<Value>, i32) {
    let (folder, mut bundle) = shared(runtime, runtime.bundle().args(["sleep", "1000"]));
    for point in POINTS {
        bundle = bundle.hook(point, shell(&format!("cat >{}/{point}", folder.display())));
    }
    let container = runtime.start(&bundle.set("/annotations", json!({"a/b": "c"})));
    let pid = container.pid();
    container.delete_by_force().ok();
    let parse = |point| serde_json::from_str(&text(&folder.join(point))).expect(point);
    (POINTS.map(parse).to_vec(), pid)
}

#[test]
fn states_tell_the_status_and_the_pid() {
    let (states, pid) = states(&Runtime::new());
    let status: Vec<_> = states
        .iter()
        .map(|state| state["status"].as_str())
        .collect();
    let expected = [
        "creating", "creating", "creating", "created", "running", "stopped",
    ];
    assert_eq!(status, expected.map(Some));
    // Hooks inside see init by its number there.
    let pids: Vec<_> = states.iter().map(|state| state["pid"].as_i64()).collect();
    let pid = Some(i64::from(pid));
    assert_eq!(pids[..5], [pid, pid, Some(1), Some(1), pid]);
    assert_eq!(pids[5].unwrap_or(0), 0);
}

#[test]
fn the_state_is_one_line_with_all_properties() {
    let runtime = Runtime::new();
    let (states, _) = states(&runtime);
    for (point, state) in POINTS.iter().zip(states) {
        let raw = text(&runtime.folder().join("shared").join(point));
        assert!(!raw.trim_end().contains('\n'), "{point}: {raw}");
        assert!(!raw.contains("\\/"), "{point}: {raw}");
        assert!(
            state["ociVersion"].as_str().unwrap().starts_with("1."),
            "{point}: {raw}"
        );
        assert!(
            state["id"].as_str().unwrap().starts_with(runtime.marker()),
            "{point}: {raw}"
        );
        assert!(
            state["bundle"].as_str().unwrap().contains("/bundle"),
            "{point}: {raw}"
        );
        assert_eq!(state["annotations"], json!({"a/b": "c"}), "{point}");
    }
}

const NAMESPACES: &str = "for n in cgroup ipc mnt net pid uts; do readlink /proc/$$/ns/$n; done";

fn our_namespaces() -> String {
    let script = NAMESPACES.replace("$$", "self");
    let output = coracle_integration::Command::new("sh").args(["-c", &script]);
    output.output().ok().stdout
}

#[test]
fn runtime_hooks_run_in_the_callers_namespaces() {
    for point in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(found(point, NAMESPACES, same), our_namespaces(), "{point}");
    }
}

#[test]
fn create_container_runs_in_the_containers_namespaces() {
    for point in ["createContainer", "startContainer"] {
        let runtime = Runtime::new();
        let (folder, bundle) = shared(&runtime, runtime.bundle().new_namespace("cgroup"));
        let file = folder.join("found");
        let script = format!("({}) >{}", NAMESPACES.replace("$$", "self"), file.display());
        let container = runtime.start(&bundle.hook(point, shell(&script)).args(["sleep", "1000"]));
        for (name, found) in ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
            .iter()
            .zip(text(&file).lines())
        {
            let link = fs::read_link(format!("/proc/{}/ns/{name}", container.pid())).unwrap();
            assert_eq!(found, link.to_str().unwrap(), "{point}");
        }
    }
}

#[test]
fn start_container_runs_in_the_container() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .script("/hook", "hostname >/name; pwd >/cwd");
    let bundle = bundle.set("/process/cwd", json!("/tmp"));
    runtime
        .run(
            &bundle
                .clone()
                .hook("startContainer", json!({"path": "/hook"})),
        )
        .ok();
    assert_eq!(text(&bundle.path("/name")), "coracle\n");
}

#[test]
fn start_container_runs_as_the_containers_user() {
    let ids = "grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs)' /proc/self/status | cut -f2 | xargs";
    let out = found("startContainer", &format!("{ids}; umask"), |bundle| {
        let folder = bundle.dir.parent().unwrap().join("shared");
        fs::write(folder.join("found"), "").unwrap();
        nix::unistd::chown(&folder.join("found"), Some(7.into()), None).unwrap();
        bundle
            .user(7, 7)
            .capabilities(["CAP_KILL"])
            .set("/process/user/umask", json!(0o27))
    });
    assert_eq!(out, "7 0000000000000000 0000000000000020 1\n0027\n");
}

#[test]
fn create_container_hooks_start_in_the_root() {
    let out = found("createContainer", "ls -d bin proc; pwd", same);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[..2], ["bin", "proc"]);
    assert!(lines[2].ends_with("/rootfs"), "{out}");
}

const PID: &str = "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p')";

#[test]
fn runtime_hooks_find_the_namespaces_and_mounts_made() {
    for point in ["prestart", "createRuntime"] {
        let script = format!("{PID}; readlink /proc/$pid/ns/net; cat /proc/$pid/mountinfo");
        let out = found(point, &script, same);
        let ours = fs::read_link("/proc/self/ns/net").unwrap();
        assert!(out.starts_with("net:[") && !out.starts_with(ours.to_str().unwrap()));
        assert!(out.contains("/rootfs/proc "), "{point}: {out}");
        assert!(out.contains("/rootfs/dev/shm "), "{point}: {out}");
    }
}

#[test]
fn create_container_hooks_can_still_change_the_root() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .folder("/mnt")
        .set("/root/readonly", json!(true));
    let script = "echo made >file; mount -t tmpfs tmpfs mnt; echo mounted >mnt/file";
    let script = format!("cd {} && {{ {script}; }}", bundle.rootfs().display());
    let bundle = bundle.hook("createContainer", shell(&script));
    let output = runtime.run(&bundle.shell("cat /file /mnt/file; echo x >/file || echo ro"));
    assert_eq!(output.ok().stdout, "made\nmounted\nro\n");
}

#[test]
fn a_mount_of_a_runtime_hook_appears_in_the_container() {
    needs::program("nsenter");
    let runtime = Runtime::new();
    let bundle = runtime.bundle().folder("/mnt");
    let mount = format!(
        "{PID}; nsenter -t $pid -m sh -c 'mount -t tmpfs tmpfs {0} && echo x >{0}/file'",
        bundle.path("/mnt").display()
    );
    let bundle = bundle.hook("createRuntime", shell(&mount));
    assert_eq!(
        runtime.run(&bundle.args(["cat", "/mnt/file"])).ok().stdout,
        "x\n"
    );
}

#[test]
fn poststart_runs_when_the_program_runs() {
    let script = format!("{PID}; tr '\\0' ' ' </proc/$pid/cmdline; :");
    let out = found("poststart", &script, |bundle| bundle.args(["sleep", "0.5"]));
    assert_eq!(out.trim(), "sleep 0.5");
}

#[test]
fn poststop_runs_when_all_is_gone() {
    let runtime = Runtime::new();
    let script = format!(
        "ls {}; find /sys/fs/cgroup -name '{}*'",
        runtime.root().display(),
        runtime.marker()
    );
    let (folder, bundle) = shared(&runtime, runtime.bundle());
    let file = folder.join("found");
    let script = format!("({script}) >{}", file.display());
    runtime.run(&bundle.hook("poststop", shell(&script))).ok();
    assert!(file.exists());
    assert_eq!(text(&file), "");
}

fn environment_at(point: &str, env: Option<Value>) -> Vec<String> {
    let runtime = Runtime::new();
    let (folder, bundle) = shared(&runtime, runtime.bundle());
    let file = folder.join("found");
    // Shells add these by themselves.
    let script = "env | grep -vE '^(PWD|SHLVL|OLDPWD|_)='";
    let mut hook = shell(&format!("{script} >{}", file.display()));
    if let Some(env) = env {
        hook["env"] = env;
    }
    let command = runtime.with_bundle("run", &bundle.hook(point, hook));
    command.arg(runtime.id()).env("SECRET", "1").output().ok();
    let mut lines: Vec<_> = text(&file).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_environment_is_clean_unless_given() {
    for point in POINTS.iter().filter(|point| **point != "startContainer") {
        let lines = environment_at(point, None);
        assert_eq!(lines.len(), 1, "{point}: {lines:?}");
        assert!(lines[0].starts_with("PATH="), "{point}: {lines:?}");
    }
    for point in POINTS {
        let given = json!(["PATH=/bin:/usr/bin", "A=b=c", "E="]);
        assert_eq!(
            environment_at(point, Some(given)),
            ["A=b=c", "E=", "PATH=/bin:/usr/bin"]
        );
    }
}

#[test]
fn start_container_hooks_have_the_processes_environment() {
    let lines = environment_at("startContainer", None);
    assert_eq!(
        lines,
        [
            "HOME=/root",
            "PATH=/usr/local/bin:/usr/bin:/bin:/sbin",
            "TERM=xterm"
        ]
    );
}

#[test]
fn arguments_are_passed_as_they_are() {
    let runtime = Runtime::new();
    let file = runtime.folder().join("found");
    let script = format!("tr '\\0' '|' </proc/$$/cmdline >{}; :", file.display());
    let args = json!(["any name", "sh", "-c", script, "", "a b", "$HOME"]);
    let hook = json!({"path": "/bin/busybox", "args": args});
    runtime
        .run(&runtime.bundle().hook("prestart", hook.clone()))
        .fails(["any name"]);
    let hook = json!({"path": "/bin/busybox", "args": ["sh", "-c", script, "", "a b", "$HOME"]});
    runtime.run(&runtime.bundle().hook("prestart", hook)).ok();
    assert!(text(&file).ends_with("||a b|$HOME|"), "{}", text(&file));
    let plain = runtime.folder().script("hook", &script);
    runtime
        .run(&runtime.bundle().hook("prestart", json!({"path": plain})))
        .ok();
    assert_eq!(text(&file), format!("/bin/sh|{}|", plain.display()));
}

#[test]
fn hooks_have_no_descriptors_but_their_own() {
    for point in POINTS {
        let runtime = Runtime::new();
        let (folder, bundle) = shared(&runtime, runtime.bundle());
        let file = folder.join("found");
        let script = format!("set -- /proc/$$/fd/*; echo $* >{}", file.display());
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        let command = runtime.with_bundle("run", &bundle.hook(point, hook));
        command
            .arg(runtime.id())
            .after("exec 5</etc/passwd 9</")
            .output()
            .ok();
        let found = text(&file);
        let numbers: Vec<_> = found
            .split_whitespace()
            .filter_map(|path| path.rsplit('/').next()?.parse::<u32>().ok())
            .filter(|number| *number != 10 && *number != 255)
            .collect();
        // The shell has one for the folder that it reads.
        assert!(
            numbers.iter().all(|number| *number <= 3),
            "{point}: {found}"
        );
    }
}

#[test]
fn hooks_have_no_blocked_or_ignored_signals() {
    for point in POINTS {
        let runtime = Runtime::new();
        let (folder, bundle) = shared(&runtime, runtime.bundle());
        let file = folder.join("found");
        let script = format!(
            "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2 >{}",
            file.display()
        );
        let command = runtime.with_bundle("run", &bundle.hook(point, shell(&script)));
        let command = command
            .arg(runtime.id())
            .after("trap '' HUP USR1 TERM PIPE");
        command.output().ok();
        assert_eq!(
            text(&file),
            "0000000000000000\n0000000000000000\n",
            "{point}"
        );
    }
}

#[test]
fn output_of_a_hook_that_succeeds_reaches_nobody() {
    let runtime = Runtime::new();
    let mut bundle = runtime.bundle();
    for point in POINTS {
        bundle = bundle.hook(point, shell("echo out; echo err >&2"));
    }
    let output = runtime.run(&bundle.shell("echo container")).ok();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("container\n", "")
    );
}

#[test]
fn state_answers_while_a_hook_runs() {
    let runtime = Runtime::new();
    let (proceed, id) = (runtime.folder().join("proceed"), runtime.id());
    let script = format!("while ! test -e {}; do sleep 0.01; done", proceed.display());
    let bundle = runtime.bundle().hook("createRuntime", shell(&script));
    let create = runtime.with_bundle("create", &bundle).arg(&id).spawn();
    let state = || runtime.command(["state", &id]).output();
    wait_until("the status", || state().stdout.contains("\"creating\""));
    let list = runtime.command(["list", "-f", "json"]).output().ok();
    assert!(list.stdout.contains("\"creating\""), "{list}");
    fs::write(proceed, "").unwrap();
    create.wait().ok();
    assert!(state().ok().stdout.contains("\"created\""));
}

/// Asserts that `output` names a failure of this point's first hook.
#[track_caller]
fn names_failure(output: Output, point: &str, reason: &str) -> Output {
    let name = format!("error running {point} hook #0: /bin/sh");
    output.fails([name.as_str(), reason])
}

#[test]
fn a_failing_create_time_hook_undoes_all() {
    for point in CREATE_TIME {
        let runtime = Runtime::new();
        let (log, bundle) = logging(&runtime, &["startContainer", "poststart", "poststop"]);
        let bundle = bundle.hook(point, shell("echo no; echo disk >&2; exit 3"));
        names_failure(runtime.try_create(&bundle), point, "exit status 3: no");
        runtime.is_clean();
        assert_eq!(text(&log), "poststop\n", "{point}");
        names_failure(runtime.run(&bundle), point, "exit status 3");
        runtime.is_clean();
    }
}

#[test]
fn the_first_failure_ends_the_list() {
    for point in CREATE_TIME {
        let runtime = Runtime::new();
        let (log, bundle) = logging(&runtime, &[point]);
        let bundle = bundle.hook(point, shell("exit 1"));
        let second = shell(&format!("echo second >>{}", log.display()));
        runtime
            .try_create(&bundle.hook(point, second))
            .fails([format!("error running {point} hook #1: /bin/sh: exit status 1").as_str()]);
        assert_eq!(text(&log), format!("{point}\n"));
    }
}

#[test]
fn a_failing_start_container_hook_fails_start() {
    let runtime = Runtime::new();
    let (log, bundle) = logging(&runtime, &["poststart", "poststop"]);
    let bundle = bundle.hook("startContainer", shell("echo said; exit 5"));
    let container = runtime.create(&bundle.shell("echo ran"));
    names_failure(container.start(), "startContainer", "exit status 5: said");
    container.exit_code();
    assert_eq!(container.status(), "stopped");
    assert_eq!(container.stdout() + &container.stderr(), "");
    container.delete().ok();
    assert_eq!(text(&log), "poststop\n");
}

#[test]
fn a_failing_start_container_hook_fails_run() {
    let runtime = Runtime::new();
    let (log, bundle) = logging(&runtime, &["poststart", "poststop"]);
    let bundle = bundle.hook("startContainer", shell("echo said; exit 5"));
    names_failure(
        runtime.run(&bundle),
        "startContainer",
        "exit status 5: said",
    );
    runtime.is_clean();
    assert_eq!(text(&log), "poststop\n");
}

#[test]
fn a_failing_poststart_hook_ends_the_container() {
    let runtime = Runtime::new();
    let (log, bundle) = logging(&runtime, &["poststop"]);
    let bundle = bundle.hook("poststart", shell("echo said; exit 6"));
    let bundle = bundle.args(["sleep", "1000"]);
    let container = runtime.create(&bundle);
    names_failure(container.start(), "poststart", "exit status 6: said");
    assert_eq!(container.exit_code(), 128 + 9);
    container.delete_by_force().ok();
    assert_eq!(text(&log), "poststop\n");
    names_failure(runtime.run(&bundle), "poststart", "exit status 6");
    runtime.is_clean();
}

#[test]
fn a_hanging_poststart_hook_does_not_hold_delete() {
    let runtime = Runtime::new();
    let (folder, bundle) = shared(&runtime, runtime.bundle());
    let (begun, end) = (folder.join("begun"), folder.join("end"));
    let script = format!(
        "touch {}; until test -e {}; do sleep 0.01; done; exit 6",
        begun.display(),
        end.display()
    );
    let bundle = bundle.hook("poststart", shell(&script));
    let container = runtime.create(&bundle.args(["sleep", "1000"]));
    let start = runtime.command(["start", &container.id]).spawn();
    wait_until("the hook", || begun.exists());
    container.delete_by_force().ok();
    container.verb("state").fails(["does not exist"]);
    fs::write(end, "").unwrap();
    names_failure(start.wait(), "poststart", "exit status 6");
    runtime.is_clean();
}

#[test]
fn a_failing_poststop_hook_is_a_warning() {
    let runtime = Runtime::new();
    let (folder, bundle) = shared(&runtime, runtime.bundle());
    let bundle = bundle.hook("poststop", shell("echo said; exit 7"));
    let second = shell(&format!("echo second >>{}/log", folder.display()));
    let container = runtime.create(&bundle.hook("poststop", second));
    let output = container.delete().ok();
    assert!(output.stderr.contains("level=warning"), "{output}");
    assert!(
        output
            .stderr
            .contains("error running poststop hook #0: /bin/sh: exit status 7: said"),
        "{output}"
    );
    assert_eq!(text(&folder.join("log")), "second\n");
    runtime.is_clean();
}

#[test]
fn poststop_runs_on_forced_deletion() {
    let runtime = Runtime::new();
    let (log, bundle) = logging(&runtime, &["poststop"]);
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    container.delete_by_force().ok();
    container.delete_by_force().ok();
    assert_eq!(text(&log), "poststop\n");
}

#[test]
fn poststop_runs_when_a_failed_deletion_is_repeated() {
    let runtime = Runtime::new();
    let (log, bundle) = logging(&runtime, &["poststop"]);
    let container = runtime.start(&bundle);
    container.wait_for_status("stopped");
    let obstacle = runtime.root().join(&container.id).join("resolv.conf");
    fs::create_dir(&obstacle).unwrap();
    container.delete().fails(["remove", "resolv.conf"]);
    assert_eq!(text(&log), "");
    fs::remove_dir(obstacle).unwrap();
    let output = container.delete().ok();
    assert_eq!(output.stderr, "");
    assert_eq!(text(&log), "poststop\n");
}

#[test]
fn poststop_runs_after_a_failed_program() {
    let runtime = Runtime::new();
    let (log, bundle) = logging(&runtime, &["createRuntime", "poststop"]);
    runtime
        .try_create(&bundle.args(["/missing"]))
        .fails(["/missing"]);
    // The program is looked for in the container: the hooks of the creation have run.
    assert_eq!(text(&log), "createRuntime\npoststop\n");
    runtime.is_clean();
}

/// A hook that lasts too long, with a child that would outlive it.
fn slow(runtime: &Runtime) -> Value {
    let mut hook = shell("sleep 1000 & wait");
    hook["timeout"] = json!(1);
    hook["env"] = json!([
        "PATH=/bin:/usr/bin",
        format!("CORACLE_TEST={}", runtime.marker())
    ]);
    hook
}

#[test]
fn a_hook_that_is_too_slow_is_killed() {
    for point in CREATE_TIME {
        let runtime = Runtime::new();
        let bundle = runtime.bundle().hook(point, slow(&runtime));
        let output = names_failure(runtime.try_create(&bundle), point, "1 s");
        assert!(output.time < patience(10), "{output}");
        runtime.is_clean();
    }
    let runtime = Runtime::new();
    let bundle = runtime.bundle().hook("poststop", slow(&runtime));
    let output = runtime.create(&bundle).delete().ok();
    assert!(output.stderr.contains("1 s"), "{output}");
    runtime.is_clean();
}

#[test]
fn slow_start_container_and_poststart_hooks_are_killed() {
    for point in ["startContainer", "poststart"] {
        let runtime = Runtime::new();
        let bundle = runtime.bundle().hook(point, slow(&runtime));
        let container = runtime.create(&bundle.args(["sleep", "1000"]));
        names_failure(container.start(), point, "1 s");
        container.exit_code();
        container.delete_by_force().ok();
        runtime.is_clean();
    }
}

/// Engines take that text for a missing command of the container.
#[test]
fn a_missing_hook_is_no_missing_command() {
    for point in POINTS {
        let runtime = Runtime::new();
        let bundle = runtime.bundle().hook(point, json!({"path": "/no/hook"}));
        let output = runtime.run(&bundle);
        let name = format!("error running {point} hook #0: /no/hook");
        assert!(output.stderr.contains(&name), "{output}");
        assert!(
            !output.stderr.contains("no such file or directory"),
            "{output}"
        );
        assert_eq!(output.code, i32::from(point != "poststop"), "{output}");
    }
}

#[test]
fn a_hook_that_cannot_be_executed_is_named() {
    let runtime = Runtime::new();
    for (path, reason) in [
        ("/etc", "EACCES"),
        ("/etc/passwd", "EACCES"),
        ("/etc/passwd/x", ""),
    ] {
        let bundle = runtime
            .bundle()
            .hook("createRuntime", json!({"path": path}));
        let name = format!("error running createRuntime hook #0: {path}: ");
        runtime.try_create(&bundle).fails([name.as_str(), reason]);
    }
}

#[test]
fn a_killed_hook_is_told() {
    let runtime = Runtime::new();
    for point in CREATE_TIME {
        let bundle = runtime.bundle().hook(point, shell("kill -SEGV $$"));
        names_failure(runtime.try_create(&bundle), point, "signal");
    }
}

#[test]
fn long_output_is_cut() {
    for point in [
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
    ] {
        let runtime = Runtime::new();
        let script =
            "dd if=/dev/zero bs=1000 count=300 2>/dev/null | tr '\\0' x; echo last; exit 1";
        let output = names_failure(
            runtime.run(&runtime.bundle().hook(point, shell(script))),
            point,
            "last",
        );
        assert!(
            output.stderr.len() < 20_000,
            "{point}: {} bytes",
            output.stderr.len()
        );
    }
}

#[test]
fn a_daemon_of_a_hook_holds_nobody() {
    let runtime = Runtime::new();
    let file = runtime.folder().join("pid");
    let script = format!("sleep 1000 & echo $! >>{}", file.display());
    let bundle = runtime.bundle();
    let bundle = bundle
        .hook("prestart", shell(&script))
        .hook("createRuntime", shell(&script));
    let bundle = bundle
        .hook("poststart", shell(&script))
        .hook("poststop", shell(&script));
    let output = runtime.run(&bundle);
    let pids: Vec<i32> = text(&file)
        .lines()
        .filter_map(|pid| pid.parse().ok())
        .collect();
    for pid in &pids {
        let pid = nix::unistd::Pid::from_raw(*pid);
        nix::sys::signal::kill(pid, Signal::SIGKILL).expect("the daemon lives");
    }
    assert_eq!(pids.len(), 4);
    assert!(output.ok().time < patience(10));
}

#[test]
fn a_daemon_of_a_container_hook_holds_nobody() {
    // The daemon may not have executed `sleep` yet when the program starts.
    let look = "n=0; until ps -o comm | grep -qx sleep || [ $n = 200 ]; do n=$((n+1)); \
                usleep 10000; done; ps -o comm | grep -cx sleep";
    // A daemon of createContainer starts on the host, and may find no `sleep` after the change
    // of root: the program does not look for it.
    for (point, program) in [("createContainer", "echo 1"), ("startContainer", look)] {
        let runtime = Runtime::new();
        let bundle = runtime.bundle().hook(point, shell("sleep 1000 &"));
        let output = runtime.run(&bundle.shell(program)).ok();
        assert_eq!(output.line(), "1", "{point}");
        assert!(output.time < patience(10), "{point}");
        runtime.is_clean();
    }
}

fn large(runtime: &Runtime, script: &str) -> Bundle {
    let note = json!({"note": "x".repeat(1_000_000)});
    let mut bundle = runtime.bundle().set("/annotations", note);
    for point in POINTS {
        bundle = bundle.hook(point, shell(script));
    }
    bundle
}

#[test]
fn a_large_state_is_passed_whole() {
    let runtime = Runtime::new();
    let script = "test $(wc -c) -gt 1000000";
    runtime.run(&large(&runtime, script)).ok();
}

#[test]
fn a_large_state_need_not_be_read() {
    let runtime = Runtime::new();
    runtime.run(&large(&runtime, "exec <&-")).ok();
    runtime.run(&large(&runtime, "head -c 10 >/dev/null")).ok();
}

#[test]
fn bad_hooks_are_refused() {
    let runtime = Runtime::new();
    for (hook, name) in [
        (json!({"path": "true"}), "path"),
        (json!({"path": ""}), "path"),
        (json!({"path": "./true"}), "path"),
        (json!({}), "path"),
        (json!({"path": 5}), "path"),
        (json!({"path": "/bin/true", "timeout": 0}), "timeout"),
        (json!({"path": "/bin/true", "timeout": -1}), "timeout"),
        (json!({"path": "/bin/true", "timeout": "5"}), "timeout"),
        (json!({"path": "/bin/true", "env": ["A"]}), "env"),
        (json!({"path": "/bin/true", "env": ["=A"]}), "env"),
        (json!({"path": "/bin/true", "env": "A=1"}), "env"),
        (json!({"path": "/bin/true", "args": "true"}), "args"),
        (json!({"path": "/bin/true", "args": [5]}), "args"),
        (json!({"path": "/bin/true\u{0}"}), "path"),
        (json!(["/bin/true"]), "hooks"),
    ] {
        for point in POINTS {
            let bundle = runtime.bundle().hook(point, hook.clone());
            let place = format!("hooks.{point}[0]");
            runtime.try_create(&bundle).fails([place.as_str(), name]);
        }
    }
}

#[test]
fn unknown_points_are_ignored() {
    let runtime = Runtime::new();
    let hooks = json!({"beforeLunch": [{"path": "x"}], "prestart": null, "poststop": []});
    runtime.run(&runtime.bundle().set("/hooks", hooks)).ok();
    runtime
        .run(&runtime.bundle().set("/hooks", json!(null)))
        .ok();
    runtime.run(&runtime.bundle().set("/hooks", json!({}))).ok();
}

#[test]
fn a_create_killed_in_a_hook_can_be_deleted() {
    for point in CREATE_TIME {
        let runtime = Runtime::new();
        let (file, id) = (runtime.folder().join("pid"), runtime.id());
        let script = format!("echo -n $$ >{}; exec sleep 1000", file.display());
        let bundle = runtime.bundle().hook(point, shell(&script));
        let create = runtime.with_bundle("create", &bundle).arg(&id).spawn();
        wait_until("the hook", || !text(&file).is_empty());
        create.signal(Signal::SIGKILL);
        create.wait().exits(128 + 9);
        runtime.command(["delete", "--force", &id]).output().ok();
        if point != "createContainer" {
            // No runtime knows of the hook any more.
            let hook = Child::adopt(&file);
            let pid = nix::unistd::Pid::from_raw(hook.pid);
            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
            assert_eq!(hook.exit_code(), 128 + 9);
        }
        runtime.is_clean();
    }
}

/// All of it: also what coracle adds, and the HOME that it finds in the container.
#[test]
fn start_container_hooks_have_the_processes_home() {
    let runtime = Runtime::new();
    let look = |file: &str| json!(["sh", "-c", format!("env | sort >/tmp/{file}")]);
    let hook = json!({"path": "/bin/sh", "args": look("hook")});
    let other = json!({"path": "/bin/sh", "args": look("other"), "env": ["PATH=/bin", "A=own"]});
    let bundle = runtime.bundle().hook("startContainer", hook);
    let bundle = bundle.hook("startContainer", other).user(65_534, 65_534);
    let passwd = "nobody:x:65534:65534::/home/nobody:/bin/sh\n";
    let bundle = bundle.file("/etc/passwd", passwd);
    let bundle = bundle.set("/process/env", json!(["PATH=/bin", "A=process"]));
    let bundle = bundle.set("/process/args", look("process"));
    for verb in ["run", "create"] {
        let text = |file: &str| fs::read_to_string(bundle.path(&format!("/tmp/{file}"))).unwrap();
        if verb == "run" {
            runtime.run(&bundle).ok();
        } else {
            let container = runtime.create(&bundle);
            container.start().ok();
            assert_eq!(container.exit_code(), 0);
        }
        let environment = |file| {
            let text: String = text(file);
            let mine = |line: &&str| {
                !["PWD=", "SHLVL=", "_=", "OLDPWD="]
                    .iter()
                    .any(|shells| line.starts_with(shells))
            };
            text.lines()
                .filter(mine)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            environment("process"),
            ["A=process", "HOME=/home/nobody", "PATH=/bin"]
        );
        assert_eq!(environment("hook"), environment("process"));
        assert_eq!(environment("other"), ["A=own", "PATH=/bin"]);
    }
}
