//! Containers within containers, and a whole system in one.

use std::path::Path;

use coracle_integration::{Bundle, Layout, Runtime, json, machine, needs, program, wait_until};

/// The program at `/usr/local/bin/coracle` of the container, with the libraries that a build for
/// tests loads.
fn with_program(bundle: Bundle) -> Bundle {
    let bundle = bundle
        .folder("/usr/local/bin")
        .bind(program(), "/usr/local/bin/coracle", ["ro"]);
    ["lib", "lib64"].iter().fold(bundle, |bundle, name| {
        let libraries = Path::new("/usr").join(name);
        match libraries.exists() {
            true => {
                let inside = format!("/usr/{name}");
                let link = bundle.rootfs().join(name);
                std::os::unix::fs::symlink(format!("usr/{name}"), link).expect("a link");
                bundle.bind(&libraries, &inside, ["rbind", "ro"])
            }
            false => bundle,
        }
    })
}

/// All capabilities, no masks, and a namespace of cgroups.
fn powerful(bundle: Bundle) -> Bundle {
    let features = Runtime::new().command(["features"]).output().ok();
    let features: coracle_integration::Value = features.stdout.parse().expect("JSON");
    let all = &features["linux"]["capabilities"];
    let sets = json!({"bounding": all, "effective": all, "permitted": all});
    bundle
        .set("/process/capabilities", sets)
        .set("/process/noNewPrivileges", json!(false))
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths")
        .new_namespace("cgroup")
}

/// As engines make a privileged container: the same, with its own writable cgroups.
fn privileged(bundle: Bundle) -> Bundle {
    let bundle = powerful(bundle).mount("/sys/fs/cgroup", "cgroup", "cgroup", []);
    match machine().layout {
        // Its processes leave the top of its tree to groups below.
        Layout::V2 => {
            let annotations = json!({"run.coracle.init_cgroup": "init"});
            bundle.set("/annotations", annotations)
        }
        _ => bundle,
    }
}

/// Makes a bundle in the container, with a command that the test adds.
const INNER: &str = r#"
    set -e
    rm -rf /tmp/bundle
    mkdir -p /tmp/bundle/rootfs/bin
    cd /tmp/bundle
    cp /bin/busybox rootfs/bin/sh
    for name in sleep cat id; do ln -sf sh rootfs/bin/$name; done
    coracle spec $options
    sed -i -e 's/"terminal": true/"terminal": false/' -e "s|\"sh\"|\"sh\", \"-c\", \"$command\"|" config.json
"#;

/// The inner one has limits, and all verbs reach it.
#[test]
fn a_container_in_a_container() {
    let runtime = Runtime::new();
    let script = format!(
        r#"options= command='sleep 1000'
        {INNER}
        sed -i 's/"resources": {{/"resources": {{ "pids": {{ "limit": 20 }},/' config.json
        coracle run -d inner
        coracle exec inner id -u
        coracle update --pids-limit 30 inner
        cat /sys/fs/cgroup/pids/inner/pids.max /sys/fs/cgroup/inner/pids.max 2>/dev/null || true
        coracle pause inner
        coracle list --format '{{{{.ID}}}} {{{{.Status}}}}'
        coracle resume inner
        coracle delete --force inner
        coracle run -d inner
        echo ready
        exec sleep 1000"#
    );
    let bundle = with_program(privileged(runtime.bundle())).shell(&script);
    let container = runtime.create(&bundle);
    container.start().ok();
    container.wait_for("ready");
    assert_eq!(container.stdout(), "0\n30\ninner paused\nready\n");
    // The outer one takes the inner one with it.
    container.delete_by_force().ok();
    runtime.is_clean();
}

/// An ordinary user in a container, whose procfs is masked or is not.
#[test]
fn masks_outside_forbid_a_procfs_inside() {
    super::rootless::user();
    let runtime = Runtime::new();
    let script = format!(
        r#"options=--rootless command='id -u; cat /proc/1/comm; id -g'
        {INNER}
        coracle --root /tmp/state run inner"#
    );
    let masked = with_program(runtime.bundle())
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", ["ro"])
        .shell(&script)
        .user(1000, 1000);
    let output = runtime.run(&masked).exits(1);
    let line = output.stderr.trim_end();
    assert_eq!(line.lines().count(), 1, "{output}");
    for part in [
        "mount proc on /proc",
        "mounts on /proc/",
        "unmask=ALL",
        "EPERM",
    ] {
        assert!(line.contains(part), "{part}: {output}");
    }
    let unmasked = masked
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths");
    assert_eq!(runtime.run(&unmasked).ok().line(), "0\nsh\n0");
}

