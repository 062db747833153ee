//! Lists of CPUs and memory nodes in the kernel's format: `0-3,7`.

use crate::error::Shown;
use coracle_text::number_ranges;

/// The largest number of a CPU or memory node. A larger range would fill the runtime's memory.
const MAX_LISTED: u32 = 65_535;

/// Parses a list to its numbers, sorted, each once. The error is the problem, for a message.
pub(crate) fn parse(text: &str) -> Result<Vec<u32>, String> {
    let Some(mut ranges) = number_ranges(text) else {
        let problem = "is not a list of numbers and ranges like 0-3,7";
        return Err(format!("{} {problem}", Shown(text)));
    };
    for (first, last) in &ranges {
        if first > last {
            return Err(format!(
                "{}: the range \"{first}-{last}\" is empty",
                Shown(text)
            ));
        }
        if *last > MAX_LISTED {
            return Err(format!("{last} is above {MAX_LISTED}"));
        }
    }
    // Ranges are merged in order, so that a million overlapping ranges take no more time and memory
    // than their numbers.
    ranges.sort_unstable();
    let mut numbers: Vec<u32> = Vec::new();
    for (first, last) in ranges {
        let next = numbers.last().map_or(0, |number| number.saturating_add(1));
        numbers.extend(first.max(next)..=last);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse("0-3,7").unwrap(), [0, 1, 2, 3, 7]);
        assert_eq!(parse("7,1-2,2").unwrap(), [1, 2, 7]);
        assert_eq!(parse("0-2048").unwrap().len(), 2049);
        for bad in [
            "",
            ",",
            "1,",
            "-1",
            "1-",
            "5-2",
            "+1",
            "0-4294967295",
            "99999999999",
            "1 ",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let many = ["0-65535"; 1000].join(",");
        assert_eq!(parse(&many).unwrap().len(), 65_536);
    }
}
