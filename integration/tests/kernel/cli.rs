//! The command line as callers use it: refusals, records, spellings, and the shapes of output.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use coracle_integration::{
    Bundle, Command, Layout, Output, Runtime, Value, copy_program, groups, json, machine, needs,
    program,
};

/// The table of `coracle-cli`'s own tests: `ARGUMENTS => MESSAGE`.
const BAD: &str = include_str!("../../../crates/cli/src/verbs/lines/bad.txt");

/// Arguments and message of each line.
fn bad_lines() -> Vec<(Vec<&'static str>, &'static str)> {
    let lines = BAD
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("# "));
    let parse = |line: &'static str| {
        let (arguments, message) = line.split_once(" => ").expect("a line of the table");
        let words = arguments.split(' ').filter(|word| !word.is_empty());
        (
            words
                .map(|word| if word == "''" { "" } else { word })
                .collect(),
            message,
        )
    };
    let parsed: Vec<_> = lines.map(parse).collect();
    assert!(parsed.len() >= 60, "only {} lines", parsed.len());
    parsed
}

/// The exit code of a refusal.
fn code_of(arguments: &[&str], message: &str) -> i32 {
    match arguments.first() {
        _ if message.starts_with("No help topic") => 3,
        Some(&"exec") => 255,
        _ => 1,
    }
}

#[test]
fn bad_lines_are_refused_in_one_record() {
    let runtime = Runtime::new();
    for (arguments, message) in bad_lines() {
        let output = runtime.bare().args(&arguments).output();
        let quoted = message.replace('\\', "\\\\").replace('"', "\\\"");
        let record = format!("level=error msg=\"{quoted}\"");
        let output = output.fails_as(code_of(&arguments, message), [record.as_str()]);
        let usage = output.stdout.lines().next().unwrap_or_default();
        assert!(usage.is_empty() || usage == "Incorrect Usage.", "{output}");
    }
}

/// The records of a log, parsed.
fn records(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .map(|line| line.parse().expect("a record of JSON"))
        .collect()
}

#[track_caller]
fn only_record(log: &Path) -> Value {
    let records = records(log);
    assert_eq!(records.len(), 1, "{records:?}");
    let record = records[0].clone();
    let keys = record.as_object().unwrap().keys();
    let more = ["code", "path", "errno", "stage", "hint"];
    let keys: Vec<_> = keys.filter(|key| !more.contains(&key.as_str())).collect();
    assert_eq!(keys, ["level", "msg", "time"]);
    assert!(record["code"].as_str().unwrap().contains('.'), "{record}");
    assert_eq!(record["level"], "error");
    let time = record["time"].as_str().unwrap();
    assert!(
        time.len() >= 20 && time.ends_with('Z') && time.contains('T'),
        "{time}"
    );
    record
}

#[test]
fn bad_lines_are_logged_as_one_record() {
    let runtime = Runtime::new();
    let log = runtime.folder().join("log");
    for (arguments, message) in bad_lines() {
        let command = runtime
            .bare()
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "json"]);
        let output = command.args(&arguments).output();
        assert_eq!(output.code, code_of(&arguments, message), "{output}");
        assert_eq!(output.stderr, format!("error: {message}\n"), "{output}");
        assert_eq!(only_record(&log)["msg"], message);
        fs::remove_file(&log).unwrap();
    }
}

#[test]
fn bad_lines_touch_nothing() {
    let runtime = Runtime::new();
    for (arguments, _) in bad_lines() {
        runtime
            .bare()
            .arg("--root")
            .arg(runtime.root())
            .args(&arguments)
            .output();
    }
    assert!(!runtime.root().exists());
    runtime.is_clean();
}

fn logged(runtime: &Runtime, log: &Path) -> Command {
    let command = runtime.bare().arg("--root").arg(runtime.root());
    command.arg("--log").arg(log).arg("--log-format=json")
}

#[test]
fn failures_are_one_record_of_json() {
    let runtime = Runtime::new();
    let hook = json!({"path": "/bin/false"});
    let warned = runtime
        .bundle()
        .set("/process/capabilities/bounding", json!(["CAP_FUTURE"]));
    for (bundle, text) in [
        (
            runtime.bundle().args(["/missing"]),
            "no such file or directory",
        ),
        (
            runtime.bundle().args(["missing"]),
            "executable file not found in $PATH",
        ),
        (runtime.bundle().args(["/etc/passwd"]), "permission denied"),
        (
            runtime.bundle().hook("createRuntime", hook.clone()),
            "error running createRuntime hook #0: ",
        ),
        (
            runtime.bundle().hook("startContainer", hook),
            "error running startContainer hook #0: ",
        ),
        (
            runtime.bundle().set("/ociVersion", json!("9.9")),
            "ociVersion",
        ),
        (warned.args(["/missing"]), "no such file or directory"),
    ] {
        let log = runtime.folder().join("log");
        let command = logged(&runtime, &log)
            .args(["run", "--bundle"])
            .arg(&bundle.write().dir);
        let output = command.arg(runtime.id()).output().fails([text]);
        let message = only_record(&log)["msg"].as_str().unwrap().to_owned();
        assert_eq!(output.stderr, format!("error: {message}\n"));
        assert_eq!(output.stdout, "");
        fs::remove_file(log).unwrap();
    }
}

