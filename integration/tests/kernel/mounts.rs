//! `mounts` of config.json: destinations, sources, filesystems and every option string.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use coracle_integration::runner::clean_up;
use coracle_integration::{Bundle, Command, Output, Runtime, json, needs, wait_until};

/// The fields of a mount in a container process's mountinfo.
struct Seen {
    /// Flags of the mount.
    flags: Vec<String>,
    /// `shared:1` and the like.
    propagation: String,
    kind: String,
    source: String,
    /// Options of the filesystem.
    data: Vec<String>,
}

fn seen(mountinfo: &str, point: &str) -> Seen {
    let line = mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(point));
    let line = line.unwrap_or_else(|| panic!("no mount on {point}:\n{mountinfo}"));
    let (front, back) = line.split_once(" - ").unwrap();
    let front: Vec<&str> = front.split(' ').collect();
    let back: Vec<&str> = back.split(' ').collect();
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    Seen {
        flags: list(front[5]),
        propagation: front[6..].join(" "),
        kind: back[0].to_owned(),
        source: back[1].to_owned(),
        data: list(back[2]),
    }
}

const MOUNTINFO: [&str; 2] = ["cat", "/proc/self/mountinfo"];

#[track_caller]
fn look(runtime: &Runtime, bundle: &Bundle, point: &str) -> Seen {
    let output = runtime.run(&bundle.clone().args(MOUNTINFO)).ok();
    seen(&output.stdout, point)
}

/// Mounts on the host, in the test's folder; the runtime's drop would find it, so it is unmounted.
struct HostMount(PathBuf);

impl HostMount {
    fn new(runtime: &Runtime, name: &str, options: &[&str]) -> Self {
        let path = runtime.folder().folder(name);
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", "mode=755", "x"])
            .arg(&path)
            .output()
            .ok();
        for option in options {
            Command::new("mount")
                .args(["-o", option])
                .arg(&path)
                .output()
                .ok();
        }
        Self(path)
    }

    fn tmpfs_below(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        Command::new("mount")
            .args(["-t", "tmpfs", "below"])
            .arg(&path)
            .output()
            .ok();
        path
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let unmount = Command::new("umount").args(["-R", "-l"]);
        clean_up(|| drop(unmount.arg(&self.0).output()));
    }
}

#[test]
fn mounts_are_made_in_order() {
    let runtime = Runtime::new();
    let (one, two) = (
        runtime.folder().folder("one"),
        runtime.folder().folder("two"),
    );
    fs::write(one.join("f"), "one").unwrap();
    fs::write(two.join("f"), "two").unwrap();
    let bundle = runtime.bundle().args(["cat", "/mnt/f"]);
    let bundle = bundle.bind(&one, "/mnt", []).bind(&two, "/mnt", []);
    assert_eq!(runtime.run(&bundle).ok().line(), "two");
}

/// A mount on another mount comes after it in mountinfo, whichever process opens the sources.
#[test]
fn mounts_are_listed_in_order() {
    let runtime = Runtime::new();
    let one = runtime.folder().folder("one");
    let points = ["/a", "/a/b", "/a/b/c", "/d", "/d/e"];
    let bundle = |bundle: Bundle| {
        let bundle = bundle
            .mount("/a", "tmpfs", "tmpfs", [])
            .bind("/usr", "/a/b", ["rbind"]);
        let bundle = bundle.bind(&one, "/a/b/c", ["rbind"]);
        let bundle = bundle
            .mount("/d", "tmpfs", "tmpfs", [])
            .bind(&one, "/d/e", ["ro"]);
        bundle.args(["cut", "-d ", "-f5", "/proc/self/mountinfo"])
    };
    let usr = other_root(&runtime, "");
    fs::create_dir(usr.join("c")).unwrap();
    for (name, start) in [
        ("own", runtime.bundle()),
        ("user namespace", runtime.bundle().user_namespace()),
        ("shared", runtime.bundle()),
    ] {
        let mut bundle = bundle(start);
        if name == "shared" {
            let shared = bundle.config["mounts"].as_array_mut().unwrap();
            shared.last_mut().unwrap()["options"] = json!(["bind", "shared"]);
        }
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        let bind = mounts
            .iter_mut()
            .find(|mount| mount["destination"] == "/a/b");
        bind.unwrap()["source"] = json!(usr);
        let output = runtime.run(&bundle).ok();
        let listed = output.stdout.lines().filter(|line| points.contains(line));
        assert_eq!(listed.collect::<Vec<_>>(), points, "{name}: {output}");
    }
}

#[test]
fn a_source_may_be_in_an_earlier_mount() {
    let runtime = Runtime::new();
    let source = runtime.folder().folder("source");
    fs::create_dir_all(source.join("y/z")).unwrap();
    fs::write(source.join("y/z/f"), "text").unwrap();
    let real = runtime.folder().join("real");
    let copy = Command::new("cp").arg("-a").arg(runtime.bundle().rootfs());
    copy.arg(&real).output().ok();
    std::os::unix::fs::symlink(&real, runtime.folder().join("link")).unwrap();
    let bundle = |root: &std::path::Path, start: Bundle, below: &str| {
        let bundle = start.set("/root/path", json!(root)).bind(&source, "/x", []);
        let bundle = bundle.bind(root.join("x").join(below), "/w", ["ro"]);
        bundle.args(["cat", "/w/z/f"])
    };
    let through_link = runtime.folder().join("link");
    let plain = runtime.bundle();
    let root = plain.rootfs();
    assert_eq!(runtime.run(&bundle(&root, plain, "y")).ok().line(), "text");
    let linked = bundle(&through_link, runtime.bundle(), "y");
    assert_eq!(runtime.run(&linked).ok().line(), "text");
    // The source is written by its real path, and the root by a link.
    let mixed = runtime.bundle().set("/root/path", json!(through_link));
    let mixed = mixed
        .bind(&source, "/x", [])
        .bind(real.join("x/y"), "/w", []);
    assert_eq!(
        runtime.run(&mixed.args(["cat", "/w/z/f"])).ok().line(),
        "text"
    );
    let missing = runtime.bundle();
    let root = missing.rootfs();
    let missing = bundle(&root, missing, "absent");
    runtime
        .try_create(&missing)
        .fails(["bind ", "/w", "the source is missing"]);
    let user = runtime.bundle();
    let root = user.rootfs();
    let user = bundle(&root, user, "y").user_namespace();
    assert_eq!(runtime.run(&user).ok().line(), "text");
}

/// A source within the root stays within it, wherever links of the image lead.
#[test]
fn a_source_in_the_root_stays_there() {
    let runtime = Runtime::new();
    let secret = runtime.folder().file("secret", "host");
    let folder = runtime.folder().path();
    let climbing =
        std::path::Path::new("../../../../../../../..").join(secret.strip_prefix("/").unwrap());
    for target in [secret.clone(), climbing] {
        for start in [runtime.bundle(), runtime.bundle().user_namespace()] {
            let bundle = start.link("/evil", &target);
            let source = bundle.path("/evil");
            let bundle = bundle.bind(&source, "/w", []).args(["cat", "/w"]);
            runtime
                .try_create(&bundle)
                .fails(["/w", "the source is missing"]);
            let inside = secret.strip_prefix("/").unwrap().to_str().unwrap();
            let bundle = bundle.file(inside, "image");
            assert_eq!(runtime.run(&bundle).ok().line(), "image");
        }
    }
    assert_eq!(fs::read_to_string(folder.join("secret")).unwrap(), "host");
}

