//! `process` of config.json, and what belongs to the process from elsewhere: hostname, sysctl,
//! personality, memory policy.

use std::fs;

use coracle_integration::{Bundle, Command, Runtime, json, machine, needs, program};

#[test]
fn arguments_are_passed_verbatim() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .args(["/bin/printf", "<%s>", "a b", "", "$HOME", "-x", "ä\n"]);
    assert_eq!(runtime.run(&bundle).ok().stdout, "<a b><><$HOME><-x><ä\n>");
}

#[test]
fn the_program_is_found_by_the_containers_path() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .script("/opt/own/tool", "echo found")
        .args(["tool"]);
    runtime
        .run(&bundle)
        .fails(["tool", "executable file not found in $PATH"]);
    let bundle = bundle.set("/process/env", json!(["PATH=/nowhere:/opt/own"]));
    assert_eq!(runtime.run(&bundle).ok().line(), "found");
}

#[test]
fn a_relative_program_is_relative_to_cwd() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .script("/opt/own/tool", "echo found")
        .args(["./own/tool"]);
    runtime.run(&bundle).fails(["./own/tool"]);
    assert_eq!(
        runtime
            .run(&bundle.set("/process/cwd", json!("/opt")))
            .ok()
            .line(),
        "found"
    );
}

#[test]
fn a_missing_program_fails_create() {
    let runtime = Runtime::new();
    let output = runtime.try_create(&runtime.bundle().args(["missing"]));
    output.fails(["missing", "executable file not found in $PATH"]);
    runtime.is_clean();
}

#[test]
fn a_missing_path_fails_create() {
    let runtime = Runtime::new();
    let output = runtime.try_create(&runtime.bundle().args(["/bin/missing"]));
    output.fails(["/bin/missing", "no such file or directory"]);
    runtime.is_clean();
}

#[test]
fn a_folder_is_no_program() {
    let runtime = Runtime::new();
    let output = runtime.try_create(&runtime.bundle().args(["/etc"]));
    output.fails(["/etc", "permission denied", "is a directory"]);
}

#[test]
fn a_file_without_permission_is_no_program() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .file("/bin/plain", "text")
        .args(["/bin/plain"]);
    runtime
        .try_create(&bundle)
        .fails(["/bin/plain", "permission denied"]);
    // A file without execute permission earlier in PATH does not hide one that can be executed.
    let bundle = bundle.script("/sbin/plain", "echo fine").args(["plain"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "fine");
}

#[test]
fn a_script_without_interpreter_fails() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .script("/bin/script", "")
        .file("/bin/script", "echo no\n");
    let output = runtime.run(&bundle.args(["/bin/script"]));
    assert_ne!(output.code, 0, "{output}");
    assert!(output.stderr.contains("exec format error"), "{output}");
}

#[test]
fn environment_is_exactly_the_configs() {
    let runtime = Runtime::new();
    let env = ["B=2", "PATH=/bin", "A=1=1", "EMPTY=", "HOME=/h"];
    let bundle = runtime
        .bundle()
        .args(["env"])
        .set("/process/env", json!(env));
    let command = runtime
        .with_bundle("run", &bundle)
        .arg(runtime.id())
        .env("SECRET", "x");
    assert_eq!(command.output().ok().stdout, env.join("\n") + "\n");
}

#[test]
fn the_last_of_equal_variables_counts() {
    let runtime = Runtime::new();
    let env = json!(["PATH=/bin", "A=1", "B=x", "A=2"]);
    let bundle = runtime.bundle().shell("echo $A$B").set("/process/env", env);
    assert_eq!(runtime.run(&bundle).ok().line(), "2x");
}

#[test]
fn home_comes_from_passwd() {
    let runtime = Runtime::new();
    let passwd = "x:x:1:1::/bad:\nme:x:1000:1000::/home/me:/bin/sh\n";
    let bundle = runtime
        .bundle()
        .file("/etc/passwd", passwd)
        .shell("echo $HOME");
    assert_eq!(
        runtime.run(&bundle.clone().user(1000, 1000)).ok().line(),
        "/home/me"
    );
    let set = bundle.set("/process/env", json!(["PATH=/bin", "HOME=/own"]));
    assert_eq!(runtime.run(&set).ok().line(), "/own");
}

