//! Facts about the machine that decide which tests make sense.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::skip;

/// How the control groups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Version 1 hierarchies only.
    V1,
    /// Version 1 hierarchies, and version 2 beside them.
    Hybrid,
    /// Version 2 only.
    V2,
    /// None are mounted.
    None,
}

/// The facts of this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Mounted control groups.
    pub layout: Layout,
    /// Is systemd process 1?
    pub has_systemd: bool,
    /// Is AppArmor on?
    pub has_apparmor: bool,
    /// Is SELinux on?
    pub has_selinux: bool,
    /// Effective user id of the tests.
    pub uid: u32,
    /// The effective capability set.
    pub capabilities: u64,
    /// Version of the kernel.
    pub kernel: (u32, u32),
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (major, minor) = self.kernel;
        write!(f, "Linux {major}.{minor}, control groups {:?}", self.layout)?;
        for (name, is_there) in [
            ("systemd", self.has_systemd),
            ("AppArmor", self.has_apparmor),
            ("SELinux", self.has_selinux),
        ] {
            write!(f, ", {}{name}", if is_there { "" } else { "no " })?;
        }
        Ok(())
    }
}

/// The facts, gathered once.
pub fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(|| Machine {
        layout: layout(),
        has_systemd: Path::new("/run/systemd/system").is_dir(),
        has_apparmor: text_of("/sys/module/apparmor/parameters/enabled") == "Y",
        has_selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        uid: nix::unistd::geteuid().as_raw(),
        capabilities: u64::from_str_radix(&status_field("self", "CapEff"), 16).unwrap_or(0),
        kernel: kernel(),
    })
}

/// Ends the test as skipped unless the machine has what it needs.
pub mod needs {
    use super::*;

    /// Version 1 control groups.
    pub fn version_1() {
        if !matches!(machine().layout, Layout::V1 | Layout::Hybrid) {
            skip!("needs control groups of version 1");
        }
    }

    /// Version 2 control groups only.
    pub fn version_2() {
        if machine().layout != Layout::V2 {
            skip!("needs control groups of version 2");
        }
    }

    /// A controller, whichever the version.
    pub fn controller(name: &str) {
        if !has_controller(name) {
            skip!("needs the {name} controller");
        }
    }

    /// systemd as process 1.
    pub fn systemd() {
        if !machine().has_systemd {
            skip!("needs systemd");
        }
    }

    /// A program of the host.
    pub fn program(name: &str) {
        let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        if !folders
            .iter()
            .any(|folder| Path::new(folder).join(name).exists())
        {
            skip!("needs {name}");
        }
    }

    /// At least this kernel.
    pub fn kernel(major: u32, minor: u32) {
        if machine().kernel < (major, minor) {
            skip!("needs Linux {major}.{minor}");
        }
    }

    /// A capability of this process, by its number and name.
    pub fn capability(number: u32, name: &str) {
        if machine().capabilities & (1 << number) == 0 {
            skip!("needs {name}");
        }
    }
}

/// Whether version 2 alone is mounted.
pub fn is_v2() -> bool {
    machine().layout == Layout::V2
}

/// The first text on version 1, the second on version 2.
pub fn either<'a>(v1: &'a str, v2: &'a str) -> &'a str {
    if is_v2() { v2 } else { v1 }
}

/// Whether the controller exists in either version.
pub fn has_controller(name: &str) -> bool {
    match machine().layout {
        Layout::V2 => text_of("/sys/fs/cgroup/cgroup.controllers")
            .split(' ')
            .any(|one| one == name),
        _ => mounts()
            .iter()
            .any(|mount| mount.kind == "cgroup" && mount.has(name)),
    }
}

fn layout() -> Layout {
    let mounts = mounts();
    let version_1 = mounts.iter().any(|mount| mount.kind == "cgroup");
    let version_2 = mounts.iter().any(|mount| mount.kind == "cgroup2");
    match (version_1, version_2) {
        (true, true) => Layout::Hybrid,
        (true, false) => Layout::V1,
        (false, true) => Layout::V2,
        (false, false) => Layout::None,
    }
}

fn kernel() -> (u32, u32) {
    let release = text_of("/proc/sys/kernel/osrelease");
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

pub(crate) fn text_of(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

/// A field of `/proc/PID/status`; empty if there is none.
pub fn status_field(pid: impl std::fmt::Display, name: &str) -> String {
    let status = text_of(format!("/proc/{pid}/status"));
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// A mount of the host.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    /// The part of the filesystem that is mounted.
    pub(crate) root: PathBuf,
    /// Where.
    pub(crate) point: PathBuf,
    /// Filesystem.
    pub(crate) kind: String,
    options: String,
}

impl Mount {
    fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|one| one == option)
    }
}

/// The host's mounts, in the order of mounting.
pub(crate) fn mounts() -> Vec<Mount> {
    text_of("/proc/self/mountinfo")
        .lines()
        .filter_map(parse_mount)
        .collect()
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(3);
    let mut back = back.split(' ');
    Some(Mount {
        root: unescape(front.next()?).into(),
        point: unescape(front.next()?).into(),
        kind: back.next()?.to_owned(),
        options: back.nth(1)?.to_owned(),
    })
}

/// mountinfo writes blanks as `\040` and so on.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(part.len().min(3));
        out.push(u8::from_str_radix(digits, 8).map_or('?', char::from));
        out.push_str(rest);
    }
    out
}

/// Path of a control file of the group that a process is in: `v1` names controller and file for
/// version 1 hierarchies, `v2` the file for version 2.
pub fn control_file(pid: i32, v1: (&str, &str), v2: &str) -> PathBuf {
    let groups = text_of(format!("/proc/{pid}/cgroup"));
    let group = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let matches = if is_v2() {
            controllers.is_empty()
        } else {
            controllers.split(',').any(|c| c == v1.0)
        };
        matches.then_some(path)
    });
    let group = Path::new(group.unwrap_or("/"));
    let mount = mounts().into_iter().find(|mount| match is_v2() {
        true => mount.kind == "cgroup2",
        false => mount.kind == "cgroup" && mount.has(v1.0),
    });
    let mount = mount.unwrap_or_else(|| skip!("the hierarchy of {} is not mounted", v1.0));
    let below = group.strip_prefix(&mount.root).unwrap_or(group);
    mount.point.join(below).join(either(v1.1, v2))
}