/// The kernel crosses to what is mounted on `/` whenever `..` leads there, and a recursive clone of
/// `/` takes it along: so the container's root must not be there while sources are found.
#[test]
fn no_source_on_the_host_comes_to_the_image() {
    let runtime = Runtime::new();
    let secret = runtime.folder().file("secret", "host");
    let below = secret.strip_prefix("/").unwrap();
    let link = runtime.folder().join("link");
    std::os::unix::fs::symlink(std::path::Path::new("/usr/..").join(below), &link).unwrap();
    let sources = [
        std::path::Path::new("/..").join(below),
        std::path::Path::new("/usr/..").join(below),
        link,
    ];
    let starts = || [runtime.bundle(), runtime.bundle().user_namespace()];
    for source in &sources {
        for bundle in starts() {
            let image = bundle.file("image", "image");
            let bundle = image.link(below.to_str().unwrap(), "/etc/passwd");
            let bundle = bundle.bind(source, "/w", ["ro"]).args(["cat", "/w"]);
            let output = runtime.run(&bundle).ok();
            assert_eq!(output.line(), "host", "{}", source.display());
        }
    }
    // By a name outside of it the root is no source: it is not there while sources are found.
    let name = runtime.folder().join("name");
    let evil = runtime.bundle().link("/evil", "/etc/passwd");
    std::os::unix::fs::symlink(evil.rootfs(), &name).unwrap();
    for (source, why) in [
        (name.clone(), "unbindable"),
        (name.join("root"), "unbindable"),
        (name.join("evil"), "missing"),
    ] {
        let bundle = evil.clone().bind(source, "/w", []);
        runtime.try_create(&bundle).fails(["/w", why]);
    }
    for bundle in starts() {
        let bundle = bundle.bind("/", "/host", ["rbind", "ro"]);
        let inside = std::path::Path::new("/host").join(below);
        let bundle = bundle.args(["cat", inside.to_str().unwrap()]);
        assert_eq!(runtime.run(&bundle).ok().line(), "host");
    }
}

/// Binds, masks, devices and copies of masks; for init, a child of the runtime, and an ordinary
/// user.
#[test]
fn many_sources_need_few_descriptors() {
    let count = 300;
    let check = |runtime: &Runtime, bundle: Bundle, options: &[&str], kind: &str| {
        let folder = runtime.folder().folder("many");
        let mut bundle = bundle;
        for number in 0..count {
            let file = folder.join(number.to_string());
            fs::write(&file, "").unwrap();
            let mount = json!({"destination": format!("/m/{number}"), "type": "bind",
                "source": file, "options": options});
            bundle = bundle
                .push("/mounts", mount)
                .folder(&format!("/masked/{number}"));
            bundle = bundle.push("/linux/maskedPaths", json!(format!("/masked/{number}")));
        }
        let bundle = bundle.shell("grep -c ' /m/' /proc/self/mountinfo");
        let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
        let output = run.after("ulimit -n 40").limit(60).output().ok();
        assert_eq!(output.line(), count.to_string(), "{kind}");
    };
    let runtime = Runtime::new();
    let mut devices = runtime.bundle();
    for number in 0..100 {
        let device = json!({"path": format!("/dev/many/{number}"), "type": "c", "major": 1,
            "minor": 3});
        devices = devices.push("/linux/devices", device);
    }
    let user = runtime.bundle().user_namespace();
    check(&runtime, devices, &["rbind", "ro"], "own");
    check(&runtime, user, &["rbind", "ro"], "user namespace");
    let shared = HostMount::new(&runtime, "many", &[]);
    let make = Command::new("mount").arg("--make-rshared");
    make.arg(&shared.0).output().ok();
    check(&runtime, runtime.bundle(), &["rbind", "rshared"], "shared");
    drop(shared);
    let ordinary = super::rootless::user();
    let bundle = super::rootless::written(&ordinary).remove("/process/rlimits");
    check(&ordinary, bundle, &["rbind", "ro"], "ordinary user");
}

#[test]
fn a_missing_folder_is_made() {
    let runtime = Runtime::new();
    let script = "stat -c %a /a /a/b; stat -fc %T /a/b/c";
    let bundle = runtime
        .bundle()
        .mount("/a/b/c", "tmpfs", "tmpfs", [])
        .shell(script);
    assert_eq!(runtime.run(&bundle).ok().line(), "755\n755\ntmpfs");
    assert!(bundle.path("/a/b/c").is_dir());
}

#[test]
fn a_missing_file_is_made() {
    let runtime = Runtime::new();
    let file = runtime.folder().file("file", "text");
    let bundle = runtime
        .bundle()
        .bind(&file, "/x/y/file", [])
        .args(["cat", "/x/y/file"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "text");
    let made = fs::metadata(bundle.path("/x/y/file")).unwrap();
    assert_eq!((made.len(), made.permissions().mode()), (0, 0o100_644));
}

#[test]
fn a_relative_destination_is_below_the_root() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .mount("mnt", "tmpfs", "tmpfs", [])
        .set("/process/cwd", json!("/usr"));
    assert_eq!(look(&runtime, &bundle, "/mnt").kind, "tmpfs");
}

#[test]
fn a_destination_through_links_stays_inside() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .folder("/real")
        .link("/abs", "/real")
        .link("/rel", "../../../real");
    for (to, point) in [
        ("/abs/a", "/real/a"),
        ("/rel/b", "/real/b"),
        ("/usr/../abs/c", "/real/c"),
    ] {
        let bundle = bundle.clone().mount(to, "tmpfs", "tmpfs", []);
        assert_eq!(look(&runtime, &bundle, point).kind, "tmpfs", "{to}");
    }
}

#[test]
fn a_relative_source_is_below_the_bundle() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .bind("data", "/data", [])
        .args(["cat", "/data/f"]);
    fs::create_dir(bundle.dir.join("data")).unwrap();
    fs::write(bundle.dir.join("data/f"), "mine").unwrap();
    assert_eq!(runtime.run(&bundle).ok().line(), "mine");
}

#[test]
fn a_missing_source_is_refused() {
    let runtime = Runtime::new();
    let output = runtime.try_create(&runtime.bundle().bind("/no/such/thing", "/x", []));
    output.fails(["/no/such/thing"]);
    let output = runtime.try_create(&runtime.bundle().bind("", "/x", []));
    output.fails(["source"]);
    runtime.is_clean();
}

/// A folder of the host that can serve as a root: busybox, and a file with this text.
fn other_root(runtime: &Runtime, text: &str) -> PathBuf {
    let other = runtime.bundle().file("/which", text);
    other.rootfs()
}

#[test]
fn a_mount_on_the_root_becomes_the_root() {
    let runtime = Runtime::new();
    let other = other_root(&runtime, "other\n");
    let first = |bundle: Bundle, destination: &str| {
        let mount = json!({"destination": destination, "type": "bind", "source": other,
            "options": ["rbind"]});
        let mut mounts = vec![mount];
        mounts.extend(bundle.config["mounts"].as_array().unwrap().clone());
        bundle.set("/mounts", json!(mounts))
    };
    let script = "cat /which; ls -d /proc/self/ns; cat /etc/secret 2>/dev/null; ls /data; \
        touch /new 2>&1 | grep -o Read-only";
    fs::write(other.join("etc/secret"), "secret").unwrap();
    let data = runtime.folder().folder("data");
    fs::write(data.join("f"), "").unwrap();
    for destination in ["/", "//", "/.", "/../", "usr/.."] {
        let bundle = first(runtime.bundle().file("/which", "first\n"), destination);
        let bundle = bundle.bind(&data, "/data", []).shell(script);
        let bundle = bundle.push("/linux/maskedPaths", json!("/etc/secret"));
        let bundle = bundle.set("/root/readonly", json!(true));
        let text = "other\n/proc/self/ns\nf\nRead-only";
        assert_eq!(runtime.run(&bundle).ok().line(), text, "{destination}");
        assert!(!bundle.path("/data").exists());
    }
    let bundle = first(runtime.bundle(), "/").args(["cat", "/which"]);
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c",
        "grep -q other /proc/self/cwd/which && touch /proc/self/cwd/tmp/hooked"]});
    let with_hook = bundle.clone().hook("createContainer", hook);
    assert_eq!(runtime.run(&with_hook).ok().line(), "other");
    assert!(other.join("tmp/hooked").exists());
    let no_pivot = runtime.run_with(&bundle, ["--no-pivot"]).ok();
    assert_eq!(no_pivot.line(), "other");
    assert_eq!(runtime.run(&bundle.user_namespace()).ok().line(), "other");
}

/// Without a mapped root no file can be made, but mounts on what exists work.
#[test]
fn a_user_namespace_without_root_has_mounts() {
    let runtime = Runtime::new();
    let folder = runtime.folder().folder("folder");
    fs::write(folder.join("f"), "text").unwrap();
    let map = json!([{"containerID": 1000, "hostID": 100_000, "size": 1}]);
    let bundle = runtime.bundle().user_namespace();
    let bundle = bundle
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .set("/mounts", json!([]))
        .bind("/dev", "/dev", ["rbind"])
        .bind(&folder, "/tmp", ["ro"]);
    let output = runtime.run(&bundle.args(["cat", "/tmp/f"]));
    assert_eq!(output.ok().line(), "text");
}

