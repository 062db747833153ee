//! From decisions to instructions.
//!
//! ```text
//!     ld arch
//!     jeq A ? ld nr, search : next        one balanced search for each AUDIT_ARCH_…, of ranges
//! with
//!     jeq B ? ld nr, search : next        the same decision, not of single numbers
//!     ret KILL_PROCESS
//! ```
//!
//! Jumps of this machine only go forward, so the code is made from its end: whatever is jumped to
//! exists already, and the distance is known.

use super::abi::{Abi, X32_BIT};
use super::resolve::{Decision, Range, Resolved, Rule};
use super::verdict::KILL_PROCESS;
use crate::Error;
use coracle_bundle::{SeccompCondition, SeccompOperator};
use coracle_sys::FilterInstruction;
use seccompiler::{BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompRule};
use std::collections::HashMap;

/// `BPF_MAXINSNS` of linux/bpf_common.h.
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;

/// Of `struct seccomp_data`, in bytes.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JA`, … of linux/bpf_common.h.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// What a tracer makes of a call that shall be skipped; the number has x32's bit.
const SKIPPED: u32 = u32::MAX;

/// The program for the machines in `abis`; all others are killed.
pub(crate) fn program(
    resolved: &Resolved<'_>,
    abis: &[Abi],
    default: u32,
) -> Result<Vec<FilterInstruction>, Error> {
    let mut searches: Vec<(u32, Vec<Range<'_>>, Width)> = Vec::new();
    for abi in abis {
        let arch = abi.audit_arch();
        if searches.iter().all(|(known, ..)| *known != arch) {
            let ranges = ranges(resolved, abis, *abi, default);
            searches.push((arch, ranges, Width::of(*abi)));
        }
    }
    let mut code = Code::default();
    let mut entries = Vec::with_capacity(searches.len());
    for (arch, ranges, width) in searches.iter().rev() {
        let search = code.search(ranges, *width)?;
        code.go_on_to(search);
        entries.push((*arch, code.push(LOAD, NUMBER)));
    }
    let mut next = code.give(KILL_PROCESS);
    for (arch, entry) in entries {
        next = code.branch(IF_EQUAL, arch, entry, next);
    }
    code.go_on_to(next);
    code.push(LOAD, ARCH);
    code.finish()
}

/// All numbers of one `AUDIT_ARCH_…`: on x86_64 those of x32 are the upper half.
fn ranges<'a>(resolved: &'a Resolved<'_>, abis: &[Abi], abi: Abi, default: u32) -> Vec<Range<'a>> {
    if abi.audit_arch() != Abi::X32.audit_arch() {
        return resolved.ranges(abi);
    }
    let always = |first, verdict| Range {
        first,
        decision: Decision::always(verdict),
    };
    let mut all = if abis.contains(&Abi::X86_64) {
        resolved.ranges(Abi::X86_64)
    } else {
        vec![always(0, KILL_PROCESS)]
    };
    all.retain(|range| range.first < X32_BIT);
    if abis.contains(&Abi::X32) {
        all.extend(resolved.ranges(Abi::X32));
    } else {
        all.extend([always(X32_BIT, KILL_PROCESS), always(SKIPPED, default)]);
    }
    all
}

/// How much of an argument the kernel takes. Numbers with x32's bit are narrow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Narrow,
    Wide,
    WideBelowX32,
}

impl Width {
    fn of(abi: Abi) -> Self {
        match abi {
            Abi::X86_64 | Abi::X32 => Width::WideBelowX32,
            abi if abi.has_wide_arguments() => Width::Wide,
            _ => Width::Narrow,
        }
    }

    fn at(self, number: u32) -> SeccompCmpArgLen {
        match self {
            Width::Wide => SeccompCmpArgLen::Qword,
            Width::WideBelowX32 if number < X32_BIT => SeccompCmpArgLen::Qword,
            _ => SeccompCmpArgLen::Dword,
        }
    }
}

/// An instruction's place, counted from the end of the program.
type Place = usize;

/// A program from its last instruction to its first.
#[derive(Default)]
struct Code<'a> {
    backwards: Vec<FilterInstruction>,
    /// The latest return of each verdict.
    returns: HashMap<u32, Place>,
    /// Blocks of rules that were made already, of wide and of narrow arguments.
    wide: HashMap<&'a Decision<'a>, Place>,
    narrow: HashMap<&'a Decision<'a>, Place>,
}

