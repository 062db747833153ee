//! Annotations `org.systemd.property.NAME`: properties that the engine sets on the unit.

use std::collections::BTreeMap;

use coracle_bundle::annotation::SYSTEMD_PROPERTY as PREFIX;
use coracle_dbus::Value;

use super::gvariant;
use super::property::Property;
use crate::{Error, Result};

/// Only the runtime may set the properties that tie the unit to the container.
const RESERVED: [&str; 3] = ["PIDs", "PIDFDs", "Slice"];
const USEC: u64 = 1_000_000;

/// The properties that annotations set.
pub(super) fn plan(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let requested = annotations.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(PREFIX)?;
        Some((key, name, value))
    });
    requested
        .map(|(key, name, value)| {
            let source = format!("annotations[{key:?}]");
            let refused = |reason: String| Error::config(&source, reason);
            let (name, value) = property(name, value).map_err(refused)?;
            Ok(Property {
                name,
                value,
                source,
            })
        })
        .collect()
}

fn property(name: &str, text: &str) -> std::result::Result<(String, Value), String> {
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err("a property has a name of 3 or more ASCII letters".to_owned());
    }
    if RESERVED.contains(&name) {
        return Err("this property is the runtime's to set".to_owned());
    }
    // The unit files' `TimeoutStopSec=` is `TimeoutStopUSec` on the bus.
    if let Some(stem) = name.strip_suffix("Sec")
        && stem.ends_with(|c: char| c.is_ascii_lowercase())
    {
        let usec = microseconds(text).ok_or_else(|| {
            let most = u64::MAX / USEC;
            format!("{text:?}: not a number of seconds from 0 to {most}")
        })?;
        return Ok((format!("{stem}USec"), Value::U64(usec)));
    }
    let value = gvariant::parse(text).map_err(|reason| format!("{text:?}: {reason}"))?;
    Ok((name.to_owned(), value))
}

/// The microseconds in `7`, `uint64 7` or `1.5` seconds.
fn microseconds(text: &str) -> Option<u64> {
    if let Some((whole, fraction)) = text.trim().split_once('.') {
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let digits = fraction.get(..fraction.len().min(6))?;
        let fraction: u64 = format!("{digits:0<6}")
            .parse()
            .ok()
            .filter(|_| is_digits(fraction))?;
        let whole: u64 = whole.parse().ok().filter(|_| is_digits(whole))?;
        return whole.checked_mul(USEC)?.checked_add(fraction);
    }
    let seconds = match gvariant::parse(text).ok()? {
        Value::Byte(number) => u64::from(number),
        Value::I16(number) => u64::try_from(number).ok()?,
        Value::U16(number) => u64::from(number),
        Value::I32(number) => u64::try_from(number).ok()?,
        Value::U32(number) => u64::from(number),
        Value::I64(number) => u64::try_from(number).ok()?,
        Value::U64(number) => number,
        _ => return None,
    };
    seconds.checked_mul(USEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> String {
        let key = format!("{PREFIX}{name}");
        match plan(&BTreeMap::from([(key, value.to_owned())])) {
            Ok(list) => {
                let one = |p: &Property| format!("{}={} {}", p.name, p.value.kind(), p.value);
                list.iter().map(one).collect()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_engines_set() {
        assert_eq!(check("KillSignal", "15"), "KillSignal=i 15");
        assert_eq!(
            check("TimeoutStopUSec", "uint64 10000000"),
            "TimeoutStopUSec=t 10000000"
        );
        assert_eq!(
            check("CollectMode", "'inactive-or-failed'"),
            "CollectMode=s 'inactive-or-failed'"
        );
        assert_eq!(check("Delegate", "true"), "Delegate=b true");
        let none = plan(&BTreeMap::from([("a.b".to_owned(), "x".to_owned())]));
        assert!(none.unwrap().is_empty());
    }

    #[test]
    fn seconds_become_microseconds() {
        assert_eq!(check("TimeoutStopSec", "7"), "TimeoutStopUSec=t 7000000");
        assert_eq!(check("TimeoutStopSec", "1.5"), "TimeoutStopUSec=t 1500000");
        assert_eq!(
            check("TimeoutStopSec", "uint16 2"),
            "TimeoutStopUSec=t 2000000"
        );
        assert_eq!(check("CPUSec", "1"), "CPUSec=i 1");
    }

    #[test]
    fn refusals_name_the_annotation() {
        let cases = [
            (
                "Ab",
                "1",
                "a property has a name of 3 or more ASCII letters",
            ),
            (
                "A1b",
                "1",
                "a property has a name of 3 or more ASCII letters",
            ),
            (
                "PIDs",
                "[uint32 1]",
                "this property is the runtime's to set",
            ),
            (
                "TimeoutStopSec",
                "-1",
                "\"-1\": not a number of seconds from 0 to 18446744073709",
            ),
            (
                "TimeoutStopSec",
                "'x'",
                "\"'x'\": not a number of seconds from 0 to 18446744073709",
            ),
            ("Foo", "bar", "\"bar\": expected a value"),
        ];
        for (name, value, reason) in cases {
            let expected = format!("config.json: annotations[\"{PREFIX}{name}\"]: {reason}");
            assert_eq!(check(name, value), expected);
        }
    }
}
