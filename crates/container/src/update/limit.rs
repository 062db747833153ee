//! The limits that `update` has flags for, and their places in the resources object.

use serde_json::{Map, Value};

/// A limit with a flag of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `blockIO.weight`
    BlkioWeight,
    /// `cpu.period`
    CpuPeriod,
    /// `cpu.quota`
    CpuQuota,
    /// `cpu.burst`
    CpuBurst,
    /// `cpu.shares`
    CpuShare,
    /// `cpu.realtimePeriod`
    CpuRtPeriod,
    /// `cpu.realtimeRuntime`
    CpuRtRuntime,
    /// `cpu.cpus`
    CpusetCpus,
    /// `cpu.mems`
    CpusetMems,
    /// `cpu.idle`
    CpuIdle,
    /// `memory.limit`
    Memory,
    /// `memory.reservation`
    MemoryReservation,
    /// `memory.swap`
    MemorySwap,
    /// `pids.limit`
    PidsLimit,
}

/// How a limit is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number, maybe below zero.
    Signed,
    /// A whole number.
    Unsigned,
    /// Bytes, or -1.
    Bytes,
    /// A list.
    Text,
}

impl Limit {
    /// All, in the order of `--help`.
    pub const ALL: [Self; 14] = [
        Self::Memory,
        Self::MemoryReservation,
        Self::MemorySwap,
        Self::CpuShare,
        Self::CpuPeriod,
        Self::CpuQuota,
        Self::CpuBurst,
        Self::CpuIdle,
        Self::CpuRtPeriod,
        Self::CpuRtRuntime,
        Self::CpusetCpus,
        Self::CpusetMems,
        Self::PidsLimit,
        Self::BlkioWeight,
    ];

    /// The flag's name, without dashes.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::BlkioWeight => "blkio-weight",
            Self::CpuPeriod => "cpu-period",
            Self::CpuQuota => "cpu-quota",
            Self::CpuBurst => "cpu-burst",
            Self::CpuShare => "cpu-share",
            Self::CpuRtPeriod => "cpu-rt-period",
            Self::CpuRtRuntime => "cpu-rt-runtime",
            Self::CpusetCpus => "cpuset-cpus",
            Self::CpusetMems => "cpuset-mems",
            Self::CpuIdle => "cpu-idle",
            Self::Memory => "memory",
            Self::MemoryReservation => "memory-reservation",
            Self::MemorySwap => "memory-swap",
            Self::PidsLimit => "pids-limit",
        }
    }

    /// How its value is written.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::BlkioWeight
            | Self::CpuPeriod
            | Self::CpuBurst
            | Self::CpuShare
            | Self::CpuRtPeriod => Kind::Unsigned,
            Self::CpuQuota | Self::CpuRtRuntime | Self::CpuIdle | Self::PidsLimit => Kind::Signed,
            Self::CpusetCpus | Self::CpusetMems => Kind::Text,
            Self::Memory | Self::MemoryReservation | Self::MemorySwap => Kind::Bytes,
        }
    }

    /// Section and key in the resources object.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::BlkioWeight => ("blockIO", "weight"),
            Self::CpuPeriod => ("cpu", "period"),
            Self::CpuQuota => ("cpu", "quota"),
            Self::CpuBurst => ("cpu", "burst"),
            Self::CpuShare => ("cpu", "shares"),
            Self::CpuRtPeriod => ("cpu", "realtimePeriod"),
            Self::CpuRtRuntime => ("cpu", "realtimeRuntime"),
            Self::CpusetCpus => ("cpu", "cpus"),
            Self::CpusetMems => ("cpu", "mems"),
            Self::CpuIdle => ("cpu", "idle"),
            Self::Memory => ("memory", "limit"),
            Self::MemoryReservation => ("memory", "reservation"),
            Self::MemorySwap => ("memory", "swap"),
            Self::PidsLimit => ("pids", "limit"),
        }
    }

    /// The limit at `resources.SECTION.KEY`.
    pub(super) fn at(path: &str) -> Option<Self> {
        let (section, key) = path.strip_prefix("resources.")?.split_once('.')?;
        Self::ALL
            .into_iter()
            .find(|limit| limit.place() == (section, key))
    }
}

/// The resources object that says the same as the flags.
pub(super) fn object(flags: &[(Limit, String)]) -> Value {
    let mut sections = Map::new();
    for (limit, text) in flags {
        let (section, key) = limit.place();
        let number = serde_json::from_str(text).ok();
        let value = number
            .filter(|_| limit.kind() != Kind::Text)
            .unwrap_or_else(|| Value::String(text.clone()));
        let entry = sections.entry(section).or_insert_with(|| Map::new().into());
        if let Value::Object(entry) = entry {
            entry.insert(key.to_owned(), value);
        }
    }
    Value::Object(sections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flags_become_an_object() {
        let flags = [
            (Limit::Memory, "1048576".to_owned()),
            (Limit::CpusetCpus, "0".to_owned()),
            (Limit::CpuQuota, "-1".to_owned()),
        ];
        assert_eq!(
            object(&flags),
            json!({"memory": {"limit": 1048576}, "cpu": {"cpus": "0", "quota": -1}})
        );
    }

    #[test]
    fn each_limit_is_found_by_its_place() {
        for limit in Limit::ALL {
            let (section, key) = limit.place();
            assert_eq!(
                Limit::at(&format!("resources.{section}.{key}")),
                Some(limit)
            );
        }
        assert_eq!(Limit::at("resources.cpu.other"), None);
    }
}
