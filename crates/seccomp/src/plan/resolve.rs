//! From a profile to numbers: for one machine, each system call's decision.

use super::abi::Abi;
use super::multiplex::multiplexed;
use super::table::{Numbers, Table};
use super::verdict::{NO_SUCH_CALL, verdict};
use crate::Error;
use coracle_bundle::{Seccomp, SeccompAction, SeccompCondition};
use std::borrow::Cow;
use std::collections::HashSet;

/// Far above what the kernel's instructions can say, unless nearly all rules are equal. Names times
/// alternatives could be more than the machine has memory.
pub(crate) const MAX_RULES: usize = 1 << 16;

/// A profile's rule for one name, or a part of it.
struct Named<'a> {
    numbers: Numbers,
    name: &'a str,
    conditions: &'a [SeccompCondition],
    verdict: u32,
}

/// A profile whose names are looked up.
pub(crate) struct Resolved<'a> {
    default: u32,
    /// Calls newer than any that the profile knows do not exist.
    hides_newer: bool,
    /// In the order of the profile; those that say the same as the default are left out.
    rules: Vec<Named<'a>>,
    /// All names, for the newest of them.
    known: Vec<Numbers>,
    /// Names that no machine has, each once, in order.
    pub(crate) unknown: Vec<&'a str>,
}

/// If all conditions hold, then the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rule<'a> {
    pub(crate) conditions: Cow<'a, [SeccompCondition]>,
    pub(crate) verdict: u32,
}

/// What happens to a call: the first rule that matches, or else the last word.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Decision<'a> {
    /// None has no conditions.
    pub(crate) rules: Vec<Rule<'a>>,
    pub(crate) otherwise: u32,
}

/// The same decision from a first number up to the next range's.
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
        // Calls newer than the profile are answered by ENOSYS if the default is an errno: a C
        // library tries the older call after ENOSYS alone.
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
    /// Two conditions on one argument were alternatives before there was an "and", and still are:
    /// then each condition is a rule of its own.
    fn add(
        &mut self,
        numbers: Numbers,
        name: &'a str,
        conditions: &'a [SeccompCondition],
        verdict: u32,
    ) {
        // Otherwise it would hide a later rule that says something else.
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

    /// All numbers of the machine, in ascending ranges that begin at its lowest.
    pub(crate) fn ranges(&self, abi: Abi) -> Vec<Range<'_>> {
        let mut rules = self.of_machine(abi);
        // Stable: what was added first stays first.
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

    fn of_machine(&self, abi: Abi) -> Vec<(u32, Rule<'_>)> {
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
            if abi == Abi::X86
                && let Some(call) = multiplexed(named.name)
            {
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

    /// The newest call of the machine that the profile names, where newer ones are to be hidden.
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

/// A rule without conditions beats those that have some, whichever stands first, and of several
/// without the first one counts: so it is with libseccomp, and profiles rely on it.
fn decide(rules: Vec<Rule<'_>>, default: u32) -> Decision<'_> {
    match rules.iter().find(|rule| rule.conditions.is_empty()) {
        Some(always) => Decision::always(always.verdict),
        None => Decision {
            rules,
            otherwise: default,
        },
    }
}

/// Ranges of which no two neighbours are equal.
struct Ranges<'a>(Vec<Range<'a>>);

impl<'a> Ranges<'a> {
    fn push(&mut self, first: u32, decision: Decision<'a>) {
        if self.0.last().is_none_or(|last| last.decision != decision) {
            self.0.push(Range { first, decision });
        }
    }

    /// Numbers above `newest`, up to `last`, become calls that do not exist. None has a rule.
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
