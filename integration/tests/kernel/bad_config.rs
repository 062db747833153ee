//! Configs that `create` must refuse in one line that names the place, with nothing left behind.

use std::fs;
use std::path::PathBuf;

use coracle_integration::{Bundle, Output, Runtime, Value, json};

/// The runtime, and one bundle that is written anew for each row.
struct Table {
    runtime: Runtime,
    bundle: Bundle,
    log: PathBuf,
}

impl Table {
    fn new() -> Self {
        let runtime = Runtime::new();
        let mut bundle = runtime.bundle();
        bundle.config = good();
        fs::create_dir(bundle.dir.join("data")).unwrap();
        let log = runtime.folder().join("log");
        Self {
            runtime,
            bundle,
            log,
        }
    }

    /// `create` of this text. With a log file only the message stands on standard error.
    fn create(&self, config: impl AsRef<[u8]>) -> Output {
        fs::write(self.bundle.dir.join("config.json"), config).unwrap();
        let command = self.runtime.bare().arg("--root").arg(self.runtime.root());
        let command = command.arg("--log").arg(&self.log).args([
            "--log-format",
            "json",
            "create",
            "--bundle",
        ]);
        command
            .arg(&self.bundle.dir)
            .arg(self.runtime.id())
            .output()
    }

    /// The fault in how a text is refused; `None` if there is none.
    fn verdict(&self, config: impl AsRef<[u8]>, place: &str) -> Option<String> {
        let output = self.create(config);
        let text = &output.stderr;
        let is_right = output.code == 1
            && text.contains(&format!(" config.json: {place}: "))
            && text.ends_with('\n')
            && text.trim_end_matches('\n').lines().count() == 1
            && text.chars().filter(|one| one.is_control()).count() == 1
            && output.stdout.is_empty();
        let left = fs::read_dir(self.runtime.root()).map_or(0, Iterator::count);
        (!is_right || left != 0).then(|| format!("{place}: {left} left\n{output}"))
    }
}

/// A small good config.
fn good() -> Value {
    let namespaces = ["pid", "network", "mount", "ipc", "uts", "cgroup"];
    let namespaces = namespaces.map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "hostname": "web",
        "process": {
            "cwd": "/",
            "args": ["sh"],
            "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "type": "none", "source": "data", "options": ["rbind", "ro"]},
        ],
        "linux": {"namespaces": namespaces},
    })
}

/// The good config that a heading of the table names.
fn base(bundle: &Bundle, heading: &str) -> Bundle {
    let bundle = bundle.clone();
    match heading {
        "plain" => bundle,
        "user namespace" => bundle.user_namespace(),
        "time namespace" => bundle.new_namespace("time"),
        "terminal" => bundle.set("/process/terminal", json!(true)),
        "without uts" => bundle.remove("/hostname").without_namespace("uts"),
        other => bundle.without_namespace(other.strip_prefix("without ").expect("a heading")),
    }
}

const ROWS: &str = include_str!("bad_config.txt");

fn headings() -> impl Iterator<Item = &'static str> {
    ROWS.lines()
        .filter_map(|line| line.strip_prefix('[')?.strip_suffix(']'))
}

#[test]
fn the_good_configs_are_good() {
    for heading in headings().filter(|heading| *heading != "terminal") {
        let table = Table::new();
        let output = table.create(base(&table.bundle, heading).config.to_string());
        assert_eq!(output.code, 0, "{heading}\n{output}");
    }
}

/// The spoilt config of a row, and the place that the refusal is to name.
fn spoilt(base: &Bundle, row: &str) -> (Value, String) {
    let (change, place) = row.rsplit_once(" => ").expect("a row");
    let (pointer, value) = change.split_once(' ').expect("a pointer and a value");
    let value = serde_json::from_str(value).unwrap_or_else(|error| panic!("{row}: {error}"));
    let bundle = match pointer.strip_suffix("/-") {
        Some(list) => base.clone().push(list, value),
        None => base.clone().set(pointer, value),
    };
    (bundle.config, place.to_owned())
}

