//! The kernel's machine for filters, as far as filters may use it.

use coracle_sys::FilterInstruction;

/// `struct seccomp_data` without the instruction pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) number: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let half = |value: u64, high: bool| {
            let shifted = if high { value >> 32 } else { value };
            u32::try_from(shifted & 0xffff_ffff).unwrap()
        };
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 => {
                assert_eq!(offset % 4, 0, "unaligned");
                let index = usize::try_from((offset - 16) / 8).unwrap();
                // AUDIT_ARCH_S390X alone is of a big-endian machine.
                half(
                    self.args[index],
                    (offset % 8 == 4) != (self.arch == 0x8000_0016),
                )
            }
            _ => panic!("offset {offset} is no part of the call that a profile speaks of"),
        }
    }
}

/// The verdict of a program, and how many instructions it took. Panics where the kernel would have
/// refused the program.
pub(crate) fn run(program: &[FilterInstruction], call: &Call) -> (u32, usize) {
    let mut accumulator = 0_u32;
    let mut place = 0;
    for steps in 1.. {
        let i = program[place];
        place += 1;
        let holds = match i.code {
            0x20 => {
                accumulator = call.word(i.constant);
                continue;
            }
            0x54 => {
                accumulator &= i.constant;
                continue;
            }
            0x05 => {
                place += usize::try_from(i.constant).unwrap();
                continue;
            }
            0x06 => return (i.constant, steps),
            0x15 => accumulator == i.constant,
            0x25 => accumulator > i.constant,
            0x35 => accumulator >= i.constant,
            0x45 => accumulator & i.constant != 0,
            code => panic!("instruction {code:#x}"),
        };
        place += usize::from(if holds { i.jump_true } else { i.jump_false });
    }
    unreachable!()
}
