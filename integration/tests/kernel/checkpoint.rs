//! `checkpoint` and `restore`, by a CRIU that works on this kernel.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_integration::terminal::{Terminal, expect};
use coracle_integration::{
    Bundle, Command, Container, HostMount, Output, Receiver, Running, Runtime, Value, copy_program,
    criu, json, needs, wait_until, write_program,
};
use nix::sys::signal::Signal;

use crate::namespaces::{has_address, host_device};
use crate::notify::{Manager, pid_of, send};
use crate::rootless;

/// Counts on standard output, 50 times a second.
const COUNTER: &str = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done";

/// A bundle that counts in some way, and what it writes.
struct Counter {
    bundle: Bundle,
    output: PathBuf,
}

impl Counter {
    fn new(runtime: &Runtime) -> Self {
        Self::of(runtime, runtime.bundle().shell(COUNTER))
    }

    fn of(runtime: &Runtime, bundle: Bundle) -> Self {
        Self {
            bundle,
            output: runtime.folder().join("output"),
        }
    }

    /// One that works by `worker.c`.
    fn worker(runtime: &Runtime, verb: &str, argument: &str) -> Self {
        let bundle = runtime.bundle();
        copy_program(criu::worker(), &bundle.path("bin/worker"));
        Self::of(runtime, bundle.args(["worker", verb, argument]))
    }

    #[track_caller]
    fn start<'a>(&self, runtime: &'a Runtime) -> Container<'a> {
        let container = runtime.start_into(&self.bundle, &self.output);
        self.counts_beyond(5);
        container
    }

    /// Dumps the container, deletes and restores it.
    #[track_caller]
    fn travels<'a, const N: usize>(
        &self,
        runtime: &'a Runtime,
        options: [&str; N],
    ) -> Container<'a> {
        let container = self.start(runtime);
        let images = runtime.folder().join("images");
        container.checkpoint(&images, options).ok();
        runtime.is_clean();
        let restored = runtime.restore(&self.bundle, &images, (&self.output, options));
        self.goes_on();
        assert_eq!(restored.status(), "running");
        restored
    }

    fn numbers(&self) -> Vec<u64> {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn last(&self) -> u64 {
        self.numbers().last().copied().unwrap_or(0)
    }

    #[track_caller]
    fn counts_beyond(&self, number: u64) {
        wait_until("the counter to go on", || self.last() > number);
    }

    /// Asserts that it counts on, and has left no number out.
    #[track_caller]
    fn goes_on(&self) {
        self.counts_beyond(self.last() + 2);
        let numbers = self.numbers();
        let right = (1..).zip(&numbers).all(|(right, number)| right == *number);
        assert!(right, "{numbers:?}");
    }
}

#[test]
fn a_counter_goes_on_counting() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let restored = counter.travels(&runtime, []);
    let pid_file = runtime.folder().join(format!("{}pid", restored.id));
    assert_eq!(
        fs::read_to_string(pid_file).unwrap(),
        restored.pid().to_string()
    );
    assert!(
        !restored
            .control(("freezer", "tasks"), "cgroup.procs")
            .is_empty()
    );
    restored.verb("pause").ok();
    assert_eq!(restored.status(), "paused");
    restored.verb("resume").ok();
    assert_eq!(restored.shell("echo in").ok().line(), "in");
    let null = restored
        .shell("readlink /proc/1/fd/0; stat -c %t,%T /proc/1/fd/0 -L")
        .ok();
    assert_eq!(null.line(), "/dev/null\n1,3");
    restored.kill("KILL").ok();
    assert_eq!(restored.exit_code(), 137);
    restored.delete().ok();
    runtime.is_clean();
}

/// The restored init is the keeper's child.
#[test]
fn a_restored_container_has_a_keeper_too() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let id = runtime.id();
    let restore = runtime.restore_command(&counter.bundle, &images);
    let restore = restore.args(["--detach", "--keep-exit", &id]);
    let output = fs::OpenOptions::new()
        .append(true)
        .open(&counter.output)
        .unwrap();
    restore.stdout(output).output().ok();
    runtime.command(["kill", &id, "KILL"]).output().ok();
    let ended = || {
        let state = runtime.command(["state", &id]).output().ok().stdout;
        state.parse::<Value>().unwrap()["ended"].clone()
    };
    wait_until("the keeper's record", || ended()["at"].is_string());
    assert_eq!(ended()["exitCode"], 137);
    runtime.command(["delete", &id]).output().ok();
    runtime.is_clean();
}

#[test]
fn it_goes_on_when_left_running() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, ["--leave-running"]).ok();
    assert_eq!(container.status(), "running");
    counter.goes_on();
    // Twice from one image, under other ids, beside the first.
    for name in ["one", "two"] {
        let output = runtime.folder().join(name);
        let restored = runtime.restore(&counter.bundle, &images, (&output, []));
        wait_until("numbers", || {
            fs::read_to_string(&output).is_ok_and(|text| text.len() > 9)
        });
        assert_eq!(restored.status(), "running");
    }
}

#[test]
fn a_paused_container_is_dumped() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let container = counter.start(&runtime);
    container.verb("pause").ok();
    let (left, images) = (
        runtime.folder().join("left"),
        runtime.folder().join("images"),
    );
    container.checkpoint(&left, ["--leave-running"]).ok();
    assert_eq!(container.status(), "paused");
    container.checkpoint(&images, []).ok();
    runtime.is_clean();
    let restored = runtime.restore(&counter.bundle, &images, (&counter.output, []));
    assert_eq!(restored.status(), "running");
    counter.goes_on();
}

#[test]
fn threads_go_on() {
    let runtime = Runtime::with_criu();
    let restored = Counter::worker(&runtime, "threads", "9").travels(&runtime, []);
    assert!(restored.proc("status").contains("Threads:\t10"));
}

#[test]
fn memory_is_kept() {
    let runtime = Runtime::with_criu();
    Counter::worker(&runtime, "memory", "32").travels(&runtime, []);
}

#[test]
fn pipes_and_open_files_go_on() {
    let runtime = Runtime::with_criu();
    Counter::worker(&runtime, "pipe", "/root/file").travels(&runtime, []);
}

#[test]
fn an_established_connection_goes_on() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "tcp", "5000");
    let container = counter.start(&runtime);
    let images = runtime.folder().join("refused");
    let text = ["criu dump: Error (", "tcp", "dump.log"];
    container.checkpoint(&images, []).fails(text);
    assert_eq!(container.status(), "running");
    counter.goes_on();
    container.delete_by_force().ok();
    fs::remove_file(&counter.output).unwrap();
    counter.travels(&runtime, ["--tcp-established"]);
}

#[test]
fn a_listening_socket_goes_on() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "listen", "5000");
    let container = runtime.start_into(&counter.bundle, &counter.output);
    let ask = "until nc 127.0.0.1 5000 </dev/null; do sleep 0.1; done";
    assert_eq!(container.shell(ask).ok().line(), "1");
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let restored = runtime.restore(&counter.bundle, &images, (&counter.output, []));
    assert_eq!(
        restored.shell("nc 127.0.0.1 5000 </dev/null").ok().line(),
        "2"
    );
}

#[test]
fn a_terminal_goes_on() {
    let runtime = Runtime::with_criu();
    let script = "stty -echo; echo ready; while read line; do echo got $line; tty; done";
    let bundle = runtime
        .bundle()
        .shell(script)
        .set("/process/terminal", json!(true));
    let socket = Receiver::new(&runtime.folder().join("first"));
    let container = runtime.create_with(&bundle, ["--console-socket", socket.path()]);
    let (_, master) = socket.receive();
    container.start().ok();
    expect(&master, &mut String::new(), "ready");
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    drop(master);
    let output = runtime.folder().join("output");
    let start = |options: [&str; 2]| runtime.restore(&bundle, &images, (&output, options));
    let socket = Receiver::new(&runtime.folder().join("second"));
    let restored = start(["--console-socket", socket.path()]);
    let (_, master) = socket.receive();
    nix::unistd::write(&master, b"word\n").unwrap();
    expect(&master, &mut String::new(), "got word\r\n/dev/pts/0");
    assert_eq!(restored.status(), "running");
}

