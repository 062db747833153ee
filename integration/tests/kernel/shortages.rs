//! A machine that is short of something: room for the state, descriptors, memory, processes, files
//! of `/proc`. Every verb works or is refused with one line, and `delete --force` clears what is
//! left once the shortage is over.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use coracle_integration::runner::{clean_up, is_full, times};
use coracle_integration::{Bundle, Command, HostMount, Output, Runtime, json, needs, skip};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::rootless;

/// What becomes of a command in a shortage.
type Short<'a> = &'a dyn Fn(Command) -> Command;

/// Whether it worked. If not, it was refused with one line.
#[track_caller]
fn is_done(output: &Output) -> bool {
    if output.code != 0 {
        let lines = output.stderr.trim_end().lines().count();
        assert!(output.signal.is_none() && lines == 1, "{output}");
        assert!(!output.stderr.contains("panicked"), "{output}");
    }
    output.code == 0
}

/// The same where the kernel may kill the runtime for want of memory.
#[track_caller]
fn is_done_or_killed(output: &Output) -> bool {
    output.signal != Some(Signal::SIGKILL as i32) && is_done(output)
}

/// Verbs on a container that was created, in an order in which each of them can work.
const VERBS: [&[&str]; 10] = [
    &["start"],
    &["state"],
    &["list"],
    &["exec", "true"],
    &["update", "--pids-limit", "70"],
    &["pause"],
    &["resume"],
    &["ps"],
    &["kill", "KILL"],
    &["delete", "--force"],
];

fn on(runtime: &Runtime, id: &str, words: &[&str]) -> Command {
    match words {
        ["list"] => runtime.command(["list"]),
        [verb, rest @ ..] if rest.iter().any(|word| word.starts_with('-')) => {
            runtime.command([verb]).args(rest).arg(id)
        }
        [verb, rest @ ..] => runtime.command([verb]).arg(id).args(rest),
        [] => unreachable!("a verb has a name"),
    }
}

/// Every verb in the shortage, and how many worked. Where `create` fails in it, the container is
/// created without the shortage if possible.
#[track_caller]
fn verbs_that_work(runtime: &Runtime, bundle: &Bundle, short: Short) -> usize {
    let (id, before) = (runtime.id(), runtime.leftovers());
    let create = || runtime.with_bundle("create", bundle).arg(&id).limit(20);
    let mut worked = usize::from(is_done(&short(create()).output()));
    if worked == 0 {
        runtime.command(["delete", "--force", &id]).output().ok();
        assert_eq!(runtime.leftovers(), before);
        if !is_done(&create().output()) {
            return worked;
        }
    }
    for words in VERBS {
        let output = short(on(runtime, &id, words).limit(20)).output();
        worked += usize::from(is_done(&output));
    }
    runtime.command(["delete", "--force", &id]).output().ok();
    assert_eq!(runtime.leftovers(), before);
    worked
}

const ALL: usize = VERBS.len() + 1;

fn sleeper(runtime: &Runtime) -> Bundle {
    let limits = json!({"pids": {"limit": 60}});
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    bundle.set("/linux/resources", limits)
}

/// A state root of its own, on a tmpfs that is mounted with this option.
fn state(runtime: &Runtime, option: &str) -> HostMount {
    let at = runtime.folder().folder("state");
    HostMount::at(at, ["-t", "tmpfs", "-o", option, "state"])
}

#[test]
fn a_state_root_of_a_few_pages() {
    let runtime = Runtime::new();
    let bundle = sleeper(&runtime);
    let mut worked = Vec::new();
    for kib in (4..=64).step_by(4) {
        let _state = state(&runtime, &format!("size={kib}k"));
        worked.push(verbs_that_work(&runtime, &bundle, &|command| command));
    }
    assert_eq!(worked.last(), Some(&ALL), "{worked:?}");
}

