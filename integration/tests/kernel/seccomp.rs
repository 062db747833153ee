//! seccomp: what becomes of calls under a filter, who answers notified ones, and that the filter is
//! there for every process. The calls are made by `calls.c`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use coracle_integration::{
    Bundle, Command, Running, Runtime, Value, build_folder, copy_program, json, needs, skip,
    wait_until,
};
use nix::sys::signal::Signal;

use crate::rootless;

const UMASK: u32 = 95;
const GETPPID: u32 = 110;

const MOBY: &str = include_str!("../../../crates/seccomp/tests/profiles/moby.json");
const CONTAINERD: &str = include_str!("../../../crates/seccomp/tests/profiles/containerd.json");
const CONTAINERS: &str =
    include_str!("../../../crates/seccomp/tests/profiles/containers-common.json");

/// `calls.c`, built once, or `CORACLE_TEST_CALLS` where no compiler is.
fn calls() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if cfg!(not(target_arch = "x86_64")) {
        skip!("needs x86_64");
    }
    if std::env::var_os("CORACLE_TEST_CALLS").is_none() {
        needs::program("cc");
    }
    PROGRAM.get_or_init(|| match std::env::var_os("CORACLE_TEST_CALLS") {
        Some(program) => program.into(),
        None => build(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/calls.c")),
    })
}

/// In its place at once: other runs may use it.
fn build(source: &str) -> PathBuf {
    let place = build_folder().join("calls");
    let program = build_folder().join(format!("calls-{}", std::process::id()));
    let cc = Command::new("cc").args(["-static", "-O1", "-Wall", "-pthread"]);
    cc.args([source, "-o"]).arg(&program).output().ok();
    std::fs::rename(&program, &place).expect("a program in its place");
    place
}

/// A bundle with this profile and the calling program.
fn filtered(runtime: &Runtime, profile: Value) -> Bundle {
    let bundle = runtime.bundle().set("/linux/seccomp", profile);
    copy_program(calls(), &bundle.path("/bin/calls"));
    bundle
}

/// Everything is allowed but `rule`.
fn but(rule: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
}

/// Nothing is allowed but `names`; all else is answered with `default`.
fn only(names: &str, default: &str) -> Value {
    let names: Vec<&str> = names.split_whitespace().collect();
    json!({
        "defaultAction": default,
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    })
}

#[test]
fn every_action_is_taken() {
    let runtime = Runtime::new();
    let number = GETPPID.to_string();
    for (action, code, text) in [
        (json!({"action": "SCMP_ACT_ALLOW"}), 0, "0"),
        (json!({"action": "SCMP_ACT_LOG"}), 0, "0"),
        (json!({"action": "SCMP_ACT_ERRNO"}), 0, "-1"),
        (
            json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 95}),
            0,
            "-95",
        ),
        (json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 0}), 0, "0"),
        // Without a tracer the call fails with ENOSYS.
        (json!({"action": "SCMP_ACT_TRACE", "errnoRet": 7}), 0, "-38"),
        (
            json!({"action": "SCMP_ACT_TRAP"}),
            0,
            "SIGSYS of 110 on x86_64, errno 0",
        ),
        (json!({"action": "SCMP_ACT_KILL"}), 128 + 31, ""),
        (json!({"action": "SCMP_ACT_KILL_THREAD"}), 128 + 31, ""),
        (json!({"action": "SCMP_ACT_KILL_PROCESS"}), 128 + 31, ""),
    ] {
        let mut rule = action.clone();
        rule["names"] = json!(["getppid"]);
        // A rule that repeats the default action would have no effect.
        let mut profile = but(rule);
        if action["action"] == "SCMP_ACT_ALLOW" {
            profile["defaultAction"] = json!("SCMP_ACT_LOG");
        }
        let bundle = filtered(&runtime, profile).args(["calls", "call", "native", &number]);
        let output = runtime.run(&bundle).exits(code);
        assert_eq!(output.line(), text, "{action}");
        let output = runtime.run(&bundle.set("/process/noNewPrivileges", json!(false)));
        assert_eq!((output.line(), output.code), (text, code), "{action}");
    }
}