#[test]
fn a_foreground_restore_ends_with_the_container() {
    let runtime = Runtime::with_criu();
    let script = "trap 'echo bye; exit 7' TERM; while :; do sleep 0.02; done";
    let bundle = runtime.bundle().shell(script);
    let output = runtime.folder().join("output");
    let container = runtime.start_into(&bundle, &output);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let id = runtime.id();
    let restore = runtime.restore_command(&bundle, &images).arg(&id);
    let restore = restore.stdout(fs::File::create(&output).unwrap()).spawn();
    let is_running = || {
        let state = runtime.command(["state", &id]).output().stdout;
        state.contains("\"running\"")
    };
    wait_until("the container", is_running);
    restore.signal(nix::sys::signal::Signal::SIGTERM);
    restore.wait().exits(7);
    assert_eq!(fs::read_to_string(&output).unwrap(), "bye\n");
    runtime.is_clean();
}

#[test]
fn a_user_namespace_is_kept() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    // Standard error is a file in memory whose owner has no id in the user namespace.
    let script = format!("exec 2>/dev/null; {COUNTER}");
    let bundle = counter.bundle.clone().shell(&script).user_namespace();
    let counter = Counter { bundle, ..counter };
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let restore = runtime
        .restore_command(&counter.bundle, &images)
        .arg(runtime.id());
    restore
        .output()
        .fails(["the root of the container's user namespace may not search it"]);
    runtime.is_clean();
    Command::new("chmod").arg("711").arg(&images).output().ok();
    let restored = runtime.restore(&counter.bundle, &images, (&counter.output, []));
    counter.goes_on();
    assert!(restored.proc("uid_map").contains("100000"));
    assert_eq!(restored.shell("id -u").ok().line(), "0");
}

#[test]
fn limits_are_kept() {
    needs::controller("memory");
    needs::controller("pids");
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let resources = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 77}});
    let bundle = counter.bundle.clone().set("/linux/resources", resources);
    let restored = Counter { bundle, ..counter }.travels(&runtime, []);
    let memory = restored.control(("memory", "memory.limit_in_bytes"), "memory.max");
    assert_eq!(memory, (64 << 20).to_string());
    assert_eq!(restored.control(("pids", "pids.max"), "pids.max"), "77");
}

#[test]
fn a_unit_of_systemds_is_made_again() {
    needs::systemd();
    let runtime = Runtime::with_criu().options(["--systemd-cgroup"]);
    let counter = Counter::new(&runtime);
    let resources = json!({"pids": {"limit": 78}});
    let bundle = counter.bundle.clone();
    let bundle = bundle.set("/linux/resources", resources);
    let restored = Counter { bundle, ..counter }.travels(&runtime, []);
    assert!(restored.proc("cgroup").contains(".scope"));
    assert_eq!(restored.control(("pids", "pids.max"), "pids.max"), "78");
}

#[test]
fn a_seccomp_filter_is_kept() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}],
    });
    let script = "n=0; while :; do n=$((n+1)); mkdir /tmp/$n 2>/dev/null || echo $n; done";
    let bundle = counter
        .bundle
        .clone()
        .shell(script)
        .set("/linux/seccomp", profile);
    let restored = Counter { bundle, ..counter }.travels(&runtime, []);
    let status = restored.proc("status");
    assert!(
        status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"),
        "{status}"
    );
}

/// Files, folders, what is mounted below them, behind a link of the image, and devices.
#[test]
fn mounts_of_the_host_are_bound_again() {
    let (runtime, other) = (Runtime::with_criu(), Runtime::new());
    let source = other.folder().folder("source");
    let deeper = source.join("deeper");

    let _mount = HostMount::new(&other, "source/deeper", []);
    let file = runtime.folder().join("file");
    for (path, text) in [
        (&deeper.join("a"), "1"),
        (&source.join("b"), "2"),
        (&file, "3"),
    ] {
        fs::write(path, text).unwrap();
    }
    let counter = Counter::new(&runtime);
    let bundle = counter
        .bundle
        .clone()
        .folder("/run")
        .link("/var/run", "/run");
    let bundle = bundle
        .bind(&source, "/var/run/place", ["rbind"])
        .bind(&file, "/etc/one file", ["ro"])
        .bind("/dev/zero", "/dev/nothing", []);
    let restored = Counter { bundle, ..counter }.travels(&runtime, []);
    let script = "cat /run/place/deeper/a /run/place/b '/etc/one file'; head -c 1 /dev/nothing | od -b | head -1; cat /proc/keys; echo x >'/etc/one file'";
    let seen = restored.shell(script);
    assert_eq!(seen.stdout, "1230000000 000\n", "{seen}");
    assert!(seen.stderr.contains("Read-only file system"), "{seen}");
    fs::write(deeper.join("a"), "new").unwrap();
    assert_eq!(restored.shell("cat /run/place/deeper/a").ok().line(), "new");
}

/// The container's part of the hierarchies, by binds and by a namespace.
#[test]
fn control_groups_are_seen_again() {
    let runtime = Runtime::with_criu();
    for namespace in [false, true] {
        let counter = Counter::new(&runtime);
        let bundle = counter.bundle.clone();
        let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["ro"]);
        let bundle = match namespace {
            true => bundle.new_namespace("cgroup"),
            false => bundle,
        };
        let container = Counter { bundle, ..counter }.travels(&runtime, []);
        let script = "cat /proc/self/mountinfo | grep -c ' - cgroup'; \
            find /sys/fs/cgroup -name cgroup.procs -exec grep -x 1 {} ';' | head -n 1";
        let seen = container.shell(script).ok().stdout;
        let (count, init) = seen.split_once('\n').expect("two lines");
        assert!(
            count.parse::<u32>().unwrap() > 0 && init == "1\n",
            "{namespace}: {seen}"
        );
        container.delete_by_force().ok();
        fs::remove_file(runtime.folder().join("output")).unwrap();
        fs::remove_dir_all(runtime.folder().join("images")).unwrap();
    }
}

/// Another folder with the same image, whose mount points nobody has made; and the sources moved.
#[test]
fn it_goes_on_in_another_bundle() {
    let runtime = Runtime::with_criu();
    let (first, second) = (
        runtime.folder().folder("first"),
        runtime.folder().folder("second"),
    );
    fs::write(first.join("x"), "old").unwrap();
    fs::write(second.join("x"), "new").unwrap();
    let counter = Counter::new(&runtime);
    let bundle = counter.bundle.clone();
    let bundle = bundle
        .bind(&first, "/made/here", [])
        .bind(&first, "/made/here/in", []);
    fs::create_dir(first.join("in")).unwrap();
    let counter = Counter { bundle, ..counter };
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let other = runtime.bundle().shell(COUNTER);
    let other = other
        .bind(&second, "/made/here", [])
        .bind(&second, "/made/here/in", []);
    let restored = runtime.restore(&other, &images, (&counter.output, []));
    counter.goes_on();
    assert_eq!(
        restored
            .shell("cat /made/here/x /made/here/in/x")
            .ok()
            .line(),
        "newnew"
    );
    assert!(second.join("in").is_dir());
}

#[test]
fn joined_namespaces_are_joined_again() {
    let (runtime, other) = (Runtime::with_criu(), Runtime::new());
    let holder = other.start(&other.bundle().new_namespace("time").args(["sleep", "1000"]));
    let path = |name: &str| format!("/proc/{}/ns/{name}", holder.pid());
    let counter = Counter::new(&runtime);
    let bundle = counter.bundle.clone();
    let bundle = bundle.join_namespace("network", &path("net"));
    let bundle = bundle.join_namespace("ipc", &path("ipc"));
    let bundle = bundle.join_namespace("uts", &path("uts"));
    let bundle = bundle.join_namespace("time", &path("time"));
    let restored = Counter { bundle, ..counter }.travels(&runtime, []);
    for name in ["net", "ipc", "uts", "time"] {
        let link = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(link(restored.pid()), link(holder.pid()), "{name}");
    }
}

