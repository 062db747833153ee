//! An engine in its sandbox, and the scripts that use it as people do.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use coracle_integration::runner::patience;
use coracle_integration::terminal::Terminal;
use coracle_integration::{Command, Manager, Output, Running, Sandbox, criu, fill_rootfs, json};

/// The beginning of every script.
pub(crate) const PRELUDE: &str = r#"set -eu
# Waits until a command succeeds, with so many seconds in `$pause` between attempts.
await() {
    tries=0
    until eval "$1" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt $((300 * ${patience-1})) ] || { echo "waited in vain: $1" >&2 && return 99; }
        sleep ${pause-0.05}
    done
}
# Prints the exit code of a command that may fail.
code() { "$@" >/dev/null 2>&1 && echo 0 || echo $?; }
# Prints what a command says on stderr.
complaint() { "$@" 2>&1 >/dev/null || true; }
# Prints the mounts of containers' roots that were not there before the sandbox's first.
new_roots() { grep -E '/merged|/rootfs' /proc/self/mountinfo | grep -vxFf /run/mounts-of-the-sandbox || true; }
# Prints a line for each process of a program; the dead wait for their parent alone.
alive() { ps -C "$1" -o stat= | grep -v Z || true; }
# For a runtime in a container: the program, with the libraries that a build for tests loads, and a
# script that makes a bundle with a limit and runs it; the process prints its number.
within="-v /usr/local/bin/coracle:/bin/coracle:ro -v /lib:/lib:ro -v /lib64:/lib64:ro"
inner='mkdir -p /b/rootfs/bin && cd /b && cp /bin/busybox rootfs/bin/sh && coracle spec || exit
    sed -i -e "s/\"terminal\": true/\"terminal\": false/" \
        -e "s/\"sh\"/\"sh\", \"-c\", \"echo \\$\\$\"/" \
        -e "s/\"resources\": {/\"resources\": { \"pids\": { \"limit\": 20 },/" config.json
    coracle run inner'
"#;

/// An engine, set up.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) sandbox: Sandbox,
    /// Functions and variables for its scripts.
    pub(crate) prelude: String,
    /// Whose it is, if not root's.
    pub(crate) user: Option<u32>,
    /// Whether it may miss the output of a program that ends at once, as podman 4.3 did twice in
    /// some thousand starts on a busy machine: the program had written and ended well, and who
    /// between conmon and podman lost it is not known. A second loss fails the test.
    pub(crate) may_lose_output: bool,
}

impl Engine {
    /// An engine of root's, not set up yet.
    pub(crate) fn new(manager: Manager) -> Self {
        Self {
            sandbox: Sandbox::new(manager),
            prelude: String::new(),
            user: None,
            may_lose_output: false,
        }
    }

    /// A command as the engine's user gives it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let command = match self.user {
            None => self.sandbox.command(program),
            Some(uid) => self.sandbox.command_of(uid, program),
        };
        command.limit(90)
    }

    /// A script with a name for its containers in `$name`.
    pub(crate) fn script(&self, name: &str, script: &str) -> Command {
        let rootfs = self.sandbox.folder().join("rootfs");
        let text = format!(
            "{PRELUDE}name={name} rootfs={} patience={}\n{}\n{script}",
            rootfs.display(),
            patience(1).as_secs(),
            self.prelude,
        );
        self.command("sh").args(["-c", &text])
    }

    /// Runs a script that must succeed.
    #[track_caller]
    pub(crate) fn run(&self, name: &str, script: &str) -> Output {
        let output = self.script(name, script).output();
        assert_eq!(
            output.code, 0,
            "{script}\n{}\n{}",
            output.stdout, output.stderr
        );
        output
    }

    /// Runs a script, which must print exactly this.
    #[track_caller]
    pub(crate) fn check(&self, name: &str, script: &str, expected: &str) {
        let mut output = self.run(name, script);
        if self.may_lose_output && is_lacking(output.line(), expected) {
            println!("note: {name} lacks output, once more:\n{output}");
            output = self.run(name, script);
        }
        assert_eq!(
            output.line(),
            expected,
            "{script}\nstderr:\n{}",
            output.stderr
        );
    }

    /// Starts a script on a terminal.
    pub(crate) fn on_terminal(&self, name: &str, script: &str) -> (Terminal, Running) {
        let terminal = Terminal::new();
        let running = terminal.attach(self.script(name, script)).spawn();
        (terminal, running)
    }

    /// Gives the sandbox a CRIU that works here; else the calling test is skipped.
    pub(crate) fn needs_criu(&self) {
        let folder = criu::path().split(':').next().unwrap_or_default();
        let script = format!("#!/bin/sh\nexec {folder}/criu \"$@\"\n");
        self.write("/usr/local/sbin/criu", &script);
        let chmod = self.sandbox.command("chmod");
        chmod.args(["+x", "/usr/local/sbin/criu"]).output().ok();
    }

    /// Writes a file of the sandbox.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let script = "mkdir -p \"$(dirname \"$0\")\" && cat >\"$0\"";
        let command = self.sandbox.command("sh").args(["-c", script, path]);
        command.input(text).output().ok();
    }
}

