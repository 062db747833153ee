//! What a look at a program that could not be executed tells, as bytes from init to the runtime and
//! as words.

use coracle_sys::Remark;
use coracle_text::one_line;
use nix::errno::Errno;
use std::ffi::CStr;
use std::fmt;

/// How much of a file is read. The program headers of an ELF file and the name of its interpreter
/// are at its beginning.
pub const HEAD: usize = 4096;

/// The longest line after `#!` of which the kernel reads the interpreter.
const SCRIPT_LINE: usize = 256;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Examined<'a> {
    /// Its mount is noexec.
    NoExec,
    /// Mode, owner and group, and the process's user and group.
    Mode([u32; 5]),
    /// The interpreter of a script or the loader of a program, and why it cannot be used.
    Interpreter(&'a [u8], Errno),
    /// An ELF program for this machine, by its number in elf(5).
    Machine(u16),
    /// Neither an ELF program nor a script.
    NoProgram,
    Empty,
}

impl<'a> Examined<'a> {
    /// What these first bytes of a file are, which execve(2) does not know. Does not allocate.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        match head {
            [] => Some(Examined::Empty),
            [b'#', b'!', ..] => None,
            [0x7f, b'E', b'L', b'F', ..] => match machine(head)? {
                own if own == MACHINE => None,
                other => Some(Examined::Machine(other)),
            },
            _ => Some(Examined::NoProgram),
        }
    }

    /// As bytes. Does not allocate.
    pub(crate) fn remark(self) -> Remark {
        let mut remark = Remark::default();
        match self {
            Examined::NoExec => remark.push(b"x"),
            Examined::Mode(numbers) => {
                remark.push(b"m");
                for number in numbers {
                    remark.push(&number.to_le_bytes());
                }
            }
            Examined::Interpreter(path, errno) => {
                remark.push(if errno == Errno::ENOENT { b"i" } else { b"j" });
                remark.push(path);
            }
            Examined::Machine(number) => {
                remark.push(b"a");
                remark.push(&number.to_le_bytes());
            }
            Examined::NoProgram => remark.push(b"n"),
            Examined::Empty => remark.push(b"e"),
        }
        remark
    }

    /// What [`Self::remark`] made these bytes of.
    pub(crate) fn read(remark: &'a [u8]) -> Option<Self> {
        let (kind, rest) = remark.split_first()?;
        Some(match kind {
            b'x' => Examined::NoExec,
            b'm' => {
                let mut numbers = [0; 5];
                for (number, bytes) in numbers.iter_mut().zip(rest.as_chunks().0) {
                    *number = u32::from_le_bytes(*bytes);
                }
                Examined::Mode(numbers)
            }
            b'i' => Examined::Interpreter(rest, Errno::ENOENT),
            b'j' => Examined::Interpreter(rest, Errno::EACCES),
            b'a' => Examined::Machine(u16::from_le_bytes(*rest.first_chunk()?)),
            b'n' => Examined::NoProgram,
            b'e' => Examined::Empty,
            _ => return None,
        })
    }
}

/// Why a file with these first bytes can be executed by no one: it is for another machine, say.
#[must_use]
pub fn wrong_format(head: &[u8]) -> Option<String> {
    Examined::of(head).map(|examined| examined.to_string())
}

/// A remark about a file that was found in PATH: its path before `reason`. Does not allocate.
pub(crate) fn of_found(path: &CStr, reason: &Remark) -> Remark {
    let mut remark = Remark::default();
    remark.push(b"p");
    remark.push(path.to_bytes_with_nul());
    remark.push(reason.bytes());
    remark
}

/// The path that [`of_found`] put before the rest of a remark, if it did.
pub(crate) fn found(remark: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let Some(rest) = remark.strip_prefix(b"p") else {
        return (None, remark);
    };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    (parts.next(), parts.next().unwrap_or_default())
}

impl fmt::Display for Examined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Examined::NoExec => f.write_str("it is on a file system that is mounted noexec"),
            Examined::Mode([mode, owner, group, uid, gid]) => write!(
                f,
                "its mode is {mode:04o} and its owner {owner}:{group}, so {uid}:{gid} may not \
                 execute it"
            ),
            Examined::Interpreter(path, errno) => {
                // The path comes from the image.
                let text = String::from_utf8_lossy(path);
                // A carriage return is what is most often wrong, and shown.
                let path = one_line(&text.escape_debug().to_string());
                match *errno {
                    Errno::ENOENT => write!(f, "its interpreter {path} is missing")?,
                    _ => write!(f, "its interpreter {path} cannot be executed")?,
                }
                match text.ends_with('\r') {
                    true => f.write_str(" (its lines end as on Windows: convert it by dos2unix)"),
                    false => Ok(()),
                }
            }
            Examined::Machine(number) => {
                let name = |number| MACHINES.iter().find(|(known, _)| *known == number);
                let own = name(MACHINE).map_or("another", |(_, name)| name);
                match name(*number) {
                    Some((_, name)) => write!(f, "it is for {name}, this machine is {own}"),
                    None => write!(f, "it is for machine {number} of elf(5), this is {own}"),
                }
            }
            Examined::NoProgram => {
                f.write_str("it is neither an ELF program nor a script that begins with #!")
            }
            Examined::Empty => f.write_str("it is empty"),
        }
    }
}

