//! `root`, propagation, the root change, masked and read-only paths, and what the runtime adds by
//! itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coracle_integration::{
    Bundle, Command, Container, HostMount, Running, Runtime, json, wait_until,
};

/// The last line of mountinfo for this mount point, in its fields.
fn mount_line<'a>(mountinfo: &'a str, point: &str) -> Option<Vec<&'a str>> {
    let mut lines = mountinfo.lines().map(|line| line.split(' ').collect());
    lines.rfind(|line: &Vec<&str>| line.get(4) == Some(&point))
}

/// Flags of a mount, as a process inside sees them.
#[track_caller]
fn flags(runtime: &Runtime, bundle: &Bundle, point: &str) -> String {
    let bundle = bundle.clone().args(["cat", "/proc/self/mountinfo"]);
    let output = runtime.run(&bundle).ok();
    let line = mount_line(&output.stdout, point).unwrap_or_else(|| panic!("{point}: {output}"));
    line[5].to_owned()
}

/// Propagation of a mount: the fields between its flags and the dash.
#[track_caller]
fn propagation(container: &Container<'_>, point: &str) -> String {
    let mountinfo = container.proc("mountinfo");
    let line = mount_line(&mountinfo, point).unwrap_or_else(|| panic!("{point}: {mountinfo}"));
    let fields = line[6..].iter().take_while(|field| **field != "-");
    fields.copied().collect::<Vec<_>>().join(" ")
}

/// Copies the root filesystem to a folder and uses it from there.
fn root_at(bundle: Bundle, folder: &Path) -> Bundle {
    let from = bundle.rootfs().join(".");
    let copy = Command::new("cp").arg("-a").arg(from).arg(folder);
    copy.output().ok();
    bundle.set("/root/path", json!(folder))
}

fn host_mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn a_relative_root_is_below_the_bundle() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().file("/here", "").args(["ls", "/here"]);
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    run.folder(Path::new("/usr")).output().ok();
    let absolute = bundle.clone().set("/root/path", json!(bundle.rootfs()));
    runtime.run(&absolute).ok();
    runtime
        .run(&bundle.set("/root/path", json!("./../bundle0/rootfs/")))
        .ok();
}

#[test]
fn a_root_through_a_link_is_resolved() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().file("/here", "").args(["ls", "/here"]);
    std::os::unix::fs::symlink("rootfs", bundle.dir.join("link")).unwrap();
    let bundle = bundle.set("/root/path", json!("link"));
    runtime.run(&bundle).ok();
    let state = runtime.create(&bundle).state();
    assert!(state["rootfs"].as_str().unwrap().starts_with('/'));
}

#[test]
fn bad_roots_are_refused() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().file("/file", "");
    std::os::unix::fs::symlink("nowhere", bundle.dir.join("dangling")).unwrap();
    std::os::unix::fs::symlink("/", bundle.dir.join("host")).unwrap();
    for path in [
        "",
        "missing",
        "rootfs/file",
        "dangling",
        "/",
        "host",
        "/usr/..",
    ] {
        let bundle = bundle.clone().set("/root/path", json!(path));
        runtime.try_create(&bundle).fails(["root.path"]);
    }
    runtime
        .try_create(&bundle.remove("/root"))
        .fails(["root must be specified"]);
    runtime.is_clean();
}

#[test]
fn a_read_only_root_is_read_only() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().set("/root/readonly", json!(true));
    let bundle = bundle.mount("/tmp", "tmpfs", "tmpfs", []);
    let script = "touch /x 2>&1; touch /etc/passwd 2>&1; touch /tmp/x /dev/x && echo writable";
    let output = runtime.run(&bundle.shell(script)).ok();
    assert_eq!(output.stdout.matches("Read-only file system").count(), 2);
    assert!(output.stdout.ends_with("writable\n"), "{output}");
}

