//! New limits for a running container. Pure: the current state of its cgroups is a [`Survey`].

use coracle_bundle::{Cpu, Limit, Memory, Resources};
use coracle_host::{CgroupLayout, Host};

use super::device_update::{self, DeviceUpdate};
use super::systemd::{self, Property};
use super::write::{Write, source};
use super::{memory, resources};
use crate::record::Unit;
use crate::table::{CPU_QUOTA, MEMORY_LIMIT, MEMORY_SWAP, Version};
use crate::value::Bandwidth;
use crate::{Error, Result};

/// The container's resources before the update, the request, and the resources after it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The resources of the stored config.
    pub old: &'a Resources,
    /// The request; absent and zero values leave a limit unchanged.
    pub requested: &'a Resources,
    /// The resources of the config that will be stored.
    pub new: &'a Resources,
    /// Lines for the `schemata` of the container's resctrl group.
    pub schemata: &'a [String],
}

/// The current state of the container's cgroups, read by [`crate::survey`].
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The container's own cgroups in place of the mount points, by the record's index. The v2 one
    /// has the controllers that are enabled for it.
    pub layout: CgroupLayout,
    /// Memory in use, in bytes.
    pub memory_usage: Option<u64>,
    /// Whether the container is in a resctrl group.
    pub has_resctrl: bool,
    /// The systemd unit whose cgroup it is.
    pub unit: Option<Unit>,
}

/// What an update writes, and where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdatePlan {
    /// The properties to set before the files are written, since systemd also writes files.
    pub properties: Vec<Property>,
    /// The properties that restore the unit's device list; limits are restored from their files.
    pub devices_before: Vec<Property>,
    /// By index of the record's v1 hierarchies, in order.
    pub hierarchies: Vec<Vec<Write>>,
    /// In the v2 cgroup, in order.
    pub unified: Vec<Write>,
    /// What is done to the device filter.
    pub devices: DeviceUpdate,
    /// Lines for the container's resctrl group, each with a newline; empty: none.
    pub schemata: String,
    /// Values that have no effect on this machine, one line each.
    pub warnings: Vec<String>,
}

/// Plans an update.
///
/// # Errors
/// Values that are invalid or not supported by the container's cgroups, with their JSON path; a
/// memory limit below the usage, if `checkBeforeUpdate` is set.
pub fn plan_update(change: &Change, host: &Host, now: &Survey) -> Result<UpdatePlan> {
    let host = &Host {
        cgroups: now.layout.clone().into(),
        ..host.clone()
    };
    if !change.schemata.is_empty() && !now.has_resctrl {
        let reason = "the container is in no group of resctrl";
        return Err(Error::config("linux.intelRdt", reason));
    }
    check_usage(change, now.memory_usage)?;
    let mut limits = resources::plan(&affected(change), &host.cgroups)?;
    if change.requested.memory.disable_oom_killer == Some(false) {
        memory::enable_oom_killer(&mut limits)?;
    }
    let devices = device_update::plan(&change.old.devices, &change.requested.devices, host)?;
    let (mut properties, mut devices_before) = (Vec::new(), Vec::new());
    if let Some(unit) = &now.unit {
        properties = systemd::update(unit, &mut limits);
        if devices != DeviceUpdate::Keep {
            properties.extend(systemd::update_devices(unit, &change.requested.devices));
            devices_before = systemd::update_devices(unit, &change.old.devices);
        }
    }
    let schemata = change.schemata.iter().map(|line| format!("{line}\n"));
    Ok(UpdatePlan {
        hierarchies: limits.hierarchies,
        unified: limits.unified,
        devices,
        schemata: schemata.collect(),
        warnings: limits.warnings,
        properties,
        devices_before,
    })
}

/// Whether a device list of an update changes the stored one.
#[must_use]
pub fn changes_devices(requested: &Resources) -> bool {
    device_update::has_effect(&requested.devices)
}

/// The request, with the other values that the kernel only accepts together with it.
fn affected(change: &Change) -> Resources {
    Resources {
        memory: limit_and_swap(&change.requested.memory, &change.new.memory),
        cpu: cpu(change.requested, change.new),
        devices: Vec::new(),
        ..change.requested.clone()
    }
}

/// v2 counts swap separately, so a change of one value also changes the other's file; v1 requires
/// one to be at most the other.
fn limit_and_swap(requested: &Memory, new: &Memory) -> Memory {
    if requested.limit.is_none() && requested.swap.is_none() {
        return *requested;
    }
    Memory {
        limit: new.limit,
        swap: new.swap,
        ..*requested
    }
}

