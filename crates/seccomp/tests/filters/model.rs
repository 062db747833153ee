//! The meaning of a profile, computed anew without instructions: names are looked up in the list of
//! all calls, and rules are tried one after the other.

use crate::interpreter::Call;
use coracle_bundle::{
    Seccomp, SeccompAction, SeccompArchitecture, SeccompCondition, SeccompOperator, SeccompRule,
};
use coracle_seccomp::Abi;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// All names with a number for each of [`Abi::ALL`].
pub(crate) static NAMES: LazyLock<BTreeMap<&str, Vec<Option<u32>>>> = LazyLock::new(|| {
    let lines = include_str!("../../src/plan/syscalls.tbl").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            (name, words.map(|word| word.parse().ok()).collect())
        })
        .collect()
});

pub(crate) fn number(abi: Abi, name: &str) -> Option<u32> {
    let bit = if abi == Abi::X32 { 0x4000_0000 } else { 0 };
    NAMES.get(name)?[column(abi)].map(|number| number | bit)
}

fn column(abi: Abi) -> usize {
    Abi::ALL.iter().position(|other| *other == abi).unwrap()
}

pub(crate) fn value(action: SeccompAction) -> u32 {
    match action {
        SeccompAction::KillThread => 0,
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno(errno) => 0x0005_0000 + u32::from(errno),
        SeccompAction::Trace(message) => 0x7ff0_0000 + u32::from(message),
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Notify => 0x7fc0_0000,
        SeccompAction::Allow => 0x7fff_0000,
    }
}

pub(crate) const KILLED: u32 = 0x8000_0000;
pub(crate) const NO_SUCH_CALL: u32 = 0x0005_0000 + 38;

fn machine(profile: &Seccomp, native: Abi, call: &Call) -> Option<Abi> {
    let listed = |abi: Abi| {
        abi == native
            || profile.architectures.iter().any(|architecture| {
                matches!(
                    (architecture, abi),
                    (SeccompArchitecture::X86_64, Abi::X86_64)
                        | (SeccompArchitecture::X32, Abi::X32)
                        | (SeccompArchitecture::X86, Abi::X86)
                        | (SeccompArchitecture::Aarch64, Abi::Aarch64)
                        | (SeccompArchitecture::Arm, Abi::Arm)
                        | (SeccompArchitecture::Riscv64, Abi::Riscv64)
                        | (SeccompArchitecture::Loongarch64, Abi::Loongarch64)
                        | (SeccompArchitecture::Ppc64Le, Abi::Ppc64le)
                        | (SeccompArchitecture::S390X, Abi::S390x)
                )
            })
    };
    let abi = match (call.arch, call.number) {
        (0xc000_003e, u32::MAX) if !listed(Abi::X32) => Abi::X86_64,
        (0xc000_003e, 0x4000_0000..) => Abi::X32,
        (0xc000_003e, _) => Abi::X86_64,
        (0x4000_0003, _) => Abi::X86,
        (0xc000_00b7, _) => Abi::Aarch64,
        (0x4000_0028, _) => Abi::Arm,
        (0xc000_00f3, _) => Abi::Riscv64,
        (0xc000_0102, _) => Abi::Loongarch64,
        (0xc000_0015, _) => Abi::Ppc64le,
        (0x8000_0016, _) => Abi::S390x,
        _ => return None,
    };
    Some(abi).filter(|abi| listed(*abi))
}

/// The rules of a profile without what needs interpretation: alternatives become rules of their
/// own, and rules with the default action are left out.
pub(crate) fn plain_rules(profile: &Seccomp) -> Vec<(&str, u32, Vec<SeccompCondition>)> {
    let mut plain = Vec::new();
    for rule in &profile.rules {
        if value(rule.action) == value(profile.default_action) {
            continue;
        }
        for name in &rule.names {
            for conditions in alternatives(rule) {
                plain.push((name.as_str(), value(rule.action), conditions));
            }
        }
    }
    plain
}

fn alternatives(rule: &SeccompRule) -> Vec<Vec<SeccompCondition>> {
    let all = &rule.conditions;
    let repeated = |c: &SeccompCondition| all.iter().filter(|o| o.index == c.index).count() > 1;
    if all.iter().any(repeated) {
        all.iter().map(|condition| vec![*condition]).collect()
    } else {
        vec![all.clone()]
    }
}

/// The machines with `socketcall` and `ipc`.
pub(crate) fn multiplexes(abi: Abi) -> bool {
    [Abi::X86, Abi::Ppc64le, Abi::S390x].contains(&abi)
}

