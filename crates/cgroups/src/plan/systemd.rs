//! The systemd driver: a transient unit whose cgroup systemd makes and coracle fills in.
//! systemd.scope(5), org.freedesktop.systemd1(5).

mod annotation;
mod devices;
mod gvariant;
mod name;
mod property;

pub use name::UnitKind;
pub use property::Property;
use property::round_quotas;
pub(crate) use property::{Moment, properties};

use coracle_bundle::{Config, DeviceRule};
use coracle_dbus::Value;
use coracle_host::{CgroupMode, Host, Systemd, SystemdManager};

use super::files::{Enable, Files, plan_at};
use super::options::Options;
use super::path::CgroupPath;
use super::write::Limits;
use crate::record::Unit;
use crate::{Error, Result};

/// The properties that came with systemd 236.
const COLLECT_MODE_SINCE: u32 = 236;

/// A unit and its cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemdPlan {
    /// The unit to start.
    pub unit: UnitPlan,
    /// The values for the unit's cgroup, and the hierarchies that systemd does not use.
    pub files: Files,
}

/// A transient unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitPlan {
    /// Its name and the address of its manager, for the record.
    pub record: Unit,
    /// Which manager.
    pub manager: SystemdManager,
    /// Scope or slice.
    pub kind: UnitKind,
    /// Its properties, except for its processes, which do not exist yet.
    pub properties: Vec<Property>,
}

/// The plan, and a warning for each value that has no effect on this machine.
pub(super) fn plan(
    config: &Config,
    host: &Host,
    options: &Options,
) -> Result<(SystemdPlan, Vec<String>)> {
    let systemd = host.systemd.as_ref().ok_or(Error::NoSystemd)?;
    let path = config.linux.cgroups_path.as_deref();
    let name = name::plan(path, options.id, systemd.manager)?;
    let at = CgroupPath::InTree(systemd.cgroup.join(&name.path));
    let (mut files, warnings) = plan_at(config, host, options, &at)?;
    if let Some(unified) = &mut files.unified {
        // systemd enables the other controllers for a delegated unit.
        unified.enable = Enable::Required;
    }
    let all = files.hierarchies.iter_mut().map(|plan| &mut plan.writes);
    let all = all.chain(files.unified.iter_mut().map(|plan| &mut plan.writes));
    all.for_each(|writes| round_quotas(writes));
    let mut properties = base(options.id, &name, systemd, files.mode);
    properties.extend(limits(&files, systemd.version));
    if systemd.manager == SystemdManager::System {
        let rules = super::devices::reduced(&config.linux.resources.devices);
        properties.extend(devices::properties(&rules));
    }
    // An engine's annotation replaces coracle's own property.
    for property in annotation::plan(&config.annotations)? {
        properties.retain(|other| other.name != property.name);
        properties.push(property);
    }
    let unit = UnitPlan {
        record: Unit {
            name: name.unit,
            address: systemd.bus.address.clone(),
            private: systemd.bus.peer == coracle_host::Peer::Service,
            user: systemd.manager == SystemdManager::User,
            version: systemd.version,
        },
        manager: systemd.manager,
        kind: name.kind,
        properties,
    };
    Ok((SystemdPlan { unit, files }, warnings))
}

/// The unit's properties for new limits of a running container. Quotas are rounded as systemd does.
pub(super) fn update(unit: &Unit, limits: &mut Limits) -> Vec<Property> {
    let Limits {
        hierarchies,
        unified,
        ..
    } = limits;
    let lists = hierarchies.iter_mut().chain([unified]).map(|writes| {
        round_quotas(writes);
        properties(writes, unit.version, Moment::Later)
    });
    lists.flatten().collect()
}

