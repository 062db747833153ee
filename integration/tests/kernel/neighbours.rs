//! A container that signals every process that it may, over and over, while others are made in its
//! pid namespace or its user namespace. What is killed is reported; a wait for what is stopped ends
//! with the caller's signal; nothing is left of either.

use coracle_integration::runner::{patience, times};
use coracle_integration::trace::{Fault, Point, can_trace, trace};
use coracle_integration::{
    Bundle, Command, Container, Output, Runtime, json, needs, skip, wait_until,
};
use nix::sys::signal::Signal;

/// `kill(-1)` spares the caller and the first process of its pid namespace.
fn signaller<'a>(runtime: &'a Runtime, bundle: Bundle, signal: &str) -> Container<'a> {
    let script = format!("echo ready; while :; do kill -{signal} -1; done");
    let script = script.replace(" done", " done 2>/dev/null");
    let bundle = bundle.capabilities(["CAP_KILL"]).shell(&script);
    let container = runtime.create(&bundle);
    container.start().ok();
    container.wait_for("ready");
    container
}

fn alone(runtime: &Runtime) -> Bundle {
    runtime.bundle()
}

/// Host ids that no other test gives to a container: whoever has one of them may signal the others.
const FIRST_IDS: [u32; 4] = [1_900_000_000, 1_910_000_000, 1_920_000_000, 1_930_000_000];

/// Its processes are in the host's pid namespace and see all, but only those in its user namespace
/// are theirs to signal.
fn with_the_hosts_processes(runtime: &Runtime, first: u32) -> Bundle {
    let map = json!([{"containerID": 0, "hostID": first, "size": 65536}]);
    let bundle = owned(runtime.bundle(), first).new_namespace("user");
    let bundle = bundle.set("/linux/uidMappings", map.clone());
    let bundle = bundle.set("/linux/gidMappings", map);
    bundle.without_namespace("pid").without_mount("/proc")
}

fn owned(bundle: Bundle, first: u32) -> Bundle {
    let owner = format!("{first}:{first}");
    let chown = Command::new("chown").args(["-hR", &owner]);
    chown.arg(bundle.rootfs()).output().ok();
    bundle
}

/// Ended by itself, or by our signal since it waits for a stopped process.
#[track_caller]
fn ended(command: Command) -> Output {
    let options = ["--preserve-status", "--signal=TERM", "0.4"];
    command.under("timeout", options).limit(20).output()
}

/// It worked, or failed with one line.
#[track_caller]
fn is_orderly(output: &Output) {
    let lines = output.stderr.trim_end().lines().count();
    assert!(output.code == 0 || lines == 1, "{output}");
    assert!(!output.stderr.contains("panicked"), "{output}");
}

/// Creates in a namespace of the container, and commands in the container itself.
fn beside(container: &Container<'_>, kind: &str, bundle: Bundle, tries: usize) {
    let runtime = container.runtime;
    let path = format!("/proc/{}/ns/{kind}", container.pid());
    let bundle = bundle.join_namespace(kind, &path).args(["true"]);
    for _ in 0..tries {
        let id = runtime.id();
        is_orderly(&ended(runtime.with_bundle("create", &bundle).arg(&id)));
        is_orderly(&ended(runtime.command(["start", &id])));
        is_orderly(&ended(runtime.command(["delete", "--force", &id])));
        let id = runtime.id();
        is_orderly(&ended(
            runtime.with_bundle("run", &bundle).args(["--detach", &id]),
        ));
        runtime.command(["delete", "--force", &id]).output().ok();
        is_orderly(&ended(container.exec_command(["--detach"], ["true"])));
    }
    container.delete_by_force().ok();
    wait_until("the end of all", || runtime.leftovers().is_empty());
}

#[test]
fn who_shares_a_pid_namespace_kills() {
    let runtime = Runtime::new();
    let container = signaller(&runtime, alone(&runtime), "KILL");
    beside(&container, "pid", runtime.bundle(), times(10, 100));
}

#[test]
fn who_shares_a_pid_namespace_stops() {
    let runtime = Runtime::new();
    let container = signaller(&runtime, alone(&runtime), "STOP");
    beside(&container, "pid", runtime.bundle(), times(6, 60));
}

