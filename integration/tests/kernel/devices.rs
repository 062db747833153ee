//! `linux.devices`, the default devices and the links beside them.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use coracle_integration::{Bundle, HostMount, Runtime, Value, json, needs};

fn device(path: &str, kind: &str, major: u32, minor: u32) -> Value {
    json!({"path": path, "type": kind, "major": major, "minor": minor})
}

fn with_device(bundle: Bundle, device: Value) -> Bundle {
    bundle.push("/linux/devices", device)
}

/// `TYPE NUMBER MODE OWNER` of paths, a line each.
fn stat(paths: &str) -> String {
    format!("stat -c '%F %t:%T %a %u:%g' {paths}")
}

/// Makes a node in the root filesystem, as an image might have one.
fn node(bundle: &Bundle, inside: &str, arguments: &[&str]) {
    let path = bundle.path(inside);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mknod = coracle_integration::Command::new("mknod").args(["-m", "600"]);
    mknod.arg(path).args(arguments).output().ok();
}

#[test]
fn default_devices_are_there() {
    let runtime = Runtime::new();
    let script = stat("/dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty");
    let output = runtime.run(&runtime.bundle().shell(&script)).ok();
    let numbers = ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"];
    let expected = numbers.map(|number| format!("character special file {number} 666 0:0\n"));
    assert_eq!(output.stdout, expected.concat());
}

#[test]
fn default_devices_work() {
    let runtime = Runtime::new();
    let script = "echo x >/dev/null && head -c3 /dev/zero | wc -c; head -c2 /dev/urandom | wc -c; \
        head -c4 /dev/random | wc -c; cat /dev/null; echo x 2>&1 >/dev/full";
    let output = runtime.run(&runtime.bundle().shell(script).user(1000, 1000));
    assert!(output.stdout.starts_with("3\n2\n4\n"), "{output}");
    assert!(output.stdout.contains("No space left"), "{output}");
}

#[test]
fn the_config_overrides_default_devices() {
    let runtime = Runtime::new();
    let mut null = device("/dev/null", "c", 1, 5);
    null["fileMode"] = json!(0o600);
    null["uid"] = json!(7);
    let bundle = with_device(runtime.bundle(), null).shell(&stat("/dev/null /dev/zero"));
    let line = "character special file 1:5";
    assert_eq!(
        runtime.run(&bundle).ok().stdout,
        format!("{line} 600 7:0\n{line} 666 0:0\n")
    );
}

#[test]
fn character_and_block_devices_and_pipes_are_made() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), device("/dev/c", "c", 1, 5));
    let bundle = with_device(bundle, device("/dev/b", "b", 7, 300));
    let bundle = with_device(bundle, json!({"path": "/dev/p", "type": "p"}));
    let bundle = bundle.shell(&stat("/dev/c /dev/b /dev/p"));
    let expected = "character special file 1:5 666 0:0\nblock special file 7:12c 666 0:0\n\
        fifo 0:0 666 0:0\n";
    assert_eq!(runtime.run(&bundle).ok().stdout, expected);
}

#[test]
fn unbuffered_is_character() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), device("/dev/u", "u", 1, 3));
    let bundle = bundle.shell(&stat("/dev/u"));
    assert_eq!(
        runtime.run(&bundle).ok().line(),
        "character special file 1:3 666 0:0"
    );
}

#[test]
fn parents_are_made() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), device("/dev/a/b/c", "c", 1, 3));
    let bundle = with_device(bundle, device("/opt/d/e", "c", 1, 3));
    let bundle = bundle.shell("stat -c %a /dev/a /dev/a/b /opt /opt/d; stat -c %t /opt/d/e");
    assert_eq!(runtime.run(&bundle).ok().stdout, "755\n755\n755\n755\n1\n");
}

#[test]
fn a_trailing_slash_is_tolerated() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), device("/dev//x/", "c", 1, 3));
    let bundle = bundle.args(["stat", "-c", "%t:%T", "/dev/x"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "1:3");
}