/// `..` leads to what was mounted on the root, while the container's processes stay below that
/// mount.
#[test]
fn a_link_to_the_root_is_not_mounted_over() {
    let runtime = Runtime::new();
    for link in ["/", "..", "../../..", "usr/.."] {
        for start in [runtime.bundle(), runtime.bundle().user_namespace()] {
            let bundle = start.link("/l", link).mount("/l", "tmpfs", "tmpfs", []);
            let said = "a link of the image leads to the root";
            runtime.try_create(&bundle).fails(["/l", said]);
        }
    }
}

#[test]
fn a_root_of_any_kind_is_mounted_over() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().file("/which", "image\n");
    let bundle = bundle.set("/mounts", json!([]));
    let bundle = bundle.mount("/", "tmpfs", "tmpfs", ["tmpcopyup", "ro"]);
    let bundle = bundle.mount("/tmp", "tmpfs", "tmpfs", []);
    let bundle = bundle.mount("/proc", "proc", "proc", []);
    let script = "cat /which; stat -fc %T / /tmp /proc; touch /x 2>&1 | grep -o Read-only";
    let output = runtime.run(&bundle.clone().shell(script)).ok();
    assert_eq!(output.line(), "image\ntmpfs\ntmpfs\nproc\nRead-only");
    assert!(!bundle.path("/x").exists());
    let on_host = bundle
        .without_namespace("mount")
        .remove("/linux/maskedPaths");
    let on_host = on_host.remove("/linux/readonlyPaths");
    runtime
        .try_create(&on_host)
        .fails(["mounts[0].destination", "mount namespace"]);
}

#[test]
fn destinations_inside_proc_are_refused() {
    let runtime = Runtime::new();
    for to in [
        "/proc/sys",
        "/proc/self",
        "/proc/1/attr",
        "/proc/../proc/tty",
        "/link/sys",
    ] {
        let bundle = runtime
            .bundle()
            .link("/link", "/proc")
            .mount(to, "tmpfs", "tmpfs", []);
        runtime.try_create(&bundle).fails(["/proc"]);
    }
    let fake = runtime.folder().folder("fake");
    runtime
        .try_create(&runtime.bundle().bind(&fake, "/proc", []))
        .fails(["/proc"]);
}

#[test]
fn lxcfs_files_are_allowed_in_proc() {
    let runtime = Runtime::new();
    let file = runtime.folder().file("fake", "fake\n");
    for name in [
        "cpuinfo",
        "meminfo",
        "stat",
        "uptime",
        "loadavg",
        "diskstats",
        "swaps",
    ] {
        let to = format!("/proc/{name}");
        let bundle = runtime.bundle().bind(&file, &to, ["ro"]).args(["cat", &to]);
        assert_eq!(runtime.run(&bundle).ok().line(), "fake", "{name}");
    }
}

#[test]
fn proc_on_a_link_is_refused() {
    let runtime = Runtime::new();
    for (kind, to) in [("proc", "/proc"), ("sysfs", "/sys")] {
        let bundle = runtime.bundle().folder("/fake").link(to, "/fake");
        runtime.try_create(&bundle).fails([to]);
        let bundle = runtime
            .bundle()
            .folder("/dir")
            .link("/l", "/dir")
            .mount("/l", kind, kind, []);
        runtime.try_create(&bundle).fails(["/l"]);
    }
}

#[test]
fn an_unknown_filesystem_is_refused() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().mount("/x", "nosuchfs", "none", []);
    runtime.try_create(&bundle).fails(["nosuchfs", "/x"]);
    let bundle = runtime
        .bundle()
        .push("/mounts", json!({"destination": "/x"}));
    runtime.try_create(&bundle).fails(["mounts[6]"]);
}

#[test]
fn data_options_reach_the_filesystem() {
    let runtime = Runtime::new();
    let how = [
        "size=64k",
        "nosuid",
        "mode=0701",
        "uid=5",
        "gid=6",
        "nr_inodes=9",
    ];
    let bundle = runtime.bundle().mount("/x", "tmpfs", "name", how);
    let mount = look(&runtime, &bundle, "/x");
    for option in ["size=64k", "mode=701", "uid=5", "gid=6", "nr_inodes=9"] {
        assert!(
            mount.data.iter().any(|one| one == option),
            "{option}: {:?}",
            mount.data
        );
    }
    assert_eq!(mount.source, "name");
}

#[test]
fn bad_data_options_are_refused() {
    let runtime = Runtime::new();
    for option in ["nosuchoption", "size=many", "ROX", "bogus=1"] {
        let bundle = runtime.bundle().mount("/x", "tmpfs", "tmpfs", [option]);
        runtime.try_create(&bundle).fails(["/x"]);
    }
}

/// Engines and the `mounts` program of runtime-tools write such options.
#[test]
fn data_options_on_a_bind_are_passed_over() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .bind("/usr", "/x", ["mode=755,size=3", "ro", "acl"]);
    let log = runtime.folder().join("log");
    let flags = look(&runtime, &bundle, "/x").flags;
    assert!(flags.iter().any(|flag| flag == "ro"), "{flags:?}");
    let command = runtime.bare().arg("--log").arg(&log);
    let command = command.args(["--log-level", "warning", "--root"]);
    let command = command.arg(runtime.root()).args(["run", "-b"]);
    let command = command.arg(&bundle.dir).arg(runtime.id());
    command.output().ok();
    let log = fs::read_to_string(log).unwrap();
    for key in ["mode", "size", "acl"] {
        let line = log
            .lines()
            .find(|line| line.contains(&format!("{key}\\\"")));
        let line = line.unwrap_or_else(|| panic!("{key}: {log}"));
        assert!(line.contains("level=warning") && line.contains("mounts[6].options"));
    }
}

