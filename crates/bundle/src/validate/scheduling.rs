//! `process.scheduler`, `ioPriority`, `execCPUAffinity`: config.md § Linux Process.

use super::text::number_list;
use crate::error::{At, Error, Shown};
use crate::read;
use crate::{ExecCpuAffinity, IoPriority, Scheduler};
use oci_spec::runtime as oci;
use oci_spec::runtime::LinuxSchedulerPolicy as Policy;

/// Validates the arguments of sched_setattr(2). Numbers that the policy does not use are refused.
pub(super) fn scheduler(raw: &read::Scheduler, at: At<'_>) -> Result<Scheduler, Error> {
    let (policy_name, policy) = match raw.policy {
        Policy::SchedOther => ("SCHED_OTHER", 0),
        Policy::SchedFifo => ("SCHED_FIFO", 1),
        Policy::SchedRr => ("SCHED_RR", 2),
        Policy::SchedBatch => ("SCHED_BATCH", 3),
        Policy::SchedIso => ("SCHED_ISO", 4),
        Policy::SchedIdle => ("SCHED_IDLE", 5),
        Policy::SchedDeadline => ("SCHED_DEADLINE", 6),
    };
    let scheduler = Scheduler {
        policy,
        policy_name,
        nice: raw.nice.unwrap_or(0),
        priority: priority(raw, policy_name, at.key("priority"))?,
        flags: flags(&raw.flags, at.key("flags"))?,
        runtime: raw.runtime.unwrap_or(0),
        deadline: raw.deadline.unwrap_or(0),
        period: raw.period.unwrap_or(0),
    };
    check_nice(&scheduler, at.key("nice"))?;
    check_deadline(&scheduler, at)?;
    Ok(scheduler)
}

/// Validates the priority. As everywhere in this object, zero counts as absent: engines written in
/// Go may send either.
fn priority(raw: &read::Scheduler, policy: &str, at: At<'_>) -> Result<u32, Error> {
    let priority = raw.priority.unwrap_or(0);
    match raw.policy {
        Policy::SchedFifo | Policy::SchedRr => match u32::try_from(priority) {
            Ok(value @ 1..=99) => Ok(value),
            _ => Err(at.refuse(format!("{priority} is not from 1 to 99, as {policy} needs"))),
        },
        _ if priority != 0 => Err(at.refuse(format!(
            "{priority}: {policy} knows none, only SCHED_FIFO and SCHED_RR"
        ))),
        _ => Ok(0),
    }
}

/// Checks the nice value. Every policy may have one: the kernel ignores it if the policy has none
/// (sched_setattr(2)).
fn check_nice(scheduler: &Scheduler, at: At<'_>) -> Result<(), Error> {
    let nice = scheduler.nice;
    if (-20..=19).contains(&nice) {
        Ok(())
    } else {
        Err(at.refuse(format!("{nice} is not from -20 to 19")))
    }
}

/// The kernel's resolution of these times, `1 << DL_SCALE`, in nanoseconds.
const MIN_RUNTIME: u64 = 1024;

/// The kernel uses the top bit itself.
const MAX_PERIOD: u64 = (1 << 63) - 1;

fn check_deadline(scheduler: &Scheduler, at: At<'_>) -> Result<(), Error> {
    let Scheduler {
        runtime,
        deadline,
        period,
        policy_name,
        ..
    } = *scheduler;
    let times = [
        ("runtime", runtime),
        ("deadline", deadline),
        ("period", period),
    ];
    if policy_name != "SCHED_DEADLINE" {
        let present = times.into_iter().find(|(_, value)| *value != 0);
        return match present {
            Some((name, value)) => Err(at.key(name).refuse(format!(
                "{value}: {policy_name} knows none, only SCHED_DEADLINE"
            ))),
            None => Ok(()),
        };
    }
    if runtime < MIN_RUNTIME {
        return Err(at
            .key("runtime")
            .refuse(format!("{runtime} is below {MIN_RUNTIME} ns")));
    }
    if runtime > deadline {
        return Err(at
            .key("runtime")
            .refuse(format!("{runtime} is above deadline, {deadline}")));
    }
    // Without a period, the deadline is the period.
    if period != 0 && deadline > period {
        return Err(at
            .key("deadline")
            .refuse(format!("{deadline} is above period, {period}")));
    }
    match times.into_iter().find(|(_, value)| *value > MAX_PERIOD) {
        Some((name, value)) => Err(at
            .key(name)
            .refuse(format!("{value} is above {MAX_PERIOD}"))),
        None => Ok(()),
    }
}

