//! Limits on the cost of the verbs, measured in system calls, which do not depend on the machine's
//! load.

use coracle_integration::trace::{can_trace, trace};
use coracle_integration::{Bundle, Command, Runtime, json, needs, skip, wait_until};
use nix::libc;

/// The most system calls of each verb on v1 hierarchies beside a v2 one, which takes the most: what
/// was counted, and some twentieth more. Who needs more says so here, and in the commit why.
const BUDGETS: [(&str, usize); 7] = [
    ("create", 770),
    ("start", 86),
    ("state", 64),
    ("exec", 365),
    ("kill", 86),
    ("delete", 135),
    ("run", 820),
];

/// Not counted, since they are a matter of the build: memory, and the look that a build with
/// assertions has at each descriptor before it closes it.
const OF_THE_BUILD: [libc::c_long; 5] = [
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_fcntl,
];

#[test]
fn system_calls_stay_within_their_budgets() {
    if !can_trace() {
        skip!("needs x86_64");
    }
    needs::version_1();
    let runtime = Runtime::new();
    let sleeper = bundle(&runtime).args(["sleep", "1000"]);
    let runner = bundle(&runtime);
    let id = runtime.id();
    let mut over = String::new();
    for (verb, budget) in BUDGETS {
        let command = match verb {
            "create" => runtime.with_bundle(verb, &sleeper).arg(&id),
            "run" => runtime.with_bundle(verb, &runner).arg(runtime.id()),
            "exec" => runtime.command([verb, &id, "true"]),
            "kill" => runtime.command([verb, &id, "KILL"]),
            "delete" => runtime.command([verb, "--force", &id]),
            _ => runtime.command([verb, &id]),
        };
        if verb == "delete" {
            // The number of calls of a process that waits for init's end depends on how long that
            // takes.
            wait_until("init's end", || {
                let state = runtime.command(["state", &id]).output();
                state.stdout.contains("stopped")
            });
        }
        let count = counted(command);
        println!("{verb}: {count} system calls of {budget}");
        if count > budget {
            over += &format!("{verb}: {count} system calls, the budget is {budget}\n");
        }
    }
    assert!(over.is_empty(), "{over}");
}

/// The calls of the command and its clones, up to the exec of another program.
fn counted(command: Command) -> usize {
    let trace = trace(command, None);
    assert_eq!(trace.output.code, 0, "{}", trace.output);
    let calls = trace.calls.iter().flatten();
    calls.filter(|call| !OF_THE_BUILD.contains(call)).count()
}

/// With what an engine adds to the specification's example: limits, masked paths and a filter.
fn bundle(runtime: &Runtime) -> Bundle {
    let limits = json!({"memory": {"limit": 256 << 20}, "pids": {"limit": 100},
        "cpu": {"shares": 512}});
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["acct", "kexec_load"], "action": "SCMP_ACT_ERRNO"}]});
    let bundle = runtime.bundle().set("/linux/resources", limits);
    bundle
        .set("/linux/seccomp", filter)
        .set(
            "/linux/maskedPaths",
            json!(["/proc/kcore", "/proc/keys", "/sys/firmware"]),
        )
        .set("/linux/readonlyPaths", json!(["/proc/bus", "/proc/sys"]))
}
