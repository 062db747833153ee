//! Merges new resources into the stored config. Pure, on JSON, so that the rest of the config stays
//! as it is.

use coracle_cgroups::CPU_WEIGHTS;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// Further input of a merge.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extras<'a> {
    /// Whether the request's device list replaces the old one.
    pub(super) replaces_devices: bool,
    /// For `linux.intelRdt`.
    pub(super) l3_cache_schema: Option<&'a str>,
    /// For `linux.intelRdt`.
    pub(super) mem_bw_schema: Option<&'a str>,
}

/// Merges `requested`, a `resources` object, into the config. A value that is absent or null leaves
/// the old one, and so does a zero where zero is no valid limit: engines send whole objects of
/// zeros.
pub(super) fn merge(mut config: Value, requested: &Value, extras: Extras) -> Value {
    if let Some(linux) = config
        .as_object_mut()
        .and_then(|config| child(config, "linux"))
    {
        if let (Some(resources), Some(requested)) =
            (child(linux, "resources"), requested.as_object())
        {
            merge_resources(resources, requested, extras.replaces_devices);
        }
        for (key, schema) in [
            ("l3CacheSchema", extras.l3_cache_schema),
            ("memBwSchema", extras.mem_bw_schema),
        ] {
            let Some(schema) = schema else { continue };
            if let Some(rdt) = child(linux, "intelRdt") {
                rdt.insert(key.to_owned(), schema.into());
            }
        }
    }
    config
}

/// The sections that are merged key by key, each with the keys for which zero is no valid limit.
const SECTIONS: [(&str, &[&str]); 7] = [
    (
        "memory",
        &["limit", "reservation", "swap", "kernel", "kernelTCP"],
    ),
    (
        "cpu",
        &[
            "shares",
            "quota",
            "period",
            "realtimeRuntime",
            "realtimePeriod",
        ],
    ),
    ("pids", &[]),
    ("blockIO", &["weight", "leafWeight"]),
    ("network", &["classID"]),
    ("rdma", &[]),
    ("unified", &[]),
];

fn merge_resources(resources: &mut Object, requested: &Object, replaces_devices: bool) {
    for (key, zeros) in SECTIONS {
        if let Some(Value::Object(requested)) = requested.get(key) {
            overlay_child(resources, key, requested, zeros);
        }
    }
    if let Some(Value::Array(pages)) = requested.get("hugepageLimits") {
        upsert(resources, "hugepageLimits", pages);
    }
    if let (true, Some(list)) = (replaces_devices, requested.get("devices")) {
        resources.insert("devices".to_owned(), list.clone());
    }
    if lifts_swap(requested)
        && let Some(memory) = child(resources, "memory")
    {
        memory.insert("swap".to_owned(), (-1).into());
    }
    if asks_for_weight(requested) && !mentions_idleness(requested) {
        end_idleness(resources);
    }
}

/// Unlimited memory also lifts the limit of memory and swap, unless the request has one: the old
/// sum would still limit the memory.
fn lifts_swap(requested: &Object) -> bool {
    let is_unlimited = member(requested, "memory", "limit").and_then(Value::as_i64) == Some(-1);
    is_unlimited && member(requested, "memory", "swap").is_none_or(is_zero)
}

fn asks_for_weight(requested: &Object) -> bool {
    let shares = member(requested, "cpu", "shares");
    shares.is_some_and(|shares| !is_zero(shares))
        || CPU_WEIGHTS
            .iter()
            .any(|file| member(requested, "unified", file).is_some())
}

fn mentions_idleness(requested: &Object) -> bool {
    member(requested, "cpu", "idle").is_some() || member(requested, "unified", "cpu.idle").is_some()
}

/// Clears `cpu.idle` if a weight is requested: the kernel refuses a weight for an idle cgroup.
fn end_idleness(resources: &mut Object) {
    for (section, key, busy) in [
        ("cpu", "idle", 0.into()),
        ("unified", "cpu.idle", "0".into()),
    ] {
        if member(resources, section, key).is_some()
            && let Some(section) = child(resources, section)
        {
            section.insert(key.to_owned(), busy);
        }
    }
}

/// The value, unless it is null.
fn member<'a>(object: &'a Object, section: &str, key: &str) -> Option<&'a Value> {
    let value = object.get(section)?.get(key)?;
    (!value.is_null()).then_some(value)
}

fn overlay_child(parent: &mut Object, key: &str, requested: &Object, zeros: &[&str]) {
    if let Some(target) = child(parent, key) {
        overlay(target, requested, zeros);
    }
}