/// Behind `socketcall` and `ipc`: its number and the call's number there.
pub(crate) fn multiplexer(name: &str) -> Option<(u32, u64)> {
    const SOCKETS: &str = "socket bind connect listen accept getsockname getpeername socketpair \
                           send recv sendto recvfrom shutdown setsockopt getsockopt sendmsg \
                           recvmsg accept4 recvmmsg sendmmsg";
    const IPC: [(&str, u64); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    if let Some(place) = SOCKETS.split_whitespace().position(|call| call == name) {
        return Some((102, u64::try_from(place).unwrap() + 1));
    }
    let (_, which) = IPC.iter().find(|(call, _)| *call == name)?;
    Some((117, *which))
}

/// A profile with its names looked up.
pub(crate) struct Model<'a> {
    profile: &'a Seccomp,
    native: Abi,
    rules: Vec<Looked>,
    newest: [Option<u32>; Abi::ALL.len()],
}

struct Looked {
    numbers: [Option<u32>; Abi::ALL.len()],
    multiplexer: Option<(u32, u64)>,
    verdict: u32,
    conditions: Vec<SeccompCondition>,
}

impl<'a> Model<'a> {
    pub(crate) fn new(profile: &'a Seccomp, native: Abi) -> Self {
        let rules = plain_rules(profile).into_iter();
        let rules = rules.map(|(name, verdict, conditions)| Looked {
            numbers: Abi::ALL.map(|abi| number(abi, name)),
            multiplexer: multiplexer(name),
            verdict,
            conditions,
        });
        Self {
            profile,
            native,
            rules: rules.collect(),
            newest: Abi::ALL.map(|abi| newest(profile, abi)),
        }
    }

    /// The architecture of the call, if the profile lists it.
    pub(crate) fn machine(&self, call: &Call) -> Option<Abi> {
        machine(self.profile, self.native, call)
    }

    /// Whether the profile makes the call fail as if it did not exist.
    pub(crate) fn hides(&self, abi: Abi, call: &Call) -> bool {
        matches!(self.profile.default_action, SeccompAction::Errno(_))
            && self.newest[column(abi)].is_some_and(|newest| call.number > newest)
            && (abi != Abi::Arm || call.number < 0xf_0000)
            && (abi != Abi::X86_64 || call.number < 0x4000_0000)
    }

    pub(crate) fn verdict(&self, call: &Call) -> u32 {
        let Some(abi) = self.machine(call) else {
            return KILLED;
        };
        if self.hides(abi, call) {
            return NO_SUCH_CALL;
        }
        let wide = !matches!(abi, Abi::X32 | Abi::X86 | Abi::Arm);
        let holds = |c: &SeccompCondition| holds(c, call.args[usize::from(c.index)], wide);
        let mut first = None;
        for rule in &self.rules {
            let direct = rule.numbers[column(abi)] == Some(call.number);
            // The first one without conditions, whatever else holds.
            if direct && rule.conditions.is_empty() {
                return rule.verdict;
            }
            let behind = rule
                .multiplexer
                .filter(|multiplexer| multiplexes(abi) && multiplexer.0 == call.number);
            let matches = direct && rule.conditions.iter().all(holds)
                || behind.is_some_and(|(multiplexer, which)| {
                    let mask = if multiplexer == 117 {
                        0xffff
                    } else {
                        0xffff_ffff
                    };
                    let others = rule.conditions.iter().filter(|c| c.index != 0);
                    call.args[0] & mask == which && others.clone().all(holds)
                });
            if matches && first.is_none() {
                first = Some(rule.verdict);
            }
        }
        first.unwrap_or(value(self.profile.default_action))
    }
}

fn newest(profile: &Seccomp, abi: Abi) -> Option<u32> {
    let names = profile.rules.iter().flat_map(|rule| &rule.names);
    let numbers = names.filter_map(|name| number(abi, name));
    numbers.filter(|n| abi != Abi::Arm || *n < 0xf_0000).max()
}

fn holds(condition: &SeccompCondition, argument: u64, wide: bool) -> bool {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (argument, value) = (cut(argument), cut(condition.value));
    match condition.operator {
        SeccompOperator::NotEqual => argument != value,
        SeccompOperator::Less => argument < value,
        SeccompOperator::LessOrEqual => argument <= value,
        SeccompOperator::Equal => argument == value,
        SeccompOperator::GreaterOrEqual => argument >= value,
        SeccompOperator::Greater => argument > value,
        SeccompOperator::MaskedEqual(mask) => argument & cut(mask) == value & cut(mask),
    }
}
