//! Values of files as properties of the unit: systemd.resource-control(5).
//!
//! systemd writes the files of its units itself, whenever it likes: at a daemon-reload above all.
//! So it is told all that it understands. What it doesn't know, it leaves alone.

use coracle_dbus::{Kind, Value};

use crate::plan::Write;
use crate::plan::write::Absent;

/// One property of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// `MemoryMax`.
    pub name: String,
    /// Of the type that systemd has for it.
    pub value: Value,
    /// JSON path of what asks for it; empty if nothing does.
    pub source: String,
}

/// systemd's word for "no limit".
const INFINITY: u64 = u64::MAX;
const SECOND_USEC: u128 = 1_000_000;
/// systemd counts in whole percents of a CPU.
const PERCENT_USEC: u128 = 10_000;
const PERIOD_DEFAULT_USEC: u64 = 100_000;
const WEIGHT_DEFAULT: u64 = 100;

/// Releases that brought a property or a value of it.
const CPU_PERIOD_SINCE: u32 = 242;
const CPUSET_SINCE: u32 = 244;
const CPU_IDLE_SINCE: u32 = 252;
const OOM_POLICY_SINCE: u32 = 253;

/// Properties that stand for one number in a file.
const NUMBERS: [(&str, &str); 12] = [
    ("memory.max", "MemoryMax"),
    ("memory.high", "MemoryHigh"),
    ("memory.low", "MemoryLow"),
    ("memory.min", "MemoryMin"),
    ("memory.swap.max", "MemorySwapMax"),
    ("pids.max", "TasksMax"),
    ("cpu.weight", "CPUWeight"),
    ("io.weight", "IOWeight"),
    ("memory.limit_in_bytes", "MemoryLimit"),
    ("cpu.shares", "CPUShares"),
    ("blkio.weight", "BlockIOWeight"),
    ("blkio.bfq.weight", "BlockIOWeight"),
];

/// Keys of io.max.
const THROTTLES: [(&str, &str); 4] = [
    ("rbps", "IOReadBandwidthMax"),
    ("wbps", "IOWriteBandwidthMax"),
    ("riops", "IOReadIOPSMax"),
    ("wiops", "IOWriteIOPSMax"),
];

/// When the unit is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// At its making.
    Start,
    /// While it runs, which some properties do not allow.
    Later,
}

/// Properties that say what `writes` say, as far as systemd of this version has words for it.
pub(crate) fn properties(writes: &[Write], version: u32, moment: Moment) -> Vec<Property> {
    let mut list = List::default();
    for write in writes {
        for write in alternatives(write) {
            list.hear(write, version, moment);
        }
    }
    list.quota_of_v1(writes, version);
    list.properties
}

/// Makes every CPU quota what systemd will make of it: a whole percent of a CPU, rounded up.
pub(crate) fn round_quotas(writes: &mut [Write]) {
    let period = period_of_v1(writes);
    for write in writes {
        let rounded = match write.file.as_str() {
            "cpu.max" => Bandwidth::parse(&write.value).map(Bandwidth::rounded),
            "cpu.cfs_quota_us" => write.value.parse().ok().map(|quota| {
                let bandwidth = Bandwidth {
                    quota: Some(quota),
                    period: Some(period),
                };
                let quota = bandwidth.rounded().quota;
                Bandwidth {
                    quota,
                    period: None,
                }
            }),
            _ => None,
        };
        if let Some(rounded) = rounded {
            write.value = rounded.text();
        }
    }
}

/// The write and what may take its place.
fn alternatives(write: &Write) -> Vec<&Write> {
    let mut all = vec![write];
    let mut last = write;
    while let Absent::Instead(other) = &last.absent {
        all.push(other);
        last = other;
    }
    all
}

/// Each name once, the last value winning; lists grow.
#[derive(Default)]
struct List {
    properties: Vec<Property>,
}

impl List {
    fn set(&mut self, name: &str, value: Value, source: &str) {
        self.properties.retain(|property| property.name != name);
        self.properties.push(Property {
            name: name.to_owned(),
            value,
            source: source.to_owned(),
        });
    }