#[test]
fn a_read_only_root_is_written_before() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().set("/root/readonly", json!(true));
    let hook = runtime.folder().script("hook", "touch \"$1/from-hook\"");
    let arguments = json!(["hook", bundle.rootfs()]);
    let bundle = bundle
        .hook("createContainer", json!({"path": hook, "args": arguments}))
        .mount("/new/point", "tmpfs", "tmpfs", [])
        .set("/process/cwd", json!("/new/cwd"))
        .shell("pwd; ls /from-hook; stat -fc %T /new/point");
    let output = runtime.run(&bundle).ok();
    assert_eq!(output.line(), "/new/cwd\n/from-hook\ntmpfs");
}

#[test]
fn a_read_only_root_keeps_its_other_flags() {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "root", ["remount,bind,nosuid,nodev,noatime"]);
    let bundle = root_at(runtime.bundle(), &mount.path).set("/root/readonly", json!(true));
    assert_eq!(
        flags(&runtime, &bundle, "/"),
        "ro,nosuid,nodev,noatime".to_owned()
    );
}

#[test]
fn a_read_only_root_in_a_user_namespace() {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "root", ["remount,bind,nosuid,nodev,noatime"]);
    let bundle = runtime.bundle().user_namespace();
    let bundle = root_at(bundle, &mount.path).set("/root/readonly", json!(true));
    assert_eq!(flags(&runtime, &bundle, "/"), "ro,nosuid,nodev,noatime");
}

#[test]
fn a_root_on_a_read_only_filesystem() {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "root", []);
    let bundle = root_at(runtime.bundle(), &mount.path);
    let mount = mount.with(["remount,ro"]);
    let bundle = bundle.set("/process/cwd", json!("/usr"));
    let output = runtime.run(&bundle.shell("touch /x 2>&1; pwd")).ok();
    assert!(output.stdout.contains("Read-only"), "{output}");
    drop(mount);
}

#[test]
fn a_missing_mount_point_on_a_read_only_filesystem_is_named() {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "root", []);
    let bundle = root_at(runtime.bundle(), &mount.path);
    let mount = mount.with(["remount,ro"]);
    let folder = bundle.clone().mount("/a/new", "tmpfs", "tmpfs", []);
    let output = runtime.try_create(&folder);
    output.fails(["/a/new", "read-only file system"]);
    let cwd = bundle.set("/process/cwd", json!("/a/cwd"));
    runtime
        .try_create(&cwd)
        .fails(["/a/cwd", "read-only file system"]);
    drop(mount);
    runtime.is_clean();
}

#[test]
fn a_root_that_is_a_mount() {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "root", []);
    let bundle = root_at(runtime.bundle(), &mount.path);
    let before = host_mounts();
    runtime.run(&bundle.shell("touch /made")).ok();
    assert!(mount.join("made").exists());
    assert_eq!(
        mounts_below(&host_mounts(), &mount),
        mounts_below(&before, &mount)
    );
}

/// How many mounts of a listing lie at or below this one.
fn mounts_below(listing: &str, mount: &HostMount) -> usize {
    listing.matches(mount.path.to_str().unwrap()).count()
}

#[test]
fn a_root_on_a_shared_mount() {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "root", ["--make-rshared"]);
    let bundle = root_at(runtime.bundle(), &mount.path).args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    assert_eq!(mounts_below(&host_mounts(), &mount), 1, "{}", host_mounts());
    assert!(!propagation(&container, "/").contains("shared"));
    assert!(!propagation(&container, "/proc").contains("shared"));
    container.delete_by_force().ok();
}

#[test]
fn a_root_on_an_overlay() {
    let runtime = Runtime::new();
    let parts = HostMount::new(&runtime, "parts", []);
    for part in ["upper", "work"] {
        fs::create_dir(parts.join(part)).unwrap();
    }
    let bundle = runtime.bundle();
    let parts = parts.path.to_str().unwrap().to_owned();
    let lower = bundle.rootfs();
    let lower = lower.to_str().unwrap();
    let layers = format!("lowerdir={lower},upperdir={parts}/upper,workdir={parts}/work");
    let merged = runtime.folder().folder("merged");
    let mount = HostMount::at(merged, ["-t", "overlay", "-o", &layers, "overlay"]);
    let bundle = bundle.set("/root/path", json!(mount.path));
    runtime.run(&bundle.clone().shell("touch /made")).ok();
    assert!(mount.join("made").exists() && !bundle.path("/made").exists());
}