#[test]
fn long_options_reach_the_filesystem() {
    let runtime = Runtime::new();
    let parts = HostMount::new(&runtime, "parts", &[]);
    let part = |name: &str| {
        let path = parts.0.join(name);
        fs::create_dir_all(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (upper, work) = (part("upper"), part("work"));
    let layer = |count: usize| part(&["long".repeat(50).as_str()].repeat(count).join("/"));
    let overlay = |lower: &str| {
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let bundle = runtime.bundle().shell("ls /o; touch /o/made");
        bundle.mount("/o", "overlay", "overlay", [options.as_str(), "nosuid"])
    };
    let lower = layer(2);
    fs::write(format!("{lower}/here"), "").unwrap();
    assert_eq!(runtime.run(&overlay(&lower)).ok().line(), "here");
    assert!(fs::exists(format!("{upper}/made")).unwrap());
    let layers = [layer(10), layer(11)].join(":");
    let output = runtime.try_create(&overlay(&layers));
    output.fails(["mounts[6].options", "4095 bytes"]);
}

/// The long options are kept, whatever else is done to the mount while it is detached.
#[test]
fn long_options_go_with_everything() {
    let runtime = Runtime::new();
    let long = format!("size={}1m", "0".repeat(300));
    let tmpfs = |options: &[&str]| {
        let options = [&[long.as_str()], options].concat();
        let bundle = runtime.bundle().file("/x/dir/f", "text");
        std::os::unix::fs::chown(bundle.path("/x/dir/f"), Some(7), Some(8)).unwrap();
        fs::set_permissions(bundle.path("/x"), PermissionsExt::from_mode(0o1711)).unwrap();
        add_mount(bundle, "/x", "tmpfs", "tmpfs", &options)
    };
    for (options, expected) in [
        (&["rshared"][..], "shared:"),
        (&["rprivate", "nosuid", "noatime"], ""),
        (&["rslave", "ro"], ""),
    ] {
        let seen = look(&runtime, &tmpfs(options), "/x");
        assert!(
            seen.propagation.starts_with(expected),
            "{}",
            seen.propagation
        );
        assert_eq!(seen.propagation.is_empty(), expected.is_empty());
        let flags = options.iter().filter(|option| !option.starts_with("rs"));
        for flag in flags.filter(|option| !option.starts_with("rp")) {
            assert!(
                seen.flags.iter().any(|one| one == flag),
                "{flag}: {:?}",
                seen.flags
            );
        }
        assert!(
            seen.data.iter().any(|one| one == "size=1024k"),
            "{:?}",
            seen.data
        );
    }
    let show = "stat -c %a /x; stat -c %u:%g /x/dir/f; touch /x/new 2>&1 | grep -o Read-only; \
        grep -c ' /x ' /proc/self/mountinfo";
    let copied = tmpfs(&["tmpcopyup", "ro"]).shell(show);
    let expected = "1711\n7:8\nRead-only\n1";
    assert_eq!(runtime.run(&copied).ok().line(), expected);
    assert_eq!(
        runtime
            .run(&copied.user_namespace())
            .ok()
            .line()
            .lines()
            .count(),
        4
    );
    let filled = tmpfs(&["ro"]).bind("/usr", "/x/usr", []);
    let output = runtime
        .run(&filled.shell("ls -d /x/usr; touch /x/new"))
        .exits(1);
    assert!(output.stderr.contains("Read-only"), "{output}");
    needs::kernel(6, 3);
    let map = json!([{"containerID": 0, "hostID": 3000, "size": 1000}]);
    let mut mapped = tmpfs(&["tmpcopyup"]);
    let mount = mapped.config["mounts"]
        .as_array_mut()
        .unwrap()
        .last_mut()
        .unwrap();
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    let output = runtime
        .run(&mapped.args(["stat", "-c", "%u:%g", "/x/dir/f"]))
        .ok();
    assert_eq!(output.line(), "3007:3008");
}

/// Options of a mount, what its flags must hold, and what they must not.
type Row = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

const FRESH: &[Row] = &[
    (
        &[],
        &["rw", "relatime"],
        &["nosuid", "nodev", "noexec", "nodiratime"],
    ),
    (&["defaults"], &["rw", "relatime"], &["nosuid"]),
    (&["ro"], &["ro"], &["rw"]),
    (&["ro", "rw"], &["rw"], &["ro"]),
    (&["rw", "ro"], &["ro"], &["rw"]),
    (&["nosuid"], &["nosuid"], &["nodev"]),
    (&["nosuid", "suid"], &[], &["nosuid"]),
    (&["suid", "nosuid"], &["nosuid"], &[]),
    (&["nodev"], &["nodev"], &[]),
    (&["nodev", "dev"], &[], &["nodev"]),
    (&["noexec"], &["noexec"], &[]),
    (&["noexec", "exec"], &[], &["noexec"]),
    (&["noatime"], &["noatime"], &["relatime"]),
    (&["noatime", "atime"], &["relatime"], &["noatime"]),
    (&["nodiratime"], &["nodiratime"], &[]),
    (&["nodiratime", "diratime"], &[], &["nodiratime"]),
    (&["relatime"], &["relatime"], &["noatime"]),
    (&["strictatime"], &[], &["relatime", "noatime"]),
    (&["strictatime", "relatime"], &["relatime"], &["noatime"]),
    (&["noatime", "strictatime"], &[], &["relatime", "noatime"]),
    (&["strictatime", "noatime"], &["noatime"], &["relatime"]),
    (&["noatime", "nostrictatime"], &["noatime"], &[]),
    (&["nosymfollow"], &["nosymfollow"], &[]),
    (&["nosymfollow", "symfollow"], &[], &["nosymfollow"]),
    (&["silent"], &["rw"], &[]),
    (&["loud"], &["rw"], &[]),
    (&["mand"], &["rw"], &[]),
    (&["nomand"], &["rw"], &[]),
    (&["async"], &["rw"], &[]),
    (&["norelatime"], &["rw"], &[]),
    (&["nolazytime", "noiversion"], &["rw"], &[]),
];

#[track_caller]
fn check_rows(
    runtime: &Runtime,
    rows: &[Row],
    mut bundle: Bundle,
    add: impl Fn(Bundle, &str, &[&str]) -> Bundle,
) {
    for (number, (options, _, _)) in rows.iter().enumerate() {
        bundle = add(bundle, &format!("/m/{number}"), options);
    }
    let output = runtime.run(&bundle.args(MOUNTINFO)).ok();
    for (number, (options, present, absent)) in rows.iter().enumerate() {
        let flags = seen(&output.stdout, &format!("/m/{number}")).flags;
        for flag in *present {
            assert!(
                flags.iter().any(|one| one == flag),
                "{options:?}: no {flag} in {flags:?}"
            );
        }
        for flag in *absent {
            assert!(
                !flags.iter().any(|one| one == flag),
                "{options:?}: {flag} in {flags:?}"
            );
        }
    }
}

fn add_mount(bundle: Bundle, to: &str, kind: &str, from: &str, options: &[&str]) -> Bundle {
    let mount = json!({"destination": to, "type": kind, "source": from, "options": options});
    bundle.push("/mounts", mount)
}

#[test]
fn options_of_fresh_mounts() {
    let runtime = Runtime::new();
    check_rows(&runtime, FRESH, runtime.bundle(), |bundle, to, options| {
        add_mount(bundle, to, "tmpfs", "tmpfs", options)
    });
    for (option, shown) in [
        ("sync", "sync"),
        ("dirsync", "dirsync"),
        ("lazytime", "lazytime"),
    ] {
        let bundle = runtime.bundle().mount("/x", "tmpfs", "tmpfs", [option]);
        let mount = look(&runtime, &bundle, "/x");
        assert!(
            mount.data.iter().any(|one| one == shown),
            "{option}: {:?}",
            mount.data
        );
    }
    // mountinfo does not show this option.
    runtime
        .run(&runtime.bundle().mount("/x", "tmpfs", "tmpfs", ["iversion"]))
        .ok();
}

#[test]
fn options_of_binds() {
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &[]);
    let from = source.0.to_str().unwrap();
    check_rows(&runtime, FRESH, runtime.bundle(), |bundle, to, options| {
        add_mount(bundle, to, "bind", from, &[&["bind"], options].concat())
    });
    check_rows(&runtime, FRESH, runtime.bundle(), |bundle, to, options| {
        add_mount(bundle, to, "none", from, &[options, &["rbind"]].concat())
    });
}

#[test]
fn clearing_options_of_binds() {
    let runtime = Runtime::new();
    let flags = "remount,bind,ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow";
    let source = HostMount::new(&runtime, "source", &[flags]);
    let from = source.0.to_str().unwrap();
    let rows: &[Row] = &[
        (&["rw"], &["rw"], &["ro"]),
        (&["suid"], &[], &["nosuid"]),
        (&["dev"], &[], &["nodev"]),
        (&["exec"], &[], &["noexec"]),
        (&["atime"], &[], &["noatime"]),
        (&["diratime"], &[], &["nodiratime"]),
        (&["relatime"], &["relatime"], &["noatime"]),
        (&["strictatime"], &[], &["noatime", "relatime"]),
        (&["symfollow"], &[], &["nosymfollow"]),
        (
            &["rw", "suid", "dev", "exec"],
            &["rw"],
            &["nosuid", "nodev", "noexec"],
        ),
    ];
    check_rows(&runtime, rows, runtime.bundle(), |bundle, to, options| {
        add_mount(bundle, to, "bind", from, &[&["bind"], options].concat())
    });
}

#[test]
fn a_bind_keeps_the_flags_of_its_source() {
    let runtime = Runtime::new();
    let source = HostMount::new(
        &runtime,
        "source",
        &["remount,bind,ro,nosuid,nodev,noexec,noatime"],
    );
    let all = ["ro", "nosuid", "nodev", "noexec", "noatime"];
    let flags = look(&runtime, &runtime.bundle().bind(&source.0, "/x", []), "/x").flags;
    for flag in all {
        assert!(flags.iter().any(|one| one == flag), "{flag}: {flags:?}");
    }
}

/// As runc 1.5: one named flag of the mount, and those that are not named are cleared, unless they
/// are locked. Access times stay.
#[test]
fn a_named_flag_clears_those_that_are_not() {
    let runtime = Runtime::new();
    let locked = "remount,bind,nosuid,nodev,noexec,noatime";
    let source = HostMount::new(&runtime, "source", &[locked]);
    let all = ["ro", "nosuid", "nodev", "noexec", "noatime"];
    let rows: [(&[&str], &[&str]); 8] = [
        (&[], &["nosuid", "nodev", "noexec", "noatime"]),
        (
            &["rprivate", "rro"],
            &["ro", "nosuid", "nodev", "noexec", "noatime"],
        ),
        (&["ro"], &["ro", "noatime"]),
        (&["rw"], &["noatime"]),
        (&["nosuid"], &["nosuid", "noatime"]),
        (&["exec"], &["noatime"]),
        (&["relatime"], &[]),
        (&["nodev", "ro"], &["ro", "nodev", "noatime"]),
    ];
    let kept = |bundle: Bundle, options: &[&str]| {
        let bundle = add_mount(bundle, "/x", "bind", source.0.to_str().unwrap(), options);
        let flags = look(&runtime, &bundle, "/x").flags;
        all.into_iter()
            .filter(|flag| flags.iter().any(|one| one == flag))
            .collect::<Vec<_>>()
    };
    for (options, expected) in rows {
        let options = [&["rbind"], options].concat();
        assert_eq!(kept(runtime.bundle(), &options), expected, "{options:?}");
    }
    for options in [&["rbind", "ro"][..], &["rbind", "rw"], &["bind", "nosuid"]] {
        let flags = kept(runtime.bundle().user_namespace(), options);
        let stay = ["nosuid", "nodev", "noexec", "noatime"];
        assert!(
            stay.iter().all(|flag| flags.contains(flag)),
            "{options:?}: {flags:?}"
        );
    }
    let cleared = runtime
        .bundle()
        .user_namespace()
        .bind(&source.0, "/x", ["suid"]);
    runtime
        .try_create(&cleared)
        .fails(["/x", "cannot clear locked flags"]);
}

#[test]
fn the_last_of_conflicting_options_counts() {
    let runtime = Runtime::new();
    let how = [
        "ro", "noexec", "rw", "exec", "nosuid", "suid", "nosuid", "relatime", "noatime",
    ];
    let flags = look(
        &runtime,
        &runtime.bundle().mount("/x", "tmpfs", "tmpfs", how),
        "/x",
    )
    .flags;
    assert_eq!(flags, ["rw", "nosuid", "noatime"]);
}

/// Recursive options on a tree of two tmpfs: expected in the flags of both, or not.
const RECURSIVE: &[(&str, &str)] = &[
    ("rro", "ro"),
    ("ro=recursive", "ro"),
    ("noexec=recursive", "noexec"),
    ("rnosuid", "nosuid"),
    ("rnodev", "nodev"),
    ("rnoexec", "noexec"),
    ("rnoatime", "noatime"),
    ("rnodiratime", "nodiratime"),
    ("rnosymfollow", "nosymfollow"),
    ("rrelatime", "relatime"),
];

#[test]
fn recursive_options_reach_submounts() {
    let runtime = Runtime::new();
    let tree = HostMount::new(&runtime, "tree", &[]);
    tree.tmpfs_below("sub");
    for (option, flag) in RECURSIVE {
        let bundle =
            runtime
                .bundle()
                .mount("/x", "bind", tree.0.to_str().unwrap(), ["rbind", option]);
        let output = runtime.run(&bundle.args(MOUNTINFO)).ok();
        for point in ["/x", "/x/sub"] {
            let flags = seen(&output.stdout, point).flags;
            assert!(
                flags.iter().any(|one| one == flag),
                "{option} on {point}: {flags:?}"
            );
        }
    }
    let bundle = runtime.bundle().mount(
        "/x",
        "bind",
        tree.0.to_str().unwrap(),
        ["rbind", "rstrictatime"],
    );
    let output = runtime.run(&bundle.args(MOUNTINFO)).ok();
    assert_eq!(seen(&output.stdout, "/x/sub").flags, ["rw"]);
}

#[test]
fn plain_options_do_not_reach_submounts() {
    let runtime = Runtime::new();
    let tree = HostMount::new(&runtime, "tree", &[]);
    tree.tmpfs_below("sub");
    let from = tree.0.to_str().unwrap();
    let bundle = runtime
        .bundle()
        .mount("/x", "bind", from, ["rbind", "ro", "nosuid"]);
    let output = runtime.run(&bundle.args(MOUNTINFO)).ok();
    assert_eq!(
        seen(&output.stdout, "/x").flags,
        ["ro", "nosuid", "relatime"]
    );
    assert_eq!(seen(&output.stdout, "/x/sub").flags, ["rw", "relatime"]);
}

#[test]
fn clearing_recursive_options() {
    let runtime = Runtime::new();
    let tree = HostMount::new(&runtime, "tree", &[]);
    let sub = tree.tmpfs_below("sub");
    for path in [&tree.0, &sub] {
        let flags = "remount,bind,ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow";
        Command::new("mount")
            .args(["-o", flags])
            .arg(path)
            .output()
            .ok();
    }
    for (option, flag) in [
        ("rrw", "ro"),
        ("rsuid", "nosuid"),
        ("rdev", "nodev"),
        ("rexec", "noexec"),
        ("ratime", "noatime"),
        ("rdiratime", "nodiratime"),
        ("rsymfollow", "nosymfollow"),
    ] {
        let bundle =
            runtime
                .bundle()
                .mount("/x", "bind", tree.0.to_str().unwrap(), ["rbind", option]);
        let output = runtime.run(&bundle.args(MOUNTINFO)).ok();
        for point in ["/x", "/x/sub"] {
            let flags = seen(&output.stdout, point).flags;
            assert!(
                !flags.iter().any(|one| one == flag),
                "{option} on {point}: {flags:?}"
            );
        }
    }
}

#[test]
fn defaults_is_no_option() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .mount("/x", "tmpfs", "tmpfs", ["defaults", "size=64k"]);
    assert_eq!(look(&runtime, &bundle, "/x").kind, "tmpfs");
    look(
        &runtime,
        &runtime.bundle().bind("/usr", "/x", ["defaults"]),
        "/x",
    );
}