fn in_its_user_namespace(runtime: &Runtime, first: u32) -> Bundle {
    let source = runtime.folder().folder("source");
    owned(runtime.bundle(), first).bind(source, "/mnt", ["rbind"])
}

#[test]
fn who_shares_a_user_namespace_kills() {
    let runtime = Runtime::new();
    let container = signaller(
        &runtime,
        with_the_hosts_processes(&runtime, FIRST_IDS[0]),
        "KILL",
    );
    let bundle = in_its_user_namespace(&runtime, FIRST_IDS[0]);
    beside(&container, "user", bundle, times(10, 100));
}

#[test]
fn who_shares_a_user_namespace_stops() {
    let runtime = Runtime::new();
    let container = signaller(
        &runtime,
        with_the_hosts_processes(&runtime, FIRST_IDS[1]),
        "STOP",
    );
    let bundle = in_its_user_namespace(&runtime, FIRST_IDS[1]);
    beside(&container, "user", bundle, times(6, 60));
}

/// Maps that the config has as well are read by a process in the user namespace, which is there to
/// be stopped; strace(1) does it in time.
#[test]
fn who_reads_the_maps_of_a_user_namespace_is_stopped() {
    needs::program("strace");
    let runtime = Runtime::new();
    let map = json!([{"containerID": 0, "hostID": FIRST_IDS[2], "size": 65536}]);
    let mapped = |bundle: Bundle| {
        let bundle = owned(bundle, FIRST_IDS[2]).set("/linux/uidMappings", map.clone());
        bundle.set("/linux/gidMappings", map.clone())
    };
    let first = mapped(runtime.bundle().new_namespace("user"));
    let container = runtime.start(&first.args(["sleep", "1000"]));
    let path = format!("/proc/{}/ns/user", container.pid());
    let bundle = mapped(runtime.bundle()).join_namespace("user", &path);
    let stop = "inject=setns:signal=SIGSTOP:when=1";
    let id = runtime.id();
    let create = runtime.with_bundle("create", &bundle).arg(&id).limit(20);
    let create = create.under("strace", ["-fo/dev/null", "-etrace=setns", "-e", stop]);
    create
        .output()
        .fails(["maps of the user namespace", "ETIMEDOUT"]);
    container.delete_by_force().ok();
    runtime.is_clean();
}

/// The intermediate is stopped at its first system call, before it has a parent-death signal.
#[test]
fn who_stops_a_clone_leaves_an_orphan_if_the_runtime_is_killed() {
    if !can_trace() {
        skip!("needs x86_64, whose registers the tracer knows");
    }
    let runtime = Runtime::new();
    let other = runtime.sleeper();
    let path = format!("/proc/{}/ns/pid", other.pid());
    let bundle = runtime.bundle().join_namespace("pid", &path);
    let id = runtime.id();
    let create = runtime.with_bundle("create", &bundle).arg(&id);
    let first = Point {
        process: 1,
        call: 0,
    };
    let stranded = trace(create, Some((first, Fault::Strand)));
    assert!(stranded.met.is_some(), "{}", stranded.output);
    let orphan = "a killed command has left behind; end it with delete --force";
    runtime
        .command(["start", &id])
        .limit(20)
        .output()
        .fails([orphan]);
    let delete = runtime.command(["delete", "--force", &id]).limit(20);
    let deleted = delete.output().ok();
    assert!(deleted.time < patience(5), "{deleted}");
    other.delete_by_force().ok();
    runtime.is_clean();
}

/// A shell that locks the container's directory by flock(1), which takes the lock and ends.
#[test]
fn who_took_the_lock_by_hand_is_not_killed() {
    needs::program("flock");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let directory = runtime.root().join(&container.id);
    let script = "exec 9<\"$0\"; flock 9; echo locked; while :; do sleep 0.1; done";
    let shell = Command::new("sh").args(["-c", script]).arg(&directory);
    let shell = shell.spawn();
    wait_until("the lock", || shell.stdout.text().contains("locked"));
    let delete = runtime.command(["delete", "--force", &container.id]);
    let refused = delete.limit(20).output();
    refused.fails(["container is locked by", "try again once it has ended"]);
    shell.signal(Signal::SIGTERM);
    assert_eq!(shell.wait().signal, Some(Signal::SIGTERM as i32));
    container.delete_by_force().ok();
    runtime.is_clean();
}