#[test]
fn mounts_below_the_root_are_taken_along() {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "root", []);
    let bundle = root_at(runtime.bundle(), &mount.path);
    fs::write(mount.tmpfs_below("volume").join("file"), "text").unwrap();
    let bundle = bundle.shell("cat /volume/file; umount /volume 2>&1");
    assert!(runtime.run(&bundle).stdout.starts_with("text"));
}

#[test]
fn mounts_of_the_container_stay_in_it() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .capabilities(["CAP_SYS_ADMIN"])
        .shell("mount -t tmpfs x /tmp && echo mounted && sleep 1000");
    let container = runtime.start(&bundle);
    container.wait_for("mounted");
    let folder = runtime.folder().path().to_str().unwrap();
    assert!(!host_mounts().contains(folder), "{}", host_mounts());
}

#[test]
fn no_pivot_works() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().file("/here", "");
    let bundle = bundle.shell("ls /here; pwd; ls / | head -1; grep -c proc /proc/mounts");
    let output = runtime.run_with(&bundle, ["--no-pivot"]).ok();
    assert!(output.stdout.starts_with("/here\n/\nbin\n"), "{output}");
    let container = runtime.create_with(&bundle, ["--no-pivot"]);
    container.exec(["ls", "/here"]).ok();
}

/// With all mounts in sight nothing but the container's own procfs may be among them.
#[test]
fn no_pivot_leaves_no_procfs_outside() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let container = runtime.create_with(&bundle, ["--no-pivot"]);
    let mountinfo = container.proc("mountinfo");
    let points = |kind: &str| {
        let lines = mountinfo.lines().filter(|line| line.contains(kind));
        let whole = lines.filter(|line| line.split(' ').nth(3) == Some("/"));
        whole
            .map(|line| line.split(' ').nth(4).unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(points(" - proc "), ["/proc"], "{mountinfo}");
    assert_eq!(points(" - sysfs "), ["/sys"], "{mountinfo}");
}

#[test]
fn no_pivot_with_a_private_root_is_refused() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .set("/linux/rootfsPropagation", json!("private"));
    let create = runtime.with_bundle("create", &bundle);
    let output = create.arg("--no-pivot").arg(runtime.id()).output();
    output.fails(["rootfsPropagation"]);
    runtime.run(&bundle).ok();
}

/// A bundle without a mount namespace and what needs one.
fn without_mount_namespace(runtime: &Runtime) -> Bundle {
    runtime
        .bundle()
        .without_namespace("mount")
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths")
}

#[test]
fn without_a_mount_namespace_there_is_a_chroot() {
    let runtime = Runtime::new();
    let bundle = without_mount_namespace(&runtime).file("/here", "");
    let bundle = bundle.shell("ls /here; pwd; stat -fc %T /proc; readlink /proc/self/ns/mnt");
    let output = runtime.run(&bundle).ok();
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let expected = format!("/here\n/\nproc\n{}\n", own.display());
    assert_eq!(output.stdout, expected);
    runtime.is_clean();
}

#[test]
fn without_a_mount_namespace_nothing_is_left() {
    let runtime = Runtime::new();
    let bundle = without_mount_namespace(&runtime).args(["sleep", "1000"]);
    for _ in 0..3 {
        let container = runtime.start(&bundle);
        container.exec(["ls", "/proc/self"]).ok();
        container.delete_by_force().ok();
        runtime.is_clean();
    }
    let container = runtime.create(&bundle);
    container.kill("KILL").ok();
    container.exit_code();
    container.delete().ok();
    runtime.is_clean();
}