    /// One more device, or a new value for it.
    fn add_device(&mut self, name: &str, (device, number): (&str, u64), source: &str) {
        let path = Value::Text(format!("/dev/block/{device}"));
        let entry = Value::Struct(vec![path, Value::U64(number)]);
        let kind = entry.kind();
        let is_there = |property: &&mut Property| property.name == name;
        match self.properties.iter_mut().find(is_there) {
            Some(Property {
                value: Value::Array(_, entries),
                ..
            }) => entries.push(entry),
            _ => self.set(name, Value::Array(kind, vec![entry]), source),
        }
    }

    fn hear(&mut self, write: &Write, version: u32, moment: Moment) {
        let (file, text, source) = (write.file.as_str(), write.value.trim(), &*write.source);
        let known = NUMBERS.iter().find(|(name, _)| *name == file);
        match (file, known) {
            ("io.weight", _) if text.contains(':') => {
                if let Some(pair) = device_number(text) {
                    self.add_device("IODeviceWeight", pair, source);
                }
            }
            (_, Some((_, name))) => {
                // Of what the kernel will refuse it can tell more itself.
                let number = amount(text.trim_start_matches("default "));
                if let Some(number) = number.filter(|number| is_sensible(name, *number)) {
                    self.set(name, Value::U64(number), source);
                }
            }
            ("cpu.idle", _) if text == "1" && version >= CPU_IDLE_SINCE => {
                self.set("CPUWeight", Value::U64(0), source);
            }
            // Its weight is the default again then.
            ("cpu.idle", _) if text == "0" && moment == Moment::Later => {
                self.set("CPUWeight", Value::U64(WEIGHT_DEFAULT), source);
            }
            ("cpu.max", _) => {
                if let Some(bandwidth) = Bandwidth::parse(text) {
                    self.quota(bandwidth, version, source);
                }
            }
            ("cpuset.cpus", _) => self.mask("AllowedCPUs", text, (version, source)),
            ("cpuset.mems", _) => self.mask("AllowedMemoryNodes", text, (version, source)),
            ("io.max", _) => self.throttle(text, source),
            ("memory.oom.group", _) if version >= OOM_POLICY_SINCE && moment == Moment::Start => {
                let policy = if text == "1" { "kill" } else { "continue" };
                self.set("OOMPolicy", policy.into(), source);
            }
            _ => {}
        }
    }

    fn quota(&mut self, bandwidth: Bandwidth, version: u32, source: &str) {
        let quota = Value::U64(bandwidth.per_second());
        self.set("CPUQuotaPerSecUSec", quota, source);
        if let Some(period) = bandwidth.period.filter(|_| version >= CPU_PERIOD_SINCE) {
            self.set("CPUQuotaPeriodUSec", Value::U64(period), source);
        }
    }

    /// Two files there, one statement here.
    fn quota_of_v1(&mut self, writes: &[Write], version: u32) {
        let Some(write) = writes.iter().find(|write| write.file == "cpu.cfs_quota_us") else {
            return;
        };
        let bandwidth = Bandwidth {
            quota: write.value.parse().ok(),
            period: Some(period_of_v1(writes)),
        };
        self.quota(bandwidth, version, &write.source);
    }

    fn mask(&mut self, name: &str, list: &str, (version, source): (u32, &str)) {
        if version < CPUSET_SINCE {
            return;
        }
        if let Some(bytes) = bit_mask(list) {
            let bytes = bytes.into_iter().map(Value::Byte).collect();
            self.set(name, Value::Array(Kind::Byte, bytes), source);
        }
    }

    /// `8:0 rbps=1048576 wiops=max`.
    fn throttle(&mut self, line: &str, source: &str) {
        let mut words = line.split_whitespace();
        let Some(device) = words.next().filter(|device| is_device(device)) else {
            return;
        };
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            let known = THROTTLES.iter().find(|(name, _)| *name == key);
            if let (Some((_, name)), Some(number)) = (known, amount(value)) {
                self.add_device(name, (device, number), source);
            }
        }
    }
}

/// systemd refuses other numbers, and takes a weight of zero for an idle group.
fn is_sensible(name: &str, number: u64) -> bool {
    match name {
        "CPUWeight" | "IOWeight" => (1..=10_000).contains(&number),
        "TasksMax" => number > 0,
        _ => true,
    }
}

/// A quota of CPU time in microseconds for each period; no quota is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bandwidth {
    quota: Option<u64>,
    period: Option<u64>,
}

