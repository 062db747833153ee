//! `linux.resources.memory`: cgroup-v1/memory.rst, cgroup-v2.rst § Memory.

use coracle_bundle::Memory;

use super::limits::Version;
use super::write::Write;
use crate::{Error, Result};

const LIMIT: &str = "linux.resources.memory.limit";
const SWAP: &str = "linux.resources.memory.swap";
const RESERVATION: &str = "linux.resources.memory.reservation";
const SWAPPINESS: &str = "linux.resources.memory.swappiness";
const UNLIMITED: i64 = -1;

/// Values of the memory controller. Zero bytes mean "leave as it is", as engines send it.
pub(super) fn plan(memory: &Memory, version: Version) -> Result<Vec<Write>> {
    check(memory)?;
    Ok(match version {
        Version::V1 => v1(memory),
        Version::V2 => v2(memory),
    })
}

fn check(memory: &Memory) -> Result<()> {
    let named = [
        (LIMIT, memory.limit),
        (SWAP, memory.swap),
        (RESERVATION, memory.reservation),
    ];
    for (path, value) in named {
        if value.is_some_and(|bytes| bytes < UNLIMITED) {
            let reason = format!("{} is below -1", value.unwrap_or_default());
            return Err(Error::config(path, reason));
        }
    }
    if let Some(percent) = memory.swappiness.filter(|percent| *percent > 100) {
        return Err(Error::config(SWAPPINESS, format!("{percent} is above 100")));
    }
    match (set(memory.limit), set(memory.swap)) {
        (_, None | Some(UNLIMITED)) => Ok(()),
        (None | Some(UNLIMITED), Some(swap)) => {
            let reason = format!("{swap} (memory plus swap) needs a memory.limit");
            Err(Error::config(SWAP, reason))
        }
        (Some(limit), Some(swap)) if swap < limit => {
            let reason = format!("{swap} (memory plus swap) is below memory.limit {limit}");
            Err(Error::config(SWAP, reason))
        }
        (Some(_), Some(_)) => Ok(()),
    }
}

fn v1(memory: &Memory) -> Vec<Write> {
    let mut writes = Vec::new();
    // Only `1` is left since 5.11, and only for an empty cgroup: so it comes first.
    if memory.use_hierarchy == Some(true) {
        let source = "linux.resources.memory.useHierarchy";
        writes.push(Write::new("memory.use_hierarchy", 1, source));
    }
    // The kernel holds limit <= memory plus swap. Lowering both begins with the limit; raising both
    // refuses the limit at first, so it comes again at the end.
    if let Some(limit) = set(memory.limit) {
        writes.push(Write::new("memory.limit_in_bytes", limit, LIMIT).again());
    }
    let memsw = "memory.memsw.limit_in_bytes";
    match (set(memory.limit), set(memory.swap)) {
        (_, Some(UNLIMITED)) => writes.push(Write::new(memsw, UNLIMITED, SWAP).again().if_there()),
        (_, Some(swap)) => writes.push(Write::new(memsw, swap, SWAP).again()),
        // Else the old bound on memory plus swap would go on limiting the memory.
        (Some(UNLIMITED), None) => {
            writes.push(Write::new(memsw, UNLIMITED, LIMIT).again().if_there());
        }
        (_, None) => {}
    }
    if let Some(bytes) = set(memory.reservation) {
        writes.push(Write::new("memory.soft_limit_in_bytes", bytes, RESERVATION));
    }
    if let Some(percent) = memory.swappiness {
        writes.push(Write::new("memory.swappiness", percent, SWAPPINESS));
    }
    // Engines always send `false`, which asks for nothing here: it may not need a controller.
    if memory.disable_oom_killer == Some(true) {
        writes.push(oom_killer(1));
    }
    writes
}

/// What `false` means to a container that has been created with `true`.
pub(super) fn enable_oom_killer() -> Write {
    oom_killer(0).if_there()
}

fn oom_killer(disable: u8) -> Write {
    let source = "linux.resources.memory.disableOOMKiller";
    Write::new("memory.oom_control", disable, source)
}