/// In a shared pid namespace other processes outlive init; they are killed by the cgroup.
#[test]
fn a_joined_pid_namespace_is_joined_again() {
    let (runtime, other) = (Runtime::with_criu(), Runtime::new());
    let holder = other.sleeper();
    let path = format!("/proc/{}/ns/pid", holder.pid());
    // One process: the first process of the namespace would not reap orphans, whose pids would then
    // stay taken.
    let counter = Counter::worker(&runtime, "memory", "1");
    let bundle = counter.bundle.clone().join_namespace("pid", &path);
    let restored = Counter { bundle, ..counter }.travels(&runtime, []);
    let link = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    assert_eq!(link(restored.pid()), link(holder.pid()));
    restored.delete_by_force().ok();
    runtime.is_clean();
}

#[test]
fn hooks_run() {
    let runtime = Runtime::with_criu();
    let seen = runtime.folder().join("seen");
    let hook = |point: &str| {
        let script = format!("(printf '{point} '; cat; echo) >>{}", seen.display());
        json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
    };
    let counter = Counter::new(&runtime);
    let mut bundle = counter.bundle.clone();
    for point in ["prestart", "createRuntime", "poststart", "poststop"] {
        bundle = bundle.hook(point, hook(point));
    }
    let counter = Counter { bundle, ..counter };
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    fs::write(&seen, "").unwrap();
    container.checkpoint(&images, []).ok();
    assert!(fs::read_to_string(&seen).unwrap().starts_with("poststop {"));
    fs::write(&seen, "").unwrap();
    let restored = runtime.restore(&counter.bundle, &images, (&counter.output, []));
    let text = fs::read_to_string(&seen).unwrap();
    let lines: Vec<(&str, Value)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(point, state)| (point, state.parse().unwrap()))
        .collect();
    let points: Vec<&str> = lines.iter().map(|(point, _)| *point).collect();
    assert_eq!(points, ["prestart", "createRuntime", "poststart"]);
    for (point, state) in &lines {
        assert_eq!(state["pid"], restored.pid(), "{point}");
        assert_eq!(state["id"], restored.id, "{point}");
    }
    assert_eq!(lines[0].1["status"], "creating");
    assert_eq!(lines[2].1["status"], "running");
}

/// A program of criu's that fetches pages for a restore.
fn lazy_pages(images: &Path, options: &[&str]) -> Running {
    let pages = Command::new("criu")
        .env("PATH", criu::path())
        .arg("lazy-pages");
    let pages = pages
        .arg("-D")
        .arg(images)
        .arg("-W")
        .arg(images)
        .args(options)
        .spawn();
    let socket = images.join("lazy-pages.socket");
    wait_until("the socket of lazy pages", || socket.exists());
    pages
}

#[test]
fn pages_follow_lazily() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "memory", "32");
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let pages = lazy_pages(&images, &[]);
    let restored = runtime.restore(
        &counter.bundle,
        &images,
        (&counter.output, ["--lazy-pages"]),
    );
    counter.goes_on();
    pages.wait().ok();
    counter.goes_on();
    assert_eq!(restored.status(), "running");
}

/// The dumped container serves its pages until the restored one has fetched all.
#[test]
fn pages_are_served_until_all_are_fetched() {
    // criu's pipe for them is larger than others may have.
    needs::capability(24, "CAP_SYS_RESOURCE");
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "memory", "32");
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    let ready = runtime.folder().join("ready");
    let port = (20000 + std::process::id() % 20000).to_string();
    let server = format!("127.0.0.1:{port}");
    let flags = ["--lazy-pages", "--status-fd", "7", "--page-server", &server];
    let command = runtime.command(["checkpoint", "--image-path"]).arg(&images);
    let command = command.args(flags).arg(&container.id);
    let dump = command
        .after(&format!("exec 7>{}", ready.display()))
        .spawn();
    let is_ready = || fs::read(&ready).is_ok_and(|text| text == b"\0");
    wait_until("readiness", || {
        is_ready() || dump.wait_briefly(Duration::ZERO)
    });
    let options = ["--page-server", "--address", "127.0.0.1", "--port", &port];
    let pages = lazy_pages(&images, &options);
    let restored = runtime.restore(
        &counter.bundle,
        &images,
        (&counter.output, ["--lazy-pages"]),
    );
    counter.goes_on();
    pages.wait().ok();
    dump.wait().ok();
    counter.goes_on();
    assert_eq!(restored.status(), "running");
}

/// The images, which are where runc has them by default, lack it until it is put there.
#[test]
fn memory_is_sent_to_a_page_server() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "memory", "8");
    let container = counter.start(&runtime);
    let (here, pages) = (
        runtime.folder().folder("here"),
        runtime.folder().folder("pages"),
    );
    let port = 20000 + std::process::id() % 20000;
    let number = port.to_string();
    let server = Command::new("criu").env("PATH", criu::path());
    let server = server.args(["page-server", "--address", "127.0.0.1", "--port", &number]);
    let server = server.arg("--images-dir").arg(&pages).spawn();
    let listening = format!("0100007F:{port:04X} 00000000:0000 0A");
    wait_until("the page server", || {
        fs::read_to_string("/proc/net/tcp")
            .unwrap()
            .contains(&listening)
    });
    let address = format!("127.0.0.1:{port}");
    let checkpoint = runtime.command(["checkpoint", "--page-server", &address, &container.id]);
    checkpoint.folder(&here).output().ok();
    server.wait().ok();
    let images = here.join("checkpoint");
    assert!(bytes_of_pages(&pages) >= 8 << 20);
    assert_eq!(bytes_of_pages(&images), 0);
    let copy = Command::new("cp").arg("-r").arg(pages.join("."));
    copy.arg(&images).output().ok();
    let _restored = runtime.restore(&counter.bundle, &images, (&counter.output, []));
    counter.goes_on();
}

fn bytes_of_pages(images: &Path) -> u64 {
    let entries = fs::read_dir(images).unwrap().flatten();
    let pages = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("pages-"));
    pages.map(|entry| entry.metadata().unwrap().len()).sum()
}

#[test]
fn only_what_changed_is_written() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "memory", "32");
    let container = counter.start(&runtime);
    let images = |name: &str| runtime.folder().join("images").join(name);
    let first = container.checkpoint(&images("1"), ["--pre-dump"]);
    if first
        .stderr
        .contains("this kernel has no tracking of changed memory")
    {
        first.fails(["--pre-dump"]);
        counter.goes_on();
        let parent = container.checkpoint(&images("2"), ["--parent-path", "../1"]);
        parent.fails(["--parent-path: criu says that this kernel has no tracking"]);
        counter.goes_on();
        coracle_integration::skip!("needs a kernel that tracks changed memory");
    }
    first.ok();
    counter.goes_on();
    let second = ["--pre-dump", "--parent-path", "../1"];
    container.checkpoint(&images("2"), second).ok();
    counter.goes_on();
    container
        .checkpoint(&images("3"), ["--parent-path", "../2"])
        .ok();
    let size = |name: &str| bytes_of_pages(&images(name));
    assert!(
        size("1") > 30 << 20 && size("3") < 10 << 20,
        "{} {}",
        size("1"),
        size("3")
    );
    runtime.restore(&counter.bundle, &images("3"), (&counter.output, []));
    counter.goes_on();
    let pre_dump = runtime.restore_command(&counter.bundle, &images("1"));
    pre_dump
        .arg(runtime.id())
        .output()
        .fails(["this is no whole checkpoint"]);
}

#[test]
fn criu_reads_its_configuration_file() {
    let runtime = Runtime::with_criu();
    let file = runtime.folder().join("criu.conf");
    fs::write(&file, "log-file /dev/null\n").unwrap();
    let counter = Counter::new(&runtime);
    let annotation = json!({"org.criu.config": file});
    let bundle = counter.bundle.clone().set("/annotations", annotation);
    let counter = Counter { bundle, ..counter };
    counter.travels(&runtime, []);
    assert!(!runtime.folder().join("images/dump.log").exists());
    assert!(!runtime.folder().join("images/restore.log").exists());
}