/// The unit's properties for a new device list of a running container.
pub(super) fn update_devices(unit: &Unit, rules: &[DeviceRule]) -> Vec<Property> {
    if unit.user {
        return Vec::new();
    }
    let list = devices::properties(&super::devices::reduced(rules));
    // systemd appends to an existing list; an empty list clears it.
    let emptied = list.iter().filter_map(|property| match &property.value {
        Value::Array(of, _) => Some(Property {
            value: Value::Array(of.clone(), Vec::new()),
            ..property.clone()
        }),
        _ => None,
    });
    emptied.chain(list.iter().cloned()).collect()
}

/// The properties of every container's unit.
fn base(id: &str, name: &name::Name, systemd: &Systemd, mode: CgroupMode) -> Vec<Property> {
    let property = |name: &str, value| Property {
        name: name.to_owned(),
        value,
        source: String::new(),
    };
    let yes = || Value::Bool(true);
    let description = Value::Text(format!("coracle container {id}"));
    let mut properties = vec![property("Description", description)];
    if name.kind == UnitKind::Scope {
        properties.push(property("Slice", Value::Text(name.slice.clone())));
        // The container may make cgroups below; systemd does not manage them.
        properties.push(property("Delegate", yes()));
        if systemd.version >= COLLECT_MODE_SINCE {
            // systemd also unloads a failed unit, for example after an OOM kill.
            properties.push(property("CollectMode", "inactive-or-failed".into()));
        }
    }
    let io = match mode {
        CgroupMode::V2 => "IOAccounting",
        CgroupMode::None | CgroupMode::V1 | CgroupMode::Hybrid => "BlockIOAccounting",
    };
    for name in ["CPUAccounting", "MemoryAccounting", "TasksAccounting", io] {
        properties.push(property(name, yes()));
    }
    // Otherwise systemd would stop it before the engine at shutdown.
    properties.push(property("DefaultDependencies", Value::Bool(false)));
    properties
}

