//! A sandbox for an engine: the machine's programs in namespaces, storage and a cgroup of their own.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};

use crate::leftovers::pids;
use crate::programs::write_program;
use crate::runner::{clean_up, patience};
use crate::{Command, Folder, Running, copy_program, groups, machine, needs, program, wait_until};

/// The scripts that make a sandbox, run in it and enter it, by name.
const SCRIPTS: [(&str, &str); 3] = [
    ("sandbox", include_str!("../engines/sandbox")),
    ("inside", include_str!("../engines/inside")),
    ("enter", include_str!("../engines/enter")),
];

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The manager of the control groups of a sandbox's containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// The runtime, below a group that is the sandbox's.
    Cgroupfs,
    /// The machine's systemd. Processes of such a sandbox are numbered as the machine numbers them.
    Systemd,
}

impl Manager {
    /// systemd where it is, unless `CORACLE_TEST_CGROUPFS` says otherwise.
    pub fn of_machine() -> Self {
        let is_unwanted = std::env::var_os("CORACLE_TEST_CGROUPFS").is_some();
        match machine().has_systemd && !is_unwanted {
            true => Self::Systemd,
            false => Self::Cgroupfs,
        }
    }

    /// Its name in the settings of engines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }
}

/// A sandbox. `/etc`, `/run`, `/var`, `/tmp`, `/home` and `/usr/local` are its own, so are
/// networks, processes and control groups; the program under test is `/usr/local/bin/coracle`. All
/// that runs in it is killed when it is dropped, and by the kernel however the tests end; where
/// systemd manages the control groups, only when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    folder: Folder,
    name: String,
    manager: Manager,
    /// Only one thread at a time may use it.
    outside: Mutex<Running>,
    inside: String,
    /// The sandbox ends when this is closed.
    input: Option<OwnedFd>,
}

impl Sandbox {
    /// Makes one.
    pub fn new(manager: Manager) -> Self {
        for program in ["unshare", "nsenter", "ip", "bash"] {
            needs::program(program);
        }
        if manager == Manager::Systemd {
            needs::systemd();
        }
        let folder = Folder::new();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("coracle-sandbox.{}.{number}.", std::process::id());
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        for (name, text) in SCRIPTS {
            write_program(&folder.join(name), text);
        }
        let command = Command::new(folder.join("sandbox"));
        let command = command.arg(folder.path()).arg(&name);
        let command = match manager {
            Manager::Cgroupfs => command,
            Manager::Systemd => command.arg("systemd"),
        };
        let layout = std::env::var("CORACLE_TEST_V1").unwrap_or_default();
        let command = command.env("CORACLE_TEST_V1", layout).stdin(reader);
        let mut sandbox = Self {
            outside: Mutex::new(command.spawn()),
            inside: String::new(),
            input: Some(writer),
            folder,
            name,
            manager,
        };
        sandbox.install();
        sandbox
    }

    fn install(&mut self) {
        let ready = self.folder.join("ready");
        let outside = self.outside.get_mut().expect("no other thread yet");
        wait_until("a sandbox", || {
            let complaint = outside.stderr.text();
            assert!(complaint.is_empty(), "sandbox: {complaint}");
            ready.exists()
        });
        let parent = outside.pid.to_string();
        let list = Command::new("ps").args(["-o", "pid=", "--ppid", &parent]);
        list.output()
            .ok()
            .line()
            .trim()
            .clone_into(&mut self.inside);
        copy_program(program(), &self.folder.join("program"));
        let install = "mkdir -p /usr/local/bin; cp \"$0/program\" /usr/local/bin/coracle";
        let install = self.command("sh").args(["-c", install]);
        install.arg(self.folder.path()).output().ok();
    }

    /// A folder that both sides see under the same name.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The manager of the control groups.
    pub fn manager(&self) -> Manager {
        self.manager
    }

    /// A command in the sandbox.
    pub fn command(&self, program: &str) -> Command {
        self.enter(&[]).arg(program)
    }

    /// A command of an ordinary user in the sandbox.
    pub fn command_of(&self, uid: u32, program: &str) -> Command {
        let runtime = format!("/run/user/{uid}");
        let bus = format!("unix:path={runtime}/bus");
        let command = self.enter(&["--user", &uid.to_string()]).arg(program);
        command
            .env("HOME", format!("/home/{uid}"))
            .env("XDG_RUNTIME_DIR", runtime)
            .env("DBUS_SESSION_BUS_ADDRESS", bus)
    }

    /// Joins both sandboxes by a pair of links, which are down.
    pub fn connect(&self, link: &str, other: &Self, end: &str) {
        let near = format!("--net=/proc/{}/ns/net", self.inside);
        let pair = [
            "ip", "link", "add", link, "type", "veth", "peer", "name", end, "netns",
        ];
        let command = Command::new("nsenter").arg(near).args(pair);
        command.arg(&other.inside).output().ok();
    }

    fn enter(&self, options: &[&str]) -> Command {
        Command::new(self.folder.join("enter"))
            .args([&self.name, &self.inside])
            .args(options)
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    }

    /// Kills all its processes, and returns those that do not end.
    fn end(&mut self) -> Result<(), String> {
        if self.manager == Manager::Systemd {
            self.kill_members();
        }
        drop(self.input.take());
        // A frozen process cannot die, and process 1 ends only after all others.
        for group in groups(&self.name) {
            let _ = fs::write(group.join("freezer.state"), "THAWED");
        }
        let outside = self.outside.get_mut().map_err(|error| error.to_string())?;
        let end = Instant::now() + patience(20);
        while !outside.wait_briefly(Duration::from_millis(20)) {
            if Instant::now() > end {
                return Err("a sandbox that does not end".to_owned());
            }
        }
        while let Some(group) = groups(&self.name).first() {
            if fs::remove_dir(group).is_err() && Instant::now() > end {
                return Err(format!("cannot remove {}", group.display()));
            }
        }
        Ok(())
    }

    /// Kills all in the sandbox's mount namespace, containers not among them.
    fn kill_members(&self) {
        let place = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let Some(sandbox) = place(&self.inside) else {
            return;
        };
        for pid in pids().filter(|pid| place(&pid.to_string()).as_ref() == Some(&sandbox)) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        clean_up(|| {
            if let Err(left) = self.end() {
                panic!("left behind: {left}");
            }
        });
    }
}