/// On a terminal the progress is shown, and erased at the end.
#[test]
fn a_long_dump_tells_how_far_it_is() {
    let runtime = Runtime::with_criu();
    let (file, slow) = (
        runtime.folder().join("criu.conf"),
        runtime.folder().join("slow"),
    );
    write_program(
        &slow,
        "#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != post-dump ] || sleep 3\n",
    );
    fs::write(&file, format!("action-script {}\n", slow.display())).unwrap();
    let counter = Counter::worker(&runtime, "memory", "8");
    let annotation = json!({"org.criu.config": file});
    let bundle = counter.bundle.clone().set("/annotations", annotation);
    let counter = Counter { bundle, ..counter };
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    let command = runtime.command(["checkpoint", "--image-path"]).arg(&images);
    let mut terminal = Terminal::new();
    let checkpoint = terminal.attach(command.arg(&container.id)).spawn();
    terminal.expect("8 MB of memory written\x1b[K");
    checkpoint.wait().ok();
    terminal.expect("\r\x1b[K");
}

#[test]
fn a_failed_dump_changes_nothing() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "tcp", "5000");
    let container = counter.start(&runtime);
    let (images, work) = (
        runtime.folder().join("images"),
        runtime.folder().join("work"),
    );
    let output = container.checkpoint(&images, ["--work-path", work.to_str().unwrap()]);
    let log = work.join("dump.log").display().to_string();
    output.fails(["criu dump: Error (criu/", &log]);
    assert_eq!(container.status(), "running");
    assert_eq!(container.shell("echo in").ok().line(), "in");
    counter.goes_on();
    // A dump that failed has left no images to restore from.
    let restore = runtime
        .restore_command(&counter.bundle, &images)
        .arg(runtime.id());
    restore.output().fails(["restore k.", ":"]);
    container.kill("KILL").ok();
    assert_eq!(container.exit_code(), 137);
}

/// A wrapper that kills the real one once a line stands in its log.
fn killing_criu(runtime: &Runtime, log: &Path, line: &str) -> String {
    let folder = runtime.folder().folder("bin");
    let real = criu::path().split(':').next().unwrap();
    let script = format!(
        "#!/bin/sh\n\
         (i=0; while [ $i -lt 3000 ]; do\n\
          grep -q '{line}' {log} 2>/dev/null && kill -9 $$ && exit\n\
          i=$((i+1)); sleep 0.002; done) >/dev/null 2>&1 &\n\
         exec {real}/criu \"$@\"\n",
        log = log.display(),
    );
    let program = folder.join("criu");
    write_program(&program, script);
    format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display())
}

#[test]
fn a_killed_criu_leaves_the_container_running() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "memory", "256");
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    let path = killing_criu(&runtime, &images.join("dump.log"), "Dumping mm");
    let command = runtime.command(["checkpoint", "--image-path"]).arg(&images);
    let output = command.env("PATH", path).arg(&container.id).output();
    output.fails(["criu dump: it was killed by signal 9 without an answer"]);
    assert_eq!(container.status(), "running");
    counter.goes_on();
    let again = runtime.folder().join("again");
    container.checkpoint(&again, []).ok();
}

#[test]
fn a_failed_restore_leaves_nothing() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let seen = runtime.folder().join("seen");
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 3"]});
    let after = json!({"path": "/bin/touch", "args": ["touch", seen]});
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let failing = counter
        .bundle
        .clone()
        .hook("createRuntime", hook)
        .hook("poststop", after);
    let pid_file = runtime.folder().join("pid");
    let restore = |bundle: &Bundle| {
        let command = runtime.restore_command(bundle, &images).arg("--detach");
        command
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(runtime.id())
            .output()
    };
    restore(&failing).fails(["createRuntime", "no"]);
    assert!(seen.exists());
    runtime.is_clean();
    // criu itself would look for the pages for ever.
    let pages = images.join("pages-1.img");
    let whole = fs::read(&pages).unwrap();
    fs::write(&pages, &whole[..whole.len() / 2]).unwrap();
    restore(&counter.bundle).fails(["this is no whole checkpoint: memory is cut off"]);
    fs::write(&pages, &whole).unwrap();
    let files = images.join("files.img");
    let half = fs::read(&files).unwrap();
    fs::write(&files, &half[..half.len() / 2]).unwrap();
    restore(&counter.bundle).fails(["criu restore: Error (", "restore.log"]);
    assert!(!pid_file.exists());
    runtime.is_clean();
}

#[test]
fn a_killed_criu_leaves_nothing_restored() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "memory", "256");
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let path = killing_criu(&runtime, &images.join("restore.log"), "Opening fdinfo-s");
    let command = runtime
        .restore_command(&counter.bundle, &images)
        .arg("--detach");
    let output = command.env("PATH", path).arg(runtime.id()).output();
    output.fails(["criu restore: it was killed by signal 9 without an answer"]);
    runtime.is_clean();
}

/// Such a criu holds a restore up until a signal comes, and is ended with what it has made.
#[test]
fn a_signal_ends_a_restore_by_a_silent_criu() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let folder = runtime.folder().folder("silent");
    let asked = folder.join("asked");
    let script = format!("#!/bin/sh\n: >{}\nexec sleep 1000\n", asked.display());
    runtime.folder().script("silent/criu", &script);
    let command = runtime.restore_command(&counter.bundle, &images);
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let restore = command.arg("--detach").env("PATH", path).arg(runtime.id());
    let restore = restore.limit(30).spawn();
    wait_until("criu", || asked.exists());
    restore.signal(Signal::SIGTERM);
    let output = restore.wait();
    output.fails_as(128 + 15, ["interrupted by SIGTERM: ", "does not answer"]);
    runtime.is_clean();
}

#[test]
fn a_long_wait_for_criu_is_told_on_a_terminal() {
    let runtime = Runtime::new();
    let images = runtime.folder().folder("images");
    let folder = runtime.folder().folder("silent");
    runtime
        .folder()
        .script("silent/criu", "#!/bin/sh\nexec sleep 2.5\n");
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let container = runtime.sleeper();
    let command = runtime.command(["checkpoint", "--image-path"]).arg(&images);
    let mut terminal = Terminal::new();
    let command = terminal
        .attach(command.arg(&container.id))
        .env("PATH", path);
    let checkpoint = command.limit(60).spawn();
    terminal.expect("waiting for criu …\r\n");
    assert_eq!(checkpoint.wait().code, 1);
}

#[test]
fn what_cannot_be_dumped_is_told() {
    let runtime = Runtime::with_criu();
    let images = runtime.folder().join("images");
    let created = runtime.create(&runtime.bundle().args(["true"]));
    let refused = created.checkpoint(&images, []);
    refused.fails(["cannot checkpoint a container that has not been started"]);
    created.start().ok();
    created.exit_code();
    let refused = created.checkpoint(&images, []);
    refused.fails(["container not running"]);
    let absent = runtime.command(["checkpoint", "absent"]).output();
    absent.fails(["checkpoint absent: container does not exist"]);
    let running = runtime.sleeper();
    for (options, texts) in [
        (
            ["--parent-path", "/absolute"],
            "it must be relative to --image-path",
        ),
        (["--parent-path", "../none"], "not found (ENOENT)"),
        (
            ["--status-fd", "77"],
            "--status-fd: descriptor 77: the caller has not opened it",
        ),
        (
            ["--work-path", "/proc/none/x"],
            ": make: not found (ENOENT)",
        ),
    ] {
        let output = running.checkpoint(&images, options);
        // The kernel may lack what the flag is for, which is found first.
        let is_known = output.stderr.contains("criu says that this kernel has no");
        output.fails([if is_known { options[0] } else { texts }]);
    }
    running
        .checkpoint(Path::new("/proc/none"), [])
        .fails(["--image-path", ": make: not found (ENOENT)"]);
    let command = runtime.command(["checkpoint", "--status-fd", "9", &running.id]);
    let output = command.after("exec 9</dev/null").output();
    output.fails(["descriptor 9: it is not open for writing"]);
    assert_eq!(running.status(), "running");
}

