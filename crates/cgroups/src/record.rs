//! The part of the record about a container's cgroups.

use std::path::PathBuf;

use coracle_host::CgroupMode;
use coracle_sys::{Cause, Fault};
use coracle_text::{Code, Detail, Report, after_colon, cause_text, errno_text};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// The container's cgroups. The default value means none.
///
/// A record of an older version may lack fields; they get default values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Which versions were mounted at the time of create.
    pub mode: CgroupMode,
    /// v1, in the order in which init joins them.
    pub hierarchies: Vec<Directory>,
    /// The v2 cgroup: the container's only one, or the side cgroup of a hybrid host.
    pub unified: Option<Directory>,
    /// The cgroup below the v2 one that init was put into.
    #[serde(rename = "leaf")]
    pub init_cgroup: Option<String>,
    /// Whether coracle made init's cgroup.
    #[serde(rename = "leaf_made")]
    pub init_cgroup_made: bool,
    /// The systemd unit whose cgroup it is.
    pub unit: Option<Unit>,
    /// Groups of resctrl, the control group before its monitoring group.
    pub resctrl: Vec<Group>,
}

/// A transient systemd unit, whose cgroup is the container's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unit {
    /// `coracle-web1.scope`.
    pub name: String,
    /// D-Bus address of the unit's manager.
    pub address: String,
    /// Whether that address is the manager's own socket, not a bus.
    pub private: bool,
    /// Whether the manager is a user's own.
    pub user: bool,
    /// The manager's version.
    pub version: u32,
}

/// One cgroup of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Directory {
    /// The controllers of a v1 hierarchy, `name=systemd` for a named one. Empty on v2.
    pub controllers: Vec<String>,
    /// Mount point of the hierarchy.
    pub mount: PathBuf,
    /// The directory of the hierarchy that is mounted.
    pub root: PathBuf,
    /// The container's cgroup, absolute.
    pub path: PathBuf,
    /// The directories that coracle made, outermost first; only these are ever removed.
    pub made: Vec<PathBuf>,
}

/// One group of resctrl that the container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Absolute.
    pub path: PathBuf,
    /// Whether coracle made it, so that it is removed if create fails later.
    pub made: bool,
    /// Whether `delete` removes it: the config does not name the group, so no other program uses
    /// it.
    pub remove: bool,
}

impl Record {
    /// The container's cgroup in each hierarchy.
    pub fn all(&self) -> impl Iterator<Item = &Directory> {
        self.hierarchies.iter().chain(&self.unified)
    }

    /// Whether the container has neither a cgroup nor a group of resctrl.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.has_cgroups() && self.resctrl.is_empty()
    }

    /// Whether the container has a cgroup, whose files list its processes. A resctrl group does not
    /// count.
    #[must_use]
    pub fn has_cgroups(&self) -> bool {
        !self.hierarchies.is_empty() || self.unified.is_some()
    }

    /// The same record without the systemd unit and the cgroup that systemd makes.
    #[must_use]
    pub fn without_unit(&self) -> Self {
        let unified = match (&self.unit, self.mode) {
            (Some(_), CgroupMode::V2) => None,
            _ => self.unified.clone(),
        };
        Self {
            unit: None,
            unified,
            ..self.clone()
        }
    }

    /// The v1 cgroup of `controller`.
    #[must_use]
    pub fn hierarchy(&self, controller: &str) -> Option<&Directory> {
        let has = |directory: &&Directory| directory.controllers.iter().any(|c| c == controller);
        self.hierarchies.iter().find(has)
    }

    /// The number of init's steps: one for each file that [`crate::join`] writes.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.hierarchies.len() + self.resctrl.len()
    }

    /// The step of [`crate::enter_init_cgroup`]: the last one.
    #[must_use]
    pub fn init_cgroup_step(&self) -> usize {
        self.steps() + 1
    }

    /// What init does in `step`: `join cgroup /sys/fs/cgroup/pids/web1`.
    #[must_use]
    pub fn describe(&self, step: usize) -> String {
        let cgroups = self.hierarchies.iter().map(|directory| &directory.path);
        let groups = self.resctrl.iter().map(|group| &group.path);
        // The file of `Joining::join_alone` may follow, and then init's own cgroup.
        let unified = self.unified.iter().map(|directory| directory.path.clone());
        let below = self.unified.iter().zip(&self.init_cgroup);
        let below = below.map(|(unified, name)| unified.path.join(name));
        let all = cgroups.chain(groups).cloned().chain(unified).chain(below);
        match all.into_iter().nth(step) {
            Some(path) => format!("join cgroup {}", path.display()),
            None => "join cgroup".to_owned(),
        }
    }

    /// The message for a fault of [`crate::join`].
    #[must_use]
    pub fn explain(&self, fault: &Fault) -> Report {
        let step = self.describe(fault.step);
        let detail = Detail::new(Code::CgroupFailed).path("linux.cgroupsPath");
        let Cause::Call(_, errno) = fault.cause else {
            return Report::new(format!("{step}: {}", cause_text(fault.cause)), detail);
        };
        let hint = match errno {
            // Only the kernel's cpuset_can_attach returns ENOSPC for a join.
            Errno::ENOSPC => "its cpuset has no cpus or no mems",
            Errno::ENOENT | Errno::ENODEV => "the cgroup was removed meanwhile",
            Errno::EBUSY => ENABLES,
            _ => "",
        };
        let text = format!("{step}: {}{}", errno_text(errno), after_colon(hint));
        Report::new(text, with(detail, errno).hint(hint))
    }
}