impl Bandwidth {
    /// `max`, `50000 100000`.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let quota = match words.next()? {
            "max" => None,
            quota => Some(quota.parse().ok()?),
        };
        let period = words.next().map(str::parse).transpose().ok()?;
        (words.next().is_none() && period != Some(0)).then_some(Self { quota, period })
    }

    /// Microseconds of CPU time a second, a whole percent.
    fn per_second(self) -> u64 {
        let Some(quota) = self.quota else {
            return INFINITY;
        };
        let period = self.period.unwrap_or(PERIOD_DEFAULT_USEC).max(1);
        let exact = (u128::from(quota) * SECOND_USEC).div_ceil(u128::from(period));
        let rounded = exact.next_multiple_of(PERCENT_USEC);
        u64::try_from(rounded).unwrap_or(INFINITY)
    }

    fn rounded(self) -> Self {
        let period = self.period.unwrap_or(PERIOD_DEFAULT_USEC);
        let rounded = u128::from(self.per_second()) * u128::from(period) / SECOND_USEC;
        Self {
            quota: self.quota.and(u64::try_from(rounded).ok()),
            period: self.period,
        }
    }

    fn text(self) -> String {
        let quota = self
            .quota
            .map_or("max".to_owned(), |quota| quota.to_string());
        match self.period {
            Some(period) => format!("{quota} {period}"),
            None => quota,
        }
    }
}

fn period_of_v1(writes: &[Write]) -> u64 {
    let mut periods = writes
        .iter()
        .filter(|write| write.file == "cpu.cfs_period_us");
    let given = periods.next().and_then(|write| write.value.parse().ok());
    given.unwrap_or(PERIOD_DEFAULT_USEC)
}