#[test]
fn without_a_mount_namespace_nothing_is_left_by_a_failure() {
    let runtime = Runtime::new();
    let bundle = without_mount_namespace(&runtime);
    let missing = bundle.clone().args(["/no/such/program"]);
    runtime.try_create(&missing).fails(["/no/such/program"]);
    runtime.is_clean();
    let mount = bundle.mount("/x", "tmpfs", "tmpfs", ["size=lots"]);
    runtime.try_create(&mount).fails(["/x"]);
    runtime.is_clean();
}

#[test]
fn the_host_root_can_be_the_root() {
    let runtime = Runtime::new();
    let bundle = without_mount_namespace(&runtime);
    let bundle = bundle
        .set("/root/path", json!("/"))
        .set("/mounts", json!([]));
    let marker = runtime.folder().file("marker", "host");
    let bundle = bundle.args(["/bin/busybox", "cat", marker.to_str().unwrap()]);
    assert_eq!(runtime.run(&bundle).ok().line(), "host");
}

/// A process in a mount namespace of its own, and the namespace's path.
fn mount_namespace() -> (Running, String) {
    let other = Command::new("unshare").args(["--mount", "sleep", "1000"]);
    let other = other.spawn();
    let path = format!("/proc/{}/ns/mnt", other.pid);
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    wait_until("another mount namespace", || {
        fs::read_link(&path).is_ok_and(|link| link != own)
    });
    (other, path)
}

#[test]
fn a_joined_mount_namespace_can_be_used() {
    let runtime = Runtime::new();
    let (other, path) = mount_namespace();
    let bundle = runtime
        .bundle()
        .join_namespace("mount", &path)
        .file("/here", "");
    let output = runtime
        .run(&bundle.shell("ls /here; readlink /proc/self/ns/mnt"))
        .ok();
    let expected = fs::read_link(&path).unwrap();
    other.signal(nix::sys::signal::SIGKILL);
    assert_eq!(output.stdout, format!("/here\n{}\n", expected.display()));
}

#[test]
fn a_failure_leaves_no_mount_in_a_joined_namespace() {
    let runtime = Runtime::new();
    let (other, path) = mount_namespace();
    // Those of other tests come and go.
    let mounts = || {
        let all = fs::read_to_string(format!("/proc/{}/mountinfo", other.pid)).unwrap();
        let ours = runtime.folder().path().to_string_lossy().into_owned();
        let lines = all.lines().filter(|line| line.contains(&ours));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let bundle = runtime.bundle().join_namespace("mount", &path);
    let hook = json!({"path": "/bin/false"});
    for (bundle, text) in [
        (
            bundle.clone().mount("/x", "nosuchfs", "none", []),
            "nosuchfs",
        ),
        (bundle.hook("createContainer", hook), "createContainer"),
    ] {
        runtime.try_create(&bundle).fails([text]);
        assert_eq!(mounts(), [""; 0]);
    }
    other.signal(nix::sys::signal::SIGKILL);
}

#[test]
fn propagation_of_the_root_is_set() {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "root", ["--make-rshared"]);
    let bundle = root_at(runtime.bundle(), &mount.path).args(["sleep", "1000"]);
    let rows = [
        ("private", &[][..]),
        ("rprivate", &[]),
        ("slave", &["master:"]),
        ("rslave", &["master:"]),
        ("shared", &["shared:"]),
        ("rshared", &["shared:"]),
        ("unbindable", &["unbindable"]),
        ("runbindable", &["unbindable"]),
    ];
    for (value, expected) in rows {
        let bundle = bundle.clone().set("/linux/rootfsPropagation", json!(value));
        let container = runtime.start(&bundle);
        let got = propagation(&container, "/");
        assert_eq!(got.is_empty(), expected.is_empty(), "{value}: {got}");
        for part in expected {
            assert!(got.contains(part), "{value}: {got}");
        }
        // Shared alone, not a slave of the host's as well.
        assert_eq!(got.split(' ').count(), 1, "{value}: {got}");
        container.delete_by_force().ok();
    }
}

