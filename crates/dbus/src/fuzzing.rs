//! The parser of received messages, for fuzzing.

use crate::message;

/// Parses a message as it is received: the fixed part, and the length that it announces.
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
