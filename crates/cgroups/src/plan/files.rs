//! The container's directories in the hierarchies, and the values for them.

use std::path::PathBuf;

use coracle_bundle::Config;
use coracle_host::{CgroupLayout, CgroupMode, Host};

use super::bpf::Program;
use super::init_cgroup::InitCgroup;
use super::options::{Options, Rootless};
use super::path::CgroupPath;
use super::write::{Limits, Write, name};
use super::{devices, init_cgroup, owner, path, resources};
use crate::error::property;
use crate::record::Directory;
use crate::table::{CPUSET_CPUS, CPUSET_MEMS};
use crate::{Error, Result};

/// A container's directories in every mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Which versions of cgroups are mounted.
    pub mode: CgroupMode,
    /// v1, in the order in which init joins them.
    pub hierarchies: Vec<HierarchyPlan>,
    /// The cgroup in the v2 tree, which on a hybrid host is in addition to the others.
    pub unified: Option<UnifiedPlan>,
    /// What to do if the caller may not make a cgroup.
    pub denied: Denied,
}

impl Files {
    /// The name of init's cgroup below the v2 one.
    pub(crate) fn init_cgroup(&self) -> Option<String> {
        let init_cgroup = self.unified.as_ref()?.init_cgroup.as_ref()?;
        Some(init_cgroup.name.clone())
    }
}

/// What to do if making a cgroup fails with EPERM, EACCES or EROFS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// An error, which names the JSON path that needs the cgroup.
    Fail {
        /// JSON path of a limit or of `linux.cgroupsPath`; `None` if the caller insists.
        needed_by: Option<String>,
    },
    /// The container does without this cgroup.
    Skip,
}

/// The container's cgroup in one v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HierarchyPlan {
    /// The controllers of the hierarchy.
    pub controllers: Vec<String>,
    /// Mount point.
    pub mount: PathBuf,
    /// The directory of the hierarchy that is mounted.
    pub root: PathBuf,
    /// The cgroup, relative to the mount point; at least one component, no `..`.
    pub path: PathBuf,
    /// Files that are copied from the parent, level by level, if they are empty: a v1 cpuset
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
    /// The directory of the tree that is mounted.
    pub root: PathBuf,
    /// The cgroup, relative to the mount point; at least one component, no `..`.
    pub path: PathBuf,
    /// Whether all available controllers are enabled for the cgroup, or only the required ones.
    pub enable: Enable,
    /// Controllers that limits need, each with the JSON path of the first one.
    pub required: Vec<(String, String)>,
    /// In order.
    pub writes: Vec<Write>,
    /// The device filter; `None` allows everything.
    pub devices: Option<Program>,
    /// The owner of the cgroup, as a uid of the host, if the container may manage the cgroup
    /// itself.
    pub owner: Option<u32>,
    /// Init's cgroup below it.
    pub init_cgroup: Option<InitCgroup>,
    /// Whether this is the v2 cgroup of a hybrid host; if it cannot be made, that is no error.
    pub side: bool,
}

impl UnifiedPlan {
    /// Whether the cgroup has limits, values or a device filter.
    pub(crate) fn is_filled(&self) -> bool {
        !self.required.is_empty() || !self.writes.is_empty() || self.devices.is_some()
    }
}

/// Which controllers are enabled in the parents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enable {
    /// All that are available.
    Available,
    /// Those that a limit needs.
    Required,
}

/// The plan of the cgroupfs driver; `None` if the container has no cgroup.
pub(super) fn plan(
    config: &Config,
    host: &Host,
    options: &Options,
) -> Result<(Option<Files>, Vec<String>)> {
    let path = path::configured(config.linux.cgroups_path.as_deref(), options.id)?;
    if host.cgroups.mode == CgroupMode::None {
        let limits = resources::plan(&config.linux.resources, &host.cgroups)?;
        if denied(config, host, options, &limits) == Denied::Skip {
            return Ok((None, limits.warnings));
        }
    }
    let (files, warnings) = plan_at(config, host, options, &path)?;
    Ok((Some(files), warnings))
}

/// Directories and values for a cgroup at `at`.
pub(super) fn plan_at(
    config: &Config,
    host: &Host,
    options: &Options,
    at: &CgroupPath,
) -> Result<(Files, Vec<String>)> {
    let layout = &host.cgroups;
    let mut limits = resources::plan(&config.linux.resources, layout)?;
    let denied = denied(config, host, options, &limits);
    if layout.mode == CgroupMode::None {
        let path = match denied {
            Denied::Fail {
                needed_by: Some(path),
            } => path,
            _ => property("linux.cgroupsPath"),
        };
        return Err(Error::Config {
            path,
            reason: "no cgroup file system is mounted".to_owned(),
        });
    }
    let devices = devices::plan(&config.linux.resources.devices, host)?;
    let hierarchies = hierarchies(layout, at, &mut limits, &devices);
    let mut unified = unified_tree(config, layout, at, &mut limits, devices);
    let init_cgroup = init_cgroup::plan(&config.annotations, layout.mode, options.manager)?;
    if let Some(unified) = &mut unified {
        unified.init_cgroup = init_cgroup;
    }
    let files = Files {
        mode: layout.mode,
        hierarchies,
        unified,
        denied,
    };
    Ok((files, limits.warnings))
}

/// A config that needs no cgroup does without one if the caller may not make it.
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
        needed_by: needed_by.map(property),
    }
}

fn hierarchies(
    layout: &CgroupLayout,
    at: &CgroupPath,
    limits: &mut Limits,
    devices: &devices::Devices,
) -> Vec<HierarchyPlan> {
    let mut plans = Vec::new();
    let all = std::mem::take(&mut limits.hierarchies);
    for (hierarchy, mut writes) in layout.hierarchies.iter().zip(all) {
        let has = |name: &str| hierarchy.controllers.iter().any(|c| c == name);
        if has("devices") {
            writes.extend(devices.lines.iter().cloned());
        }
        let inherit = if has("cpuset") {
            let rows = [&CPUSET_CPUS, &CPUSET_MEMS].into_iter();
            rows.map(|row| name(&row.v1, hierarchy).to_owned())
                .collect()
        } else {
            Vec::new()
        };
        plans.push(HierarchyPlan {
            controllers: hierarchy.controllers.clone(),
            mount: hierarchy.mount.clone(),
            root: hierarchy.root.clone(),
            path: path::in_hierarchy(at, &hierarchy.own, &hierarchy.root),
            inherit,
            writes,
        });
    }
    plans
}

fn unified_tree(
    config: &Config,
    layout: &CgroupLayout,
    at: &CgroupPath,
    limits: &mut Limits,
    devices: devices::Devices,
) -> Option<UnifiedPlan> {
    let tree = layout.unified.as_ref()?;
    let main = layout.mode == CgroupMode::V2;
    let path = if main {
        path::in_unified(at, &tree.own, &tree.root)
    } else {
        path::in_hierarchy(at, &tree.own, &tree.root)
    };
    let enable = if main {
        Enable::Available
    } else {
        Enable::Required
    };
    // If a v1 hierarchy filters devices, a second filter would only cost time.
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
        init_cgroup: None,
        side: !main,
    })
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
