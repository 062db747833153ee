//! Timestamps in RFC 3339 format.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-03-21T09:05:07.000000123Z`: UTC, with nanoseconds.
///
/// A time before 1970 is written as 1970.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_from_days(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        since.subsec_nanos()
    )
}

/// This moment, as [`rfc3339`] writes it.
#[must_use]
pub fn now() -> String {
    rfc3339(SystemTime::now())
}

/// The moment so long ago, as [`rfc3339`] writes it.
pub(crate) fn before_now(age: Duration) -> String {
    rfc3339(SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH))
}

/// How long ago a point in time was that [`rfc3339`] wrote; `None` for any other text. A time in
/// the future counts as now, since clocks can be set back.
#[must_use]
pub fn age(time: &str) -> Option<Duration> {
    age_at(time, SystemTime::now())
}

fn age_at(time: &str, now: SystemTime) -> Option<Duration> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<u64>().ok();
    let days = days_from_civil(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    let (hours, minutes, seconds) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let since = Duration::from_secs(days * 86_400 + hours * 3600 + minutes * 60 + seconds);
    time.ends_with('Z')
        .then(|| now.duration_since(UNIX_EPOCH + since).unwrap_or_default())
}

/// The inverse of [`civil_from_days`], for dates since 1970.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted = year - u64::from(month <= 2);
    let (era, year_of_era) = (shifted / 400, shifted % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Year, month and day of the proleptic Gregorian calendar, `days` after 1970-01-01.
///
/// Years are counted from March, so that the leap day is the last day of a year. An era is 400
/// years, or 146,097 days.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let leap_days = day_of_era / 1_460 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days + day_of_era / 36_524) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_points() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000007Z"),
            (951_782_399, "2000-02-28T23:59:59.000000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000000007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000007Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::new(seconds, 7)), text);
        }
    }

    #[test]
    fn ages() {
        let written = UNIX_EPOCH + Duration::new(951_782_399, 7);
        let text = rfc3339(written);
        let later = written + Duration::from_secs(61);
        assert_eq!(age_at(&text, later).unwrap().as_secs(), 61);
        assert_eq!(age_at(&text, UNIX_EPOCH).unwrap().as_secs(), 0);
        for odd in [
            "",
            "2026",
            "0000-00-00T00:00:00Z",
            "2026-01-01T00:00:00+01:00",
            "ü",
        ] {
            assert_eq!(age_at(odd, later), None, "{odd}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil_from_days(0);
        for days in 1..200_000 {
            let next = civil_from_days(days);
            let stepped = match next {
                (y, 1, 1) => (last == (y - 1, 12, 31), true),
                (y, m, 1) => (last.0 == y && last.1 == m - 1, last.2 >= 28),
                (y, m, d) => (last == (y, m, d - 1), d <= 31),
            };
            assert_eq!(stepped, (true, true), "{last:?} then {next:?}");
            let (year, month, day) = next;
            assert_eq!(days_from_civil(year, month, day), Some(days));
            last = next;
        }
    }
}