#[test]
fn failures_are_appended() {
    let runtime = Runtime::new();
    let log = runtime.folder().file(
        "log",
        "{\"level\":\"info\",\"msg\":\"before\",\"time\":\"\"}\n",
    );
    for _ in 0..2 {
        logged(&runtime, &log)
            .args(["state", "absent"])
            .output()
            .fails(["does not exist"]);
    }
    let records = records(&log);
    assert_eq!(records.len(), 3);
    assert_eq!(records[0]["msg"], "before");
    assert_eq!(fs::metadata(log).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn a_success_logs_nothing() {
    let runtime = Runtime::new();
    let (log, id) = (runtime.folder().join("log"), runtime.id());
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let create = logged(&runtime, &log)
        .args(["create", "-b"])
        .arg(&bundle.write().dir);
    create.arg(&id).output().ok();
    for arguments in [
        vec!["start", &id],
        vec!["state", &id],
        vec!["exec", &id, "true"],
        vec!["kill", &id, "9"],
        vec!["delete", "--force", &id],
        vec!["delete", "--force", &id],
    ] {
        let output = logged(&runtime, &log).args(&arguments).output().ok();
        assert!(output.stderr.is_empty(), "{output}");
    }
    assert_eq!(fs::read_to_string(log).unwrap(), "");
}

#[test]
fn the_log_is_text_by_default() {
    let runtime = Runtime::new();
    let log = runtime.folder().join("log");
    let command = runtime
        .bare()
        .arg("--log")
        .arg(&log)
        .args(["state", "absent"]);
    command.output().fails(["error: "]);
    let text = fs::read_to_string(log).unwrap();
    assert!(
        text.starts_with("time=\"") && text.contains(" level=error msg=\""),
        "{text}"
    );
    assert!(text.ends_with("\"\n"), "{text}");
}

#[test]
fn on_a_terminal_the_record_is_short() {
    let runtime = Runtime::new();
    let mut terminal = coracle_integration::terminal::Terminal::new();
    terminal
        .attach(runtime.command(["state", "absent"]))
        .output()
        .exits(1);
    terminal.expect("ERRO[0000] ");
    terminal.expect("does not exist; looked in ");
}

#[test]
fn a_log_that_cannot_be_opened_is_told() {
    let runtime = Runtime::new();
    for path in ["/no/such/folder/log", "/", "/etc/passwd/log"] {
        let command = runtime.bare().args(["--log", path, "features"]);
        let output = command.output().fails(["--log", path]);
        assert_eq!(output.stdout, "");
    }
}

#[test]
fn a_log_is_not_opened_through_a_link() {
    let runtime = Runtime::new();
    let precious = runtime.folder().file("precious", "data");
    let log = runtime.folder().join("log");
    symlink(&precious, &log).unwrap();
    logged(&runtime, &log)
        .args(["state", "absent"])
        .output()
        .fails(["--log"]);
    assert_eq!(fs::read_to_string(precious).unwrap(), "data");
}

#[test]
fn a_log_may_be_stderr() {
    let runtime = Runtime::new();
    for path in ["/dev/stderr", "/proc/self/fd/2"] {
        let output = logged(&runtime, Path::new(path))
            .args(["state", "absent"])
            .output();
        assert!(output.fails(["does not exist"]).stderr.starts_with('{'));
    }
}

#[test]
fn debug_says_more() {
    let runtime = Runtime::new();
    let log = runtime.folder().join("log");
    logged(&runtime, &log)
        .args(["--debug", "state", "absent"])
        .output()
        .fails([]);
    let records = records(&log);
    assert!(records.len() > 1, "{records:?}");
    assert!(
        records.iter().any(|record| record["level"] == "debug"),
        "{records:?}"
    );
    // Engines show the last record.
    assert_eq!(records.last().unwrap()["level"], "error");
}

#[test]
fn debug_tells_every_step() {
    let runtime = Runtime::new();
    let (log, id) = (runtime.folder().join("log"), runtime.id());
    let hook = json!({"path": "/bin/true"});
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let bundle = bundle.hook("createRuntime", hook.clone());
    let bundle = bundle.hook("poststart", hook).write().dir.clone();
    let bundle = bundle.to_str().unwrap();
    let (user, affinity) = (json!({"uid": 0, "gid": 0}), json!({"initial": "0"}));
    let config = json!({"args": ["true"], "cwd": "/", "user": user, "execCPUAffinity": affinity});
    let process = runtime.folder().file("process", &config.to_string());
    let process = process.to_str().unwrap();
    let mut verbs = vec![
        (
            vec!["create", "-b", bundle, &id],
            "config.json|planned |cloned init, process |\
            init: namespaces: |init: mounts: mount proc on /proc|\
            ran hook createRuntime[0] /bin/true|init: root: pivot_root|\
            init: user: set no_new_privs|created: |wrote ",
        ),
        (
            vec!["start", &id],
            "let init go on|the program runs|ran hook poststart[0]",
        ),
        (
            vec!["exec", "-p", process, &id],
            "(affinity: 0x1)|cloned process |\
            init: program: execute true|the program runs",
        ),
        (vec!["state", &id], "record.json"),
        (vec!["list"], "record.json"),
        (vec!["kill", &id, "9"], "sent signal 9 to init"),
        (
            vec!["delete", "--force", &id],
            "no process is left|removed ",
        ),
    ];
    if machine().layout != Layout::None {
        verbs.insert(2, (vec!["pause", &id], "paused every process"));
        verbs.insert(3, (vec!["resume", &id], "resumed every process"));
        verbs.insert(
            4,
            (vec!["update", "--pids-limit=50", &id], "wrote the limits"),
        );
    }
    for (arguments, steps) in verbs {
        let command = logged(&runtime, &log).arg("--debug").args(&arguments);
        command.output().ok();
        let records = records(&log);
        let mut rest = records.iter();
        for step in steps.split('|') {
            let is_told = |record: &Value| record["msg"].as_str().unwrap().contains(step);
            assert!(rest.any(is_told), "{arguments:?}: {step}: {records:?}");
        }
        let is_debug = |record: &Value| record["level"] == "debug";
        assert!(records.iter().all(is_debug), "{records:?}");
        fs::remove_file(&log).unwrap();
    }
}

/// The stages of a plan are named in two places. Hooks of the runtime are logged by other words.
#[test]
fn debug_leaves_no_planned_step_out() {
    let runtime = Runtime::new();
    let (log, id) = (runtime.folder().join("log"), runtime.id());
    let hook = json!({"path": "/bin/true"});
    let in_container = json!({"path": "/bin/busybox", "args": ["true"]});
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let bundle = bundle.hook("createContainer", hook);
    let bundle = bundle.hook("startContainer", in_container);
    let bundle = bundle.set("/linux/resources/pids", json!({"limit": 50}));
    let bundle = bundle.write().dir.clone();
    let bundle = bundle.to_str().unwrap();
    for arguments in [
        &["run", "-d", "-b", bundle, &id][..],
        &["exec", &id, "true"],
    ] {
        let command = logged(&runtime, &log).arg("--debug").args(arguments);
        command.output().ok();
        let records = records(&log);
        let lines: Vec<_> = records.iter().map(|r| r["msg"].as_str().unwrap()).collect();
        let planned = lines.iter().find_map(|line| {
            let count = line.strip_prefix("planned ")?.strip_suffix(" steps")?;
            count.parse::<usize>().ok()
        });
        let is_step = |line: &&&str| line.starts_with("init: ") || line.starts_with("runtime: ");
        let done = lines.iter().filter(is_step).count();
        assert_eq!(planned, Some(done), "{arguments:?}: {lines:#?}");
        fs::remove_file(&log).unwrap();
    }
    runtime.command(["delete", "--force", &id]).output().ok();
}

#[test]
fn log_levels_are_obeyed() {
    let runtime = Runtime::new();
    for (level, count) in [("error", 1), ("warning", 1), ("info", 1), ("debug", 2)] {
        let log = runtime.folder().join(level);
        let command = logged(&runtime, &log).args(["--log-level", level, "state", "absent"]);
        command.output().fails([]);
        assert_eq!(records(&log).len(), count, "{level}");
    }
    let log = runtime.folder().join("both");
    let command = logged(&runtime, &log).args(["--debug", "--log-level", "error"]);
    command.args(["state", "absent"]).output().fails([]);
    only_record(&log);
}

#[test]
fn a_message_is_one_line() {
    let runtime = Runtime::new();
    let log = runtime.folder().join("log");
    let hostile = "/a\nb\u{1b}[31m\"\\\u{7f}é";
    let bundle = runtime.bundle().args([hostile]);
    let command = logged(&runtime, &log)
        .args(["run", "-b"])
        .arg(&bundle.write().dir);
    let output = command.arg(runtime.id()).output().fails(["/a"]);
    assert!(!output.stderr.contains('\u{1b}'), "{output}");
    only_record(&log);
}

#[test]
fn global_flags_stand_behind_the_verb_too() {
    let runtime = Runtime::new();
    let root = runtime.root().to_str().unwrap();
    let (log, id) = (runtime.folder().join("log"), runtime.id());
    let bundle = runtime.bundle().args(["sleep", "1000"]);
    let create = ["run", "--root", root, "-d", "--bundle"];
    let create = runtime.bare().args(create).arg(&bundle.write().dir);
    create.arg(&id).output().ok();
    let list = runtime.bare().args(["list", "-q", "--root", root]);
    assert_eq!(list.output().ok().stdout, format!("{id}\n"));
    // What follows the container's id is its own.
    let exec = [
        "exec", "--root", root, &id, "echo", "--root", "/", "--debug",
    ];
    let echoed = runtime.bare().args(exec).output().ok();
    assert_eq!(echoed.stdout, "--root / --debug\n");
    let absent = ["state", "absent", "--root", root, "--log-format", "json"];
    let absent = runtime.bare().args(absent).arg("--log").arg(&log);
    absent.output().fails(["does not exist"]);
    assert!(only_record(&log)["msg"].to_string().contains("absent"));
}

#[test]
fn flags_are_spelled_in_every_way() {
    let runtime = Runtime::new();
    let (log, bundle) = (runtime.folder().join("log"), runtime.bundle());
    let (dir, log) = (bundle.write().dir.to_str().unwrap(), log.to_str().unwrap());
    let root = runtime.root().to_str().unwrap();
    for (global, verb) in [
        (
            vec!["--root", root, "--log", log],
            vec!["create", "--bundle", dir, "ID"],
        ),
        (
            vec!["-root", root, "-log", log],
            vec!["create", "-bundle", dir, "ID"],
        ),
        (
            vec![&format!("--root={root}"), &format!("--log={log}")],
            vec!["create", "-b", dir, "ID"],
        ),
        (
            vec![&format!("-root={root}"), "--log-format=json"],
            vec!["create", &format!("-b={dir}"), "ID"],
        ),
        (
            vec!["--log-format", "json", "--root", root],
            vec!["create", "ID", "--bundle", dir],
        ),
        (
            vec!["--debug=false", "--root", root],
            vec!["create", &format!("--bundle={dir}"), "ID"],
        ),
        (
            vec!["--systemd-cgroup=false", "--root", root],
            vec!["create", "--no-pivot=false", "-b", dir, "ID"],
        ),
        (
            vec!["--rootless", "auto", "--root", root],
            vec!["create", "-b", dir, "--", "ID"],
        ),
        (
            vec!["--rootless=true", "--root", root],
            vec!["create", "--preserve-fds=0", "-b", dir, "ID"],
        ),
        (
            vec!["--cgroup-manager=cgroupfs", "--root", root],
            vec!["create", "--no-new-keyring", "-b", dir, "ID"],
        ),
    ] {
        let id = runtime.id();
        let verb = verb
            .iter()
            .map(|word| if *word == "ID" { id.as_str() } else { word });
        runtime.bare().args(&global).args(verb).output().ok();
        for delete in [
            ["delete", &id, "-f"],
            ["delete", "-force", &id],
            ["delete", "--force=true", &id],
        ] {
            runtime.bare().args(&global).args(delete).output().ok();
        }
    }
}

#[test]
fn a_switch_can_be_off() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let off = |flag: &str| runtime.command(["delete", flag, &container.id]).output();
    off("--force=false").fails(["running"]);
    off("-f=0").fails(["running"]);
    off("--force=F").fails(["running"]);
    off("--force=1").ok();
}

#[test]
fn a_double_dash_ends_the_flags() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let command = runtime.command(["kill", &container.id, "--", "-9"]);
    command.output().fails(["unknown signal \\\"-9\\\""]);
    let command = runtime.command(["exec", "--", &container.id, "echo", "-n", "x"]);
    assert_eq!(command.output().ok().stdout, "x");
}

