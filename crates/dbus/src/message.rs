//! Messages: D-Bus Specification § Message Format.

use crate::wire::{MESSAGE_MAX, Order, Reader, Writer};
use crate::{Error, Kind, Result, Value};

/// The length of the fixed part before the header fields: byte order, type, flags, version, length
/// of the body, serial, length of the fields.
pub(crate) const FIXED: usize = 16;

const METHOD_CALL: u8 = 1;
const VERSION: u8 = 1;

/// Numbers of the header fields.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SENDER: u8 = 7;
    pub(super) const SIGNATURE: u8 = 8;
}

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Return,
    Error,
    Signal,
    /// A method call, or a type of a later protocol version: ignored.
    Other,
}

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Type,
    pub(crate) reply_serial: Option<u32>,
    pub(crate) path: String,
    pub(crate) interface: String,
    pub(crate) member: String,
    pub(crate) error_name: String,
    pub(crate) sender: String,
    signature: String,
    body: Vec<u8>,
    order: Order,
}

/// Encodes a method call. An empty destination is left out: a connection without a bus has none.
pub(crate) fn encode_call(
    serial: u32,
    (destination, path): (&str, &str),
    (interface, member): (&str, &str),
    body: &[Value],
) -> Result<Vec<u8>> {
    let mut content = Writer::default();
    content.values(body)?;
    let signature: String = body.iter().map(|value| value.kind().to_string()).collect();
    let named = [
        (field::PATH, Value::Path(path.to_owned())),
        (field::INTERFACE, interface.into()),
        (field::MEMBER, member.into()),
        (field::DESTINATION, destination.into()),
        (field::SIGNATURE, Value::Signature(signature)),
    ];
    let is_present = |value: &Value| match value {
        Value::Text(text) | Value::Signature(text) => !text.is_empty(),
        _ => true,
    };
    let fields = named
        .into_iter()
        .filter(|(_, value)| is_present(value))
        .map(|(number, value)| {
            Value::Struct(vec![Value::Byte(number), Value::Variant(Box::new(value))])
        })
        .collect();
    let mut message = Writer::default();
    message.bytes.extend([b'l', METHOD_CALL, 0, VERSION]);
    let length = u32::try_from(content.bytes.len());
    message.u32(length.map_err(|_| Error::unsendable("a message is too long"))?);
    message.u32(serial);
    let kind = Kind::Struct(vec![Kind::Byte, Kind::Variant]);
    message.values(&[Value::Array(kind, fields)])?;
    message.align(8);
    message.bytes.extend(content.bytes);
    if message.bytes.len() > MESSAGE_MAX {
        return Err(Error::unsendable("a message is too long"));
    }
    Ok(message.bytes)
}

/// The number of bytes that follow the fixed part.
pub(crate) fn rest_of(fixed: &[u8; FIXED]) -> Result<usize> {
    let order = order(fixed)?;
    let [_, _, _, version, ..] = *fixed;
    if version != VERSION {
        return Err(Error::malformed("another version of the protocol"));
    }
    let mut numbers = Reader::new(fixed, order);
    let mut length = || {
        numbers
            .u32()
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    };
    let (_, body, _, fields) = (length()?, length()?, length()?, length()?);
    let padded = fields.checked_next_multiple_of(8);
    match padded.and_then(|fields| fields.checked_add(body)) {
        Some(rest) if rest <= MESSAGE_MAX => Ok(rest),
        _ => Err(Error::malformed("it is too long")),
    }
}