#[test]
fn a_state_root_with_few_inodes() {
    let runtime = Runtime::new();
    let bundle = sleeper(&runtime);
    let mut least = None;
    for inodes in 1..=12 {
        let _state = state(&runtime, &format!("nr_inodes={inodes}"));
        let (id, before) = (runtime.id(), runtime.leftovers());
        let run = runtime.with_bundle("run", &bundle).arg("--detach");
        if is_done(&run.arg(&id).output()) {
            least = least.or(Some(inodes));
        }
        runtime.command(["delete", "--force", &id]).output().ok();
        assert_eq!(runtime.leftovers(), before);
    }
    assert!(least.is_some_and(|inodes| inodes > 1), "{least:?}");
}

/// It fills up at each moment of the container's life.
#[test]
fn a_state_root_that_is_full() {
    let runtime = Runtime::new();
    let bundle = sleeper(&runtime);
    let state = state(&runtime, "size=256k");
    let before = runtime.leftovers();
    let fill = || fs::write(state.join(".full"), vec![0; 512 << 10]).expect_err("no room");
    for begun in 0..VERBS.len() {
        let id = runtime.id();
        let create = runtime.with_bundle("create", &bundle).arg(&id);
        create.output().ok();
        for words in &VERBS[..begun] {
            on(&runtime, &id, words).output().ok();
        }
        fill();
        for words in &VERBS[begun..] {
            is_done(&on(&runtime, &id, words).limit(20).output());
        }
        // Without room, too.
        runtime.command(["delete", "--force", &id]).output().ok();
        fs::remove_file(state.join(".full")).unwrap();
        assert_eq!(runtime.leftovers(), before);
    }
}

#[test]
fn a_state_root_that_is_read_only() {
    let runtime = Runtime::new();
    let bundle = sleeper(&runtime);
    let state = state(&runtime, "mode=755");
    let before = runtime.leftovers();
    let remount = |option: &str| {
        let mount = Command::new("mount").args(["-o", option]);
        mount.arg(&state.path).output().ok();
    };
    remount("remount,ro");
    let texts = ["read-only", "EROFS", "state"];
    runtime.try_create(&bundle).fails(texts);
    remount("remount,rw");
    assert_eq!(runtime.leftovers(), before);
    let container = runtime.start(&bundle);
    remount("remount,ro");
    assert_eq!(container.status(), "running");
    assert_eq!(container.shell("echo in").ok().line(), "in");
    container.verb("pause").ok();
    container.verb("resume").ok();
    container.delete_by_force().fails(texts);
    remount("remount,rw");
    container.delete_by_force().ok();
    assert_eq!(runtime.leftovers(), before);
}

#[test]
fn a_state_root_on_overlay() {
    let runtime = Runtime::new();
    let bundle = sleeper(&runtime);
    let layers = HostMount::new(&runtime, "layers", []);
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| layers.join(name));
    for path in [&lower, &upper, &work] {
        fs::create_dir(path).unwrap();
    }
    let [lower, upper, work] = [lower, upper, work].map(|path| path.display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let at = runtime.folder().folder("state");
    let _state = HostMount::at(at, ["-t", "overlay", "-o", &options, "overlay"]);
    let worked = verbs_that_work(&runtime, &bundle, &|command| command);
    assert_eq!(worked, ALL);
}

/// `ulimit -n`, from a value with which nothing can be opened on.
#[test]
fn few_descriptors() {
    let runtime = Runtime::new();
    let bundle = sleeper(&runtime);
    let worked: Vec<usize> = (0..=64)
        .map(|limit| {
            let script = format!("ulimit -n {limit}");
            verbs_that_work(&runtime, &bundle, &|command| command.after(&script))
        })
        .collect();
    assert_eq!(worked.last(), Some(&ALL), "{worked:?}");
}