#[test]
fn what_cannot_be_restored_is_told() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let gone = runtime.folder().folder("gone");
    let bundle = counter.bundle.clone().bind(&gone, "/gone", []);
    let counter = Counter { bundle, ..counter };
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let restore = |images: &Path| -> Output {
        let command = runtime
            .restore_command(&counter.bundle, images)
            .arg("--detach");
        command.arg(runtime.id()).output()
    };
    let none = runtime.folder().join("none");
    restore(&none).fails(["--image-path", ": open: not found (ENOENT)"]);
    let empty = runtime.folder().folder("empty");
    restore(&empty).fails(["there is no checkpoint in it: inventory.img is missing"]);
    fs::copy(images.join("inventory.img"), empty.join("inventory.img")).unwrap();
    restore(&empty).fails(["this is no whole checkpoint: pstree.img is missing"]);
    fs::copy(images.join("pstree.img"), empty.join("pstree.img")).unwrap();
    restore(&empty).fails(["criu restore: Error (", "Images corrupted"]);
    fs::write(empty.join("descriptors.json"), "{}").unwrap();
    restore(&empty).fails(["its descriptors.json is no list of strings"]);
    fs::write(empty.join("inventory.img"), "not one").unwrap();
    fs::remove_file(empty.join("descriptors.json")).unwrap();
    restore(&empty).fails(["criu restore: Error (", "restore.log"]);
    let taken = runtime.sleeper();
    let command = runtime
        .restore_command(&counter.bundle, &images)
        .arg(&taken.id);
    command
        .output()
        .fails(["container with given ID already exists"]);
    fs::remove_dir(&gone).unwrap();
    restore(&images).fails(["config.json: mounts[6].source", "not found (ENOENT)"]);
    taken.delete_by_force().ok();
    runtime.is_clean();
    fs::create_dir(&gone).unwrap();
    // The config has no such mount: the image's is missing.
    let without = Counter::new(&runtime).bundle;
    let command = runtime.restore_command(&without, &images).arg(runtime.id());
    command
        .output()
        .fails(["criu restore: Error (", "No mapping for"]);
    runtime.is_clean();
}

#[test]
fn features_and_explain_tell_of_it() {
    let runtime = Runtime::with_criu();
    let features: Value = runtime
        .bare()
        .arg("features")
        .output()
        .ok()
        .stdout
        .parse()
        .unwrap();
    let annotations = &features["annotations"];
    assert_eq!(
        annotations["org.opencontainers.runc.checkpoint.enabled"],
        "true"
    );
    let version = annotations["run.coracle.criu.version"].as_str().unwrap();
    assert!(
        version.starts_with(|first: char| first.is_ascii_digit() && first >= '3'),
        "{version}"
    );
    for verb in ["checkpoint", "restore"] {
        runtime.bare().args([verb, "--help"]).output().ok();
    }
    let source = runtime.folder().folder("source");
    let counter = Counter::new(&runtime);
    let bundle = counter.bundle.clone().bind(&source, "/there", []);
    let counter = Counter { bundle, ..counter };
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let explain = runtime
        .bare()
        .arg("explain")
        .arg("--image-path")
        .arg(&images);
    let text = explain.arg(&counter.bundle.dir).output().ok().stdout;
    for line in [
        "images (criu)".to_owned(),
        format!("  restore the processes of {}", images.display()),
        format!("  bind {} as /there", source.display()),
        "  use stream 1 as file[".to_owned(),
        "  bring up loopback".to_owned(),
    ] {
        assert!(text.contains(&format!("\n{line}")), "{line}\n{text}");
    }
    assert!(!text.contains("(init)"), "{text}");
    let explain = runtime
        .bare()
        .arg("explain")
        .arg("--image-path")
        .arg(runtime.folder().path());
    explain
        .arg(&counter.bundle.dir)
        .output()
        .fails(["inventory.img is missing"]);
}

/// On the host's network, where somebody else has come to listen; and in a root file system that
/// has another program.
#[test]
fn what_is_not_as_it_was_is_told() {
    let runtime = Runtime::with_criu();
    let port = 20000 + std::process::id() % 20000;
    let counter = Counter::worker(&runtime, "listen", &port.to_string());
    let bundle = counter.bundle.clone().without_namespace("network");
    let bundle = bundle.without_mount("/sys");
    let container = runtime.start_into(&bundle, &counter.output);
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port_number(port))).is_ok();
    wait_until("the container to listen", listens);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port_number(port))).unwrap();
    let restore = |bundle: &Bundle| {
        let command = runtime.restore_command(bundle, &images).arg("--detach");
        command.arg(runtime.id()).output()
    };
    restore(&bundle).fails(["criu restore: Error (", "Address already in use"]);
    runtime.is_clean();
    drop(taken);
    let other = runtime
        .bundle()
        .without_namespace("network")
        .without_mount("/sys");
    restore(&other).fails(["criu restore: Error (", "bin/worker"]);
    runtime.is_clean();
    let _restored = runtime.restore(&bundle, &images, (&counter.output, []));
    wait_until("the container to listen", listens);
}

fn port_number(port: u32) -> u16 {
    u16::try_from(port).expect("a port")
}

/// Standard streams are a terminal of the caller's.
#[test]
fn a_job_of_a_shell_needs_a_word() {
    let runtime = Runtime::with_criu();
    let bundle = runtime
        .bundle()
        .shell("while read line; do echo got $line; done");
    let mut terminal = Terminal::new();
    let id = runtime.id();
    let run = runtime.with_bundle("run", &bundle).arg(&id);
    let run = terminal.attach(run).spawn();
    let state = || runtime.command(["state", &id]).output().stdout;
    wait_until("the container", || state().contains("\"running\""));
    let images = runtime.folder().join("images");
    let checkpoint = |options: &[&str]| {
        let command = runtime.command(["checkpoint", "--image-path"]).arg(&images);
        command.args(options).arg(&id).output()
    };
    let text = "--shell-job: needed, since standard stream 0 is a terminal outside";
    checkpoint(&[]).fails([text]);
    assert!(state().contains("\"running\""));
    terminal.send("one\r");
    terminal.expect("got one");
    checkpoint(&["--shell-job"]).ok();
    run.wait();
    runtime.is_clean();
    let mut terminal = Terminal::new();
    let restore = runtime.restore_command(&bundle, &images);
    let restore = terminal.attach(restore.arg("--shell-job").arg(&id)).spawn();
    wait_until("the container", || state().contains("\"running\""));
    terminal.send("two\r");
    terminal.expect("got two");
    terminal.send("\x04");
    restore.wait().ok();
    runtime.is_clean();
}

#[test]
fn without_criu_it_is_told() {
    needs_no_criu();
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let images = runtime.folder().join("images");
    container
        .checkpoint(&images, [])
        .fails([": criu: not found in PATH"]);
    assert_eq!(container.status(), "running");
    fs::create_dir(&images).unwrap();
    for name in ["inventory.img", "pstree.img"] {
        fs::write(images.join(name), "").unwrap();
    }
    let command = runtime.restore_command(&runtime.bundle(), &images);
    command
        .arg(runtime.id())
        .output()
        .fails([": criu: not found in PATH"]);
}

/// A dump goes on to criu, since newer releases may need less. A restore needs privileges to make
/// namespaces.
#[test]
fn a_user_is_told_what_criu_lacks() {
    let runtime = rootless::user();
    let folder = runtime.folder().join("criu");
    let installed = Path::new(criu::path().split("/bin:").next().unwrap());
    Command::new("cp")
        .arg("-r")
        .arg(installed)
        .arg(&folder)
        .output()
        .ok();
    Command::new("chmod")
        .args(["-R", "a+rX"])
        .arg(&folder)
        .output()
        .ok();
    let path = format!("{}/bin:/usr/bin:/bin", folder.display());
    let runtime = runtime.variable("PATH", &path);
    let bundle = rootless::written(&runtime).args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    let images = runtime.root().with_file_name("images");
    let refused = container.checkpoint(&images, []);
    refused.fails(["criu dump: Effective capability ", " missing"]);
    assert_eq!(container.status(), "running");
    for name in ["inventory.img", "pstree.img"] {
        fs::write(images.join(name), "").unwrap();
    }
    let restore = runtime.restore_command(&bundle, &images).arg(runtime.id());
    restore.output().fails(["restore needs CAP_SYS_ADMIN"]);
}

