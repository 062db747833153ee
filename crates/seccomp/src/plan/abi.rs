//! The architectures that a filter can distinguish.

use coracle_bundle::SeccompArchitecture;

/// A system call interface of the kernel: a set of numbers and a width of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 64-bit x86 with 32-bit pointers. A bit in the call number distinguishes it from
    /// [`Abi::X86_64`].
    X32,
    /// 32-bit x86, which 64-bit kernels run as well.
    X86,
    /// 64-bit ARM, little endian.
    Aarch64,
    /// 32-bit ARM, which 64-bit kernels run as well.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit LoongArch.
    Loongarch64,
    /// 64-bit POWER, little endian.
    Ppc64le,
    /// 64-bit IBM Z, big endian.
    S390x,
}

/// `__X32_SYSCALL_BIT` of asm/unistd.h.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// `__ARM_NR_BASE` of arm's asm/unistd.h: numbers from here on are calls that only 32-bit ARM has,
/// far above those of new calls.
const ARM_PRIVATE: u32 = 0x000f_0000;

impl Abi {
    /// All of them, in the order of the table's columns.
    pub const ALL: [Abi; 9] = [
        Abi::X86_64,
        Abi::X32,
        Abi::X86,
        Abi::Aarch64,
        Abi::Arm,
        Abi::Riscv64,
        Abi::Loongarch64,
        Abi::Ppc64le,
        Abi::S390x,
    ];

    /// The ABI of this build; `None` on an architecture without support for filters.
    #[must_use]
    pub const fn native() -> Option<Abi> {
        if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
            Some(Abi::X86_64)
        } else if cfg!(target_arch = "x86") {
            Some(Abi::X86)
        } else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
            Some(Abi::Aarch64)
        } else if cfg!(all(target_arch = "arm", target_endian = "little")) {
            Some(Abi::Arm)
        } else if cfg!(target_arch = "riscv64") {
            Some(Abi::Riscv64)
        } else if cfg!(target_arch = "loongarch64") {
            Some(Abi::Loongarch64)
        } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
            Some(Abi::Ppc64le)
        } else if cfg!(target_arch = "s390x") {
            Some(Abi::S390x)
        } else {
            None
        }
    }

    /// The name in messages: `x86_64`, …
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Abi::X86_64 => "x86_64",
            Abi::X32 => "x32",
            Abi::X86 => "x86",
            Abi::Aarch64 => "aarch64",
            Abi::Arm => "arm",
            Abi::Riscv64 => "riscv64",
            Abi::Loongarch64 => "loongarch64",
            Abi::Ppc64le => "ppc64le",
            Abi::S390x => "s390x",
        }
    }

    /// `AUDIT_ARCH_…` of linux/audit.h, as in `struct seccomp_data`.
    #[must_use]
    pub fn audit_arch(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::X86 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
            Abi::Riscv64 => 0xc000_00f3,
            Abi::Loongarch64 => 0xc000_0102,
            Abi::Ppc64le => 0xc000_0015,
            Abi::S390x => 0x8000_0016,
        }
    }

    /// Whether the kernel uses all 64 bits of an argument.
    pub(crate) fn has_wide_arguments(self) -> bool {
        !matches!(self, Abi::X32 | Abi::X86 | Abi::Arm)
    }

    /// Whether the upper half of a 64-bit argument comes first in `struct seccomp_data`.
    pub(crate) fn is_big_endian(self) -> bool {
        self == Abi::S390x
    }

    /// Whether sockets and System V IPC can also be had through `socketcall(2)` and `ipc(2)`.
    pub(crate) fn has_multiplexers(self) -> bool {
        matches!(self, Abi::X86 | Abi::Ppc64le | Abi::S390x)
    }

    pub(crate) fn column(self) -> usize {
        match self {
            Abi::X86_64 => 0,
            Abi::X32 => 1,
            Abi::X86 => 2,
            Abi::Aarch64 => 3,
            Abi::Arm => 4,
            Abi::Riscv64 => 5,
            Abi::Loongarch64 => 6,
            Abi::Ppc64le => 7,
            Abi::S390x => 8,
        }
    }

    /// A bit that is set in every call number of this ABI.
    pub(crate) fn number_bit(self) -> u32 {
        match self {
            Abi::X32 => X32_BIT,
            _ => 0,
        }
    }

    /// The last number of the range in which the kernel adds new calls.
    pub(crate) fn last_number(self) -> u32 {
        match self {
            Abi::X86_64 => X32_BIT - 1,
            Abi::Arm => ARM_PRIVATE - 1,
            _ => u32::MAX,
        }
    }

    /// Whether one kernel can run programs of both.
    pub(crate) fn shares_kernel_with(self, other: Abi) -> bool {
        let family = |abi| match abi {
            Abi::X86_64 | Abi::X32 | Abi::X86 => 0,
            Abi::Aarch64 | Abi::Arm => 1,
            Abi::Riscv64 => 2,
            Abi::Loongarch64 => 3,
            Abi::Ppc64le => 4,
            Abi::S390x => 5,
        };
        family(self) == family(other)
    }

    /// `None` for an architecture without support for filters.
    pub(crate) fn of(architecture: SeccompArchitecture, native: Abi) -> Option<Abi> {
        match architecture {
            SeccompArchitecture::Native => Some(native),
            SeccompArchitecture::X86_64 => Some(Abi::X86_64),
            SeccompArchitecture::X32 => Some(Abi::X32),
            SeccompArchitecture::X86 => Some(Abi::X86),
            SeccompArchitecture::Aarch64 => Some(Abi::Aarch64),
            SeccompArchitecture::Arm => Some(Abi::Arm),
            SeccompArchitecture::Riscv64 => Some(Abi::Riscv64),
            SeccompArchitecture::Loongarch64 => Some(Abi::Loongarch64),
            SeccompArchitecture::Ppc64Le => Some(Abi::Ppc64le),
            SeccompArchitecture::S390X => Some(Abi::S390x),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_in_order() {
        for (place, abi) in Abi::ALL.into_iter().enumerate() {
            assert_eq!(abi.column(), place);
        }
    }

    #[test]
    fn kin() {
        assert!(
            Abi::X86_64.shares_kernel_with(Abi::X86) && Abi::Arm.shares_kernel_with(Abi::Aarch64)
        );
        assert!(!Abi::Riscv64.shares_kernel_with(Abi::Aarch64));
    }
}
