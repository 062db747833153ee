//! What to make and to write, decided before anything is touched. Pure: no file is read here.

mod block_io;
mod bpf;
mod cpu;
mod describe;
mod device_update;
mod devices;
mod hugetlb;
mod leaf;
mod limits;
mod memory;
mod network;
mod owner;
mod path;
mod pids;
mod rdma;
mod resctrl;
mod restore;
mod sub_cgroup;
mod systemd;
mod unified;
mod update;
mod write;

pub use bpf::Program;
pub use device_update::DeviceUpdate;
pub use resctrl::{Missing, ResctrlPlan};
pub(crate) use restore::restore;
pub use sub_cgroup::sub_cgroup;
pub(crate) use systemd::{Moment, properties};
pub use systemd::{Property, SystemdPlan, UnitKind, UnitPlan};
pub use update::{Change, Survey, UpdatePlan, changes_devices, plan_update};
pub use write::{Absent, Refused, Write};

use std::path::PathBuf;

use coracle_bundle::Config;
use coracle_host::{CgroupLayout, CgroupMode, Host};

use crate::record::{Directory, Group, Mode, Record};
use crate::{Error, Result};
use limits::Limits;
use path::Asked;

/// Who makes the container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manager {
    /// The runtime itself, by files.
    #[default]
    Cgroupfs,
    /// systemd, over D-Bus.
    Systemd,
    /// Nobody: the container stays in the caller's cgroup, limits are not applied.
    Disabled,
}

/// Whether a missing right to make cgroups is forgiven when no limit and no path is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rootless {
    /// Forgiven if the runtime isn't root of the initial user namespace.
    #[default]
    Auto,
    /// Forgiven.
    True,
    /// An error.
    False,
}

/// What the caller chose.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The container's id: the cgroup's name if `linux.cgroupsPath` is absent.
    pub id: &'a str,
    /// `--systemd-cgroup`, `--cgroup-manager`.
    pub manager: Manager,
    /// `--rootless`.
    pub rootless: Rootless,
}

/// Everything about the container's control groups, ready to be carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Who makes the cgroup, and how.
    pub driver: Driver,
    /// `linux.intelRdt`.
    pub resctrl: Option<ResctrlPlan>,
    /// Values of the config that this machine has no place for, one line each.
    pub warnings: Vec<String>,
}

/// The way in which the container's cgroup comes to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// No cgroup of its own.
    #[default]
    None,
    /// Directories and files of the cgroup file systems.
    Files(Box<Files>),
    /// A unit of systemd's, and files.
    Systemd(Box<SystemdPlan>),
}

impl Driver {
    /// The container's directories, whoever makes them.
    #[must_use]
    pub fn files(&self) -> Option<&Files> {
        match self {
            Self::None => None,
            Self::Files(files) => Some(files),
            Self::Systemd(plan) => Some(&plan.files),
        }
    }
}

/// A container's directories in every mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The world they are in.
    pub mode: Mode,
    /// v1, in the order in which init joins them.
    pub hierarchies: Vec<HierarchyPlan>,
    /// The v2 tree: the only one on v2, beside the others on a hybrid host.
    pub unified: Option<UnifiedPlan>,
    /// What a missing right to make a cgroup means.
    pub denied: Denied,
}

impl Files {
    /// The cgroup below the v2 one for init alone.
    pub(crate) fn leaf(&self) -> Option<String> {
        self.unified.as_ref()?.leaf.clone()
    }
}

/// What EPERM, EACCES and EROFS mean when a cgroup is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// An error, which names the JSON path that needs the cgroup.
    Fail {
        /// JSON path of a limit or of `linux.cgroupsPath`; `None` if the caller insists.
        needed_by: Option<String>,
    },
    /// The container goes without this cgroup.
    Skip,
}

/// The container's cgroup in one v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HierarchyPlan {
    /// What the hierarchy is mounted with.
    pub controllers: Vec<String>,
    /// Mount point.
    pub mount: PathBuf,
    /// Which directory of the hierarchy the mount shows.
    pub root: PathBuf,
    /// The cgroup, relative to the mount point; at least one component, no `..`.
    pub path: PathBuf,
    /// Files whose content comes from the parent, level by level, where they are empty: a v1 cpuset
    /// without cpus and mems cannot be joined.
    pub inherit: Vec<String>,
    /// In order.
    pub writes: Vec<Write>,
}