#[test]
fn help_is_printed() {
    let runtime = Runtime::new();
    for arguments in [vec![], vec!["--help"], vec!["-h"], vec!["help"]] {
        let output = runtime.bare().args(&arguments).output().ok();
        for verb in [
            "create", "start", "state", "kill", "delete", "exec", "features",
        ] {
            assert!(
                output.stdout.contains(&format!("\n  {verb} ")),
                "{verb}: {output}"
            );
        }
    }
    for verb in [
        "create", "start", "state", "kill", "delete", "run", "exec", "list", "ps", "spec",
    ] {
        let by_flag = runtime.bare().args([verb, "--help"]).output().ok();
        let by_verb = runtime.bare().args(["help", verb]).output().ok();
        assert_eq!(by_flag.stdout, by_verb.stdout);
        assert!(by_flag.stdout.contains("Usage: "), "{by_flag}");
        assert_eq!(
            runtime.bare().args([verb, "-h"]).output().ok().stdout,
            by_flag.stdout
        );
    }
}

#[test]
fn the_version_is_what_engines_read() {
    let runtime = Runtime::new();
    for flags in [
        ["--version", "--debug"],
        ["-v", "--debug"],
        ["--root=/no/such", "--version"],
    ] {
        let text = runtime.bare().args(flags).output().ok().stdout;
        assert!(text.starts_with("coracle version "), "{text}");
        assert!(
            text.lines().any(|line| line.starts_with("spec: 1.")),
            "{text}"
        );
    }
}

