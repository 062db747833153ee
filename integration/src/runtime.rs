//! The program under test, with a state root and a folder of its own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::unistd::{Gid, Uid, chown};

use crate::programs::copy_program;
use crate::runner::clean_up;
use crate::{Bundle, Command, Container, Folder, Output, leftovers, wait_until};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A runtime under test. Dropping it deletes all its containers and fails the test if anything is
/// left.
#[derive(Debug)]
pub struct Runtime {
    program: PathBuf,
    root: PathBuf,
    folder: Folder,
    marker: String,
    count: AtomicU32,
    user: Option<u32>,
    options: Vec<String>,
    network: Option<PathBuf>,
    variables: Vec<(String, String)>,
}

/// The program under test: `CORACLE`, else the build's own.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("CORACLE") {
        Some(path) => path.into(),
        None => build_folder().join("coracle"),
    })
}

/// Where this build puts programs: tests lie in its folder `deps`.
pub fn build_folder() -> PathBuf {
    let test = std::env::current_exe().expect("path of the test program");
    test.ancestors().nth(2).expect("a build folder").to_owned()
}

impl Runtime {
    /// A runtime that root runs.
    #[expect(clippy::new_without_default, reason = "making one has effects outside")]
    pub fn new() -> Self {
        let folder = Folder::new();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // With dots at both ends, no marker is a prefix of another.
        let marker = format!("k.{}.{number}.", std::process::id());
        let root = folder.join("state");
        let program = program().to_owned();
        let (count, user, network) = (AtomicU32::new(0), None, None);
        let (options, variables) = (Vec::new(), Vec::new());
        Self {
            program,
            root,
            folder,
            marker,
            count,
            user,
            options,
            network,
            variables,
        }
    }