/// The container's cgroup in the v2 tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnifiedPlan {
    /// Mount point.
    pub mount: PathBuf,
    /// Which directory of the tree the mount shows.
    pub root: PathBuf,
    /// The cgroup, relative to the mount point; at least one component, no `..`.
    pub path: PathBuf,
    /// Whether all available controllers are enabled down to the cgroup, or the required ones only.
    pub enable: Enable,
    /// Controllers that limits need, each with the JSON path of the first one.
    pub required: Vec<(String, String)>,
    /// In order.
    pub writes: Vec<Write>,
    /// The device filter; `None` allows everything.
    pub devices: Option<Program>,
    /// Who gets the cgroup, in the host's ids: a container that may manage it itself.
    pub owner: Option<u32>,
    /// The cgroup below for init alone.
    pub leaf: Option<String>,
    /// A hybrid host's v2 cgroup is of use, but nobody depends on it.
    pub side: bool,
}

impl UnifiedPlan {
    /// Whether the cgroup is needed for what is put into it.
    pub(crate) fn is_filled(&self) -> bool {
        !self.required.is_empty() || !self.writes.is_empty() || self.devices.is_some()
    }
}

/// Which controllers the parents hand down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enable {
    /// All that there are.
    Available,
    /// Those that a limit needs.
    Required,
}

/// The plan for a new container, from `linux.{cgroupsPath,resources,intelRdt}`.
///
/// # Errors
/// Values without sense or without a place on this machine, named by JSON path; the systemd manager
/// where systemd does not run.
pub fn plan(config: &Config, host: &Host, options: &Options) -> Result<Plan> {
    let resctrl = resctrl::plan(config.linux.intel_rdt.as_ref(), host, options.id)?;
    match options.manager {
        Manager::Systemd => {
            let (plan, warnings) = systemd::plan(config, host, options)?;
            Ok(Plan {
                driver: Driver::Systemd(Box::new(plan)),
                resctrl,
                warnings,
            })
        }
        Manager::Disabled => Ok(Plan {
            driver: Driver::None,
            resctrl,
            warnings: Vec::new(),
        }),
        Manager::Cgroupfs => {
            let (driver, warnings) = files(config, host, options)?;
            Ok(Plan {
                driver,
                resctrl,
                warnings,
            })
        }
    }
}

/// The cgroupfs driver's part.
fn files(config: &Config, host: &Host, options: &Options) -> Result<(Driver, Vec<String>)> {
    let asked = path::asked(config.linux.cgroups_path.as_deref(), options.id)?;
    if host.cgroups.mode == CgroupMode::None {
        let limits = limits::plan(&config.linux.resources, &host.cgroups)?;
        if denied(config, host, options, &limits) == Denied::Skip {
            return Ok((Driver::None, limits.warnings));
        }
    }
    let (files, warnings) = files_at(config, host, options, &asked)?;
    Ok((Driver::Files(Box::new(files)), warnings))
}

/// Directories and values for a cgroup at `asked`.
fn files_at(
    config: &Config,
    host: &Host,
    options: &Options,
    asked: &Asked,
) -> Result<(Files, Vec<String>)> {
    let layout = &host.cgroups;
    let mut limits = limits::plan(&config.linux.resources, layout)?;
    let denied = denied(config, host, options, &limits);
    if layout.mode == CgroupMode::None {
        let path = match denied {
            Denied::Fail {
                needed_by: Some(path),
            } => path,
            _ => "linux.cgroupsPath".to_owned(),
        };
        return Err(Error::config(path, "no cgroup file system is mounted"));
    }
    let devices = devices::plan(&config.linux.resources.devices, host)?;
    let hierarchies = hierarchies(layout, asked, &mut limits, &devices);
    let mut unified = unified_tree(config, layout, asked, &mut limits, devices);
    let leaf = leaf::plan(&config.annotations, layout.mode)?;
    if let Some(unified) = &mut unified {
        unified.leaf = leaf;
    }
    let files = Files {
        mode: layout.mode.into(),
        hierarchies,
        unified,
        denied,
    };
    Ok((files, limits.warnings))
}

/// CGR-19: who has no right and asks for nothing goes without.
fn denied(config: &Config, host: &Host, options: &Options, limits: &Limits) -> Denied {
    let forgiving = match options.rootless {
        Rootless::Auto => host.euid != 0 || host.in_user_namespace,
        Rootless::True => true,
        Rootless::False => false,
    };
    let needed_by = match (limits.first_source(), &config.linux.cgroups_path) {
        (Some(source), _) => Some(source),
        (None, Some(_)) => Some("linux.cgroupsPath"),
        (None, None) if forgiving => return Denied::Skip,
        (None, None) => None,
    };
    Denied::Fail {
        needed_by: needed_by.map(str::to_owned),
    }
}

