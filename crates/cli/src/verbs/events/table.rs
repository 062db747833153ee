//! Events as people read them.

use std::time::Instant;

use coracle_container::{Event, Statistics};

use crate::{output, people};

/// Above this the kernel means that there is no limit: page counters end a little below 2^63 bytes.
const NO_LIMIT: u64 = 1 << 62;

const HEADER: [&str; 7] = ["TIME", "CPU", "MEMORY", "LIMIT", "PIDS", "READ", "WRITTEN"];

/// What the lines so far were about.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// When the last sample was taken, and the CPU time until then in nanoseconds.
    last: Option<(Instant, u64)>,
}

impl Table {
    /// The event's line, below a header if it is the first. The time is RFC 3339.
    pub(super) fn lines(&mut self, event: &Event, time: &str, now: Instant) -> String {
        let time = time.get(11..19).unwrap_or_default().to_owned();
        let sample = match event {
            Event::Statistics(sample) => sample,
            Event::OutOfMemory => return format!("{time}    out of memory\n"),
            Event::Ended(ending) => {
                return format!("{time}    ended: {}\n", people::ending(ending));
            }
        };
        let mut lines = Vec::new();
        if self.last.is_none() {
            lines.push(HEADER.map(str::to_owned));
        }
        lines.push([
            time,
            self.cpu(sample, now),
            people::size(sample.memory.usage.usage),
            match sample.memory.usage.limit {
                NO_LIMIT.. => "none".to_owned(),
                limit => people::size(limit),
            },
            sample.pids.current.to_string(),
            people::size(transferred(sample, "read")),
            people::size(transferred(sample, "write")),
        ]);
        self.last = Some((now, sample.cpu.usage.total));
        output::columns(&lines)
    }

    /// The share of one CPU since the line before; in the first, the time that was used so far.
    fn cpu(&self, sample: &Statistics, now: Instant) -> String {
        let total = sample.cpu.usage.total;
        let since = |(then, before): (Instant, u64)| {
            let elapsed = now.duration_since(then).as_nanos();
            let used = u128::from(total.checked_sub(before)?);
            let tenths = (used * 1000).checked_div(elapsed)?;
            Some(format!("{}.{}%", tenths / 10, tenths % 10))
        };
        let tenths = total / 100_000_000;
        let all = || format!("{}.{} s", tenths / 10, tenths % 10);
        self.last.and_then(since).unwrap_or_else(all)
    }
}

/// Bytes, of all devices together.
fn transferred(sample: &Statistics, operation: &str) -> u64 {
    let entries = sample.blkio.io_service_bytes_recursive.iter();
    let entries = entries.filter(|entry| entry.op.eq_ignore_ascii_case(operation));
    entries.map(|entry| entry.value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sample(cpu: u64, memory: u64, limit: u64) -> Event {
        let mut sample = Statistics::default();
        sample.cpu.usage.total = cpu;
        sample.memory.usage.usage = memory;
        sample.memory.usage.limit = limit;
        sample.pids.current = 3;
        Event::Statistics(Box::new(sample))
    }

    #[test]
    fn lines_are_in_columns() {
        let mut table = Table::default();
        let now = Instant::now();
        let first = sample(1_250_000_000, 1_572_864, u64::MAX);
        let second = sample(1_750_000_000, 2_097_152, 4_194_304);
        let later = now + Duration::from_secs(2);
        let mut text = table.lines(&first, "2026-01-01T01:01:01.5Z", now);
        text += &table.lines(&second, "2026-01-01T01:01:03.5Z", later);
        text += &table.lines(&Event::OutOfMemory, "2026-01-01T01:01:04.5Z", later);
        assert_eq!(
            text,
            "\
TIME        CPU         MEMORY      LIMIT       PIDS        READ        WRITTEN
01:01:01    1.2 s       1.5 MiB     none        3           0 B         0 B
01:01:03    25.0%       2.0 MiB     4.0 MiB     3           0 B         0 B
01:01:04    out of memory
"
        );
    }
}
