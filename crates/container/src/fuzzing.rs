//! Parsers of files in a state root and of data that containers send, for fuzzing.

use serde_json::Value;

use crate::notify;
use crate::record::{self, Record};

/// Reads a `record.json`, and checks that it is the same after it was written and read again. A
/// float, which only a plugin's result can have, may change in its last digit.
///
/// # Panics
/// If it is not the same.
pub fn record(text: &[u8]) {
    let _ = (record::maker(text), Record::salvage(text));
    let tree = serde_json::from_slice(text).unwrap_or_default();
    if let Ok(record) = Record::parse(text)
        && !has_float(&tree)
    {
        let written = record.to_bytes().ok();
        let again = written.as_deref().map(Record::parse);
        let again = again.and_then(|read| read.ok()?.to_bytes().ok());
        assert_eq!(written, again);
    }
}

fn has_float(tree: &Value) -> bool {
    match tree {
        Value::Array(list) => list.iter().any(has_float),
        Value::Object(members) => members.values().any(has_float),
        value => value.is_f64(),
    }
}

/// Translates a datagram that the container sent to its service manager.
///
/// # Panics
/// If more is passed on than was received and one MAINPID for each READY.
pub fn notification(datagram: &[u8]) {
    let ready = datagram
        .split(|byte| *byte == b'\n')
        .filter(|line| *line == b"READY=1");
    let most = datagram.len() + 1 + ready.count() * "MAINPID=7\n".len();
    assert!(notify::translate(datagram, 7).0.len() <= most);
}
