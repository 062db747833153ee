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
//! Jumps of classic BPF only go forward, so the code is generated from its end: the target of a
//! jump already exists, and its distance is known.

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

/// Offsets in `struct seccomp_data`, in bytes.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The other half of a 64-bit argument is this bit apart.
const HALF: u32 = 4;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JA`, … of linux/bpf_common.h.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER_OR_EQUAL: u16 = 0x35;
pub(crate) const RETURN: u16 = 0x06;

/// The number by which a tracer makes the kernel skip a call. It has x32's bit set.
const SKIPPED: u32 = u32::MAX;

/// The program for the architectures in `abis`; a call of another one kills the process.
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
    let mut code = Code {
        // One kernel runs all of them, so they have one order of bytes.
        is_big_endian: abis.iter().any(|abi| abi.is_big_endian()),
        ..Code::default()
    };
    let mut entries = Vec::with_capacity(searches.len());
    for (arch, ranges, width) in searches.iter().rev() {
        let search = code.search(ranges, *width)?;
        code.continue_at(search);
        entries.push((*arch, code.push(LOAD, NUMBER)));
    }
    let mut next = code.return_of(KILL_PROCESS);
    for (arch, entry) in entries {
        next = code.branch(IF_EQUAL, arch, entry, next);
    }
    code.continue_at(next);
    code.push(LOAD, ARCH);
    code.finish()
}

/// The decisions for all numbers of one `AUDIT_ARCH_…`. On x86_64 the numbers of x32 are the upper
/// half.
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

/// How many bits of an argument the kernel uses: all 64 or the lower 32. x32 uses 32.
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

/// The position of an instruction, counted from the end of the program.
type Place = usize;

/// A program under construction, from its last instruction to its first.
#[derive(Default)]
struct Code<'a> {
    backwards: Vec<FilterInstruction>,
    is_big_endian: bool,
    /// The most recent return instruction of each verdict.
    returns: HashMap<u32, Place>,
    /// Blocks of rules that exist already, for wide and for narrow arguments.
    wide: HashMap<&'a Decision<'a>, Place>,
    narrow: HashMap<&'a Decision<'a>, Place>,
}

impl<'a> Code<'a> {
    /// A binary search among `ranges`. The first range covers all numbers below the second.
    fn search(&mut self, ranges: &'a [Range<'a>], width: Width) -> Result<Place, Error> {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        match (low, high) {
            ([], [only]) => self.decision(&only.decision, width.at(only.first)),
            (low, [boundary, ..]) => {
                let above = self.search(high, width)?;
                let below = self.search(low, width)?;
                Ok(self.branch(IF_GREATER_OR_EQUAL, boundary.first, above, below))
            }
            (_, []) => Ok(self.return_of(KILL_PROCESS)),
        }
    }

    fn decision(
        &mut self,
        decision: &'a Decision<'a>,
        length: SeccompCmpArgLen,
    ) -> Result<Place, Error> {
        if decision.rules.is_empty() {
            return Ok(self.return_of(decision.otherwise));
        }
        let is_wide = length == SeccompCmpArgLen::Qword;
        let known = if is_wide { &self.wide } else { &self.narrow };
        if let Some(place) = known.get(decision) {
            return Ok(*place);
        }
        // A rule that does not match falls through to the next one, and the last to the default.
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

    /// The code of `rule`, which falls through to the code generated last.
    fn rule(&mut self, rule: &Rule<'_>, length: SeccompCmpArgLen) -> Result<Place, Error> {
        let conditions = rule.conditions.iter();
        let conditions = conditions.map(|condition| translate(*condition, length.clone()));
        let block = SeccompRule::new(conditions.collect::<Result<_, _>>()?)
            .map_err(|error| Error::Rule(error.to_string()))?;
        self.push(RETURN, rule.verdict);
        // seccompiler's block begins with two jumps, into it and past it, which are not needed
        // here.
        let block = BpfProgram::from(block);
        for instruction in block.iter().skip(2).rev() {
            self.backwards.push(FilterInstruction {
                code: instruction.code,
                jump_true: instruction.jt,
                jump_false: instruction.jf,
                constant: match instruction.code {
                    // seccompiler makes them for little endian.
                    LOAD if self.is_big_endian => instruction.k ^ HALF,
                    _ => instruction.k,
                },
            });
        }
        Ok(self.latest())
    }

    /// The position of an instruction that returns `verdict`.
    fn return_of(&mut self, verdict: u32) -> Place {
        match self.returns.get(&verdict) {
            Some(place) if self.is_near(*place) => *place,
            _ => self.push(RETURN, verdict),
        }
    }

    fn branch(&mut self, code: u16, constant: u32, then: Place, otherwise: Place) -> Place {
        let then = self.reach(then);
        let otherwise = self.reach(otherwise);
        let jump = |place| u8::try_from(self.distance(place)).ok();
        // `reach` has made sure that both are near.
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

    /// `place`, or the position of a jump or copy that stands for it within reach of a branch,
    /// whose distances have eight bits.
    fn reach(&mut self, place: Place) -> Place {
        if self.is_near(place) {
            return place;
        }
        match self.backwards.get(place) {
            // A copy of the return is as short as a jump to it.
            Some(FilterInstruction {
                code: RETURN,
                constant,
                ..
            }) => self.return_of(*constant),
            _ => self.push_jump(place),
        }
    }

    /// Makes the program continue at `place` after the instruction that is generated next.
    fn continue_at(&mut self, place: Place) {
        if self.distance(place) != 0 {
            self.push_jump(place);
        }
    }

    fn push_jump(&mut self, place: Place) -> Place {
        // The program never has 2^32 instructions: see [`MAX_INSTRUCTIONS`].
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

    /// The distance to `place` from an instruction that would be generated now.
    fn distance(&self, place: Place) -> usize {
        self.latest().saturating_sub(place)
    }

    /// Whether a branch can reach `place` even if another jump is generated before it.
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
