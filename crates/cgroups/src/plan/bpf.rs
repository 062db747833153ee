//! The device filter of cgroup v2: a program that the kernel runs for each use of a device.
//! bpf(2), `struct bpf_cgroup_dev_ctx` of linux/bpf.h.

use coracle_bundle::{DeviceAccess, DeviceRule, DeviceRuleKind};
use coracle_sys::Instruction;

use super::device_text::line;
use super::write::Refused;

/// A device filter, as rules and as a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// One line for each rule, such as `allow c 1:3 rwm`. The first rule is for everything; the
    /// last one that matches an access decides.
    pub rules: Vec<String>,
    /// The program for `BPF_PROG_LOAD`.
    pub instructions: Vec<Instruction>,
    /// What to do if the kernel refuses the program with EPERM.
    pub refused: Refused,
}

/// Operations: class, source or size, and code of linux/bpf.h added up.
mod operation {
    pub(super) const LOAD_WORD: u8 = 0x61;
    pub(super) const MOVE_IMMEDIATE: u8 = 0xb4;
    pub(super) const MOVE: u8 = 0xbc;
    pub(super) const AND_IMMEDIATE: u8 = 0x54;
    pub(super) const SHIFT_RIGHT: u8 = 0x74;
    pub(super) const JUMP_EQUAL: u8 = 0x16;
    pub(super) const JUMP_NOT_EQUAL: u8 = 0x56;
    pub(super) const EXIT: u8 = 0x95;
}
use operation::{
    AND_IMMEDIATE, EXIT, JUMP_EQUAL, JUMP_NOT_EQUAL, LOAD_WORD, MOVE, MOVE_IMMEDIATE, SHIFT_RIGHT,
};

/// The register of the verdict.
const R0: u8 = 0;
/// The register of the context: `{ u32 access << 16 | type; u32 major; u32 minor; }`.
const R1: u8 = 1;
/// The register of the device's type.
const KIND: u8 = 2;
/// The register of the accesses that no rule has decided yet.
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const BPF_DEVCG_DEV_BLOCK: i32 = 1;
const BPF_DEVCG_DEV_CHAR: i32 = 2;
const BPF_DEVCG_ACC_MKNOD: i32 = 1;
const BPF_DEVCG_ACC_READ: i32 = 2;
const BPF_DEVCG_ACC_WRITE: i32 = 4;
const EVERY_USE: i32 = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;

impl Program {
    /// The program for reduced `rules`, of which the first is for everything; `None` if that is the
    /// only one and allows everything.
    pub(super) fn new(rules: &[DeviceRule], refused: Refused) -> Option<Self> {
        let (first, others) = rules.split_first()?;
        if others.is_empty() && first.allow {
            return None;
        }
        let mut code = vec![
            instruction(LOAD_WORD, KIND, R1, 0, 0),
            instruction(MOVE, OPEN, KIND, 0, 0),
            instruction(SHIFT_RIGHT, OPEN, 0, 0, 16),
            instruction(AND_IMMEDIATE, KIND, 0, 0, 0xffff),
            instruction(LOAD_WORD, MAJOR, R1, 4, 0),
            instruction(LOAD_WORD, MINOR, R1, 8, 0),
        ];
        // From the last rule to the first, since the last one that matches an access decides. One
        // open(2) may be two accesses, read and write, and each must be allowed.
        for rule in others.iter().rev() {
            rule_code(rule, &mut code);
        }
        code.extend(answer(first.allow));
        let text = |rule: &DeviceRule| {
            let verdict = if rule.allow { "allow" } else { "deny" };
            format!("{verdict} {}", line(rule))
        };
        Some(Self {
            rules: rules.iter().map(text).collect(),
            instructions: code,
            refused,
        })
    }
}

fn rule_code(rule: &DeviceRule, code: &mut Vec<Instruction>) {
    let verdict = verdict_code(rule);
    let kind = match rule.kind {
        DeviceRuleKind::All => None,
        DeviceRuleKind::Char => Some(BPF_DEVCG_DEV_CHAR),
        DeviceRuleKind::Block => Some(BPF_DEVCG_DEV_BLOCK),
    };
    let number = |number: Option<u32>| number.map(u32::cast_signed);
    let conditions = [
        (KIND, kind),
        (MAJOR, number(rule.major)),
        (MINOR, number(rule.minor)),
    ];
    let mut left = conditions
        .iter()
        .filter(|(_, wanted)| wanted.is_some())
        .count();
    for (register, wanted) in conditions {
        if let Some(wanted) = wanted {
            left -= 1;
            // A rule has a handful of instructions, so the distance always fits.
            let distance = i16::try_from(left + verdict.len()).unwrap_or(i16::MAX);
            code.push(instruction(JUMP_NOT_EQUAL, register, 0, distance, wanted));
        }
    }
    code.extend(verdict);
}