/// go-runc reads a version only after runc's name.
#[test]
fn the_version_goes_by_the_files_name() {
    for (name, expected) in [("runc", "runc"), ("crun", "coracle"), ("other", "coracle")] {
        let runtime = Runtime::new();
        let copy = runtime.folder().join(name);
        copy_program(program(), &copy);
        let text = runtime.program(&copy).bare().arg("--version").output().ok();
        let (first, version) = text.stdout.split_once(" version ").unwrap();
        assert_eq!(first, expected, "{text}");
        assert!(version.starts_with(char::is_numeric), "{text}");
    }
}

#[test]
fn an_unknown_verb_is_told() {
    let runtime = Runtime::new();
    runtime
        .bare()
        .arg("frobnicate")
        .output()
        .fails_as(3, ["No help topic for 'frobnicate'"]);
}

fn parsed(output: &Output) -> Value {
    output
        .stdout
        .parse()
        .unwrap_or_else(|error| panic!("{error}\n{output}"))
}

#[test]
fn features_are_json() {
    let runtime = Runtime::new();
    let output = runtime.bare().arg("features").output().ok();
    assert_eq!(output.stderr, "");
    let features = parsed(&output);
    assert!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string());
    let texts = |place: &Value| -> Vec<String> {
        let list = place
            .as_array()
            .unwrap_or_else(|| panic!("no list: {output}"));
        list.iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    for (place, some) in [
        (&features["hooks"], "createRuntime"),
        (&features["mountOptions"], "rro"),
        (&features["linux"]["namespaces"], "user"),
        (&features["linux"]["capabilities"], "CAP_SYS_ADMIN"),
    ] {
        let list = texts(place);
        assert!(
            list.is_sorted() && list.iter().any(|text| text == some),
            "{list:?}"
        );
    }
    assert_eq!(
        features["linux"]["mountExtensions"]["idmap"]["enabled"],
        true
    );
    for version in ["v1", "v2"] {
        assert_eq!(features["linux"]["cgroup"][version], true);
    }
}

#[test]
fn info_is_of_this_host() {
    let runtime = Runtime::new();
    let info = |format: &[&str]| runtime.bare().arg("info").args(format).output().ok();
    let json = parsed(&info(&["--format", "json"]));
    let layout = match machine().layout {
        Layout::V2 => json!("v2"),
        Layout::V1 => json!("v1"),
        Layout::Hybrid => json!("hybrid"),
        Layout::None => json!(null),
    };
    assert_eq!(json["cgroups"], layout, "{json}");
    assert_eq!(json["uid"], 0);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let kernel = json["kernel"].as_str().unwrap();
    assert!(release.starts_with(&format!("{kernel}.")), "{json}");
    let text = info(&[]).stdout;
    let is_kernel = |line: &str| line.starts_with("kernel ") && line.ends_with(kernel);
    assert!(text.lines().any(is_kernel), "{text}");
    assert_eq!(text.lines().count(), json.as_object().unwrap().len());
}

