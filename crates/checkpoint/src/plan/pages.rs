//! Computes the sizes that files of pages must have. criu loops forever if one is too short.

use super::wire::{Malformed, read};

/// Magic numbers of all images, of a process tree, and of a map of pages: criu/include/magic.h.
const COMMON_MAGIC: u32 = 0x5456_4319;
const PSTREE_MAGIC: u32 = 0x5027_3030;
const PAGEMAP_MAGIC: u32 = 0x5608_4025;
/// `PE_PRESENT` of images/pagemap.proto: the pages are in the file.
const PRESENT: u64 = 4;

/// The pids in a process tree; none if the format is unknown.
pub(crate) fn processes(tree: &[u8]) -> Vec<u64> {
    let entries = entries(tree, PSTREE_MAGIC).unwrap_or_default();
    let pids = entries.into_iter().map(|entry| first(entry).ok()?);
    pids.collect::<Option<_>>().unwrap_or_default()
}

/// The number of the file of pages that a map describes, and how many pages that must have; `None`
/// if the format is unknown, which criu may still know.
pub(crate) fn wanted(map: &[u8]) -> Option<(u64, u64)> {
    let entries = entries(map, PAGEMAP_MAGIC)?;
    let (head, runs) = entries.split_first()?;
    let mut pages = 0_u64;
    for run in runs {
        pages = pages.checked_add(present(run).ok()?)?;
    }
    Some((first(head).ok()??, pages))
}

/// Splits an image into its messages, each of which follows its length.
fn entries(image: &[u8], magic: u32) -> Option<Vec<&[u8]>> {
    let mut rest = number(number(image, COMMON_MAGIC)?, magic)?;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (entry, after) = after.split_at_checked(length)?;
        all.push(entry);
        rest = after;
    }
    Some(all)
}

fn number(bytes: &[u8], expected: u32) -> Option<&[u8]> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*magic) == expected).then_some(rest)
}

/// The first field of `pagemap_head` and of `pstree_entry`.
fn first(entry: &[u8]) -> Result<Option<u64>, Malformed> {
    let mut file = None;
    read(entry, |field, value| {
        if field == 1 {
            file = Some(value.number()?);
        }
        Ok(())
    })?;
    Ok(file)
}

/// The number of pages in a `pagemap_entry`. The newer of two fields for the count takes
/// precedence.
fn present(entry: &[u8]) -> Result<u64, Malformed> {
    let (mut older, mut newer, mut flags) = (0, None, 0);
    read(entry, |field, value| {
        match field {
            2 => older = value.number()?,
            4 => flags = value.number()?,
            5 => newer = Some(value.number()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(match flags & PRESENT {
        0 => 0,
        _ => newer.unwrap_or(older),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::wire::Writer;

    fn map(entries: &[Writer]) -> Vec<u8> {
        let mut bytes = [COMMON_MAGIC.to_le_bytes(), PAGEMAP_MAGIC.to_le_bytes()].concat();
        for entry in entries {
            let entry = entry.clone().into_bytes();
            bytes.extend(u32::try_from(entry.len()).unwrap().to_le_bytes());
            bytes.extend(entry);
        }
        bytes
    }

    fn entry(fields: &[(u32, u64)]) -> Writer {
        let mut writer = Writer::default();
        for (field, value) in fields {
            writer.number(*field, *value);
        }
        writer
    }

    #[test]
    fn the_pages_of_a_file_are_counted() {
        let whole = map(&[
            entry(&[(1, 7)]),
            entry(&[(1, 4096), (2, 3), (4, 4)]),
            // Of a parent, lazy and elsewhere, and by the newer field.
            entry(&[(1, 4096), (2, 9), (3, 1), (4, 1)]),
            entry(&[(1, 4096), (2, 9), (4, 2)]),
            entry(&[(1, 4096), (2, 0), (4, 6), (5, 2)]),
        ]);
        assert_eq!(wanted(&whole), Some((7, 5)));
        for cut in [0, 5, 9, whole.len() - 1] {
            assert_eq!(wanted(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(wanted(&map(&[entry(&[(2, 7)])])), None);
        assert_eq!(processes(&whole), [0_u64; 0]);
        let magic = [COMMON_MAGIC.to_le_bytes(), PSTREE_MAGIC.to_le_bytes()].concat();
        let tree = [&magic, &b"\x02\0\0\0\x08\x01\x05\0\0\0\x08\x95\x01\x10"[..]].concat();
        assert_eq!(processes(&tree), [0_u64; 0]);
        assert_eq!(processes(&[&tree, &b"\x01"[..]].concat()), [1, 149]);
        let huge = entry(&[(4, 4), (5, u64::MAX)]);
        assert_eq!(wanted(&map(&[entry(&[(1, 1)]), huge.clone(), huge])), None);
    }
}
