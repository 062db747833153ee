//! Limits on the cost of the verbs, measured in system calls, page faults and memory, which do not
//! depend on the machine's load.

use coracle_integration::trace::{can_trace, trace};
use coracle_integration::{Bundle, Command, Runtime, json, needs, skip, wait_until};
use nix::libc;

/// The most that a verb may cost: what was counted, and up to a tenth more. A commit that raises a
/// figure says why.
struct Budget {
    verb: &'static str,
    calls: usize,
    /// Page faults without input or output, and the most memory of the runtime at a time, in KiB.
    /// Both are a matter of the build, so only the shipped one is held to them.
    faults: u64,
    peak_kib: u64,
}

const fn budget(verb: &'static str, calls: usize, faults: u64, peak_kib: u64) -> Budget {
    Budget {
        verb,
        calls,
        faults,
        peak_kib,
    }
}

/// On v1 hierarchies beside a v2 one, which takes the most.
const BUDGETS: [Budget; 7] = [
    budget("create", 585, 190, 2900),
    budget("start", 64, 80, 2450),
    budget("state", 32, 76, 2350),
    budget("exec", 245, 230, 2900),
    budget("kill", 47, 74, 2350),
    budget("delete", 54, 80, 2400),
    budget("run", 560, 230, 2900),
];

/// On v2 alone, by files. In the guest that has such cgroups, page faults rise by up to a third
/// while other tests run.
const BUDGETS_V2: [Budget; 7] = [
    budget("create", 550, 137, 2750),
    budget("start", 58, 100, 2450),
    budget("state", 22, 74, 2250),
    budget("exec", 243, 210, 2750),
    budget("kill", 29, 71, 2250),
    budget("delete", 40, 75, 2250),
    budget("run", 530, 198, 2750),
];

/// The limit on the size of the shipped program, which no other build keeps.
const SHIPPED_BYTES: u64 = 3_276_800;

/// System calls that are not counted, since they depend on the build: those for memory, and the
/// check of each descriptor that a build with assertions makes before it closes it.
const OF_THE_BUILD: [libc::c_long; 5] = [
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_fcntl,
];

#[test]
fn the_verbs_stay_within_their_budgets() {
    needs::version_1();
    hold(&Runtime::new(), &BUDGETS);
}

#[test]
fn the_verbs_stay_within_their_budgets_on_version_2() {
    needs::version_2();
    hold(&Runtime::new(), &BUDGETS_V2);
}

/// Performs the verbs one after another, and compares what they cost with their budgets.
fn hold(runtime: &Runtime, budgets: &[Budget]) {
    if !can_trace() {
        skip!("needs x86_64");
    }
    let size = std::fs::metadata(coracle_integration::program()).map(|file| file.len());
    let is_shipped = size.is_ok_and(|bytes| bytes < SHIPPED_BYTES);
    let sleeper = bundle(runtime).args(["sleep", "1000"]);
    let runner = bundle(runtime);
    let id = runtime.id();
    let mut over = String::new();
    for budget in budgets {
        let verb = budget.verb;
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
        let (calls, faults, peak_kib) = counted(command);
        let text = format!(
            "{verb}: {calls} system calls of {}, {faults} page faults of {}, {peak_kib} KiB of {}",
            budget.calls, budget.faults, budget.peak_kib
        );
        println!("{text}");
        let is_large = faults > budget.faults || peak_kib > budget.peak_kib;
        if calls > budget.calls || (is_shipped && is_large) {
            over += &format!("{text}\n");
        }
    }
    assert!(over.is_empty(), "{over}");
}

/// The calls and page faults of the command and its clones, up to the exec of another program, and
/// the command's own memory.
fn counted(command: Command) -> (usize, u64, u64) {
    let trace = trace(command, None);
    assert_eq!(trace.output.code, 0, "{}", trace.output);
    let calls = trace.calls.iter().flatten();
    let calls = calls.filter(|call| !OF_THE_BUILD.contains(call)).count();
    (calls, trace.faults.iter().sum(), trace.peak_kib)
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