impl Record {
    /// The message for a clone3(2) with `CLONE_INTO_CGROUP` that failed because of the cgroup;
    /// `None` if `errno` has another cause.
    #[must_use]
    pub fn explain_clone(&self, errno: Errno) -> Option<Report> {
        let hint = match errno {
            Errno::EACCES => "no right to move processes there from the runtime's own cgroup",
            Errno::EBUSY => ENABLES,
            Errno::EAGAIN => "the cgroup or a parent is at its limit of processes (pids.max)",
            Errno::EOPNOTSUPP => "the cgroup is threaded or an invalid domain",
            Errno::ENODEV => "the cgroup was removed meanwhile",
            _ => return None,
        };
        let path = self.unified.as_ref()?.path.display();
        let text = format!("clone into cgroup {path}: {}: {hint}", errno_text(errno));
        let detail = Detail::new(Code::CgroupFailed).path("linux.cgroupsPath");
        Some(Report::new(text, with(detail, errno).hint(hint)))
    }
}

const ENABLES: &str = "it enables controllers for children, so it can have no processes";

/// The detail with this errno, and the code that it makes of it.
fn with(detail: Detail, errno: Errno) -> Detail {
    let code = match errno {
        Errno::EBUSY => Code::CgroupBusy,
        Errno::EACCES | Errno::EPERM => Code::CgroupNoDelegation,
        _ => detail.code,
    };
    Detail { code, ..detail }.errno(errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_sys::Call;
    use serde::de::value::{Error, MapDeserializer};

    #[test]
    fn an_older_record_reads_with_defaults() {
        let fields = [("mode", "hybrid"), ("of a later version", "x")];
        let old: MapDeserializer<_, Error> = MapDeserializer::new(fields.into_iter());
        let record = Record::deserialize(old).unwrap();
        assert_eq!(record.mode, CgroupMode::Hybrid);
        assert!(record.is_empty());
    }

    #[test]
    fn faults_become_sentences() {
        let directory = Directory {
            path: "/sys/fs/cgroup/cpuset/web1".into(),
            ..Directory::default()
        };
        let record = Record {
            hierarchies: vec![directory],
            ..Record::default()
        };
        assert_eq!(record.steps(), 1);
        assert_eq!(
            record
                .explain(&Fault::new(0, (Call::Write, Errno::ENOSPC)))
                .text,
            "join cgroup /sys/fs/cgroup/cpuset/web1: no space left on device (ENOSPC): \
             its cpuset has no cpus or no mems"
        );
    }
}
