//! The phrases of runc's failures that scripts and other people's tests look for.

use coracle_integration::{Runtime, json, needs, write_program};

#[test]
fn a_failed_hook_is_told_by_point_and_place() {
    let runtime = Runtime::new();
    let (good, bad) = (json!({"path": "/bin/true"}), json!({"path": "/bin/false"}));
    for point in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
    ] {
        let bundle = runtime.bundle().hook(point, good.clone());
        let output = runtime.run(&bundle.hook(point, bad.clone()));
        let phrase = format!("error running {point} hook #1: /bin/false: exit status 1");
        output.fails([&phrase]);
    }
    let bundle = runtime.bundle().hook("poststop", good);
    let output = runtime.run(&bundle.hook("poststop", bad)).ok();
    let phrase = "error running poststop hook #1: ";
    assert!(output.stderr.contains(phrase), "{output}");
}

#[test]
fn a_program_that_cannot_be_executed_is_named() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().script("/run.sh", "true");
    write_program(&bundle.path("/run.sh"), "#!/no/such/interpreter\n");
    let phrase = "exec /run.sh: no such file or directory";
    let container = runtime.start(&bundle.clone().args(["sleep", "1000"]));
    container.exec(["/run.sh"]).fails_as(255, [phrase]);
    runtime
        .run(&bundle.clone().args(["/run.sh"]))
        .fails([phrase]);
    let created = runtime.create(&bundle.args(["/run.sh"]));
    created.start().fails([phrase]);
    let container = runtime.sleeper();
    let output = container.exec(["/run.sh"]);
    output.fails_as(255, ["exec: ", "/run.sh", ": no such file or directory"]);
    let output = container.exec(["run.sh"]);
    output.fails_as(
        255,
        ["exec: ", "run.sh", ": executable file not found in $PATH"],
    );
}

#[test]
fn what_the_config_has_wrong_is_called_as_by_runc() {
    let runtime = Runtime::new();
    let policy = |value| ("/linux/memoryPolicy", value, "invalid memory policy");
    let affinity = |value| ("/process/execCPUAffinity", value, "invalid CPU affinity");
    let listener = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "listenerPath": runtime.folder().join("nobody"),
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    });
    for (pointer, value, phrase) in [
        policy(json!({"mode": "MPOL_NONE"})),
        policy(json!({"mode": "MPOL_BIND", "nodes": "1-0"})),
        policy(json!({"mode": "MPOL_BIND", "nodes": "1000"})),
        policy(json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"]})),
        policy(json!({"mode": "MPOL_LOCAL", "nodes": "0"})),
        affinity(json!({"initial": "5-2"})),
        affinity(json!({"final": "x"})),
        (
            "/linux/seccomp",
            listener,
            "failed to connect with seccomp agent",
        ),
    ] {
        let bundle = runtime.bundle().set(pointer, value);
        runtime.run(&bundle).fails([phrase]);
    }
}

#[test]
fn a_bad_group_for_exec_is_called_as_by_runc() {
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let exec = |path: &str| container.exec_with([&format!("--cgroup={path}")], ["true"]);
    exec("..").fails_as(255, ["bad sub cgroup path"]);
    exec("missing").fails_as(
        255,
        [" adding pid ", "to cgroups", "no such file or directory"],
    );
}

#[test]
fn a_rejected_memory_limit_is_called_as_by_runc() {
    needs::controller("memory");
    let runtime = Runtime::new();
    let container = runtime.sleeper();
    let update = |memory| {
        let command = runtime.command(["update", "-r", "-", &container.id]);
        command
            .input(&json!({ "memory": memory }).to_string())
            .output()
    };
    let asked = json!({"limit": 1024, "checkBeforeUpdate": true});
    update(asked).fails(["rejecting memory limit 1024"]);
    let asked = json!({"limit": 1024, "swap": 2048, "checkBeforeUpdate": true});
    update(asked).fails(["rejecting memory+swap limit 2048"]);
    assert_eq!(container.status(), "running");
}
