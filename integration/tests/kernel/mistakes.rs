//! Mistakes that people make, and the exact line that each is answered with: what was attempted, on
//! what, why, where the config has it and what may help. `UPDATE_EXPECT=1` writes the lines anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use coracle_integration::{Bundle, Command, HostMount, Runtime, Value, json, write_program};

const LINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/mistakes.txt");

/// The runtime, and where it logs.
struct Scene {
    runtime: Runtime,
    log: PathBuf,
}

/// A mistake: how it is called, and what makes it.
type Mistake = (&'static str, fn(&Scene));

impl Scene {
    fn new() -> Self {
        let runtime = Runtime::new().options(["--log-format", "json"]);
        let log = runtime.folder().join("log");
        Self { runtime, log }
    }

    fn logged<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let command = self.runtime.command(["--log"]).arg(&self.log);
        command.args(arguments)
    }

    fn verb<const N: usize>(&self, arguments: [&str; N]) {
        self.logged(arguments).output();
    }

    fn with(&self, verb: &str, bundle: &Bundle) {
        let command = self.logged([verb, "--bundle"]).arg(&bundle.write().dir);
        command.arg(self.runtime.id()).output();
    }

    fn run(&self, bundle: &Bundle) {
        self.with("run", bundle);
    }

    fn bundle(&self) -> Bundle {
        self.runtime.bundle()
    }

    /// A bundle with this property.
    fn property(&self, pointer: &str, value: Value) {
        self.run(&self.bundle().set(pointer, value));
    }

    /// The last record, as the table has it: what programs read, and the line.
    fn answer(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let record = text.lines().last().unwrap_or("{}");
        let record: Value = record.parse().expect("JSON");
        let mut answer = String::new();
        for key in ["code", "path", "errno", "stage"] {
            let value = record[key].as_str();
            write!(answer, " {}", value.unwrap_or("-")).expect("a string");
        }
        let line = record["msg"].as_str().unwrap_or("(no failure)");
        // Which other state roots there are depends on the machine.
        let line = line.split("; other state roots").next().unwrap_or(line);
        let line = line
            .strip_suffix(": coracle list shows what there is")
            .unwrap_or(line);
        self.general(&format!("   {answer}\n    {line}\n"))
    }

    /// The text without what differs from run to run.
    fn general(&self, text: &str) -> String {
        let folder = self.runtime.folder().join("");
        let text = text.replace(&*folder.to_string_lossy(), "FOLDER/");
        let mut parts = text.split(self.runtime.marker());
        let mut general = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let rest = part.trim_start_matches(|one: char| one.is_ascii_digit());
            write!(general, "ID{rest}").expect("a string");
        }
        general
    }
}

/// Makes the file executable, with these bytes.
fn program(bundle: Bundle, inside: &str, bytes: &[u8]) -> Bundle {
    let bundle = bundle.script(inside, "");
    write_program(&bundle.path(inside), bytes);
    bundle.args([inside]).clone()
}

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// The beginning of an ELF program for another machine.
fn foreign_program() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    // ET_EXEC for EM_AARCH64: elf(5).
    bytes.extend([2, 0, 183, 0]);
    bytes.resize(4096, 0);
    bytes
}