#[test]
fn killing_a_thread_spares_the_others() {
    let runtime = Runtime::new();
    for (action, code, text) in [
        ("SCMP_ACT_KILL_THREAD", 0, "alive"),
        ("SCMP_ACT_KILL", 0, "alive"),
        ("SCMP_ACT_KILL_PROCESS", 128 + 31, ""),
    ] {
        let profile = but(json!({"names": ["getppid"], "action": action}));
        let bundle = filtered(&runtime, profile).args(["calls", "thread", "110"]);
        let output = runtime.run(&bundle).exits(code);
        assert_eq!(output.line(), text, "{action}");
    }
}

#[test]
fn a_tracer_is_told() {
    let runtime = Runtime::new();
    let rule = json!({"names": ["getppid"], "action": "SCMP_ACT_TRACE", "errnoRet": 77});
    let bundle = filtered(&runtime, but(rule)).args(["calls", "traced", "110"]);
    let output = runtime.run(&bundle).ok();
    assert_eq!(output.line(), "message 77\nanswer 1", "{output}");
}

#[test]
fn arguments_are_compared() {
    let runtime = Runtime::new();
    let big = 1_u64 << 32;
    let mut rules = Vec::new();
    let mut tries = Vec::new();
    // Each rule looks at another argument; all other arguments are 500, which no rule matches.
    for (index, (op, value, second, denied, allowed)) in [
        (
            "SCMP_CMP_EQ",
            big + 8,
            0,
            vec![big + 8],
            vec![8, 2 * big + 8, big + 9],
        ),
        ("SCMP_CMP_LT", 8, 0, vec![0, 7], vec![8, big, u64::MAX]),
        ("SCMP_CMP_LE", big, 0, vec![0, big], vec![big + 1]),
        ("SCMP_CMP_GE", big, 0, vec![big, u64::MAX], vec![big - 1, 0]),
        ("SCMP_CMP_GT", big, 0, vec![big + 1], vec![big, 1]),
        (
            "SCMP_CMP_MASKED_EQ",
            0xf0,
            0x20,
            vec![0x2f, big + 0x20],
            vec![0x3f, 0],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let args = json!([{"index": index, "op": op, "value": value, "valueTwo": second}]);
        rules.push(json!({
            "names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": index + 40, "args": args,
        }));
        tries.extend(denied.into_iter().map(|value| (index, value, true)));
        tries.extend(allowed.into_iter().map(|value| (index, value, false)));
    }
    // A value that matches none of the six comparisons: equal, not less, less or equal, …
    let neutral = [500, 500, big + 500, 500, 500, 500];
    let mut script = String::new();
    for (index, value, _) in &tries {
        let mut arguments = neutral;
        arguments[*index] = *value;
        let arguments = arguments.map(|a| a.to_string()).join(" ");
        script += &format!("calls call native {UMASK} {arguments}\n");
    }
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
    let output = runtime
        .run(&filtered(&runtime, profile).shell(&script))
        .ok();
    let answers: Vec<&str> = output.line().lines().collect();
    assert_eq!(answers.len(), tries.len(), "{output}");
    for ((index, value, denied), answer) in tries.iter().zip(answers) {
        let expected = match denied {
            true => format!("-{}", index + 40),
            false => "18".to_owned(),
        };
        assert_eq!(answer, expected, "argument {index} is {value:#x}");
    }
}

/// Whether `int 0x80` leads into the kernel: user-mode Linux, for one, has no such entry.
fn has_32_bit_entry() -> bool {
    const GETPID_OF_X86: &str = "20";
    let call = Command::new(calls()).args(["call", "x86", GETPID_OF_X86]);
    let pid = call.output().ok().line().parse();
    pid.is_ok_and(|pid: i32| pid > 0)
}

#[test]
fn the_32_bit_entry_is_filtered() {
    const UMASK_OF_X86: &str = "60";
    if !has_32_bit_entry() {
        skip!("needs a kernel with the 32-bit entry");
    }
    let runtime = Runtime::new();
    let rule = json!({
        "names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
        "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 7}],
    });
    let mut profile = but(rule);
    let bundle = filtered(&runtime, profile.clone());
    let call = ["calls", "call", "x86", UMASK_OF_X86, "7"];
    // The profile doesn't list this architecture.
    runtime.run(&bundle.args(call)).exits(128 + 31);
    profile["architectures"] = json!(["SCMP_ARCH_X86"]);
    let script = format!("calls call x86 {UMASK_OF_X86} 7; calls call x86 {UMASK_OF_X86} 18");
    let output = runtime
        .run(&filtered(&runtime, profile).shell(&script))
        .ok();
    assert_eq!(output.line(), "-95\n18", "{output}");
    // Moby's profile lists it.
    let profile: Value = MOBY.parse().expect("JSON");
    let bundle = filtered(&runtime, profile).args(call);
    assert_eq!(runtime.run(&bundle).ok().line(), "18");
}

#[test]
fn x32_is_filtered() {
    let runtime = Runtime::new();
    let rule = json!({"names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95});
    let mut profile = but(rule);
    let script = "calls call x32 95 18; calls call x32 110";
    let bundle = filtered(&runtime, profile.clone());
    runtime
        .run(&bundle.args(["calls", "call", "x32", "95"]))
        .exits(128 + 31);
    profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]);
    let output = runtime.run(&filtered(&runtime, profile).shell(script)).ok();
    // Most kernels lack x32, so that a call that the filter allows fails with ENOSYS.
    let (denied, allowed) = output.line().split_once('\n').expect("two lines");
    assert_eq!(denied, "-95", "{output}");
    assert!(allowed == "-38" || !allowed.starts_with('-'), "{output}");
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let runtime = Runtime::new();
    let profile: Value = MOBY.parse().expect("JSON");
    let script = "calls call native 600; calls call x86 600; calls call native 250";
    let output = runtime.run(&filtered(&runtime, profile).shell(script)).ok();
    assert_eq!(output.line(), "-38\n-38\n-1", "{output}");
}

#[test]
fn profiles_of_engines_work_unchanged() {
    let runtime = Runtime::new();
    let script = "
        set -e
        ls / | sort | tail -1
        (echo a; echo b) | wc -l
        echo x > /file; cat /file
        id -u
        grep '^Seccomp:' /proc/self/status
        calls call native 312
        calls call native 248
    ";
    // kcmp and add_key, which the kernel would refuse with other errnos.
    for (name, text, denied) in [
        ("moby", MOBY, "-1\n-1"),
        ("containerd", CONTAINERD, "-1\n-1"),
        ("containers-common", CONTAINERS, "-1\n-38"),
    ] {
        let profile: Value = text.parse().expect("JSON");
        let bundle = filtered(&runtime, profile).shell(script).user(1000, 1000);
        let bundle = bundle.file("/file", "");
        let file = bundle.path("/file");
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o666)).expect("a mode");
        let expected = format!("var\n2\nx\n1000\nSeccomp:\t2\n{denied}");
        for flag in [true, false] {
            let bundle = bundle.clone().set("/process/noNewPrivileges", json!(flag));
            let output = runtime.run(&bundle).ok();
            assert_eq!(output.line(), expected, "{name} {flag}\n{output}");
        }
    }
}