#[test]
fn propagation_is_set() {
    let runtime = Runtime::new();
    let shared = HostMount::new(&runtime, "shared", &[]);
    Command::new("mount")
        .arg("--make-shared")
        .arg(&shared.0)
        .output()
        .ok();
    for (option, word) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", "master:"),
        ("rslave", "master:"),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let bundle = runtime.bundle().bind(&shared.0, "/x", [option]);
        let found = look(&runtime, &bundle, "/x").propagation;
        assert!(
            found.starts_with(word) && (word.len() > 1 || found.is_empty()),
            "{option}: {found}"
        );
    }
}

#[test]
fn a_bind_is_private_by_default() {
    let runtime = Runtime::new();
    let shared = HostMount::new(&runtime, "shared", &[]);
    Command::new("mount")
        .arg("--make-shared")
        .arg(&shared.0)
        .output()
        .ok();
    let bundle = runtime.bundle().bind(&shared.0, "/x", []);
    assert_eq!(look(&runtime, &bundle, "/x").propagation, "");
}

/// A container that has a shared host folder bound with this option, and looks for a mount in it.
fn watcher(runtime: &Runtime, shared: &HostMount, option: &'static str) -> Output {
    Command::new("mount")
        .arg("--make-rshared")
        .arg(&shared.0)
        .output()
        .ok();
    let bundle =
        runtime
            .bundle()
            .mount("/x", "bind", shared.0.to_str().unwrap(), ["rbind", option]);
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    shared.tmpfs_below("later");
    container.exec(["grep", "-c", "/x/later", "/proc/self/mountinfo"])
}

#[test]
fn rslave_sees_later_mounts_of_the_host() {
    let runtime = Runtime::new();
    let shared = HostMount::new(&runtime, "shared", &[]);
    assert_eq!(watcher(&runtime, &shared, "rslave").line(), "1");
}

#[test]
fn rprivate_sees_none() {
    let runtime = Runtime::new();
    let shared = HostMount::new(&runtime, "shared", &[]);
    assert_eq!(watcher(&runtime, &shared, "rprivate").line(), "0");
}

#[test]
fn rshared_works_both_ways() {
    let runtime = Runtime::new();
    let shared = HostMount::new(&runtime, "shared", &[]);
    assert_eq!(watcher(&runtime, &shared, "rshared").line(), "1");
    let script = "mkdir /x/mine && mount -t tmpfs mine /x/mine && sleep 1000";
    let bundle = runtime
        .bundle()
        .capabilities(["CAP_SYS_ADMIN"])
        .shell(script);
    let bundle = bundle.mount(
        "/x",
        "bind",
        shared.0.to_str().unwrap(),
        ["rbind", "rshared"],
    );
    let _container = runtime.start(&bundle);
    let point = format!("{}/mine ", shared.0.display());
    wait_until("the container's mount on the host", || {
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains(&point)
    });
}