/// The code by which a rule decides the accesses that are still undecided.
fn verdict_code(rule: &DeviceRule) -> Vec<Instruction> {
    let uses = uses(rule.access);
    let mut code = Vec::with_capacity(5);
    if uses != EVERY_USE && rule.allow {
        code.push(instruction(AND_IMMEDIATE, OPEN, 0, 0, EVERY_USE & !uses));
        code.push(instruction(JUMP_NOT_EQUAL, OPEN, 0, 2, 0));
    } else if uses != EVERY_USE {
        code.push(instruction(MOVE, R0, OPEN, 0, 0));
        code.push(instruction(AND_IMMEDIATE, R0, 0, 0, uses));
        code.push(instruction(JUMP_EQUAL, R0, 0, 2, 0));
    }
    code.extend(answer(rule.allow));
    code
}

fn answer(allow: bool) -> [Instruction; 2] {
    [
        instruction(MOVE_IMMEDIATE, R0, 0, 0, i32::from(allow)),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

fn uses(access: DeviceAccess) -> i32 {
    let bit = |set: bool, bit: i32| if set { bit } else { 0 };
    bit(access.mknod, BPF_DEVCG_ACC_MKNOD)
        | bit(access.read, BPF_DEVCG_ACC_READ)
        | bit(access.write, BPF_DEVCG_ACC_WRITE)
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction::new(code, to, from, offset, immediate)
}

#[cfg(test)]
mod disassembly {
    use super::*;

    impl Program {
        /// The instructions, one on each line, as `bpftool prog dump` prints them.
        pub(in crate::plan) fn disassembly(&self) -> Vec<String> {
            let numbered = self.instructions.iter().enumerate();
            numbered
                .map(|(index, instruction)| format!("{index}: {}", text(instruction)))
                .collect()
        }
    }

    /// Destination and source register: the byte order determines their halves of the byte.
    pub(super) fn registers(instruction: &Instruction) -> (u8, u8) {
        let (low, high) = (instruction.registers & 0xf, instruction.registers >> 4);
        if cfg!(target_endian = "little") {
            (low, high)
        } else {
            (high, low)
        }
    }

    fn text(instruction: &Instruction) -> String {
        let (to, from) = registers(instruction);
        let Instruction {
            code,
            offset,
            immediate,
            ..
        } = *instruction;
        match code {
            LOAD_WORD => format!("r{to} = *(u32 *)(r{from} +{offset})"),
            MOVE_IMMEDIATE => format!("w{to} = {immediate}"),
            MOVE => format!("w{to} = w{from}"),
            AND_IMMEDIATE => format!("w{to} &= {immediate:#x}"),
            SHIFT_RIGHT => format!("w{to} >>= {immediate}"),
            JUMP_EQUAL => format!("if w{to} == {immediate} goto +{offset}"),
            JUMP_NOT_EQUAL => format!("if w{to} != {immediate} goto +{offset}"),
            EXIT => "exit".to_owned(),
            _ => format!("({code:02x})"),
        }
    }
}

#[cfg(test)]
pub(super) mod interpreter {
    use super::disassembly::registers;
    use super::*;

    /// What the program answers; panics where the kernel's verifier would refuse.
    pub(in crate::plan) fn run(
        program: &Program,
        kind: i32,
        uses: i32,
        numbers: (u32, u32),
    ) -> bool {
        let context = [
            uses << 16 | kind,
            numbers.0.cast_signed(),
            numbers.1.cast_signed(),
        ];
        let mut registers_ = [0i32; 6];
        let mut at = 0usize;
        loop {
            let instruction = &program.instructions[at];
            let (to, from) = registers(instruction);
            let (to, from) = (usize::from(to), usize::from(from));
            let Instruction {
                code,
                offset,
                immediate,
                ..
            } = *instruction;
            at += 1;
            match code {
                LOAD_WORD => registers_[to] = context[usize::try_from(offset / 4).unwrap()],
                MOVE_IMMEDIATE => registers_[to] = immediate,
                MOVE => registers_[to] = registers_[from],
                AND_IMMEDIATE => registers_[to] &= immediate,
                SHIFT_RIGHT => {
                    registers_[to] = (registers_[to].cast_unsigned() >> immediate).cast_signed();
                }
                JUMP_EQUAL if registers_[to] != immediate => {}
                JUMP_NOT_EQUAL if registers_[to] == immediate => {}
                JUMP_EQUAL | JUMP_NOT_EQUAL => at += usize::try_from(offset).unwrap(),
                EXIT => return registers_[0] == 1,
                _ => panic!("unknown operation {code:#x}"),
            }
        }
    }
}