#[test]
fn home_without_passwd_is_the_root() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell("echo $HOME").user(4321, 0);
    assert_eq!(runtime.run(&bundle).ok().line(), "/");
}

#[test]
fn passwd_out_of_the_root_is_not_read() {
    let runtime = Runtime::new();
    let outside = runtime.folder().file("passwd", "x:x:0:0::/outside:\n");
    let bundle = runtime
        .bundle()
        .link("/etc/passwd", &outside)
        .shell("echo $HOME");
    assert_eq!(runtime.run(&bundle).ok().line(), "/");
}

#[test]
fn cwd_is_set() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .args(["pwd"])
        .set("/process/cwd", json!("/usr/bin"));
    assert_eq!(runtime.run(&bundle).ok().line(), "/usr/bin");
}

#[test]
fn a_missing_cwd_is_made() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .shell("pwd; stat -c %a .")
        .set("/process/cwd", json!("/a/b/c"));
    assert_eq!(runtime.run(&bundle).ok().line(), "/a/b/c\n755");
}

/// A config can make the program's name and PATH long: memory must not grow with the product of the
/// two.
#[test]
fn names_that_no_kernel_takes_take_no_memory() {
    let runtime = Runtime::new();
    let refusal = |bundle: &Bundle| {
        let limited = Command::new("prlimit").arg("--as=200000000");
        let limited = limited.arg(program()).arg("--root").arg(runtime.root());
        let run = limited.args(["run", "--bundle"]).arg(&bundle.write().dir);
        run.arg(runtime.id()).output()
    };
    let deep = runtime
        .bundle()
        .set("/process/cwd", json!("/y".repeat(60_000)));
    refusal(&deep).fails(["process.cwd: 120000 bytes", "more than the 4095"]);
    let path = format!("PATH={}", ":".repeat(60_000));
    let long = runtime.bundle().set("/process/env", json!([path]));
    let long = long.args([&"a".repeat(60_000)]);
    refusal(&long).fails(["exec: ", "aaa"]);
}

#[test]
fn cwd_may_be_the_users_alone() {
    let runtime = Runtime::new();
    let own = runtime.folder().folder("own");
    std::os::unix::fs::chown(&own, Some(1000), Some(1000)).unwrap();
    fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let bundle = runtime
        .bundle()
        .args(["pwd"])
        .user(1000, 1000)
        .bind(&own, "/own", []);
    let bundle = bundle.capabilities([]).set("/process/cwd", json!("/own"));
    assert_eq!(runtime.run(&bundle).ok().line(), "/own");
}

#[test]
fn user_and_group_are_set() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .args(["grep", "-E", "^[UG]id", "/proc/self/status"]);
    let output = runtime.run(&bundle.user(1000, 2000)).ok();
    assert_eq!(
        output.stdout,
        "Uid:\t1000\t1000\t1000\t1000\nGid:\t2000\t2000\t2000\t2000\n"
    );
}

#[test]
fn additional_groups_are_exactly_the_configs() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .args(["grep", "^Groups", "/proc/self/status"]);
    let groups = bundle.clone().set(
        "/process/user/additionalGids",
        json!([10, 4_000_000_000_u32]),
    );
    assert_eq!(runtime.run(&groups).ok().line(), "Groups:\t10 4000000000");
    assert_eq!(runtime.run(&bundle).ok().line(), "Groups:");
}

#[test]
fn the_callers_groups_are_dropped() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .args(["grep", "^Groups", "/proc/self/status"]);
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let output = run
        .under("setpriv", ["--groups=4,27,44", "--"])
        .output()
        .ok();
    assert_eq!(output.line(), "Groups:");
}

#[test]
fn umask_is_0022_whatever_the_callers() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell("umask");
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    assert_eq!(run.after("umask 0177").output().ok().line(), "0022");
}

#[test]
fn umask_is_set() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .shell("umask")
        .set("/process/user/umask", json!(0o27));
    assert_eq!(runtime.run(&bundle).ok().line(), "0027");
}

