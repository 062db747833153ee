//! Sizes and durations, with the syntax of Go's flags.

use std::time::Duration;

/// A size in bytes: `512`, `512m`, `1.5 GiB`. All units are powers of 1024; `-1` is no limit.
pub(crate) fn bytes(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    if text == "-1" {
        return Some(-1);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let letter = unit.strip_suffix('b').unwrap_or(&unit);
    let letter = letter.strip_suffix('i').unwrap_or(letter);
    let power = match letter {
        // "ib" is not a unit.
        "" if unit.contains('i') => return None,
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    i64::try_from(scaled(number, 1024u128.pow(power))?).ok()
}

/// A duration above zero: `5s`, `1m30s`, `1.5h`, `200ms`.
pub(crate) fn duration(text: &[u8]) -> Option<Duration> {
    let mut rest = std::str::from_utf8(text).ok()?;
    let mut nanoseconds = 0u128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let scale = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        nanoseconds = nanoseconds.checked_add(scaled(number, scale)?)?;
        rest = after;
    }
    // The same maximum as Go's durations, about 292 years.
    let nanoseconds = i64::try_from(nanoseconds).ok()?;
    let nanoseconds = u64::try_from(nanoseconds).ok()?;
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
}

/// A decimal number without sign, times `scale`, rounded down.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || number.len() > 18 || fraction.contains('.') {
        return None;
    }
    let parse = |digits: &str| match digits {
        "" => Some(0u128),
        digits => digits.parse().ok(),
    };
    let tenths = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = parse(fraction)?.checked_mul(scale)?.checked_div(tenths)?;
    parse(whole)?.checked_mul(scale)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_bytes() {
        for (text, expected) in [
            ("-1", -1),
            ("0", 0),
            ("1024", 1024),
            ("32b", 32),
            ("4k", 4096),
            ("4Kb", 4096),
            ("4KiB", 4096),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("1.5 GB", 3 << 29),
            ("2T", 2 << 40),
            ("1p", 1 << 50),
            (".5m", 1 << 19),
        ] {
            assert_eq!(bytes(text.as_bytes()), Some(expected), "{text}");
        }
        for text in [
            "",
            "-2",
            "-1m",
            "+1",
            "1x",
            "1mm",
            "m",
            "1  m",
            "1m ",
            "1e3",
            "0x10",
            "1.2.3",
            "1ib",
            "9000000p",
            "99999999999999999999",
            "1,5g",
        ] {
            assert_eq!(bytes(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(bytes(b"1\xff"), None);
    }

    #[test]
    fn lengths_of_time() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("1m", 60_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("200ms", 200),
            (".5s", 500),
            ("1h2m3s4ms", 3_723_004),
            ("1000us", 1),
            ("1000000ns", 1),
        ] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(duration(text.as_bytes()), Some(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "5",
            "s",
            "-1s",
            "5 s",
            "1x",
            "0s",
            "1s-",
            "1.2.3s",
            "0.1ns",
            "9999999999h",
        ] {
            assert_eq!(duration(text.as_bytes()), None, "{text:?}");
        }
    }
}