/// Whether lines of the expected output are missing, and all others are right.
fn is_lacking(said: &str, expected: &str) -> bool {
    let mut wanted = expected.lines();
    let is_part = said.lines().all(|line| wanted.any(|other| other == line));
    is_part && said != expected
}

/// Something that all tests of a suite share, made by the first of them.
pub(crate) struct Shared<T>(Mutex<Option<Arc<T>>>);

impl<T> Shared<T> {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The shared value, made by the first caller: if that skips or fails, so does the calling
    /// test.
    pub(crate) fn get(&self, make: fn() -> T) -> Arc<T> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(place.get_or_insert_with(|| Arc::new(make())))
    }

    /// Takes it away, if it was ever made.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A page with settings that the tests install.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Page {
    Engines,
    Kubernetes,
}

impl Page {
    /// The indented block that follows these words.
    pub(crate) fn block(self, words: &str) -> String {
        let page = match self {
            Self::Engines => include_str!("../../../docs/engines.md"),
            Self::Kubernetes => include_str!("../../../docs/kubernetes.md"),
        };
        let (_, rest) = page.split_once(words).expect("words of the page");
        let lines = rest.lines().skip_while(|line| !line.starts_with("    "));
        let block = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
        block
            .map(|line| line.strip_prefix("    ").unwrap_or_default().to_owned() + "\n")
            .collect()
    }
}

/// Makes an archive of two images, `localhost/busybox` and one that waits, `localhost/pause`.
pub(crate) fn images(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.folder().folder("images");
    fill_rootfs(&sandbox.folder().folder("rootfs"));
    let tar = |what: &str, from: PathBuf, names: &[&str]| {
        let tar = Command::new("tar").arg("-C").arg(from).arg("-cf");
        tar.arg(folder.join(what)).args(names).output().ok();
    };
    tar("layer.tar", sandbox.folder().join("rootfs"), &["."]);
    let sum = Command::new("sha256sum")
        .arg(folder.join("layer.tar"))
        .output()
        .ok();
    let layer = format!(
        "sha256:{}",
        sum.stdout.split(' ').next().unwrap_or_default()
    );
    let mut manifest = Vec::new();
    for (name, command) in [
        ("busybox", json!(["sh"])),
        ("pause", json!(["sleep", "100000"])),
    ] {
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/usr/bin:/bin:/sbin"]},
            "rootfs": {"type": "layers", "diff_ids": [layer]},
            "history": [{"created_by": "tests"}],
        });
        let file = format!("{name}.json");
        std::fs::write(folder.join(&file), config.to_string()).expect("an image's config");
        manifest.push(json!({
            "Config": file,
            "RepoTags": [format!("localhost/{name}:latest")],
            "Layers": ["layer.tar"],
        }));
    }
    std::fs::write(folder.join("manifest.json"), json!(manifest).to_string()).expect("a manifest");
    let names = ["manifest.json", "busybox.json", "pause.json", "layer.tar"];
    tar("archive.tar", folder.clone(), &names);
    folder.join("archive.tar")
}

/// Tests of one engine: each a script and what it prints.
#[macro_export]
macro_rules! checks {
    ($engine:path, $($name:ident: $script:literal => $expected:literal;)*) => {
        $(
            #[test]
            fn $name() {
                $engine().check(&stringify!($name).replace('_', "-"), $script, $expected);
            }
        )*
    };
}
