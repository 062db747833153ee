//! `linux.resources.cpu`: cgroup-v1/cpusets.rst, sched-bwc.rst, cgroup-v2.rst § CPU and § Cpuset.

use coracle_bundle::Cpu;

use super::limits::Version;
use super::write::Write;
use crate::{Error, Result};

const SHARES: &str = "linux.resources.cpu.shares";
const QUOTA: &str = "linux.resources.cpu.quota";
const PERIOD: &str = "linux.resources.cpu.period";
const BURST: &str = "linux.resources.cpu.burst";
const IDLE: &str = "linux.resources.cpu.idle";
const RT_RUNTIME: &str = "linux.resources.cpu.realtimeRuntime";
const RT_PERIOD: &str = "linux.resources.cpu.realtimePeriod";
/// Bounds of cpu.shares in the kernel, which clamps silently.
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 1 << 18;

/// Values of the cpu controller. Zero means "leave as it is", but for `idle` and `burst`.
pub(super) fn plan(cpu: &Cpu, version: Version) -> Result<Vec<Write>> {
    check(cpu)?;
    match version {
        Version::V1 => v1(cpu),
        Version::V2 => v2(cpu),
    }
}

/// Values of the cpuset controller, whose files have the same names on both.
pub(super) fn cpuset(cpu: &Cpu, noprefix: bool) -> Vec<Write> {
    let named = [("cpus", &cpu.cpus), ("mems", &cpu.mems)];
    let mut writes = Vec::new();
    for (name, list) in named {
        let list = list.as_deref().unwrap_or_default().trim();
        if !list.is_empty() {
            let source = format!("linux.resources.cpu.{name}");
            writes.push(Write::new(cpuset_file(name, noprefix), list, &source));
        }
    }
    writes
}

/// A cpuset mounted as the old file system of that name has files without prefix.
pub(super) fn cpuset_file(name: &str, noprefix: bool) -> String {
    if noprefix {
        name.to_owned()
    } else {
        format!("cpuset.{name}")
    }
}

fn check(cpu: &Cpu) -> Result<()> {
    if let Some(idle) = cpu.idle.filter(|idle| !matches!(idle, 0 | 1)) {
        return Err(Error::config(IDLE, format!("{idle} is neither 0 nor 1")));
    }
    let quota = quota(cpu).and_then(|quota| u64::try_from(quota).ok());
    if let (Some(burst), Some(quota)) = (cpu.burst, quota)
        && burst > quota
    {
        let reason = format!("{burst} is above cpu.quota {quota}");
        return Err(Error::config(BURST, reason));
    }
    Ok(())
}

fn v1(cpu: &Cpu) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    if let Some(idle) = cpu.idle {
        writes.push(Write::new("cpu.idle", idle, IDLE));
    }
    if let Some(shares) = weighted(cpu) {
        if !(SHARES_MIN..=SHARES_MAX).contains(&shares) {
            let reason = format!("{shares} is not within {SHARES_MIN} to {SHARES_MAX}");
            return Err(Error::config(SHARES, reason));
        }
        writes.push(Write::new("cpu.shares", shares, SHARES));
    }
    // Quota per period is bounded by the parent's, so either order may be the wrong one.
    if let Some(period) = period(cpu) {
        writes.push(Write::new("cpu.cfs_period_us", period, PERIOD).again());
    }
    if let Some(quota) = quota(cpu) {
        writes.push(Write::new("cpu.cfs_quota_us", quota, QUOTA).again());
    }
    if let Some(burst) = cpu.burst {
        writes.push(burst_write("cpu.cfs_burst_us", burst));
    }
    if let Some(period) = cpu.realtime_period.filter(|period| *period != 0) {
        writes.push(Write::new("cpu.rt_period_us", period, RT_PERIOD).again());
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|runtime| *runtime != 0) {
        writes.push(Write::new("cpu.rt_runtime_us", runtime, RT_RUNTIME).again());
    }
    Ok(writes)
}

fn v2(cpu: &Cpu) -> Result<Vec<Write>> {
    let realtime = [
        (
            RT_RUNTIME,
            cpu.realtime_runtime.is_some_and(|value| value != 0),
        ),
        (
            RT_PERIOD,
            cpu.realtime_period.is_some_and(|value| value != 0),
        ),
    ];
    for (path, asked) in realtime {
        if asked {
            let reason = "cgroup v2 has no limit on realtime scheduling";
            return Err(Error::config(path, reason));
        }
    }
    let mut writes = Vec::new();
    if let Some(idle) = cpu.idle {
        writes.push(Write::new("cpu.idle", idle, IDLE));
    }
    if let Some(shares) = weighted(cpu) {
        writes.push(Write::new("cpu.weight", weight(shares), SHARES));
    }
    let (source, value) = match (quota(cpu), period(cpu)) {
        (None, None) => ("", String::new()),
        // A quota alone keeps the period that is there.
        (Some(quota), None) => (QUOTA, bandwidth(quota)),
        (Some(quota), Some(period)) => (QUOTA, format!("{} {period}", bandwidth(quota))),
        (None, Some(period)) => (PERIOD, format!("max {period}")),
    };
    if !value.is_empty() {
        // Refused as long as a burst from before is above it.
        writes.push(Write::new("cpu.max", value, source).again());
    }
    if let Some(burst) = cpu.burst {
        writes.push(burst_write("cpu.max.burst", burst));
    }
    Ok(writes)
}

