//! The differences between oci-spec 0.10 and the specification. If a later oci-spec fixes one, its
//! line here can go.
//!
//! [`Config`] and [`Process`] replace two types of oci-spec. Its `Spec` reads the sections of other
//! platforms, which are unknown properties here. Its `Process` requires `user`, refuses an unknown
//! capability (which only deserves a warning: config.md § Linux Process), has other names for two
//! flags of the scheduler, and matches lists of CPUs by a regular expression that refuses an empty
//! one and would add the regex crate to the binary.

use super::json::Json;
use crate::error::At;
use oci_spec::runtime as oci;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// The maximum number of warnings: a hostile document could flood a log.
const MAX_WARNINGS: usize = 20;

/// Warnings, and values that oci-spec's types cannot hold.
#[derive(Default)]
pub(crate) struct Notes {
    /// The warnings, one line each.
    pub(crate) warnings: Vec<String>,
    /// Whether `pids.limit` is present. oci-spec reads an absent one as zero, which is a valid
    /// limit.
    pub(crate) pids_limit: bool,
    /// Whether `seccomp` is present but has neither a default action nor system calls.
    pub(crate) empty_seccomp: bool,
    /// Each `hugepageLimits[index].limit` above `i64::MAX`, which oci-spec cannot hold.
    pub(crate) hugepage_limits: BTreeMap<usize, u64>,
}

impl Notes {
    /// Adds a warning, up to the maximum.
    pub(crate) fn warn(&mut self, line: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(line);
        }
    }
}

/// `config.json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    pub(crate) oci_version: String,
    pub(crate) root: Option<oci::Root>,
    pub(crate) process: Option<Process>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) mounts: Option<Vec<oci::Mount>>,
    pub(crate) hooks: Option<oci::Hooks>,
    pub(crate) annotations: Option<HashMap<String, String>>,
    pub(crate) linux: Option<oci::Linux>,
}

/// `process`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Process {
    pub(crate) terminal: Option<bool>,
    pub(crate) console_size: Option<oci::Box>,
    pub(crate) user: Option<oci::User>,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    #[serde(default)]
    pub(crate) capabilities: Capabilities,
    #[serde(default)]
    pub(crate) rlimits: Vec<oci::PosixRlimit>,
    pub(crate) no_new_privileges: Option<bool>,
    pub(crate) apparmor_profile: Option<String>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) selinux_label: Option<String>,
    pub(crate) io_priority: Option<oci::LinuxIOPriority>,
    pub(crate) scheduler: Option<Scheduler>,
    #[serde(default, rename = "execCPUAffinity")]
    pub(crate) exec_cpu_affinity: ExecCpuAffinity,
}

/// `process.capabilities`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    pub(crate) bounding: Vec<String>,
    pub(crate) effective: Vec<String>,
    pub(crate) inheritable: Vec<String>,
    pub(crate) permitted: Vec<String>,
    pub(crate) ambient: Vec<String>,
}

/// `process.scheduler`.
#[derive(Deserialize)]
pub(crate) struct Scheduler {
    pub(crate) policy: oci::LinuxSchedulerPolicy,
    pub(crate) nice: Option<i32>,
    pub(crate) priority: Option<i32>,
    #[serde(default)]
    pub(crate) flags: Vec<String>,
    pub(crate) runtime: Option<u64>,
    pub(crate) deadline: Option<u64>,
    pub(crate) period: Option<u64>,
}

/// `process.execCPUAffinity`.
#[derive(Default, Deserialize)]
pub(crate) struct ExecCpuAffinity {
    pub(crate) initial: Option<String>,
    pub(crate) r#final: Option<String>,
}

/// The properties that the specification has for a type with these fields.
pub(super) fn properties(name: &str, fields: &'static [&'static str]) -> &'static [&'static str] {
    match name {
        // Without enableCMT and enableMBM, which were removed in 1.3.
        "LinuxIntelRdt" => &[
            "closID",
            "schemata",
            "l3CacheSchema",
            "memBwSchema",
            "enableMonitoring",
        ],
        _ => fields,
    }
}

/// The required properties that oci-spec reads as zero or empty if they are absent.
pub(super) fn required(name: &str, json: &Json<'_>) -> &'static [&'static str] {
    match name {
        "Root" => &["path"],
        "Box" => &["height", "width"],
        "PosixRlimit" => &["type", "hard", "soft"],
        "LinuxIOPriority" => &["class"],
        "LinuxIdMapping" => &["containerID", "hostID", "size"],
        // A FIFO has no device numbers.
        "LinuxDevice" if is_fifo(json.get("type")) => &["path"],
        "LinuxDevice" => &["type", "path", "major", "minor"],
        "LinuxDeviceCgroup" => &["allow"],
        "LinuxWeightDevice" => &["major", "minor"],
        "LinuxThrottleDevice" => &["major", "minor", "rate"],
        "LinuxHugepageLimit" => &["pageSize", "limit"],
        "LinuxInterfacePriority" => &["name", "priority"],
        _ => &[],
    }
}

/// A key, and a value that replaces the document's.
pub(super) type StandIn = (&'static str, &'static Json<'static>);

/// Checks an object before it is read to the type of this name.
pub(super) fn enter(name: &str, json: &Json<'_>, at: At<'_>, notes: &mut Notes) -> Option<StandIn> {
    let missing = |key| json.get(key).is_none();
    match name {
        "Process" if missing("user") => {
            let place = at.key("user");
            notes.warn(format!("{place}: missing, uid 0 and gid 0 are taken"));
        }
        "User" => {
            for key in ["uid", "gid"].into_iter().filter(|key| missing(key)) {
                notes.warn(format!("{}: missing, 0 is taken", at.key(key)));
            }
        }
        "LinuxPids" => notes.pids_limit = !missing("limit"),
        // Without an action and system calls there is no filter.
        "LinuxSeccomp" if missing("defaultAction") && is_empty(json.get("syscalls")) => {
            notes.empty_seccomp = true;
            const NONE: Json<'static> = Json::Text(std::borrow::Cow::Borrowed("SCMP_ACT_ALLOW"));
            return Some(("defaultAction", &NONE));
        }
        "LinuxHugepageLimit" => {
            if let (At::Index(_, index), Some(Json::Unsigned(limit))) = (at, json.get("limit"))
                && i64::try_from(*limit).is_err()
            {
                notes.hugepage_limits.insert(index, *limit);
                return Some(("limit", &Json::Unsigned(0)));
            }
        }
        _ => {}
    }
    None
}

fn is_fifo(kind: Option<&Json<'_>>) -> bool {
    matches!(kind, Some(Json::Text(kind)) if kind == "p")
}

fn is_empty(list: Option<&Json<'_>>) -> bool {
    match list {
        None => true,
        Some(list) => *list == Json::List(Vec::new()),
    }
}