#[test]
fn bad_values_are_refused_by_their_place() {
    let table = Table::new();
    let (mut wrong, mut count) = (Vec::new(), 0);
    let mut good = table.bundle.clone();
    for line in ROWS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(heading) = line.strip_prefix('[') {
            good = base(&table.bundle, heading.trim_end_matches(']'));
            continue;
        }
        let (config, place) = spoilt(&good, line);
        wrong.extend(table.verdict(config.to_string(), &place));
        count += 1;
    }
    table.runtime.is_clean();
    assert!(count >= 300, "only {count} rows");
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn what_is_no_config_is_refused() {
    let table = Table::new();
    let rows: [(&[u8], &str); 13] = [
        (b"", "line 1, column 0"),
        (b"{", "line 1, column 1"),
        (b"null", "found null"),
        (b"[]", "found an array"),
        (b"7", "found a number"),
        (b"{\"a\":1,}", "line 1, column 8"),
        (b"{\n  \"a\": tru}", "line 2, column 11"),
        (b"{} {}", "line 1, column 4"),
        (b"{}\0", "line 1, column 3"),
        (b"{\"a\": \"\xff\"}", "line 1, column 8: not UTF-8"),
        (b"\xef\xbb\xbf{}", "line 1, column 1"),
        (b"{\"a\": 01}", "line 1, column 8"),
        (b"\xde\xad\xbe\xef", "line 1, column"),
    ];
    for (text, expected) in rows {
        table.create(text).fails(["config.json: ", expected]);
    }
    table.runtime.is_clean();
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let table = Table::new();
    let good = table.bundle.config.to_string();
    let twice = good.replacen("\"args\"", "\"cwd\":\"/x\",\"args\"", 1);
    table
        .create(twice)
        .fails(["config.json: process: ", "\"cwd\""]);
    let twice = good.replacen("\"linux\"", "\"linux\":{},\"linux\"", 1);
    table.create(twice).fails(["config.json: ", "\"linux\""]);
}

/// A message names the file that was read.
#[test]
fn another_file_is_named() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    let wrong = bundle.clone().set("/process/cwd", json!("relative"));
    let file = runtime
        .folder()
        .file("other.json", &wrong.config.to_string());
    let expected = format!("{}: process.cwd: ", file.display());
    let id = runtime.id();
    for (verb, words) in [
        ("create", &[id.as_str()][..]),
        ("explain", &[]),
        ("check", &[]),
    ] {
        let command = runtime.with_bundle(verb, &bundle);
        let output = command.arg("--config").arg(&file).args(words).output();
        output.fails([&expected]);
    }
    let lacking = bundle.clone().mount("/x", "nosuchfs", "x", []);
    fs::write(&file, lacking.config.to_string()).unwrap();
    let check = runtime.with_bundle("check", &bundle);
    let found = check.arg("--config").arg(&file).output().stdout;
    let expected = format!("{}: mounts[", file.display());
    assert!(
        found.contains(&expected) && !found.contains("config.json"),
        "{found}"
    );
    runtime.is_clean();
}

#[test]
fn a_missing_config_is_refused() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    let create = |dir: &str| {
        let create = runtime.command(["create", "--bundle", dir]);
        create.arg(runtime.id()).output()
    };
    create(bundle.dir.to_str().unwrap()).fails(["config.json", "not found"]);
    create("/no/such/bundle").fails(["/no/such/bundle"]);
    fs::create_dir(bundle.dir.join("config.json")).unwrap();
    create(bundle.dir.to_str().unwrap()).fails(["config.json"]);
    fs::remove_dir(bundle.dir.join("config.json")).unwrap();
    // It must not wait for somebody to write into it.
    let fifo = bundle.dir.join("config.json");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    create(bundle.dir.to_str().unwrap()).fails(["config.json"]);
    runtime.is_clean();
}

#[test]
fn huge_configs_are_refused() {
    let table = Table::new();
    let blanks = " ".repeat(17 << 20);
    table.create(blanks).fails(["config.json"]);
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(200), "]".repeat(200));
    table.create(deep).fails(["config.json"]);
    let mount = json!({"destination": "/x", "type": "tmpfs", "source": "x"});
    let many = base(&table.bundle, "plain").set("/mounts", json!(vec![mount; 10_001]));
    assert_eq!(table.verdict(many.config.to_string(), "mounts"), None);
    let range = |index: u32| json!({"containerID": index, "hostID": index, "size": 1});
    let ranges: Vec<Value> = (0..341).map(range).collect();
    let many = base(&table.bundle, "user namespace").set("/linux/uidMappings", json!(ranges));
    assert_eq!(
        table.verdict(many.config.to_string(), "linux.uidMappings"),
        None
    );
    table.runtime.is_clean();
}

