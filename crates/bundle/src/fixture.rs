//! A valid config, and functions that change it, for tests.

use crate::{Config, Document, Error, parse};
use serde_json::{Value, json};
use std::path::Path;

/// A small valid config; its bundle is `/b`.
pub(crate) fn base() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "hostname": "web",
        "process": {
            "cwd": "/",
            "args": ["sh"],
            "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0}
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "type": "none", "source": "data", "options": ["rbind", "ro"]}
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"},
                {"type": "network"},
                {"type": "mount"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "cgroup"}
            ]
        }
    })
}

/// The base with a new user namespace of 65536 ids.
pub(crate) fn base_with_user() -> Value {
    let mut tree = base();
    set(&mut tree, "/linux/namespaces/-", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    set(&mut tree, "/linux/uidMappings", map.clone());
    set(&mut tree, "/linux/gidMappings", map);
    tree
}

/// Sets the value at a JSON pointer, and makes missing objects on the way; `-` appends to an array.
pub(crate) fn set(tree: &mut Value, pointer: &str, value: Value) {
    let mut place = tree;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let appends = token == "-";
        if appends && place.is_null() {
            *place = json!([]);
        }
        if let Value::Array(list) = place {
            if appends {
                list.push(Value::Null);
            }
            let index = if appends {
                list.len() - 1
            } else {
                token.parse().unwrap()
            };
            place = &mut list[index];
            continue;
        }
        if !place.is_object() {
            *place = json!({});
        }
        place = place
            .as_object_mut()
            .unwrap()
            .entry(token)
            .or_insert(Value::Null);
    }
    *place = value;
}

/// Removes the value at a JSON pointer.
pub(crate) fn remove(tree: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    tree.pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove(key)
        .unwrap();
}

pub(crate) fn parse_tree(tree: &Value) -> Result<Config, Error> {
    let (dir, text) = (Path::new("/b"), tree.to_string());
    let parsed = parse(dir, text.as_bytes());
    // From the text again: a float that is written may be read as its neighbour.
    let again = crate::tree(Document::Config, text.as_bytes());
    let by_tree = again.and_then(|tree| crate::parse_tree(dir, &tree));
    assert_eq!(parsed.as_ref().err(), by_tree.as_ref().err());
    parsed
}

/// The config with one change, which must be valid.
pub(crate) fn with(pointer: &str, value: Value) -> Config {
    let mut tree = base();
    set(&mut tree, pointer, value);
    parse_tree(&tree).unwrap()
}

/// Checks that each row's change to `tree` leads to its message, after `config.json: `.
pub(crate) fn refused_from(tree: &Value, rows: &[(&str, Value, &str)]) {
    assert!(
        parse_tree(tree).is_ok(),
        "the base itself: {:?}",
        parse_tree(tree).err()
    );
    let mut wrong = Vec::new();
    for (pointer, value, expected) in rows {
        let mut tree = tree.clone();
        set(&mut tree, pointer, value.clone());
        let got = match parse_tree(&tree) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(!got.contains(char::is_control), "{got:?}");
        if got != format!("config.json: {expected}") {
            wrong.push(format!(
                "{pointer} = {value}\n  expected {expected}\n  got      {got}"
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

pub(crate) fn refused(rows: &[(&str, Value, &str)]) {
    refused_from(&base(), rows);
}

/// Checks that each row's change to `tree` is accepted.
pub(crate) fn accepted_from(tree: &Value, rows: &[(&str, Value)]) {
    for (pointer, value) in rows {
        let mut tree = tree.clone();
        set(&mut tree, pointer, value.clone());
        if let Err(error) = parse_tree(&tree) {
            panic!("{pointer} = {value}: {error}");
        }
    }
}

pub(crate) fn accepted(rows: &[(&str, Value)]) {
    accepted_from(&base(), rows);
}