#[test]
fn list_has_templates_and_filters() {
    let runtime = Runtime::new();
    let front = runtime
        .bundle()
        .set("/annotations", json!({"tier": "front"}))
        .args(["sleep", "1000"]);
    let (front, back) = (runtime.start(&front), runtime.create(&runtime.bundle()));
    let list = |arguments: &[&str]| {
        let output = runtime.command(["list"]).args(arguments).output().ok();
        sorted_lines(&output)
    };
    let template = "{{.ID}} {{.Pid}} {{.Status}} {{.Owner}} <{{.Annotation.tier}}>";
    let mut expected = [
        format!("{} {} running root <front>", front.id, front.pid()),
        format!("{} {} created root <>", back.id, back.pid()),
    ];
    expected.sort_unstable();
    assert_eq!(list(&["--format", template]), expected);
    let ages = list(&["-f", "{{.Age}}"]);
    let is_age = |age: &String| age.contains(" second") || age.contains(" minute");
    assert!(ages.len() == 2 && ages.iter().all(is_age), "{ages:?}");
    for (filters, expected) in [
        (vec!["status=running"], vec![&front.id]),
        (vec!["status=created"], vec![&back.id]),
        (vec!["status=stopped"], vec![]),
        (vec!["annotation=tier=front"], vec![&front.id]),
        (vec!["annotation=tier", "status=created"], vec![]),
        (vec![&front.id, &back.id], vec![&front.id, &back.id]),
    ] {
        let mut arguments = vec!["-q".to_owned()];
        for filter in &filters {
            let key = if filter.contains('=') { "" } else { "id=" };
            arguments.extend(["--filter".to_owned(), format!("{key}{filter}")]);
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let mut expected: Vec<_> = expected.into_iter().cloned().collect();
        expected.sort_unstable();
        assert_eq!(list(&arguments), expected, "{filters:?}");
    }
}

/// The finding of this subject that is not well.
fn wrong<'a>(report: &'a Value, subject: &str) -> Vec<&'a str> {
    let findings = report["findings"].as_array().unwrap().iter();
    let wrong = findings.filter(|one| one["subject"] == subject && one["level"] != "ok");
    wrong.map(|one| one["found"].as_str().unwrap()).collect()
}

#[test]
fn check_tells_whether_this_host_is_able() {
    let runtime = Runtime::new();
    let check = |arguments: &[&str]| runtime.bare().arg("check").args(arguments).output();
    let json = parsed(&check(&["--format", "json"]));
    // Every other test here runs containers.
    assert_eq!(json["able"], true, "{json}");
    for subject in ["kernel", "namespaces", "cgroup rights", "seccomp"] {
        assert!(wrong(&json, subject).is_empty(), "{json}");
    }
    let text = check(&[]).ok().stdout;
    assert!(text.starts_with("ok          kernel   "), "{text}");
    let manager = check(&["--cgroup-manager", "systemd"]);
    let has_systemd = Path::new("/run/systemd/system").is_dir();
    assert_eq!(manager.code, i32::from(!has_systemd), "{manager}");
}

#[test]
fn check_tells_all_that_a_bundle_lacks() {
    let runtime = Runtime::new();
    let check = |bundle: &Path| {
        let command = runtime.bare().args(["check", "--format", "json"]);
        command.arg(bundle).output()
    };
    let good = runtime.bundle();
    let output = check(&good.write().dir).ok();
    assert_eq!(parsed(&output)["able"], true, "{output}");
    let hook = json!({"path": "/no/hook"});
    let mounts = json!([
        {"destination": "/a", "type": "nosuchfs", "source": "none"},
        {"destination": "/b", "type": "bind", "source": "/no/source", "options": ["bind"]},
    ]);
    let missing = json!({"type": "uts", "path": "/no/namespace"});
    let bad = runtime
        .bundle()
        .args(["/no/program"])
        .set("/mounts", mounts)
        .set("/linux/namespaces", json!([{"type": "mount"}, missing]))
        .hook("poststop", hook);
    let output = check(&bad.write().dir);
    assert_eq!(output.code, 1, "{output}");
    let report = parsed(&output);
    let found = wrong(&report, "bundle").join("\n");
    let expected = [
        "linux.namespaces[1].path: /no/namespace: not found (ENOENT)",
        "mounts[1].source: /no/source: not found (ENOENT)",
        "mounts[0].type: \"nosuchfs\": the kernel has no such file system",
        "hooks.poststop[0].path: \"/no/hook\": not found (ENOENT)",
        "process.args[0]: \"/no/program\": not found (ENOENT)",
    ];
    for text in expected {
        assert!(found.contains(text), "{text}: {found}");
    }
    let findings = report["findings"].as_array().unwrap();
    let lacking = findings.iter().filter(|one| one["level"] == "lacking");
    assert_eq!(lacking.clone().count(), 4, "{report}");
    assert!(lacking.into_iter().all(|one| one["remedy"].is_string()));
    let output = check(&runtime.bundle().args(["/no/program"]).write().dir);
    let expected = "config.json: process.args[0]: \"/no/program\": not found (ENOENT)";
    assert_eq!(wrong(&parsed(&output), "bundle"), [expected], "{output}");
    assert_eq!(output.code, 1, "{output}");
    if !Path::new("/sys/kernel/security/apparmor").exists() {
        let labeled = runtime.bundle();
        let labeled = labeled.set("/process/apparmorProfile", json!("web"));
        let report = parsed(&check(&labeled.write().dir));
        let expected = "process.apparmorProfile: \"web\": AppArmor is not enabled on this host";
        assert_eq!(wrong(&report, "bundle"), [expected], "{report}");
    }
    assert!(!runtime.root().exists());
}

#[test]
fn check_looks_into_the_program() {
    let runtime = Runtime::new();
    let check = |bundle: &Bundle| {
        let command = runtime.with_bundle("check", bundle);
        let output = command.args(["--format", "json"]).output();
        wrong(&parsed(&output), "bundle").join("\n")
    };
    let script = runtime.bundle().script("/run.sh", "").args(["/run.sh"]);
    assert_eq!(check(&script), "");
    let program = |bytes: &[u8]| {
        fs::write(script.path("/run.sh"), bytes).unwrap();
        check(&script)
    };
    let about = "config.json: process.args[0]: \"/run.sh\": ";
    let expected = format!("{about}its interpreter /bin/bash: not found (ENOENT)");
    assert_eq!(program(b"#!/bin/bash\n"), expected);
    // An ELF program of elf(5)'s machine number 8.
    let mut foreign = b"\x7fELF\x02\x01\x01".to_vec();
    foreign.resize(64, 0);
    foreign[18] = 8;
    let found = program(&foreign);
    assert!(
        found.starts_with(&format!("{about}it is for mips, ")),
        "{found}"
    );
    let expected = format!("{about}it is neither an ELF program nor a script that begins with #!");
    assert_eq!(program(b"echo"), expected);
}

