//! Statistics of a v2 cgroup, under the names of v1. cgroup-v2.rst § Controllers.

use std::collections::BTreeMap;

use super::group::Group;
use super::text::{keyed, pressure};
use crate::Result;
use crate::statistics::{Blkio, BlkioEntry, Cpu, Hugetlb, Memory, MemoryEntry};
use crate::table::{MEMORY_LIMIT, MEMORY_SWAP, MEMORY_USAGE, Version};

pub(super) fn cpu(group: &Group, cpu: &mut Cpu) -> Result<()> {
    let stat = keyed(&group.text("cpu.stat")?.unwrap_or_default());
    let value = |key: &str| stat.get(key).copied().unwrap_or_default();
    let nanoseconds = |key: &str| value(key).saturating_mul(1000);
    cpu.usage.total = nanoseconds("usage_usec");
    cpu.usage.user = nanoseconds("user_usec");
    cpu.usage.kernel = nanoseconds("system_usec");
    cpu.throttling.periods = value("nr_periods");
    cpu.throttling.throttled_periods = value("nr_throttled");
    cpu.throttling.throttled_time = nanoseconds("throttled_usec");
    cpu.psi = group.text("cpu.pressure")?.as_deref().map(pressure);
    Ok(())
}

pub(super) fn memory(group: &Group, memory: &mut Memory) -> Result<()> {
    let Some(stat) = group.text("memory.stat")? else {
        return Ok(());
    };
    memory.raw = keyed(&stat);
    memory.cache = memory.raw.get("file").copied().unwrap_or_default();
    memory.usage = MemoryEntry {
        limit: group.number(MEMORY_LIMIT.name(Version::V2))?,
        usage: group.number(MEMORY_USAGE.name(Version::V2))?,
        // Since Linux 5.19.
        max: group.number("memory.peak")?,
        failcnt: 0,
    };
    // v1 counts memory and swap together. The peak of the sum cannot be derived from two separate
    // peaks.
    let limit = group.number(MEMORY_SWAP.name(Version::V2))?;
    memory.swap = MemoryEntry {
        limit: limit.saturating_add(memory.usage.limit),
        usage: group
            .number("memory.swap.current")?
            .saturating_add(memory.usage.usage),
        max: 0,
        failcnt: 0,
    };
    memory.psi = group.text("memory.pressure")?.as_deref().map(pressure);
    Ok(())
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`
pub(super) fn blkio(group: &Group, blkio: &mut Blkio) -> Result<()> {
    let Some(stat) = group.text("io.stat")? else {
        return Ok(());
    };
    for line in stat.lines() {
        let mut words = line.split_whitespace();
        let numbers = words.next().and_then(|device| {
            let (major, minor) = device.split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        let Some((major, minor)) = numbers else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                _ => continue,
            };
            list.push(BlkioEntry {
                major,
                minor,
                op: op.to_owned(),
                value: value.parse().unwrap_or(0),
            });
        }
    }
    blkio.psi = group.text("io.pressure")?.as_deref().map(pressure);
    Ok(())
}

pub(super) fn hugetlb(group: &Group, all: &mut BTreeMap<String, Hugetlb>) -> Result<()> {
    for size in group.middles("hugetlb.", ".current")? {
        let events = group.text(&format!("hugetlb.{size}.events"))?;
        let events = keyed(&events.unwrap_or_default());
        let one = Hugetlb {
            usage: group.number(&format!("hugetlb.{size}.current"))?,
            max: 0,
            failcnt: events.get("max").copied().unwrap_or_default(),
        };
        all.insert(size, one);
    }
    Ok(())
}
