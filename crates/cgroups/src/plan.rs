//! Planning which cgroups to make and what to write into them. Pure: no file is read here.

mod block_io;
mod bpf;
mod cpu;
mod describe;
mod device_text;
mod device_update;
mod devices;
mod files;
#[cfg(test)]
mod fixture;
mod init_cgroup;
mod memory;
mod options;
mod owner;
mod path;
mod resctrl;
mod resources;
mod sub_cgroup;
mod systemd;
mod unified;
mod update;
mod write;

pub use bpf::Program;
pub use device_update::DeviceUpdate;
pub use files::{Denied, Enable, Files, HierarchyPlan, UnifiedPlan};
pub(crate) use files::{directory, unified_directory};
pub use init_cgroup::InitCgroup;
pub use options::{Manager, Options, Rootless};
pub use resctrl::{Missing, ResctrlPlan};
pub use sub_cgroup::sub_cgroup;
pub(crate) use systemd::{Moment, properties};
pub use systemd::{Property, SystemdPlan, UnitKind, UnitPlan};
pub use update::{CPU_WEIGHTS, Change, Survey, UpdatePlan, changes_devices, plan_update};
pub(crate) use write::restore;
pub use write::{Absent, Refused, Write};

use coracle_bundle::Config;
use coracle_host::{Host, Needs};

use crate::Result;
use crate::record::{Group, Record};

/// The plan for the container's control groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// How the cgroup is made.
    pub driver: Driver,
    /// `linux.intelRdt`.
    pub resctrl: Option<ResctrlPlan>,
    /// Values of the config that have no effect on this machine, one line each.
    pub warnings: Vec<String>,
}

/// How the container's cgroup is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// No cgroup of its own.
    #[default]
    None,
    /// Directories and files of the cgroup file systems.
    Files(Box<Files>),
    /// A systemd unit, and files.
    Systemd(Box<SystemdPlan>),
}

impl Driver {
    /// The container's directories, made by coracle or by systemd.
    #[must_use]
    pub fn files(&self) -> Option<&Files> {
        match self {
            Self::None => None,
            Self::Files(files) => Some(files),
            Self::Systemd(plan) => Some(&plan.files),
        }
    }
}

/// The facts that [`plan`] needs.
#[must_use]
pub fn needs(config: &Config, manager: Manager) -> Needs {
    Needs {
        cgroups: true,
        resctrl: config.linux.intel_rdt.is_some(),
        systemd: manager == Manager::Systemd,
        ..Needs::default()
    }
}

/// The plan for a new container, from `linux.{cgroupsPath,resources,intelRdt}`.
///
/// # Errors
/// Values that are invalid or not supported on this machine, with their JSON path; the systemd
/// manager if systemd does not run.
pub fn plan(config: &Config, host: &Host, options: &Options) -> Result<Plan> {
    let resctrl = resctrl::plan(config.linux.intel_rdt.as_ref(), host, options.id)?;
    let (driver, warnings) = match options.manager {
        Manager::Systemd => {
            let (plan, warnings) = systemd::plan(config, host, options)?;
            (Driver::Systemd(Box::new(plan)), warnings)
        }
        Manager::Disabled => (Driver::None, Vec::new()),
        Manager::Cgroupfs => {
            let (files, warnings) = files::plan(config, host, options)?;
            let driver = files.map_or(Driver::None, |files| Driver::Files(Box::new(files)));
            (driver, warnings)
        }
    };
    Ok(Plan {
        driver,
        resctrl,
        warnings,
    })
}

impl Plan {
    /// Whether init's own cgroup is the root of its cgroup namespace. Heap-free.
    #[must_use]
    pub fn init_cgroup_is_root(&self) -> bool {
        let unified = self.driver.files().and_then(|files| files.unified.as_ref());
        let init_cgroup = unified.and_then(|unified| unified.init_cgroup.as_ref());
        init_cgroup.is_some_and(|cgroup| cgroup.is_namespace_root)
    }

    /// The record of the container's own directories, as if each were made and all parents existed.
    pub(crate) fn record(&self) -> Record {
        let mut record = Record {
            resctrl: self.resctrl.as_ref().map_or_else(Vec::new, groups),
            ..Record::default()
        };
        if let Driver::Systemd(plan) = &self.driver {
            record.unit = Some(plan.unit.record.clone());
        }
        if let Some(files) = self.driver.files() {
            record.mode = files.mode;
            record.hierarchies = files.hierarchies.iter().map(directory).collect();
            record.unified = files.unified.as_ref().map(unified_directory);
            record.init_cgroup = files.init_cgroup();
        }
        record
    }
}