/// A number as the kernel's files take it: `max`, `-1`, `512M`.
fn amount(text: &str) -> Option<u64> {
    if matches!(text, "max" | "-1") {
        return Some(INFINITY);
    }
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (text.get(..text.len() - 1)?, 10),
        b'M' => (text.get(..text.len() - 1)?, 20),
        b'G' => (text.get(..text.len() - 1)?, 30),
        b'T' => (text.get(..text.len() - 1)?, 40),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `8:0 100`.
fn device_number(line: &str) -> Option<(&str, u64)> {
    let (device, number) = line.split_once(' ')?;
    is_device(device).then_some((device, amount(number.trim())?))
}

fn is_device(text: &str) -> bool {
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    text.split_once(':')
        .is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

/// `0-2,7` as bytes, bit 0 of the first one being number 0; `None` for what is no such list.
fn bit_mask(list: &str) -> Option<Vec<u8>> {
    /// Above the kernel's largest `NR_CPUS`.
    const LAST_MAX: usize = 65_535;
    let mut bytes = Vec::new();
    for range in list
        .split(',')
        .map(str::trim)
        .filter(|range| !range.is_empty())
    {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (
            first.trim().parse().ok()?,
            last.trim().parse::<usize>().ok()?,
        );
        if first > last || last > LAST_MAX {
            return None;
        }
        for number in first..=last {
            let byte: usize = number / 8;
            if bytes.len() <= byte {
                bytes.resize(byte + 1, 0u8);
            }
            if let Some(byte) = bytes.get_mut(byte) {
                *byte |= 1 << (number % 8);
            }
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(list: &[Property]) -> String {
        let one = |property: &Property| format!("{}={}", property.name, property.value);
        list.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn check(version: u32, writes: &[(&str, &str)]) -> String {
        let write = |(file, value): &(&str, &str)| Write::new(*file, value, "x");
        let mut writes: Vec<Write> = writes.iter().map(write).collect();
        round_quotas(&mut writes);
        text(&properties(&writes, version, Moment::Start))
    }

    #[test]
    fn numbers() {
        let writes = [
            ("memory.max", "67108864"),
            ("memory.swap.max", "max"),
            ("memory.low", "1M"),
            ("pids.max", "7"),
            ("cpu.weight", "59"),
            ("io.weight", "default 300"),
            ("hugetlb.2MB.max", "0"),
        ];
        assert_eq!(
            check(257, &writes),
            "MemoryMax=67108864 MemorySwapMax=infinity MemoryLow=1048576 TasksMax=7 CPUWeight=59 \
             IOWeight=300"
        );
        assert_eq!(check(257, &[("memory.max", "lots")]), "");
        for refused in [
            ("cpu.weight", "0"),
            ("io.weight", "10001"),
            ("pids.max", "0"),
        ] {
            assert_eq!(check(257, &[refused]), "");
        }
        let twice = [("memory.max", "1"), ("memory.max", "2")];
        assert_eq!(check(257, &twice), "MemoryMax=2");
    }

    #[test]
    fn what_a_version_does_not_know_is_left_out() {
        let writes = [
            ("cpu.idle", "1"),
            ("cpuset.cpus", "0-2,9"),
            ("cpuset.mems", "0"),
            ("memory.oom.group", "1"),
            ("cpu.max", "max 50000"),
        ];
        assert_eq!(
            check(253, &writes),
            "CPUWeight=0 AllowedCPUs=[7, 2] AllowedMemoryNodes=[1] OOMPolicy='kill' \
             CPUQuotaPerSecUSec=infinity CPUQuotaPeriodUSec=50000"
        );
        assert_eq!(check(241, &writes), "CPUQuotaPerSecUSec=infinity");
        let write = Write::new("memory.oom.group", 1, "x");
        assert!(properties(&[write], 257, Moment::Later).is_empty());
        let write = [Write::new("cpu.idle", 0, "x")];
        assert!(properties(&write, 257, Moment::Start).is_empty());
        let list = properties(&write, 257, Moment::Later);
        assert_eq!(text(&list), "CPUWeight=100");
    }

    #[test]
    fn quotas_are_rounded_up_to_a_percent_in_the_file_too() {
        let cases = [
            ("50000 100000", "50000 100000", "500000"),
            ("12345 100000", "13000 100000", "130000"),
            ("12345", "13000", "130000"),
            ("1 1000000", "10000 1000000", "10000"),
            ("max", "max", "infinity"),
        ];
        for (asked, file, property) in cases {
            let mut writes = [Write::new("cpu.max", asked, "x")];
            round_quotas(&mut writes);
            assert_eq!(writes[0].value, file);
            let list = properties(&writes, 241, Moment::Start);
            assert_eq!(text(&list), format!("CPUQuotaPerSecUSec={property}"));
        }
        let v1 = [
            ("cpu.cfs_period_us", "50000"),
            ("cpu.cfs_quota_us", "12345"),
        ];
        assert_eq!(
            check(257, &v1),
            "CPUQuotaPerSecUSec=250000 CPUQuotaPeriodUSec=50000"
        );
        let v1 = [("cpu.cfs_quota_us", "-1")];
        assert_eq!(
            check(257, &v1),
            "CPUQuotaPerSecUSec=infinity CPUQuotaPeriodUSec=100000"
        );
    }

    #[test]
    fn devices_are_collected() {
        let writes = [
            ("io.max", "8:0 rbps=600 wiops=max"),
            ("io.max", "8:16 rbps=700"),
            ("io.weight", "8:0 50"),
            ("io.max", "x rbps=1"),
        ];
        assert_eq!(
            check(257, &writes),
            "IOReadBandwidthMax=[('/dev/block/8:0', 600), ('/dev/block/8:16', 700)] \
             IOWriteIOPSMax=[('/dev/block/8:0', infinity)] \
             IODeviceWeight=[('/dev/block/8:0', 50)]"
        );
    }

    #[test]
    fn the_other_name_of_a_file_counts() {
        let other = Write::new("io.weight", 4950, "x");
        let writes = [Write::new("io.bfq.weight", 500, "x").or(other)];
        assert_eq!(
            text(&properties(&writes, 257, Moment::Start)),
            "IOWeight=4950"
        );
    }

    #[test]
    fn masks() {
        assert_eq!(bit_mask("0"), Some(vec![1]));
        assert_eq!(bit_mask("1,3-4, 15\n"), Some(vec![0b11010, 0x80]));
        for list in ["", "a", "3-1", "-1", "0-99999999"] {
            assert_eq!(bit_mask(list), None, "{list}");
        }
    }

    proptest! {
        #[test]
        fn a_rounded_quota_is_not_below_and_stays(
            quota in 1u64..1 << 50, period in 1000u64..=1_000_000,
        ) {
            let asked = Bandwidth { quota: Some(quota), period: Some(period) };
            let rounded = asked.rounded();
            prop_assert!(rounded.quota.unwrap() >= quota);
            prop_assert_eq!(rounded.per_second() % 10_000, 0);
            prop_assert_eq!(rounded.per_second(), asked.per_second());
        }
    }
}