fn needs_no_criu() {
    let folders = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    if folders
        .iter()
        .any(|folder| Path::new(folder).join("criu").exists())
    {
        coracle_integration::skip!("the system has a criu of its own");
    }
}

/// The stand-in for criu answers like version 2.12, then like no known version.
#[test]
fn an_old_criu_is_told() {
    needs::program("python3");
    let runtime = Runtime::new();
    let folder = runtime.folder().folder("old");
    let answer = |bytes: &str| {
        let script = format!(
            "#!/usr/bin/python3\nimport socket, sys\n\
             link = socket.socket(fileno=int(sys.argv[2]))\nlink.recv(9999)\nlink.send({bytes})\n"
        );
        write_program(&folder.join("criu"), script);
    };
    let container = runtime.sleeper();
    let images = runtime.folder().join("images");
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let checkpoint = || {
        let command = runtime.command(["checkpoint", "--image-path"]).arg(&images);
        command.arg(&container.id).env("PATH", &path).output()
    };
    answer("b'\\x08\\x0a\\x10\\x01\\x52\\x04\\x08\\x02\\x10\\x0c'");
    checkpoint().fails(["criu 2.12 is too old: this needs 3.0"]);
    answer("b'\\xff\\xff\\xff'");
    checkpoint().fails(["criu check: its answer is not of the protocol"]);
    answer("b'x' * 100000");
    checkpoint().fails(["criu check: its answer is not of the protocol"]);
    fs::write(folder.join("criu"), "#!/no/such/interpreter\n").unwrap();
    checkpoint().fails(["/old/criu", "execve: not found (ENOENT)"]);
    assert_eq!(container.status(), "running");
}

/// `checkpoint` is refused without the last of `options`, by a line that names it, and done with it.
#[track_caller]
fn needs_a_flag<const N: usize>(counter: &Counter, container: &Container, options: [&str; N]) {
    let refused = container.runtime.folder().join("refused");
    let (flag, others) = options.split_last().expect("a flag");
    let command = container.runtime.command(["checkpoint", "--image-path"]);
    let command = command.arg(&refused).args(others).arg(&container.id);
    let hint = flag.trim_start_matches("--").trim_start_matches("tcp-");
    command.output().fails(["criu dump: Error (", hint]);
    assert_eq!(container.status(), "running");
    counter.goes_on();
    let images = container.runtime.folder().join("images");
    container.checkpoint(&images, options).ok();
    container.runtime.is_clean();
}

/// The container's process finds its connections closed, and everything else as it was.
#[test]
fn closed_connections_are_made_anew() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "again", "5000");
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, ["--tcp-close"]).ok();
    let restore = runtime.restore_command(&counter.bundle, &images);
    let output = restore.arg("--detach").arg(runtime.id()).output();
    output.fails(["criu restore: Error (", "--tcp-close"]);
    runtime.is_clean();
    assert!(!counter.bundle.path("again").exists());
    let _restored = runtime.restore(&counter.bundle, &images, (&counter.output, ["--tcp-close"]));
    counter.goes_on();
    assert!(counter.bundle.path("again").exists());
}

#[test]
fn a_connection_in_flight_is_left_out() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "backlog", "5000");
    let container = counter.start(&runtime);
    let options = ["--tcp-established", "--tcp-skip-in-flight"];
    needs_a_flag(&counter, &container, options);
    let images = runtime.folder().join("images");
    let options = ["--tcp-established"];
    let _restored = runtime.restore(&counter.bundle, &images, (&counter.output, options));
    counter.goes_on();
}

/// criu finds the other end only in the container's own network namespace: here the host's.
#[test]
fn a_socket_of_the_hosts_is_found_again() {
    let runtime = Runtime::with_criu();
    let folder = runtime.folder().folder("sockets");
    let path = folder.join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let stored = Arc::clone(&seen);
    // An empty datagram ends it.
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 8];
        while socket.recv(&mut bytes).is_ok_and(|length| length == 8) {
            stored.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
    });
    let counter = Counter::worker(&runtime, "unix", path.to_str().unwrap());
    let bundle = counter.bundle.clone().without_namespace("network");
    let bundle = bundle.without_mount("/sys");
    let bundle = bundle.bind(&folder, folder.to_str().unwrap(), []);
    let counter = Counter { bundle, ..counter };
    let container = counter.start(&runtime);
    needs_a_flag(&counter, &container, ["--ext-unix-sk"]);
    let images = runtime.folder().join("images");
    let before = seen.load(Ordering::Relaxed);
    let options = ["--ext-unix-sk"];
    let restored = runtime.restore(&counter.bundle, &images, (&counter.output, options));
    counter.goes_on();
    assert!(seen.load(Ordering::Relaxed) > before);
    restored.delete_by_force().ok();
    let end = UnixDatagram::unbound().unwrap();
    end.send_to(b"", &path).unwrap();
    reader.join().unwrap();
}

#[test]
fn locks_are_held_again() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "lock", "/root/lock");
    let container = counter.start(&runtime);
    let path = counter.bundle.path("root/lock");
    let is_held = || {
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let file = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock);
        // Both kinds are of the same file.
        let inode = format!(":{} ", fs::metadata(&path).unwrap().ino());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let posix = locks
            .lines()
            .any(|line| line.contains("POSIX") && line.contains(&inode) && line.ends_with("3 7"));
        (file.is_err(), posix)
    };
    assert_eq!(is_held(), (true, true));
    needs_a_flag(&counter, &container, ["--file-locks"]);
    assert_eq!(is_held(), (false, false));
    let images = runtime.folder().join("images");
    let options = ["--file-locks"];
    let _restored = runtime.restore(&counter.bundle, &images, (&counter.output, options));
    counter.goes_on();
    assert_eq!(is_held(), (true, true));
}

/// By a name that criu makes in the root file system and takes away at the restore: images of this
/// kind are restored once.
#[test]
fn a_deleted_file_with_another_name_is_linked() {
    let runtime = Runtime::with_criu();
    let script = format!(
        "echo kept >/root/a; ln /root/a /root/b; exec 3</root/a; rm /root/a; {}",
        COUNTER.replace("sleep 0.02", "sleep 0.02 3<&-")
    );
    let counter = Counter::of(&runtime, runtime.bundle().shell(&script));
    let container = counter.start(&runtime);
    needs_a_flag(&counter, &container, ["--link-remap"]);
    let names = || {
        let entries = fs::read_dir(counter.bundle.path("root")).unwrap().flatten();
        entries.map(|entry| entry.file_name()).collect::<Vec<_>>()
    };
    assert_eq!(names().len(), 2, "{:?}", names());
    let images = runtime.folder().join("images");
    let restored = runtime.restore(&counter.bundle, &images, (&counter.output, []));
    counter.goes_on();
    let read =
        "cat $(ls -l /proc/1/fd | grep -o '[0-9]* -> /root/a' | sed 's# .*##;s#^#/proc/1/fd/#')";
    assert_eq!(restored.shell(read).ok().line(), "kept");
    assert_eq!(names(), ["b"]);
    restored.delete_by_force().ok();
    let again = runtime.restore_command(&counter.bundle, &images);
    let again = again.arg(runtime.id()).output();
    again.fails(["criu restore: Error (", "Can't link root/link_remap."]);
    runtime.is_clean();
}

#[test]
fn images_are_used_up_by_deduplication() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "memory", "8");
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, ["--auto-dedup"]).ok();
    let blocks = || fs::metadata(images.join("pages-1.img")).unwrap().blocks();
    let before = blocks();
    let options = ["--auto-dedup"];
    let restored = runtime.restore(&counter.bundle, &images, (&counter.output, options));
    counter.goes_on();
    assert!(blocks() * 8 < before, "{before} {}", blocks());
    restored.delete_by_force().ok();
    let again = runtime.restore_command(&counter.bundle, &images);
    again.arg(runtime.id()).output().fails(["criu restore: "]);
    runtime.is_clean();
}

