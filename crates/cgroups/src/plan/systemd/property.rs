//! Values of files as properties of the unit: systemd.resource-control(5).
//!
//! systemd may write the files of its units again at any time, for example at a daemon-reload. So
//! every value for which systemd has a property is also set as one. systemd leaves other files
//! alone.

use coracle_bundle::{Limit, NumberList};
use coracle_dbus::{Kind as Type, Value as Variant};

use crate::plan::write::{Absent, Write};
use crate::table::{IO_DEVICE_WEIGHT_OTHER, Kind, THROTTLES};
use crate::value::{Bandwidth, Device, PERIOD_DEFAULT_USEC, Value, limit};

/// One property of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// `MemoryMax`.
    pub name: String,
    /// Its value, of systemd's type.
    pub value: Variant,
    /// JSON path of the value it comes from; empty if there is none.
    pub source: String,
}

const WEIGHT_DEFAULT: u64 = 100;
/// The release that brought `CPUQuotaPeriodUSec`.
const CPU_PERIOD_SINCE: u32 = 242;

/// When a property is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// When the unit is started.
    Start,
    /// While the unit runs, which some properties do not allow.
    Later,
}

/// The properties for `writes`, as far as this version of systemd has them.
pub(crate) fn properties(writes: &[Write], version: u32, moment: Moment) -> Vec<Property> {
    let mut list = List {
        version,
        moment,
        period: period_of_v1(writes),
        properties: Vec::new(),
    };
    for write in writes {
        for write in alternatives(write) {
            list.translate(write);
        }
    }
    list.properties
}

/// Rounds every CPU quota as systemd does: up to a whole percent of a CPU.
pub(crate) fn round_quotas(writes: &mut [Write]) {
    let period = period_of_v1(writes);
    for write in writes {
        match (write.file.kind, write.meaning()) {
            (_, Some(Value::Bandwidth(bandwidth))) => write.value = bandwidth.rounded().into(),
            (Kind::Quota, Some(Value::Limit(quota))) => {
                write.value = Bandwidth { quota, period }.rounded().quota.into();
            }
            _ => {}
        }
    }
}

/// The write and its alternatives.
fn alternatives(write: &Write) -> Vec<&Write> {
    let mut all = vec![write];
    let mut last = write;
    while let Absent::Instead(other) = &last.absent {
        all.push(other);
        last = other;
    }
    all
}

/// The period beside a quota of v1.
fn period_of_v1(writes: &[Write]) -> Option<u64> {
    let write = writes
        .iter()
        .find(|write| write.file.kind == Kind::Period)?;
    match write.meaning()? {
        Value::Number(period) => Some(period),
        _ => None,
    }
}

/// The properties, each name once: a later value replaces an earlier one, but device lists grow.
struct List {
    version: u32,
    moment: Moment,
    period: Option<u64>,
    properties: Vec<Property>,
}

impl List {
    fn set(&mut self, name: &str, value: Variant, source: &str) {
        self.properties.retain(|property| property.name != name);
        self.properties.push(Property {
            name: name.to_owned(),
            value,
            source: source.to_owned(),
        });
    }

    /// Adds a device to a list.
    fn add_device(&mut self, name: &str, (device, limit): (Device, Limit), source: &str) {
        let path = Variant::Text(format!("/dev/block/{}", device.text()));
        let entry = Variant::Struct(vec![path, number(limit)]);
        let kind = entry.kind();
        let is_there = |property: &&mut Property| property.name == name;
        match self.properties.iter_mut().find(is_there) {
            Some(Property {
                value: Variant::Array(_, entries),
                ..
            }) => entries.push(entry),
            _ => self.set(name, Variant::Array(kind, vec![entry]), source),
        }
    }

    /// An invalid value gets no property: the kernel's refusal is more informative than systemd's.
    fn translate(&mut self, write: &Write) {
        let (Some((name, since)), Some(value)) = (write.file.unit, write.meaning()) else {
            return;
        };
        let (source, is_known) = (&*write.source, self.version >= since);
        match (write.file.kind, value) {
            // When idle ends, the weight is the default again.
            (Kind::Idle, Value::Number(0)) if self.moment == Moment::Later => {
                self.set(name, Variant::U64(WEIGHT_DEFAULT), source);
            }
            (Kind::Idle, Value::Number(1)) if is_known => self.set(name, Variant::U64(0), source),
            (Kind::Idle, _) => {}
            _ if !is_known => {}
            (Kind::KillAll, Value::Number(all)) if self.moment == Moment::Start => {
                let policy = if all == 1 { "kill" } else { "continue" };
                self.set(name, policy.into(), source);
            }
            (Kind::KillAll, _) => {}
            // But not a device line that `unified` has for another kind of weight.
            (Kind::Weight, Value::Device(device, weight)) => {
                let row = &IO_DEVICE_WEIGHT_OTHER.v2;
                if let Some((name, _)) = row.unit.filter(|_| row.name == write.file.name) {
                    self.add_device(name, (device, Limit::Amount(weight)), source);
                }
            }
            (Kind::Throttle(_), Value::Device(device, rate)) => {
                self.add_device(name, (device, rate_limit(rate)), source);
            }
            (Kind::Throttle(_), Value::Text(line)) => self.throttles(&line, source),
            (kind, Value::Number(amount)) => self.amount(name, kind, Limit::Amount(amount), source),
            (Kind::Quota, Value::Limit(quota)) => {
                let period = Some(self.period.unwrap_or(PERIOD_DEFAULT_USEC));
                self.quota(name, Bandwidth { quota, period }, source);
            }
            (kind, Value::Limit(limit)) => self.amount(name, kind, limit, source),
            (_, Value::Bandwidth(bandwidth)) => self.quota(name, bandwidth, source),
            (_, Value::List(list)) => self.mask(name, &list, source),
            (_, Value::Device(..) | Value::Text(_)) => {}
        }
    }