/// The resctrl groups, as a successful create records them.
fn groups(plan: &ResctrlPlan) -> Vec<Group> {
    let monitoring = plan.monitoring.iter().map(|path| (path, true));
    std::iter::once((&plan.group, plan.remove))
        .chain(monitoring)
        .map(|(path, remove)| Group {
            path: path.clone(),
            made: remove,
            remove,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_host::CgroupLayout;
    use coracle_host::CgroupMode;
    use coracle_host::fixture;
    use expect_test::{Expect, expect};

    const OPTIONS: Options = Options {
        id: "web1",
        manager: Manager::Cgroupfs,
        rootless: Rootless::Auto,
    };

    /// The config with this `linux` object.
    fn config(linux: &str) -> Config {
        let text = format!(
            r#"{{"ociVersion": "1.2.0", "root": {{"path": "rootfs"}}, "linux": {linux},
            "process": {{"user": {{"uid": 0, "gid": 0}}, "args": ["sh"], "cwd": "/"}}}}"#
        );
        coracle_bundle::parse(std::path::Path::new("/bundle"), text.as_bytes()).unwrap()
    }

    fn check(linux: &str, host: &Host, expected: Expect) {
        let text = match plan(&config(linux), host, &OPTIONS) {
            Ok(plan) => plan.describe().join("\n"),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text);
    }

    fn unprivileged(host: Host) -> Host {
        Host { euid: 1000, ..host }
    }

    #[test]
    fn limits_on_v2() {
        let linux = r#"{"cgroupsPath": "/a/b", "resources": {
            "devices": [{"allow": true, "access": "rwm"}],
            "memory": {"limit": 64000000, "swap": 128000000}, "cpu": {"cpus": "0-1"}}}"#;
        let expected = expect![[r#"
            make cgroup /sys/fs/cgroup/a/b (v2)
              enable memory down to it (linux.resources.memory.swap)
              enable cpuset down to it (linux.resources.cpu.cpus)
              memory.swap.max: 64000000 (linux.resources.memory.swap)
              memory.max: 64000000 (linux.resources.memory.limit)
              cpuset.cpus: 0-1 (linux.resources.cpu.cpus)"#]];
        check(linux, &fixture::v2(), expected);
    }

    #[test]
    fn an_absent_path_is_beside_our_own_on_v2() {
        let linux = r#"{"resources": {"devices": [{"allow": true, "access": "rwm"}]}}"#;
        let expected = expect!["make cgroup /sys/fs/cgroup/system.slice/web1 (v2)"];
        check(linux, &fixture::v2(), expected);
    }

    #[test]
    fn every_v1_hierarchy_is_joined() {
        let linux = r#"{"cgroupsPath": "/a", "resources": {"pids": {"limit": 5},
            "cpu": {"quota": 5000, "period": 100000},
            "devices": [{"allow": true, "access": "rwm"}]}}"#;
        let host = fixture::v1();
        let plan = plan(&config(linux), &host, &OPTIONS).unwrap();
        let record = plan.record();
        assert_eq!(record.mode, CgroupMode::V1);
        assert_eq!(record.hierarchies.len(), host.cgroups.hierarchies.len());
        let pids = record.hierarchy("pids").unwrap();
        assert_eq!(pids.made, std::slice::from_ref(&pids.path));
        let lines = plan.describe();
        assert!(lines.contains(&"  pids.max: 5 (linux.resources.pids.limit)".to_owned()));
        assert!(lines.contains(&"  cpuset.mems: from the parent, where empty".to_owned()));
        let period =
            "  cpu.cfs_period_us: 100000 (linux.resources.cpu.period), where the cgroup is not new";
        assert!(lines.contains(&period.to_owned()));
    }

    #[test]
    fn who_has_no_right_goes_without_only_if_nothing_is_asked() {
        let denied = |linux: &str, rootless| {
            let options = Options {
                rootless,
                ..OPTIONS
            };
            let host = unprivileged(fixture::v2());
            match plan(&config(linux), &host, &options).unwrap().driver {
                Driver::Files(files) => files.denied,
                _ => panic!("the cgroupfs driver is planned"),
            }
        };
        let fail = |path: &str| Denied::Fail {
            needed_by: Some(format!("config.json: {path}")),
        };
        assert_eq!(denied("{}", Rootless::Auto), Denied::Skip);
        assert_eq!(
            denied("{}", Rootless::False),
            Denied::Fail { needed_by: None }
        );
        let path = r#"{"cgroupsPath": "/a"}"#;
        assert_eq!(denied(path, Rootless::Auto), fail("linux.cgroupsPath"));
        let limit = r#"{"resources": {"pids": {"limit": 5}}}"#;
        assert_eq!(
            denied(limit, Rootless::True),
            fail("linux.resources.pids.limit")
        );
    }

    #[test]
    fn a_limit_without_its_controller_is_refused() {
        let linux = r#"{"resources": {"memory": {"limit": 64000000}}}"#;
        let mut host = fixture::v2();
        if let Some(tree) = &mut host.cgroups.unified {
            tree.controllers.clear();
        }
        let error = |host| {
            plan(&config(linux), host, &OPTIONS)
                .unwrap_err()
                .to_string()
        };
        let required = "config.json: linux.resources.memory.limit: cgroup memory is required, but";
        let place = "/sys/fs/cgroup does not have it";
        assert_eq!(error(&host), format!("{required} {place}"));
        let mut host = fixture::v1();
        host.cgroups.hierarchies.clear();
        assert_eq!(error(&host), format!("{required} it is not mounted"));
    }

    #[test]
    fn managers() {
        let with = |manager| {
            let options = Options { manager, ..OPTIONS };
            plan(&config("{}"), &fixture::v2(), &options)
        };
        let error = with(Manager::Systemd).unwrap_err().to_string();
        assert_eq!(error, "--systemd-cgroup: systemd not running on this host");
        assert_eq!(with(Manager::Disabled).unwrap(), Plan::default());
    }

    #[test]
    fn no_cgroup_file_system() {
        let mut host = unprivileged(fixture::v2());
        host.cgroups = CgroupLayout::default().into();
        check("{}", &host, expect!["no cgroup of its own"]);
        host.euid = 0;
        let expected = expect!["config.json: linux.cgroupsPath: no cgroup file system is mounted"];
        check("{}", &host, expected);
    }
}