/// A page that is dumped once more leaves a hole where it was.
#[test]
fn parent_images_lose_what_is_written_anew() {
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "memory", "1");
    let container = counter.start(&runtime);
    let images = |name: &str| runtime.folder().join("images").join(name);
    let first = container.checkpoint(&images("1"), ["--pre-dump"]);
    if first.stderr.contains("this kernel has no tracking") {
        coracle_integration::skip!("needs a kernel that tracks changed memory");
    }
    first.ok();
    let blocks = || {
        fs::metadata(images("1").join("pages-1.img"))
            .unwrap()
            .blocks()
    };
    let before = blocks();
    // A page of 8 blocks is changed in each round.
    counter.counts_beyond(counter.last() + 100);
    let options = ["--parent-path", "../1", "--auto-dedup"];
    container.checkpoint(&images("2"), options).ok();
    assert!(blocks() + 50 * 8 < before, "{before} {}", blocks());
    let _restored = runtime.restore(&counter.bundle, &images("2"), (&counter.output, []));
    counter.goes_on();
}

/// Only with the cgroups mode `full` limits come from the images; otherwise the config has them.
#[test]
fn limits_come_from_the_config_or_the_images() {
    needs::controller("pids");
    let runtime = Runtime::with_criu();
    let limit = |bundle: &Bundle, limit: u64| {
        let resources = json!({"pids": {"limit": limit}});
        bundle.clone().set("/linux/resources", resources)
    };
    for (mode, expected) in [("soft", "99"), ("full", "77"), ("ignore", "99")] {
        let counter = Counter::worker(&runtime, "memory", "1");
        let (first, second) = (limit(&counter.bundle, 77), limit(&counter.bundle, 99));
        let container = runtime.start_into(&first, &counter.output);
        counter.counts_beyond(2);
        let images = runtime.folder().join(mode);
        let options = ["--manage-cgroups-mode", mode];
        container.checkpoint(&images, options).ok();
        let restored = runtime.restore(&second, &images, (&counter.output, options));
        counter.goes_on();
        let found = restored.control(("pids", "pids.max"), "pids.max");
        assert_eq!(found, expected, "{mode}");
        let procs = restored.control(("pids", "cgroup.procs"), "cgroup.procs");
        assert_eq!(procs, restored.pid().to_string(), "{mode}");
        restored.delete_by_force().ok();
        fs::remove_file(&counter.output).unwrap();
    }
}

/// In strict mode neither the container's cgroup nor one below it may exist; limits come from the
/// images.
#[test]
fn strict_control_groups_are_made_anew() {
    needs::controller("pids");
    let runtime = Runtime::with_criu();
    let counter = Counter::worker(&runtime, "memory", "1");
    let path = json!(format!("/{}", runtime.id()));
    let limited = |limit: u64| {
        let bundle = counter.bundle.clone();
        let bundle = bundle.set("/linux/cgroupsPath", path.clone());
        bundle.set("/linux/resources", json!({"pids": {"limit": limit}}))
    };
    let container = runtime.start_into(&limited(77), &counter.output);
    counter.counts_beyond(2);
    let images = runtime.folder().join("images");
    let strict = ["--manage-cgroups-mode", "strict"];
    container
        .checkpoint(&images, [strict[0], strict[1], "--leave-running"])
        .ok();
    let restore = runtime.restore_command(&limited(99), &images);
    let output = restore.args(strict).arg(runtime.id()).output();
    output.fails(["--manage-cgroups-mode strict: ", " exists"]);
    container.checkpoint(&images, strict).ok();
    let restored = runtime.restore(&limited(99), &images, (&counter.output, strict));
    counter.goes_on();
    assert_eq!(restored.control(("pids", "pids.max"), "pids.max"), "77");
}

#[test]
fn an_empty_network_is_the_only_empty_namespace() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    let refused = container.checkpoint(&images, ["--empty-ns", "ipc"]);
    refused.fails(["--empty-ns: \\\"ipc\\\": expected network"]);
    assert!(!images.exists());
    container.delete_by_force().ok();
    fs::remove_file(&counter.output).unwrap();
    let restored = counter.travels(&runtime, ["--empty-ns", "network"]);
    let flags = restored.shell("cat /sys/class/net/lo/flags").ok();
    assert_eq!(flags.line(), "0x9");
}

/// criu writes a byte to the status descriptor when lazy pages can be fetched. A dump without them
/// closes it unwritten.
#[test]
fn a_whole_dump_says_nothing_of_pages() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let container = counter.start(&runtime);
    let (images, ready) = (
        runtime.folder().join("images"),
        runtime.folder().join("ready"),
    );
    let command = runtime.command(["checkpoint", "--status-fd", "7", "--image-path"]);
    let command = command.arg(&images).arg(&container.id);
    command
        .after(&format!("exec 7>{}", ready.display()))
        .output()
        .ok();
    assert_eq!(fs::read(&ready).unwrap(), b"");
}

#[test]
fn labels_of_absent_modules_are_refused() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let apparmor = Path::new("/sys/module/apparmor").exists() || modules.contains("apparmor");
    for (profile, text) in [
        ("apparmor:x", "apparmor not supported by kernel"),
        ("bogus", "invalid argument bogus for --lsm-profile"),
        ("nonsense:x", "unknown lsm nonsense"),
    ] {
        if profile == "apparmor:x" && apparmor {
            continue;
        }
        let restore = runtime.restore_command(&counter.bundle, &images);
        let restore = restore.args(["--lsm-profile", profile]).arg(runtime.id());
        restore.output().fails(["criu restore: Error (", text]);
        runtime.is_clean();
    }
}

/// The number that criu counts up when it can no longer read older images.
#[test]
fn images_of_another_version_are_refused() {
    let runtime = Runtime::with_criu();
    let counter = Counter::new(&runtime);
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let inventory = images.join("inventory.img");
    let whole = fs::read(&inventory).unwrap();
    // A magic number, a length, and the first field: img_version of inventory_entry.
    let at = whole.iter().position(|byte| *byte == 8).unwrap();
    assert!((8..=12).contains(&at) && whole[at + 1] == 2, "{whole:x?}");
    let mut other = whole.clone();
    other[at + 1] = 9;
    fs::write(&inventory, other).unwrap();
    let restore = runtime.restore_command(&counter.bundle, &images);
    let output = restore.arg(runtime.id()).output();
    output.fails(["criu restore: Error (", "Not supported images version 9"]);
    runtime.is_clean();
    fs::write(&inventory, whole).unwrap();
    let _restored = runtime.restore(&counter.bundle, &images, (&counter.output, []));
    counter.goes_on();
}

/// criu fails before it opens its log. A configuration file that is missing is no failure.
#[test]
fn a_bad_configuration_file_is_named() {
    let runtime = Runtime::with_criu();
    let file = runtime.folder().join("criu.conf");
    let counter = Counter::new(&runtime);
    let annotation = json!({"org.criu.config": file});
    let bundle = counter.bundle.clone().set("/annotations", annotation);
    let counter = Counter { bundle, ..counter };
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    let text = "it refuses the request (EBADRQC) or its configuration file";
    let name = file.display().to_string();
    for bad in ["no-such-option\n", "log-level nonsense\n"] {
        fs::write(&file, bad).unwrap();
        let refused = container.checkpoint(&images, []);
        refused.fails(["criu dump: ", text, &name]);
        assert_eq!(container.status(), "running");
        counter.goes_on();
    }
    fs::remove_file(&file).unwrap();
    container.checkpoint(&images, []).ok();
    fs::write(&file, "no-such-option\n").unwrap();
    let restore = runtime.restore_command(&counter.bundle, &images);
    let output = restore.arg(runtime.id()).output();
    output.fails(["criu restore: ", text, &name]);
    runtime.is_clean();
    fs::remove_file(&file).unwrap();
    let _restored = runtime.restore(&counter.bundle, &images, (&counter.output, []));
    counter.goes_on();
}

/// A network whose plugin writes down each call and the namespace, and answers `add` to ADD.
struct Plugin {
    flags: [String; 6],
    log: PathBuf,
}

