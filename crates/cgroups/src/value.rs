//! Values for files of a cgroup. A value stays a number until it is written.

use coracle_bundle::{Limit, NumberList};

use crate::table::Kind;

/// A value for a file of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A limit, or none.
    Limit(Limit),
    /// CPU time.
    Bandwidth(Bandwidth),
    /// CPUs or memory nodes.
    List(NumberList),
    /// A number for one device.
    Device(Device, u64),
    /// Text: a line that only the kernel reads, or what the caller wrote for a file.
    Text(String),
}

/// A block device by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// A quota of CPU time, in microseconds, for each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// CPU time in a period.
    pub quota: Limit,
    /// The period that is there if absent.
    pub period: Option<u64>,
}

/// systemd counts in whole percents of a CPU.
const PERCENT_USEC: u128 = 10_000;
const SECOND_USEC: u128 = 1_000_000;
/// The kernel's default.
pub(crate) const PERIOD_DEFAULT_USEC: u64 = 100_000;

impl Value {
    /// The text for a file of this kind.
    pub(crate) fn text(&self, kind: Kind) -> String {
        match (self, kind) {
            (Self::Number(number) | Self::Limit(Limit::Amount(number)), _) => number.to_string(),
            (Self::Limit(Limit::Unlimited), Kind::Signed | Kind::Quota) => "-1".to_owned(),
            (Self::Limit(Limit::Unlimited), _) => "max".to_owned(),
            (Self::Bandwidth(Bandwidth { quota, period }), _) => {
                let quota = Self::Limit(*quota).text(Kind::Limit);
                period.map_or(quota.clone(), |period| format!("{quota} {period}"))
            }
            (Self::List(list), _) => list.text.clone(),
            (Self::Device(device, 0), Kind::Throttle(key)) => {
                format!("{} {key}=max", device.text())
            }
            (Self::Device(device, rate), Kind::Throttle(key)) => {
                format!("{} {key}={rate}", device.text())
            }
            (Self::Device(device, number), _) => format!("{} {number}", device.text()),
            (Self::Text(text), _) => text.clone(),
        }
    }

    /// The value that a text is in a file of this kind; `None` if it is none.
    pub(crate) fn read(kind: Kind, text: &str) -> Option<Self> {
        let text = text.trim();
        Some(match kind {
            Kind::Number | Kind::Idle | Kind::KillAll | Kind::Period => {
                Self::Number(text.parse().ok()?)
            }
            Kind::Limit | Kind::Signed | Kind::Quota | Kind::Processes => Self::Limit(limit(text)?),
            Kind::Weight => match text.split_once(' ') {
                Some(("default", weight)) => Self::Limit(limit(weight.trim())?),
                Some((device, weight)) => {
                    Self::Device(Device::read(device)?, amount(limit(weight.trim())?)?)
                }
                None => Self::Limit(limit(text)?),
            },
            Kind::Bandwidth => Self::Bandwidth(Bandwidth::read(text)?),
            Kind::List => Self::List(NumberList::new(text)),
            Kind::Throttle(_) | Kind::Line => Self::Text(text.to_owned()),
        })
    }
}

impl Device {
    /// The numbers as the kernel writes them: `8:0`.
    pub(crate) fn text(self) -> String {
        format!("{}:{}", self.major, self.minor)
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once(':')?;
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

impl Bandwidth {
    /// `max`, `50000 100000`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let quota = match words.next()? {
            "max" => Limit::Unlimited,
            quota => Limit::Amount(quota.parse().ok()?),
        };
        let period = words.next().map(str::parse).transpose().ok()?;
        (words.next().is_none() && period != Some(0)).then_some(Self { quota, period })
    }

    fn period_or_default(self) -> u64 {
        self.period.unwrap_or(PERIOD_DEFAULT_USEC).max(1)
    }