#[test]
fn bind_alone_takes_no_submounts() {
    let runtime = Runtime::new();
    let tree = HostMount::new(&runtime, "tree", &[]);
    tree.tmpfs_below("sub");
    let output = runtime
        .run(&runtime.bundle().bind(&tree.0, "/x", []).args(MOUNTINFO))
        .ok();
    assert!(!output.stdout.contains("/x/sub"), "{output}");
}

#[test]
fn rbind_takes_submounts() {
    let runtime = Runtime::new();
    let tree = HostMount::new(&runtime, "tree", &[]);
    tree.tmpfs_below("sub");
    // The type has no meaning where an option says bind.
    let bundle = runtime
        .bundle()
        .mount("/x", "ext4", tree.0.to_str().unwrap(), ["rbind"]);
    assert_eq!(look(&runtime, &bundle, "/x/sub").kind, "tmpfs");
}

#[test]
fn files_sockets_pipes_and_devices_are_bound() {
    let runtime = Runtime::new();
    let folder = runtime.folder();
    folder.file("file", "x");
    let _socket = UnixListener::bind(folder.join("socket")).unwrap();
    Command::new("mkfifo")
        .arg(folder.join("pipe"))
        .output()
        .ok();
    let mut bundle = runtime
        .bundle()
        .shell("cd /m; stat -c %F file socket pipe device");
    for name in ["file", "socket", "pipe"] {
        bundle = bundle.bind(folder.join(name), &format!("/m/{name}"), ["ro", "nosuid"]);
    }
    let bundle = bundle.bind("/dev/full", "/m/device", ["rw"]);
    let output = runtime.run(&bundle).ok();
    assert_eq!(
        output.line(),
        "regular file\nsocket\nfifo\ncharacter special file"
    );
}

#[test]
fn tmpfs_takes_the_mode_of_the_folder() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .folder("/odd")
        .mount("/odd", "tmpfs", "tmpfs", []);
    fs::set_permissions(bundle.path("/odd"), PermissionsExt::from_mode(0o1770)).unwrap();
    let bundle = bundle.mount("/given", "tmpfs", "tmpfs", ["mode=711"]);
    let output = runtime
        .run(&bundle.args(["stat", "-c", "%a", "/odd", "/given"]))
        .ok();
    assert_eq!(output.line(), "1770\n711");
}

#[test]
fn a_read_only_tmpfs_is_filled_first() {
    let runtime = Runtime::new();
    let file = runtime.folder().file("file", "inside");
    let bundle =
        runtime
            .bundle()
            .mount("/x", "tmpfs", "tmpfs", ["ro"])
            .bind(&file, "/x/a/file", []);
    let bundle = bundle.shell("cat /x/a/file; touch /x/new");
    let output = runtime.run(&bundle).exits(1);
    assert_eq!(output.stdout, "inside");
    assert!(output.stderr.contains("Read-only"), "{output}");
}

#[test]
fn tmpcopyup_copies() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .file("/x/dir/file", "text")
        .link("/x/link", "/etc/passwd");
    fs::set_permissions(bundle.path("/x/dir"), PermissionsExt::from_mode(0o750)).unwrap();
    std::os::unix::fs::chown(bundle.path("/x/dir/file"), Some(7), Some(8)).unwrap();
    let script = "cat /x/dir/file; stat -c %a /x/dir; stat -c %u:%g /x/dir/file; readlink /x/link; echo y >/x/new";
    let bundle = bundle
        .mount("/x", "tmpfs", "tmpfs", ["tmpcopyup", "size=1m"])
        .shell(script);
    assert_eq!(
        runtime.run(&bundle).ok().line(),
        "text750\n7:8\n/etc/passwd"
    );
    assert!(!bundle.path("/x/new").exists());
    let absent = runtime
        .bundle()
        .mount("/y", "tmpfs", "tmpfs", ["tmpcopyup"]);
    assert_eq!(look(&runtime, &absent, "/y").kind, "tmpfs");
}

#[test]
fn tmpcopyup_keeps_what_the_config_gives() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().file("/x/file", "").file("/y/file", "");
    std::os::unix::fs::chown(bundle.path("/x"), Some(7), Some(8)).unwrap();
    fs::set_permissions(bundle.path("/x"), PermissionsExt::from_mode(0o750)).unwrap();
    let bundle = bundle.mount("/x", "tmpfs", "tmpfs", ["tmpcopyup"]).mount(
        "/y",
        "tmpfs",
        "tmpfs",
        ["tmpcopyup", "mode=701", "uid=5"],
    );
    let bundle = bundle.args(["stat", "-c", "%a %u:%g", "/x", "/y"]);
    // The owner of a new file system is root, or who the config says.
    assert_eq!(runtime.run(&bundle).ok().line(), "750 0:0\n701 5:0");
}

#[test]
fn tmpcopyup_has_no_depth() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    let mut path = bundle.path("/x");
    for level in 0..300 {
        fs::create_dir(&path).unwrap();
        for name in ["a", "b", "z"] {
            fs::write(path.join(format!("{name}{level}")), "").unwrap();
            fs::create_dir(path.join(format!("{name}-dir"))).unwrap();
        }
        path = path.join("m");
    }
    let bundle = bundle.mount("/x", "tmpfs", "tmpfs", ["tmpcopyup"]);
    let script = "ulimit -n 1024; find /x -type f | wc -l; find /x -type d | wc -l";
    let run = runtime.with_bundle("run", &bundle.shell(script));
    let output = run.arg(runtime.id()).after("ulimit -Sn 128").output().ok();
    assert_eq!(output.line(), "900\n1200");
}

#[test]
fn tmpcopyup_names_the_file_that_fails() {
    let runtime = Runtime::new();
    for depth in [1, 50] {
        let deep = ["dir"].repeat(depth).join("/");
        let bundle = runtime
            .bundle()
            .file(&format!("/x/{deep}/full"), &"x".repeat(100_000));
        let bundle = bundle.mount("/x", "tmpfs", "tmpfs", ["tmpcopyup", "size=8k"]);
        let output = runtime.try_create(&bundle);
        let text = format!("copy {deep}/full");
        output.fails(["mount tmpfs on /x", "ENOSPC", &text]);
    }
}

#[test]
fn tmpcopyup_on_another_filesystem_is_refused() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().bind("/usr", "/x", ["tmpcopyup"]);
    runtime.try_create(&bundle).fails(["tmpcopyup"]);
}

#[test]
fn remount_changes_flags() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().mount("/x", "tmpfs", "tmpfs", ["nosuid"]);
    let bundle = bundle.mount("/x", "bind", "/x", ["bind", "remount", "ro"]);
    let flags = look(&runtime, &bundle, "/x").flags;
    assert!(flags.iter().any(|one| one == "ro"), "{flags:?}");
    assert!(flags.iter().any(|one| one == "nosuid"), "{flags:?}");
}

#[test]
fn remount_keeps_flags() {
    let runtime = Runtime::new();
    let flags = ["nosymfollow", "nosuid", "noatime"];
    let bundle = runtime.bundle().mount("/x", "tmpfs", "tmpfs", flags);
    let remount = json!({"destination": "/x", "options": ["remount", "size=64k"]});
    let mount = look(&runtime, &bundle.push("/mounts", remount), "/x");
    for flag in flags {
        assert!(mount.flags.iter().any(|one| one == flag), "{flag}");
    }
    assert!(mount.data.iter().any(|one| one == "size=64k"));
}

#[test]
fn proc_sysfs_and_mqueue_have_their_own_modes() {
    let runtime = Runtime::new();
    let script = "stat -c %a /proc /sys /dev/mqueue /dev/shm /dev/pts /dev; \
        for p in /proc /sys /dev/mqueue; do stat -fc %T $p; done";
    let output = runtime.run(&runtime.bundle().shell(script)).ok();
    let expected = "555\n555\n1777\n1777\n755\n755\nproc\nsysfs\n";
    assert!(output.stdout.starts_with(expected), "{output}");
}

#[test]
fn sysfs_with_the_hosts_network_in_a_user_namespace() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .user_namespace()
        .without_namespace("network");
    let bundle = bundle.shell("ls /sys/class/net && ! touch /sys/x");
    let output = runtime.run(&bundle).ok();
    assert!(output.stdout.contains("lo"), "{output}");
    let flags = look(&runtime, &bundle, "/sys").flags;
    assert!(flags.iter().any(|one| one == "ro"), "{flags:?}");
}