/// What an outer container lacks is in one line of the inner runtime, with what to ask for.
#[test]
fn a_line_tells_what_the_outer_one_lacks() {
    super::rootless::user();
    let runtime = Runtime::new();
    let read_only = |bundle: Bundle| bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ["ro"]);
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    });
    let ordinary = || with_program(runtime.bundle());
    let mapped = || with_program(powerful(runtime.bundle())).user_namespace();
    let writable = "outside for writable cgroups (--privileged";
    let rows = [
        (
            read_only(ordinary())
                .set("/linux/seccomp", profile)
                .user(1000, 1000),
            "--rootless",
            "",
            ["profile refuses clone3", "seccomp=unconfined"],
        ),
        (read_only(powerful(ordinary())), "", "", ["EROFS", writable]),
        (
            read_only(mapped()),
            "",
            r#""pids": {"limit": 20},"#,
            ["linux.resources.pids.limit: ", writable],
        ),
        (
            mapped(),
            "",
            r#""pids": {"limit": 20},"#,
            ["no cgroup file system", "ask the runtime outside"],
        ),
    ];
    for (outer, options, limit, expected) in rows {
        let script = format!(
            r#"options={options} command=true
            {INNER}
            sed -i 's/"resources": {{/"resources": {{ {limit}/' config.json
            exec coracle --root /tmp/state run inner"#
        );
        let output = runtime.run(&outer.shell(&script)).exits(1);
        let mut lines = output.stderr.lines();
        let errors = lines.clone().filter(|line| line.contains("level=error"));
        assert_eq!(errors.count(), 1, "{output}");
        let is_told = lines.any(|line| expected.iter().all(|part| line.contains(part)));
        assert!(is_told, "{expected:?}: {output}");
    }
}

/// The outer container's first process stays where limits are to be handed down.
#[test]
fn limits_need_an_empty_cgroup() {
    needs::version_2();
    let runtime = Runtime::new();
    let script = format!(
        r#"options= command=true
        {INNER}
        sed -i 's/"resources": {{/"resources": {{ "memory": {{"limit": 67108864}},/' config.json
        exec coracle run inner"#
    );
    let bundle = privileged(runtime.bundle()).remove("/annotations");
    let output = runtime.run(&with_program(bundle).shell(&script));
    output.fails(["linux.resources.memory.limit", "holds processes itself"]);
}

/// A user namespace within another, where nothing covers the outer procfs.
#[test]
fn a_user_namespace_in_another() {
    super::rootless::user();
    let runtime = Runtime::new();
    let script = format!(
        r#"options=--rootless command='read in out size </proc/self/uid_map; echo \$in \$out \$size'
        {INNER}
        exec coracle --root /tmp/state run inner"#
    );
    let outer = with_program(runtime.bundle())
        .user_namespace()
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", ["ro"])
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths")
        .shell(&script)
        .user(1000, 1000);
    assert_eq!(runtime.run(&outer).ok().line(), "0 1000 1");
}