#[test]
fn modes_and_owners_are_set() {
    let runtime = Runtime::new();
    let mut own = device("/dev/x", "c", 1, 3);
    own["fileMode"] = json!(0o1640);
    own["uid"] = json!(1000);
    own["gid"] = json!(4_000_000_000_u32);
    let bundle = with_device(runtime.bundle(), own).shell(&stat("/dev/x"));
    assert_eq!(
        runtime.run(&bundle).ok().line(),
        "character special file 1:3 1640 1000:4000000000"
    );
}

#[test]
fn modes_do_not_depend_on_the_callers_umask() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle().without_dev(), device("/dev/x", "c", 1, 3));
    let bundle = bundle.args(["stat", "-c", "%a", "/dev/x", "/dev/null"]);
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    assert_eq!(run.after("umask 0777").output().ok().line(), "666\n666");
}

#[test]
fn type_bits_in_the_mode_are_ignored() {
    let runtime = Runtime::new();
    let mut own = device("/dev/x", "c", 1, 3);
    own["fileMode"] = json!(0o020_620);
    let bundle = with_device(runtime.bundle(), own).shell(&stat("/dev/x"));
    assert_eq!(
        runtime.run(&bundle).ok().line(),
        "character special file 1:3 620 0:0"
    );
}

#[test]
fn a_file_in_the_place_is_refused() {
    let runtime = Runtime::new();
    for inside in ["/opt/x", "/dev/null"] {
        let bundle = runtime.bundle().without_dev().file(inside, "text");
        let bundle = with_device(bundle, device("/opt/x", "c", 1, 3));
        runtime.try_create(&bundle).fails([inside]);
        assert_eq!(fs::read_to_string(bundle.path(inside)).unwrap(), "text");
    }
    let bundle = with_device(runtime.bundle(), device("/usr", "c", 1, 3));
    runtime.try_create(&bundle).fails(["/usr"]);
    runtime.is_clean();
}

#[test]
fn another_device_in_the_place_is_refused() {
    let runtime = Runtime::new();
    for (kind, major, minor) in [("c", 1, 5), ("b", 1, 3), ("c", 2, 3)] {
        let bundle = runtime.bundle();
        node(&bundle, "/opt/x", &["c", "1", "3"]);
        let bundle = with_device(bundle, device("/opt/x", kind, major, minor));
        runtime.try_create(&bundle).fails(["/opt/x"]);
    }
}

#[test]
fn a_link_in_the_place_is_refused() {
    let runtime = Runtime::new();
    for target in ["/dev/null", "/nowhere", "/etc/passwd"] {
        let bundle = runtime.bundle().link("/opt/x", target);
        let bundle = with_device(bundle, device("/opt/x", "c", 1, 3));
        runtime.try_create(&bundle).fails(["/opt/x"]);
    }
}

#[test]
fn the_same_device_in_the_place_is_fine() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), device("/opt/x", "c", 1, 3));
    node(&bundle, "/opt/x", &["c", "1", "3"]);
    let bundle = bundle.shell(&stat("/opt/x"));
    for _ in 0..2 {
        runtime.run(&bundle).ok();
    }
}

#[test]
fn the_same_device_gets_its_mode() {
    let runtime = Runtime::new();
    let mut own = device("/opt/x", "c", 1, 3);
    own["fileMode"] = json!(0o644);
    own["gid"] = json!(5);
    let bundle = with_device(runtime.bundle(), own);
    node(&bundle, "/opt/x", &["c", "1", "3"]);
    let bundle = bundle.shell(&stat("/opt/x"));
    assert_eq!(
        runtime.run(&bundle).ok().line(),
        "character special file 1:3 644 0:5"
    );
}

#[test]
fn the_same_pipe_in_the_place_is_fine() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), json!({"path": "/opt/p", "type": "p"}));
    node(&bundle, "/opt/p", &["p"]);
    runtime.run(&bundle).ok();
    let kind = fs::symlink_metadata(bundle.path("/opt/p"))
        .unwrap()
        .file_type();
    assert!(kind.is_fifo());
}

#[test]
fn ptmx_in_the_list_is_skipped() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), device("/dev/ptmx", "c", 5, 2));
    let bundle = bundle.args(["readlink", "/dev/ptmx"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "pts/ptmx");
}

