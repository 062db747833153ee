//! Statistics of v1 hierarchies. cgroup-v1/*.rst.

use std::collections::BTreeMap;

use super::group::Group;
use super::text::{keyed, list, number};
use crate::Result;
use crate::statistics::{
    Blkio, BlkioEntry, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Throttling,
};

/// `cpuacct.stat` counts in units of `USER_HZ`, which is fixed at 100 per second.
const NANOSECONDS_A_TICK: u64 = 10_000_000;

pub(super) fn cpu_usage(group: &Group, usage: &mut CpuUsage) -> Result<()> {
    usage.total = group.number("cpuacct.usage")?;
    let stat = keyed(&group.text("cpuacct.stat")?.unwrap_or_default());
    let time = |key: &str| {
        let ticks = stat.get(key).copied().unwrap_or_default();
        ticks.saturating_mul(NANOSECONDS_A_TICK)
    };
    (usage.user, usage.kernel) = (time("user"), time("system"));
    let by_cpu = group.text("cpuacct.usage_percpu")?.unwrap_or_default();
    usage.percpu = by_cpu.split_whitespace().map(number).collect();
    // A title, then lines of "cpu user system".
    let all = group.text("cpuacct.usage_all")?.unwrap_or_default();
    for line in all.lines().skip(1) {
        let mut fields = line.split_whitespace().skip(1).map(number);
        if let (Some(user), Some(kernel)) = (fields.next(), fields.next()) {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(kernel);
        }
    }
    Ok(())
}

pub(super) fn throttling(group: &Group, throttling: &mut Throttling) -> Result<()> {
    let stat = keyed(&group.text("cpu.stat")?.unwrap_or_default());
    let value = |key: &str| stat.get(key).copied().unwrap_or_default();
    throttling.periods = value("nr_periods");
    throttling.throttled_periods = value("nr_throttled");
    throttling.throttled_time = value("throttled_time");
    Ok(())
}

pub(super) fn cpuset(group: &Group, cpuset: &mut Cpuset) -> Result<()> {
    // Mounted as the old cpuset file system, the files have no prefix.
    let prefix = match group.text("cpuset.cpus")? {
        Some(_) => "cpuset.",
        None => "",
    };
    let text = |name: &str| {
        group
            .text(&format!("{prefix}{name}"))
            .map(Option::unwrap_or_default)
    };
    let flag = |name: &str| text(name).map(|text| number(&text));
    cpuset.cpus = list(&text("cpus")?);
    cpuset.mems = list(&text("mems")?);
    cpuset.cpu_exclusive = flag("cpu_exclusive")?;
    cpuset.mem_hardwall = flag("mem_hardwall")?;
    cpuset.mem_exclusive = flag("mem_exclusive")?;
    cpuset.memory_migrate = flag("memory_migrate")?;
    cpuset.memory_spread_page = flag("memory_spread_page")?;
    cpuset.memory_spread_slab = flag("memory_spread_slab")?;
    cpuset.memory_pressure = flag("memory_pressure")?;
    cpuset.sched_load_balance = flag("sched_load_balance")?;
    let level = text("sched_relax_domain_level")?;
    cpuset.sched_relax_domain_level = level.trim().parse().unwrap_or(0);
    Ok(())
}

pub(super) fn memory(group: &Group, memory: &mut Memory) -> Result<()> {
    memory.raw = keyed(&group.text("memory.stat")?.unwrap_or_default());
    memory.cache = memory.raw.get("cache").copied().unwrap_or_default();
    memory.usage = entry(group, "memory")?;
    // A file that the kernel lacks counts as zero.
    memory.swap = entry(group, "memory.memsw")?;
    memory.kernel = entry(group, "memory.kmem")?;
    memory.kernel_tcp = entry(group, "memory.kmem.tcp")?;
    Ok(())
}

fn entry(group: &Group, name: &str) -> Result<MemoryEntry> {
    Ok(MemoryEntry {
        limit: group.number(&format!("{name}.limit_in_bytes"))?,
        usage: group.number(&format!("{name}.usage_in_bytes"))?,
        max: group.number(&format!("{name}.max_usage_in_bytes"))?,
        failcnt: group.number(&format!("{name}.failcnt"))?,
    })
}

/// The I/O scheduler determines which files count: those of bfq, of the old cfq, or only those of
/// the throttler.
const COUNTERS: [(&str, &str); 4] = [
    ("blkio.bfq.", "_recursive"),
    ("blkio.", "_recursive"),
    ("blkio.throttle.", "_recursive"),
    ("blkio.throttle.", ""),
];

pub(super) fn blkio(group: &Group, blkio: &mut Blkio) -> Result<()> {
    for (prefix, suffix) in COUNTERS {
        let entries = |name: &str| {
            let text = group.text(&format!("{prefix}{name}{suffix}"))?;
            Ok::<_, crate::Error>(entries(&text.unwrap_or_default()))
        };
        let serviced = entries("io_serviced")?;
        if serviced.is_empty() {
            continue;
        }
        blkio.io_serviced_recursive = serviced;
        blkio.io_service_bytes_recursive = entries("io_service_bytes")?;
        blkio.io_queue_recursive = entries("io_queued")?;
        blkio.io_service_time_recursive = entries("io_service_time")?;
        blkio.io_wait_time_recursive = entries("io_wait_time")?;
        blkio.io_merged_recursive = entries("io_merged")?;
        blkio.io_time_recursive = entries("time")?;
        blkio.sectors_recursive = entries("sectors")?;
        break;
    }
    Ok(())
}

/// Lines such as `8:0 Read 5` or `8:0 5`; the total of all devices is left out.
fn entries(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (op, value) = match (words.next()?, words.next()) {
            (op, Some(value)) => (op, value),
            (value, None) => ("", value),
        };
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

pub(super) fn hugetlb(group: &Group, all: &mut BTreeMap<String, Hugetlb>) -> Result<()> {
    for size in group.middles("hugetlb.", ".usage_in_bytes")? {
        let file = |name: &str| format!("hugetlb.{size}.{name}");
        let one = Hugetlb {
            usage: group.number(&file("usage_in_bytes"))?,
            max: group.number(&file("max_usage_in_bytes"))?,
            failcnt: group.number(&file("failcnt"))?,
        };
        all.insert(size.clone(), one);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_with_and_without_an_operation() {
        let entry = |op: &str, value| BlkioEntry {
            major: 8,
            minor: 0,
            op: op.to_owned(),
            value,
        };
        assert_eq!(
            entries("8:0 Read 5\n8:0 Total 5\nTotal 5\n"),
            [entry("Read", 5), entry("Total", 5)]
        );
        assert_eq!(entries("8:0 7\n"), [entry("", 7)]);
    }
}
