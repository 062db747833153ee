//! `linux.resources.pids`: cgroup-v1/pids.rst, cgroup-v2.rst § PID.

use super::write::Write;

/// The value of pids.max.
///
/// Zero becomes one: a v2 cgroup without room for a process takes no init, and systemd has no zero.
pub(super) fn plan(limit: Option<i64>) -> Vec<Write> {
    let value = match limit {
        None => return Vec::new(),
        Some(0) => "1".to_owned(),
        Some(limit) if limit < 0 => "max".to_owned(),
        Some(limit) => limit.to_string(),
    };
    vec![Write::new("pids.max", value, "linux.resources.pids.limit")]
}

#[cfg(test)]
mod tests {
    use super::super::write::text;
    use super::*;

    #[test]
    fn limits() {
        let check = |limit, expected: &str| assert_eq!(text(&Ok(plan(limit))), expected);
        check(None, "");
        check(Some(-1), "pids.max=max");
        check(Some(-7), "pids.max=max");
        check(Some(0), "pids.max=1");
        check(Some(2048), "pids.max=2048");
    }
}
