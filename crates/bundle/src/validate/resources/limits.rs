//! `memory` and `cpu`.

use crate::error::{At, Error, Shown};
use crate::{Cpu, Limit, Memory, NumberList};
use oci_spec::runtime as oci;

/// Validates memory limits. In an update, the container may have the other value of a pair already.
pub(super) fn memory(raw: &oci::LinuxMemory, at: At<'_>, updates: bool) -> Result<Memory, Error> {
    let bytes = |value: Option<i64>, key: &str| match value {
        Some(bytes) if bytes < -1 => Err(at
            .key(key)
            .refuse(format!("{bytes} is below -1, which is unlimited"))),
        value => Ok(Limit::unless_zero(value)),
    };
    // Deprecated, but still validated, and reported in warnings.
    #[allow(deprecated)]
    let kernel = raw.kernel();
    let memory = Memory {
        limit: bytes(raw.limit(), "limit")?,
        reservation: bytes(raw.reservation(), "reservation")?,
        swap: bytes(raw.swap(), "swap")?,
        kernel: bytes(kernel, "kernel")?,
        kernel_tcp: bytes(raw.kernel_tcp(), "kernelTCP")?,
        swappiness: raw.swappiness(),
        disable_oom_killer: raw.disable_oom_killer(),
        use_hierarchy: raw.use_hierarchy(),
        check_before_update: raw.check_before_update(),
    };
    if let Some(value) = memory.swappiness.filter(|value| *value > 100) {
        return Err(at.key("swappiness").refuse(format!("{value} is above 100")));
    }
    check_swap(&memory, at, updates)?;
    Ok(memory)
}

/// Checks `swap`, which limits the sum of memory and swap.
fn check_swap(memory: &Memory, at: At<'_>, updates: bool) -> Result<(), Error> {
    let Some(Limit::Amount(swap)) = memory.swap else {
        return Ok(());
    };
    let at = at.key("swap");
    match memory.limit {
        Some(Limit::Amount(limit)) if limit > swap => {
            Err(at.refuse(format!("{swap} is below limit, {limit}, which it includes")))
        }
        Some(Limit::Unlimited) => {
            Err(at.refuse(format!("{swap} cannot include an unlimited limit")))
        }
        None if !updates => {
            Err(at.refuse(format!("{swap} is given without limit, which it includes")))
        }
        _ => Ok(()),
    }
}

/// Validates CPU limits.
pub(super) fn cpu(raw: &oci::LinuxCpu, at: At<'_>) -> Result<Cpu, Error> {
    if let Some(runtime) = raw.realtime_runtime().filter(|runtime| *runtime < -1) {
        let at = at.key("realtimeRuntime");
        return Err(at.refuse(format!("{runtime} is below -1")));
    }
    let cpu = Cpu {
        shares: raw.shares().filter(|shares| *shares != 0),
        quota: Limit::unless_zero(raw.quota()),
        burst: raw.burst(),
        period: raw.period().filter(|period| *period != 0),
        realtime_runtime: Limit::unless_zero(raw.realtime_runtime()),
        realtime_period: raw.realtime_period().filter(|period| *period != 0),
        cpus: set(raw.cpus(), at.key("cpus"))?,
        mems: set(raw.mems(), at.key("mems"))?,
        idle: match raw.idle() {
            None => None,
            Some(0) => Some(false),
            Some(1) => Some(true),
            Some(idle) => {
                return Err(at.key("idle").refuse(format!("{idle} is neither 0 nor 1")));
            }
        },
    };
    check_bandwidth(&cpu, at)?;
    check_real_time(&cpu, at)?;
    Ok(cpu)
}

/// The kernel's `min_cfs_quota_period` and `max_cfs_quota_period`, in microseconds.
const MIN_PERIOD: u64 = 1_000;
const MAX_PERIOD: u64 = 1_000_000;

fn check_bandwidth(cpu: &Cpu, at: At<'_>) -> Result<(), Error> {
    if let Some(period) = cpu.period
        && !(MIN_PERIOD..=MAX_PERIOD).contains(&period)
    {
        return Err(at.key("period").refuse(format!(
            "{period} is not from {MIN_PERIOD} to {MAX_PERIOD} microseconds"
        )));
    }
    let Some(Limit::Amount(quota)) = cpu.quota else {
        return Ok(());
    };
    if quota < MIN_PERIOD {
        return Err(at
            .key("quota")
            .refuse(format!("{quota} is below {MIN_PERIOD} microseconds")));
    }
    match cpu.burst {
        Some(burst) if burst > quota => Err(at
            .key("burst")
            .refuse(format!("{burst} is above quota, {quota}"))),
        _ => Ok(()),
    }
}

fn check_real_time(cpu: &Cpu, at: At<'_>) -> Result<(), Error> {
    match (cpu.realtime_runtime, cpu.realtime_period) {
        (Some(Limit::Amount(runtime)), Some(period)) if runtime > period => Err(at
            .key("realtimeRuntime")
            .refuse(format!("{runtime} is above realtimePeriod, {period}"))),
        _ => Ok(()),
    }
}

