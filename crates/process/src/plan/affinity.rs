//! CPU sets: config.md § Process, `execCPUAffinity`.

use super::steps::{Affinity, Confinement, Cpus, Inheritance, Plan};
use coracle_bundle::ExecCpuAffinity;

/// Adds the affinities of an `exec`: one before the cgroup is joined, one after.
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
    /// The set of these numbers, which must be sorted.
    pub(crate) fn new(numbers: &[u32]) -> Self {
        Self {
            list: list(numbers),
            mask: mask(numbers),
        }
    }

    /// The numbers, and the mask in the form of runc's debug log, which tools match.
    pub(crate) fn describe(&self) -> String {
        let mut words = self.mask.iter().rev();
        let highest = words.next().copied().unwrap_or_default();
        let lower: String = words.map(|word| format!("{word:016x}")).collect();
        format!("{} (affinity: {highest:#x}{lower})", self.list)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn lists_and_masks() {
        assert_eq!((list(&[]), mask(&[])), (String::new(), vec![]));
        assert_eq!(list(&[0, 1, 2, 3, 8, 10, 11]), "0-3,8,10-11");
        assert_eq!(mask(&[0, 63, 64, 2000])[..2], [1 << 63 | 1, 1]);
        assert_eq!(mask(&[2000]).len(), 32);
    }

    proptest! {
        #[test]
        fn a_mask_has_just_the_bits_of_its_numbers(numbers: BTreeSet<u16>) {
            let numbers: Vec<u32> = numbers.into_iter().map(u32::from).collect();
            let words = mask(&numbers);
            let ones: u32 = words.iter().map(|word| word.count_ones()).sum();
            prop_assert_eq!(usize::try_from(ones), Ok(numbers.len()));
            for number in numbers {
                let word = words[usize::try_from(number / 64).expect("a small number")];
                prop_assert_eq!(word >> (number % 64) & 1, 1);
            }
        }
    }
}