#[test]
fn exec_has_the_filter() {
    let runtime = Runtime::new();
    let rule = json!({"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95});
    for flag in [true, false] {
        let bundle = filtered(&runtime, but(rule.clone()))
            .set("/process/noNewPrivileges", json!(flag))
            .user(1000, 1000)
            .args(["sleep", "1000"]);
        let container = runtime.start(&bundle);
        let call = ["calls", "call", "native", "110"];
        assert_eq!(container.exec(call).ok().line(), "-95");
        let other = container.exec_with(["--no-new-privs", "--user", "7:7"], call);
        assert_eq!(other.ok().line(), "-95");
        let status = container
            .exec(["grep", "Seccomp", "/proc/self/status"])
            .ok();
        assert_eq!(status.line(), "Seccomp:\t2\nSeccomp_filters:\t1");
    }
}

#[test]
fn a_filter_without_rules_is_one() {
    let runtime = Runtime::new();
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    let bundle = runtime.bundle().shell("grep ^Seccomp: /proc/self/status");
    let with = runtime
        .run(&bundle.clone().set("/linux/seccomp", profile))
        .ok();
    assert_eq!(with.line(), "Seccomp:\t2");
    for none in [
        json!(null),
        json!({}),
        json!({"architectures": ["SCMP_ARCH_X86"]}),
    ] {
        let without = runtime
            .run(&bundle.clone().set("/linux/seccomp", none))
            .ok();
        assert_eq!(without.line(), "Seccomp:\t0");
    }
}

#[test]
fn flags_are_set() {
    needs::program("strace");
    let runtime = Runtime::new();
    let flag = |name: &str| format!("SECCOMP_FILTER_FLAG_{name}");
    for (flags, expected) in [
        (json!(null), flag("SPEC_ALLOW")),
        (json!([]), "0".to_owned()),
        (
            json!([flag("SPEC_ALLOW"), flag("LOG")]),
            flag("LOG|SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
        ),
        // By TSYNC alone, seccomp(2) returns the id of a thread that cannot follow instead of an
        // error.
        (
            json!([flag("TSYNC")]),
            flag("TSYNC|SECCOMP_FILTER_FLAG_TSYNC_ESRCH"),
        ),
        // Without a listener the flag means nothing.
        (json!([flag("WAIT_KILLABLE_RECV")]), "0".to_owned()),
    ] {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags});
        let bundle = runtime.bundle().set("/linux/seccomp", profile);
        let trace = runtime.folder().join("trace");
        let strace = [
            "-f",
            "-e",
            "trace=seccomp",
            "-o",
            trace.to_str().expect("UTF-8"),
        ];
        let command = runtime.with_bundle("run", &bundle).arg(runtime.id());
        command.under("strace", strace).output().ok();
        let text = std::fs::read_to_string(&trace).expect("a trace");
        let call = format!("seccomp(SECCOMP_SET_MODE_FILTER, {expected}, {{len=");
        assert!(text.contains(&call), "{call}\n{text}");
    }
}

/// A program without a C library that only ends with exit code 7.
fn tiny(runtime: &Runtime, bundle: &Bundle) {
    needs::program("cc");
    let source = runtime.folder().join("tiny.c");
    let text =
        "void _start(void)\n{\n\t__asm__ volatile(\"syscall\" : : \"a\"(231), \"D\"(7));\n}\n";
    std::fs::write(&source, text).expect("a source file");
    let cc = Command::new("cc").args(["-nostdlib", "-static", "-O1"]);
    let cc = cc.arg(&source).arg("-o").arg(bundle.path("/bin/tiny"));
    cc.output().ok();
}

#[test]
fn only_what_is_ours_needs_to_be_allowed() {
    const LAST: &str = "write read execve exit_group";
    const PRIVILEGED: &str = "prctl setgroups setresgid setresuid capset";
    let looking = format!("{LAST} {PRIVILEGED} newfstatat faccessat2");
    let runtime = Runtime::new();
    for (flag, names, default) in [
        (true, LAST, "SCMP_ACT_KILL_PROCESS"),
        (true, LAST, "SCMP_ACT_ERRNO"),
        (false, &looking, "SCMP_ACT_KILL_PROCESS"),
        (false, &format!("{LAST} {PRIVILEGED}"), "SCMP_ACT_ERRNO"),
    ] {
        let bundle = filtered(&runtime, only(names, default))
            .set("/process/noNewPrivileges", json!(flag))
            .user(1000, 1000)
            .args(["/bin/tiny"]);
        tiny(&runtime, &bundle);
        runtime.run(&bundle).exits(7);
        let container = runtime.create(&bundle);
        container.exec(["/bin/tiny"]).exits(7);
        container.start().ok();
        assert_eq!(container.exit_code(), 7);
    }
}

#[test]
fn hooks_of_the_start_are_filtered() {
    let runtime = Runtime::new();
    let rule = json!({"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95});
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "calls call native 110 > /answer"],
        "env": ["PATH=/bin"]});
    let bundle = filtered(&runtime, but(rule))
        .hook("startContainer", hook)
        .args(["cat", "/answer"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "-95");
}

#[test]
fn a_profile_that_forbids_the_start_is_named() {
    let runtime = Runtime::new();
    let hint = "the seccomp profile must allow";
    for (rule, texts) in [
        (
            json!({"names": ["write"], "action": "SCMP_ACT_KILL_PROCESS"}),
            [hint, "SIGSYS"],
        ),
        (
            json!({"names": ["write"], "action": "SCMP_ACT_ERRNO"}),
            [hint, "exit code 1"],
        ),
        // A process whose filter allows neither the report nor exit_group ends by a signal.
        (
            json!({"names": ["write", "exit", "exit_group"], "action": "SCMP_ACT_ERRNO"}),
            [hint, "SIGSEGV"],
        ),
        (
            json!({"names": ["execve"], "action": "SCMP_ACT_ERRNO"}),
            ["/bin/true", "EPERM"],
        ),
    ] {
        let bundle = runtime.bundle().set("/linux/seccomp", but(rule));
        runtime.run(&bundle).fails(texts);
    }
    let rule = json!({"names": ["clone3"], "action": "SCMP_ACT_KILL_PROCESS"});
    let bundle = runtime.bundle().set("/linux/seccomp", but(rule));
    let bundle = bundle.hook("startContainer", json!({"path": "/bin/true"}));
    let container = runtime.create(&bundle);
    container.start().fails([hint, "before it executed"]);
    let rule = json!({"names": ["setresuid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95});
    let bundle = runtime.bundle().set("/linux/seccomp", but(rule));
    runtime.run(&bundle.clone().user(1, 1)).ok();
    let bundle = bundle
        .set("/process/noNewPrivileges", json!(false))
        .user(1, 1);
    runtime.run(&bundle).fails(["become 1:1", "setresuid"]);
}

/// Faults that only the planner finds; `bad_config` has the others.
#[test]
fn bad_profiles_are_refused() {
    let runtime = Runtime::new();
    let notify = json!({"names": ["mkdir", "write"], "action": "SCMP_ACT_NOTIFY"});
    let mut written = but(notify.clone());
    written["listenerPath"] = json!("/agent");
    let values: Vec<Value> = (0..900)
        .map(|value| {
            let args = json!([{"index": 1, "op": "SCMP_CMP_EQ", "value": value}]);
            json!({"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": args})
        })
        .collect();
    let long = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": values});
    let mut unheard = but(json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}));
    unheard["listenerPath"] = json!("");
    for (profile, text) in [
        (
            written,
            "linux.seccomp.syscalls[0]: SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (unheard, "linux.seccomp.listenerPath: missing"),
        (long, "more than the kernel's 4096"),
    ] {
        let bundle = runtime.bundle().set("/linux/seccomp", profile);
        runtime.try_create(&bundle).fails(["linux.seccomp", text]);
        runtime.is_clean();
    }
}

#[test]
fn unknown_names_are_skipped_or_refused() {
    let runtime = Runtime::new();
    let rule = json!({"names": ["mkdir", "brew"], "action": "SCMP_ACT_ERRNO"});
    let bundle = runtime.bundle().set("/linux/seccomp", but(rule));
    let output = runtime.run(&bundle).ok();
    assert_eq!(output.stderr, "");
    let annotation = "/annotations/run.oci.seccomp_fail_unknown_syscall";
    runtime
        .run(&bundle.clone().set(annotation, json!("0")))
        .ok();
    // The name of a call that only other architectures have is known: profiles list the calls of
    // all.
    let foreign = json!({"names": ["spu_run", "s390_sthyi", "cachectl"],
        "action": "SCMP_ACT_ERRNO"});
    let foreign = runtime.bundle().set("/linux/seccomp", but(foreign));
    runtime.run(&foreign.set(annotation, json!("1"))).ok();
    let output = runtime.run(&bundle.set(annotation, json!("1")));
    output.fails([
        "linux.seccomp.syscalls[0].names[1]",
        "brew",
        "is not a system call",
    ]);
}

#[test]
fn what_gives_up_privileges_is_not_faked() {
    let runtime = Runtime::new();
    let rule = json!({"names": ["setresuid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0});
    let bundle = runtime.bundle().set("/linux/seccomp", but(rule)).user(1, 1);
    let bundle = bundle.args(["id", "-u"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "1");
    let bundle = bundle.set("/process/noNewPrivileges", json!(false));
    runtime
        .run(&bundle)
        .fails(["linux.seccomp", "errnoRet 0 for setresuid"]);
    // The agent may answer with a feigned success as well.
    let mut notified = but(json!({"names": ["capset"], "action": "SCMP_ACT_NOTIFY"}));
    notified["listenerPath"] = json!(runtime.folder().join("agent"));
    let bundle = bundle.set("/linux/seccomp", notified);
    runtime
        .run(&bundle)
        .fails(["linux.seccomp", "SCMP_ACT_NOTIFY for capset"]);
}

#[test]
fn explain_shows_it() {
    let runtime = Runtime::new();
    let mut profile = but(json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}));
    profile["listenerPath"] = json!("/agent");
    let bundle = runtime.bundle().set("/linux/seccomp", profile);
    for (flag, before, after) in [(true, "no_new_privs", "execute"), (false, "umask", "bound")] {
        let bundle = bundle.clone().set("/process/noNewPrivileges", json!(flag));
        let output = runtime.with_bundle("explain", &bundle).output().ok();
        let place = |text: &str| output.stdout.find(text).expect(text);
        let step = place("load the seccomp filter (");
        assert!(place(before) < step && step < place(after), "{output}");
        assert!(output.stdout.contains("listener to /agent"), "{output}");
    }
}

/// Answers notified calls.
struct Agent {
    running: Running,
    path: PathBuf,
}

impl Agent {
    fn listen(runtime: &Runtime) -> Self {
        let path = runtime.folder().join("agent");
        let running = Command::new(calls()).arg("agent").arg(&path).spawn();
        wait_until("the agent listens", || {
            running.stdout.text().contains("ready")
        });
        Self { running, path }
    }

    /// A profile that notifies of these calls and allows all others.
    fn profile(&self, names: &str) -> Value {
        let names: Vec<&str> = names.split_whitespace().collect();
        let mut profile = but(json!({"names": names, "action": "SCMP_ACT_NOTIFY"}));
        profile["listenerPath"] = json!(self.path);
        profile["listenerMetadata"] = json!("some \"data\"");
        profile
    }

    /// The states that came, each a line, once there are so many.
    fn states(&self, count: usize) -> Vec<Value> {
        let lines = || {
            let text = self.running.stdout.text();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let states = whole.lines().filter(|line| line.starts_with('{'));
            states.map(str::to_owned).collect::<Vec<_>>()
        };
        wait_until("all states came", || lines().len() >= count);
        let parse = |line: String| line.parse().expect("JSON");
        lines().into_iter().map(parse).collect()
    }

    fn received(&self, text: &str) -> usize {
        let output = self.running.stdout.text();
        output.lines().filter(|line| *line == text).count()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.running.signal(Signal::SIGKILL);
    }
}

const ASK: &str = "calls call native 83; calls call native 84; calls call native 110; true";

#[test]
fn a_listener_answers() {
    let runtime = Runtime::new();
    let agent = Agent::listen(&runtime);
    for flag in [true, false] {
        let bundle = filtered(&runtime, agent.profile("mkdir rmdir getppid"))
            .set("/process/noNewPrivileges", json!(flag))
            .user(1000, 1000)
            .shell(ASK);
        let output = runtime.run(&bundle).ok();
        assert_eq!(output.line(), "42\n-16\n1", "{output}");
        let container = runtime.create(&bundle);
        container.start().ok();
        assert_eq!(container.exit_code(), 0);
        assert_eq!(container.stdout(), "42\n-16\n1\n");
    }
    assert_eq!(agent.received("notified of 83"), 4);
}

#[test]
fn a_listener_hears_of_exec() {
    let runtime = Runtime::new();
    let agent = Agent::listen(&runtime);
    let bundle = filtered(&runtime, agent.profile("mkdir rmdir getppid")).args(["sleep", "1000"]);
    let container = runtime.start(&bundle);
    let output = container.shell(ASK).ok();
    assert!(output.line().starts_with("42\n-16\n"), "{output}");
    let states = agent.states(2);
    assert_eq!(states[1]["state"]["status"], "running");
    assert_eq!(states[1]["state"]["pid"], container.pid());
    assert_ne!(states[1]["pid"], container.pid());
}

/// The agent lets all these calls go on, which takes an agent that already listens. Calls that give
/// up privileges may be notified only where no privileges are left to give up.
#[test]
fn nothing_but_write_needs_to_pass() {
    const PRIVILEGED: &str = "prctl setgroups setresgid setresuid capset";
    let runtime = Runtime::new();
    let agent = Agent::listen(&runtime);
    let names = "read close sendmsg recvmsg sendto recvfrom execve exit_group newfstatat \
                 faccessat2 mkdir rmdir poll ppoll futex mmap munmap brk rt_sigaction \
                 rt_sigprocmask";
    for (flag, names) in [(true, &*format!("{names} {PRIVILEGED}")), (false, names)] {
        let bundle = filtered(&runtime, agent.profile(names))
            .set("/process/noNewPrivileges", json!(flag))
            .user(1000, 1000)
            .shell("calls call native 83");
        assert_eq!(runtime.run(&bundle).ok().line(), "42");
        let container = runtime.create(&bundle);
        assert_eq!(container.shell("calls call native 84").ok().line(), "-16");
        container.start().ok();
        assert_eq!(container.exit_code(), 0);
    }
}

#[test]
fn a_listener_gets_the_state() {
    let runtime = Runtime::new();
    let agent = Agent::listen(&runtime);
    let bundle = filtered(&runtime, agent.profile("mkdir"))
        .set("/annotations/some.key", json!("value"))
        .args(["sleep", "1000"]);
    let container = runtime.create(&bundle);
    let states = agent.states(1);
    assert_eq!(states.len(), 1);
    let pid = container.pid();
    let expected = json!({
        "ociVersion": "1.3.0",
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": "some \"data\"",
        "state": {
            "ociVersion": "1.3.0",
            "id": container.id,
            "status": "creating",
            "pid": pid,
            "bundle": bundle.dir,
            "annotations": {"some.key": "value"},
        },
    });
    assert_eq!(states[0], expected);
    // Nothing of it is left in init.
    let links = Command::new("ls").arg("-l").arg(format!("/proc/{pid}/fd"));
    let links = links.output().ok();
    assert!(!links.stdout.contains("seccomp"), "{links}");
}

/// Without noNewPrivileges the filter is loaded while its runtime may not trace init, whose memory
/// belongs to the host's user namespace.
#[test]
fn a_user_without_privileges_has_a_listener() {
    let runtime = rootless::user();
    let agent = Agent::listen(&runtime);
    let bundle = rootless::written(&runtime)
        .set("/linux/seccomp", agent.profile("mkdir rmdir getppid"))
        .shell(ASK);
    copy_program(calls(), &bundle.path("/bin/calls"));
    let privileged = bundle.clone().set("/process/noNewPrivileges", json!(false));
    for bundle in [&bundle, &privileged] {
        let output = runtime.run(bundle).ok();
        assert_eq!(output.line(), "42\n-16\n1", "{output}");
    }
    runtime
        .run(&bundle.set("/linux/seccomp", agent.profile("mkdir sendmsg")))
        .ok();
    let bundle = privileged;
    let bundle = bundle.set("/linux/seccomp", agent.profile("mkdir sendmsg"));
    let texts = ["listenerPath", "since sendmsg is notified as well"];
    runtime.run(&bundle).fails(texts);
    let mut denied = agent.profile("mkdir");
    let rules = denied["syscalls"].as_array_mut().expect("rules");
    rules.push(json!({"names": ["sendmsg"], "action": "SCMP_ACT_ERRNO"}));
    let bundle = bundle.set("/linux/seccomp", denied);
    runtime
        .run(&bundle)
        .fails(["listenerPath", "sendmsg", "EPERM"]);
}

#[test]
fn nobody_listening_is_an_error() {
    let runtime = Runtime::new();
    let mut profile = but(json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}));
    let path = runtime.folder().join("nobody");
    profile["listenerPath"] = json!(path);
    let bundle = runtime.bundle().set("/linux/seccomp", profile);
    let output = runtime.try_create(&bundle);
    output.fails([
        "linux.seccomp.listenerPath: failed to connect with seccomp agent",
        "nobody",
        "not found (ENOENT)",
    ]);
    runtime.is_clean();
}
