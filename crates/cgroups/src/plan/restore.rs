//! The text that restores a value, from the previous content of the file.

use super::write::Write;
use crate::table::Restore;

/// The text to write into the file of `write` to restore the content `before`; `None` if nothing
/// needs to be written.
pub(crate) fn restore(write: &Write, before: &str) -> Option<String> {
    let before = before.trim();
    let first_word = |line: &str| line.split_whitespace().next().map(str::to_owned);
    match write.file.restore {
        Restore::Whole if before.is_empty() => Some("\n".to_owned()),
        Restore::Whole => Some(before.to_owned()),
        Restore::Weight if before == "0" => None,
        Restore::Weight => Some(before.to_owned()),
        Restore::Word => first_word(before),
        Restore::Field(key) => {
            let line = before.lines().next()?.strip_prefix(key)?;
            Some(line.trim().to_owned())
        }
        Restore::Value(unset) => {
            let text = write.text();
            let Some((device, _)) = text.split_once(char::is_whitespace) else {
                return Some(of_all(before));
            };
            let mut lines = before.lines();
            match lines.find(|line| first_word(line).as_deref() == Some(device)) {
                Some(line) => Some(line.trim().to_owned()),
                None if unset.is_empty() => None,
                None => Some(format!("{device} {unset}")),
            }
        }
    }
}

/// The default value of a file that also has values for single devices.
fn of_all(before: &str) -> String {
    let default = before.lines().find(|line| line.starts_with("default "));
    default
        .or(before.lines().next())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Version, find};

    fn check(file: &str, value: &str, before: &str, expected: Option<&str>) {
        let on_v1 = find(Version::V1, file);
        let write = match on_v1.name.is_empty() {
            true => Write::by_name(file, value, "x"),
            false => Write::new(on_v1, value, "x"),
        };
        assert_eq!(restore(&write, before).as_deref(), expected, "{file}");
    }

    #[test]
    fn single_values() {
        check("memory.max", "7", "max\n", Some("max"));
        check("memory.limit_in_bytes", "7", "4096\n", Some("4096"));
        check("cpu.max", "5 6", "max 100000\n", Some("max 100000"));
        check("cpu.max", "5", "20000 100000\n", Some("20000 100000"));
        check("cpu.weight", "5", "100\n", Some("100"));
        check("cpu.weight", "5", "0\n", None);
        check("cpuset.cpus", "0", "\n", Some("\n"));
        check("cpuset.cpus", "0", "0-1\n", Some("0-1"));
        check(
            "cpuset.cpus.partition",
            "root",
            "root invalid (x)\n",
            Some("root"),
        );
        let oom = "oom_kill_disable 1\nunder_oom 0\noom_kill 0\n";
        check("memory.oom_control", "0", oom, Some("1"));
    }

    #[test]
    fn values_by_device() {
        let max = "8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2\n";
        check("io.max", "8:16 rbps=7", max, Some("8:16 rbps=2"));
        let all = "7:0 rbps=max wbps=max riops=max wiops=max";
        check("io.max", "7:0 rbps=7", max, Some(all));
        let weights = "default 100\n8:0 50\n";
        check("io.weight", "200", weights, Some("default 100"));
        check("io.bfq.weight", "8:0 9", weights, Some("8:0 50"));
        check("io.bfq.weight", "8:1 9", weights, Some("8:1 default"));
        let throttle = "blkio.throttle.read_bps_device";
        check(throttle, "8:0 600", "8:0 500\n", Some("8:0 500"));
        check(throttle, "8:1 600", "8:0 500\n", Some("8:1 0"));
        check("net_prio.ifpriomap", "lo 5", "lo 0\neth0 1\n", Some("lo 0"));
        let rdma = "mlx hca_handle=max hca_object=3\n";
        let line = "mlx hca_handle=max hca_object=3";
        check("rdma.max", "mlx hca_handle=1", rdma, Some(line));
        check("misc.max", "none 1", "res 2\n", None);
    }
}