/// The limits of all hierarchies.
fn limits(files: &Files, version: u32) -> Vec<Property> {
    let hierarchies = files.hierarchies.iter().map(|plan| &plan.writes);
    let all = hierarchies.chain(files.unified.iter().map(|plan| &plan.writes));
    all.flat_map(|writes| properties(writes, version, Moment::Start))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::plan::{Manager, Options, Rootless};
    use coracle_bundle::Config;
    use coracle_host::{Host, fixture};
    use expect_test::{Expect, expect};

    fn check(config: &str, host: Host, expected: Expect) {
        let text = format!(
            r#"{{"ociVersion": "1.2.0", "root": {{"path": "rootfs"}}, {config},
            "process": {{"user": {{"uid": 0, "gid": 0}}, "args": ["sh"], "cwd": "/"}}}}"#
        );
        let bundle = std::path::Path::new("/bundle");
        let config: Config = coracle_bundle::parse(bundle, text.as_bytes()).unwrap();
        let options = Options {
            id: "web1",
            manager: Manager::Systemd,
            rootless: Rootless::Auto,
        };
        let text = match crate::plan(&config, &host, &options) {
            Ok(plan) => plan.describe().join("\n") + "\n",
            Err(error) => format!("{error}\n"),
        };
        // So that lines are short; the filter is shown elsewhere.
        let text = text.replace("/sys/fs/cgroup", "MOUNT");
        let text = text.replace("user.slice/user-1000.slice/user@1000.service", "MANAGER");
        let is_shown = |line: &&str| !line.starts_with("    ") && !line.contains("DeviceAllow");
        let shown: Vec<&str> = text.lines().filter(is_shown).collect();
        expected.assert_eq(&(shown.join("\n") + "\n"));
    }

    #[test]
    fn a_scope() {
        let config = r#""linux": {"cgroupsPath": "machine.slice:libpod:a1", "resources": {
            "memory": {"limit": 67108864, "swap": 67108864}, "pids": {"limit": 7},
            "cpu": {"shares": 512, "quota": 12345, "period": 100000, "cpus": "0-1"},
            "unified": {"memory.high": "1M"},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}},
            "annotations": {"org.systemd.property.TimeoutStopSec": "3",
            "org.systemd.property.Delegate": "false"}"#;
        check(
            config,
            fixture::with_systemd(fixture::v2()),
            expect![[r#"
                start unit libpod-a1.scope by the system systemd
                  Description='coracle container web1'
                  Slice='machine.slice'
                  CollectMode='inactive-or-failed'
                  CPUAccounting=true
                  MemoryAccounting=true
                  TasksAccounting=true
                  IOAccounting=true
                  DefaultDependencies=false
                  MemorySwapMax=0 (linux.resources.memory.swap)
                  MemoryMax=67108864 (linux.resources.memory.limit)
                  CPUWeight=59 (linux.resources.cpu.shares)
                  CPUQuotaPerSecUSec=130000 (linux.resources.cpu.quota)
                  CPUQuotaPeriodUSec=100000 (linux.resources.cpu.quota)
                  AllowedCPUs=[3] (linux.resources.cpu.cpus)
                  TasksMax=7 (linux.resources.pids.limit)
                  MemoryHigh=1048576 (linux.resources.unified["memory.high"])
                  DevicePolicy='strict' (linux.resources.devices)
                  Delegate=false (annotations["org.systemd.property.Delegate"])
                  TimeoutStopUSec=3000000 (annotations["org.systemd.property.TimeoutStopSec"])
                make cgroup MOUNT/machine.slice/libpod-a1.scope (v2)
                  enable memory down to it (linux.resources.memory.swap)
                  enable cpu down to it (linux.resources.cpu.shares)
                  enable cpuset down to it (linux.resources.cpu.cpus)
                  enable pids down to it (linux.resources.pids.limit)
                  enable hugetlb down to it (linux.resources.hugepageLimits[0].limit)
                  memory.swap.max: 0 (linux.resources.memory.swap)
                  memory.max: 67108864 (linux.resources.memory.limit)
                  cpu.weight: 59 (linux.resources.cpu.shares)
                  cpu.max: 13000 100000 (linux.resources.cpu.quota)
                  cpuset.cpus: 0-1 (linux.resources.cpu.cpus)
                  pids.max: 7 (linux.resources.pids.limit)
                  hugetlb.2MB.max: 0 (linux.resources.hugepageLimits[0].limit)
                  hugetlb.2MB.rsvd.max: 0 (linux.resources.hugepageLimits[0].limit)
                  memory.high: 1M (linux.resources.unified["memory.high"])
                  attach a device program of 67 instructions:
            "#]],
        );
    }

    #[test]
    fn of_the_users_manager() {
        let config = r#""linux": {"cgroupsPath": ":p:x", "resources": {"pids": {"limit": 7}}}"#;
        check(
            config,
            fixture::with_systemd(fixture::unprivileged()),
            expect![[r#"
                start unit p-x.scope by the user's systemd
                  Description='coracle container web1'
                  Slice='user.slice'
                  Delegate=true
                  CollectMode='inactive-or-failed'
                  CPUAccounting=true
                  MemoryAccounting=true
                  TasksAccounting=true
                  IOAccounting=true
                  DefaultDependencies=false
                  TasksMax=7 (linux.resources.pids.limit)
                make cgroup MOUNT/MANAGER/user.slice/p-x.scope (v2)
                  enable pids down to it (linux.resources.pids.limit)
                  pids.max: 7 (linux.resources.pids.limit)
                  attach a device program of 67 instructions:
            "#]],
        );
    }

    #[test]
    fn on_version_1() {
        let config = r#""linux": {"cgroupsPath": "a-b.slice:p:x", "resources": {
            "memory": {"limit": 67108864}, "cpu": {"quota": 12345, "shares": 512}}}"#;
        check(
            config,
            fixture::with_systemd(fixture::v1()),
            expect![[r#"
                start unit p-x.scope by the system systemd
                  Description='coracle container web1'
                  Slice='a-b.slice'
                  Delegate=true
                  CollectMode='inactive-or-failed'
                  CPUAccounting=true
                  MemoryAccounting=true
                  TasksAccounting=true
                  BlockIOAccounting=true
                  DefaultDependencies=false
                  CPUShares=512 (linux.resources.cpu.shares)
                  CPUQuotaPerSecUSec=130000 (linux.resources.cpu.quota)
                  CPUQuotaPeriodUSec=100000 (linux.resources.cpu.quota)
                  MemoryLimit=67108864 (linux.resources.memory.limit)
                  DevicePolicy='strict' (linux.resources.devices)
                make cgroup MOUNT/systemd/a.slice/a-b.slice/p-x.scope (name=systemd)
                make cgroup MOUNT/cpu,cpuacct/a.slice/a-b.slice/p-x.scope (cpu,cpuacct)
                  cpu.shares: 512 (linux.resources.cpu.shares)
                  cpu.cfs_quota_us: 13000 (linux.resources.cpu.quota)
                make cgroup MOUNT/cpuset/a.slice/a-b.slice/p-x.scope (cpuset)
                  cpuset.cpus: from the parent, where empty
                  cpuset.mems: from the parent, where empty
                make cgroup MOUNT/memory/a.slice/a-b.slice/p-x.scope (memory)
                  memory.limit_in_bytes: 67108864 (linux.resources.memory.limit)
                make cgroup MOUNT/devices/a.slice/a-b.slice/p-x.scope (devices)
                  devices.deny: a *:* rwm (linux.resources.devices)
                  devices.allow: c *:* m (linux.resources.devices)
                  devices.allow: b *:* m (linux.resources.devices)
                  devices.allow: c 1:3 rwm (linux.resources.devices)
                  devices.allow: c 1:5 rwm (linux.resources.devices)
                  devices.allow: c 1:7 rwm (linux.resources.devices)
                  devices.allow: c 1:8 rwm (linux.resources.devices)
                  devices.allow: c 1:9 rwm (linux.resources.devices)
                  devices.allow: c 5:0 rwm (linux.resources.devices)
                  devices.allow: c 5:1 rwm (linux.resources.devices)
                  devices.allow: c 5:2 rwm (linux.resources.devices)
                  devices.allow: c 136:* rwm (linux.resources.devices)
                  devices.allow: c 10:200 rwm (linux.resources.devices)
                make cgroup MOUNT/freezer/a.slice/a-b.slice/p-x.scope (freezer)
                make cgroup MOUNT/blkio/a.slice/a-b.slice/p-x.scope (blkio)
                make cgroup MOUNT/pids/a.slice/a-b.slice/p-x.scope (pids)
                make cgroup MOUNT/hugetlb/a.slice/a-b.slice/p-x.scope (hugetlb)
                make cgroup MOUNT/net_cls,net_prio/a.slice/a-b.slice/p-x.scope (net_cls,net_prio)
                make cgroup MOUNT/perf_event/a.slice/a-b.slice/p-x.scope (perf_event)
                make cgroup MOUNT/rdma/a.slice/a-b.slice/p-x.scope (rdma)
            "#]],
        );
    }

    #[test]
    fn a_slice_of_its_own() {
        let config = r#""linux": {"cgroupsPath": "::a-b.slice"}"#;
        check(
            config,
            fixture::with_systemd(fixture::v2()),
            expect![[r#"
                start unit a-b.slice by the system systemd
                  Description='coracle container web1'
                  CPUAccounting=true
                  MemoryAccounting=true
                  TasksAccounting=true
                  IOAccounting=true
                  DefaultDependencies=false
                  DevicePolicy='strict' (linux.resources.devices)
                make cgroup MOUNT/a.slice/a-b.slice (v2)
                  attach a device program of 67 instructions:
            "#]],
        );
    }

    #[test]
    fn without_systemd() {
        check(
            r#""linux": {}"#,
            fixture::v2(),
            expect![[r#"
            --systemd-cgroup: systemd not running on this host
        "#]],
        );
    }
}
