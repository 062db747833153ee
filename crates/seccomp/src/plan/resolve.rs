//! Resolving the names of a profile: the decision for each system call number of an architecture.

use super::abi::Abi;
use super::multiplex::multiplexed;
use super::table::{Numbers, Table};
use super::verdict::{NO_SUCH_CALL, verdict};
use crate::Error;
use coracle_bundle::{Seccomp, SeccompAction, SeccompCondition};
use std::borrow::Cow;
use std::collections::HashSet;

/// The limit on rules after expansion, far above what fits into the kernel's limit of instructions
/// unless nearly all rules are equal. Without it, names times alternatives could exhaust the
/// memory.
pub(crate) const MAX_RULES: usize = 1 << 16;

/// A profile's rule for one name, or a part of it.
struct Named<'a> {
    numbers: Numbers,
    name: &'a str,
    conditions: &'a [SeccompCondition],
    verdict: u32,
}

/// A profile whose names have been looked up.
pub(crate) struct Resolved<'a> {
    default: u32,
    /// Whether calls newer than the newest that the profile names fail with ENOSYS.
    hides_newer: bool,
    /// In the order of the profile, without those that have the default action.
    rules: Vec<Named<'a>>,
    /// The numbers of all names, to find the newest call.
    known: Vec<Numbers>,
    /// Names that no architecture has, each once, in order.
    pub(crate) unknown: Vec<&'a str>,
}

/// A verdict that applies if all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rule<'a> {
    pub(crate) conditions: Cow<'a, [SeccompCondition]>,
    pub(crate) verdict: u32,
}

/// The decision for a call: the verdict of the first rule that matches, or else `otherwise`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Decision<'a> {
    /// Each of them has conditions.
    pub(crate) rules: Vec<Rule<'a>>,
    pub(crate) otherwise: u32,
}

/// A range of numbers with one decision: from `first` up to the `first` of the next range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range<'a> {
    pub(crate) first: u32,
    pub(crate) decision: Decision<'a>,
}

impl Decision<'_> {
    pub(crate) fn always(verdict: u32) -> Self {
        Self {
            rules: Vec::new(),
            otherwise: verdict,
        }
    }
}

/// Looks up a profile's names.
pub(crate) fn resolve(profile: &Seccomp) -> Result<Resolved<'_>, Error> {
    let table = Table::new();
    let mut reported = HashSet::new();
    let default = verdict(profile.default_action);
    let mut resolved = Resolved {
        default,
        // If the default is an errno, calls newer than the profile fail with ENOSYS, since a C
        // library falls back to an older call only after ENOSYS.
        hides_newer: matches!(profile.default_action, SeccompAction::Errno(_)),
        rules: Vec::new(),
        known: Vec::new(),
        unknown: Vec::new(),
    };
    for rule in &profile.rules {
        let verdict = verdict(rule.action);
        for name in &rule.names {
            let Some(numbers) = table.find(name) else {
                if reported.insert(name) {
                    resolved.unknown.push(name);
                }
                continue;
            };
            resolved.known.push(numbers);
            resolved.add(numbers, name, &rule.conditions, verdict);
            if resolved.rules.len() > MAX_RULES {
                return Err(Error::TooManyRules);
            }
        }
    }
    Ok(resolved)
}

impl<'a> Resolved<'a> {
    /// Two conditions on one argument are alternatives, not a conjunction: old versions of
    /// libseccomp had no conjunction. Then each condition becomes a rule of its own.
    fn add(
        &mut self,
        numbers: Numbers,
        name: &'a str,
        conditions: &'a [SeccompCondition],
        verdict: u32,
    ) {
        // A rule with the default action would hide a later rule with another one.
        if verdict == self.default {
            return;
        }
        let chunk = match conditions {
            [] => 1,
            many if is_repeated(many) => 1,
            many => many.len(),
        };
        let named = |conditions| Named {
            numbers,
            name,
            conditions,
            verdict,
        };
        if conditions.is_empty() {
            self.rules.push(named(conditions));
        }
        self.rules.extend(conditions.chunks(chunk).map(named));
    }