/// Mounts on the host below the root while the container runs; does it see it?
fn sees_later_mounts(value: &str) -> bool {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "root", ["--make-rshared"]);
    let bundle = root_at(runtime.bundle(), &mount.path).args(["sleep", "1000"]);
    let bundle = bundle.set("/linux/rootfsPropagation", json!(value));
    let container = runtime.start(&bundle);
    mount.tmpfs_below("later");
    let mountinfo = container.proc("mountinfo");
    container.delete_by_force().ok();
    mount_line(&mountinfo, "/later").is_some()
}

#[test]
fn a_slave_root_sees_later_mounts() {
    assert!(sees_later_mounts("slave"));
    assert!(sees_later_mounts("rslave"));
}

#[test]
fn a_private_root_sees_none() {
    assert!(!sees_later_mounts("private"));
    assert!(!sees_later_mounts("rprivate"));
}

#[test]
fn a_shared_root_shares_with_the_container_alone() {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "root", ["--make-rshared"]);
    let bundle = root_at(runtime.bundle(), &mount.path)
        .set("/linux/rootfsPropagation", json!("shared"))
        .capabilities(["CAP_SYS_ADMIN"])
        .shell("mount -t tmpfs x /tmp && echo mounted && sleep 1000");
    let container = runtime.start(&bundle);
    container.wait_for("mounted");
    assert_eq!(mounts_below(&host_mounts(), &mount), 1, "{}", host_mounts());
    container.delete_by_force().ok();
}

fn masked(bundle: Bundle, paths: &[&str]) -> Bundle {
    bundle.set("/linux/maskedPaths", json!(paths))
}

#[test]
fn masked_files_are_null_devices() {
    let runtime = Runtime::new();
    let bundle = masked(runtime.bundle(), &["/proc/keys", "/etc/secret"]).file("/etc/secret", "s");
    let script = "for f in /proc/keys /etc/secret; do stat -c %t:%T $f; cat $f; echo x >$f; done";
    let output = runtime.run(&bundle.clone().shell(script)).ok();
    assert_eq!(output.stdout, "1:3\n1:3\n", "{output}");
    assert_eq!(fs::read_to_string(bundle.path("/etc/secret")).unwrap(), "s");
}

#[test]
fn masked_folders_are_empty_and_read_only() {
    let runtime = Runtime::new();
    let bundle = masked(runtime.bundle(), &["/proc/tty", "/secret"]).file("/secret/file", "s");
    let script = "ls -A /proc/tty /secret; touch /secret/x 2>&1; stat -fc %T /secret";
    let output = runtime.run(&bundle.shell(script)).ok();
    let expected = "/proc/tty:\n\n/secret:\ntouch: /secret/x: Read-only file system\ntmpfs\n";
    assert_eq!(output.stdout, expected);
}

#[test]
fn masked_folders_share_one_filesystem() {
    let runtime = Runtime::new();
    let mut bundle = masked(runtime.bundle(), &[]);
    for number in 0..300 {
        let path = format!("/secret/{number}");
        bundle = bundle.folder(&path).push("/linux/maskedPaths", json!(path));
    }
    let script = "grep ' /secret/' /proc/self/mountinfo | cut -d' ' -f3 | sort | uniq -c";
    let output = runtime.run(&bundle.shell(script)).ok();
    assert_eq!(output.stdout.lines().count(), 1, "{output}");
    assert!(output.stdout.trim().starts_with("300 "), "{output}");
}

#[test]
fn missing_masked_paths_are_skipped() {
    let runtime = Runtime::new();
    let paths = ["/no/such/path", "/proc/no_such_file", "/etc/passwd/below"];
    let bundle = masked(runtime.bundle(), &paths).set("/linux/readonlyPaths", json!(paths));
    runtime.run(&bundle).ok();
    assert!(!bundle.path("/no").exists());
}

#[test]
fn a_path_is_masked_once() {
    let runtime = Runtime::new();
    let paths = ["/proc/keys", "/proc/keys", "/proc//keys", "/etc", "/etc/"];
    let bundle = masked(runtime.bundle(), &paths).args(["cat", "/proc/self/mountinfo"]);
    let output = runtime.run(&bundle).ok();
    for point in ["/proc/keys", "/etc"] {
        let count = output.stdout.matches(&format!(" {point} ")).count();
        assert_eq!(count, 1, "{point}: {output}");
    }
}