#[test]
fn check_tells_a_user_what_is_refused() {
    let runtime = Runtime::new();
    // The limits are set in a user namespace of the test's own, so that no other process is
    // refused.
    let check = |limit: &str, then: &str| {
        let script = format!("echo 0 > /proc/sys/user/{limit}; exec {then} \"$@\"");
        let command = runtime.bare().args(["check", "--format", "json"]);
        let under = command.under("unshare", ["-Ur", "sh", "-c", &script, "sh"]);
        let output = under.output();
        (parsed(&output), output.code)
    };
    let refused = ["refused: user.max_user_namespaces is 0"];
    let (report, code) = check("max_user_namespaces", "setpriv --bounding-set=-all");
    assert_eq!(wrong(&report, "user namespaces"), refused, "{report}");
    assert_eq!(code, 1);
    // Root of a user namespace needs no further one.
    let (report, code) = check("max_user_namespaces", "");
    assert_eq!(wrong(&report, "user namespaces"), refused, "{report}");
    assert_eq!(code, 0, "{report}");
    // One limit refuses one kind of namespace.
    let (report, code) = check("max_uts_namespaces", "");
    let found = ["no uts namespace: no space left on device (ENOSPC)"];
    assert_eq!(wrong(&report, "namespaces"), found, "{report}");
    assert!(wrong(&report, "user namespaces").is_empty(), "{report}");
    assert_eq!(code, 1);
}

/// What the shell offers for the last word of each line of the table.
fn check_completion(shell: &str, ask: impl Fn(&Runtime, &Path, &[&str]) -> Vec<String>) {
    let runtime = Runtime::new();
    let script = runtime.bare().args(["completion", shell]).output().ok();
    let script = runtime.folder().file("script", &script.stdout);
    let container = runtime.create(&runtime.bundle().args(["sleep", "1000"]));
    let (root, id) = (runtime.root(), container.id.clone());
    let root = root.to_str().unwrap();
    let start = &id[..id.len() - 1];
    for (line, expected) in [
        (vec!["stat"], "state"),
        (vec!["kill", "--al"], "--all"),
        (vec!["list", "--format", "js"], "json"),
        (vec!["--root", root, "state", start], &id),
        (vec!["kill", "--root", root, &id, "USR1"], "USR1"),
        (vec!["network", "insp"], "inspect"),
    ] {
        assert_eq!(ask(&runtime, &script, &line), [expected], "{line:?}");
    }
    let verbs = ask(&runtime, &script, &["c"]);
    assert_eq!(verbs, ["check", "checkpoint", "completion", "create"]);
}

/// The lines that a command prints, sorted.
fn sorted_lines(output: &Output) -> Vec<String> {
    let mut lines: Vec<_> = output.stdout.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn bash_completes() {
    check_completion("bash", |_, script, words| {
        let ask = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _coracle; \
                   printf '%s\\n' \"${COMPREPLY[@]}\"";
        let bash = Command::new("bash").args(["-euc", ask, "bash"]).arg(script);
        let output = bash.arg(program()).args(words).output().ok();
        assert_eq!(output.stderr, "", "{output}");
        sorted_lines(&output)
    });
}

#[test]
fn zsh_completes() {
    needs::program("zsh");
    check_completion("zsh", |_, script, words| {
        let ask = "compdef() { : }; _describe() { print -rl -- ${(P)2%%:*} }; \
                   source \"$1\"; shift; \
                   words=(\"$@\"); CURRENT=$#; _coracle";
        let zsh = Command::new("zsh").args(["-fc", ask, "zsh"]).arg(script);
        let output = zsh.arg(program()).args(words).output().ok();
        assert_eq!(output.stderr, "", "{output}");
        sorted_lines(&output)
    });
}

#[test]
fn fish_completes() {
    needs::program("fish");
    check_completion("fish", |runtime, script, words| {
        let bin = runtime.folder().join("bin");
        let _ = fs::create_dir(&bin);
        let _ = symlink(program(), bin.join("coracle"));
        let ask = format!(
            "set -x PATH {} $PATH; source {}; complete -C 'coracle {}'",
            bin.display(),
            script.display(),
            words.join(" ")
        );
        let home = runtime.folder().path().to_owned();
        let output = Command::new("fish").args(["-Nc", &ask]).env("HOME", home);
        let output = output.output().ok();
        let first = |line: String| line.split('\t').next().unwrap_or_default().to_owned();
        sorted_lines(&output).into_iter().map(first).collect()
    });
}

#[test]
fn manual_pages_are_well_formed() {
    let runtime = Runtime::new();
    let pages = runtime.folder().join("pages");
    fs::create_dir(&pages).unwrap();
    runtime.bare().arg("man").arg(&pages).output().ok();
    let help = runtime.bare().arg("help").output().ok().stdout;
    let count = fs::read_dir(&pages).unwrap().count();
    let verbs = help.split("Commands:\n").nth(1).unwrap();
    let verbs = verbs.lines().take_while(|line| !line.is_empty()).count();
    assert_eq!(count, verbs + 1);
    let missing = runtime.bare().args(["man", "/no/such"]).output();
    missing.fails(["write \\\"/no/such/coracle.8\\\": not found (ENOENT)"]);
    needs::program("groff");
    for page in fs::read_dir(&pages).unwrap() {
        let page = page.unwrap().path();
        let shown = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-P-cbou"]);
        let shown = shown.arg(&page).output().ok();
        assert_eq!(shown.stderr, "", "{page:?}");
        assert!(shown.stdout.contains("SEE ALSO"), "{shown}");
        if Path::new("/usr/bin/mandoc").exists() {
            let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]);
            let lint = lint.arg(&page).output();
            // The pages have no date, so that the same program always makes the same pages.
            let is_known = |line: &str| line.contains("missing date");
            assert!(lint.stdout.lines().all(is_known), "{lint}");
            assert!(lint.stderr.lines().all(is_known), "{lint}");
        }
    }
}