fn hierarchies(
    layout: &CgroupLayout,
    asked: &Asked,
    limits: &mut Limits,
    devices: &devices::Devices,
) -> Vec<HierarchyPlan> {
    let mut plans = Vec::new();
    for (index, hierarchy) in layout.hierarchies.iter().enumerate() {
        let has = |name: &str| hierarchy.controllers.iter().any(|c| c == name);
        let mut writes = limits.take_hierarchy(index);
        if has("devices") {
            writes.extend(devices.lines.iter().cloned());
        }
        let inherit = if has("cpuset") {
            let name = |file| cpu::cpuset_file(file, hierarchy.noprefix);
            vec![name("cpus"), name("mems")]
        } else {
            Vec::new()
        };
        plans.push(HierarchyPlan {
            controllers: hierarchy.controllers.clone(),
            mount: hierarchy.mount.clone(),
            root: hierarchy.root.clone(),
            path: path::in_hierarchy(asked, &hierarchy.own, &hierarchy.root),
            inherit,
            writes,
        });
    }
    plans
}

fn unified_tree(
    config: &Config,
    layout: &CgroupLayout,
    asked: &Asked,
    limits: &mut Limits,
    devices: devices::Devices,
) -> Option<UnifiedPlan> {
    let tree = layout.unified.as_ref()?;
    let main = layout.mode == CgroupMode::V2;
    let path = if main {
        path::in_unified(asked, &tree.own, &tree.root)
    } else {
        path::in_hierarchy(asked, &tree.own, &tree.root)
    };
    let enable = if main {
        Enable::Available
    } else {
        Enable::Required
    };
    // A v1 hierarchy has the say over devices where there is one: two filters only cost twice.
    let filtered = layout
        .hierarchies
        .iter()
        .any(|hierarchy| hierarchy.controllers.iter().any(|c| c == "devices"));
    Some(UnifiedPlan {
        mount: tree.mount.clone(),
        root: tree.root.clone(),
        path,
        enable,
        required: std::mem::take(&mut limits.required),
        writes: std::mem::take(&mut limits.unified),
        devices: if filtered { None } else { devices.program },
        owner: if main { owner::plan(config) } else { None },
        leaf: None,
        side: !main,
    })
}

impl Plan {
    /// The container's own directories, as if each had to be made and their parents were there.
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
            record.leaf = files.leaf();
        }
        record
    }
}

/// All of the groups, with the removal that a successful create would record.
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

pub(crate) fn directory(plan: &HierarchyPlan) -> Directory {
    let path = plan.mount.join(&plan.path);
    Directory {
        controllers: plan.controllers.clone(),
        mount: plan.mount.clone(),
        root: plan.root.clone(),
        made: vec![path.clone()],
        path,
    }
}

pub(crate) fn unified_directory(plan: &UnifiedPlan) -> Directory {
    let path = plan.mount.join(&plan.path);
    Directory {
        controllers: Vec::new(),
        mount: plan.mount.clone(),
        root: plan.root.clone(),
        made: vec![path.clone()],
        path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            "devices": [{"allow": true, "access": "rwm"}]}}"#;
        let host = fixture::v1();
        let plan = plan(&config(linux), &host, &OPTIONS).unwrap();
        let record = plan.record();
        assert_eq!(record.mode, Mode::V1);
        assert_eq!(record.hierarchies.len(), host.cgroups.hierarchies.len());
        let pids = record.hierarchy("pids").unwrap();
        assert_eq!(pids.made, std::slice::from_ref(&pids.path));
        let lines = plan.describe();
        assert!(lines.contains(&"  pids.max: 5 (linux.resources.pids.limit)".to_owned()));
        assert!(lines.contains(&"  cpuset.mems: from the parent, where empty".to_owned()));
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
            needed_by: Some(path.to_owned()),
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
        let required = "linux.resources.memory.limit: cgroup memory is required, but";
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
        host.cgroups = CgroupLayout::default();
        check("{}", &host, expect!["no cgroup of its own"]);
        host.euid = 0;
        let expected = expect!["linux.cgroupsPath: no cgroup file system is mounted"];
        check("{}", &host, expected);
    }
}
