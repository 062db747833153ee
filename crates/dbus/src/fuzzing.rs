//! What arrives on the bus, for fuzzing.

use crate::message;

/// Reads a message as the socket delivers it: the fixed part, and as much as that announces.
pub fn message(bytes: &[u8]) {
    let Some((fixed, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let announced = message::rest_of(fixed).ok();
    if let Some(rest) = announced.and_then(|length| rest.get(..length))
        && let Ok(message) = message::decode(fixed, rest)
    {
        let _ = message.values();
    }
}
