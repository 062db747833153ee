//! `mount add|remove|list`: mounts of a running container.

use std::fs;

use coracle_integration::{Bundle, Command, Container, HostMount, Output, Runtime, json, needs};

use crate::rootless;

/// A container that sleeps, with some folders to mount on.
fn sleeper(bundle: Bundle) -> Bundle {
    bundle
        .folder("data")
        .folder("other")
        .file("file", "image")
        .args(["sleep", "1000"])
}

fn mount<const N: usize>(container: &Container, words: [&str; N]) -> Output {
    container.runtime.command(["mount"]).args(words).output()
}

#[track_caller]
fn add<const N: usize>(container: &Container, from: &str, to: &str, flags: [&str; N]) -> Output {
    let command = container.runtime.command(["mount", "add"]).args(flags);
    command.args([&container.id, from, to]).output()
}

#[track_caller]
fn listed(container: &Container) -> Vec<String> {
    let list = mount(container, ["list", "-f", "json", &container.id]).ok();
    let list: Vec<serde_json::Value> = serde_json::from_str(&list.stdout).unwrap();
    let places = list.iter().map(|mount| mount["destination"].as_str());
    places.map(|place| place.unwrap().to_owned()).collect()
}

#[test]
fn a_bind_comes_goes_and_is_listed() {
    let runtime = Runtime::new();
    for bundle in [runtime.bundle(), runtime.bundle().user_namespace()] {
        let source = runtime.folder().folder("source");
        fs::write(source.join("f"), "host").unwrap();
        let bundle = sleeper(bundle).capabilities(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        let container = runtime.start(&bundle);
        let from = source.to_str().unwrap();
        assert!(listed(&container).is_empty());
        add(
            &container,
            from,
            "/data",
            ["-o", "ro,nosuid", "-o", "nodev"],
        )
        .ok();
        let look = "cat /data/f; touch /data/x 2>&1; grep ' /data ' /proc/self/mountinfo";
        let seen = container.shell(look).ok().stdout;
        assert!(seen.starts_with("host"), "{seen}");
        assert!(seen.contains("Read-only file system"), "{seen}");
        assert!(seen.contains(" ro,nosuid,nodev"), "{seen}");
        assert_eq!(listed(&container), ["/data"]);
        let table = mount(&container, ["list", &container.id]).ok();
        let images = ["checkpoint", "--image-path", "/tmp", &container.id];
        runtime
            .command(images)
            .output()
            .fails(["was mounted by `mount add`"]);
        assert!(table.stdout.contains("ro,nosuid,nodev,rbind"), "{table}");
        mount(&container, ["remove", &container.id, "/data"]).ok();
        container.shell("! ls /data/f").ok();
        assert!(listed(&container).is_empty());
        mount(&container, ["remove", &container.id, "/data"])
            .fails(["mount remove ", "no mount was added there by `mount add`"]);
        container.delete_by_force().ok();
        runtime.is_clean();
    }
}

/// The host's read-only mounts stay so: the kernel locks their flags on the way into the user
/// namespace, also for a plain bind of a directory with mounts below it.
#[test]
fn root_of_a_user_namespace_lifts_no_flag() {
    let runtime = Runtime::new();
    let host = HostMount::new(&runtime, "host", []);
    host.tmpfs_below("below");
    let host = host.with(["remount,ro", "--make-private"]);
    let bundle = sleeper(runtime.bundle().user_namespace()).capabilities(["CAP_SYS_ADMIN"]);
    let container = runtime.start(&bundle);
    for (option, to) in [("rbind", "/data"), ("bind", "/other")] {
        add(&container, host.path.to_str().unwrap(), to, ["-o", option]).ok();
        let lift = format!("mount -o remount,bind,rw {to} {to} 2>&1; touch {to}/x 2>&1");
        let output = container.shell(&lift);
        assert!(output.stdout.contains("Read-only file system"), "{output}");
    }
    let below = "grep -c ' /data/below ' /proc/self/mountinfo; \
                 grep -c ' /other/below ' /proc/self/mountinfo";
    assert_eq!(container.shell(below).line(), "1\n0");
    container.delete_by_force().ok();
}

#[test]
fn a_new_file_system_is_the_containers() {
    let runtime = Runtime::new();
    for bundle in [runtime.bundle(), runtime.bundle().user_namespace()] {
        let container = runtime.start(&sleeper(bundle));
        let options = ["-t", "tmpfs", "-o", "size=64k,mode=1777,noexec"];
        add(&container, "tmpfs", "/data", options).ok();
        let look = "stat -c '%a %u %g' /data; touch /data/x; df -k /data | tail -1 | \
                    awk '{print $2}'; grep ' /data ' /proc/self/mountinfo | cut -d' ' -f6";
        let seen = container.shell(look).ok();
        assert_eq!(seen.line(), "1777 0 0\n64\nrw,noexec,relatime");
        container.delete_by_force().ok();
    }
}

#[test]
fn a_file_goes_on_a_file_and_links_stay_in_the_root() {
    let runtime = Runtime::new();
    let file = runtime.folder().file("f", "host");
    let bundle = sleeper(runtime.bundle()).link("link", "/../../file");
    let container = runtime.start(&bundle);
    add(&container, file.to_str().unwrap(), "/link", []).ok();
    assert_eq!(container.shell("cat /file").ok().line(), "host");
    assert_eq!(listed(&container), ["/link"]);
    mount(&container, ["remove", &container.id, "/link"]).ok();
    assert_eq!(container.shell("cat /file").ok().line(), "image");
    add(&container, file.to_str().unwrap(), "/data", []).fails(["bind ", " on /data"]);
    container.delete_by_force().ok();
}

#[test]
fn ids_are_mapped() {
    needs::kernel(5, 19);
    let runtime = Runtime::new();
    let host = HostMount::new(&runtime, "host", []);
    fs::write(host.join("f"), "").unwrap();
    std::os::unix::fs::chown(host.join("f"), Some(7), Some(8)).unwrap();
    let container = runtime.start(&sleeper(runtime.bundle()));
    let map = "idmap=uids=7-70-1;gids=8-80-1";
    add(
        &container,
        host.path.to_str().unwrap(),
        "/data",
        ["-o", map],
    )
    .ok();
    assert_eq!(
        container.shell("stat -c %u:%g /data/f").ok().line(),
        "70:80"
    );
    container.delete_by_force().ok();
}

#[test]
fn what_cannot_be_mounted_is_refused_before_anything_is_touched() {
    let runtime = Runtime::new();
    let container = runtime.start(&sleeper(runtime.bundle()));
    let before = container.proc("mountinfo");
    for (from, to, option, expected) in [
        (
            "/usr",
            "/absent/dir",
            "ro",
            "does not exist in the container",
        ),
        (
            "/absent",
            "/data",
            "ro",
            "mount.source: /absent: not found (ENOENT)",
        ),
        ("/usr", "data", "ro", "is not absolute"),
        (
            "/usr",
            "/data",
            "remount,bind",
            "options: a remount cannot be added",
        ),
        (
            "/usr",
            "/",
            "ro",
            "destination: a mount on / cannot be added",
        ),
    ] {
        let id = &container.id;
        add(&container, from, to, ["-o", option]).fails([&format!("mount add {id}: "), expected]);
    }
    let proc = add(&container, "proc", "/data", ["-t", "proc"]);
    proc.fails(["type: a file system that shows namespaces cannot be added"]);
    let root = add(&container, bundle_path(&container).as_str(), "/data", []);
    root.fails(["source: a path below the container's own root cannot be added"]);
    assert_eq!(container.proc("mountinfo"), before);
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    add(&container, "/usr", "/data", []).fails(["container not running"]);
    assert!(listed(&container).is_empty());
    container.delete().ok();
}

fn bundle_path(container: &Container) -> String {
    container.state()["rootfs"].as_str().unwrap().to_owned()
}

/// A mount on a volume that is shared with the host would appear there, and stay.
#[test]
fn nothing_appears_on_the_host() {
    let runtime = Runtime::new();
    let volume = HostMount::new(&runtime, "volume", ["--make-shared"]);
    fs::create_dir(volume.join("inner")).unwrap();
    let bundle = sleeper(runtime.bundle()).bind(&volume.path, "/data", ["shared"]);
    let container = runtime.start(&bundle);
    add(&container, "/usr", "/data/inner", []).fails(["the mount there is shared with the host"]);
    container.delete_by_force().ok();
    let bundle = sleeper(runtime.bundle()).without_namespace("mount");
    let bundle = bundle
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths");
    let container = runtime.start(&bundle);
    add(&container, "/usr", "/data", []).fails(["no mount namespace of its own"]);
    container.delete_by_force().ok();
}

/// What the container unmounted by itself is not listed, and nothing else is unmounted for it.
#[test]
fn the_container_may_unmount_it() {
    let runtime = Runtime::new();
    let bundle = sleeper(runtime.bundle()).capabilities(["CAP_SYS_ADMIN"]);
    let container = runtime.start(&bundle);
    for (to, after) in [
        ("/data", "umount /data"),
        ("/other", "mount -t tmpfs over /other"),
    ] {
        add(&container, "/usr", to, []).ok();
        container.shell(after).ok();
    }
    assert_eq!(listed(&container), ["/other"]);
    mount(&container, ["remove", &container.id, "/data"]).ok();
    mount(&container, ["remove", &container.id, "/other"])
        .fails(["unmount /other: another mount is over it"]);
    container.shell("umount /other").ok();
    mount(&container, ["remove", &container.id, "/other"]).ok();
    container
        .shell("! grep -E ' (/data|/other) ' /proc/self/mountinfo")
        .ok();
    container.delete_by_force().ok();
}

#[test]
fn an_ordinary_user_mounts_what_he_may_read() {
    let runtime = rootless::user();
    let source = runtime.folder().folder("source");
    fs::write(source.join("f"), "host").unwrap();
    Command::new("chmod")
        .args(["-R", "a+rX"])
        .arg(&source)
        .output()
        .ok();
    let bundle = sleeper(rootless::written(&runtime));
    let bundle = bundle.set("/root/readonly", json!(false));
    let container = runtime.start(&bundle);
    add(&container, source.to_str().unwrap(), "/data", ["-o", "ro"]).ok();
    add(&container, "tmpfs", "/other", ["-t", "tmpfs"]).ok();
    let seen = container.shell("cat /data/f; stat -c %u /other").ok();
    assert_eq!(seen.line(), "host0");
    let map = "idmap=uids=0-1-1;gids=0-1-1";
    add(&container, source.to_str().unwrap(), "/data", ["-o", map])
        .fails(["id-mapped mounts need CAP_SYS_ADMIN on the host"]);
    mount(&container, ["remove", &container.id, "/data"]).ok();
    container.shell("! ls /data/f").ok();
    container.delete_by_force().ok();
}