    /// systemd refuses other numbers, and a weight of zero would make the cgroup idle.
    fn amount(&mut self, name: &str, kind: Kind, limit: Limit, source: &str) {
        let is_sensible = match (kind, limit) {
            (Kind::Weight, Limit::Amount(weight)) => (1..=10_000).contains(&weight),
            (Kind::Weight, Limit::Unlimited) => false,
            (Kind::Processes, Limit::Amount(count)) => count > 0,
            _ => true,
        };
        if is_sensible {
            self.set(name, number(limit), source);
        }
    }

    fn quota(&mut self, name: &str, bandwidth: Bandwidth, source: &str) {
        self.set(name, number(bandwidth.per_second()), source);
        let is_known = self.version >= CPU_PERIOD_SINCE;
        if let Some(period) = bandwidth.period.filter(|_| is_known) {
            self.set("CPUQuotaPeriodUSec", Variant::U64(period), source);
        }
    }

    /// A list of numbers as a bit mask in bytes; bit 0 of the first byte is number 0.
    fn mask(&mut self, name: &str, list: &NumberList, source: &str) {
        let mut bytes: Vec<u8> = Vec::new();
        for number in list.numbers.iter().flatten() {
            let index = usize::try_from(number / 8).unwrap_or(usize::MAX);
            if bytes.len() <= index {
                bytes.resize(index.saturating_add(1), 0);
            }
            if let Some(byte) = bytes.get_mut(index) {
                *byte |= 1 << (number % 8);
            }
        }
        if !bytes.is_empty() {
            let bytes = bytes.into_iter().map(Variant::Byte).collect();
            self.set(name, Variant::Array(Type::Byte, bytes), source);
        }
    }

    /// Limits of a device from a line such as `8:0 rbps=1048576 wiops=max`.
    fn throttles(&mut self, line: &str, source: &str) {
        let mut words = line.split_whitespace();
        let Some(device) = words.next().and_then(Device::read) else {
            return;
        };
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            let is_it = |kind| matches!(kind, Kind::Throttle(of) if of == key);
            let row = THROTTLES.iter().find(|row| is_it(row.v2.kind));
            let unit = row.and_then(|row| row.v2.unit);
            if let (Some((name, _)), Some(limit)) = (unit, limit(value)) {
                self.add_device(name, (device, limit), source);
            }
        }
    }
}

/// Zero means no limit.
fn rate_limit(rate: u64) -> Limit {
    match rate {
        0 => Limit::Unlimited,
        rate => Limit::Amount(rate),
    }
}

/// systemd's "no limit" is the largest number.
fn number(limit: Limit) -> Variant {
    Variant::U64(match limit {
        Limit::Unlimited => u64::MAX,
        Limit::Amount(number) => number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Version, find};

    fn text(list: &[Property]) -> String {
        let one = |property: &Property| format!("{}={}", property.name, property.value);
        list.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn check(version: u32, writes: &[(&str, &str)]) -> String {
        let version_1 = ["cpu.cfs_period_us", "cpu.cfs_quota_us"];
        let write = |(name, text): &(&str, &str)| match version_1.contains(name) {
            true => Write {
                name: (*name).to_owned(),
                ..Write::new(find(Version::V1, name), *text, "x")
            },
            false => Write::by_name(name, text, "x"),
        };
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
            ("memory.zswap.max", "1M"),
        ];
        assert_eq!(
            check(253, &writes),
            "CPUWeight=0 AllowedCPUs=[7, 2] AllowedMemoryNodes=[1] OOMPolicy='kill' \
             CPUQuotaPerSecUSec=infinity CPUQuotaPeriodUSec=50000 MemoryZSwapMax=1048576"
        );
        assert_eq!(check(241, &writes), "CPUQuotaPerSecUSec=infinity");
        let write = Write::by_name("memory.oom.group", "1", "x");
        assert!(properties(&[write], 257, Moment::Later).is_empty());
        let write = [Write::by_name("cpu.idle", "0", "x")];
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
        for (requested, file, property) in cases {
            let mut writes = [Write::by_name("cpu.max", requested, "x")];
            round_quotas(&mut writes);
            assert_eq!(writes[0].text(), file);
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
        let other = Write::by_name("io.weight", "4950", "x");
        let writes = [Write::by_name("io.bfq.weight", "500", "x").or(other)];
        assert_eq!(
            text(&properties(&writes, 257, Moment::Start)),
            "IOWeight=4950"
        );
    }
}
