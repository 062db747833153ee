//! Device programs of cgroup v2: bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`, since Linux 4.15.

use crate::Result;
use crate::kernel::{done, new_descriptor};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// An instruction: `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    /// Operation, size and source.
    pub code: u8,
    /// The destination register in the low half, the source in the high half (little endian).
    pub registers: u8,
    /// The offset of a jump, in instructions, or of a memory access, in bytes.
    pub offset: i16,
    /// The constant.
    pub immediate: i32,
}

impl Instruction {
    /// An instruction from its parts; `destination` and `source` are registers 0 to 10.
    #[must_use]
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        // A pair of bit fields: C puts the first one low on little-endian machines only.
        let registers = if cfg!(target_endian = "little") {
            (source & 0xf) << 4 | destination & 0xf
        } else {
            (destination & 0xf) << 4 | source & 0xf
        };
        Self {
            code,
            registers,
            offset,
            immediate,
        }
    }
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;
/// `BPF_OBJ_NAME_LEN`, including the final NUL.
const NAME_LENGTH: usize = 16;

/// `union bpf_attr` for `BPF_PROG_LOAD`, up to the program's name.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME_LENGTH],
}

/// `union bpf_attr` for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// `union bpf_attr` for `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
}

/// `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ById {
    program: u32,
    next: u32,
    flags: u32,
}

/// `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoByFd {
    program: u32,
    length: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to the program's name.
#[repr(C)]
#[derive(Default)]
struct Info {
    before: [u64; 8],
    name: [u8; NAME_LENGTH],
}

/// `int bpf(BPF_PROG_LOAD, union bpf_attr *attr, unsigned int size)`, bpf(2).
///
/// # Errors
///
/// The kernel's: `EINVAL` or `EACCES` for a program that its verifier refuses, `EPERM`; `EINVAL`
/// for a name of more than 15 bytes, or one with other characters than letters, digits, `_` and
/// `.`.
pub fn bpf_load_device_program(name: &CStr, instructions: &[Instruction]) -> Result<OwnedFd> {
    const LICENSE: &CStr = c"Apache";
    let mut attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(|_| Errno::E2BIG)?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: padded(name)?,
    };
    // SAFETY: the attributes are those of this command; they point to as many instructions as they
    // say and to a C string, which the kernel only reads and which outlive the call.
    let answer = unsafe { bpf(BPF_PROG_LOAD, &mut attributes) };
    // SAFETY: the command makes a new descriptor (close-on-exec by itself) for its caller.
    unsafe { new_descriptor(answer) }
}

/// `int bpf(BPF_PROG_ATTACH, union bpf_attr *attr, unsigned int size)`, bpf(2); replacement since
/// Linux 5.6.
///
/// Programs on ancestors, and other programs on this cgroup, stay in force: an access needs the
/// consent of all. With `replaced`, the kernel exchanges that program for the new one atomically.
///
/// # Errors
///
/// The kernel's: `EPERM`, also where an ancestor's program excludes others; `ENOENT` if `replaced`
/// is not attached; `E2BIG` for the 65th program.
pub fn bpf_attach_device(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let flags = if replaced.is_some() { BPF_F_REPLACE } else { 0 };
    let mut attributes = Attach {
        target: number(cgroup),
        program: number(program),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | flags,
        replaced: replaced.map_or(0, number),
    };
    // SAFETY: the attributes are those of this command and hold numbers alone.
    done(unsafe { bpf(BPF_PROG_ATTACH, &mut attributes) })
}

/// `int bpf(BPF_PROG_DETACH, union bpf_attr *attr, unsigned int size)`, bpf(2).
///
/// # Errors
///
/// The kernel's: `ENOENT` if the program is not attached, `EPERM`.
pub fn bpf_detach_device(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attributes = Attach {
        target: number(cgroup),
        program: number(program),
        kind: BPF_CGROUP_DEVICE,
        flags: 0,
        replaced: 0,
    };
    // SAFETY: the attributes are those of this command and hold numbers alone.
    done(unsafe { bpf(BPF_PROG_DETACH, &mut attributes) })
}

