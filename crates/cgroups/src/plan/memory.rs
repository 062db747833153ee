//! `linux.resources.memory`: cgroup-v1/memory.rst, cgroup-v2.rst § Memory.

use coracle_bundle::{Limit, Memory};

use super::write::{Limits, Write, source};
use crate::Result;
use crate::table::{
    MEMORY_HIERARCHY, MEMORY_KERNEL, MEMORY_KERNEL_TCP, MEMORY_LIMIT, MEMORY_OOM_CONTROL,
    MEMORY_RESERVATION, MEMORY_SWAP, MEMORY_SWAPPINESS, Version,
};

/// Values of the memory controller.
pub(super) fn plan(memory: &Memory, limits: &mut Limits) -> Result<()> {
    let is_true = |flag: Option<bool>| flag.filter(|flag| *flag);
    limits.set(&MEMORY_HIERARCHY, is_true(memory.use_hierarchy))?;
    match limits.version(MEMORY_LIMIT.controller) {
        // The kernel requires limit <= memory plus swap. To lower both, the limit must come first.
        // To raise both, the kernel refuses the limit at first, so it is written again at the end.
        Version::V1 => {
            limits.set(&MEMORY_LIMIT, memory.limit)?;
            swap(memory, limits)?;
        }
        Version::V2 => {
            swap(memory, limits)?;
            limits.set(&MEMORY_LIMIT, memory.limit)?;
        }
    }
    limits.set(&MEMORY_RESERVATION, memory.reservation)?;
    limits.set(&MEMORY_SWAPPINESS, memory.swappiness)?;
    // Engines always send `false`, which is the default: it must not need a controller.
    limits.set(&MEMORY_OOM_CONTROL, is_true(memory.disable_oom_killer))?;
    let is_bound = |limit: Option<Limit>| limit.filter(|limit| *limit != Limit::Unlimited);
    limits.set(&MEMORY_KERNEL, is_bound(memory.kernel))?;
    limits.set(&MEMORY_KERNEL_TCP, is_bound(memory.kernel_tcp))
}

/// Enables the OOM killer, for an update with `disableOOMKiller: false`.
pub(super) fn enable_oom_killer(limits: &mut Limits) -> Result<()> {
    let row = &MEMORY_OOM_CONTROL;
    if !limits.is_on_v1(row.controller) {
        return Ok(());
    }
    limits.add(row, &source(row), false.into(), Write::if_there)
}

fn swap(memory: &Memory, limits: &mut Limits) -> Result<()> {
    let version = limits.version(MEMORY_SWAP.controller);
    let (value, row) = match (memory.limit, memory.swap) {
        (_, Some(Limit::Unlimited)) => (Limit::Unlimited, &MEMORY_SWAP),
        (Some(Limit::Amount(limit)), Some(Limit::Amount(both))) if version == Version::V2 => {
            (Limit::Amount(both.saturating_sub(limit)), &MEMORY_SWAP)
        }
        (_, Some(both)) if version == Version::V1 => (both, &MEMORY_SWAP),
        // Otherwise the old limit would still apply to swap, and on v1 to memory too.
        (Some(Limit::Unlimited), None) => (Limit::Unlimited, &MEMORY_LIMIT),
        _ => return Ok(()),
    };
    // A kernel without swap accounting neither limits swap nor has the file.
    let adjust = match value {
        Limit::Unlimited | Limit::Amount(0) => Write::if_there,
        Limit::Amount(_) => |write| write,
    };
    limits.add(&MEMORY_SWAP, &source(row), value.into(), adjust)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use coracle_bundle::Resources;
    use proptest::prelude::*;

    fn memory(limit: Option<i64>, swap: Option<i64>) -> Memory {
        Memory {
            limit: limit.map(Limit::new),
            swap: swap.map(Limit::new),
            ..Memory::default()
        }
    }

    fn check(memory: Memory, v1: &str, v2: &str) {
        let resources = Resources {
            memory,
            ..Resources::default()
        };
        fixture::check(&resources, v1, v2);
    }

    #[test]
    fn limit_and_swap() {
        check(
            memory(Some(100), Some(250)),
            "memory.limit_in_bytes=100 (again) memory.memsw.limit_in_bytes=250 (again)",
            "memory.swap.max=150 memory.max=100",
        );
    }

    #[test]
    fn equal_swap_means_none_and_may_be_missing() {
        check(
            memory(Some(100), Some(100)),
            "memory.limit_in_bytes=100 (again) memory.memsw.limit_in_bytes=100 (again)",
            "memory.swap.max=0 (if there) memory.max=100",
        );
    }

    #[test]
    fn unlimited_memory_frees_the_swap_too() {
        check(
            memory(Some(-1), None),
            "memory.limit_in_bytes=-1 (again) memory.memsw.limit_in_bytes=-1 (again) (if there)",
            "memory.swap.max=max (if there) memory.max=max",
        );
    }

    #[test]
    fn swappiness_zero_is_real_and_the_oom_killer_stays_by_default() {
        let zeros = Memory {
            swappiness: Some(0),
            disable_oom_killer: Some(false),
            ..Memory::default()
        };
        check(zeros, "memory.swappiness=0", "");
    }

    proptest! {
        #[test]
        fn v2_swap_and_memory_add_up(limit in 1..i64::MAX, more in 0i64..1 << 40) {
            let both = limit.saturating_add(more);
            let v2 = fixture::v2();
            let mut limits = Limits::new(&v2);
            swap(&memory(Some(limit), Some(both)), &mut limits).unwrap();
            let alone = limits.unified[0].text();
            prop_assert_eq!(alone.parse::<i64>().unwrap() + limit, both);
        }
    }
}