/// The flags of sched_setattr(2).
const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

fn flags(names: &[String], at: At<'_>) -> Result<u64, Error> {
    let mut bits = 0;
    for (index, name) in names.iter().enumerate() {
        let Some((_, bit)) = FLAGS.iter().find(|(known, _)| known == name) else {
            let known = FLAGS.map(|(known, _)| known).join(", ");
            let problem = format!("{} is not one of {known}", Shown(name));
            return Err(at.index(index).refuse(problem));
        };
        bits |= bit;
    }
    Ok(bits)
}

/// Validates class and level of ioprio_set(2).
pub(super) fn io_priority(raw: &oci::LinuxIOPriority, at: At<'_>) -> Result<IoPriority, Error> {
    let class = match raw.class() {
        oci::IOPriorityClass::IoprioClassRt => 1,
        oci::IOPriorityClass::IoprioClassBe => 2,
        oci::IOPriorityClass::IoprioClassIdle => 3,
    };
    match u8::try_from(raw.priority()) {
        Ok(level @ 0..=7) => Ok(IoPriority { class, level }),
        _ => Err(at
            .key("priority")
            .refuse(format!("{} is not from 0 to 7", raw.priority()))),
    }
}

/// Validates lists of CPUs. An empty one counts as absent.
pub(super) fn exec_cpu_affinity(
    raw: &read::ExecCpuAffinity,
    at: At<'_>,
) -> Result<ExecCpuAffinity, Error> {
    let list = |text: &Option<String>, key: &str| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.map(|text| number_list(text, at.key(key))).transpose()
    };
    Ok(ExecCpuAffinity {
        initial: list(&raw.initial, "initial")?,
        r#final: list(&raw.r#final, "final")?,
    })
}

#[cfg(test)]
mod tests {
    use crate::fixture::{accepted, refused, with};
    use serde_json::json;

    #[test]
    fn schedulers() {
        let policy = |policy: &str, key: &str, value: i64| json!({"policy": policy, key: value});
        let deadline = |runtime: u64, deadline: u64, period: u64| {
            json!({
                "policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": deadline,
                "period": period
            })
        };
        let at = "/process/scheduler";
        refused(&[
            (
                at,
                json!({"nice": 5}),
                "process.scheduler.policy: required, but missing",
            ),
            (
                at,
                json!({"policy": "SCHED_NONE"}),
                "process.scheduler.policy: unknown variant `SCHED_NONE`, expected one of \
                 `SCHED_OTHER`, `SCHED_FIFO`, `SCHED_RR`, `SCHED_BATCH`, `SCHED_ISO`, \
                 `SCHED_IDLE`, `SCHED_DEADLINE`",
            ),
            (
                at,
                policy("SCHED_OTHER", "nice", 20),
                "process.scheduler.nice: 20 is not from -20 to 19",
            ),
            (
                at,
                policy("SCHED_IDLE", "nice", -21),
                "process.scheduler.nice: -21 is not from -20 to 19",
            ),
            (
                at,
                policy("SCHED_BATCH", "priority", 1),
                "process.scheduler.priority: 1: SCHED_BATCH knows none, only SCHED_FIFO and \
                 SCHED_RR",
            ),
            (
                at,
                json!({"policy": "SCHED_FIFO"}),
                "process.scheduler.priority: 0 is not from 1 to 99, as SCHED_FIFO needs",
            ),
            (
                at,
                policy("SCHED_RR", "priority", 100),
                "process.scheduler.priority: 100 is not from 1 to 99, as SCHED_RR needs",
            ),
            (
                at,
                policy("SCHED_RR", "priority", -1),
                "process.scheduler.priority: -1 is not from 1 to 99, as SCHED_RR needs",
            ),
            (
                at,
                policy("SCHED_OTHER", "runtime", 5000),
                "process.scheduler.runtime: 5000: SCHED_OTHER knows none, only SCHED_DEADLINE",
            ),
            (
                at,
                deadline(1023, 5000, 5000),
                "process.scheduler.runtime: 1023 is below 1024 ns",
            ),
            (
                at,
                deadline(6000, 5000, 5000),
                "process.scheduler.runtime: 6000 is above deadline, 5000",
            ),
            (
                at,
                deadline(2000, 5000, 4000),
                "process.scheduler.deadline: 5000 is above period, 4000",
            ),
            (
                at,
                deadline(2000, 5000, 1 << 63),
                "process.scheduler.period: 9223372036854775808 is above 9223372036854775807",
            ),
        ]);
        accepted(&[
            (at, policy("SCHED_OTHER", "nice", -20)),
            (at, policy("SCHED_RR", "priority", 99)),
            (
                at,
                json!({"policy": "SCHED_IDLE", "nice": 0, "priority": 0, "runtime": 0}),
            ),
            (at, policy("SCHED_IDLE", "nice", 1)),
            (
                at,
                json!({"policy": "SCHED_DEADLINE", "nice": 19, "runtime": 1024, "deadline": 1024}),
            ),
            (at, deadline(1024, 1024, 0)),
            (at, deadline(1024, 2048, 4096)),
        ]);
    }