fn cpu(requested: &Resources, new: &Resources) -> Cpu {
    let (unified, requested) = (&requested.unified, &requested.cpu);
    let mut cpu = requested.clone();
    let quota = || unified_quota(new);
    let weight =
        requested.shares.is_some() || CPU_WEIGHTS.iter().any(|file| unified.contains_key(*file));
    let is_busy = new.unified.get("cpu.idle").is_some_and(|idle| idle == "0");
    let new = &new.cpu;
    // v2 has one file for quota and period, and a burst must not exceed the quota.
    if requested.quota.is_some() || requested.period.is_some() || requested.burst.is_some() {
        (cpu.quota, cpu.period, cpu.burst) = (new.quota, new.period, new.burst);
    }
    // A period is written with a quota.
    if cpu.period.is_some() && cpu.quota.is_none() {
        cpu.quota = quota();
    }
    // An idle cgroup has no weight, and the kernel refuses one. A new weight therefore ends idle in
    // the new config.
    if requested.idle.is_some() || requested.shares.is_some() {
        cpu.shares = new.shares;
    }
    if requested.idle.is_some() || weight {
        cpu.idle = new.idle.or(is_busy.then_some(false));
    }
    if requested.realtime_runtime.is_some() || requested.realtime_period.is_some() {
        cpu.realtime_runtime = new.realtime_runtime;
        cpu.realtime_period = new.realtime_period;
    }
    cpu
}

/// The files of v2 for a weight, which an idle cgroup does not take: cgroup-v2.rst § CPU.
pub const CPU_WEIGHTS: [&str; 2] = ["cpu.weight", "cpu.weight.nice"];

/// The quota of a container that has it in `unified`.
fn unified_quota(resources: &Resources) -> Option<Limit> {
    let bandwidth = resources.unified.get(CPU_QUOTA.name(Version::V2))?;
    Some(Bandwidth::read(bandwidth)?.quota)
}