    /// The decisions for all numbers of the ABI, as ascending ranges from its lowest number.
    pub(crate) fn ranges(&self, abi: Abi) -> Vec<Range<'_>> {
        let mut rules = self.of_abi(abi);
        // The sort is stable, so the order of the profile is kept.
        rules.sort_by_key(|(number, _)| *number);
        let mut ranges = Ranges(Vec::new());
        let mut next = Some(abi.number_bit());
        let mut rest = rules.into_iter().peekable();
        while let Some((number, first)) = rest.next() {
            let mut same = vec![first];
            while let Some((_, rule)) = rest.next_if(|(other, _)| *other == number) {
                same.push(rule);
            }
            if let Some(gap) = next.filter(|gap| *gap < number) {
                ranges.push(gap, Decision::always(self.default));
            }
            ranges.push(number, decide(same, self.default));
            next = number.checked_add(1);
        }
        if let Some(gap) = next {
            ranges.push(gap, Decision::always(self.default));
        }
        match self.newest(abi) {
            Some(newest) => ranges.hide(newest, abi.last_number(), self.default),
            None => ranges.0,
        }
    }

    fn of_abi(&self, abi: Abi) -> Vec<(u32, Rule<'_>)> {
        let mut rules = Vec::with_capacity(self.rules.len());
        for named in &self.rules {
            if let Some(number) = named.numbers.of(abi) {
                let conditions = Cow::Borrowed(named.conditions);
                let verdict = named.verdict;
                rules.push((
                    number,
                    Rule {
                        conditions,
                        verdict,
                    },
                ));
            }
            if let Some(call) = multiplexed(abi, named.name) {
                let conditions = Cow::Owned(call.conditions(named.conditions));
                let verdict = named.verdict;
                rules.push((
                    call.number,
                    Rule {
                        conditions,
                        verdict,
                    },
                ));
            }
        }
        rules
    }

    /// The newest call of the ABI that the profile names, if newer ones are to be hidden.
    fn newest(&self, abi: Abi) -> Option<u32> {
        let numbers = self.known.iter().filter_map(|numbers| numbers.of(abi));
        numbers
            .filter(|number| self.hides_newer && *number <= abi.last_number())
            .max()
    }
}

fn is_repeated(conditions: &[SeccompCondition]) -> bool {
    let mut seen = [false; 256];
    conditions.iter().any(|condition| {
        seen.get_mut(usize::from(condition.index))
            .is_some_and(|place| std::mem::replace(place, true))
    })
}

/// As with libseccomp, on which profiles rely: a rule without conditions takes precedence over
/// rules with conditions, whichever comes first, and of several without the first applies.
fn decide(rules: Vec<Rule<'_>>, default: u32) -> Decision<'_> {
    match rules.iter().find(|rule| rule.conditions.is_empty()) {
        Some(always) => Decision::always(always.verdict),
        None => Decision {
            rules,
            otherwise: default,
        },
    }
}

/// Ranges of which no two adjacent ones have the same decision.
struct Ranges<'a>(Vec<Range<'a>>);

impl<'a> Ranges<'a> {
    fn push(&mut self, first: u32, decision: Decision<'a>) {
        if self.0.last().is_none_or(|last| last.decision != decision) {
            self.0.push(Range { first, decision });
        }
    }

    /// Makes numbers above `newest`, up to `last`, fail with ENOSYS. None of them has a rule.
    fn hide(self, newest: u32, last: u32, default: u32) -> Vec<Range<'a>> {
        let mut hidden = Ranges(Vec::with_capacity(self.0.len() + 2));
        let (below, above): (Vec<_>, Vec<_>) =
            self.0.into_iter().partition(|range| range.first <= newest);
        for range in below {
            hidden.push(range.first, range.decision);
        }
        if let Some(newer) = newest.checked_add(1) {
            hidden.push(newer, Decision::always(NO_SUCH_CALL));
        }
        if let Some(private) = last.checked_add(1).filter(|_| last > newest) {
            hidden.push(private, Decision::always(default));
        }
        for range in above.into_iter().filter(|range| range.first > last) {
            hidden.push(range.first, range.decision);
        }
        hidden.0
    }
}