/// The five capability sets of a process inside, as `/proc` writes them, without leading zeros.
pub(crate) const SETS: [&str; 3] = [
    "sh",
    "-c",
    "grep ^Cap /proc/self/status | sed 's/\t0*/ /;s/Cap//'",
];

#[test]
fn capabilities_are_exactly_the_configs() {
    let runtime = Runtime::new();
    let sets = json!({"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
        "effective": ["CAP_KILL"], "inheritable": [], "ambient": []});
    let bundle = runtime
        .bundle()
        .args(SETS)
        .set("/process/capabilities", sets)
        .set("/process/noNewPrivileges", json!(false));
    let output = runtime.run(&bundle).ok();
    // An exec by root turns the bounding set into the permitted one: that is the kernel's rule.
    assert_eq!(output.stdout, "Inh: \nPrm: 21\nEff: 21\nBnd: 21\nAmb: \n");
    let output = runtime.run(&bundle.user(1000, 1000)).ok();
    assert_eq!(output.stdout, "Inh: \nPrm: \nEff: \nBnd: 21\nAmb: \n");
}

#[test]
fn omitted_capabilities_are_none() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(SETS).remove("/process/capabilities");
    let output = runtime.run(&bundle).ok();
    assert_eq!(output.stdout, "Inh: \nPrm: \nEff: \nBnd: \nAmb: \n");
}

#[test]
fn ambient_capabilities_are_raised() {
    let runtime = Runtime::new();
    let names = json!(["CAP_NET_BIND_SERVICE"]);
    let sets = json!({"bounding": names, "permitted": names, "effective": names,
        "inheritable": names, "ambient": names});
    let bundle = runtime
        .bundle()
        .args(SETS)
        .user(1000, 1000)
        .set("/process/capabilities", sets);
    let output = runtime.run(&bundle).ok();
    assert_eq!(
        output.stdout,
        "Inh: 400\nPrm: 400\nEff: 400\nBnd: 400\nAmb: 400\n"
    );
}

#[test]
fn ambient_that_secure_bits_forbid_is_told() {
    let runtime = Runtime::new();
    needs::program("python3");
    let kill = ["CAP_KILL"];
    let sets = json!({"bounding": kill, "permitted": kill, "effective": kill,
        "inheritable": kill, "ambient": kill});
    let bundle = runtime
        .bundle()
        .args(SETS)
        .set("/process/capabilities", sets);
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    // PR_SET_SECUREBITS, SECBIT_NO_CAP_AMBIENT_RAISE
    let script = "import ctypes, os, sys
assert ctypes.CDLL(None).prctl(28, 1 << 6, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])";
    let output = run.under("python3", ["-c", script]).output();
    assert!(output.stdout.ends_with("Amb: \n"), "{output}");
    let warning = "process.capabilities.ambient: SECBIT_NO_CAP_AMBIENT_RAISE is set";
    assert!(output.ok().stderr.contains(warning));
}

#[test]
fn ambient_without_inheritable_is_no_failure() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(SETS).capabilities(["CAP_KILL"]);
    let output = runtime
        .run(&bundle.set("/process/capabilities/ambient", json!(["CAP_KILL"])))
        .ok();
    assert!(output.stdout.ends_with("Amb: \n"), "{output}");
    let warning = "level=warning msg=\"process.capabilities.ambient: not permitted and inheritable";
    assert_eq!(output.stderr.matches(warning).count(), 1, "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
}

#[test]
fn an_unknown_capability_is_no_failure() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .args(SETS)
        .capabilities(["CAP_KILL", "CAP_TIME_TRAVEL"]);
    let output = runtime.run(&bundle).ok();
    assert!(output.stdout.contains("Bnd: 20\n"), "{output}");
    let text = "CAP_TIME_TRAVEL\\\" is no known capability";
    assert!(output.stderr.contains(text), "{output}");
}