/// The path of the interpreter that these first bytes of a file name. Does not allocate.
#[must_use]
pub fn interpreter(head: &[u8]) -> Option<&[u8]> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.get(..SCRIPT_LINE.min(line.len()))?;
        let line = line.split(|byte| *byte == b'\n').next()?;
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        return line.split(blank).find(|word| !word.is_empty());
    }
    let [0x7f, b'E', b'L', b'F', 2, 1, ..] = head else {
        return None;
    };
    let field = |at: usize| head.get(at..)?.first_chunk().copied();
    let number = |at: usize| usize::try_from(u64::from_le_bytes(field(at)?)).ok();
    let short = |at: usize| Some(u16::from_le_bytes(*head.get(at..)?.first_chunk()?));
    // Elf64_Ehdr: e_phoff, e_phentsize, e_phnum. Elf64_Phdr: p_type, p_offset, p_filesz.
    let (first, size, count) = (number(32)?, usize::from(short(54)?), short(56)?);
    (0..usize::from(count)).find_map(|index| {
        let header = first.checked_add(index.checked_mul(size)?)?;
        let kind = u32::from_le_bytes(*head.get(header..)?.first_chunk()?);
        let from = number(header.checked_add(8)?)?;
        let length = number(header.checked_add(32)?)?;
        let text = head.get(from..from.checked_add(length)?)?;
        let path = text.split(|byte| *byte == 0).next()?;
        (kind == PT_INTERP).then_some(path)
    })
}

const PT_INTERP: u32 = 3;

/// `e_machine`, in the byte order of the file.
fn machine(head: &[u8]) -> Option<u16> {
    let bytes = head.get(18..)?.first_chunk()?;
    Some(match head.get(5)? {
        2 => u16::from_be_bytes(*bytes),
        _ => u16::from_le_bytes(*bytes),
    })
}

const MACHINE: u16 = match () {
    () if cfg!(target_arch = "x86_64") => 62,
    () if cfg!(target_arch = "aarch64") => 183,
    () if cfg!(target_arch = "riscv64") => 243,
    () if cfg!(target_arch = "s390x") => 22,
    () if cfg!(target_arch = "powerpc64") => 21,
    () if cfg!(target_arch = "loongarch64") => 258,
    () => 0,
};

/// Machines by their numbers: elf.h.
const MACHINES: [(u16, &str); 9] = [
    (3, "i386"),
    (8, "mips"),
    (21, "ppc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv"),
    (258, "loongarch"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_found_travels() {
        for (found, text) in [
            (
                Examined::NoExec,
                "it is on a file system that is mounted noexec",
            ),
            (
                Examined::Mode([0o644, 0, 0, 1000, 1000]),
                "its mode is 0644 and its owner 0:0, so 1000:1000 may not execute it",
            ),
            (
                Examined::Interpreter(b"/bin/sh\r", Errno::ENOENT),
                "its interpreter /bin/sh\\r is missing (its lines end as on Windows: convert it by \
                 dos2unix)",
            ),
            (
                Examined::Interpreter(b"/lib/sh", Errno::EACCES),
                "its interpreter /lib/sh cannot be executed",
            ),
            (
                Examined::Machine(9999),
                "it is for machine 9999 of elf(5), this is x86_64",
            ),
            (
                Examined::NoProgram,
                "it is neither an ELF program nor a script that begins with #!",
            ),
            (Examined::Empty, "it is empty"),
        ] {
            let text = match cfg!(target_arch = "x86_64") {
                true => text.to_owned(),
                false => found.to_string(),
            };
            assert_eq!(found.to_string(), text);
            assert_eq!(Examined::read(found.remark().bytes()), Some(found));
        }
        assert_eq!(Examined::read(b"?"), None);
    }

    #[test]
    fn what_was_found_in_path_travels() {
        let reason = Examined::NoExec.remark();
        let remark = of_found(c"/opt/tool", &reason);
        let (path, rest) = found(remark.bytes());
        assert_eq!((path, rest), (Some(&b"/opt/tool"[..]), reason.bytes()));
        assert_eq!(found(reason.bytes()), (None, reason.bytes()));
        // As much of it as there was room for.
        assert_eq!(found(b"p/opt"), (Some(&b"/opt"[..]), &b""[..]));
    }

    #[test]
    fn interpreters_of_scripts() {
        for (head, expected) in [
            (&b"#!/bin/sh\n"[..], Some("/bin/sh")),
            (b"#! \t/usr/bin/env  python\n", Some("/usr/bin/env")),
            (b"#!/bin/sh\r\n", Some("/bin/sh\r")),
            (b"#!/bin/sh", Some("/bin/sh")),
            (b"#!\n/bin/sh", None),
            (b"echo", None),
        ] {
            assert_eq!(interpreter(head), expected.map(str::as_bytes), "{head:?}");
        }
    }

    #[test]
    fn the_loader_of_this_test() {
        let own = std::fs::read("/proc/self/exe").expect("the test's own file");
        let loader = interpreter(own.get(..HEAD).expect("a page"));
        assert!(
            loader.is_none_or(|path| path.starts_with(b"/lib")),
            "{loader:?}"
        );
        assert_eq!(machine(&own), Some(MACHINE));
        assert_eq!(Examined::of(&own), None);
    }

    proptest! {
        #[test]
        fn hostile_files_are_only_read(head: Vec<u8>, class in 1..3_u8, order in 1..3_u8) {
            let mut program = b"\x7fELF".to_vec();
            program.extend([class, order]);
            program.extend(&head);
            for bytes in [&head, &program] {
                let _ = (interpreter(bytes), Examined::of(bytes), Examined::read(bytes));
            }
        }
    }
}
