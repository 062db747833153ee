//! Parsers of the kernel's formats.

use std::collections::BTreeMap;

use crate::statistics::{Pressure, Stalls};

/// The number in a file: `max` is the largest; other text is zero.
pub(super) fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        // Some v1 files read -1 for no limit.
        "-1" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

/// Lines of `key number`.
pub(super) fn keyed(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// A list such as `0-2,7`.
pub(super) fn list(text: &str) -> Vec<u16> {
    let ranges = coracle_text::number_ranges(text.trim()).unwrap_or_default();
    let number = |number| u16::try_from(number).ok();
    let ranges = ranges
        .into_iter()
        .filter_map(|(first, last)| Some(number(first)?..=number(last)?));
    ranges.flatten().collect()
}

/// Pressure stall information.
pub(super) fn pressure(text: &str) -> Pressure {
    let stalls = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let mut stalls = Stalls::default();
        for field in line.unwrap_or_default().split_whitespace() {
            match field.split_once('=') {
                Some(("avg10", value)) => stalls.avg10 = percent(value),
                Some(("avg60", value)) => stalls.avg60 = percent(value),
                Some(("avg300", value)) => stalls.avg300 = percent(value),
                Some(("total", value)) => stalls.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        stalls
    };
    Pressure {
        some: stalls("some "),
        full: stalls("full "),
    }
}

/// `12.34`: the kernel prints two places, of a value up to 100.
fn percent(text: &str) -> f64 {
    let (whole, hundredths) = text.split_once('.').unwrap_or((text, "0"));
    let number = |digits: &str| u32::from(digits.parse::<u16>().unwrap_or(0));
    // One division gives the float nearest to the decimal number.
    f64::from(number(whole) * 100 + number(hundredths)) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(
            (number("7\n"), number("max\n"), number("x")),
            (7, u64::MAX, 0)
        );
        assert_eq!(
            ["12.34", "0.07", "100.00", "x"].map(percent),
            [12.34, 0.07, 100.0, 0.0]
        );
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(list("\n"), Vec::<u16>::new());
        let keyed = keyed("a 1\nb x\nc 3 4\nd 5\n");
        assert_eq!(
            keyed,
            BTreeMap::from([("a".to_owned(), 1), ("d".to_owned(), 5)])
        );
    }
}