#[test]
fn ptmx_is_a_link_whatever_was_there() {
    let runtime = Runtime::new();
    let check = |bundle: Bundle| {
        let bundle = bundle.args(["readlink", "/dev/ptmx"]);
        assert_eq!(runtime.run(&bundle).ok().line(), "pts/ptmx");
    };
    check(runtime.bundle().without_dev().file("/dev/ptmx", "text"));
    check(
        runtime
            .bundle()
            .without_dev()
            .link("/dev/ptmx", "/etc/passwd"),
    );
    let bundle = runtime.bundle().without_dev();
    node(&bundle, "/dev/ptmx", &["c", "5", "2"]);
    check(bundle);
}

#[test]
fn links_are_made() {
    let runtime = Runtime::new();
    let script = "for l in fd stdin stdout stderr core; do readlink /dev/$l; done; true";
    let output = runtime.run(&runtime.bundle().shell(script)).ok();
    let expected = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n";
    assert!(output.stdout.starts_with(expected), "{output}");
    let core = output.stdout.strip_prefix(expected).unwrap();
    assert!(core.is_empty() || core == "/proc/kcore\n", "{output}");
}

#[test]
fn links_that_are_there_stay() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .without_dev()
        .link("/dev/fd", "/own")
        .file("/dev/stdin", "text")
        .folder("/dev/stdout")
        .shell("readlink /dev/fd; cat /dev/stdin; ls -d /dev/stdout; readlink /dev/stderr");
    assert_eq!(
        runtime.run(&bundle).ok().stdout,
        "/own\ntext/dev/stdout\n/proc/self/fd/2\n"
    );
}

#[test]
fn links_need_procfs() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().without_mount("/proc");
    let bundle = bundle.shell("ls /dev/fd /dev/stdin 2>&1; readlink /dev/ptmx");
    let output = runtime.run(&bundle).ok();
    assert!(output.stdout.ends_with("pts/ptmx\n"), "{output}");
    assert_eq!(output.stdout.matches("No such file").count(), 2, "{output}");
}

#[test]
fn the_link_to_kcore_needs_the_file() {
    let runtime = Runtime::new();
    let output = runtime.run(
        &runtime
            .bundle()
            .shell("ls /proc/kcore >/dev/null 2>&1; echo $?; readlink /dev/core"),
    );
    let is_there = output.stdout.starts_with("0\n");
    assert_eq!(is_there, output.stdout.contains("/proc/kcore"), "{output}");
}

#[test]
fn there_is_no_console_without_a_terminal() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["ls", "/dev"]);
    let output = runtime.run(&bundle).ok();
    let names: Vec<&str> = output
        .stdout
        .lines()
        .filter(|name| *name != "core")
        .collect();
    let expected = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_bound_dev_gets_nothing() {
    let runtime = Runtime::new();
    let own = HostMount::new(&runtime, "dev", []);
    for option in ["bind", "rbind"] {
        let mount = json!({"destination": "/dev", "source": own.path, "options": [option]});
        let bundle = runtime.bundle().without_dev().push("/mounts", mount);
        let bundle = with_device(bundle, device("/dev/x", "c", 1, 3));
        runtime.run(&bundle.args(["ls", "-A", "/dev"])).ok();
        assert_eq!(fs::read_dir(&own.path).unwrap().count(), 0);
    }
}

#[test]
fn devices_in_a_user_namespace_are_bound() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), device("/dev/zero", "c", 1, 5));
    let bundle = bundle.user_namespace();
    let script = "stat -c %t:%T /dev/null /dev/zero /dev/tty; head -c2 /dev/zero | wc -c; \
        echo x >/dev/null; grep -c ' /dev/null ' /proc/self/mountinfo";
    let output = runtime.run(&bundle.shell(script)).ok();
    assert_eq!(output.stdout, "1:3\n1:5\n5:0\n2\n1\n");
}

#[test]
fn a_missing_node_of_the_host_is_named() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), device("/dev/nosuch", "c", 4000, 4000));
    // A process that may make no device nodes can only bind those of the host.
    let create = runtime.with_bundle("create", &bundle.user_namespace());
    let create = create.arg(runtime.id());
    let output = create
        .under("setpriv", ["--bounding-set=-mknod", "--"])
        .output();
    output.fails(["linux.devices[0]", "/dev/nosuch"]);
    runtime.is_clean();
}