/// Runs it where this script has changed the host's mounts, in a mount namespace of its own.
fn run_where(runtime: &Runtime, bundle: &Bundle, script: &str) -> Output {
    let run = runtime.with_bundle("run", bundle).arg(runtime.id());
    run.after(script).under("unshare", ["-m"]).output()
}

/// The kernel refuses a new sysfs where mounts cover parts of the host's, whatever namespaces the
/// container has.
#[test]
fn a_refused_sysfs_is_the_hosts() {
    let runtime = Runtime::new();
    let empty = runtime.folder().folder("empty");
    let script = format!("mount --bind {} /sys/kernel", empty.display());
    let bundle = runtime.bundle().user_namespace();
    let bundle = bundle.shell("ls -d /sys/class/net; ls -A /sys/kernel; touch /sys/x");
    let output = run_where(&runtime, &bundle, &script);
    assert_eq!(output.stdout, "/sys/class/net\n", "{output}");
    assert!(output.stderr.contains("Read-only"), "{output}");
}

#[test]
fn a_refused_mqueue_is_the_hosts() {
    let runtime = Runtime::new();
    let host = runtime.folder().folder("mqueue");
    let bundle = runtime.bundle().user_namespace().without_namespace("ipc");
    let bundle = bundle.shell("stat -fc %t /dev/mqueue; grep /dev/mqueue /proc/self/mountinfo");
    // The machine may have no /dev/mqueue at all.
    let dev = "mount -t tmpfs dev /dev && mknod -m 666 /dev/null c 1 3 && mknod /dev/zero c 1 5 && \
        mknod /dev/full c 1 7 && mknod /dev/random c 1 8 && mknod /dev/urandom c 1 9 && \
        mknod /dev/tty c 5 0 && mkdir /dev/mqueue /dev/shm";
    let script = format!("{dev} && mount -t mqueue mqueue /dev/mqueue");
    let output = run_where(&runtime, &bundle, &script).ok();
    assert!(output.stdout.starts_with("19800202"), "{output}");
    assert!(output.stdout.contains("nosuid,nodev,noexec"), "{output}");
    // Without an mqueue mounted there, the kernel's error is reported.
    let output = run_where(&runtime, &bundle, dev);
    output.fails(["mqueue", "own ipc namespace"]);
    let own = runtime.bundle().user_namespace().args(["true"]);
    runtime.run(&own).ok();
    drop(host);
}

#[test]
fn a_refused_procfs_is_the_hosts() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().user_namespace().without_namespace("pid");
    let script = "stat -fc %T /proc; readlink /proc/self | grep -qx $$ || echo other; \
        ls /proc/1/status; cat /proc/kcore | wc -c";
    // Masked and read-only paths lie in a bound `/proc` as in any other.
    let bundle = bundle
        .remove("/linux/sysctl")
        .shell(&format!("exec 2>&1; {script}"));
    let output = runtime.run(&bundle);
    assert!(output.stdout.starts_with("proc\n"), "{output}");
    assert!(output.stdout.contains("/proc/1/status\n"), "{output}");
    assert!(output.stdout.ends_with("\n0\n"), "{output}");
    // The host's procfs cannot show a new pid namespace.
    let own = runtime.bundle().user_namespace();
    let empty = runtime.folder().folder("empty");
    let cover = format!("mount --bind {} /proc/fs", empty.display());
    run_where(&runtime, &own, &cover).fails(["mount proc", "mounts on /proc/fs"]);
}

#[test]
fn devpts_is_a_new_instance() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .shell("ls /dev/pts; readlink /dev/ptmx; stat -c %a /dev/pts/ptmx");
    assert_eq!(runtime.run(&bundle).ok().line(), "ptmx\npts/ptmx\n666");
}

#[test]
fn control_groups_are_mounted() {
    let runtime = Runtime::new();
    for bundle in [runtime.bundle(), runtime.bundle().new_namespace("cgroup")] {
        let bundle = bundle.mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            ["nosuid", "noexec", "nodev"],
        );
        // On version 2 a mount without a namespace shows the whole tree, whose groups come and go.
        let script = "find /sys/fs/cgroup -name cgroup.procs -exec cat {} + 2>/dev/null; \
            ls /sys/fs/cgroup";
        let output = runtime.run(&bundle.shell(script)).ok();
        assert!(
            output.stdout.lines().any(|line| line == "1"),
            "its own group is not there: {output}"
        );
    }
}

#[test]
fn control_groups_can_be_read_only() {
    let runtime = Runtime::new();
    for bundle in [runtime.bundle(), runtime.bundle().new_namespace("cgroup")] {
        let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["ro"]);
        let script =
            "find /sys/fs/cgroup -maxdepth 2 -type d | while read d; do mkdir $d/x 2>&1; done";
        let output = runtime.run(&bundle.shell(script));
        // Without a namespace, groups of others are seen, and may go meanwhile.
        let refusals = ["Read-only file system", "Permission denied", "No such file"];
        let refused = |line: &str| refusals.iter().any(|refusal| line.contains(refusal));
        let bad = output.stdout.lines().filter(|line| !refused(line));
        assert_eq!(bad.count(), 0, "{output}");
        assert!(output.stdout.contains("Read-only"), "{output}");
    }
}

#[test]
fn id_mapped_mounts() {
    needs::kernel(6, 3);
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &[]);
    fs::write(source.0.join("f"), "").unwrap();
    std::os::unix::fs::chown(source.0.join("f"), Some(5), Some(6)).unwrap();
    let map = |from: u32| json!([{"containerID": 0, "hostID": from, "size": 1000}]);
    let mount = json!({"destination": "/x", "type": "bind", "source": source.0,
        "options": ["bind", "idmap"], "uidMappings": map(3000), "gidMappings": map(4000)});
    let bundle = runtime
        .bundle()
        .push("/mounts", mount)
        .args(["stat", "-c", "%u:%g", "/x/f"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "3005:4006");
}