#[test]
fn masks_follow_links_within_the_root() {
    let runtime = Runtime::new();
    let outside = runtime.folder().file("outside", "outside");
    let bundle = masked(runtime.bundle(), &["/link", "/out", "/dangling"])
        .file("/etc/target", "inside")
        .link("/link", "/etc/target")
        .link("/out", &outside)
        .link("/dangling", "/nowhere");
    let script = "stat -c %t:%T /etc/target; ls -A /nowhere; readlink /link";
    let output = runtime.run(&bundle.shell(script));
    assert_eq!(output.stdout, "1:3\n/etc/target\n", "{output}");
    assert_eq!(fs::read_to_string(outside).unwrap(), "outside");
}

#[test]
fn masks_lie_over_mounts() {
    let runtime = Runtime::new();
    let (file, folder) = (
        runtime.folder().file("f", "text"),
        runtime.folder().folder("d"),
    );
    fs::write(folder.join("entry"), "").unwrap();
    let bundle = masked(runtime.bundle(), &["/f", "/d", "/d/entry"])
        .bind(&file, "/f", ["ro"])
        .bind(&folder, "/d", ["ro"]);
    let output = runtime.run(&bundle.shell("cat /f; ls -A /d")).ok();
    assert_eq!(output.stdout, "");
}

#[test]
fn masks_need_no_devices_inside() {
    let runtime = Runtime::new();
    let bundle = masked(runtime.bundle(), &["/proc/keys"])
        .without_mount("/dev")
        .without_mount("/dev/pts")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue")
        .bind("/dev/shm", "/dev", [])
        .shell("stat -c %t:%T /proc/keys; ls -A /dev/null");
    let output = runtime.run(&bundle);
    assert_eq!(output.stdout, "1:3\n", "{output}");
}

#[test]
fn read_only_paths_are_read_only() {
    let runtime = Runtime::new();
    let paths = json!(["/proc/sys", "/etc", "/file"]);
    let bundle = runtime
        .bundle()
        .file("/file", "text")
        .set("/linux/readonlyPaths", paths);
    let script = "for f in /proc/sys/kernel/domainname /etc/passwd /file; do echo x >$f; done";
    let output = runtime.run(&bundle.shell(&format!("{script}; cat /file")));
    assert_eq!(output.stderr.matches("Read-only").count(), 3, "{output}");
    assert_eq!(output.stdout, "text");
}

#[test]
fn read_only_paths_keep_their_flags() {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "volume", ["remount,bind,nosuid,nodev,noexec"]);
    let bundle = runtime
        .bundle()
        .bind(&mount.path, "/volume", [])
        .set("/linux/readonlyPaths", json!(["/volume"]));
    let flags = flags(&runtime, &bundle, "/volume");
    assert!(flags.starts_with("ro,nosuid,nodev,noexec"), "{flags}");
}

#[test]
fn read_only_paths_reach_submounts() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .mount("/a", "tmpfs", "tmpfs", [])
        .mount("/a/b", "tmpfs", "tmpfs", ["nosuid"])
        .set("/linux/readonlyPaths", json!(["/a"]));
    let output = runtime.run(&bundle.shell("touch /a/x; touch /a/b/x"));
    assert_eq!(output.stderr.matches("Read-only").count(), 2, "{output}");
}

/// A mount point becomes read-only itself, any other path by a bind mount of it.
#[test]
fn read_only_paths_in_proc_with_and_without_a_mount() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().file("/file", "text");
    let source = bundle.rootfs().join("file");
    let bundle = bundle
        .bind(source, "/proc/uptime", [])
        .set("/linux/readonlyPaths", json!(["/proc/uptime", "/proc/sys"]))
        .shell("cut -d' ' -f5,6 /proc/self/mountinfo | grep -E '/proc/(uptime|sys) ' | cut -c-17");
    let output = runtime.run(&bundle).ok();
    assert_eq!(output.stdout, "/proc/uptime ro,r\n/proc/sys ro,rela\n");
}