/// Warnings are there without being asked for, and never beside a failure: podman reads the log as
/// one record then.
#[test]
fn warnings_are_shown_and_failures_stand_alone() {
    let runtime = Runtime::new();
    let odd = runtime.bundle().set("/process/user", json!({}));
    let odd = odd
        .set("/process/Args", json!(["sh"]))
        .set("/proces", json!({}));
    let expected = [
        "config.json: process.user.uid: missing, 0 is taken",
        "config.json: process.user.gid: missing, 0 is taken",
        "config.json: process.Args is not a property; did you mean args?",
        "config.json: proces is not a property; did you mean process?",
    ];
    let log = runtime.folder().join("log");
    let logged = |level: &str, bundle: &Bundle| {
        let _ = fs::remove_file(&log);
        let run = runtime
            .bare()
            .arg("--log")
            .arg(&log)
            .args(["--log-level", level]);
        let run = run
            .arg("--root")
            .arg(runtime.root())
            .args(["run", "--bundle"]);
        let output = run.arg(&bundle.write().dir).arg(runtime.id()).output();
        (output, fs::read_to_string(&log).unwrap())
    };
    let (output, text) = logged("warning", &odd);
    assert_eq!(output.ok().stderr, "");
    assert_eq!(text.lines().count(), expected.len(), "{text}");
    let stderr = runtime.run(&odd).ok().stderr;
    for warning in expected {
        assert!(text.contains(warning), "{text}");
        assert!(
            stderr.contains(&format!("level=warning msg=\"{warning}\"")),
            "{stderr}"
        );
    }
    assert_eq!(logged("error", &odd).1, "");
    let (output, text) = logged("warning", &odd.clone().args(["/no/such/program"]));
    output.fails(["/no/such/program"]);
    assert_eq!(text.lines().count(), 1, "{text}");
    // The file of `exec --process` is checked as well.
    let container = runtime.sleeper();
    let capabilities = json!({"bounding": ["CAP_KILL", "CAP_TIME_TRAVEL"],
        "ambient": ["CAP_KILL"]});
    let process = json!({"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0},
        "noNewPrivilege": true, "capabilities": capabilities});
    let file = runtime.folder().file("process.json", &process.to_string());
    let exec = container
        .exec_with(["--process", file.to_str().unwrap()], ["ignored"])
        .ok();
    for warning in [
        "process.noNewPrivilege is not a property; did you mean noNewPrivileges?",
        "is no known capability",
        "process.capabilities.ambient: not permitted and inheritable",
    ] {
        assert!(exec.stderr.contains(warning), "{exec}");
    }
    assert_eq!(exec.stderr.lines().count(), 3, "{exec}");
}

#[test]
fn a_user_keeps_no_capabilities_but_ambient_ones() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .args(SETS)
        .user(1000, 0)
        .capabilities(["CAP_KILL"]);
    assert_eq!(
        runtime.run(&bundle).ok().stdout,
        "Inh: \nPrm: \nEff: \nBnd: 20\nAmb: \n"
    );
}

#[test]
fn no_new_privileges_is_set() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .args(["grep", "NoNewPrivs", "/proc/self/status"]);
    assert_eq!(runtime.run(&bundle).ok().line(), "NoNewPrivs:\t1");
}

#[test]
fn no_new_privileges_is_not_set() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .args(["grep", "NoNewPrivs", "/proc/self/status"]);
    let bundle = bundle.set("/process/noNewPrivileges", json!(false));
    assert_eq!(runtime.run(&bundle).ok().line(), "NoNewPrivs:\t0");
}

#[test]
fn limits_are_set() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["cat", "/proc/self/limits"]);
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX}]);
    let output = runtime.run(&bundle.set("/process/rlimits", limits)).ok();
    let line = |name: &str| {
        output
            .stdout
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
    };
    let words = |name: &str| {
        line(name)
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(words("Max open files")[3..5], ["100", "200"]);
    assert_eq!(words("Max core file size")[4..6], ["0", "unlimited"]);
}

#[test]
fn a_limit_that_cannot_be_raised_is_named() {
    let runtime = Runtime::new();
    // Above the largest fs.nr_open that a kernel takes.
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 2_000_000_000}]);
    let bundle = runtime.bundle().set("/process/rlimits", limits);
    let most = "(fs.nr_open is the most): operation not permitted";
    runtime
        .run(&bundle)
        .fails(["RLIMIT_NOFILE", "2000000000", most]);
}