    #[test]
    fn scheduler_flags_by_their_names_in_the_spec() {
        let flags = |names: &[&str]| json!({"policy": "SCHED_OTHER", "flags": names});
        let all = flags(&super::FLAGS.map(|(name, _)| name));
        let scheduler = with("/process/scheduler", all)
            .process
            .unwrap()
            .scheduler
            .unwrap();
        assert_eq!(scheduler.flags, 0x7f);
        let known = "SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_RECLAIM, SCHED_FLAG_DL_OVERRUN, \
                     SCHED_FLAG_KEEP_POLICY, SCHED_FLAG_KEEP_PARAMS, SCHED_FLAG_UTIL_CLAMP_MIN, \
                     SCHED_FLAG_UTIL_CLAMP_MAX";
        for wrong in ["SCHED_RESET_ON_FORK", "SCHED_FLAG_D_L_OVERRUN", "x"] {
            let expected = format!("process.scheduler.flags[0]: \"{wrong}\" is not one of {known}");
            refused(&[("/process/scheduler", flags(&[wrong]), &expected)]);
        }
    }

    #[test]
    fn io_priorities() {
        let priority = |value: i64| json!({"class": "IOPRIO_CLASS_RT", "priority": value});
        refused(&[
            (
                "/process/ioPriority",
                json!({"priority": 4}),
                "process.ioPriority.class: required, but missing",
            ),
            (
                "/process/ioPriority",
                json!({"class": "IOPRIO_CLASS_NONE"}),
                "process.ioPriority.class: unknown variant `IOPRIO_CLASS_NONE`, expected one of \
                 `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE`, `IOPRIO_CLASS_IDLE`",
            ),
            (
                "/process/ioPriority",
                priority(8),
                "process.ioPriority.priority: 8 is not from 0 to 7",
            ),
            (
                "/process/ioPriority",
                priority(-1),
                "process.ioPriority.priority: -1 is not from 0 to 7",
            ),
        ]);
        let process = with("/process/ioPriority", priority(7)).process.unwrap();
        assert_eq!(
            process.io_priority,
            Some(crate::IoPriority { class: 1, level: 7 })
        );
    }

    #[test]
    fn cpu_affinities() {
        let at = "/process/execCPUAffinity/initial";
        for list in ["a", "0-", "0 ", "0,,1", "1-2-3", "+1", "-1", "99999999999"] {
            let expected = format!(
                "process.execCPUAffinity.initial: invalid CPU affinity: \
                 {list:?} is not a list of numbers and ranges \
                 like 0-3,7"
            );
            refused(&[(at, json!(list), &expected)]);
        }
        refused(&[
            (
                at,
                json!("5-2"),
                "process.execCPUAffinity.initial: invalid CPU affinity: \
                 \"5-2\": the range \"5-2\" is empty",
            ),
            (
                "/process/execCPUAffinity/final",
                json!("0-65536"),
                "process.execCPUAffinity.final: invalid CPU affinity: 65536 is above 65535",
            ),
        ]);
        let lists = json!({"initial": "", "final": "2000,0-1"});
        let affinity = with("/process/execCPUAffinity", lists)
            .process
            .unwrap()
            .exec_cpu_affinity;
        assert_eq!(
            (affinity.initial, affinity.r#final),
            (None, Some(vec![0, 1, 2000]))
        );
    }
}