impl<'a> Code<'a> {
    /// The search among `ranges`, of which the first holds all numbers below the second.
    fn search(&mut self, ranges: &'a [Range<'a>], width: Width) -> Result<Place, Error> {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        match (low, high) {
            ([], [only]) => self.decision(&only.decision, width.at(only.first)),
            (low, [boundary, ..]) => {
                let above = self.search(high, width)?;
                let below = self.search(low, width)?;
                Ok(self.branch(IF_GREATER_OR_EQUAL, boundary.first, above, below))
            }
            (_, []) => Ok(self.give(KILL_PROCESS)),
        }
    }

    fn decision(
        &mut self,
        decision: &'a Decision<'a>,
        length: SeccompCmpArgLen,
    ) -> Result<Place, Error> {
        if decision.rules.is_empty() {
            return Ok(self.give(decision.otherwise));
        }
        let is_wide = length == SeccompCmpArgLen::Qword;
        let known = if is_wide { &self.wide } else { &self.narrow };
        if let Some(place) = known.get(decision) {
            return Ok(*place);
        }
        // A block runs into what follows it: the next rule, in the end the last word.
        let mut place = self.push(RETURN, decision.otherwise);
        for rule in decision.rules.iter().rev() {
            place = self.rule(rule, length.clone())?;
        }
        let known = if is_wide {
            &mut self.wide
        } else {
            &mut self.narrow
        };
        known.insert(decision, place);
        Ok(place)
    }

    /// `rule`, before whatever was made last.
    fn rule(&mut self, rule: &Rule<'_>, length: SeccompCmpArgLen) -> Result<Place, Error> {
        let conditions = rule.conditions.iter();
        let conditions = conditions.map(|condition| translate(*condition, length.clone()));
        let block = SeccompRule::new(conditions.collect::<Result<_, _>>()?)
            .map_err(|error| Error::Rule(error.to_string()))?;
        self.push(RETURN, rule.verdict);
        // It begins with two jumps, into it and past it, that its place makes needless.
        let block = BpfProgram::from(block);
        for instruction in block.iter().skip(2).rev() {
            self.backwards.push(FilterInstruction {
                code: instruction.code,
                jump_true: instruction.jt,
                jump_false: instruction.jf,
                constant: instruction.k,
            });
        }
        Ok(self.latest())
    }

    /// A place that returns `verdict`.
    fn give(&mut self, verdict: u32) -> Place {
        match self.returns.get(&verdict) {
            Some(place) if self.is_near(*place) => *place,
            _ => self.push(RETURN, verdict),
        }
    }

    fn branch(&mut self, code: u16, constant: u32, then: Place, otherwise: Place) -> Place {
        let then = self.reach(then);
        let otherwise = self.reach(otherwise);
        let jump = |place| u8::try_from(self.distance(place)).ok();
        // Both are near: `reach` has seen to it.
        let (jump_true, jump_false) = (
            jump(then).unwrap_or(u8::MAX),
            jump(otherwise).unwrap_or(u8::MAX),
        );
        self.backwards.push(FilterInstruction {
            code,
            jump_true,
            jump_false,
            constant,
        });
        self.latest()
    }

    /// `place`, or one that leads to it and that a branch can jump to, which has eight bits for
    /// the distance.
    fn reach(&mut self, place: Place) -> Place {
        if self.is_near(place) {
            return place;
        }
        match self.backwards.get(place) {
            // A copy takes no more room than a jump there.
            Some(FilterInstruction {
                code: RETURN,
                constant,
                ..
            }) => self.give(*constant),
            _ => self.push_jump(place),
        }
    }

    /// Makes `place` what comes next after whatever is made now.
    fn go_on_to(&mut self, place: Place) {
        if self.distance(place) != 0 {
            self.push_jump(place);
        }
    }

    fn push_jump(&mut self, place: Place) -> Place {
        // A program of 2^32 instructions does not come to be.
        let distance = u32::try_from(self.distance(place)).unwrap_or(u32::MAX);
        self.push(JUMP, distance)
    }

    fn push(&mut self, code: u16, constant: u32) -> Place {
        self.backwards.push(FilterInstruction {
            code,
            constant,
            ..FilterInstruction::default()
        });
        let place = self.latest();
        if code == RETURN {
            self.returns.insert(constant, place);
        }
        place
    }

    fn latest(&self) -> Place {
        self.backwards.len().saturating_sub(1)
    }

    /// From an instruction that would be made now.
    fn distance(&self, place: Place) -> usize {
        self.latest().saturating_sub(place)
    }

    /// Whether a branch can jump there even with another jump made before it.
    fn is_near(&self, place: Place) -> bool {
        self.distance(place) + 1 < usize::from(u8::MAX)
    }

    fn finish(mut self) -> Result<Vec<FilterInstruction>, Error> {
        let instructions = self.backwards.len();
        if instructions > MAX_INSTRUCTIONS {
            return Err(Error::TooLong { instructions });
        }
        self.backwards.reverse();
        Ok(self.backwards)
    }
}

fn translate(
    condition: SeccompCondition,
    length: SeccompCmpArgLen,
) -> Result<seccompiler::SeccompCondition, Error> {
    let operator = match condition.operator {
        SeccompOperator::NotEqual => SeccompCmpOp::Ne,
        SeccompOperator::Less => SeccompCmpOp::Lt,
        SeccompOperator::LessOrEqual => SeccompCmpOp::Le,
        SeccompOperator::Equal => SeccompCmpOp::Eq,
        SeccompOperator::GreaterOrEqual => SeccompCmpOp::Ge,
        SeccompOperator::Greater => SeccompCmpOp::Gt,
        SeccompOperator::MaskedEqual(mask) => SeccompCmpOp::MaskedEq(mask),
    };
    seccompiler::SeccompCondition::new(condition.index, length, operator, condition.value)
        .map_err(|error| Error::Rule(error.to_string()))
}