/// Values that only the machine can judge: found before or during the set-up, undone in any case.
#[test]
fn what_the_machine_refuses_is_undone() {
    let table = Table::new();
    let (tmpfs, bind) = ("tmpfs", json!(["bind"]));
    let rows = [
        ("/root/path", json!("missing"), "root.path"),
        ("/root/path", json!("config.json"), "root.path"),
        (
            "/mounts/1/source",
            json!("/no/such/source"),
            "mounts[1].source",
        ),
        ("/mounts/0/type", json!("nosuchfs"), "/proc"),
        ("/mounts/1/destination", json!("/bin/sh"), "/bin/sh"),
        (
            "/linux/namespaces/0/path",
            json!("/no/such/ns"),
            "linux.namespaces[0].path",
        ),
        (
            "/linux/namespaces/0/path",
            json!("/proc/self/ns/uts"),
            "linux.namespaces[0].path",
        ),
        (
            "/linux/devices",
            json!([{"path": "/bin/sh", "type": "c", "major": 1, "minor": 3}]),
            "/bin/sh",
        ),
        ("/process/args", json!(["/no/such/program"]), "/no/such"),
        ("/process/cwd", json!("/bin/sh"), "/bin/sh"),
        (
            "/linux/netDevices",
            json!({"nosuch0": {}}),
            "linux.netDevices",
        ),
        (
            "/linux/sysctl",
            json!({"net.no_such_parameter": "1"}),
            "net.no_such_parameter",
        ),
        (
            "/linux/sysctl",
            json!({"net.ipv4.ip_forward": "many"}),
            "net.ipv4.ip_forward",
        ),
        (
            "/mounts/1",
            json!({"destination": "/x", "type": tmpfs, "source": "x", "options": ["size=lots"]}),
            "/x",
        ),
        (
            "/mounts/1",
            json!({"destination": "/x", "source": "/dev/null/y", "options": bind}),
            "mounts[1].source",
        ),
        (
            "/hooks/createRuntime",
            json!([{"path": "/no/such/hook"}]),
            "/no/such/hook",
        ),
        (
            "/hooks/createContainer",
            json!([{"path": "/bin/false"}]),
            "/bin/false",
        ),
    ];
    for (pointer, value, text) in rows {
        let bundle = table.bundle.clone().set(pointer, value);
        table.create(bundle.config.to_string()).fails([text]);
        table.runtime.is_clean();
    }
}

#[test]
fn the_log_has_one_record() {
    let table = Table::new();
    let bad = table
        .bundle
        .clone()
        .set("/process/cwd", json!("\u{1b}[31m\n\"x"));
    let output = table
        .create(bad.config.to_string())
        .fails(["config.json: process.cwd: "]);
    let log = fs::read_to_string(&table.log).unwrap();
    let record: Value = serde_json::from_str(&log).unwrap_or_else(|e| panic!("{e}\n{log}"));
    assert_eq!(record["level"], "error");
    let message = record["msg"].as_str().unwrap();
    assert_eq!(output.stderr, format!("error: {message}\n"));
}

#[test]
fn run_refuses_as_create_does() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().set("/process/user/uid", json!(-1));
    runtime
        .run(&bundle)
        .fails(["config.json: process.user.uid: "]);
    let output = runtime.run_with(&bundle, ["--detach"]);
    output.fails(["config.json: process.user.uid: "]);
    runtime.is_clean();
}

#[test]
fn unknown_properties_are_ignored() {
    let table = Table::new();
    let mut bundle = table.bundle.clone();
    let foreign = ["windows", "solaris", "vm", "zos", "freebsd", "x-own"];
    for name in foreign.map(|name| format!("/{name}")) {
        bundle = bundle.set(&name, json!({"anything": [1, null, {"at": "all"}]}));
    }
    for name in ["process", "linux", "root", "mounts/0", "linux/resources"] {
        bundle = bundle.set(&format!("/{name}/newerThanWe"), json!([{}]));
    }
    table.create(bundle.config.to_string()).ok();
}

#[test]
fn absent_null_and_empty_are_fine() {
    for (pointer, value) in [
        ("/hooks", json!(null)),
        ("/hooks", json!({"createRuntime": null, "poststop": []})),
        ("/annotations", json!({})),
        ("/linux/resources", json!(null)),
        ("/linux/resources", json!({"memory": {}, "pids": null})),
        ("/process/rlimits", json!(null)),
        ("/process/capabilities", json!({})),
        ("/linux/devices", json!([])),
        ("/mounts/0/options", json!(null)),
    ] {
        let table = Table::new();
        let bundle = table.bundle.clone().set(pointer, value);
        table.create(bundle.config.to_string()).ok();
    }
}