const PROGRAM: &[Mistake] = &[
    ("a program that is not in the image", |scene| {
        scene.run(&scene.bundle().args(["/usr/bin/pyton3"]));
    }),
    ("a program that is not in the PATH", |scene| {
        scene.run(&scene.bundle().args(["pyton3"]));
    }),
    ("no PATH in process.env", |scene| {
        let bundle = scene.bundle().set("/process/env", json!(["TERM=xterm"]));
        scene.run(&bundle.args(["pyton3"]));
    }),
    ("a directory as the program", |scene| {
        scene.run(&scene.bundle().args(["/etc"]));
    }),
    ("a program without the right to execute", |scene| {
        let bundle = scene.bundle().file("/run.sh", "#!/bin/sh\n");
        scene.run(&bundle.args(["/run.sh"]));
    }),
    ("a program of root that the user may not execute", |scene| {
        let bundle = scene.bundle().script("/run.sh", "true").user(1000, 1000);
        mode(&bundle.path("/run.sh"), 0o744);
        scene.run(&bundle.args(["/run.sh"]));
    }),
    (
        "a program in the PATH that the user may not execute",
        |scene| {
            let bundle = scene.bundle().script("/bin/tool", "true").user(1000, 1000);
            mode(&bundle.path("/bin/tool"), 0o744);
            scene.run(&bundle.args(["tool"]));
        },
    ),
    ("a program on a noexec mount", |scene| {
        let folder = scene.runtime.folder().folder("tools");
        let bundle = scene.bundle().script("/run.sh", "true");
        fs::copy(bundle.path("/run.sh"), folder.join("run.sh")).expect("a copy");
        let bundle = bundle.bind(&folder, "/tools", ["noexec"]);
        scene.run(&bundle.args(["/tools/run.sh"]));
    }),
    ("a script whose interpreter is missing", |scene| {
        let bundle = program(scene.bundle(), "/run.sh", b"#!/bin/bash -e\ntrue\n");
        scene.run(&bundle);
    }),
    ("a script with the line ends of Windows", |scene| {
        let bundle = program(scene.bundle(), "/run.sh", b"#!/bin/sh\r\ntrue\r\n");
        scene.run(&bundle);
    }),
    ("a script whose interpreter cannot be executed", |scene| {
        let bundle = program(scene.bundle(), "/run.sh", b"#!/lib/sh\n");
        scene.run(&bundle.file("/lib/sh", "x"));
    }),
    ("a dynamic program without its loader", |scene| {
        let bytes = fs::read("/bin/ls").expect("a dynamic program");
        scene.run(&program(scene.bundle(), "/ls", &bytes));
    }),
    ("a program for another machine", |scene| {
        scene.run(&program(scene.bundle(), "/app", &foreign_program()));
    }),
    ("a script without #!", |scene| {
        scene.run(&program(scene.bundle(), "/run.sh", b"echo hello\n"));
    }),
    ("an empty program", |scene| {
        scene.run(&program(scene.bundle(), "/app", b""));
    }),
    ("exec of a program that is not there", |scene| {
        let container = scene.runtime.sleeper();
        scene.verb(["exec", &container.id, "bash"]);
    }),
    (
        "start of a created container without its interpreter",
        |scene| {
            let bundle = program(scene.bundle(), "/run.sh", b"#!/bin/bash\n");
            let container = scene.runtime.create(&bundle);
            scene.verb(["start", &container.id]);
        },
    ),
    ("a working directory that is a file", |scene| {
        scene.property("/process/cwd", json!("/etc/passwd"));
    }),
    ("a working directory that is not absolute", |scene| {
        scene.property("/process/cwd", json!("app"));
    }),
    ("a user by name", |scene| {
        let container = scene.runtime.sleeper();
        scene.verb(["exec", "--user", "www-data", &container.id, "true"]);
    }),
    ("a limit above that of the kernel", |scene| {
        let limit = json!([{"type": "RLIMIT_NOFILE", "soft": 9_000_000_000_u64, "hard": 9_000_000_000_u64}]);
        scene.property("/process/rlimits", limit);
    }),
    ("a capability without its prefix", |scene| {
        scene.property("/process/capabilities/bounding", json!(["NET_ADMIN"]));
    }),
    ("an AppArmor profile on a host without AppArmor", |scene| {
        scene.property("/process/apparmorProfile", json!("docker-default"));
    }),
    ("a terminal without a console socket", |scene| {
        scene.with(
            "create",
            &scene.bundle().set("/process/terminal", json!(true)),
        );
    }),
];