/// Refused as long as it is above the quota of before. Old kernels have none, which 0 asks for.
fn burst_write(file: &str, burst: u64) -> Write {
    let write = Write::new(file, burst, BURST).again();
    if burst == 0 { write.if_there() } else { write }
}

/// Shares that are to be written: an idle cgroup has no weight, and the kernel refuses one.
fn weighted(cpu: &Cpu) -> Option<u64> {
    let idle = cpu.idle == Some(1);
    cpu.shares.filter(|shares| *shares != 0 && !idle)
}

fn quota(cpu: &Cpu) -> Option<i64> {
    cpu.quota.filter(|quota| *quota != 0)
}

fn period(cpu: &Cpu) -> Option<u64> {
    cpu.period.filter(|period| *period != 0)
}

fn bandwidth(quota: i64) -> String {
    if quota > 0 {
        quota.to_string()
    } else {
        "max".to_owned()
    }
}

/// v1 shares 2..=262144, default 1024, to v2 weight 1..=10000, default 100: a quadratic in the
/// logarithms through the two ends and the defaults, which the engines agreed on.
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
    // The least whole number that isn't below it, without a cast.
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
    use super::super::write::text;
    use super::*;
    use proptest::prelude::*;

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
        let check = |quota, period, v1: &str, v2: &str| {
            let cpu = Cpu {
                quota,
                period,
                ..Cpu::default()
            };
            assert_eq!(text(&plan(&cpu, Version::V1)), v1);
            assert_eq!(text(&plan(&cpu, Version::V2)), v2);
        };
        check(
            Some(50_000),
            Some(100_000),
            "cpu.cfs_period_us=100000 (again) cpu.cfs_quota_us=50000 (again)",
            "cpu.max=50000 100000 (again)",
        );
        check(
            Some(-1),
            None,
            "cpu.cfs_quota_us=-1 (again)",
            "cpu.max=max (again)",
        );
        check(
            None,
            Some(50_000),
            "cpu.cfs_period_us=50000 (again)",
            "cpu.max=max 50000 (again)",
        );
        check(Some(0), Some(0), "", "");
    }

    #[test]
    fn idle_takes_no_shares() {
        let cpu = Cpu {
            idle: Some(1),
            shares: Some(512),
            ..Cpu::default()
        };
        assert_eq!(text(&plan(&cpu, Version::V1)), "cpu.idle=1");
        assert_eq!(text(&plan(&cpu, Version::V2)), "cpu.idle=1");
        let cpu = Cpu {
            idle: Some(0),
            shares: Some(512),
            ..Cpu::default()
        };
        assert_eq!(text(&plan(&cpu, Version::V2)), "cpu.idle=0 cpu.weight=59");
    }

    #[test]
    fn burst_and_realtime() {
        let cpu = Cpu {
            quota: Some(100),
            burst: Some(100),
            realtime_runtime: Some(950),
            realtime_period: Some(1000),
            ..Cpu::default()
        };
        assert_eq!(
            text(&plan(&cpu, Version::V1)),
            "cpu.cfs_quota_us=100 (again) cpu.cfs_burst_us=100 (again) \
             cpu.rt_period_us=1000 (again) cpu.rt_runtime_us=950 (again)"
        );
        assert_eq!(
            text(&plan(&cpu, Version::V2)),
            "error: linux.resources.cpu.realtimeRuntime: \
             cgroup v2 has no limit on realtime scheduling"
        );
        let cpu = Cpu {
            quota: Some(100),
            burst: Some(101),
            ..Cpu::default()
        };
        assert_eq!(
            text(&plan(&cpu, Version::V2)),
            "error: linux.resources.cpu.burst: 101 is above cpu.quota 100"
        );
    }

    #[test]
    fn cpusets_are_trimmed_and_may_have_no_prefix() {
        let cpu = Cpu {
            cpus: Some("0-1\n".to_owned()),
            mems: Some(String::new()),
            ..Cpu::default()
        };
        assert_eq!(text(&Ok(cpuset(&cpu, false))), "cpuset.cpus=0-1");
        assert_eq!(text(&Ok(cpuset(&cpu, true))), "cpus=0-1");
    }

    proptest! {
        #[test]
        fn weight_is_within_bounds_and_never_falls(shares in 0u64..300_000) {
            prop_assert!((1..=10_000).contains(&weight(shares)));
            prop_assert!(weight(shares) <= weight(shares + 1));
        }
    }
}