/// Asked by engines with no flag, as whoever they run as.
#[test]
fn features_need_nothing() {
    let runtime = Runtime::for_user(1234);
    let all = Runtime::new().bare().arg("features").output().ok().stdout;
    let bare = runtime
        .bare()
        .arg("features")
        .under("env", ["-i"])
        .output()
        .ok();
    assert_eq!(bare.stdout, all);
    let hidden = runtime
        .bare()
        .arg("features")
        .under("chroot", ["--userspec=1:1", "/"])
        .output();
    assert_ne!(hidden.code, 101, "{hidden}");
}

#[test]
fn a_written_spec_runs() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    runtime
        .bare()
        .args(["spec", "-b"])
        .arg(&bundle.dir)
        .output()
        .ok();
    let path = bundle.dir.join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\n\t\""), "{text}");
    let mut config: Value = text.parse().unwrap();
    assert_eq!(config["process"]["args"], json!(["sh"]));
    let namespaces = config["linux"]["namespaces"].to_string();
    let is_unified = coracle_integration::is_v2();
    assert_eq!(namespaces.contains("cgroup"), is_unified, "{namespaces}");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["echo", "it runs"]);
    // The example's limits may exceed those of this root.
    let limits = config["process"].as_object_mut().unwrap().remove("rlimits");
    assert!(limits.is_some());
    fs::write(path, config.to_string()).unwrap();
    let command = runtime
        .command(["run", "--bundle"])
        .arg(&bundle.dir)
        .arg(runtime.id());
    let output = command.output().ok();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("it runs\n", "")
    );
}

#[test]
fn a_written_spec_is_not_overwritten() {
    let runtime = Runtime::new();
    let folder = runtime.folder().folder("bundle");
    let spec = || runtime.bare().arg("spec").folder(&folder).output();
    spec().ok();
    let first = fs::read_to_string(folder.join("config.json")).unwrap();
    spec().fails(["config.json", "exists"]);
    assert_eq!(
        fs::read_to_string(folder.join("config.json")).unwrap(),
        first
    );
    runtime
        .bare()
        .args(["spec", "-b", "/no/such/folder"])
        .output()
        .fails(["/no/such/folder"]);
    fs::remove_file(folder.join("config.json")).unwrap();
    symlink("elsewhere", folder.join("config.json")).unwrap();
    spec().fails(["exists"]);
    assert!(!folder.join("elsewhere").exists());
}

#[test]
fn a_spec_can_be_rootless() {
    let runtime = Runtime::new();
    let folder = runtime.folder().folder("bundle");
    runtime
        .bare()
        .args(["spec", "--rootless"])
        .folder(&folder)
        .output()
        .ok();
    let config: Value = fs::read_to_string(folder.join("config.json"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(config["linux"]["uidMappings"].is_array());
    assert!(config["linux"]["namespaces"].to_string().contains("user"));
}

#[test]
fn state_has_the_keys_that_engines_read() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle());
    let state = container.state();
    for key in [
        "ociVersion",
        "id",
        "pid",
        "status",
        "bundle",
        "rootfs",
        "created",
    ] {
        assert!(!state[key].is_null(), "{key}: {state}");
    }
    let list = runtime.command(["list", "--format=json"]).output().ok();
    let list = parsed(&list);
    for (key, value) in state
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, _)| *key != "owner")
    {
        assert_eq!(list[0][key], *value, "{key}");
    }
}

#[test]
fn list_has_the_columns_that_people_read() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let text = runtime.command(["list"]).output().ok().stdout;
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    assert_eq!(lines[1].len(), 6, "{text}");
    assert_eq!(
        lines[1][..3],
        [&container.id, &container.pid().to_string(), "running"]
    );
    assert_eq!(lines[1][5], "root");
    let column = |line: &str, word: &str| line.find(word);
    let mut rows = text.lines();
    let (head, row) = (rows.next().unwrap(), rows.next().unwrap());
    assert_eq!(column(head, "STATUS"), column(row, "running"));
    runtime.command(["list", "-q", "-f", "json"]).output().ok();
}

#[test]
fn list_survives_a_broken_container() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    for (name, text) in [("broken", "{"), ("empty", ""), ("other", "[]")] {
        let folder = runtime.root().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("record.json"), text).unwrap();
    }
    fs::create_dir(runtime.root().join("bare")).unwrap();
    fs::write(runtime.root().join("file"), "").unwrap();
    let output = runtime.command(["list", "-q"]).output().ok();
    assert_eq!(output.stdout, format!("{}\n", container.id));
    let json = runtime.command(["list", "-f", "json"]).output().ok();
    assert_eq!(parsed(&json).as_array().unwrap().len(), 1);
    runtime
        .command(["state", "broken"])
        .output()
        .fails(["broken"]);
    for name in ["broken", "empty", "other", "bare"] {
        runtime.command(["delete", "--force", name]).output().ok();
        assert!(!runtime.root().join(name).exists(), "{name}");
    }
    fs::remove_file(runtime.root().join("file")).unwrap();
}

#[test]
fn list_of_a_missing_root_fails() {
    let runtime = Runtime::new();
    let root = runtime.folder().join("no");
    let command = runtime.bare().arg("--root").arg(&root).arg("list");
    command.output().fails(["--root"]);
    assert!(!root.exists());
}