/// Refuses a limit below the usage: v2 would kill processes until the limit is met, v1 would first
/// try to reclaim memory.
fn check_usage(change: &Change, usage: Option<u64>) -> Result<()> {
    let requested = &change.requested.memory;
    if change.new.memory.check_before_update != Some(true) {
        return Ok(());
    }
    for (value, row, name) in [
        (requested.swap, &MEMORY_SWAP, "memory+swap"),
        (requested.limit, &MEMORY_LIMIT, "memory"),
    ] {
        if let (Some(Limit::Amount(limit)), Some(usage)) = (value, usage)
            && limit <= usage
        {
            return Err(Error::config(
                &source(row),
                format!("rejecting {name} limit {limit}: the current usage is {usage}"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::write::text;
    use super::*;
    use coracle_host::fixture;

    /// Old and new `memory` and `cpu`, and what is requested: the writes on v1 and on v2.
    fn check(old: &Resources, requested: &Resources, new: &Resources) -> [String; 2] {
        [fixture::hybrid(), fixture::v2()].map(|host| {
            let change = Change {
                old,
                requested,
                new,
                schemata: &[],
            };
            let now = Survey {
                layout: (*host.cgroups).clone(),
                memory_usage: Some(5000),
                has_resctrl: false,
                unit: None,
            };
            match plan_update(&change, &host, &now) {
                Ok(plan) => {
                    let lists = plan.hierarchies.into_iter().chain([plan.unified]);
                    let writes = lists.map(|list| text(&list));
                    let writes: Vec<String> = writes.filter(|text| !text.is_empty()).collect();
                    writes
                        .join(" ")
                        .replace(" (again)", "")
                        .replace(" (if there)", "")
                }
                Err(error) => error.to_string(),
            }
        })
    }

    fn of_memory(limit: Option<i64>, swap: Option<i64>) -> Resources {
        let memory = Memory {
            limit: Limit::unless_zero(limit),
            swap: Limit::unless_zero(swap),
            ..Memory::default()
        };
        Resources {
            memory,
            ..Resources::default()
        }
    }

    #[test]
    fn memory_and_swap_move_together() {
        let old = of_memory(Some(100), Some(250));
        let [v1, v2] = check(
            &old,
            &of_memory(Some(200), None),
            &of_memory(Some(200), Some(250)),
        );
        assert_eq!(
            v1,
            "memory.limit_in_bytes=200 memory.memsw.limit_in_bytes=250"
        );
        assert_eq!(v2, "memory.swap.max=50 memory.max=200");
        let [v1, v2] = check(&old, &of_memory(Some(0), Some(0)), &old);
        assert_eq!((v1.as_str(), v2.as_str()), ("", ""));
    }

    #[test]
    fn the_oom_killer_can_be_had_back() {
        let of = |disable_oom_killer| {
            let mut resources = Resources::default();
            resources.memory.disable_oom_killer = disable_oom_killer;
            resources
        };
        for (requested, expected) in [
            (None, ""),
            (Some(false), "memory.oom_control=0"),
            (Some(true), "memory.oom_control=1"),
        ] {
            let [v1, v2] = check(&of(Some(true)), &of(requested), &of(requested));
            assert_eq!((v1.as_str(), v2.as_str()), (expected, ""));
        }
    }

    #[test]
    fn a_period_keeps_the_quota() {
        let of = |quota, period| Resources {
            cpu: Cpu {
                quota: Limit::unless_zero(quota),
                period,
                ..Cpu::default()
            },
            ..Resources::default()
        };
        let new = of(Some(3000), Some(5000));
        let [v1, v2] = check(&of(Some(3000), None), &of(Some(0), Some(5000)), &new);
        assert_eq!(v1, "cpu.cfs_period_us=5000 cpu.cfs_quota_us=3000");
        assert_eq!(v2, "cpu.max=3000 5000");
        let mut unified = of(None, Some(5000));
        let bandwidth = ("cpu.max".to_owned(), "4000 90000".to_owned());
        unified.unified.extend([bandwidth]);
        let [_, v2] = check(&of(None, None), &of(None, Some(5000)), &unified);
        assert_eq!(v2, "cpu.max=4000 5000");
    }

    #[test]
    fn what_is_no_longer_idle_gets_its_weight_back() {
        let of = |idle, shares| Resources {
            cpu: Cpu {
                idle,
                shares,
                ..Cpu::default()
            },
            ..Resources::default()
        };
        let old = of(Some(true), Some(1024));
        let [v1, v2] = check(&old, &of(Some(false), None), &of(Some(false), Some(1024)));
        assert_eq!(v1, "cpu.idle=0 cpu.shares=1024");
        assert_eq!(v2, "cpu.idle=0 cpu.weight=100");
    }

    #[test]
    fn a_weight_comes_after_the_end_of_the_idleness() {
        let of = |idle, shares, unified: &[(&str, &str)]| Resources {
            cpu: Cpu {
                idle,
                shares,
                ..Cpu::default()
            },
            unified: unified
                .iter()
                .map(|(file, value)| ((*file).to_owned(), (*value).to_owned()))
                .collect(),
            ..Resources::default()
        };
        let old = of(Some(true), None, &[]);
        let requested = of(None, Some(512), &[]);
        let [v1, v2] = check(&old, &requested, &of(Some(false), Some(512), &[]));
        assert_eq!(v1, "cpu.idle=0 cpu.shares=512");
        assert_eq!(v2, "cpu.idle=0 cpu.weight=59");
        let (weight, busy) = (("cpu.weight", "50"), ("cpu.idle", "0"));
        let requested = of(None, None, &[weight]);
        let [_, v2] = check(&old, &requested, &of(Some(false), None, &[weight]));
        assert_eq!(v2, "cpu.idle=0 cpu.weight=50");
        let old = of(None, None, &[("cpu.idle", "1")]);
        let [_, v2] = check(&old, &requested, &of(None, None, &[busy, weight]));
        assert_eq!(v2, "cpu.idle=0 cpu.weight=50");
    }

    #[test]
    fn a_limit_below_the_usage_is_refused_where_that_is_asked() {
        let mut requested = of_memory(Some(4096), None);
        let [_, v2] = check(&of_memory(None, None), &requested, &requested);
        assert_eq!(v2, "memory.max=4096");
        requested.memory.check_before_update = Some(true);
        for text in check(&of_memory(None, None), &requested, &requested) {
            assert_eq!(
                text,
                "config.json: linux.resources.memory.limit: \
                 rejecting memory limit 4096: the current usage is 5000"
            );
        }
        requested.memory.swap = Some(Limit::Amount(5000));
        for text in check(&of_memory(None, None), &requested, &requested) {
            assert_eq!(
                text,
                "config.json: linux.resources.memory.swap: \
                 rejecting memory+swap limit 5000: the current usage is 5000"
            );
        }
    }
}
