//! A state root that another runtime uses too, and records of an earlier release.

use std::fs;
use std::path::Path;

use coracle_integration::{Command, Container, Runtime, json, needs};

/// A file that another runtime keeps in a container's directory, its text, and whose it is.
const FOREIGN: [(&str, &str, &str); 4] = [
    (
        "state.json",
        r#"{"id":"other","init_process_pid":1,"created":"","config":{"rootfs":"/"}}"#,
        "runc",
    ),
    ("status", r#"{"pid":1,"bundle":"/","rootfs":"/"}"#, "crun"),
    (
        "state.json",
        r#"{"ociVersion":"v1.0.2","id":"other","status":"running","pid":1}"#,
        "another runtime",
    ),
    ("exec.fifo", "", "another runtime"),
];

/// All files below a folder with their text.
fn contents(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a file");
            (path.display().to_string(), text)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn containers_of_other_runtimes_are_left_alone() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let folder = runtime.root().join("other");
    for (name, text, maker) in FOREIGN {
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join(name), text).expect("a file");
        fs::write(folder.join("config.json"), "{}").expect("a file");
        let before = contents(&folder);
        let belongs = format!("belongs to {maker}");
        for arguments in [
            &["state", "other"][..],
            &["start", "other"],
            &["kill", "other", "KILL"],
            &["kill", "--all", "other", "KILL"],
            &["delete", "other"],
            &["delete", "--force", "other"],
            &["pause", "other"],
            &["resume", "other"],
            &["ps", "other"],
            &["events", "--stats", "other"],
            &["update", "--pids-limit", "5", "other"],
        ] {
            let output = runtime.command(arguments.iter()).output();
            output.fails([&belongs]);
        }
        let exec = runtime.command(["exec", "other", "true"]).output();
        exec.fails_as(255, [&belongs]);
        let again = runtime.with_bundle("create", &runtime.bundle());
        let again = again.arg("other").output();
        again.fails(["container with given ID already exists", &belongs]);
        assert_eq!(contents(&folder), before);
        for format in ["table", "json"] {
            let list = runtime.command(["list", "-f", format]).output().ok();
            assert_eq!(list.stderr, "", "{list}");
            assert!(!list.stdout.contains("other"), "{list}");
            assert!(list.stdout.contains(&container.id), "{list}");
        }
        fs::remove_dir_all(&folder).expect("remove a folder");
    }
}

/// runc 1.1 reports a record that is not its own, later releases fail on it as a whole.
#[test]
fn runc_lists_a_root_that_holds_our_containers() {
    needs::program("runc");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let runc = |verb: &[&str]| {
        let command = Command::new("runc").arg("--root").arg(runtime.root());
        command.args(verb).output()
    };
    let list = runc(&["list"]).ok();
    assert!(!list.stderr.contains("config"), "{list}");
    assert!(!list.stdout.contains(&container.id), "{list}");
    let state = runc(&["state", &container.id]);
    assert_ne!(state.code, 0, "{state}");
    assert!(state.stderr.contains("does not exist"), "{state}");
}

/// Gives the record the name that it had.
fn as_earlier(container: &Container) {
    let folder = container.runtime.root().join(&container.id);
    let record = folder.join("record.json");
    fs::rename(record, folder.join("state.json")).expect("rename the record");
}

#[test]
fn records_of_an_earlier_release_are_read() {
    let runtime = Runtime::new();
    let created = runtime.create(&runtime.bundle().args(["sleep", "1000"]));
    as_earlier(&created);
    assert_eq!(created.status(), "created");
    created.start().ok();
    let list = runtime.command(["list", "-q"]).output().ok();
    assert_eq!(list.stdout, format!("{}\n", created.id));
    created.exec(["true"]).ok();
    created.verb("pause").ok();
    created.verb("resume").ok();
    created.verb("ps").ok();
    let update = runtime.command(["update", "--pids-limit", "50", &created.id]);
    update.output().ok();
    assert_eq!(created.status(), "running");
    created.kill("KILL").ok();
    assert_eq!(created.exit_code(), 128 + 9);
    created.delete().ok();
    runtime.is_clean();

    let forced = runtime.sleeper();
    as_earlier(&forced);
    forced.delete_by_force().ok();
    runtime.is_clean();
}

#[test]
fn a_deletion_goes_on_by_an_earlier_record() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    as_earlier(&container);
    let path = runtime.root().join(&container.id).join("state.json");
    let text = fs::read_to_string(&path).expect("the record");
    let mut record: coracle_integration::Value = text.parse().expect("JSON");
    record["version"] = json!(99);
    fs::write(&path, record.to_string()).expect("the record");
    container.delete().fails(["newer release"]);
    container.delete_by_force().ok();
    assert_eq!(container.exit_code(), 128 + 9);
    runtime.is_clean();
}
