//! `linux.resources.cpu`: cgroup-v1/cpusets.rst, sched-bwc.rst, cgroup-v2.rst § CPU and § Cpuset.

use coracle_bundle::{Cpu, Limit};

use super::write::{Limits, Write, source};
use crate::table::{
    CPU_BURST, CPU_IDLE, CPU_PERIOD, CPU_QUOTA, CPU_RT_PERIOD, CPU_RT_RUNTIME, CPU_SHARES,
    CPUSET_CPUS, CPUSET_MEMS, Version,
};
use crate::value::Bandwidth;
use crate::{Error, Result};

/// The kernel's range of cpu.shares. It clamps other values silently.
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 1 << 18;

/// Values of the controllers cpu and cpuset.
pub(super) fn plan(cpu: &Cpu, limits: &mut Limits) -> Result<()> {
    let version = limits.version(CPU_QUOTA.controller);
    limits.set(&CPU_IDLE, cpu.idle)?;
    // An idle cgroup has no weight, and the kernel refuses one.
    if let Some(shares) = cpu.shares.filter(|_| cpu.idle != Some(true)) {
        limits.set(&CPU_SHARES, Some(shares_or_weight(shares, version)?))?;
    }
    match version {
        Version::V1 => {
            limits.set(&CPU_PERIOD, cpu.period)?;
            limits.set(&CPU_QUOTA, cpu.quota)?;
        }
        Version::V2 => bandwidth(cpu, limits)?,
    }
    if let Some(burst) = cpu.burst {
        // Kernels before 5.14 have no burst, which is what 0 means.
        let adjust = match burst {
            0 => Write::if_there,
            _ => |write| write,
        };
        limits.add(&CPU_BURST, &source(&CPU_BURST), burst.into(), adjust)?;
    }
    limits.set(&CPU_RT_PERIOD, cpu.realtime_period)?;
    limits.set(&CPU_RT_RUNTIME, cpu.realtime_runtime)?;
    limits.set(&CPUSET_CPUS, cpu.cpus.clone())?;
    limits.set(&CPUSET_MEMS, cpu.mems.clone())
}

/// v2 has one file for quota and period. A quota alone keeps the current period.
fn bandwidth(cpu: &Cpu, limits: &mut Limits) -> Result<()> {
    let (quota, row) = match (cpu.quota, cpu.period) {
        (None, None) => return Ok(()),
        (Some(quota), _) => (quota, &CPU_QUOTA),
        (None, Some(_)) => (Limit::Unlimited, &CPU_PERIOD),
    };
    let value = Bandwidth {
        quota,
        period: cpu.period,
    };
    limits.add(&CPU_QUOTA, &source(row), value.into(), |write| write)
}

fn shares_or_weight(shares: u64, version: Version) -> Result<u64> {
    match version {
        Version::V2 => Ok(weight(shares)),
        Version::V1 if (SHARES_MIN..=SHARES_MAX).contains(&shares) => Ok(shares),
        Version::V1 => {
            let reason = format!("{shares} is not within {SHARES_MIN} to {SHARES_MAX}");
            Err(Error::config(&source(&CPU_SHARES), reason))
        }
    }
}

/// Converts v1 shares (2..=262144, default 1024) to a v2 weight (1..=10000, default 100) by the
/// formula that the engines use: quadratic in the logarithm, through both ends and the defaults.
fn weight(shares: u64) -> u64 {
    if shares <= SHARES_MIN {
        return 1;
    }
    if shares >= SHARES_MAX {
        return 10_000;
    }
    // Below 2^18, so it is exact in u32 and f64.
    let log = f64::from(u32::try_from(shares).unwrap_or(u32::MAX)).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    let target = 10f64.powf(exponent);
    // Rounds up, by bisection instead of a cast.
    let (mut low, mut high) = (1u32, 10_000u32);
    while low < high {
        let middle = low.midpoint(high);
        if f64::from(middle) < target {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use coracle_bundle::{NumberList, Resources};
    use proptest::prelude::*;

    fn check(cpu: Cpu, v1: &str, v2: &str) {
        let resources = Resources {
            cpu,
            ..Resources::default()
        };
        fixture::check(&resources, v1, v2);
    }

    #[test]
    fn weights_at_the_known_points() {
        let known = [
            (1, 1),
            (2, 1),
            (1024, 100),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ];
        for (shares, expected) in known {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn quota_and_period() {
        for (quota, period, v1, v2) in [
            (
                Some(50_000),
                Some(100_000),
                "cpu.cfs_period_us=100000 (again) cpu.cfs_quota_us=50000 (again)",
                "cpu.max=50000 100000 (again)",
            ),
            (
                Some(-1),
                None,
                "cpu.cfs_quota_us=-1 (again)",
                "cpu.max=max (again)",
            ),
            (
                None,
                Some(50_000),
                "cpu.cfs_period_us=50000 (again)",
                "cpu.max=max 50000 (again)",
            ),
        ] {
            let cpu = Cpu {
                quota: quota.map(Limit::new),
                period,
                ..Cpu::default()
            };
            check(cpu, v1, v2);
        }
    }

    #[test]
    fn idle_takes_no_shares() {
        let with = |idle| Cpu {
            idle: Some(idle),
            shares: Some(512),
            ..Cpu::default()
        };
        check(with(true), "cpu.idle=1", "cpu.idle=1");
        check(
            with(false),
            "cpu.idle=0 cpu.shares=512",
            "cpu.idle=0 cpu.weight=59",
        );
    }

    #[test]
    fn burst_and_realtime() {
        let cpu = Cpu {
            quota: Some(Limit::Amount(100)),
            burst: Some(100),
            realtime_runtime: Some(Limit::Amount(950)),
            realtime_period: Some(1000),
            ..Cpu::default()
        };
        check(
            cpu,
            "cpu.cfs_quota_us=100 (again) cpu.cfs_burst_us=100 (again) \
             cpu.rt_period_us=1000 (again) cpu.rt_runtime_us=950 (again)",
            "error: config.json: linux.resources.cpu.realtimePeriod: \
             cgroup v2 has no limit on realtime scheduling",
        );
        let cpu = Cpu {
            burst: Some(0),
            ..Cpu::default()
        };
        check(
            cpu,
            "cpu.cfs_burst_us=0 (again) (if there)",
            "cpu.max.burst=0 (again) (if there)",
        );
    }

    #[test]
    fn cpusets_may_have_no_prefix() {
        let cpu = Cpu {
            cpus: Some(NumberList::new("0-1")),
            ..Cpu::default()
        };
        check(cpu.clone(), "cpuset.cpus=0-1", "cpuset.cpus=0-1");
        let mut layout = coracle_host::fixture::v1().cgroups;
        for hierarchy in &mut layout.hierarchies {
            hierarchy.noprefix = true;
        }
        let mut limits = Limits::new(&layout);
        plan(&cpu, &mut limits).unwrap();
        let names: Vec<_> = limits
            .hierarchies
            .iter()
            .flatten()
            .map(|w| w.name.as_str())
            .collect();
        assert_eq!(names, ["cpus"]);
    }

    proptest! {
        #[test]
        fn weight_is_within_bounds_and_never_falls(shares in 0u64..300_000) {
            prop_assert!((1..=10_000).contains(&weight(shares)));
            prop_assert!(weight(shares) <= weight(shares + 1));
        }
    }
}
