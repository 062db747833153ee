//! System calls by name, with their numbers on each architecture, from `syscalls.tbl`.

use super::abi::Abi;

/// Made by `examples/generate_table.rs`: one line for each name, sorted, with one column for each
/// [`Abi`].
const TEXT: &str = include_str!("syscalls.tbl");

/// The table, ready for lookups.
pub(crate) struct Table {
    /// Each name with the text of its columns.
    lines: Vec<(&'static str, &'static str)>,
}

/// The columns of one name.
#[derive(Clone, Copy)]
pub(crate) struct Numbers(&'static str);

impl Table {
    pub(crate) fn new() -> Self {
        let lines = TEXT.lines().filter(|line| !line.starts_with('#'));
        Self {
            lines: lines.filter_map(|line| line.split_once(' ')).collect(),
        }
    }

    /// `None` for a name that no architecture has.
    pub(crate) fn find(&self, name: &str) -> Option<Numbers> {
        let place = self.lines.binary_search_by(|line| line.0.cmp(name)).ok()?;
        self.lines.get(place).map(|line| Numbers(line.1))
    }
}

impl Numbers {
    /// The number in a call of this ABI; `None` if it has no such call.
    pub(crate) fn of(self, abi: Abi) -> Option<u32> {
        let column = self.0.split(' ').nth(abi.column())?;
        Some(column.parse::<u32>().ok()? | abi.number_bit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    #[test]
    fn lines_are_sorted_and_whole() {
        let table = Table::new();
        assert!(table.lines.len() > 480);
        assert!(table.lines.is_sorted_by(|a, b| a.0 < b.0));
        for (name, columns) in &table.lines {
            let columns: Vec<&str> = columns.split(' ').collect();
            assert_eq!(columns.len(), Abi::ALL.len(), "{name}");
            for column in columns {
                assert!(column == "-" || column.parse::<u32>().is_ok(), "{name}");
            }
        }
        let names: Vec<&str> = Abi::ALL.iter().map(|abi| abi.name()).collect();
        assert!(TEXT.contains(&format!("\n# name {}\n", names.join(" "))));
    }

    #[test]
    fn numbers_differ_by_machine() {
        let table = Table::new();
        let numbers = |name| Abi::ALL.map(|abi| table.find(name).and_then(|n| n.of(abi)));
        let x32 = 0x4000_0000;
        assert_eq!(
            numbers("execve"),
            [
                Some(59),
                Some(x32 + 520),
                Some(11),
                Some(221),
                Some(11),
                Some(221),
                Some(221),
                Some(11),
                Some(11)
            ]
        );
        assert_eq!(
            numbers("accept"),
            [
                Some(43),
                Some(x32 + 43),
                None,
                Some(202),
                Some(285),
                Some(202),
                Some(202),
                Some(330),
                None
            ]
        );
        assert_eq!(
            numbers("set_tls").map(|n| n.is_some()),
            [false, false, false, false, true, false, false, false, false]
        );
        assert_eq!(
            numbers("clone3"),
            [435, 435 + x32, 435, 435, 435, 435, 435, 435, 435].map(Some)
        );
        assert!(table.find("no_such_call").is_none() && table.find("").is_none());
    }

    /// The distribution's headers may be older or newer than the table's, but never say otherwise.
    #[test]
    fn installed_headers_agree() {
        let table = Table::new();
        for (abi, file) in [
            (Abi::X86_64, "unistd_64.h"),
            (Abi::X32, "unistd_x32.h"),
            (Abi::X86, "unistd_32.h"),
        ] {
            let path = Path::new("/usr/include/x86_64-linux-gnu/asm").join(file);
            let Ok(text) = std::fs::read_to_string(&path) else {
                eprintln!("skipped: {} is not installed", path.display());
                continue;
            };
            let listed = definitions(&text);
            assert!(listed.len() > 300, "{file}");
            for (name, number) in listed {
                if let Some(numbers) = table.find(name) {
                    assert_eq!(
                        numbers.of(abi),
                        Some(number | abi.number_bit()),
                        "{file}: {name}"
                    );
                }
            }
        }
    }

    fn definitions(text: &str) -> BTreeMap<&str, u32> {
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("#define __NR_"));
        lines
            .filter_map(|line| {
                let (name, value) = line.split_once(' ')?;
                let value = value.trim_matches(['(', ')']);
                let value = value.strip_prefix("__X32_SYSCALL_BIT + ").unwrap_or(value);
                Some((name, value.parse().ok()?))
            })
            .collect()
    }
}