#[test]
fn oom_score_adjustment_is_set() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["cat", "/proc/self/oom_score_adj"]);
    for value in [500, 0] {
        // The caller's value is lower, so that no privilege is needed.
        let bundle = bundle.clone().set("/process/oomScoreAdj", json!(value));
        assert_eq!(runtime.run(&bundle).ok().line(), value.to_string());
    }
}

#[test]
fn oom_score_adjustment_is_kept() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().args(["cat", "/proc/self/oom_score_adj"]);
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let run = run.after("echo 77 >/proc/self/oom_score_adj");
    assert_eq!(run.output().ok().line(), "77");
}

#[test]
fn the_scheduler_is_set() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell("cut -d' ' -f19,41 /proc/self/stat");
    let batch = json!({"policy": "SCHED_BATCH", "nice": 5});
    assert_eq!(
        runtime
            .run(&bundle.clone().set("/process/scheduler", batch))
            .ok()
            .line(),
        "5 3"
    );
    let idle = json!({"policy": "SCHED_IDLE"});
    let output = runtime.run(&bundle.set("/process/scheduler", idle)).ok();
    assert!(output.line().ends_with(" 5"), "{output}");
}

#[test]
fn a_scheduler_that_the_kernel_lacks_is_named() {
    let runtime = Runtime::new();
    let with = |scheduler| {
        let bundle = runtime.bundle().set("/process/scheduler", scheduler);
        runtime.run(&bundle.args(["true"]))
    };
    with(json!({"policy": "SCHED_ISO"})).fails(["SCHED_ISO", "Linux has no such policy"]);
    let flags = ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"];
    let bounded = with(json!({"policy": "SCHED_OTHER", "flags": flags}));
    if bounded.code != 0 {
        bounded.fails(["the kernel is built without CONFIG_UCLAMP_TASK"]);
    }
}

#[test]
fn the_io_priority_is_set() {
    let runtime = Runtime::new();
    let priority = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    let bundle = runtime.bundle().args(["ionice", "-p", "1"]);
    let output = runtime
        .run(&bundle.set("/process/ioPriority", priority))
        .ok();
    assert_eq!(output.line(), "best-effort: prio 6");
}

#[test]
fn the_callers_affinity_is_forgotten() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .args(["grep", "Cpus_allowed_list", "/proc/self/status"]);
    let all = runtime.run(&bundle).ok().stdout;
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let output = run.under("taskset", ["-c", "0"]).output().ok();
    assert_eq!(output.stdout, all);
}

#[test]
fn signals_are_reset() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .args(["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]);
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let run = run.under(
        "env",
        [
            "--block-signal=USR1,TERM",
            "--ignore-signal=PIPE,HUP,USR2,64",
        ],
    );
    let zero = "0000000000000000";
    let expected = format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\nSigCgt:\t{zero}\n");
    assert_eq!(run.output().ok().stdout, expected);
}

#[test]
fn no_descriptor_but_stdio_is_open() {
    let runtime = Runtime::new();
    // 3 is the folder that ls itself reads.
    let bundle = runtime.bundle().args(["ls", "/proc/self/fd"]);
    let run = runtime.with_bundle("run", &bundle).arg(runtime.id());
    let leak = "exec 3</ 4</etc/passwd 5>/dev/null 9</dev/zero";
    assert_eq!(run.after(leak).output().ok().stdout, "0\n1\n2\n3\n");
}

#[test]
fn standard_streams_to_null_are_the_containers() {
    let runtime = Runtime::new();
    let script = "stat -L -c %d /proc/self/fd/0 /dev/null";
    let output = runtime.run(&runtime.bundle().shell(script)).ok();
    let devices: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(devices[0], devices[1], "the host's /dev/null is still open");
}

#[test]
fn the_process_leads_a_session() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell("cut -d' ' -f1,5,6,7 /proc/$$/stat");
    assert_eq!(runtime.run(&bundle).ok().line(), "1 1 1 0");
}

#[test]
fn a_session_keyring_is_made() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .shell("cat /proc/keys; sleep 1000")
        .remove("/linux/maskedPaths");
    let container = runtime.start(&bundle);
    container.wait_for(&format!("_ses.{}", container.id));
    let keys = container.exec(["cat", "/proc/keys"]).ok();
    assert!(
        keys.stdout.contains(&format!("_ses.{}", container.id)),
        "{keys}"
    );
}

