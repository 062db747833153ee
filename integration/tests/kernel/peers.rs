//! What users of other runtimes carry over: crun's annotations and flags.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use coracle_integration::{Bundle, Command, Receiver, Runtime, json, needs, skip, wait_until};

use crate::hooks::{POINTS, shell};

fn annotated(bundle: Bundle, name: &str, value: &str) -> Bundle {
    bundle.set("/annotations", json!({ name: value }))
}

/// A container whose hooks print to both streams.
fn printing(runtime: &Runtime) -> Bundle {
    let print = |bundle: Bundle, point: &&str| {
        let script = format!("echo {point}; echo {point}! >&2");
        bundle.hook(point, shell(&script))
    };
    POINTS.iter().fold(runtime.bundle(), print)
}

#[test]
fn hooks_append_their_output_to_files() {
    let runtime = Runtime::new();
    let [out, err] = ["out", "err"].map(|name| runtime.folder().join(name));
    fs::write(&out, "before\n").unwrap();
    let bundle = printing(&runtime).set(
        "/annotations",
        json!({"run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err}),
    );
    runtime.run(&bundle).ok();
    let lines = |path: &PathBuf| -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(str::to_owned).collect()
    };
    assert_eq!(lines(&out)[0], "before");
    assert_eq!(lines(&out)[1..], POINTS);
    assert_eq!(lines(&err), POINTS.map(|point| format!("{point}!")));
}

#[test]
fn hooks_of_start_append_to_the_file_that_create_opened() {
    let runtime = Runtime::new();
    let out = runtime.folder().join("hooks.log");
    let bundle = annotated(
        printing(&runtime).args(["sleep", "1000"]),
        "run.oci.hooks.stdout",
        out.to_str().unwrap(),
    );
    let container = runtime.start(&bundle);
    assert_eq!(
        fs::read_to_string(&out).unwrap().lines().count(),
        POINTS.len() - 1
    );
    // The program has no descriptor of it.
    let listed = container.shell("ls -l /proc/1/fd").stdout;
    assert!(!listed.contains("hooks.log"), "{listed}");
}

#[test]
fn what_only_one_stream_tells_is_in_the_error() {
    let runtime = Runtime::new();
    let out = runtime.folder().join("out");
    let hook = shell("echo unseen; echo why >&2; exit 3");
    let bundle = runtime.bundle().hook("createContainer", hook);
    let bundle = annotated(bundle, "run.oci.hooks.stdout", out.to_str().unwrap());
    let output = runtime.try_create(&bundle).fails(["exit status 3: why"]);
    assert!(!output.stderr.contains("unseen"), "{output}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "unseen\n");
}

#[test]
fn a_file_for_hooks_that_cannot_be_opened_is_named() {
    let runtime = Runtime::new();
    let link = runtime.folder().join("link");
    std::os::unix::fs::symlink("/tmp/coracle-no-such-file", &link).unwrap();
    for (path, text) in [
        ("/no/such/dir/log", "ENOENT"),
        (link.to_str().unwrap(), "ELOOP"),
    ] {
        let bundle = annotated(printing(&runtime), "run.oci.hooks.stderr", path);
        let named = format!("append the output of hooks to \\\"{path}\\\": ");
        runtime.try_create(&bundle).fails([&named[..], text]);
        runtime.is_clean();
    }
    // Without a hook nothing is opened.
    let bundle = annotated(runtime.bundle(), "run.oci.hooks.stderr", "/no/such/dir/log");
    runtime.run(&bundle).ok();
}

#[test]
fn a_socket_that_the_config_names_gets_the_pidfd() {
    let runtime = Runtime::new();
    let [flag, annotation] = ["flag", "annotation"].map(|name| {
        let path = runtime.folder().join(name);
        Receiver::new(&path)
    });
    let bundle = annotated(
        runtime.bundle(),
        "run.oci.pidfd_receiver",
        annotation.path(),
    );
    let container = runtime.create_with(&bundle, ["--pidfd-socket", flag.path()]);
    for socket in [flag, annotation] {
        let (_, pidfd) = socket.receive();
        let info = format!(
            "/proc/self/fdinfo/{}",
            std::os::fd::AsRawFd::as_raw_fd(&pidfd)
        );
        let info = fs::read_to_string(info).unwrap();
        let line = format!("Pid:\t{}\n", container.pid());
        assert!(info.contains(&line), "{info}");
    }
    let absent = annotated(
        runtime.bundle(),
        "run.oci.pidfd_receiver",
        "/no/such/socket",
    );
    runtime
        .try_create(&absent)
        .fails([r#"annotations[\"run.oci.pidfd_receiver\"]: \"/no/such/socket\": connect: "#]);
}

#[test]
fn a_socket_that_the_config_names_gets_the_listener() {
    let runtime = Runtime::new();
    let socket = Receiver::new(&runtime.folder().join("agent"));
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}]});
    let bundle = runtime.bundle().set("/linux/seccomp", profile);
    let bundle = annotated(bundle, "run.oci.seccomp.receiver", socket.path());
    let _container = runtime.create(&bundle);
    let (text, _) = socket.receive();
    assert!(text.contains("seccompFd"), "{text}");
}

