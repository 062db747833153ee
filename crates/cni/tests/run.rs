//! Real plugins, shell scripts of these tests, run by a process with a single thread: a clone
//! demands that, and libtest always has two. Hence a `main` of its own, which takes a part of a
//! test's name as an argument.

// All of this is tests, but clippy's exemption looks for libtest's attribute.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use coracle_cni::{
    Attachment, Container, Error, Plan, Search, add, check, del, find, gc, knows_gc, read, status,
    versions,
};
use coracle_program::Limits;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

macro_rules! named {
    ($($test:ident,)*) => { &[$((stringify!($test), $test)),*] };
}

const TESTS: &[(&str, fn())] = named![
    a_chain_gets_the_result_before,
    a_chain_is_taken_back_from_its_end,
    check_goes_forward_unless_it_is_disabled,
    the_environment_is_the_protocols,
    no_descriptor_signal_or_session,
    a_plugin_says_why,
    what_is_no_result_is_refused,
    what_does_not_start,
    a_time_limit_kills_the_group,
    a_flood_is_stopped,
    a_daemon_holds_nobody,
    a_plugin_ends_with_its_container,
    a_network_is_checked_without_a_container,
    configurations_are_read_in_order,
    a_bad_file_is_named_and_a_folder_adds,
    a_missing_plugin_is_named,
];

fn main() {
    let requested = std::env::args().nth(1).unwrap_or_default();
    let chosen = TESTS.iter().filter(|(name, _)| name.contains(&requested));
    let mut failed = 0;
    for (name, test) in chosen {
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += i32::from(!passed);
    }
    std::process::exit(failed);
}

/// A folder with plugins and configurations, removed in the end.
struct Fixture {
    dir: PathBuf,
}

