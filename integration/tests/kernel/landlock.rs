//! Rules of Landlock by annotation.

use coracle_integration::{Bundle, Runtime, Value, json, skip};

use crate::hooks::shell;

/// Skips the test unless the kernel has this version of the ABI.
#[track_caller]
fn needs_abi(least: u32) {
    let abi = coracle_sys::landlock_abi();
    if abi < least {
        skip!("needs version {least} of Landlock, this kernel has {abi}");
    }
}

fn ruled(bundle: Bundle, rules: &Value) -> Bundle {
    bundle.set(
        "/annotations",
        json!({"run.coracle.landlock": rules.to_string()}),
    )
}

/// Everything may be executed and read, and only /tmp written.
fn writes_to_tmp() -> Value {
    json!({
        "handledAccessFs": ["write_file", "make_reg", "make_dir", "remove_file"],
        "pathBeneath": [{"paths": ["/tmp", "/dev/null"], "allowedAccess": ["write_file"]},
            {"paths": ["/tmp"], "allowedAccess": ["make_reg", "remove_file"]}]
    })
}

#[test]
fn files_are_written_where_a_rule_allows_it() {
    needs_abi(1);
    let runtime = Runtime::new();
    let bundle = ruled(runtime.bundle(), &writes_to_tmp());
    let script = "echo a >/tmp/a && cat /tmp/a && echo b >/dev/null; \
                  echo c >/etc/c; echo d >/c; mkdir /tmp/d; sleep 1000";
    let container = runtime.create(&bundle.shell(script));
    container.start().ok();
    container.wait_for("a\n");
    coracle_integration::wait_until("the refusals", || {
        container.stderr().matches("Permission denied").count() == 3
    });
    // The same holds for processes that `exec` adds, with no_new_privs and without.
    container.shell("echo e >/tmp/e").ok();
    for option in ["--no-new-privs=false", "--no-new-privs"] {
        let output = container.exec_with([option], ["sh", "-c", "echo f >/f"]);
        let output = output.fails_as(1, []);
        assert!(output.stderr.contains("Permission denied"), "{output}");
    }
}

#[test]
fn the_rules_are_in_force_for_every_kind_of_user() {
    needs_abi(1);
    for no_new_privileges in [false, true] {
        let runtime = Runtime::new();
        let bundle = ruled(runtime.bundle(), &writes_to_tmp()).user(1000, 1000);
        let bundle = bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
        let bundle = bundle.user_namespace();
        let output = runtime.run(&bundle.shell("echo a >/tmp/a; mkdir /tmp/b; test -f /tmp/a"));
        assert!(
            output.clone().ok().stderr.contains("Permission denied"),
            "{output}"
        );
    }
}

#[test]
fn only_what_may_be_executed_is() {
    needs_abi(1);
    let runtime = Runtime::new();
    let rules = json!({"handledAccessFs": ["execute"], "pathBeneath": [
        {"paths": ["/bin"], "allowedAccess": ["execute"]}]});
    let bundle = ruled(runtime.bundle(), &rules).script("/tmp/tool", "#!/bin/sh\necho tool\n");
    runtime
        .run(&bundle.clone().args(["sh", "-c", "echo a"]))
        .ok();
    let output = runtime.run(&bundle.clone().args(["/tmp/tool"]));
    output.fails(["/tmp/tool", "permission denied"]);
    // A hook that init runs is within the rules.
    let hook = json!({"path": "/tmp/tool", "args": ["tool"]});
    let output = runtime.run(&bundle.hook("startContainer", hook));
    output.fails(["startContainer hook #0: /tmp/tool", "permission denied"]);
    let bundle = ruled(runtime.bundle(), &rules).hook("startContainer", shell("exit 0"));
    runtime.run(&bundle).ok();
}

#[test]
fn ports_are_bound_where_a_rule_allows_it() {
    needs_abi(4);
    let runtime = Runtime::new();
    let rules = json!({"handledAccessNet": ["connect_tcp"],
        "netPort": [{"ports": [81], "allowedAccess": ["connect_tcp"]}]});
    let bundle = ruled(runtime.bundle(), &rules);
    let script = "nc 127.0.0.1 80; nc 127.0.0.1 81; true";
    let output = runtime.run(&bundle.shell(script)).ok();
    // Nobody listens on either.
    let text = output.stderr.to_lowercase();
    assert_eq!(text.matches("permission denied").count(), 1, "{output}");
    assert_eq!(text.matches("refused").count(), 1, "{output}");
}

#[test]
fn signals_stay_inside() {
    needs_abi(6);
    let runtime = Runtime::new();
    let bundle = ruled(runtime.bundle(), &json!({"scoped": ["signal"]}));
    let container = runtime.start(&bundle.args(["sleep", "1000"]));
    // Each exec has a domain of its own, beside init's.
    let output = container.shell("sleep 100 & kill -9 $! && kill -9 1");
    let output = output.fails_as(1, []);
    assert!(output.stderr.contains("not permitted"), "{output}");
    assert_eq!(container.status(), "running");
}

#[test]
fn paths_stay_below_the_root() {
    needs_abi(1);
    let runtime = Runtime::new();
    let rule = |path: &str| {
        json!({"handledAccessFs": ["write_file"], "pathBeneath": [
            {"paths": [path], "allowedAccess": ["write_file"]}]})
    };
    // A link of the image leads to the container's own /etc.
    let bundle = runtime.bundle().link("/link", "../../../../etc");
    let bundle = ruled(bundle, &rule("/link"));
    runtime.run(&bundle.shell("echo a >>/etc/passwd")).ok();
    for (path, text) in [
        ("/proc/self/root/tmp", "ELOOP"),
        ("/no/such/file", "not found (ENOENT)"),
    ] {
        let bundle = ruled(runtime.bundle(), &rule(path));
        let step = format!("Landlock: allow write_file below {path}: ");
        runtime.try_create(&bundle).fails([&step[..], text]);
        runtime.is_clean();
    }
    let rules = json!({"handledAccessFs": ["read_dir"], "pathBeneath": [
        {"paths": ["/etc/passwd"], "allowedAccess": ["read_dir"]}]});
    runtime
        .try_create(&ruled(runtime.bundle(), &rules))
        .fails(["below /etc/passwd: a file takes only execute, "]);
}

#[test]
fn wrong_rules_are_refused_before_anything_is_made() {
    let runtime = Runtime::new();
    for (rules, text) in [
        (
            json!({"handledAccessFs": ["read"]}),
            ".handledAccessFs[0]: \\\"read\\\" is not one of execute, ",
        ),
        (
            json!({}),
            ": it handles no access and no scope, and so denies nothing",
        ),
    ] {
        let text = format!(r#"config.json: annotations[\"run.coracle.landlock\"]{text}"#);
        let output = runtime.try_create(&ruled(runtime.bundle(), &rules));
        output.fails([&text[..]]);
    }
    assert!(!runtime.root().exists());
}

#[test]
fn explain_shows_the_rules_or_what_the_kernel_lacks() {
    let runtime = Runtime::new();
    let bundle = ruled(runtime.bundle(), &json!({"scoped": ["signal"]}));
    let output = runtime
        .command(["explain"])
        .arg(&bundle.write().dir)
        .output();
    match coracle_sys::landlock_abi() {
        0 => output.fails(["this kernel has no Landlock, or it is not enabled"]),
        1..6 => output.fails([".scoped: signal takes version 6 of Landlock"]),
        _ => {
            let text = output.ok();
            assert!(
                text.stdout.contains("  Landlock: confine signal\n"),
                "{text}"
            );
            text
        }
    };
}
