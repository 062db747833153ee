//! The columns of `ps -ef`, as procps 4 prints them where its output is no terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_container::Process;
use coracle_sys::{LocalTime, local_time, time_ns};

use crate::users;

/// What the columns show beside the processes.
pub(super) struct Machine {
    /// User names by uid.
    users: BTreeMap<u32, String>,
    /// The digits of the highest pid.
    pid_digits: usize,
    /// Since 1970.
    now: Duration,
    local_time: fn(i64) -> Option<LocalTime>,
}

impl Machine {
    pub(super) fn now() -> Self {
        let pids = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
        Self {
            users: users::names(),
            pid_digits: match pids.trim().parse::<u32>() {
                Ok(above) => above.saturating_sub(1).to_string().len(),
                Err(_) => 5,
            },
            now: Duration::from_nanos(time_ns()),
            local_time,
        }
    }
}

/// The header and a line for each process.
pub(super) fn table(processes: &[Process], machine: &Machine) -> String {
    let line = |cells: [&str; 8]| {
        let [user, pid, parent, percent, start, terminal, time, command] = cells;
        let digits = machine.pid_digits;
        format!(
            "{user:<8} {pid:>digits$} {parent:>digits$} {percent:>2} {start:>5} {terminal:<8} \
             {time:>8} {command}\n"
        )
    };
    let header = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
    let lines = processes.iter().map(|process| {
        line([
            &user(process.user, &machine.users),
            &process.pid.to_string(),
            &process.parent.to_string(),
            &percent(process).to_string(),
            &start(process, machine),
            process.terminal.as_deref().unwrap_or("?"),
            &time(process.processor_time),
            &process.command,
        ])
    });
    std::iter::once(line(header)).chain(lines).collect()
}

/// A name or number of more than eight characters loses its end.
fn user(uid: u32, names: &BTreeMap<u32, String>) -> String {
    let name = names.get(&uid).cloned();
    let mut name = name.unwrap_or_else(|| uid.to_string());
    if name.chars().count() > 8 {
        name = name.chars().take(7).chain(['+']).collect();
    }
    name
}

/// Of one processor, since the process began.
fn percent(process: &Process) -> u128 {
    let seconds = u128::from(process.age.as_secs().max(1));
    (process.processor_time.as_millis() / 10 / seconds).min(99)
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// When the process began: the time of today, otherwise the day of this year, otherwise the year.
fn start(process: &Process, machine: &Machine) -> String {
    let local = |time: Duration| (machine.local_time)(i64::try_from(time.as_secs()).ok()?);
    let began = local(machine.now.saturating_sub(process.age));
    let (Some(began), Some(now)) = (began, local(machine.now)) else {
        return "?".to_owned();
    };
    let day = |time: LocalTime| (time.year, time.month, time.day);
    let month = usize::try_from(began.month - 1)
        .ok()
        .and_then(|month| MONTHS.get(month));
    match month {
        _ if day(began) == day(now) => format!("{:02}:{:02}", began.hour, began.minute),
        Some(month) if began.year == now.year => format!("{month}{:02}", began.day),
        _ => began.year.to_string(),
    }
}

fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let clock = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    );
    match seconds / 86_400 {
        0 => clock,
        days => format!("{days}-{clock}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In UTC, of a year whose months have 30 days.
    fn calendar(seconds: i64) -> Option<LocalTime> {
        let part = |length: i64, count: i64| i32::try_from(seconds / length % count).ok();
        Some(LocalTime {
            year: part(86_400 * 360, 10_000)?,
            month: part(86_400 * 30, 12)? + 1,
            day: part(86_400, 30)? + 1,
            hour: part(3600, 24)?,
            minute: part(60, 60)?,
        })
    }

    fn process(age: u64) -> Process {
        Process {
            pid: 7,
            parent: 1,
            user: 0,
            processor_time: Duration::from_secs(61),
            age: Duration::from_secs(age),
            terminal: None,
            command: "sh -c true".to_owned(),
        }
    }

    fn machine() -> Machine {
        let name = |(uid, name): (u32, &str)| (uid, name.to_owned());
        Machine {
            users: [(0, "root"), (7, "systemd-network"), (8, "eightlng")]
                .map(name)
                .into(),
            pid_digits: 7,
            now: Duration::from_secs(2026 * 360 * 86_400 + 45 * 86_400 + 3600 + 120),
            local_time: calendar,
        }
    }

    #[test]
    fn the_table_is_that_of_ps() {
        let (minute, hour, day, year) = (60, 3600, 86_400, 360 * 86_400);
        let mut processes = [minute, 2 * hour, 46 * day, 2 * year].map(process);
        processes[1].terminal = Some("pts/12".to_owned());
        processes[1].user = 7;
        processes[2].user = 8;
        processes[2].processor_time = Duration::from_secs(3 * 86_400 + 3600 + 59);
        processes[3].user = 4_294_967_290;
        processes[3].pid = 4_194_303;
        assert_eq!(
            table(&processes, &machine()),
            "\
UID          PID    PPID  C STIME TTY          TIME CMD
root           7       1 99 01:01 ?        00:01:01 sh -c true
systemd+       7       1  0 Feb15 pts/12   00:01:01 sh -c true
eightlng       7       1  6  2025 ?        3-01:00:59 sh -c true
4294967+ 4194303       1  0  2024 ?        00:01:01 sh -c true
"
        );
    }

    #[test]
    fn the_percentage_is_of_whole_seconds() {
        for (age, millis, expected) in [(0, 10, 1), (1, 900, 90), (4, 900, 22), (3, 9000, 99)] {
            let mut process = process(age);
            process.processor_time = Duration::from_millis(millis);
            assert_eq!(percent(&process), expected);
        }
    }
}