#[test]
fn a_mask_lies_over_a_read_only_path() {
    let runtime = Runtime::new();
    let bundle = masked(
        runtime.bundle(),
        &["/proc/sys/kernel", "/proc/sys/vm/swappiness"],
    )
    .set("/linux/readonlyPaths", json!(["/proc/sys"]))
    .shell("ls -A /proc/sys/kernel; cat /proc/sys/vm/swappiness; ls -d /proc/sys/net/core");
    assert_eq!(runtime.run(&bundle).ok().line(), "/proc/sys/net/core");
}

#[test]
fn a_read_only_root_as_a_read_only_path() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .mount("/a", "tmpfs", "tmpfs", [])
        .set("/linux/readonlyPaths", json!(["/"]));
    let output = runtime.run(&bundle.shell("touch /x; touch /a/x"));
    assert_eq!(output.stderr.matches("Read-only").count(), 2, "{output}");
}

/// The whole of /proc or /sys, in several spellings.
#[test]
fn masks_lie_in_read_only_proc_and_sys() {
    let runtime = Runtime::new();
    for paths in [["/proc", "/sys"], ["/proc/sys/..", "/sys/fs//../."]] {
        let bundle = masked(
            runtime.bundle(),
            &["/proc/interrupts", "/proc/tty", "/sys/kernel"],
        );
        let script = "stat -c %t:%T /proc/interrupts; ls -A /proc/tty /sys/kernel | xargs; \
            echo x >/proc/sys/kernel/domainname";
        let bundle = bundle
            .set("/linux/readonlyPaths", json!(paths))
            .shell(script);
        let output = runtime.run(&bundle);
        assert_eq!(output.stdout, "1:3\n/proc/tty: /sys/kernel:\n", "{output}");
        assert!(output.stderr.contains("Read-only"), "{output}");
    }
}

#[test]
fn masks_lie_in_masked_proc_and_sys() {
    let runtime = Runtime::new();
    let bundle = masked(
        runtime.bundle(),
        &["/sys", "/sys/kernel", "/proc", "/proc/keys"],
    );
    let output = runtime.run(&bundle.shell("ls -A /proc /sys | xargs"));
    assert_eq!(output.stdout, "/proc: /sys:\n", "{output}");
}

#[test]
fn read_only_paths_in_an_unbindable_root() {
    let runtime = Runtime::new();
    let folder = runtime.folder().folder("volume");
    fs::create_dir(folder.join("below")).unwrap();
    for value in ["unbindable", "runbindable"] {
        let bundle = runtime
            .bundle()
            .set("/linux/rootfsPropagation", json!(value))
            .bind(&folder, "/volume", [])
            .set("/linux/readonlyPaths", json!(["/volume/below", "/etc"]));
        let output = runtime.run(&bundle.shell("touch /volume/below/x /etc/x"));
        assert_eq!(output.stderr.matches("Read-only").count(), 2, "{output}");
    }
}

#[test]
fn sysctls_are_written_before_their_folder_is_read_only() {
    let runtime = Runtime::new();
    let bundle = masked(runtime.bundle(), &["/proc/sys/net/ipv4/ip_forward"])
        .set("/linux/readonlyPaths", json!(["/proc/sys"]))
        .set(
            "/linux/sysctl",
            json!({"net.ipv4.ip_forward": "1", "net.ipv4.tcp_ecn": "1"}),
        )
        .shell("cat /proc/sys/net/ipv4/tcp_ecn; echo 0 >/proc/sys/net/ipv4/tcp_ecn");
    let output = runtime.run(&bundle);
    assert_eq!(output.stdout, "1\n");
    assert!(output.stderr.contains("Read-only"), "{output}");
}

