//! Makes `src/plan/syscalls.tbl` from the kernel's own headers.
//!
//! The headers are taken from where they are packaged for all machines at once: the sources of the
//! crate linux-raw-sys, which cargo has fetched for this workspace already.
//!
//! ```text
//! cargo run -p coracle-seccomp --example generate_table -- \
//!     ~/.cargo/registry/src/*/linux-raw-sys-*/src > crates/seccomp/src/plan/syscalls.tbl
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// In the order of the table's columns: the name there, and that of the headers' directory.
const MACHINES: [(&str, &str); 9] = [
    ("x86_64", "x86_64"),
    ("x32", "x32"),
    ("x86", "x86"),
    ("aarch64", "aarch64"),
    ("arm", "arm"),
    ("riscv64", "riscv64"),
    ("loongarch64", "loongarch64"),
    ("ppc64le", "powerpc64"),
    ("s390x", "s390x"),
];

/// Marks the numbers of x32; the table has them without.
const X32_BIT: u32 = 0x4000_0000;

/// No system calls, though their macros look like some.
const NO_CALLS: [&str; 4] = ["SYSCALL_BASE", "SYSCALL_MASK", "OABI_SYSCALL_BASE", "Linux"];
/// With a number behind: places in a table that no call has.
const PLACEHOLDERS: [&str; 2] = ["reserved", "unused"];

/// `#define __NR_sync_file_range2 __NR_arm_sync_file_range` of arm's asm/unistd.h: a second name,
/// which no longer shows once the macros are numbers.
const ALIASES: [(&str, &str); 1] = [("arm_sync_file_range", "sync_file_range2")];

fn main() -> Result<(), Box<dyn Error>> {
    let sources = PathBuf::from(std::env::args_os().nth(1).ok_or("which directory?")?);
    let mut table: BTreeMap<String, [Option<u32>; MACHINES.len()]> = BTreeMap::new();
    let mut version = String::new();
    for (column, (_, machine)) in MACHINES.iter().enumerate() {
        let text = std::fs::read_to_string(sources.join(machine).join("general.rs"))?;
        version = kernel(&text).ok_or("no kernel version")?;
        for (name, number) in calls(&text) {
            let alias = ALIASES.iter().find(|(known, _)| *known == name);
            for name in [Some(name), alias.map(|(_, alias)| *alias)]
                .into_iter()
                .flatten()
            {
                let numbers = table.entry(name.to_owned()).or_default();
                if let Some(place) = numbers.get_mut(column) {
                    *place = Some(number);
                }
            }
        }
    }
    // A name that other machines alone have is a line without numbers: it is no unknown name.
    for directory in std::fs::read_dir(&sources)? {
        let general = directory?.path().join("general.rs");
        if let Ok(text) = std::fs::read_to_string(general) {
            for (name, _) in calls(&text) {
                table.entry(name.to_owned()).or_default();
            }
        }
    }
    print(&table, &version, &sources)
}

/// `pub const __NR_read: u32 = 0;` and, of arm, `pub const __ARM_NR_set_tls: u32 = 983045;`.
fn calls(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.lines().filter_map(|line| {
        let rest = line.strip_prefix("pub const __")?;
        let rest = rest.strip_prefix("NR_").or(rest.strip_prefix("ARM_NR_"))?;
        let (name, value) = rest.split_once(": u32 = ")?;
        let is_numbered = |stem: &str| {
            let rest = name.strip_prefix(stem);
            rest.is_some_and(|rest| rest.parse::<u32>().is_ok())
        };
        if NO_CALLS.contains(&name)
            || name == "BASE"
            || PLACEHOLDERS.iter().any(|stem| is_numbered(stem))
        {
            return None;
        }
        let number: u32 = value.strip_suffix(';')?.parse().ok()?;
        Some((name, number & !X32_BIT))
    })
}

fn kernel(text: &str) -> Option<String> {
    let value = |name: &str| {
        let line = text.lines().find(|line| line.contains(name))?;
        line.split_once("= ")?.1.strip_suffix(';')
    };
    let major = value("LINUX_VERSION_MAJOR:")?;
    Some(format!("{major}.{}", value("LINUX_VERSION_PATCHLEVEL:")?))
}

fn print(
    table: &BTreeMap<String, [Option<u32>; MACHINES.len()]>,
    version: &str,
    sources: &Path,
) -> Result<(), Box<dyn Error>> {
    let package = sources
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "# Linux {version}, from {}, generated {} by examples/generate_table.rs: do not edit.",
        package.display(),
        today()?
    )?;
    writeln!(out, "# name {}", MACHINES.map(|(name, _)| name).join(" "))?;
    for (name, numbers) in table {
        write!(out, "{name}")?;
        for number in numbers {
            match number {
                Some(number) => write!(out, " {number}")?,
                None => write!(out, " -")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Today's date in UTC.
fn today() -> Result<String, Box<dyn Error>> {
    let mut days = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 86_400;
    let mut year = 1970;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    Ok(format!("{year}-{month:02}-{:02}", days + 1))
}