impl Plugin {
    fn new(runtime: &Runtime) -> Self {
        let folder = runtime.folder();
        let (log, conf) = (folder.file("log", ""), folder.folder("conf"));
        let list = json!({"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "note"}]});
        fs::write(conf.join("n.conflist"), list.to_string()).unwrap();
        let plugin = Self {
            flags: [
                "--network".into(),
                "n".into(),
                "--cni-conf-dir".into(),
                conf.display().to_string(),
                "--cni-bin-dir".into(),
                folder.folder("plugins").display().to_string(),
            ],
            log,
        };
        plugin.answers(
            runtime,
            r#"echo '{"cniVersion":"1.1.0","ips":[{"address":"10.7.0.2/24"}]}'"#,
        );
        plugin
    }

    fn answers(&self, runtime: &Runtime, add: &str) {
        let script = format!(
            "cat >/dev/null\n\
             echo $CNI_COMMAND $(stat -L -c %i $CNI_NETNS) >>{}\n\
             case $CNI_COMMAND in ADD) {add};; esac\n",
            self.log.display()
        );
        runtime.folder().script("plugins/note", &script);
    }

    fn flags(&self) -> [&str; 6] {
        self.flags.each_ref().map(String::as_str)
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn namespace_of(container: &Container) -> u64 {
    let path = format!("/proc/{}/ns/net", container.pid());
    fs::metadata(path).unwrap().ino()
}

/// The checkpoint takes the network back; the restore attaches the new namespace to it, before
/// hooks run.
#[test]
fn networks_are_attached_anew() {
    let runtime = Runtime::with_criu();
    let plugin = Plugin::new(&runtime);
    let hook = format!("echo hook >>{}", plugin.log.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", hook]});
    let counter = Counter::worker(&runtime, "memory", "1");
    let bundle = counter.bundle.clone().hook("createRuntime", hook);
    let counter = Counter { bundle, ..counter };
    let container = runtime.create_with(&counter.bundle, plugin.flags());
    let first = namespace_of(&container);
    container.start().ok();
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    runtime.is_clean();
    let calls = [
        format!("ADD {first}"),
        "hook".into(),
        format!("DEL {first}"),
    ];
    assert_eq!(plugin.calls(), calls);
    fs::write(&plugin.log, "").unwrap();
    let explain = runtime.command(["explain", "--image-path"]).arg(&images);
    let explain = explain
        .args(plugin.flags())
        .arg(&counter.bundle.dir)
        .output();
    let plan = explain.ok().stdout;
    assert!(
        plan.contains("\nnetwork (runtime)\n  attach eth0 to network n (CNI 1.1.0) by note\n"),
        "{plan}"
    );
    let restored = runtime.restore(&counter.bundle, &images, (&counter.output, plugin.flags()));
    let second = namespace_of(&restored);
    assert_eq!(plugin.calls(), [format!("ADD {second}"), "hook".into()]);
    let state = restored.state().to_string();
    assert!(state.contains("10.7.0.2/24"), "{state}");
    restored.delete_by_force().ok();
    assert_eq!(plugin.calls()[2..], [format!("DEL {second}")]);
    runtime.is_clean();
}

#[test]
fn a_failed_network_is_taken_back() {
    let runtime = Runtime::with_criu();
    let plugin = Plugin::new(&runtime);
    let counter = Counter::worker(&runtime, "memory", "1");
    let container = runtime.create_with(&counter.bundle, plugin.flags());
    container.start().ok();
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    fs::write(&plugin.log, "").unwrap();
    let no = r#"echo '{"cniVersion":"1.1.0","code":101,"msg":"port is in use"}'; exit 1"#;
    plugin.answers(&runtime, no);
    let restore = runtime.restore_command(&counter.bundle, &images);
    let output = restore.args(plugin.flags()).arg(runtime.id()).output();
    output.fails(["note", "port is in use"]);
    let calls = plugin.calls();
    assert!(
        calls.len() == 2 && calls[1].starts_with("DEL "),
        "{calls:?}"
    );
    runtime.is_clean();
}

/// By a flag, of which the config knows nothing.
#[test]
fn another_containers_network_is_joined_again() {
    let runtime = Runtime::with_criu();
    let other = runtime.sleeper();
    let counter = Counter::worker(&runtime, "memory", "1");
    let network = format!("container:{}", other.id);
    let container = runtime.create_with(&counter.bundle, ["--network", &network]);
    container.start().ok();
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let options = ["--network", &network];
    let restored = runtime.restore(&counter.bundle, &images, (&counter.output, options));
    assert_eq!(restored.status(), "running");
    assert_eq!(namespace_of(&restored), namespace_of(&other));
}

/// Those of the first are gone with it. They come back to the host if the restore fails.
#[test]
fn network_devices_are_moved_in_again() {
    let runtime = Runtime::with_criu();
    let device = host_device(&runtime);
    let counter = Counter::worker(&runtime, "memory", "1");
    let name = format!("/linux/netDevices/{device}/name");
    let bundle = counter.bundle.clone().set(&name, json!("inside0"));
    let failing = json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]});
    let failing = bundle.clone().hook("createRuntime", failing);
    let counter = Counter { bundle, ..counter };
    let container = counter.start(&runtime);
    let images = runtime.folder().join("images");
    container.checkpoint(&images, []).ok();
    let restore = |bundle: &Bundle| {
        let restore = runtime.restore_command(bundle, &images).arg("--detach");
        restore.arg(runtime.id()).output()
    };
    restore(&counter.bundle).fails([&device, "no such network device"]);
    assert_eq!(host_device(&runtime), device);
    let add = ["address", "add", "192.0.2.5/24", "dev", &device];
    Command::new("ip").args(add).output().ok();
    restore(&failing).fails(["createRuntime"]);
    runtime.is_clean();
    let is_back = has_address(&device, "192.0.2.5/24").0;
    let explain = runtime.command(["explain", "--image-path"]).arg(&images);
    let plan = explain.arg(&counter.bundle.dir).output().ok().stdout;
    let restored = runtime.restore(&counter.bundle, &images, (&counter.output, []));
    Command::new("ip").args(["link", "del", &device]).output();
    let step = format!("move the network device {device} into the container as inside0");
    assert!(is_back && plan.contains(&step), "{plan}");
    let seen = restored.shell("ip address show inside0").ok().stdout;
    assert!(seen.contains("192.0.2.5/24"), "{seen}");
    counter.goes_on();
}

/// Notifications come by the restore's own NOTIFY_SOCKET. The container had reported nothing when
/// it was dumped, so the restore waits for it.
#[test]
fn notifications_are_passed_on_after_a_restore() {
    let runtime = Runtime::with_criu();
    let manager = Manager::new(&runtime);
    let bundle = runtime.bundle().shell("while :; do sleep 0.05; done");
    let (id, images) = (runtime.id(), runtime.folder().join("images"));
    let create = runtime.with_bundle("create", &bundle).arg(&id);
    create.env("NOTIFY_SOCKET", &manager.path).output().ok();
    runtime.command(["start", &id]).output().ok();
    let checkpoint = |options: &[&str]| {
        let checkpoint = runtime.command(["checkpoint", "--image-path"]).arg(&images);
        checkpoint.args(options).arg(&id).output().ok();
    };
    let restore = |detach: &[&str]| {
        let restore = runtime.restore_command(&bundle, &images).args(detach);
        let restore = restore.arg(&id).env("NOTIFY_SOCKET", &manager.path);
        restore.spawn()
    };
    checkpoint(&[]);
    let foreground = restore(&[]);
    let pid = pid_of(&runtime, &id);
    send(pid, "STATUS=on\nOTHER=no");
    manager.receives("STATUS=on");
    checkpoint(&["--leave-running"]);
    runtime.command(["kill", &id, "KILL"]).output().ok();
    foreground.wait().exits(137);
    runtime.is_clean();
    let detached = restore(&["--detach"]);
    let pid = pid_of(&runtime, &id);
    assert!(!detached.wait_briefly(Duration::from_millis(20)));
    send(pid, "READY=1");
    detached.wait().ok();
    manager.receives(&format!("READY=1\nMAINPID={pid}"));
    // The container had reported that it is ready: each restore reports it in the container's
    // place.
    for _ in 0..2 {
        checkpoint(&[]);
        restore(&["--detach"]).wait().ok();
        let pid = pid_of(&runtime, &id);
        manager.receives(&format!("READY=1\nMAINPID={pid}"));
    }
    runtime.command(["delete", "--force", &id]).output().ok();
    runtime.is_clean();
}