#[test]
fn paths_in_a_user_namespace() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().file("/secret/file", "s").user_namespace();
    let bundle = masked(bundle, &["/proc/keys", "/secret", "/sys/firmware"])
        .set("/linux/readonlyPaths", json!(["/proc/sys", "/etc"]))
        .shell("stat -c %t:%T /proc/keys; ls -A /secret /sys/firmware | xargs; touch /etc/x 2>&1");
    let output = runtime.run(&bundle);
    assert!(
        output.stdout.starts_with("1:3\n/secret: /sys/firmware:\n"),
        "{output}"
    );
    assert!(output.stdout.contains("Read-only"), "{output}");
}

#[test]
fn nothing_is_mounted_that_is_not_listed() {
    let runtime = Runtime::new();
    let proc = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
    let bundle = masked(runtime.bundle(), &[])
        .remove("/linux/readonlyPaths")
        .set("/mounts", proc)
        .args(["cut", "-d ", "-f5", "/proc/self/mountinfo"]);
    assert_eq!(runtime.run(&bundle).ok().stdout, "/\n/proc\n");
}

#[test]
fn nothing_is_written_but_mount_points_and_devices() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    let listing = || {
        let find = Command::new("find").arg(bundle.rootfs());
        find.args(["-printf", "%P %y %m %u %s %T@\n"]).output().ok()
    };
    let before = listing();
    runtime.run(&bundle).ok();
    assert_eq!(listing().stdout, before.stdout);
}

#[test]
fn modes_do_not_depend_on_the_callers_umask() {
    let runtime = Runtime::new();
    let file = runtime.folder().file("file", "");
    let bundle = runtime
        .bundle()
        .bind(&file, "/a/file", [])
        .mount("/b/c", "tmpfs", "tmpfs", ["mode=711"])
        .set("/process/cwd", json!("/cwd"))
        .shell("stat -c %a /a /b /b/c /cwd /dev/null /dev/pts");
    for mask in ["0", "0777"] {
        let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
        let output = run.after(&format!("umask {mask}")).output().ok();
        assert_eq!(
            output.line(),
            "755\n755\n711\n755\n666\n755",
            "umask {mask}"
        );
        let made = fs::metadata(bundle.path("/a/file")).unwrap();
        assert_eq!(made.permissions().mode() & 0o7777, 0o644);
        for name in ["a", "b", "cwd"] {
            fs::remove_dir_all(bundle.path(name)).unwrap();
        }
    }
}

#[test]
fn without_dev_devices_are_made_in_the_root() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().without_dev();
    let script = "stat -c '%n %t:%T %a' /dev/null /dev/tty; readlink /dev/fd; readlink /dev/ptmx";
    // The second time all is there already.
    for _ in 0..2 {
        let output = runtime.run(&bundle.clone().shell(script)).ok();
        let expected = "/dev/null 1:3 666\n/dev/tty 5:0 666\n/proc/self/fd\npts/ptmx\n";
        assert_eq!(output.stdout, expected);
    }
}

#[test]
fn without_dev_a_read_only_root_keeps_its_devices() {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "root", []);
    let bundle = root_at(runtime.bundle().without_dev(), &mount.path);
    runtime.run(&bundle).ok();
    let mount = mount.with(["remount,ro"]);
    let output = runtime.run(&bundle.shell("echo >/dev/null; stat -c %t:%T /dev/zero"));
    assert_eq!(output.ok().line(), "1:5");
    drop(mount);
}

#[test]
fn without_dev_a_read_only_root_without_devices_is_refused() {
    let runtime = Runtime::new();
    let mount = HostMount::new(&runtime, "root", []);
    let bundle = root_at(runtime.bundle().without_dev(), &mount.path);
    let mount = mount.with(["remount,ro"]);
    let output = runtime.try_create(&bundle);
    output.fails(["/dev/null", "read-only file system"]);
    drop(mount);
}

#[test]
fn a_mount_label_without_selinux_is_ignored() {
    if coracle_integration::machine().has_selinux {
        coracle_integration::skip!("needs a machine without SELinux");
    }
    let runtime = Runtime::new();
    let label = json!("system_u:object_r:container_file_t:s0:c1,c2");
    let bundle = runtime.bundle().set("/linux/mountLabel", label);
    runtime.run(&bundle).ok();
}