#[test]
fn ps_filters_by_the_containers_pids() {
    needs::program("ps");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let by = |arguments: &[&str]| runtime.command(arguments.iter()).output();
    let table = by(&["ps", "--format", "table", &container.id, "-ef"]).ok();
    assert_eq!(table.stdout.lines().count(), 2, "{table}");
    let table = by(&["ps", &container.id, "-eo", "comm,pid"]).ok();
    assert!(
        table.stdout.contains(&format!(" {}\n", container.pid())),
        "{table}"
    );
    by(&["ps", &container.id, "-eo", "args"]).fails(["PID"]);
    by(&["ps", &container.id, "--no-such-option"]).fails(["ps"]);
}

#[test]
fn ps_of_a_stopped_container_is_empty() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    let shares = bundle.clone().without_namespace("pid");
    for bundle in [bundle, shares] {
        let container = runtime.start(&bundle);
        container.wait_for_status("stopped");
        let table = container.verb("ps").ok();
        assert_eq!(table.stdout.lines().count(), 1, "{table}");
        assert!(table.stdout.starts_with("UID"), "{table}");
        let json = ["ps", "--format", "json", &container.id];
        assert_eq!(runtime.command(json).output().ok().stdout, "[]\n");
        for group in groups(runtime.marker()) {
            let _ = fs::remove_dir(group);
        }
        assert_eq!(runtime.command(json).output().ok().stdout, "[]\n");
        container.delete().ok();
    }
}

/// Without a pid namespace of its own a container leaves processes when its init ends.
#[test]
fn ps_shows_what_outlived_init() {
    needs::program("ps");
    let runtime = Runtime::new();
    let bundle = runtime.bundle().without_namespace("pid");
    let container = runtime.start(&bundle.shell("sleep 1000 >/dev/null 2>&1 &"));
    container.wait_for_status("stopped");
    let table = container.verb("ps").ok();
    assert_eq!(table.stdout.lines().count(), 2, "{table}");
    assert!(table.stdout.contains("sleep 1000"), "{table}");
    container.delete_by_force().ok();
}

#[test]
fn the_root_is_relative_to_the_callers_folder() {
    let runtime = Runtime::new();
    let folder = runtime.folder().folder("here");
    let command = runtime
        .bare()
        .args(["--root", "sub/state", "create", "--bundle"]);
    let id = runtime.id();
    command
        .arg(&runtime.bundle().write().dir)
        .arg(&id)
        .folder(&folder)
        .output()
        .ok();
    assert!(folder.join("sub/state").join(&id).is_dir());
    let delete = runtime.bare().arg("--root").arg(folder.join("sub/state"));
    delete.args(["delete", &id]).output().ok();
}

#[test]
fn a_root_is_made_private() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle());
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(runtime.root()), 0o700);
    // Others may at most pass through.
    assert_eq!(mode(&runtime.root().join(&container.id)) & !0o011, 0o700);
}

#[test]
fn bad_roots_are_refused() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle();
    let file = runtime.folder().file("file", "");
    for root in [
        "/",
        "//",
        "/..",
        file.to_str().unwrap(),
        "/proc/state",
        "/dev/null/x",
    ] {
        let command = runtime.bare().args(["--root", root, "create", "--bundle"]);
        command
            .arg(&bundle.write().dir)
            .arg(runtime.id())
            .output()
            .fails([]);
    }
    runtime.is_clean();
}

#[test]
fn one_failure_of_each_verb() {
    let runtime = Runtime::new();
    for arguments in [
        vec!["start", "absent"],
        vec!["state", "absent"],
        vec!["kill", "absent"],
        vec!["kill", "absent", "9"],
        vec!["kill", "--all", "absent", "9"],
        vec!["delete", "absent"],
        vec!["pause", "absent"],
        vec!["resume", "absent"],
        vec!["ps", "absent"],
        vec!["ps", "-f", "json", "absent"],
    ] {
        let output = runtime
            .command(&arguments)
            .output()
            .fails(["does not exist", "absent"]);
        assert_eq!(output.stdout, "", "{output}");
    }
    let exec = runtime.command(["exec", "absent", "true"]).output();
    exec.fails_as(255, ["does not exist"]);
    for verb in ["create", "run"] {
        let command = runtime
            .command([verb, "--bundle", "/no/bundle", "x"])
            .output();
        command.fails(["/no/bundle"]);
        let empty = runtime.folder().folder("empty");
        let command = runtime
            .command([verb, "--bundle"])
            .arg(empty)
            .arg("x")
            .output();
        command.fails(["config.json"]);
    }
    runtime.is_clean();
}

#[test]
fn the_criu_flag_is_ignored() {
    let runtime = Runtime::new().options(["--criu", "/no/criu"]);
    let output = runtime.run(&runtime.bundle()).ok();
    assert!(
        output
            .stderr
            .contains("level=warning msg=\"--criu is ignored\""),
        "{output}"
    );
    // A command that fails writes one record, the failure.
    runtime.run(&runtime.bundle().args(["/no"])).fails(["/no"]);
}

#[test]
fn output_to_a_full_disk_fails() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle());
    let full = || {
        fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    for arguments in [
        vec!["state", &container.id],
        vec!["list"],
        vec!["ps", "-f", "json", &container.id],
    ] {
        runtime
            .command(&arguments)
            .stdout(full())
            .output()
            .fails(["standard output"]);
    }
    runtime
        .bare()
        .arg("features")
        .stdout(full())
        .output()
        .fails(["standard output"]);
}

#[test]
fn output_to_nobody_is_no_failure() {
    let runtime = Runtime::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    runtime.bare().arg("features").stdout(writer).output().ok();
}

/// For those who want the specification to the letter.
#[test]
fn a_strict_delete_refuses_a_created_container() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle());
    let delete = runtime
        .command(["delete", &container.id])
        .env("CORACLE_STRICT_DELETE", "1");
    delete.output().fails(["not stopped"]);
    assert_eq!(container.status(), "created");
    container.delete().ok();
}
