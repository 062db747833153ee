//! The limits that `update` has flags for, one row each.

use coracle_bundle::member;
use serde_json::{Map, Value};

/// A limit with a flag of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    /// The flag's name, without dashes.
    pub flag: &'static str,
    /// What the flag takes.
    pub kind: Kind,
    /// Section and key in the resources object.
    property: (&'static str, &'static str),
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

/// All of them.
pub static LIMITS: [Limit; 15] = [
    limit("memory", Kind::Bytes, ("memory", "limit")),
    limit("memory-reservation", Kind::Bytes, ("memory", "reservation")),
    limit("memory-swap", Kind::Bytes, ("memory", "swap")),
    limit("memory-zswap", Kind::Bytes, ("unified", "memory.zswap.max")),
    limit("cpu-share", Kind::Unsigned, ("cpu", "shares")),
    limit("cpu-period", Kind::Unsigned, ("cpu", "period")),
    limit("cpu-quota", Kind::Signed, ("cpu", "quota")),
    limit("cpu-burst", Kind::Unsigned, ("cpu", "burst")),
    limit("cpu-idle", Kind::Signed, ("cpu", "idle")),
    limit("cpu-rt-period", Kind::Unsigned, ("cpu", "realtimePeriod")),
    limit("cpu-rt-runtime", Kind::Signed, ("cpu", "realtimeRuntime")),
    limit("cpuset-cpus", Kind::Text, ("cpu", "cpus")),
    limit("cpuset-mems", Kind::Text, ("cpu", "mems")),
    limit("pids-limit", Kind::Signed, ("pids", "limit")),
    limit("blkio-weight", Kind::Unsigned, ("blockIO", "weight")),
];

const fn limit(flag: &'static str, kind: Kind, property: (&'static str, &'static str)) -> Limit {
    Limit {
        flag,
        kind,
        property,
    }
}

impl Limit {
    /// The limit whose JSON path in the request is `path`: `resources.memory.limit`.
    pub(super) fn at(path: &str) -> Option<&'static Self> {
        let is_at = |limit: &&Limit| {
            let (section, key) = limit.property;
            member(&format!("resources.{section}"), key) == path
        };
        LIMITS.iter().find(is_at)
    }
}

/// The resources object with the values of the flags.
pub(super) fn object(flags: &[(&'static Limit, Value)]) -> Value {
    let mut sections = Map::new();
    for (limit, value) in flags {
        let (section, key) = limit.property;
        let entry = sections.entry(section).or_insert_with(|| Map::new().into());
        if let Value::Object(entry) = entry {
            let value = match section {
                "unified" => as_file_content(value).into(),
                _ => value.clone(),
            };
            entry.insert(key.to_owned(), value);
        }
    }
    Value::Object(sections)
}

/// A number as the kernel's files of cgroup v2 take it.
fn as_file_content(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        number if number.as_i64() == Some(-1) => "max".to_owned(),
        number => number.to_string(),
    }
}

#[cfg(test)]
pub(super) fn named(flag: &str) -> &'static Limit {
    LIMITS.iter().find(|limit| limit.flag == flag).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flags_become_an_object() {
        let flags = [
            (named("memory"), json!(1_048_576)),
            (named("cpuset-cpus"), json!("0")),
            (named("cpu-quota"), json!(-1)),
            (named("memory-zswap"), json!(-1)),
        ];
        assert_eq!(
            object(&flags),
            json!({"memory": {"limit": 1048576}, "cpu": {"cpus": "0", "quota": -1},
                "unified": {"memory.zswap.max": "max"}})
        );
    }

    #[test]
    fn each_limit_is_found_by_its_path() {
        for limit in &LIMITS {
            let (section, key) = limit.property;
            let found = Limit::at(&member(&format!("resources.{section}"), key));
            assert_eq!(found, Some(limit));
        }
        assert_eq!(Limit::at("resources.cpu.other"), None);
    }
}
