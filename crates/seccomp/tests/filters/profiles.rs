//! Profiles: those of engines, and made-up ones; and the calls to try them with.

use crate::interpreter::Call;
use crate::model;
use coracle_bundle::{
    Seccomp, SeccompAction, SeccompArchitecture, SeccompCondition, SeccompOperator, SeccompRule,
};
use coracle_seccomp::Abi;
use serde_json::{Value, json};
use std::path::Path;

/// A config's `linux.seccomp`, by way of the parser.
pub(crate) fn parsed(seccomp: &Value) -> Seccomp {
    let config = json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "linux": {"seccomp": seccomp}
    });
    coracle_bundle::parse(Path::new("/b"), config.to_string().as_bytes())
        .unwrap()
        .linux
        .seccomp
        .unwrap()
}

/// The default profiles of engines, by name.
pub(crate) fn of_engines() -> [(&'static str, Seccomp); 3] {
    [
        ("moby", include_str!("../profiles/moby.json")),
        ("containerd", include_str!("../profiles/containerd.json")),
        (
            "containers-common",
            include_str!("../profiles/containers-common.json"),
        ),
    ]
    .map(|(name, text)| (name, parsed(&serde_json::from_str(text).unwrap())))
}

/// Numbers from a seed: SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn operand(&mut self) -> u64 {
        const EDGES: [u64; 10] = [
            0,
            1,
            16,
            40,
            0x7fff_ffff,
            0xffff_fffe,
            0xffff_ffff,
            0x1_0000_0000,
            0x1_0000_0001,
            u64::MAX,
        ];
        match self.below(4) {
            0 => self.next(),
            1 => self.next() & 0xff,
            _ => self.pick(&EDGES),
        }
    }

    fn condition(&mut self, index: u8) -> SeccompCondition {
        let operator = match self.below(7) {
            0 => SeccompOperator::NotEqual,
            1 => SeccompOperator::Less,
            2 => SeccompOperator::LessOrEqual,
            3 => SeccompOperator::Equal,
            4 => SeccompOperator::GreaterOrEqual,
            5 => SeccompOperator::Greater,
            _ => SeccompOperator::MaskedEqual(self.operand()),
        };
        SeccompCondition {
            index,
            operator,
            value: self.operand(),
        }
    }

    fn action(&mut self) -> SeccompAction {
        match self.below(9) {
            0 => SeccompAction::KillThread,
            1 => SeccompAction::KillProcess,
            2 => SeccompAction::Trap,
            3 => SeccompAction::Errno(1),
            4 => SeccompAction::Errno(u16::try_from(self.below(4096)).unwrap()),
            5 => SeccompAction::Trace(u16::try_from(self.below(4096)).unwrap()),
            6 => SeccompAction::Log,
            7 => SeccompAction::Notify,
            _ => SeccompAction::Allow,
        }
    }

    /// A profile out of `names`. Where several rules for a call can match at once, they have the
    /// same action, except for those without conditions. Up to `most` rules with several conditions
    /// are for one call; with one, alternatives are values only.
    pub(crate) fn profile(
        &mut self,
        names: &[&str],
        architectures: &[SeccompArchitecture],
        most: usize,
    ) -> Seccomp {
        let default_action = match self.below(8) {
            0 => SeccompAction::Allow,
            1 => SeccompAction::Errno(38),
            2 => SeccompAction::KillThread,
            3 => SeccompAction::KillProcess,
            4 => SeccompAction::Log,
            _ => SeccompAction::Errno(1),
        };
        let mut rules = Vec::new();
        let palette = [self.action(), self.action(), self.action()];
        let density = 1 + self.below(12);
        for name in names {
            if self.below(density) != 0 || *name == "write" {
                continue;
            }
            let action = self.pick(&palette);
            let rule = |action, conditions| SeccompRule {
                names: vec![(*name).to_owned()],
                action,
                conditions,
            };
            // Conditions of multiplexers themselves overlap with those of the calls behind them.
            let is_multiplexer = matches!(*name, "socketcall" | "ipc") && most == 1;
            match self.below(8) {
                _ if is_multiplexer => rules.push(rule(action, Vec::new())),
                0 => {
                    let more = self.below(most) + 1;
                    for _ in 0..more {
                        let conditions = self.conditions(most > 1);
                        rules.push(rule(action, conditions));
                    }
                    if self.below(6) == 0 {
                        rules.push(rule(self.pick(&palette), Vec::new()));
                    }
                }
                // Of these at most one holds.
                1 if model::multiplexer(name).is_none() => {
                    for value in 0..3 {
                        let condition = SeccompCondition {
                            index: 2,
                            operator: SeccompOperator::Equal,
                            value,
                        };
                        rules.push(rule(self.pick(&palette), vec![condition]));
                    }
                }
                _ => rules.push(rule(action, Vec::new())),
            }
        }
        // The order of unlike calls must not matter.
        for last in (1..rules.len()).rev() {
            rules.swap(last, self.below(last + 1));
        }
        Seccomp {
            default_action,
            architectures: architectures.to_vec(),
            flags: None,
            listener_path: Some(c"/agent".to_owned()),
            listener_metadata: None,
            rules,
        }
    }

    fn conditions(&mut self, free: bool) -> Vec<SeccompCondition> {
        let is_alternative = self.below(6) == 0;
        let mut conditions = Vec::new();
        for index in 0..6 {
            if self.below(3) == 0 || index == 5 && conditions.is_empty() {
                conditions.push(self.condition(index));
            }
        }
        if is_alternative {
            conditions = vec![self.condition(1), self.condition(1), self.condition(3)];
        }
        for condition in conditions.iter_mut().filter(|_| !free) {
            match &mut condition.operator {
                operator if is_alternative => *operator = SeccompOperator::Equal,
                // To libseccomp a mask of no bit is no condition, so that the rule is one of those
                // without.
                SeccompOperator::MaskedEqual(mask) => *mask |= 1,
                _ => {}
            }
        }
        conditions
    }

    /// Calls of every architecture, most of them with names and arguments from the profile.
    pub(crate) fn calls(&mut self, profile: &Seccomp, native: Abi, count: usize) -> Vec<Call> {
        let mut operands = vec![0, 1, u64::MAX, 0xffff_ffff];
        for condition in profile.rules.iter().flat_map(|rule| &rule.conditions) {
            operands.push(condition.value);
            if let SeccompOperator::MaskedEqual(mask) = condition.operator {
                operands.push(mask & condition.value);
            }
        }
        let conditional = profile
            .rules
            .iter()
            .filter(|rule| !rule.conditions.is_empty());
        let conditional: Vec<&SeccompRule> = conditional.collect();
        let mut calls = Vec::with_capacity(count);
        while calls.len() < count {
            let abi = match self.below(12) {
                0 => self.pick(&Abi::ALL),
                1..5 => native,
                _ => match (native, self.below(2)) {
                    (Abi::X86_64, 0) => Abi::X86,
                    (Abi::X86_64, _) => Abi::X32,
                    (Abi::Aarch64, _) => Abi::Arm,
                    _ => native,
                },
            };
            let mut args = [0; 6];
            for place in &mut args {
                *place = self.argument(&operands);
            }
            let base = if abi == Abi::X32 { 0x4000_0000 } else { 0 };
            let number = match self.below(8) {
                0 => self.pick(&[u32::MAX, u32::MAX - 1, 0x4000_0000, 0x3fff_ffff, 0xf_0002]),
                1 => base + u32::try_from(self.below(1200)).unwrap(),
                2..5 if !conditional.is_empty() => {
                    let rule = conditional[self.below(conditional.len())];
                    for condition in &rule.conditions {
                        if self.below(3) != 0 {
                            args[usize::from(condition.index)] = self.near(condition.value);
                        }
                    }
                    match (
                        model::number(abi, &rule.names[0]),
                        model::multiplexer(&rule.names[0]),
                    ) {
                        (_, Some((multiplexer, which)))
                            if model::multiplexes(abi) && self.below(2) == 0 =>
                        {
                            args[0] = which;
                            multiplexer
                        }
                        (number, _) => number.unwrap_or(base),
                    }
                }
                5 if model::multiplexes(abi) => {
                    args[0] = self.next() % 26;
                    self.pick(&[102, 117])
                }
                _ => base + u32::try_from(self.below(480)).unwrap(),
            };
            calls.push(Call {
                arch: abi.audit_arch(),
                number,
                args,
            });
        }
        calls
    }

    fn argument(&mut self, operands: &[u64]) -> u64 {
        match self.below(4) {
            0 => self.next() & 0xff,
            1 => self.operand(),
            _ => {
                let value = self.pick(operands);
                self.near(value)
            }
        }
    }

    fn near(&mut self, value: u64) -> u64 {
        match self.below(6) {
            0 => value.wrapping_add(1),
            1 => value.wrapping_sub(1),
            2 => value ^ (1 << 32),
            3 => value ^ 1 << self.below(64),
            _ => value,
        }
    }
}