/// Decodes a message from its fixed part and as many bytes as [`rest_of`] returned.
pub(crate) fn decode(fixed: &[u8; FIXED], rest: &[u8]) -> Result<Message> {
    let order = order(fixed)?;
    let [_, kind, ..] = *fixed;
    let length = fixed.get(12..).unwrap_or_default();
    let length = Reader::new(length, order).u32()?;
    let end = usize::try_from(length).unwrap_or(usize::MAX);
    let short = Error::malformed("it ends too early");
    let fields = rest.get(..end).ok_or(short.clone())?;
    let body = rest.get(end.next_multiple_of(8)..).ok_or(short)?;
    let mut message = Message {
        kind: match kind {
            2 => Type::Return,
            3 => Type::Error,
            4 => Type::Signal,
            _ => Type::Other,
        },
        reply_serial: None,
        path: String::new(),
        interface: String::new(),
        member: String::new(),
        error_name: String::new(),
        sender: String::new(),
        signature: String::new(),
        body: body.to_vec(),
        order,
    };
    // The fields start at offset 16, so the first structure needs no padding.
    let mut reader = Reader::new(fields, order);
    while !reader.is_at_end() {
        reader.align(8)?;
        let number = reader.byte()?;
        let value = reader.value(&Kind::Variant, crate::kind::DEPTH_MAX)?;
        message.set(number, value.inner());
    }
    Ok(message)
}

fn order(fixed: &[u8; FIXED]) -> Result<Order> {
    match fixed.first() {
        Some(b'l') => Ok(Order::Little),
        Some(b'B') => Ok(Order::Big),
        _ => Err(Error::malformed("no byte order")),
    }
}

impl Message {
    /// Stores one header field. The specification requires that unknown ones are ignored.
    fn set(&mut self, number: u8, value: &Value) {
        let slot = match number {
            field::PATH => &mut self.path,
            field::INTERFACE => &mut self.interface,
            field::MEMBER => &mut self.member,
            field::ERROR_NAME => &mut self.error_name,
            field::SENDER => &mut self.sender,
            field::SIGNATURE => &mut self.signature,
            field::REPLY_SERIAL => {
                if let Value::U32(serial) = value {
                    self.reply_serial = Some(*serial);
                }
                return;
            }
            _ => return,
        };
        if let Value::Text(text) | Value::Path(text) | Value::Signature(text) = value {
            slot.clone_from(text);
        }
    }

    /// The values of the body.
    pub(crate) fn values(&self) -> Result<Vec<Value>> {
        let kinds = Kind::list(&self.signature)?;
        Reader::new(&self.body, self.order).values(&kinds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn split(bytes: &[u8]) -> ([u8; FIXED], &[u8]) {
        (bytes[..FIXED].try_into().unwrap(), &bytes[FIXED..])
    }

    #[test]
    fn a_call_reads_back() {
        let body = [Value::U32(7), "x.scope".into()];
        let bytes = encode_call(3, ("a.b", "/c/d"), ("e.f", "G"), &body).unwrap();
        let (fixed, rest) = split(&bytes);
        assert_eq!(rest_of(&fixed), Ok(rest.len()));
        let message = decode(&fixed, rest).unwrap();
        assert_eq!(message.kind, Type::Other);
        assert_eq!(
            (message.path.as_str(), message.member.as_str()),
            ("/c/d", "G")
        );
        assert_eq!(message.interface, "e.f");
        assert_eq!(message.values(), Ok(body.to_vec()));
    }

    #[test]
    fn without_a_daemon_there_is_no_destination() {
        let with = encode_call(1, ("a.b", "/"), ("e.f", "G"), &[]).unwrap();
        let without = encode_call(1, ("", "/"), ("e.f", "G"), &[]).unwrap();
        assert!(with.windows(3).any(|part| part == b"a.b"));
        assert!(without.len() < with.len());
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_read(
            mut fixed in vec(any::<u8>(), FIXED), rest in vec(any::<u8>(), 0..80), little: bool,
        ) {
            fixed[0] = if little { b'l' } else { b'B' };
            let fixed: [u8; FIXED] = fixed.try_into().unwrap();
            let _ = rest_of(&fixed);
            if let Ok(message) = decode(&fixed, &rest) {
                let _ = message.values();
            }
        }

        #[test]
        fn a_damaged_message_does_no_harm(at in 0usize..64, byte: u8) {
            let body = [Value::Array(Kind::Text, vec!["a".into(), "b".into()])];
            let mut bytes = encode_call(3, ("a.b", "/c/d"), ("e.f", "G"), &body).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            let (fixed, rest) = split(&bytes);
            let _ = rest_of(&fixed);
            if let Ok(message) = decode(&fixed, rest) {
                let _ = message.values();
            }
        }
    }
}