/// Copies all values but null, and zero for the keys in `zeros`.
fn overlay(target: &mut Object, requested: &Object, zeros: &[&str]) {
    for (key, value) in requested {
        match value {
            Value::Null => {}
            value if zeros.contains(&key.as_str()) && is_zero(value) => {}
            Value::String(text) if text.trim().is_empty() => {}
            Value::Array(list) => upsert(target, key, list),
            Value::Object(requested) => overlay_child(target, key, requested, &[]),
            value => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The keys that identify a list's entry: a device's numbers, a page size, an interface.
const IDENTITY: [&str; 4] = ["major", "minor", "pageSize", "name"];

/// Replaces the entry with the same identity, or adds a new one.
fn upsert(parent: &mut Object, key: &str, requested: &[Value]) {
    let list = parent.entry(key).or_insert(Value::Null);
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    let Value::Array(list) = list else { return };
    for entry in requested {
        let is_same = |other: &&mut Value| {
            let mut keys = IDENTITY.iter();
            keys.all(|key| entry.get(key) == other.get(key))
        };
        match (list.iter_mut().find(is_same), entry) {
            (Some(Value::Object(known)), Value::Object(entry)) => overlay(known, entry, &[]),
            _ => list.push(entry.clone()),
        }
    }
}

fn is_zero(value: &Value) -> bool {
    value.is_null() || value.as_i64() == Some(0)
}

/// The object at `key`, which is made if it is missing or null.
fn child<'a>(parent: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    let value = parent.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Object::new());
    }
    value.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(old: Value, requested: Value, new: Value) {
        let config = json!({"hostname": "a", "linux": {"resources": old}});
        let merged = merge(config, &requested, Extras::default());
        assert_eq!(
            merged,
            json!({"hostname": "a", "linux": {"resources": new}})
        );
    }

    #[test]
    fn zeros_and_nulls_stay() {
        let old = json!({"memory": {"limit": 5, "swap": 9}, "cpu": {"shares": 7, "cpus": "0"},
            "pids": {"limit": 3}, "blockIO": {"weight": 10}});
        let requested = json!({"memory": {"limit": 0, "swap": null, "kernel": 0}, "devices": null,
            "cpu": {"shares": 0, "quota": 0, "cpus": "", "mems": " "}, "pids": {"limit": null},
            "blockIO": {"weight": 0}, "unknown": {"x": 1}});
        check(old.clone(), requested, old);
    }

    #[test]
    fn values_take_the_place_of_others() {
        let old = json!({"memory": {"limit": 5, "swap": 9}, "cpu": {"shares": 7, "idle": 1}});
        let requested = json!({"memory": {"limit": 6, "swappiness": 0},
            "cpu": {"idle": 0, "burst": 0}, "pids": {"limit": -1}});
        let new = json!({"memory": {"limit": 6, "swap": 9, "swappiness": 0},
            "cpu": {"shares": 7, "idle": 0, "burst": 0}, "pids": {"limit": -1}});
        check(old, requested, new);
        check(
            json!(null),
            json!({"pids": {"limit": 5}}),
            json!({"pids": {"limit": 5}}),
        );
    }

    #[test]
    fn no_process_at_all_is_a_limit() {
        check(
            json!({"pids": {"limit": 3}}),
            json!({"pids": {"limit": 0}}),
            json!({"pids": {"limit": 0}}),
        );
    }

    #[test]
    fn a_weight_ends_the_idleness() {
        let old = json!({"cpu": {"idle": 1}, "unified": {"cpu.idle": "1"}});
        let with = |section: &str, key: &str, value: Value| {
            let mut new = json!({"cpu": {"idle": 0}, "unified": {"cpu.idle": "0"}});
            new[section][key] = value;
            new
        };
        for (section, key, value) in [
            ("cpu", "shares", json!(7)),
            ("unified", "cpu.weight", json!("50")),
            ("unified", "cpu.weight.nice", json!("1")),
        ] {
            let requested = json!({section: {key: value.clone()}});
            check(old.clone(), requested, with(section, key, value));
        }
        check(old.clone(), json!({"cpu": {"shares": 0}}), old.clone());
        let both = json!({"cpu": {"shares": 7, "idle": 1}});
        let new = json!({"cpu": {"shares": 7, "idle": 1}, "unified": {"cpu.idle": "1"}});
        check(old, both, new);
    }

    #[test]
    fn unlimited_memory_frees_the_swap() {
        let old = json!({"memory": {"limit": 5, "swap": 9}});
        let all = json!({"memory": {"limit": -1, "swap": -1}});
        check(old.clone(), json!({"memory": {"limit": -1}}), all.clone());
        check(
            old.clone(),
            json!({"memory": {"limit": -1, "swap": 0}}),
            all,
        );
        let requested = json!({"memory": {"limit": -1, "swap": 12}});
        check(old, requested.clone(), requested);
    }

    #[test]
    fn lists_are_merged_by_what_they_are_about() {
        let entry = |minor, rate| json!({"major": 8, "minor": minor, "rate": rate});
        check(
            json!({"blockIO": {"throttleReadBpsDevice": [entry(0, 5), entry(1, 6)]}}),
            json!({"blockIO": {"throttleReadBpsDevice": [entry(1, 7), entry(2, 8)]}}),
            json!({"blockIO": {"throttleReadBpsDevice": [entry(0, 5), entry(1, 7), entry(2, 8)]}}),
        );
        check(
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                "rdma": {"a": {"hcaHandles": 1}}, "unified": {"memory.high": "1"}}),
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2}],
                "rdma": {"a": {"hcaObjects": 2}}, "unified": {"memory.low": "2"}}),
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2}],
                "rdma": {"a": {"hcaHandles": 1, "hcaObjects": 2}},
                "unified": {"memory.high": "1", "memory.low": "2"}}),
        );
    }

    #[test]
    fn devices_and_schemata_are_extras() {
        let config = json!({"linux": {"resources": {"devices": [1]}}});
        let requested = json!({"devices": [2]});
        let kept = merge(config.clone(), &requested, Extras::default());
        assert_eq!(kept, config);
        let extras = Extras {
            replaces_devices: true,
            l3_cache_schema: Some("L3:0=f"),
            mem_bw_schema: None,
        };
        let expected = json!({"linux": {"resources": {"devices": [2]},
            "intelRdt": {"l3CacheSchema": "L3:0=f"}}});
        assert_eq!(merge(config, &requested, extras), expected);
    }
}