#[test]
fn a_node_that_the_host_lacks_is_made_for_a_user_namespace() {
    needs::kernel(6, 15);
    let runtime = Runtime::new();
    let mut node = device("/dev/mine", "c", 1, 5);
    node["fileMode"] = json!(0o640);
    node["gid"] = json!(7);
    let bundle = with_device(runtime.bundle(), node).user_namespace();
    let rule = json!([{"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"}]);
    let bundle = bundle.set("/linux/resources/devices", rule);
    let script = "stat -c '%t:%T %a %u:%g' /dev/mine; head -c 3 /dev/mine | wc -c; \
                  grep ' /dev/mine ' /proc/self/mountinfo";
    let output = runtime.run(&bundle.shell(script)).ok();
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(lines[..2], ["1:5 640 0:7", "3"], "{output}");
    assert!(
        lines[2].contains("nosuid") && lines[2].contains("noexec"),
        "{output}"
    );
}

#[test]
fn a_node_of_another_path_is_found_by_number() {
    if !std::path::Path::new("/dev/char/1:3").exists() {
        coracle_integration::skip!("needs /dev/char, which udev keeps");
    }
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), device("/opt/nothing", "c", 1, 3));
    let bundle = bundle
        .user_namespace()
        .args(["stat", "-c", "%t:%T", "/opt/nothing"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "1:3");
}

#[test]
fn a_pipe_in_a_user_namespace_is_made() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), json!({"path": "/dev/p", "type": "p"}));
    let bundle = bundle.user_namespace().shell(&stat("/dev/p"));
    assert_eq!(runtime.run(&bundle).ok().line(), "fifo 0:0 666 0:0");
}

#[test]
fn devices_without_the_capability_are_bound() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), device("/dev/zero", "c", 1, 5));
    let bundle = bundle.shell("stat -c %t:%T /dev/null /dev/zero; echo x >/dev/null");
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let run = run.under("setpriv", ["--bounding-set=-mknod", "--"]);
    assert_eq!(run.output().ok().line(), "1:3\n1:5");
    let bundle = with_device(runtime.bundle(), device("/dev/nosuch", "c", 1, 3));
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let run = run.under("setpriv", ["--bounding-set=-mknod", "--"]);
    run.output().fails(["/dev/nosuch", "c 1:3"]);
}

/// The node lies on the container's own filesystem: whether it opens is up to that one's flags.
#[test]
fn devices_work_on_a_nodev_root() {
    let runtime = Runtime::new();
    let bundle = with_device(runtime.bundle(), device("/opt/null", "c", 1, 3));
    let bundle = bundle.shell("echo x >/dev/null; stat -c %t:%T /opt/null");
    let mount = HostMount::new(&runtime, "root", ["remount,bind,nodev"]);
    let copy = coracle_integration::Command::new("cp").arg("-a");
    let copy = copy.arg(bundle.rootfs().join("."));
    copy.arg(&mount.path).output().ok();
    let bundle = bundle.set("/root/path", json!(mount.path));
    assert_eq!(runtime.run(&bundle).ok().line(), "1:3");
}

/// Below procfs, by whatever name the image leads there, no file may be replaced by a device.
#[test]
fn devices_inside_proc_are_refused() {
    let runtime = Runtime::new();
    for path in ["/proc/uptime", "/link/uptime", "/other/uptime"] {
        let bundle = runtime.bundle().link("/link", "/proc");
        let bundle = bundle.mount("/other", "proc", "proc", []);
        let bundle = with_device(bundle, device(path, "c", 1, 3));
        runtime.try_create(&bundle).fails([path, "inside /proc"]);
    }
}

#[test]
fn many_devices() {
    let runtime = Runtime::new();
    let mut bundle = runtime.bundle();
    for number in 0..500 {
        bundle = with_device(bundle, device(&format!("/dev/m/{number}"), "b", 7, number));
    }
    let bundle = bundle.shell("ls /dev/m | wc -l; stat -c %t:%T /dev/m/499");
    assert_eq!(runtime.run(&bundle).ok().line(), "500\n7:1f3");
}