/// `struct sock_filter` of linux/filter.h.
fn instruction(code: u16, yes: u8, no: u8, constant: u32) -> [u8; 8] {
    let [a, b] = code.to_ne_bytes();
    let [c, d, e, f] = constant.to_ne_bytes();
    [a, b, yes, no, c, d, e, f]
}

/// In base64, a program by which making a directory fails with this errno.
fn program(runtime: &Runtime, errno: u32) -> String {
    let number = |call: i64| u32::try_from(call).unwrap();
    let program = [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 1, 0, number(nix::libc::SYS_mkdir)),
        instruction(0x15, 0, 1, number(nix::libc::SYS_mkdirat)),
        instruction(0x06, 0, 0, 0x0005_0000 | errno),
        instruction(0x06, 0, 0, 0x7fff_0000),
    ];
    let file = runtime.folder().join("program");
    fs::write(&file, program.concat()).unwrap();
    Command::new("base64")
        .args(["-w0"])
        .arg(&file)
        .output()
        .ok()
        .stdout
}

#[test]
fn a_seccomp_program_is_taken_whole() {
    if cfg!(not(target_arch = "x86_64")) {
        skip!("needs x86_64");
    }
    let runtime = Runtime::new();
    let name = "run.oci.seccomp_bpf_data";
    // The profile, which would forbid everything, is not used.
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO"});
    let bundle = runtime.bundle().set("/linux/seccomp", profile);
    let bundle = annotated(bundle, name, &program(&runtime, 27));
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    let refused = container.exec(["mkdir", "/tmp/a"]).fails_as(1, []);
    assert!(refused.stderr.contains("File too large"), "{refused}");
    container.exec(["ls", "/"]).ok();
    // A program that feigns success for calls is loaded only after the runtime's last call whose
    // success matters.
    let feigning = annotated(runtime.bundle(), name, &program(&runtime, 0));
    let privileged = feigning.set("/process/noNewPrivileges", json!(false));
    let texts = [name, "set process.noNewPrivileges"];
    runtime.try_create(&privileged).fails(texts);
    let bundle = annotated(runtime.bundle(), name, &program(&runtime, 0));
    let bundle = bundle.set("/process/noNewPrivileges", json!(true));
    runtime.run(&bundle.args(["mkdir", "/no/such/parent"])).ok();
    // Only the kernel checks the program's instructions.
    let bundle = annotated(runtime.bundle(), name, "AAAAAAAAAAA=");
    runtime.try_create(&bundle).fails([
        "1 instructions as given",
        "the kernel takes no such program",
    ]);
}

#[test]
fn an_annotation_that_is_not_obeyed_is_named() {
    let runtime = Runtime::new();
    let bundle = annotated(runtime.bundle(), "run.oci.handler", "wasm");
    let output = runtime.run(&bundle).ok();
    let warning = "annotations[\\\"run.oci.handler\\\"] is not obeyed";
    assert!(output.stderr.contains(warning), "{output}");
    let bundle = annotated(runtime.bundle(), "org.example.handler", "wasm");
    assert_eq!(runtime.run(&bundle).ok().stderr, "");
}

#[test]
fn a_delegated_cgroup_is_inits() {
    needs::version_2();
    let runtime = Runtime::new();
    let bundle = annotated(runtime.bundle(), "run.oci.delegate-cgroup", "inner");
    let bundle = bundle.new_namespace("cgroup").args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    assert_eq!(
        container.exec(["cat", "/proc/1/cgroup"]).stdout,
        "0::/inner\n"
    );
}

#[test]
fn a_delegated_cgroup_takes_version_2() {
    needs::version_1();
    let runtime = Runtime::new();
    let bundle = annotated(runtime.bundle(), "run.oci.delegate-cgroup", "inner");
    runtime.try_create(&bundle).fails([
        r#"config.json: annotations[\"run.oci.delegate-cgroup\"]: \"inner\": only cgroup v2"#,
    ]);
}