    /// Microseconds of CPU time a second, a whole percent rounded up.
    pub(crate) fn per_second(self) -> Limit {
        let Limit::Amount(quota) = self.quota else {
            return Limit::Unlimited;
        };
        let exact = u128::from(quota) * SECOND_USEC;
        let exact = exact.div_ceil(u128::from(self.period_or_default()));
        let rounded = exact.next_multiple_of(PERCENT_USEC);
        u64::try_from(rounded).map_or(Limit::Unlimited, Limit::Amount)
    }

    /// The same with a quota that is a whole percent of a CPU.
    pub(crate) fn rounded(self) -> Self {
        let quota = match self.per_second() {
            Limit::Unlimited => Limit::Unlimited,
            Limit::Amount(per_second) => {
                let period = u128::from(self.period_or_default());
                let rounded = u128::from(per_second) * period / SECOND_USEC;
                u64::try_from(rounded).map_or(Limit::Unlimited, Limit::Amount)
            }
        };
        Self { quota, ..self }
    }
}

/// A number as the kernel's files take it: `max`, `-1`, `512M`.
pub(crate) fn limit(text: &str) -> Option<Limit> {
    if matches!(text, "max" | "-1") {
        return Some(Limit::Unlimited);
    }
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (text.get(..text.len() - 1)?, 10),
        b'M' => (text.get(..text.len() - 1)?, 20),
        b'G' => (text.get(..text.len() - 1)?, 30),
        b'T' => (text.get(..text.len() - 1)?, 40),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    Some(Limit::Amount(number))
}

/// The number; `None` for no limit.
fn amount(limit: Limit) -> Option<u64> {
    match limit {
        Limit::Unlimited => None,
        Limit::Amount(number) => Some(number),
    }
}

macro_rules! from {
    ($($of:ty => $variant:ident),*) => {
        $(impl From<$of> for Value {
            fn from(value: $of) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

from!(bool => Number, u64 => Number, u32 => Number, u16 => Number, Limit => Limit,
    Bandwidth => Bandwidth, NumberList => List, String => Text, &str => Text);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_by_kind() {
        let none = Value::Limit(Limit::Unlimited);
        assert_eq!(none.text(Kind::Signed), "-1");
        assert_eq!(none.text(Kind::Limit), "max");
        let disk = Device { major: 8, minor: 0 };
        assert_eq!(Value::Device(disk, 5).text(Kind::Number), "8:0 5");
        assert_eq!(
            Value::Device(disk, 5).text(Kind::Throttle("rbps")),
            "8:0 rbps=5"
        );
        assert_eq!(
            Value::Device(disk, 0).text(Kind::Throttle("rbps")),
            "8:0 rbps=max"
        );
    }

    #[test]
    fn texts_are_read() {
        let limit = |number| Some(Value::Limit(Limit::Amount(number)));
        let none = Some(Value::Limit(Limit::Unlimited));
        let disk = Device { major: 8, minor: 0 };
        for (kind, text, expected) in [
            (Kind::Limit, "1M", limit(1 << 20)),
            (Kind::Limit, "max\n", none.clone()),
            (Kind::Signed, "-1", none),
            (Kind::Limit, "lots", None),
            (Kind::Weight, "default 300", limit(300)),
            (Kind::Weight, "8:0 50", Some(Value::Device(disk, 50))),
            (Kind::Weight, "x 50", None),
            (Kind::Idle, "x", None),
            (Kind::Bandwidth, "5 6 7", None),
            (Kind::Bandwidth, "5 0", None),
        ] {
            assert_eq!(Value::read(kind, text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_rounded_quota_is_not_below_and_stays(
            quota in 1u64..1 << 50, period in 1000u64..=1_000_000,
        ) {
            let bandwidth = Bandwidth { quota: Limit::Amount(quota), period: Some(period) };
            let rounded = bandwidth.rounded();
            let Limit::Amount(now) = rounded.quota else { panic!("{rounded:?}") };
            let Limit::Amount(rate) = rounded.per_second() else { panic!("{rounded:?}") };
            prop_assert!(now >= quota);
            prop_assert_eq!(rate % 10_000, 0);
            prop_assert_eq!(rounded.per_second(), bandwidth.per_second());
        }
    }
}