#[test]
fn no_new_keyring_keeps_the_callers() {
    let runtime = Runtime::new();
    let id = runtime.id();
    let bundle = runtime
        .bundle()
        .args(["cat", "/proc/keys"])
        .remove("/linux/maskedPaths");
    let run = runtime
        .with_bundle("run", &bundle)
        .args(["--no-new-keyring", &id]);
    let output = run.output().ok();
    assert!(!output.stdout.contains(&format!("_ses.{id}")), "{output}");
    let bundle = bundle.args(["sleep", "1000"]);
    let container = runtime.create_with(&bundle, ["--no-new-keyring"]);
    let output = container.exec(["cat", "/proc/keys"]).ok();
    assert!(!output.stdout.contains(&container.id), "{output}");
}

#[test]
fn hostname_and_domainname_are_set() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .shell("hostname; cat /proc/sys/kernel/domainname");
    let bundle = bundle
        .set("/hostname", json!("box"))
        .set("/domainname", json!("example.org"));
    assert_eq!(runtime.run(&bundle).ok().line(), "box\nexample.org");
}

#[test]
fn sysctls_are_written() {
    let runtime = Runtime::new();
    let sysctl = json!({"net.ipv4.ip_forward": "1", "kernel/msgmax": "9000",
        "net.ipv4.conf.lo.rp_filter": "2", "fs.mqueue.msg_max": "20"});
    let files = [
        "net/ipv4/ip_forward",
        "kernel/msgmax",
        "net/ipv4/conf/lo/rp_filter",
        "fs/mqueue/msg_max",
    ];
    let script = format!("cd /proc/sys && cat {}", files.join(" "));
    let bundle = runtime.bundle().shell(&script).set("/linux/sysctl", sysctl);
    assert_eq!(runtime.run(&bundle).ok().stdout, "1\n9000\n2\n20\n");
}

#[test]
fn sysctls_of_the_host_are_refused() {
    let runtime = Runtime::new();
    let before = fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
    for key in [
        "vm.swappiness",
        "kernel.panic",
        "kernel.hostname",
        "net.ipv4..x",
        "net.ipv4.conf/../x",
    ] {
        let bundle = runtime.bundle().set("/linux/sysctl", json!({key: "1"}));
        runtime.try_create(&bundle).fails([key]);
    }
    let sysctl = json!({"net.ipv4.ip_forward": "1"});
    let bundle = runtime
        .bundle()
        .without_namespace("network")
        .set("/linux/sysctl", sysctl);
    runtime.try_create(&bundle).fails(["net.ipv4.ip_forward"]);
    assert_eq!(
        fs::read_to_string("/proc/sys/vm/swappiness").unwrap(),
        before
    );
}

#[test]
fn personality_is_set() {
    super::exec::needs_personality();
    let runtime = Runtime::new();
    let bundle = runtime.bundle().shell("uname -m; sleep 1000");
    let bundle = bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    let container = runtime.start(&bundle);
    container.wait_for("i686\n");
    assert_eq!(container.exec(["uname", "-m"]).ok().line(), "i686");
}

#[test]
fn a_memory_policy_is_set() {
    let runtime = Runtime::new();
    // Beside a node that exists the kernel would leave it out without an error.
    let policy = json!({"mode": "MPOL_BIND", "nodes": "0,1000"});
    let bundle = runtime.bundle().set("/linux/memoryPolicy", policy);
    runtime
        .try_create(&bundle)
        .fails(["linux.memoryPolicy.nodes: invalid memory policy: node 1000 is not online"]);
    let bundle = runtime
        .bundle()
        .shell("head -n 1 /proc/self/numa_maps || true");
    if !runtime.run(&bundle).ok().stdout.contains("default") {
        coracle_integration::skip!("needs a kernel with NUMA");
    }
    let policy = json!({"mode": "MPOL_BIND", "nodes": "0"});
    let output = runtime.run(&bundle.set("/linux/memoryPolicy", policy)).ok();
    assert!(output.stdout.contains("bind:0"), "{output}");
}

#[test]
fn create_without_process_works_and_start_fails() {
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle().remove("/process"));
    container.start().fails(["process"]);
    assert_eq!(container.status(), "created");
    container.delete().ok();
}