#[test]
fn another_file_is_the_config() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["echo", "other"]);
    let folder = bundle.write().dir.clone();
    let file = runtime.folder().join("other.json");
    fs::rename(folder.join("config.json"), &file).unwrap();
    let run = |file: &Path| {
        let command = runtime.command(["run", "--bundle"]).arg(&folder);
        command.arg("--config").arg(file).arg(runtime.id())
    };
    assert_eq!(run(&file).output().ok().stdout, "other\n");
    let output = run(Path::new("/no/such/file")).output();
    output.fails(["read /no/such/file: not found (ENOENT)"]);
}

#[test]
fn kill_and_delete_take_a_pattern() {
    let runtime = Runtime::new();
    let make = |id: &str| {
        let bundle = runtime.bundle().args(["sleep", "1000"]);
        let id = format!("{}{id}", runtime.marker());
        runtime
            .with_bundle("run", &bundle)
            .args(["-d", &id])
            .output()
            .ok();
        id
    };
    let [first, second, other] = ["web1", "web2", "db1"].map(make);
    let pattern = format!("^{}web[0-9]$", runtime.marker());
    let status = |id: &str| {
        let state = runtime.command(["state", id]).output();
        let state: coracle_integration::Value = serde_json::from_str(&state.stdout).unwrap();
        state["status"].as_str().unwrap().to_owned()
    };
    // Without force both refuse, and each is named.
    let refused = runtime.command(["delete", "--regex", &pattern]).output();
    refused.fails([
        &format!("delete {first}: ")[..],
        &format!("; delete {second}: "),
    ]);
    runtime
        .command(["kill", "--regex", &pattern, "KILL"])
        .output()
        .ok();
    for id in [&first, &second] {
        wait_until("its end", || status(id) == "stopped");
    }
    assert_eq!(status(&other), "running");
    // Containers that have ended are left out, not refused.
    runtime.command(["kill", "-r", &pattern]).output().ok();
    runtime.command(["delete", "-r", &pattern]).output().ok();
    let left = runtime.command(["list", "--quiet"]).output().ok().stdout;
    assert_eq!(left, format!("{other}\n"));
    runtime
        .command(["delete", "--force", "--regex", "."])
        .output()
        .ok();
    runtime
        .command(["delete", "--regex", "nothing"])
        .output()
        .ok();
}

/// What a daemon at `path` receives from a command that logs to it.
fn logged(runtime: &Runtime, path: &str, log: &str) -> String {
    let socket = runtime.folder().join("daemon");
    let daemon = UnixDatagram::bind(&socket).unwrap();
    daemon
        .set_read_timeout(Some(std::time::Duration::from_secs(10)))
        .unwrap();
    // In a mount namespace of its own, where the daemon's socket is in its place.
    let folder = Path::new(path).parent().unwrap().display().to_string();
    let script = format!(
        "mount -t tmpfs none {top}; mkdir -p {folder}; touch {path}; \
         mount --bind {socket} {path}; exec \"$@\"",
        top = if path.starts_with("/dev") {
            "/dev"
        } else {
            "/run"
        },
        socket = socket.display(),
    );
    let command = runtime
        .bare()
        .args(["--root", "/no/such/root", "--log", log, "state", "a"]);
    let output = command
        .under("unshare", ["-m", "sh", "-ec", &script, "sh"])
        .output();
    output.fails(["error: state a: container does not exist"]);
    let mut record = [0; 4096];
    let length = daemon.recv(&mut record).unwrap();
    fs::remove_file(&socket).unwrap();
    String::from_utf8_lossy(&record[..length]).into_owned()
}

#[test]
fn records_go_to_the_journal_or_the_system_log() {
    let runtime = Runtime::new();
    let record = logged(&runtime, "/run/systemd/journal/socket", "journald:web");
    let start = "PRIORITY=3\nSYSLOG_IDENTIFIER=web\nMESSAGE=state a: container does not exist; ";
    assert!(record.starts_with(start), "{record}");
    assert!(
        record.ends_with('\n') && record.lines().count() == 3,
        "{record}"
    );
    let record = logged(&runtime, "/dev/log", "syslog:");
    assert!(record.starts_with("<11>coracle["), "{record}");
    assert!(
        record.contains("]: state a: container does not exist; "),
        "{record}"
    );
}

#[test]
fn a_daemon_that_is_not_there_is_an_error() {
    let runtime = Runtime::new();
    let command = runtime.bare().args(["--log", "journald:web", "state", "a"]);
    let script = "mount -t tmpfs none /run; exec \"$@\"";
    let output = command
        .under("unshare", ["-m", "sh", "-ec", script, "sh"])
        .output();
    output.fails([r#"--log \"journald:web\": not found (ENOENT)"#]);
}