const MOUNTS: &[Mistake] = &[
    ("a bind of a source that is not there", |scene| {
        scene.run(&scene.bundle().bind("/srv/dtaa", "/data", []));
    }),
    ("a bind of a file on a directory", |scene| {
        scene.run(&scene.bundle().bind("/etc/hosts", "/etc", []));
    }),
    ("a bind without bind", |scene| {
        scene.run(&scene.bundle().mount("/data", "none", "/srv", []));
    }),
    ("a mount type that no kernel has", |scene| {
        scene.run(&scene.bundle().mount("/data", "tempfs", "tmpfs", []));
    }),
    ("a size that is no number", |scene| {
        let bundle = scene.bundle().mount(
            "/x",
            "tmpfs",
            "tmpfs",
            ["mode=700", "size=1x", "nr_inodes=9"],
        );
        scene.run(&bundle);
    }),
    ("an option that the file system does not have", |scene| {
        scene.run(
            &scene
                .bundle()
                .mount("/x", "tmpfs", "tmpfs", ["uid=0", "sise=1m"]),
        );
    }),
    ("an overlay without its lower directory", |scene| {
        let folder = scene.runtime.folder();
        let (upper, work) = (folder.folder("upper"), folder.folder("work"));
        let lower = folder.join("lower");
        let option = |name, path: &Path| format!("{name}={}", path.display());
        let [lower, upper, work] = [
            option("lowerdir", &lower),
            option("upperdir", &upper),
            option("workdir", &work),
        ];
        let bundle = scene
            .bundle()
            .mount("/x", "overlay", "overlay", [&*lower, &*upper, &*work]);
        scene.run(&bundle);
    }),
    ("an overlay on a directory that is not writable", |scene| {
        scene.run(
            &scene
                .bundle()
                .mount("/x", "overlay", "overlay", ["lowerdir=/proc"]),
        );
    }),
    ("an id map of a file system that cannot", |scene| {
        let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
        let mount = json!({
            "destination": "/x", "source": "/proc/sys", "options": ["bind"],
            "uidMappings": ids, "gidMappings": ids,
        });
        scene.run(&scene.bundle().push("/mounts", mount));
    }),
    ("message queues of the host in a user namespace", |scene| {
        let bundle = scene.bundle().user_namespace();
        scene.run(&bundle.without_namespace("ipc"));
    }),
    ("a path in place of a type", |scene| {
        scene.run(&scene.bundle().mount("/data", "data", "/srv", []));
    }),
    ("a mount inside proc", |scene| {
        scene.run(&scene.bundle().mount("/proc/data", "tmpfs", "tmpfs", []));
    }),
    ("a mount point in an image that is read-only", |scene| {
        let bundle = scene.bundle().bind("/etc", "/ro", ["ro"]);
        scene.run(&bundle.mount("/ro/no/such", "tmpfs", "tmpfs", []));
    }),
];

const CONFIG: &[Mistake] = &[
    ("a bundle without config.json", |scene| {
        let folder = scene.runtime.folder().folder("empty");
        scene
            .logged(["run", "--bundle"])
            .arg(&folder)
            .arg("web")
            .output();
    }),
    ("a config with a comma too many", |scene| {
        let bundle = scene.bundle();
        fs::write(
            bundle.dir.join("config.json"),
            "{\"ociVersion\": \"1.0.2\",\n}",
        )
        .expect("a file");
        scene
            .logged(["run", "--bundle"])
            .arg(&bundle.dir)
            .arg("web")
            .output();
    }),
    ("a list in place of a text", |scene| {
        scene.property("/process/args", json!("sh -c true"));
    }),
    ("a root that is not there", |scene| {
        scene.property("/root/path", json!("rootsf"));
    }),
    ("a host name without a UTS namespace", |scene| {
        scene.run(&scene.bundle().without_namespace("uts"));
    }),
    ("a sysctl of the host", |scene| {
        scene.property("/linux/sysctl", json!({"vm.swappiness": "10"}));
    }),
    ("a namespace that is not there", |scene| {
        let path = "/var/run/netns/blue";
        scene.run(&scene.bundle().join_namespace("network", path));
    }),
    ("a namespace of another type", |scene| {
        let path = "/proc/self/ns/uts";
        scene.run(&scene.bundle().join_namespace("network", path));
    }),
    ("a memory limit as a text", |scene| {
        scene.property("/linux/resources/memory/limit", json!("512m"));
    }),
    ("a seccomp action with a typo", |scene| {
        scene.property("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALOW"}));
    }),
    ("a seccomp profile that bars the runtime", |scene| {
        let profile = json!({
            "defaultAction": "SCMP_ACT_KILL_PROCESS", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["read", "exit_group", "close"], "action": "SCMP_ACT_ALLOW"}],
        });
        scene.property("/linux/seccomp", profile);
    }),
    ("a hook that is not there", |scene| {
        let hook = json!({"path": "/usr/local/bin/no-hook"});
        scene.run(&scene.bundle().hook("createRuntime", hook));
    }),
    ("a hook that says why", |scene| {
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo no licence >&2; exit 3"]});
        scene.run(&scene.bundle().hook("prestart", hook));
    }),
];