#[test]
fn an_apparmor_profile_without_apparmor_is_refused() {
    let runtime = Runtime::new();
    let bundle = runtime
        .bundle()
        .set("/process/apparmorProfile", json!("no-such-profile"));
    runtime.try_create(&bundle).fails(["no-such-profile"]);
    if machine().has_apparmor {
        let bundle = bundle.set("/process/apparmorProfile", json!("unconfined"));
        runtime.run(&bundle).ok();
    }
}

/// A profile of the guest: it allows everything but writing to `/tmp/denied`.
const APPARMOR_PROFILE: &str = "guest-test";

/// A bundle under that profile, which must be loaded.
fn confined(runtime: &Runtime) -> Bundle {
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    if !loaded.contains(APPARMOR_PROFILE) {
        coracle_integration::skip!("needs the AppArmor profile {APPARMOR_PROFILE}");
    }
    let profile = json!(APPARMOR_PROFILE);
    let bundle = runtime.bundle().folder("/tmp");
    bundle.set("/process/apparmorProfile", profile)
}

const LOOK: &str = "cat /proc/self/attr/current; echo x >/tmp/allowed && cat /tmp/allowed; \
                    echo x >/tmp/denied || echo denied";

#[test]
fn an_apparmor_profile_confines() {
    let runtime = Runtime::new();
    let bundle = confined(&runtime).shell(LOOK);
    for flag in [false, true] {
        let bundle = bundle.clone().set("/process/noNewPrivileges", json!(flag));
        let output = runtime.run(&bundle).ok();
        assert_eq!(output.line(), "guest-test (enforce)\nx\ndenied", "{output}");
    }
}

#[test]
fn an_apparmor_profile_that_is_not_loaded_is_named() {
    let runtime = Runtime::new();
    let bundle = confined(&runtime).set("/process/apparmorProfile", json!("no-such-profile"));
    let texts = [
        "no-such-profile",
        "attr/apparmor/exec",
        "the profile is not loaded",
        "ENOENT",
    ];
    runtime.try_create(&bundle).fails(texts);
    let checked = runtime.with_bundle("check", &bundle).output();
    let found = "process.apparmorProfile: \"no-such-profile\": it is not loaded";
    assert!(checked.stdout.contains(found), "{checked}");
    runtime.is_clean();
}

#[test]
fn exec_has_the_apparmor_profile() {
    let runtime = Runtime::new();
    let container = runtime.start(&confined(&runtime).args(["sleep", "1000"]));
    let output = container.shell(LOOK).ok();
    assert_eq!(output.line(), "guest-test (enforce)\nx\ndenied", "{output}");
    let current = ["cat", "/proc/self/attr/current"];
    let output = container
        .exec_with(["--apparmor", "unconfined"], current)
        .ok();
    assert_eq!(output.line(), "unconfined");
    // The profile comes from the command line, not from the config.
    let container = runtime.sleeper();
    let output = container
        .exec_with(["--apparmor", APPARMOR_PROFILE], current)
        .ok();
    assert_eq!(output.line(), "guest-test (enforce)");
}

#[test]
fn an_selinux_label_without_selinux_is_refused() {
    if machine().has_selinux {
        coracle_integration::skip!("SELinux is on");
    }
    let runtime = Runtime::new();
    let label = json!("system_u:system_r:container_t:s0");
    let bundle = runtime.bundle().set("/process/selinuxLabel", label);
    runtime.try_create(&bundle).fails(["selinux"]);
}

#[test]
fn init_is_not_traceable_before_start() {
    needs::program("runuser");
    let runtime = Runtime::new();
    let container = runtime.create(&runtime.bundle().user(1000, 1000).args(["sleep", "1000"]));
    // /proc/PID belongs to root while the process is not dumpable, to its user otherwise.
    let owner = || {
        std::os::unix::fs::MetadataExt::uid(
            &fs::metadata(format!("/proc/{}/environ", container.pid())).unwrap(),
        )
    };
    assert_eq!(owner(), 0);
    container.start().ok();
    coracle_integration::wait_until("exec", || owner() == 1000);
}
