//! Numbers as people read them; programs get them exact, in JSON.

use std::time::Duration;

use coracle_container::Ending;

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// `512 B`, `1.5 GiB`: powers of 1024, with three digits at most.
pub(crate) fn size(bytes: u64) -> String {
    let mut units = UNITS.into_iter();
    // In tenths of the unit, so that nothing is rounded to a number that is too high.
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, "B");
    while tenths >= 10_240
        && let Some(next) = units.next()
    {
        tenths /= 1024;
        unit = next;
    }
    match tenths {
        _ if unit == "B" => format!("{bytes} B"),
        0..100 => format!("{}.{} {unit}", tenths / 10, tenths % 10),
        _ => format!("{} {unit}", tenths / 10),
    }
}

/// `3 seconds`, `1 minute`, `5 days`: whole ones of the largest unit that fits.
pub(crate) fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let mut fitting = units.into_iter().filter(|(length, _)| seconds >= *length);
    let (length, unit) = fitting.next().unwrap_or((1, "second"));
    let count = seconds / length;
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// `exit code 3`, or `SIGKILL, out of memory`.
pub(crate) fn ending(ending: &Ending) -> String {
    let mut text = match &ending.signal {
        Some(signal) => signal.clone(),
        None => format!("exit code {}", ending.exit_code),
    };
    if ending.oom_killed {
        text.push_str(", out of memory");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10_240, "10 KiB"),
            (1_048_575, "1023 KiB"),
            (1_048_576, "1.0 MiB"),
            (1_610_612_736, "1.5 GiB"),
            (u64::MAX, "15 EiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn ages() {
        for (seconds, expected) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (7_199, "1 hour"),
            (7_200, "2 hours"),
            (400 * 86_400, "400 days"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), expected);
        }
    }
}
