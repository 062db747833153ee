//! A created container.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::orphans::{self, Reserved};
use crate::runtime::wait_for_status;
use crate::{Command, Output, Running, Runtime, control_file, wait_until};

/// A container of a [`Runtime`], which deletes it in the end.
#[derive(Debug)]
pub struct Container<'a> {
    /// The runtime.
    pub runtime: &'a Runtime,
    /// Its id.
    pub id: String,
    create: Running,
    init: Option<Child>,
    unwaited: Option<Reserved>,
}

impl<'a> Container<'a> {
    #[track_caller]
    pub(crate) fn new(runtime: &'a Runtime, id: String, command: Command) -> Self {
        let create = command.spawn();
        create.wait().ok();
        Self {
            runtime,
            id,
            create,
            init: None,
            unwaited: None,
        }
    }

    /// Waits for init's exit code, as an engine does: init has become a child of this process.
    #[track_caller]
    pub(crate) fn adopted(mut self, pid_file: &Path) -> Self {
        self.init = Some(Child::adopt(pid_file));
        self
    }

    /// Leaves init a zombie when it has ended.
    #[track_caller]
    pub(crate) fn unwaited(mut self) -> Self {
        self.unwaited = Some(Reserved::new(self.pid()));
        self
    }

    /// `VERB ID`.
    pub fn verb(&self, verb: &str) -> Output {
        self.runtime.command([verb, &self.id]).output()
    }

    /// `start`.
    pub fn start(&self) -> Output {
        self.verb("start")
    }

    /// `kill` with a signal.
    pub fn kill(&self, signal: &str) -> Output {
        self.runtime.command(["kill", &self.id, signal]).output()
    }

    /// `delete`.
    pub fn delete(&self) -> Output {
        self.verb("delete")
    }

    /// `delete --force`.
    pub fn delete_by_force(&self) -> Output {
        self.runtime
            .command(["delete", "--force", &self.id])
            .output()
    }

    /// `exec`, to its end.
    pub fn exec<const N: usize>(&self, args: [&str; N]) -> Output {
        self.exec_with([], args)
    }

    /// `exec` of a script.
    pub fn shell(&self, script: &str) -> Output {
        self.exec(["/bin/sh", "-c", script])
    }

    /// `exec` with options.
    pub fn exec_with<const M: usize, const N: usize>(
        &self,
        options: [&str; M],
        args: [&str; N],
    ) -> Output {
        self.exec_command(options, args).output()
    }

    /// `exec`, to be run.
    pub fn exec_command<const M: usize, const N: usize>(
        &self,
        options: [&str; M],
        args: [&str; N],
    ) -> Command {
        self.runtime
            .command(["exec"])
            .args(options)
            .arg(&self.id)
            .args(args)
    }

    /// `state`, parsed.
    #[track_caller]
    pub fn state(&self) -> Value {
        let output = self.verb("state").ok();
        serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("state: {error}\n{output}"))
    }

    /// The status that `state` prints.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The process id of init, as `state` prints it.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let pid = self.state()["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok());
        pid.unwrap_or_else(|| panic!("no pid in state"))
    }

    /// The container's output so far, on the standard output of `create`.
    pub fn stdout(&self) -> String {
        self.create.stdout.text()
    }

    /// Its output so far on standard error.
    pub fn stderr(&self) -> String {
        self.create.stderr.text()
    }

    /// Waits until the container has written this on standard output.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        wait_until(&format!("{text:?} on stdout"), || {
            self.stdout().contains(text)
        });
    }

    /// Waits until `state` prints this status.
    #[track_caller]
    pub fn wait_for_status(&self, status: &str) {
        wait_for_status(self, status);
    }

    /// Init's exit code, or 128 and the number of the signal that ended it. Waits for its end.
    #[track_caller]
    pub fn exit_code(&self) -> i32 {
        self.init
            .as_ref()
            .expect("a container whose init is waited for")
            .exit_code()
    }

    /// A control file of init's group: see [`control_file`].
    #[track_caller]
    pub fn control_file(&self, v1: (&str, &str), v2: &str) -> PathBuf {
        control_file(self.pid(), v1, v2)
    }

    /// The text of a control file of init's group.
    #[track_caller]
    pub fn control(&self, v1: (&str, &str), v2: &str) -> String {
        let path = self.control_file(v1, v2);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim_end().to_owned()
    }

    /// A file of init's `/proc` folder, as the host sees it.
    #[track_caller]
    pub fn proc(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.pid());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// A process that a runtime left behind; this process is its subreaper.
#[derive(Debug)]
pub struct Child {
    /// Its process id.
    pub pid: i32,
}

impl Child {
    /// Takes the process that a pid file names.
    #[track_caller]
    pub fn adopt(pid_file: &Path) -> Self {
        let text = fs::read_to_string(pid_file).expect("a pid file");
        let pid = text
            .parse()
            .unwrap_or_else(|_| panic!("pid file: no bare number: {text:?}"));
        orphans::expect(pid);
        Self { pid }
    }

    /// Its exit code, or 128 and the number of the signal that ended it. Waits for its end.
    #[track_caller]
    pub fn exit_code(&self) -> i32 {
        let mut code = None;
        wait_until("the end of a process that was left to us", || {
            code = orphans::exit_code(self.pid);
            code.is_some()
        });
        code.unwrap_or(-1)
    }
}