fn v2(memory: &Memory) -> Vec<Write> {
    let mut writes = Vec::new();
    let (limit, swap) = (set(memory.limit), set(memory.swap));
    if let Some((value, source)) = swap_alone(limit, swap) {
        let write = Write::new("memory.swap.max", &value, source);
        // A kernel without swap accounting neither limits swap nor has the file.
        let harmless = value == "max" || value == "0";
        writes.push(if harmless { write.if_there() } else { write });
    }
    if let Some(limit) = limit {
        writes.push(Write::new("memory.max", amount(limit), LIMIT));
    }
    // Not memory.high: that one throttles, which no engine's user expects of a reservation.
    if let Some(bytes) = set(memory.reservation) {
        writes.push(Write::new("memory.low", amount(bytes), RESERVATION));
    }
    writes
}

/// v2 counts swap apart, the config together with memory.
fn swap_alone(limit: Option<i64>, swap: Option<i64>) -> Option<(String, &'static str)> {
    match (limit, swap) {
        (_, Some(UNLIMITED)) => Some(("max".to_owned(), SWAP)),
        (Some(limit), Some(swap)) => Some((swap.saturating_sub(limit).to_string(), SWAP)),
        (Some(UNLIMITED), None) => Some(("max".to_owned(), LIMIT)),
        (_, _) => None,
    }
}

fn set(value: Option<i64>) -> Option<i64> {
    value.filter(|bytes| *bytes != 0)
}

fn amount(bytes: i64) -> String {
    if bytes == UNLIMITED {
        "max".to_owned()
    } else {
        bytes.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::write::text;
    use super::*;
    use proptest::prelude::*;

    fn memory(limit: Option<i64>, swap: Option<i64>) -> Memory {
        Memory {
            limit,
            swap,
            ..Memory::default()
        }
    }

    #[test]
    fn limit_and_swap() {
        let asked = memory(Some(100), Some(250));
        assert_eq!(
            text(&plan(&asked, Version::V1)),
            "memory.limit_in_bytes=100 (again) memory.memsw.limit_in_bytes=250 (again)"
        );
        assert_eq!(
            text(&plan(&asked, Version::V2)),
            "memory.swap.max=150 memory.max=100"
        );
    }

    #[test]
    fn equal_swap_means_none_and_may_be_missing() {
        let asked = memory(Some(100), Some(100));
        assert_eq!(
            text(&plan(&asked, Version::V2)),
            "memory.swap.max=0 (if there) memory.max=100"
        );
    }

    #[test]
    fn unlimited_memory_frees_the_swap_too() {
        let asked = memory(Some(-1), None);
        assert_eq!(
            text(&plan(&asked, Version::V1)),
            "memory.limit_in_bytes=-1 (again) memory.memsw.limit_in_bytes=-1 (again) (if there)"
        );
        assert_eq!(
            text(&plan(&asked, Version::V2)),
            "memory.swap.max=max (if there) memory.max=max"
        );
    }

    #[test]
    fn zero_leaves_as_it_is_but_swappiness_zero_is_real() {
        let asked = Memory {
            reservation: Some(0),
            swappiness: Some(0),
            disable_oom_killer: Some(false),
            ..memory(Some(0), Some(0))
        };
        assert_eq!(text(&plan(&asked, Version::V1)), "memory.swappiness=0");
        assert_eq!(text(&plan(&asked, Version::V2)), "");
    }

    #[test]
    fn refusals_name_the_path() {
        let check = |asked: Memory, start: &str| {
            for version in [Version::V1, Version::V2] {
                let error = plan(&asked, version).unwrap_err().to_string();
                assert_eq!(error, start);
            }
        };
        check(
            memory(Some(-2), None),
            "linux.resources.memory.limit: -2 is below -1",
        );
        check(
            memory(Some(9), Some(8)),
            "linux.resources.memory.swap: 8 (memory plus swap) is below memory.limit 9",
        );
        check(
            memory(None, Some(8)),
            "linux.resources.memory.swap: 8 (memory plus swap) needs a memory.limit",
        );
        check(
            memory(Some(-1), Some(8)),
            "linux.resources.memory.swap: 8 (memory plus swap) needs a memory.limit",
        );
    }

    proptest! {
        #[test]
        fn v2_swap_and_memory_add_up(limit in 1..i64::MAX, more in 0i64..1 << 40) {
            let swap = limit.saturating_add(more);
            let (alone, _) = swap_alone(Some(limit), Some(swap)).unwrap();
            prop_assert_eq!(alone.parse::<i64>().unwrap() + limit, swap);
        }
    }
}