const COMMANDS: &[Mistake] = &[
    ("an id that is taken", |scene| {
        let container = scene.runtime.sleeper();
        let bundle = scene.bundle();
        let command = scene
            .logged(["create", "--bundle"])
            .arg(&bundle.write().dir);
        command.arg(&container.id).output();
    }),
    ("a state root on a file system that is full", |scene| {
        let state = scene.runtime.folder().folder("state");
        let _full = HostMount::at(state, ["-t", "tmpfs", "-o", "nr_inodes=1", "state"]);
        scene.run(&scene.bundle());
    }),
    ("a container that does not exist", |scene| {
        scene.verb(["start", "wbe"])
    }),
    ("start of a container that runs", |scene| {
        let container = scene.runtime.sleeper();
        scene.verb(["start", &container.id]);
    }),
    ("delete of a container that runs", |scene| {
        let container = scene.runtime.sleeper();
        scene.verb(["delete", &container.id]);
    }),
    ("exec in a container that has stopped", |scene| {
        let container = scene.runtime.start(&scene.bundle());
        container.wait_for_status("stopped");
        scene.verb(["exec", &container.id, "true"]);
    }),
    ("a verb with a typo", |scene| scene.verb(["craete", "web"])),
    ("a flag with a typo", |scene| {
        scene.verb(["run", "--bundel=/b", "web"])
    }),
    ("no id", |scene| scene.verb(["start"])),
    ("an id with a slash", |scene| scene.verb(["start", "web/1"])),
    ("a signal that does not exist", |scene| {
        let container = scene.runtime.sleeper();
        scene.verb(["kill", &container.id, "TREM"]);
    }),
    ("an update to more than the machine has", |scene| {
        let container = scene.runtime.sleeper();
        scene.verb(["update", "--cpuset-cpus", "4000", &container.id]);
    }),
];

#[test]
fn each_is_answered_with_its_line() {
    let mut answers = String::new();
    for (name, mistake) in [PROGRAM, MOUNTS, CONFIG, COMMANDS].concat() {
        let scene = Scene::new();
        mistake(&scene);
        write!(answers, "{name}\n{}\n", scene.answer()).expect("a string");
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(LINES, &answers).expect("the table");
    }
    let expected = fs::read_to_string(LINES).expect("the table");
    let wrong = |(expected, found): &(&str, &str)| expected != found;
    let blocks = expected.split("\n\n").zip(answers.split("\n\n"));
    let wrong: Vec<_> = blocks.filter(wrong).collect();
    let wrong = wrong
        .iter()
        .map(|(expected, found)| format!("{expected}\nnow:\n{found}"));
    let wrong = wrong.collect::<Vec<_>>().join("\n\n");
    assert!(
        wrong.is_empty() && expected.len() == answers.len(),
        "{wrong}"
    );
}