impl Fixture {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("coracle-cni-{}-{name}", std::process::id()));
        for folder in ["bin", "conf"] {
            fs::create_dir_all(dir.join(folder)).expect("a folder");
        }
        Self { dir }
    }

    fn plugin(self, name: &str, script: &str) -> Self {
        let path = self.dir.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\ncd {:?}\n{script}\n", self.dir)).expect("a plugin");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        self
    }

    fn config(self, file: &str, text: &str) -> Self {
        let path = self.dir.join("conf").join(file);
        fs::create_dir_all(path.parent().unwrap()).expect("a folder");
        fs::write(path, text).expect("a configuration");
        self
    }

    /// A plan of one attachment to the network `n`.
    fn plan(&self) -> Plan {
        let conf_dir = self.dir.join("conf");
        let configured = read(&conf_dir).expect("configurations");
        let network = find(&configured, &conf_dir, "n").expect("the network");
        let attachment = Attachment {
            network: network.clone(),
            interface: "eth0".to_owned(),
            arguments: serde_json::Map::new(),
            begun: true,
            result: None,
        };
        Plan {
            attachments: vec![attachment],
            search: Search {
                conf_dir,
                bin_dirs: vec![self.dir.join("none"), self.dir.join("bin")],
                timeout_s: 20,
            },
            servers: Vec::new(),
            files: false,
            unprivileged: false,
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

const CONTAINER: Container = Container {
    id: "c1",
    namespace: None,
    limits: Limits {
        timeout: None,
        container: None,
        interrupts: None,
    },
};

/// Prints what a plugin says when all is well.
const FINE: &str = r#"echo '{"cniVersion":"1.1.0"}'"#;
/// A list of two.
const CHAIN: &str =
    r#"{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"one"},{"type":"two"}]}"#;
const SINGLE: &str = r#"{"cniVersion":"1.1.0","name":"n","type":"one"}"#;

/// A fixture with one plugin of this script.
fn single(name: &str, script: &str) -> Fixture {
    Fixture::new(name)
        .config("n.conf", SINGLE)
        .plugin("one", script)
}

fn added(plan: &Plan) -> Result<serde_json::Value, Error> {
    add(plan, &plan.attachments[0], &CONTAINER)
}

/// The error's text behind the plugin's name.
fn failure(name: &str, script: &str) -> String {
    let fixture = single(name, script);
    let text = added(&fixture.plan()).expect_err("a failure").to_string();
    let rest = text.strip_prefix("network n: plugin one: ADD: ");
    rest.unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// Writes down who was asked what, with what stood in `prevResult`.
const NOTE: &str = r#"input=$(cat); case $input in *prevResult*) p=${input#*prevResult\":\{};;
    *) p=-;; esac; echo "$CNI_COMMAND ${0##*/} ${p%%\}*}" >>log"#;

fn chain(name: &str) -> Fixture {
    let note = |who: &str| format!("{NOTE}\necho '{{\"cniVersion\":\"1.1.0\",\"who\":\"{who}\"}}'");
    Fixture::new(name)
        .config("n.conflist", CHAIN)
        .plugin("one", &note("1"))
        .plugin("two", &note("2"))
}

fn a_chain_gets_the_result_before() {
    let fixture = chain("add");
    let result = added(&fixture.plan()).expect("a result");
    assert_eq!(result.to_string(), r#"{"cniVersion":"1.1.0","who":"2"}"#);
    let expected = "ADD one -\nADD two \"cniVersion\":\"1.1.0\",\"who\":\"1\"\n";
    assert_eq!(fixture.read("log"), expected);
}

fn a_chain_is_taken_back_from_its_end() {
    let fixture = chain("del");
    let mut plan = fixture.plan();
    del(&plan, &plan.attachments[0], &CONTAINER).expect("success");
    plan.attachments[0].result = Some(serde_json::json!({"a": 1}));
    del(&plan, &plan.attachments[0], &CONTAINER).expect("success");
    let expected = "DEL two -\nDEL one -\nDEL two \"a\":1\nDEL one \"a\":1\n";
    assert_eq!(fixture.read("log"), expected);
    // One that fails keeps none from its turn.
    let fixture = fixture.plugin("two", r#"echo '{"code":7,"msg":"no"}'; exit 1"#);
    let error = del(&plan, &plan.attachments[0], &CONTAINER).unwrap_err();
    assert_eq!(error.to_string(), "network n: plugin two: DEL: no (code 7)");
    assert_eq!(fixture.read("log"), format!("{expected}DEL one \"a\":1\n"));
}

fn check_goes_forward_unless_it_is_disabled() {
    let fixture = chain("check");
    let mut plan = fixture.plan();
    plan.attachments[0].result = Some(serde_json::json!({"a": 1}));
    check(&plan, &plan.attachments[0], &CONTAINER).expect("success");
    assert_eq!(
        fixture.read("log"),
        "CHECK one \"a\":1\nCHECK two \"a\":1\n"
    );
    plan.attachments[0].network.disable_check = true;
    let error = check(&plan, &plan.attachments[0], &CONTAINER)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "network n: its configuration says disableCheck");
}

fn the_environment_is_the_protocols() {
    let fixture = single("env", &format!("env | sort >env; {FINE}"));
    let plan = fixture.plan();
    let container = Container {
        namespace: Some(Path::new("/run/ns")),
        ..CONTAINER
    };
    add(&plan, &plan.attachments[0], &container).expect("success");
    let dir = fixture.dir.display();
    let expected = format!(
        "CNI_COMMAND=ADD\nCNI_CONTAINERID=c1\nCNI_IFNAME=eth0\nCNI_NETNS=/run/ns\n\
         CNI_PATH={dir}/none:{dir}/bin\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    );
    let env = fixture.read("env");
    // A shell adds its own.
    let env: Vec<&str> = env
        .lines()
        .filter(|l| !l.starts_with("PWD=") && !l.starts_with('_'))
        .collect();
    let env: Vec<&str> = env
        .into_iter()
        .filter(|l| !l.starts_with("OLDPWD="))
        .collect();
    assert_eq!(env.join("\n") + "\n", expected);
}

fn no_descriptor_signal_or_session() {
    // Opened without close-on-exec, as a caller may have.
    let leak = fs::File::open("/etc").expect("a folder");
    nix::fcntl::fcntl(
        &leak,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let look = "ls /proc/self/fd | tr '\\n' ' ' >fds; grep -E 'SigBlk|SigIgn' /proc/self/status \
                >signals; cut -d' ' -f6 /proc/$$/stat >session; echo $$ >pid";
    let fixture = single("clean", &format!("{look}; {FINE}"));
    added(&fixture.plan()).expect("success");
    // The fourth is `ls` own.
    assert_eq!(fixture.read("fds"), "0 1 2 3 ");
    let zero = "0".repeat(16);
    assert_eq!(
        fixture.read("signals"),
        format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n")
    );
    assert_eq!(fixture.read("session"), fixture.read("pid"));
}

fn a_plugin_says_why() {
    let reported =
        r#"printf '{"cniVersion":"1.1.0","code":104,"msg":"no\\nroom","details":"left"}'; exit 3"#;
    assert_eq!(failure("reported", reported), "no\\nroom: left (code 104)");
    let text = "echo out; echo \"it\x1b[m broke\" >&2; exit 3";
    assert_eq!(failure("status", text), "exit status 3: it\\u{1b}[m broke");
    assert_eq!(failure("silent", "exit 4"), "exit status 4");
    assert_eq!(
        failure("killed", "echo aw >&2; kill -SEGV $$"),
        "killed by signal 11: aw"
    );
}

fn what_is_no_result_is_refused() {
    let text = failure("garbage", "echo what");
    assert!(text.starts_with("its result is not JSON: "), "{text}");
    assert!(text.ends_with(": what"), "{text}");
    let text = failure("nothing", "true");
    assert!(
        text.starts_with("its result is not JSON: EOF while parsing"),
        "{text}"
    );
    let text = failure("version", r#"echo '{"cniVersion":"0.2.0"}'"#);
    let expected = r#"its result is of "0.2.0", not of "1.1.0": {"cniVersion":"0.2.0"}"#;
    assert_eq!(text, expected);
}

fn what_does_not_start() {
    let fixture = single("start", "");
    let path = fixture.dir.join("bin/one");
    fs::write(&path, "#!/nonexistent\n").unwrap();
    let text = added(&fixture.plan()).unwrap_err().to_string();
    assert!(
        text.ends_with("ADD: cannot be started: not found (ENOENT)"),
        "{text}"
    );
}

fn a_time_limit_kills_the_group() {
    let script = "sleep 100 & echo $! >child; sleep 100";
    let fixture = single("hangs", script);
    let mut plan = fixture.plan();
    plan.search.timeout_s = 1;
    let begin = Instant::now();
    let text = added(&plan).unwrap_err().to_string();
    assert!(text.ends_with("ADD: timed out after 1 s"), "{text}");
    assert!(begin.elapsed() < Duration::from_secs(15));
    let stat = format!("/proc/{}/stat", fixture.read("child").trim());
    let is_gone = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    let end = Instant::now() + Duration::from_secs(10);
    while !is_gone() {
        assert!(Instant::now() < end, "its child lives");
    }
}

fn a_flood_is_stopped() {
    assert_eq!(
        failure("flood", "cat /dev/zero"),
        "printed more than 1048576 bytes"
    );
    // What it complains has no limit, but only its end is kept.
    let text = failure(
        "noise",
        "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo why >&2; exit 1",
    );
    assert!(text.len() < 1200, "{}", text.len());
}

fn a_daemon_holds_nobody() {
    let fixture = single("daemon", &format!("sleep 30 & echo $! >child; {FINE}"));
    let begin = Instant::now();
    added(&fixture.plan()).expect("success");
    assert!(begin.elapsed() < Duration::from_secs(15));
    let pid = fixture.read("child").trim().parse().expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
}

fn a_plugin_ends_with_its_container() {
    let fixture = single("gone", "sleep 100");
    let plan = fixture.plan();
    // Readable at once, as the pidfd of a process that has ended.
    let ended = fs::File::open("/dev/zero").unwrap();
    let container = Container {
        limits: Limits {
            container: Some(ended.as_fd()),
            ..Limits::default()
        },
        ..CONTAINER
    };
    let text = add(&plan, &plan.attachments[0], &container)
        .unwrap_err()
        .to_string();
    assert!(
        text.ends_with("ADD: ended, since the container was"),
        "{text}"
    );
}

fn a_network_is_checked_without_a_container() {
    let script = r#"cat >$CNI_COMMAND; env | grep -c CNI_ >>$CNI_COMMAND
        case $CNI_COMMAND in
        VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}';;
        STATUS) echo '{"cniVersion":"1.1.0","code":50,"msg":"no daemon"}'; exit 1;;
        esac"#;
    let fixture = single("asked", script);
    let plan = fixture.plan();
    let network = &plan.attachments[0].network;
    let found = versions(network, &network.plugins[0], &plan.search).expect("versions");
    assert_eq!(found, ["1.0.0", "1.1.0"]);
    let text = status(network, &plan.search).unwrap_err().to_string();
    assert_eq!(text, "network n: plugin one: STATUS: no daemon (code 50)");
    assert!(knows_gc(network));
    let valid = [("c1".to_owned(), "eth0".to_owned())];
    gc(network, &valid, &plan.search).expect("success");
    let valid = r#""cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]"#;
    let expected = format!(r#"{{{valid},"cniVersion":"1.1.0","name":"n","type":"one"}}2"#);
    assert_eq!(fixture.read("GC").trim_end(), expected);
    // An earlier version knows neither.
    let mut old = network.clone();
    old.version = coracle_cni::Version::V1_0;
    status(&old, &plan.search).expect("nothing to say");
    assert!(!knows_gc(&old));
}

fn configurations_are_read_in_order() {
    let conf = |name: &str| format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"x"}}"#);
    let list = r#"{"cniVersion":"0.4.0","name":"c","plugins":[{"type":"x"}]}"#;
    let fixture = Fixture::new("order")
        .config("20-b.conf", &conf("b"))
        .config("10-a.json", &conf("a"))
        .config("30-c.conflist", list)
        .config("40-d.txt", &conf("d"));
    let configured = read(&fixture.dir.join("conf")).unwrap();
    let names: Vec<&str> = configured
        .lists
        .iter()
        .map(|(_, l)| l.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(configured.broken.is_empty());
    let none = read(&fixture.dir.join("nothing")).unwrap();
    assert!(none.lists.is_empty());
}

fn a_bad_file_is_named_and_a_folder_adds() {
    let open = r#"{"cniVersion":"1.1.0","name":"a","plugins":[{"type":"x"}]}"#;
    let closed = r#"{"cniVersion":"1.1.0","name":"b","plugins":[{"type":"x"}],
        "loadOnlyInlinedPlugins":true}"#;
    let empty = r#"{"cniVersion":"1.1.0","name":"c","plugins":[]}"#;
    let folder = r#"{"cniVersion":"1.1.0","name":"d"}"#;
    let fixture = Fixture::new("folder")
        .config("a.conflist", open)
        .config("b.conflist", closed)
        .config("c.conflist", empty)
        .config("d.conflist", folder)
        .config("a/2.conf", r#"{"type":"z"}"#)
        .config("a/1.conf", r#"{"type":"y"}"#)
        .config("b/1.conf", r#"{"type":"y"}"#)
        .config("d/1.conf", r#"{"type":"y"}"#)
        .config("e.conf", "{");
    let configured = read(&fixture.dir.join("conf")).unwrap();
    let shown = |list: &coracle_cni::NetworkList| {
        let kinds: Vec<&str> = list.plugins.iter().map(coracle_cni::Plugin::kind).collect();
        format!("{} {}", list.name, kinds.join(","))
    };
    let lists: Vec<String> = configured
        .lists
        .iter()
        .map(|(_, list)| shown(list))
        .collect();
    assert_eq!(lists, ["a x,y,z", "b x", "d y"]);
    assert_eq!(configured.broken.len(), 2);
    assert!(configured.broken[0].ends_with("c.conflist\": plugins: expected at least one"));
    assert!(configured.broken[1].contains("e.conf\": EOF while parsing"));
}

fn a_missing_plugin_is_named() {
    let fixture = Fixture::new("missing").config("n.conf", SINGLE);
    let plan = fixture.plan();
    let text = coracle_cni::locate_all(&plan).unwrap_err().to_string();
    let dir = fixture.dir.display();
    let expected = format!("network n: plugin one: not found in \"{dir}/none\", \"{dir}/bin\"");
    assert_eq!(text, expected);
    let fixture = fixture.plugin("one", FINE);
    fs::set_permissions(
        fixture.dir.join("bin/one"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    assert!(coracle_cni::locate_all(&plan).is_err(), "not executable");
}