#[test]
fn few_descriptors_for_a_container_with_all_kinds_of_parts() {
    let runtime = Runtime::new();
    let hook = json!({"path": "/bin/true"});
    let points = ["createRuntime", "createContainer", "poststart", "poststop"];
    let bundle = points.iter().fold(sleeper(&runtime), |bundle, point| {
        bundle.hook(point, hook.clone())
    });
    let bundle = bundle.user_namespace().args(["true"]);
    let worked: Vec<bool> = (0..=64)
        .map(|limit| {
            let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
            let output = run.limit(20).after(&format!("ulimit -n {limit}")).output();
            let worked = is_done(&output);
            assert!(runtime.delete_all().is_empty());
            runtime.is_clean();
            worked
        })
        .collect();
    assert_eq!(worked.last(), Some(&true), "{worked:?}");
}

/// A cgroup for the runtime, beside those of its containers.
struct Around {
    path: PathBuf,
    is_v2: bool,
}

impl Around {
    fn new(runtime: &Runtime, controller: &str) -> Self {
        needs::controller(controller);
        let is_v2 = coracle_integration::is_v2();
        let top = Path::new("/sys/fs/cgroup");
        let top = if is_v2 {
            top.into()
        } else {
            top.join(controller)
        };
        let below = fs::read_to_string(top.join("cgroup.subtree_control"));
        if is_v2 && !below.unwrap_or_default().contains(controller) {
            skip!("the root cgroup hands no {controller} controller down");
        }
        let path = top.join(format!("{}around", runtime.marker()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, is_v2 }
    }

    fn limit(&self, v1: &str, v2: &str, value: usize) {
        let file = self.path.join(if self.is_v2 { v2 } else { v1 });
        fs::write(&file, value.to_string())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    fn hold(&self, command: Command) -> Command {
        command.after(&format!("echo $$ >{}/cgroup.procs", self.path.display()))
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        // What is killed in it takes a moment to be gone.
        let is_gone = || {
            let left = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
            for pid in left.lines().filter_map(|line| line.parse().ok()) {
                let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            fs::remove_dir(&self.path).is_ok()
        };
        clean_up(|| coracle_integration::wait_until("an empty cgroup", is_gone));
    }
}

/// The container's cgroup is none below the runtime's.
fn beside(bundle: Bundle, id: &str) -> Bundle {
    bundle.set("/linux/cgroupsPath", json!(format!("/{id}")))
}

/// The kernel kills the runtime, or init, at any place.
#[test]
fn a_cgroup_of_little_memory_around_the_runtime() {
    let runtime = Runtime::new();
    let around = Around::new(&runtime, "memory");
    let (mut killed, mut worked) = (0, 0);
    let mut bytes = 16 << 10;
    while bytes < 6 << 20 {
        let id = runtime.id();
        let bundle = beside(sleeper(&runtime), &id);
        around.limit("memory.limit_in_bytes", "memory.max", bytes);
        let run = runtime.with_bundle("run", &bundle).args(["--detach", &id]);
        let output = around.hold(run.limit(20)).output();
        killed += usize::from(output.signal.is_some());
        worked += usize::from(is_done_or_killed(&output));
        let exec = runtime.command(["exec", &id, "true"]).limit(20);
        is_done_or_killed(&around.hold(exec).output());
        let delete = runtime.command(["delete", "--force", &id]).limit(20);
        is_done_or_killed(&around.hold(delete).output());
        runtime.command(["delete", "--force", &id]).output().ok();
        drop(bundle);
        let left = runtime.leftovers();
        let own = format!("control group {}", around.path.display());
        assert_eq!(left, [own], "left behind with {bytes} bytes");
        bytes += bytes / if is_full() { 64 } else { 8 };
    }
    assert!(killed > 0 && worked > 0, "{killed} killed, {worked} worked");
}

#[test]
fn no_more_processes() {
    let runtime = Runtime::new();
    let around = Around::new(&runtime, "pids");
    let hook = json!({"path": "/bin/true"});
    let mut worked = Vec::new();
    for limit in 1..=12 {
        let id = runtime.id();
        let bundle = beside(sleeper(&runtime), &id).user_namespace();
        let bundle = bundle.hook("createContainer", hook.clone());
        around.limit("pids.max", "pids.max", limit);
        let run = runtime.with_bundle("run", &bundle).args(["--detach", &id]);
        worked.push(is_done(&around.hold(run.limit(20)).output()));
        let exec = runtime.command(["exec", &id, "true"]).limit(20);
        is_done(&around.hold(exec).output());
        let delete = runtime.command(["delete", "--force", &id]).limit(20);
        is_done(&around.hold(delete).output());
        runtime.command(["delete", "--force", &id]).output().ok();
    }
    assert_eq!(worked.first(), Some(&false), "{worked:?}");
    assert_eq!(worked.last(), Some(&true), "{worked:?}");
}

/// A neighbour reads a file that does not fit into the memory of their common cgroup, over and over.
#[test]
fn memory_under_pressure() {
    let runtime = Runtime::new();
    let around = Around::new(&runtime, "memory");
    let file = runtime.folder().join("large");
    let write = Command::new("dd").args(["if=/dev/zero", "bs=1M", "count=64", "oflag=direct"]);
    let written = write.arg(format!("of={}", file.display())).output();
    if written.code != 0 {
        skip!("needs a file system that takes direct writes below the test's folder");
    }
    around.limit("memory.limit_in_bytes", "memory.max", 24 << 20);
    let script = "while :; do cat \"$0\" >/dev/null; done";
    let hog = Command::new("sh")
        .args(["-c", script])
        .arg(&file)
        .limit(120);
    let hog = around.hold(hog).spawn();
    let rounds = times(5, 50);
    let mut killed = 0;
    for _ in 0..rounds {
        let id = runtime.id();
        let bundle = beside(sleeper(&runtime), &id);
        let short = |command| around.hold(command).output();
        let outputs = [
            short(runtime.with_bundle("create", &bundle).arg(&id)),
            short(runtime.command(["start", &id])),
            short(runtime.command(["exec", &id, "true"])),
            short(runtime.command(["delete", "--force", &id])),
        ];
        // Where the file's pages cannot be dropped fast enough, the kernel kills a process instead.
        if outputs.iter().any(|output| output.code == 137) {
            killed += 1;
            runtime.command(["delete", "--force", &id]).output().ok();
            continue;
        }
        for output in outputs {
            output.ok();
        }
    }
    assert!(killed < rounds, "one was killed in each round");
    hog.signal(Signal::SIGKILL);
    hog.wait();
}

/// What each file of `/proc/sys/user` limits is used up. Watches are among it: none is needed.
#[test]
fn no_more_namespaces_and_watches() {
    let runtime = Runtime::new();
    let bundle = sleeper(&runtime).args(["true"]);
    let run = |name: &str| {
        let script = format!("echo 0 >/proc/sys/user/{name}; exec \"$@\"");
        let namespaces = ["--user", "--map-root-user", "--", "sh", "-c", &script, "sh"];
        let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
        run.limit(20).under("unshare", namespaces).output()
    };
    if !is_done(&run("max_user_namespaces")) {
        skip!("a caller in a user namespace can make no container here");
    }
    for entry in fs::read_dir("/proc/sys/user").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let output = run(&name);
        let is_needed = ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
            .iter()
            .any(|kind| name == format!("max_{kind}_namespaces"));
        match is_needed {
            true if name == "max_cgroup_namespaces" => drop(is_done(&output)),
            true => drop(output.fails(["ENOSPC"])),
            false => drop(output.ok()),
        }
        runtime.is_clean();
    }
}

/// With a procfs of this kind in place of the host's, in a mount namespace of the command's own.
fn with_procfs(command: Command, mount: &str) -> Command {
    let script = format!("mount {mount} /proc && exec \"$@\"");
    let options = [
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ];
    command.under("unshare", options)
}

const HIDDEN: [&str; 3] = ["hidepid=2", "hidepid=invisible", "hidepid=ptraceable"];

#[test]
fn processes_of_others_are_hidden() {
    let runtime = Runtime::new();
    let bundle = sleeper(&runtime);
    for option in HIDDEN {
        let mount = format!("-t proc -o {option} proc");
        let short = |command| with_procfs(command, &mount);
        assert_eq!(verbs_that_work(&runtime, &bundle, &short), ALL, "{option}");
    }
}

#[test]
fn processes_of_others_are_hidden_from_a_user() {
    let runtime = rootless::user();
    let bundle = rootless::written(&runtime).args(["sleep", "1000"]);
    let id = runtime.id();
    for option in HIDDEN {
        let mount = format!("-t proc -o {option} proc");
        let short = |command| with_procfs(command, &mount).output();
        short(runtime.with_bundle("create", &bundle).arg(&id)).ok();
        short(runtime.command(["start", &id])).ok();
        let state = short(runtime.command(["state", &id])).ok();
        assert!(state.stdout.contains("\"running\""), "{option}: {state}");
        short(runtime.command(["exec", &id, "true"])).ok();
        short(runtime.command(["delete", "--force", &id])).ok();
        runtime.is_clean();
    }
}

#[test]
fn procfs_without_files_about_the_machine() {
    let runtime = Runtime::new();
    let bundle = sleeper(&runtime);
    let short = |command| with_procfs(command, "-t proc -o subset=pid proc");
    verbs_that_work(&runtime, &bundle, &short);
}

#[test]
fn no_procfs() {
    let runtime = Runtime::new();
    let bundle = sleeper(&runtime);
    let short = |command| with_procfs(command, "-t tmpfs none");
    verbs_that_work(&runtime, &bundle, &short);
    // The container is not taken for one that has ended.
    let container = runtime.start(&bundle);
    let state = short(container.runtime.command(["state", &container.id])).output();
    assert!(
        !is_done(&state) || state.stdout.contains("\"running\""),
        "{state}"
    );
    let delete = short(runtime.command(["delete", &container.id])).output();
    delete.fails(["delete"]);
    assert_eq!(container.status(), "running");
}

/// The clocks that waits are measured by, years behind those of the container's maker.
#[test]
fn clocks_that_are_set_back() {
    let runtime = Runtime::new();
    let bundle = sleeper(&runtime);
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let seconds = uptime.split('.').next().and_then(|text| text.parse().ok());
    let seconds: i64 = seconds.expect("seconds");
    let back = format!("--monotonic=-{}", seconds - 2);
    let options = ["--time", &back, "--fork", "--"];
    if Command::new("true").under("unshare", options).output().code != 0 {
        skip!("needs time namespaces");
    }
    let short = |command: Command| command.under("unshare", options);
    assert_eq!(verbs_that_work(&runtime, &bundle, &short), ALL);
}

/// What the clock of the day showed, and when; dropped, it goes right again.
struct Day(SystemTime, Instant);

impl Drop for Day {
    fn drop(&mut self) {
        let now = self.0 + self.1.elapsed();
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
        let date = Command::new("date").args(["-s", &format!("@{seconds}")]);
        clean_up(|| drop(date.output().ok()));
    }
}

/// No namespace has a clock of the day of its own, so this sets that of the user-mode guest. A hook
/// sets it back while its own time runs.
#[test]
fn a_clock_of_the_day_that_is_set_back() {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !cpu.contains("User Mode Linux") {
        skip!("needs the clock of the guest, which is nobody else's");
    }
    let runtime = Runtime::new();
    let day = Day(SystemTime::now(), Instant::now());
    let sleep = "date -s @1000000000 && exec sleep 1000";
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", sleep], "timeout": 2});
    let bundle = sleeper(&runtime);
    let create = runtime.try_create(&bundle.clone().hook("createRuntime", hook));
    create.fails(["timed out after 2 s"]);
    assert!(SystemTime::now() < day.0, "the hook has set no clock");
    assert_eq!(verbs_that_work(&runtime, &bundle, &|command| command), ALL);
}
