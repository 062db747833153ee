//! `--trace FILE`: what was done when.

use std::fs;

use coracle_integration::{Output, Runtime, Value, json, wait_until};

use crate::hooks::shell;

/// The events of a trace, whose array may be open at the end.
#[track_caller]
fn events(text: &str) -> Vec<Value> {
    let whole = match text.trim_end().strip_suffix(']') {
        Some(_) => text.to_owned(),
        None => format!("{text}]"),
    };
    serde_json::from_str(&whole).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Those on a track, by name.
fn on_track(events: &[Value], track: u32) -> impl Iterator<Item = &Value> {
    let slices = events.iter().filter(|event| event["ph"] == "X");
    slices.filter(move |event| event["tid"] == track)
}

#[track_caller]
fn find<'a>(events: &'a [Value], track: u32, name: &str) -> &'a Value {
    let found = on_track(events, track).find(|event| {
        event["name"]
            .as_str()
            .is_some_and(|text| text.contains(name))
    });
    found.unwrap_or_else(|| panic!("no {name:?} on {track} in {events:#?}"))
}

const RUNTIME: u32 = 1;
const INIT: u32 = 2;

#[test]
fn a_run_shows_runtime_and_init() {
    let runtime = Runtime::new();
    let file = runtime.folder().join("trace");
    let bundle = runtime.bundle().hook("createRuntime", shell("sleep 0.2"));
    let bundle = bundle
        .hook("createContainer", shell("sleep 0.1"))
        .args(["true"]);
    let trace = ["--trace", file.to_str().unwrap()];
    runtime.run_with(&bundle.user_namespace(), trace).ok();
    let events = events(&fs::read_to_string(&file).unwrap());
    let duration = |event: &Value| event["dur"].as_f64().unwrap();
    for name in [
        "mount proc on /proc",
        "pivot_root",
        "mask /proc/",
        "set no_new_privs",
    ] {
        find(&events, INIT, name);
    }
    assert!(duration(find(&events, RUNTIME, "/bin/sh")) >= 200_000.0);
    let mut waits = on_track(&events, INIT).filter(|it| it["name"] == "wait for the runtime");
    assert!(waits.any(|event| duration(event) >= 200_000.0));
    find(&events, RUNTIME, "wait for the program");
    let whole = on_track(&events, RUNTIME).find(|event| event["cat"] == "verb");
    let whole = whole.unwrap();
    assert_eq!(whole["name"], "run");
    // All is within the verb, and init's steps follow one another.
    let range = |event: &Value| {
        let began = event["ts"].as_f64().unwrap();
        (began, began + duration(event))
    };
    let (began, ended) = range(whole);
    let mut last = began;
    for event in on_track(&events, INIT) {
        let (from, to) = range(event);
        assert!(
            from + 1.0 >= last && to <= ended + 1.0,
            "{event} after {last}"
        );
        last = to;
    }
}

#[test]
fn every_verb_writes_one() {
    let runtime = Runtime::new();
    let file = runtime.folder().join("trace");
    let path = file.to_str().unwrap();
    let container = runtime.create_with(&runtime.bundle().args(["sleep", "9"]), ["--trace", path]);
    find(
        &events(&fs::read_to_string(&file).unwrap()),
        INIT,
        "mount proc on /proc",
    );
    let traced = |words: &[&str]| -> Output {
        let command = runtime.command(["--trace", path]).args(words);
        command.output()
    };
    for (words, expected) in [
        (&["start", &container.id][..], "let init go on"),
        (&["exec", &container.id, "true"], "wait for the program"),
        (&["state", &container.id], "state"),
        (
            &["update", "--pids-limit", "50", &container.id],
            "wrote the limits",
        ),
        (&["kill", &container.id, "KILL"], "sent signal"),
        (&["delete", "--force", &container.id], "removed the cgroup"),
    ] {
        traced(words).ok();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.trim_end().ends_with(']'), "{text}");
        find(&events(&text), RUNTIME, expected);
    }
    runtime
        .command(["--trace", "/absent/file", "list"])
        .output()
        .fails(["--trace ", "not found (ENOENT)"]);
}

/// How far a creation came is in the trace of one that fails, and of one that is killed.
#[test]
fn a_failure_shows_how_far_it_came() {
    let runtime = Runtime::new();
    let file = runtime.folder().join("trace");
    let bundle = runtime.bundle().file("file", "");
    let bundle = bundle.mount("/file/below", "tmpfs", "tmpfs", []);
    let trace = ["--trace", file.to_str().unwrap()];
    runtime.run_with(&bundle, trace).fails(["/file/below"]);
    let events = events(&fs::read_to_string(&file).unwrap());
    find(&events, INIT, "mount proc on /proc");
    assert!(on_track(&events, INIT).all(|event| event["name"] != json!("pivot_root")));
}

/// `state` tells what a creation that hangs is at, by the processes that it has started.
#[test]
fn a_creation_that_hangs_can_be_asked() {
    let runtime = Runtime::new();
    for (point, who) in [
        ("createRuntime", "the runtime"),
        ("createContainer", "init"),
    ] {
        let go_on = runtime.folder().join("go-on");
        let script = format!("while ! test -e {}; do sleep 0.01; done", go_on.display());
        let bundle = runtime.bundle().hook(point, shell(&script));
        let id = runtime.id();
        let create = runtime.with_bundle("create", &bundle).arg(&id).spawn();
        let stage = || {
            let state = runtime.command(["state", &id]).output().stdout;
            let state: Value = serde_json::from_str(&state).unwrap_or_default();
            state["creation"].clone()
        };
        let expected = format!("{who} runs sh -c while ! test");
        wait_until("the stage", || {
            stage()["stage"]
                .as_str()
                .is_some_and(|text| text.starts_with(&expected))
        });
        let since = stage()["since"].as_str().unwrap().to_owned();
        assert!(since.starts_with("20") && since.ends_with('Z'), "{since}");
        fs::write(&go_on, "").unwrap();
        create.wait().ok();
        assert_eq!(stage(), Value::Null);
        fs::remove_file(&go_on).unwrap();
        runtime.command(["delete", "--force", &id]).output().ok();
    }
}

/// On a terminal a person learns what a verb waits for; others read stderr for failures.
#[test]
fn a_long_wait_is_told_on_a_terminal() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().hook("createRuntime", shell("sleep 2.5"));
    let mut terminal = coracle_integration::terminal::Terminal::new();
    terminal
        .attach(runtime.with_bundle("run", &bundle).arg(runtime.id()))
        .output()
        .ok();
    terminal.expect("waiting for hook /bin/sh …\r\n");
    assert_eq!(runtime.run(&bundle).ok().stderr, "");
}
