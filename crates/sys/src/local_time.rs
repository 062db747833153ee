//! The time of day where the machine is.

/// A time in the machine's time zone, to the minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Such as 2026.
    pub year: i32,
    /// From 1.
    pub month: i32,
    /// Of the month, from 1.
    pub day: i32,
    /// From 0.
    pub hour: i32,
    /// From 0.
    pub minute: i32,
}

/// `struct tm *localtime_r(const time_t *timep, struct tm *result)`, localtime_r(3), for a time in
/// seconds since 1970. `None` if the year has no number.
///
/// The C library reads `TZ` or `/etc/localtime`, allocates and takes a lock of its own: this is for
/// the runtime, and not for the child between clone and exec.
#[must_use]
pub fn local_time(seconds: i64) -> Option<LocalTime> {
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are of values that outlive the call: the first is read, and a whole
    // `tm` is written to the second.
    let written = unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
    if written.is_null() {
        return None;
    }
    // SAFETY: a `tm` has numbers and a pointer that may be null, so zeroes are one already.
    let parts = unsafe { parts.assume_init() };
    Some(LocalTime {
        year: parts.tm_year.checked_add(1900)?,
        month: parts.tm_mon + 1,
        day: parts.tm_mday,
        hour: parts.tm_hour,
        minute: parts.tm_min,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_without_a_number_is_refused() {
        assert_eq!(local_time(i64::MAX), None);
    }

    #[test]
    fn days_follow_one_another() {
        // Whatever the time zone is, noon in UTC is the 14th, 15th or 16th of November.
        let noon = local_time(1_700_049_600).unwrap();
        assert_eq!((noon.year, noon.month), (2023, 11));
        assert!((14..=16).contains(&noon.day), "{noon:?}");
        let next = local_time(1_700_049_600 + 86_400).unwrap();
        assert_eq!(next.day, noon.day + 1);
    }
}