/// `int bpf(BPF_PROG_QUERY, union bpf_attr *attr, unsigned int size)`, bpf(2).
///
/// Fills `programs` with the ids of the device programs on this cgroup itself and returns how many
/// there are; the kernel allows 64. With an empty `programs` only the number is returned.
///
/// # Errors
///
/// The kernel's: `ENOSPC` if there are more than fit, `EPERM`.
pub fn bpf_query_device(cgroup: BorrowedFd<'_>, programs: &mut [u32]) -> Result<usize> {
    let mut attributes = Query {
        target: number(cgroup),
        kind: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        programs: programs.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(programs.len()).map_err(|_| Errno::EINVAL)?,
        padding: 0,
    };
    // SAFETY: the attributes are those of this command; the kernel writes at most `count` numbers
    // to `programs`, which is borrowed for the call.
    done(unsafe { bpf(BPF_PROG_QUERY, &mut attributes) })?;
    usize::try_from(attributes.count).map_err(|_| Errno::EOVERFLOW)
}

/// `int bpf(BPF_PROG_GET_FD_BY_ID, union bpf_attr *attr, unsigned int size)`, bpf(2): a descriptor
/// of the program with this id, from [`bpf_query_device`].
///
/// # Errors
///
/// The kernel's: `ENOENT` if the program is gone, `EPERM` without `CAP_SYS_ADMIN`.
pub fn bpf_program_by_id(program: u32) -> Result<OwnedFd> {
    let mut attributes = ById {
        program,
        next: 0,
        flags: 0,
    };
    // SAFETY: the attributes are those of this command and hold numbers alone.
    let answer = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attributes) };
    // SAFETY: the command makes a new descriptor (close-on-exec by itself) for its caller.
    unsafe { new_descriptor(answer) }
}

/// `int bpf(BPF_OBJ_GET_INFO_BY_FD, union bpf_attr *attr, unsigned int size)`, bpf(2): whether the
/// program was loaded under this name.
///
/// # Errors
///
/// The kernel's.
pub fn bpf_is_named(program: BorrowedFd<'_>, name: &CStr) -> Result<bool> {
    let mut info = Info::default();
    let mut attributes = InfoByFd {
        program: number(program),
        length: u32::try_from(size_of::<Info>()).map_err(|_| Errno::EOVERFLOW)?,
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: the attributes are those of this command; the kernel writes at most `length` bytes to
    // `info`, a plain value of that size whose zeros ask for nothing else. It outlives the call.
    done(unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) })?;
    Ok(info.name == padded(name)?)
}

fn padded(name: &CStr) -> Result<[u8; NAME_LENGTH]> {
    let mut padded = [0; NAME_LENGTH];
    let bytes = name.to_bytes_with_nul();
    let start = padded.get_mut(..bytes.len()).ok_or(Errno::EINVAL)?;
    start.copy_from_slice(bytes);
    Ok(padded)
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// # Safety
///
/// `attributes` is the part of `union bpf_attr` that `command` reads and writes, without padding,
/// and its pointers go to memory that the command may use so.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> libc::c_long {
    // SAFETY: a whole value of the size given; what it points to is the caller's promise. The
    // kernel takes members beyond the size for zero.
    unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;
    use std::os::fd::AsFd;

    #[test]
    fn attributes_are_laid_out_as_the_kernels() {
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!((size_of::<Load>(), offset_of!(Load, name)), (64, 48));
        assert_eq!(
            (size_of::<Attach>(), offset_of!(Attach, replaced)),
            (20, 16)
        );
        assert_eq!((size_of::<Query>(), offset_of!(Query, count)), (32, 24));
        assert_eq!(size_of::<ById>(), 12);
        assert_eq!(size_of::<InfoByFd>(), 16);
        assert_eq!((size_of::<Info>(), offset_of!(Info, name)), (80, 64));
    }

    #[test]
    fn registers_share_a_byte() {
        let instruction = Instruction::new(0xbf, 6, 1, 0, 0);
        #[cfg(target_endian = "little")]
        assert_eq!(instruction.registers, 0x16);
        assert_eq!(instruction.code, 0xbf);
    }

    #[test]
    fn a_program_that_says_yes_is_loaded_by_whoever_may() {
        // r0 = 1; exit
        let yes = [
            Instruction::new(0xb7, 0, 0, 0, 1),
            Instruction::new(0x95, 0, 0, 0, 0),
        ];
        let answer = bpf_load_device_program(c"yes", &yes);
        assert!(
            matches!(answer, Ok(_) | Err(Errno::EPERM | Errno::ENOSYS)),
            "{answer:?}"
        );
        if let Ok(program) = answer {
            assert_eq!(bpf_is_named(program.as_fd(), c"yes"), Ok(true));
            assert_eq!(bpf_is_named(program.as_fd(), c"no"), Ok(false));
        }
        let no_exit = bpf_load_device_program(c"yes", &yes[..1]).map(drop);
        assert!(no_exit.is_err());
    }
}