/// Validates a list for cpuset. An empty one counts as absent.
fn set(text: &Option<String>, at: At<'_>) -> Result<Option<NumberList>, Error> {
    let Some(list) = text
        .as_deref()
        .map(str::trim)
        .filter(|list| !list.is_empty())
    else {
        return Ok(None);
    };
    let listed = |byte: u8| byte.is_ascii_alphanumeric() || b",-:/ ".contains(&byte);
    if list.bytes().all(listed) {
        Ok(Some(NumberList::new(list)))
    } else {
        Err(at.refuse(format!(
            "{} is not a list of numbers and ranges like 0-3,7",
            Shown(list)
        )))
    }
}

#[cfg(test)]
mod tests {
    use crate::NumberList;
    use crate::fixture::{accepted, refused, with};
    use serde_json::json;

    #[test]
    fn memory_limits() {
        let at = "/linux/resources/memory";
        for key in ["limit", "reservation", "swap", "kernel", "kernelTCP"] {
            let expected =
                format!("linux.resources.memory.{key}: -2 is below -1, which is unlimited");
            refused(&[(at, json!({key: -2}), &expected)]);
        }
        refused(&[
            (
                at,
                json!({"swappiness": 101}),
                "linux.resources.memory.swappiness: 101 is above 100",
            ),
            (
                at,
                json!({"limit": 100, "swap": 99}),
                "linux.resources.memory.swap: 99 is below limit, 100, which it includes",
            ),
            (
                at,
                json!({"swap": 99}),
                "linux.resources.memory.swap: 99 is given without limit, which it includes",
            ),
            (
                at,
                json!({"limit": 0, "swap": 99}),
                "linux.resources.memory.swap: 99 is given without limit, which it includes",
            ),
            (
                at,
                json!({"limit": -1, "swap": 99}),
                "linux.resources.memory.swap: 99 cannot include an unlimited limit",
            ),
            (
                at,
                json!({"limit": 9_223_372_036_854_775_808_u64}),
                "linux.resources.memory.limit: invalid value: integer `9223372036854775808`, \
                 expected a whole number from -9223372036854775808 to 9223372036854775807",
            ),
        ]);
        accepted(&[
            (at, json!({"limit": 100, "swap": 100})),
            (at, json!({"limit": 100, "swap": -1})),
            (at, json!({"limit": -1, "swap": -1})),
            (at, json!({"swap": 0})),
            (at, json!({"limit": null, "swap": null})),
        ]);
        let memory = with(at, json!({"swappiness": 0, "limit": 0}))
            .linux
            .resources
            .memory;
        assert_eq!(
            (memory.swappiness, memory.limit, memory.swap),
            (Some(0), None, None)
        );
    }

    #[test]
    fn cpu_limits() {
        let at = "/linux/resources/cpu";
        refused(&[
            (
                at,
                json!({"period": 999}),
                "linux.resources.cpu.period: 999 is not from 1000 to 1000000 microseconds",
            ),
            (
                at,
                json!({"period": 1_000_001}),
                "linux.resources.cpu.period: 1000001 is not from 1000 to 1000000 microseconds",
            ),
            (
                at,
                json!({"quota": 999}),
                "linux.resources.cpu.quota: 999 is below 1000 microseconds",
            ),
            (
                at,
                json!({"quota": 5000, "burst": 5001}),
                "linux.resources.cpu.burst: 5001 is above quota, 5000",
            ),
            (
                at,
                json!({"realtimeRuntime": 11, "realtimePeriod": 10}),
                "linux.resources.cpu.realtimeRuntime: 11 is above realtimePeriod, 10",
            ),
            (
                at,
                json!({"realtimeRuntime": -2}),
                "linux.resources.cpu.realtimeRuntime: -2 is below -1",
            ),
            (
                at,
                json!({"idle": 2}),
                "linux.resources.cpu.idle: 2 is neither 0 nor 1",
            ),
            (
                at,
                json!({"idle": -1}),
                "linux.resources.cpu.idle: -1 is neither 0 nor 1",
            ),
            (
                at,
                json!({"cpus": "0\n1"}),
                "linux.resources.cpu.cpus: \"0\\n1\" is not a list of numbers and ranges like \
                 0-3,7",
            ),
            (
                at,
                json!({"mems": "0\0"}),
                "linux.resources.cpu.mems: \"0\\0\" is not a list of numbers and ranges like 0-3,7",
            ),
            (
                at,
                json!({"shares": -1}),
                "linux.resources.cpu.shares: invalid value: integer `-1`, expected a whole number \
                 from 0 to 18446744073709551615",
            ),
        ]);
        accepted(&[
            (at, json!({"quota": -1, "period": 0, "burst": 5})),
            (
                at,
                json!({"quota": 0, "realtimeRuntime": 0, "realtimePeriod": 0, "idle": 0}),
            ),
            (at, json!({"quota": 1000, "period": 1000, "burst": 1000})),
        ]);
        let cpu = with(at, json!({"cpus": " 0-3,7\n", "mems": "", "idle": 0}))
            .linux
            .resources
            .cpu;
        let list = NumberList {
            text: "0-3,7".to_owned(),
            numbers: Some(vec![0, 1, 2, 3, 7]),
        };
        assert_eq!(
            (cpu.cpus, cpu.mems, cpu.idle),
            (Some(list), None, Some(false))
        );
        let every_other = with(at, json!({"cpus": "0-30:1/2"}))
            .linux
            .resources
            .cpu
            .cpus;
        assert_eq!(every_other.unwrap().numbers, None);
    }
}
