//! CPU sets: config.md § Process, `execCPUAffinity`.

use super::Plan;
use super::steps::{Affinity, Confinement, Cpus, Inheritance};
use coracle_bundle::ExecCpuAffinity;

/// Adds the affinities that only exec'd processes have: one before the cgroup is joined, one after.
pub(super) fn of_exec(affinity: &ExecCpuAffinity, plan: &mut Plan) {
    if let Some(cpus) = &affinity.initial {
        plan.inheritance
            .push(Inheritance::Affinity(Cpus::new(cpus)));
    }
    if let Some(cpus) = &affinity.r#final {
        for step in &mut plan.confinement {
            if let Confinement::Affinity(affinity) = step {
                *affinity = Affinity::Cpus(Cpus::new(cpus));
            }
        }
    }
}

impl Cpus {
    /// The set of these numbers, which are sorted.
    pub(crate) fn new(numbers: &[u32]) -> Self {
        Self {
            list: list(numbers),
            mask: mask(numbers),
        }
    }
}

/// One bit for each number, lowest first in the first word.
pub(crate) fn mask(numbers: &[u32]) -> Vec<u64> {
    let mut words: Vec<u64> = Vec::new();
    for number in numbers {
        let index = usize::try_from(number / u64::BITS).unwrap_or(usize::MAX);
        if words.len() <= index {
            words.resize(index.saturating_add(1), 0);
        }
        if let Some(word) = words.get_mut(index) {
            *word |= 1 << (number % u64::BITS);
        }
    }
    words
}

/// Sorted numbers in the kernel's list format: `0-3,8`.
pub(crate) fn list(numbers: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let range = |(first, last): (u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}