/// Debian's service manager of this machine as process 1, with a unit to start.
#[test]
fn systemd_is_process_1() {
    needs::version_2();
    needs::program("systemctl");
    let runtime = Runtime::new();
    let folder = runtime.folder().folder("system");
    let unit = "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
                ExecStart=/bin/sh -c 'cat /proc/self/cgroup >/run/ready'\n";
    std::fs::write(folder.join("ready.service"), unit).expect("a unit");
    // It moves itself below the top of its tree.
    let bundle = privileged(runtime.bundle()).remove("/annotations");
    let root = bundle.rootfs();
    std::fs::remove_dir_all(&root).expect("an empty root");
    std::fs::create_dir(&root).expect("a root");
    for name in ["proc", "dev", "sys", "run", "tmp", "etc", "var", "usr"] {
        std::fs::create_dir(root.join(name)).expect("a folder");
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).expect("a link");
    }
    let bundle = bundle
        .bind("/usr", "/usr", ["rbind", "ro"])
        .mount("/run", "tmpfs", "tmpfs", ["mode=755"])
        .mount("/tmp", "tmpfs", "tmpfs", [])
        .bind(&folder, "/run/systemd/system", ["ro"])
        .set("/process/env", json!(["container=oci", "PATH=/usr/bin"]))
        .args(["/usr/lib/systemd/systemd", "--unit=ready.service"]);
    let container = runtime.start(&bundle);
    wait_until("a unit of the container", || {
        container.exec(["test", "-s", "/run/ready"]).code == 0
    });
    assert_eq!(
        container.exec(["cat", "/run/ready"]).ok().line(),
        "0::/system.slice/ready.service"
    );
    assert_eq!(
        container.exec(["cat", "/proc/1/cgroup"]).ok().line(),
        "0::/init.scope"
    );
    // A process can still join, and systemd ends on request.
    let status = container.exec(["systemctl", "is-active", "ready.service"]);
    assert_eq!(status.line(), "active");
    container.kill("SIGRTMIN+3").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
    runtime.is_clean();
}

/// What rootless buildkitd writes with `--oci-worker-no-process-sandbox`, and calls: an ordinary
/// container allows no procfs of a user namespace's own, so the step sees the outer one, whose masks
/// stay. rootlesskit has made the user namespace.
#[test]
fn a_build_step_without_a_process_sandbox() {
    super::rootless::user();
    let runtime = Runtime::new();
    let bind = ["rbind", "nosuid", "noexec", "nodev", "ro"];
    let step = runtime
        .bundle()
        .without_namespace("pid")
        .without_namespace("network")
        .without_mount("/proc")
        .without_mount("/sys")
        .mount("/proc", "bind", "/proc", ["rbind"])
        .mount("/sys", "none", "/sys", bind)
        .set("/process/noNewPrivileges", json!(false))
        .set("/linux/maskedPaths", json!(["/sys/firmware"]))
        .set("/linux/readonlyPaths", json!([]))
        .shell(
            "id -u; cat /proc/1/comm; test -c /proc/keys && echo masked
            touch /sys/x 2>/dev/null || echo read-only; exit 7",
        );
    step.write();
    let call = "coracle --root /tmp/state --log /tmp/log --log-format json";
    let script = format!(
        "unshare -U -r -m sh -c '{call} run --bundle /bundle --keep step; echo $?;
            {call} delete step && {call} list --quiet'"
    );
    let outer = with_program(runtime.bundle())
        .folder("/bundle")
        .bind(&step.dir, "/bundle", ["rbind"])
        .shell(&script)
        .user(1000, 1000);
    let output = runtime.run(&outer).ok();
    assert_eq!(output.line(), "0\nsh\nmasked\nread-only\n7");
}

/// What buildkitd writes for `RUN --security=insecure`, devices that the machine lacks among it.
#[test]
fn an_insecure_build_step() {
    let runtime = Runtime::new();
    let device = |path: &str, kind: &str, major: u32, minor: u32| json!({"path": path, "type": kind, "major": major, "minor": minor});
    let devices = json!([
        device("/dev/kmsg", "c", 1, 11),
        device("/dev/cuse", "c", 10, 203),
        device("/dev/fuse", "c", 10, 229),
        device("/dev/kvm", "c", 10, 232),
        device("/dev/net/tun", "c", 10, 200),
        device("/dev/loop-control", "c", 10, 237),
        device("/dev/loop0", "b", 7, 0),
    ]);
    let rules = json!([
        {"allow": true, "type": "c", "access": "rwm"},
        {"allow": true, "type": "b", "access": "rwm"},
    ]);
    let place = format!("/buildkit-{}/step", runtime.marker());
    let bundle = privileged(runtime.bundle())
        .remove("/annotations")
        .set("/linux/devices", devices)
        .set("/linux/resources/devices", rules)
        .set("/linux/cgroupsPath", json!(place))
        .shell(
            "mkdir /m && mount -t tmpfs m /m
            ls /dev/net; stat -c %t:%T /dev/kvm; mknod /dev/y c 10 229 && echo made",
        );
    assert_eq!(runtime.run(&bundle).ok().line(), "tun\na:e8\nmade");
}