#[test]
fn id_mapped_mounts_of_the_user_namespace() {
    needs::kernel(6, 3);
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &[]);
    fs::write(source.0.join("f"), "").unwrap();
    let bundle = runtime
        .bundle()
        .user_namespace()
        .bind(&source.0, "/x", ["idmap"]);
    let output = runtime
        .run(&bundle.shell("stat -c %u:%g /x/f; touch /x/new"))
        .ok();
    assert_eq!(output.line(), "0:0");
    let made = fs::metadata(source.0.join("new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 0);
}

#[test]
fn id_maps_are_those_of_a_namespace() {
    let runtime = Runtime::new();
    let fifo = runtime.folder().join("fifo");
    Command::new("mkfifo").arg(&fifo).output().ok();
    for (path, text) in [
        ("/proc/self/ns/net", "is a network namespace, not user"),
        (fifo.to_str().unwrap(), "is not a namespace"),
    ] {
        let bundle = runtime.bundle().join_namespace("user", path);
        let bundle = bundle.bind("/usr", "/x", ["idmap"]);
        let output = runtime.try_create(&bundle);
        output.fails(["linux.namespaces[5].path", text]);
    }
}

#[test]
fn half_an_id_mapping_is_refused() {
    let runtime = Runtime::new();
    let mount = json!({"destination": "/x", "type": "bind", "source": "/usr", "options": ["bind"],
        "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]});
    runtime
        .try_create(&runtime.bundle().push("/mounts", mount))
        .fails(["gidMappings"]);
}

#[test]
fn id_mapping_without_a_mapping_is_refused() {
    let runtime = Runtime::new();
    for option in ["idmap", "ridmap"] {
        let bundle = runtime.bundle().bind("/usr", "/x", [option]);
        runtime.try_create(&bundle).fails(["mounts[6]"]);
    }
}

#[test]
fn many_mounts() {
    let runtime = Runtime::new();
    let mut bundle = runtime.bundle();
    for number in 0..500 {
        bundle = bundle.bind("/usr", &format!("/m/{number}"), ["ro"]);
    }
    let bundle = bundle.shell("grep -c ' /m/' /proc/self/mountinfo");
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    assert_eq!(run.after("ulimit -n 1024").output().ok().line(), "500");
}

#[test]
fn the_hosts_mounts_are_not_visible() {
    let runtime = Runtime::new();
    let output = runtime
        .run(
            &runtime
                .bundle()
                .args(["cut", "-d ", "-f5", "/proc/self/mountinfo"]),
        )
        .ok();
    let folder = runtime.folder().path().to_str().unwrap();
    assert!(!output.stdout.contains(folder), "{output}");
    let expected = ["/", "/proc", "/dev", "/sys"];
    for point in output.stdout.lines() {
        let is_known = expected.iter().any(|known| point.starts_with(known));
        assert!(
            is_known && !point.starts_with("/sys/fs"),
            "{point} is mounted"
        );
    }
}

#[test]
fn copy_symlink_copies_the_link() {
    let runtime = Runtime::new();
    std::os::unix::fs::symlink("/to/nowhere", runtime.folder().join("link")).unwrap();
    let bundle = runtime
        .bundle()
        .bind(runtime.folder().join("link"), "/a/link", ["copy-symlink"]);
    assert_eq!(
        runtime
            .run(&bundle.args(["readlink", "/a/link"]))
            .ok()
            .line(),
        "/to/nowhere"
    );
}

#[test]
fn a_locked_flag_cannot_be_cleared() {
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &["remount,bind,ro,nosuid"]);
    let bundle = runtime.bundle().user_namespace();
    // More flags can be set and locked ones stay; clearing a locked flag is refused, or done from
    // outside.
    let flags = look(
        &runtime,
        &bundle.clone().bind(&source.0, "/x", ["noexec"]),
        "/x",
    )
    .flags;
    for flag in ["ro", "nosuid", "noexec"] {
        assert!(flags.iter().any(|one| one == flag), "{flag}: {flags:?}");
    }
}

/// Runs a script as an administrator of the container's user namespace.
fn in_user_namespace(bundle: Bundle, script: &str) -> Bundle {
    let bundle = bundle.user_namespace().shell(script);
    bundle.capabilities(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"])
}

#[test]
fn nor_from_inside() {
    let runtime = Runtime::new();
    let locked = "remount,bind,ro,nosuid,nodev,noexec";
    let source = HostMount::new(&runtime, "source", &[locked]);
    let script = "for flag in rw suid dev exec; do mount -o $0,$flag /x; done; mount -o $0 /x";
    let bundle = in_user_namespace(runtime.bundle().bind(&source.0, "/x", []), script);
    let output = runtime.run(&bundle.push("/process/args", json!(locked)));
    assert_eq!(output.ok().stderr.matches("denied").count(), 4);
}

#[test]
fn what_a_mount_covers_stays_covered() {
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &[]);
    fs::create_dir(source.0.join("below")).unwrap();
    fs::write(source.0.join("below/secret"), "secret").unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "below"]);
    mount.arg(source.0.join("below")).output().ok();
    let script = "umount /x/below; umount -l /x/below; cat /x/below/secret";
    let bundle = runtime.bundle().bind(&source.0, "/x", ["rbind"]);
    let output = runtime.run(&in_user_namespace(bundle, script));
    assert_eq!(output.stdout, "", "{output}");
    assert_eq!(output.stderr.matches("umount: ").count(), 2, "{output}");
}

#[test]
fn the_hosts_sysfs_stays_whole() {
    let runtime = Runtime::new();
    let script = "cd /sys; for m in $(cut -d' ' -f5 /proc/self/mountinfo | grep ^/sys/); do \
        umount -l $m; done 2>/dev/null; grep -c ' /sys/' /proc/self/mountinfo";
    let bundle = runtime.bundle().without_namespace("network");
    let bundle = bundle.set("/linux/maskedPaths", json!([]));
    let output = runtime.run(&in_user_namespace(bundle, script));
    let own = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = own.lines().filter(|line| line.contains(" /sys/")).count();
    assert_eq!(output.line(), below.to_string(), "{output}");
}

/// What lies under a mount of the source is seen, as the config says; what the host has restricted
/// cannot be lifted from inside.
#[test]
fn a_plain_bind_takes_the_top_alone_in_a_user_namespace() {
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &[]);
    fs::write(source.0.join("f"), "top\n").unwrap();
    fs::create_dir(source.0.join("below")).unwrap();
    fs::write(source.0.join("below/under"), "").unwrap();
    let below = Command::new("mount").args(["-t", "tmpfs", "below"]);
    below.arg(source.0.join("below")).output().ok();
    fs::write(source.0.join("below/over"), "").unwrap();
    let locked = "remount,bind,ro,nosuid,nodev,noexec";
    let remount = Command::new("mount").args(["-o", locked]);
    remount.arg(&source.0).output().ok();
    let script = "cat /x/f; ls /x/below; for flag in rw suid dev exec; do \
        mount -o $0,$flag /x; done; mount -o $0 /x && echo same";
    let plain = in_user_namespace(runtime.bundle().bind(&source.0, "/x", []), script);
    let output = runtime
        .run(&plain.push("/process/args", json!(locked)))
        .ok();
    assert_eq!(output.line(), "top\nunder\nsame", "{output}");
    assert_eq!(output.stderr.matches("denied").count(), 4, "{output}");
    let named = runtime
        .bundle()
        .user_namespace()
        .bind(&source.0, "/x", ["nosuid"]);
    let flags = look(&runtime, &named, "/x").flags;
    for flag in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(flags.iter().any(|one| one == flag), "{flag}: {flags:?}");
    }
    let rbind = runtime
        .bundle()
        .user_namespace()
        .bind(&source.0, "/x", ["rbind"]);
    let output = runtime.run(&rbind.args(["ls", "/x/below"])).ok();
    assert_eq!(output.line(), "over");
    let own = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(own.matches(source.0.to_str().unwrap()).count(), 2);
}

/// Magic links could lead into the runtime's own descriptors, whatever the path is called.
#[test]
fn magic_links_lead_no_source_anywhere() {
    let runtime = Runtime::new();
    let link = |name: &str, target: &str| {
        let path = runtime.folder().join(name);
        std::os::unix::fs::symlink(target, &path).unwrap();
        path
    };
    let cwd = link("cwd", "/proc/self/cwd");
    let proc = link("proc", "/proc").join("self/root/usr");
    let bound = runtime.folder().folder("bound");
    let _procfs = {
        let mount = Command::new("mount").args(["--bind", "/proc"]);
        mount.arg(&bound).output().ok();
        HostMount(bound.clone())
    };
    let paths = [
        cwd,
        proc,
        bound.join("self/root"),
        PathBuf::from("/proc/self/exe"),
    ];
    for path in paths {
        for bundle in [runtime.bundle(), runtime.bundle().user_namespace()] {
            let bundle = bundle.bind(&path, "/x", []);
            runtime.try_create(&bundle).fails(["/x", "magic link"]);
        }
    }
    let plain = link("plain", "/proc").join("version");
    let bundle = runtime.bundle().bind(plain, "/x", []);
    runtime
        .run(&bundle.args(["grep", "-q", "Linux", "/x"]))
        .ok();
}

#[test]
fn sources_need_not_be_reachable_from_inside() {
    let runtime = Runtime::new();
    let closed = runtime.folder().folder("closed");
    fs::create_dir(closed.join("open")).unwrap();
    fs::write(closed.join("open/f"), "text").unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let bundle = runtime
        .bundle()
        .user_namespace()
        .bind(closed.join("open"), "/x", []);
    assert_eq!(
        runtime.run(&bundle.args(["cat", "/x/f"])).ok().line(),
        "text"
    );
}

/// The provider is started before init goes on, after which nobody may trace init; also where a
/// source is cloned on the host.
#[test]
fn sources_come_without_the_right_to_trace() {
    let runtime = Runtime::new();
    let source = HostMount::new(&runtime, "source", &[]);
    source.tmpfs_below("below");
    fs::write(source.0.join("f"), "text").unwrap();
    let bundle = runtime.bundle().user_namespace().bind(&source.0, "/x", []);
    let bundle = bundle.args(["cat", "/x/f"]);
    for _ in 0..5 {
        let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
        let run = run.under("setpriv", ["--bounding-set=-sys_ptrace", "--"]);
        assert_eq!(run.output().ok().line(), "text");
    }
}

#[test]
fn noop_options_are_accepted() {
    let runtime = Runtime::new();
    for option in ["rsync", "rasync", "rdirsync", "rmand", "rnomand"] {
        look(
            &runtime,
            &runtime.bundle().bind("/usr", "/x", [option]),
            "/x",
        );
    }
}