    /// A runtime that an ordinary user without an account runs. The program is copied to a place
    /// that the user can reach.
    pub fn for_user(uid: u32) -> Self {
        let mut runtime = Self::new();
        let program = runtime.folder.join("runtime");
        copy_program(&runtime.program, &program);
        runtime.program = program;
        runtime.root = runtime.folder.folder("user").join("state");
        let owned = runtime.folder.join("user");
        chown(&owned, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))).expect("chown");
        runtime.user = Some(uid);
        runtime
    }

    /// Adds global options to every command.
    pub fn options<const N: usize>(mut self, options: [&str; N]) -> Self {
        self.options.extend(options.map(str::to_owned));
        self
    }

    /// Runs every command in this network namespace, which stands for the host's.
    pub fn in_network(mut self, path: PathBuf) -> Self {
        self.network = Some(path);
        self
    }

    /// Sets a variable of the environment of every command.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the program under test, for example by a copy of it.
    pub fn program(mut self, path: &Path) -> Self {
        self.program = path.to_owned();
        self
    }

    /// The folder for this test's files.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The state root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The part of a name that all containers of this runtime have in common.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// An id that no other container has.
    pub fn id(&self) -> String {
        format!(
            "{}{}",
            self.marker,
            self.count.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// A new bundle of busybox.
    pub fn bundle(&self) -> Bundle {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let bundle = Bundle::new(self.folder.folder(format!("bundle{number}")));
        if let Some(uid) = self.user {
            let owner = format!("{uid}:{uid}");
            Command::new("chown")
                .args(["-hR", &owner])
                .arg(&bundle.dir)
                .output()
                .ok();
        }
        bundle
    }

    /// The program without any option, as the user of this runtime.
    pub fn bare(&self) -> Command {
        let mut command = Command::new(&self.program).env("CORACLE_TEST", &self.marker);
        for (name, value) in &self.variables {
            command = command.env(name, value);
        }
        let command = match &self.network {
            Some(path) => command.under("nsenter", [format!("--net={}", path.display())]),
            None => command,
        };
        match self.user {
            None => command,
            Some(uid) => {
                let user = [format!("--reuid={uid}"), format!("--regid={uid}")];
                let rest = ["--clear-groups", "--inh-caps=-all", "--"].map(str::to_owned);
                command.under("setpriv", user.iter().chain(&rest))
            }
        }
    }

    /// A command line: the state root and the global options, then these arguments.
    pub fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Command {
        self.bare()
            .arg("--root")
            .arg(&self.root)
            .args(&self.options)
            .args(arguments)
    }

    /// `VERB --bundle DIR`, to which options and the id are added. Writes `config.json`.
    pub fn with_bundle(&self, verb: &str, bundle: &Bundle) -> Command {
        self.command([verb, "--bundle"]).arg(&bundle.write().dir)
    }

    /// `run`: to the container's end.
    pub fn run(&self, bundle: &Bundle) -> Output {
        self.run_with(bundle, [])
    }

    /// `run` with more options.
    pub fn run_with<const N: usize>(&self, bundle: &Bundle, options: [&str; N]) -> Output {
        self.with_bundle("run", bundle)
            .args(options)
            .arg(self.id())
            .output()
    }

    /// `create`, which may fail.
    pub fn try_create(&self, bundle: &Bundle) -> Output {
        self.with_bundle("create", bundle).arg(self.id()).output()
    }

    /// `create`, which must succeed.
    #[track_caller]
    pub fn create(&self, bundle: &Bundle) -> Container<'_> {
        self.create_with(bundle, [])
    }

    /// `create` with more options, which must succeed.
    #[track_caller]
    pub fn create_with<const N: usize>(
        &self,
        bundle: &Bundle,
        options: [&str; N],
    ) -> Container<'_> {
        let (id, file) = (self.id(), self.folder.join("user").join("pid"));
        let file = if self.user.is_some() {
            file
        } else {
            self.folder.join(format!("{id}pid"))
        };
        let command = self.with_bundle("create", bundle).args(options);
        let command = command.arg("--pid-file").arg(&file).arg(&id);
        Container::new(self, id, command).adopted(&file)
    }

    /// `create`, without waiting for init.
    #[track_caller]
    pub fn create_unwaited(&self, bundle: &Bundle) -> Container<'_> {
        let id = self.id();
        let command = self.with_bundle("create", bundle).arg(&id);
        Container::new(self, id, command).unwaited()
    }

    /// `create` and `start`.
    #[track_caller]
    pub fn start(&self, bundle: &Bundle) -> Container<'_> {
        let container = self.create(bundle);
        container.start().ok();
        container
    }

    /// A container that does nothing until it is ended.
    #[track_caller]
    pub fn sleeper(&self) -> Container<'_> {
        self.start(&self.bundle().args(["sleep", "1000"]))
    }

    /// What this runtime has left behind, one line each. Waits a moment for dying processes and
    /// units.
    pub fn leftovers(&self) -> Vec<String> {
        let with_systemd = self
            .options
            .iter()
            .any(|option| option == "--systemd-cgroup");
        // systemd forgets a unit only after it has learned that its cgroup is empty.
        let look = || {
            let mut left = leftovers::processes(&self.marker, self.folder.path());
            if with_systemd {
                let units = leftovers::units(&self.marker);
                left.extend(units.iter().map(|unit| format!("unit {unit}")));
            }
            left
        };
        let mut left = look();
        let end = std::time::Instant::now() + crate::runner::patience(2);
        while !left.is_empty() && std::time::Instant::now() < end {
            thread::sleep(std::time::Duration::from_millis(2));
            left = look();
        }
        let groups = leftovers::groups(&self.marker);
        left.extend(
            groups
                .iter()
                .map(|group| format!("control group {}", group.display())),
        );
        let mounts = leftovers::mounts_below(self.folder.path());
        left.extend(
            mounts
                .iter()
                .map(|mount| format!("mount on {}", mount.display())),
        );
        let state = fs::read_dir(&self.root).into_iter().flatten().flatten();
        left.extend(state.map(|entry| format!("state {}", entry.path().display())));
        left
    }

    /// Asserts that nothing is left now.
    #[track_caller]
    pub fn is_clean(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }

    /// Deletes all containers of the state root by force.
    pub fn delete_all(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            let output = self.command(["delete", "--force", &id]).output();
            if output.code != 0 {
                failures.push(format!("delete --force {id}: {}", output.stderr.trim()));
            }
        }
        failures
    }

    /// Removes what a faulty runtime left behind, so that the next test is not affected.
    pub fn sweep(&self) {
        let kill = |line: &str| {
            let pid = line
                .strip_prefix("process ")?
                .split(' ')
                .next()?
                .parse()
                .ok()?;
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).ok()
        };
        for group in leftovers::groups(&self.marker) {
            let _ = fs::write(group.join("freezer.state"), "THAWED");
            let _ = fs::write(group.join("cgroup.freeze"), "0");
        }
        for line in leftovers::processes(&self.marker, self.folder.path()) {
            kill(&line);
        }
        for group in leftovers::groups(&self.marker) {
            let _ = fs::remove_dir(group);
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        clean_up(|| {
            let failures = self.delete_all();
            let mut left = self.leftovers();
            left.extend(failures);
            if !left.is_empty() {
                self.sweep();
                panic!("left behind:\n{}", left.join("\n"));
            }
        });
    }
}

/// Waits until a container's status is this.
#[track_caller]
pub(crate) fn wait_for_status(container: &Container<'_>, status: &str) {
    wait_until(&format!("status {status}"), || container.status() == status);
}
