//! Values as bytes and back: D-Bus Specification § Marshaling.

use crate::kind::DEPTH_MAX;
use crate::{Error, Kind, Result, Value};

/// The limit on a message: more than any message to or from systemd. The specification allows 128
/// MiB.
pub(crate) const MESSAGE_MAX: usize = 1 << 20;

/// Byte order of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

/// A message under construction, in little endian.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    /// Pads with zeros to a multiple of `alignment`.
    pub(crate) fn align(&mut self, alignment: usize) {
        let length = self.bytes.len().next_multiple_of(alignment);
        self.bytes.resize(length, 0);
    }

    pub(crate) fn u32(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend(number.to_le_bytes());
    }

    /// Appends the values in order.
    pub(crate) fn values(&mut self, values: &[Value]) -> Result<()> {
        values
            .iter()
            .try_for_each(|value| self.value(value, DEPTH_MAX))
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<()> {
        let depth = depth
            .checked_sub(1)
            .ok_or(Error::unsendable("a value is nested too deep"))?;
        self.align(value.kind().alignment());
        match value {
            Value::Byte(number) => self.bytes.push(*number),
            Value::Bool(truth) => self.u32(u32::from(*truth)),
            Value::I16(number) => self.bytes.extend(number.to_le_bytes()),
            Value::U16(number) => self.bytes.extend(number.to_le_bytes()),
            Value::I32(number) => self.bytes.extend(number.to_le_bytes()),
            Value::U32(number) => self.bytes.extend(number.to_le_bytes()),
            Value::I64(number) => self.bytes.extend(number.to_le_bytes()),
            Value::U64(number) => self.bytes.extend(number.to_le_bytes()),
            Value::Text(text) => self.text(text)?,
            Value::Path(path) => {
                if !is_path(path) {
                    return Err(Error::unsendable("not an object path"));
                }
                self.text(path)?;
            }
            Value::Signature(text) => self.signature(text)?,
            Value::Variant(value) => {
                self.signature(&value.kind().to_string())?;
                self.value(value, depth)?;
            }
            Value::Array(of, values) => self.array(of, values, depth)?,
            Value::Struct(values) => {
                if values.is_empty() {
                    return Err(Error::unsendable("an empty structure"));
                }
                for value in values {
                    self.value(value, depth)?;
                }
            }
        }
        if self.bytes.len() > MESSAGE_MAX {
            return Err(Error::unsendable("a message is too long"));
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<()> {
        if text.contains('\0') {
            return Err(Error::unsendable("a text holds a NUL byte"));
        }
        self.u32(length(text.len())?);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        Ok(())
    }

    fn signature(&mut self, text: &str) -> Result<()> {
        let length = u8::try_from(text.len());
        let length = length.map_err(|_| Error::unsendable("a signature is too long"))?;
        if Kind::list(text).is_err() {
            return Err(Error::unsendable("not a signature"));
        }
        self.bytes.push(length);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        Ok(())
    }

    /// The length of an array does not include the padding before its first value.
    fn array(&mut self, of: &Kind, values: &[Value], depth: usize) -> Result<()> {
        let place = self.bytes.len();
        self.u32(0);
        self.align(of.alignment());
        let start = self.bytes.len();
        for value in values {
            if value.kind() != *of {
                return Err(Error::unsendable("an array of mixed types"));
            }
            self.value(value, depth)?;
        }
        let written = length(self.bytes.len().saturating_sub(start))?;
        if let Some(slot) = self.bytes.get_mut(place..place + 4) {
            slot.copy_from_slice(&written.to_le_bytes());
        }
        Ok(())
    }
}

fn length(bytes: usize) -> Result<u32> {
    match u32::try_from(bytes) {
        Ok(length) if bytes <= MESSAGE_MAX => Ok(length),
        _ => Err(Error::unsendable("a message is too long")),
    }
}

/// Reads values from bytes; never beyond their end.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    order: Order,
}

impl<'a> Reader<'a> {
    /// `bytes` must begin at a multiple of 8 in the message, as every body does.
    pub(crate) fn new(bytes: &'a [u8], order: Order) -> Self {
        Self {
            bytes,
            at: 0,
            order,
        }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Reads one value of each type; bytes after them are an error.
    pub(crate) fn values(&mut self, kinds: &[Kind]) -> Result<Vec<Value>> {
        let values = kinds
            .iter()
            .map(|kind| self.value(kind, DEPTH_MAX))
            .collect::<Result<_>>()?;
        if self.is_at_end() {
            Ok(values)
        } else {
            Err(Error::malformed("there is more than its signature says"))
        }
    }

    /// Skips the padding before a value of this alignment.
    pub(crate) fn align(&mut self, alignment: usize) -> Result<()> {
        let padding = self.at.next_multiple_of(alignment).saturating_sub(self.at);
        if self.take(padding)?.iter().any(|byte| *byte != 0) {
            return Err(Error::malformed("the padding is not zero"));
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let short = Error::malformed("it ends too early");
        let end = self.at.checked_add(count).ok_or(short.clone())?;
        let taken = self.bytes.get(self.at..end).ok_or(short)?;
        self.at = end;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.align(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        if self.order == Order::Big {
            bytes.reverse();
        }
        Ok(bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        self.array_of().map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array_of().map(u32::from_le_bytes)
    }

    pub(crate) fn value(&mut self, kind: &Kind, depth: usize) -> Result<Value> {
        let deep = Error::malformed("a value is nested too deep");
        let depth = depth.checked_sub(1).ok_or(deep)?;
        Ok(match kind {
            Kind::Byte => Value::Byte(self.byte()?),
            Kind::Bool => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(Error::malformed("a truth value above 1")),
            },
            Kind::I16 => Value::I16(i16::from_le_bytes(self.array_of()?)),
            Kind::U16 => Value::U16(u16::from_le_bytes(self.array_of()?)),
            Kind::I32 => Value::I32(i32::from_le_bytes(self.array_of()?)),
            Kind::U32 => Value::U32(self.u32()?),
            Kind::I64 => Value::I64(i64::from_le_bytes(self.array_of()?)),
            Kind::U64 => Value::U64(u64::from_le_bytes(self.array_of()?)),
            Kind::Text => Value::Text(self.text()?),
            Kind::Path => {
                let path = self.text()?;
                if !is_path(&path) {
                    return Err(Error::malformed("not an object path"));
                }
                Value::Path(path)
            }
            Kind::Signature => Value::Signature(self.signature()?),
            Kind::Variant => {
                let kind = Kind::one(&self.signature()?)?;
                Value::Variant(Box::new(self.value(&kind, depth)?))
            }
            Kind::Array(of) => self.array(of, depth)?,
            Kind::Struct(members) => {
                self.align(8)?;
                let members = members.iter().map(|kind| self.value(kind, depth));
                Value::Struct(members.collect::<Result<_>>()?)
            }
        })
    }

    fn array(&mut self, of: &Kind, depth: usize) -> Result<Value> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        self.align(of.alignment())?;
        let end = self.at.checked_add(length);
        let end = end.filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(Error::malformed("an array is longer than its message"))?;
        let mut values = Vec::new();
        while self.at < end {
            values.push(self.value(of, depth)?);
        }
        if self.at > end {
            return Err(Error::malformed("an array ends within a value"));
        }
        Ok(Value::Array(of.clone(), values))
    }

    fn text(&mut self) -> Result<String> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        self.terminated(length)
    }

    fn signature(&mut self) -> Result<String> {
        let length = usize::from(self.byte()?);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Result<String> {
        let text = self.take(length)?;
        if self.take(1)? != [0] || text.contains(&0) {
            return Err(Error::malformed("a text does not end where it says"));
        }
        let text = std::str::from_utf8(text);
        text.map(str::to_owned)
            .map_err(|_| Error::malformed("a text is not UTF-8"))
    }
}

/// Whether it is a valid object path, such as `/` or `/a/b_1`.
fn is_path(path: &str) -> bool {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        !name.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match path.strip_prefix('/') {
        Some("") => true,
        Some(rest) => rest.split('/').all(is_name),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Any value, a few levels deep.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u8>().prop_map(Value::Byte),
            any::<bool>().prop_map(Value::Bool),
            any::<i16>().prop_map(Value::I16),
            any::<u16>().prop_map(Value::U16),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            "[^\0]{0,9}".prop_map(Value::Text),
            "(/[a-z_0-9]{1,3}){1,3}".prop_map(Value::Path),
            Just(Value::Signature("a(sv)".to_owned())),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                inner
                    .clone()
                    .prop_map(|value| Value::Variant(Box::new(value))),
                vec(inner.clone(), 1..4).prop_map(Value::Struct),
                (inner, 0usize..4)
                    .prop_map(|(value, count)| Value::Array(value.kind(), vec![value; count])),
            ]
        })
    }

    fn encode(values: &[Value]) -> Result<Vec<u8>> {
        let mut writer = Writer::default();
        writer.values(values).map(|()| writer.bytes)
    }

    proptest! {
        #[test]
        fn decode_after_encode_is_the_value(values in vec(values(), 0..4)) {
            let kinds: Vec<Kind> = values.iter().map(Value::kind).collect();
            let bytes = encode(&values).unwrap();
            let again = Reader::new(&bytes, Order::Little).values(&kinds);
            prop_assert_eq!(again, Ok(values));
        }

        #[test]
        fn garbage_is_an_error_or_a_value(
            bytes in vec(any::<u8>(), 0..64), big: bool,
            signature in prop::sample::select(vec!["v", "a(sv)", "uoss", "aas", "(yv)", "ax"]),
        ) {
            let order = if big { Order::Big } else { Order::Little };
            let kinds = Kind::list(signature).unwrap();
            let _ = Reader::new(&bytes, order).values(&kinds);
        }

        #[test]
        fn every_cut_of_a_message_is_an_error(value in values(), cut in 1usize..16) {
            let bytes = encode(std::slice::from_ref(&value)).unwrap();
            let short = bytes.len().saturating_sub(cut);
            let answer = Reader::new(&bytes[..short], Order::Little).values(&[value.kind()]);
            prop_assert!(answer.is_err());
        }
    }

    #[test]
    fn bytes_are_those_of_the_specification() {
        let value = Value::Array(
            Kind::Struct(vec![Kind::Text, Kind::Variant]),
            vec![Value::Struct(vec![
                "ab".into(),
                Value::Variant(Box::new(Value::U64(7))),
            ])],
        );
        let expected = b"\x18\0\0\0\0\0\0\0\x02\0\0\0ab\0\x01t\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0";
        // 8 bytes of length and padding, then text, signature, padding to 8 and the number.
        let bytes = encode(&[value]).unwrap();
        assert_eq!(bytes.len(), 8 + 24);
        assert_eq!(&bytes[..21], &expected[..21]);
        assert_eq!(bytes[24..], 7u64.to_le_bytes());
    }

    #[test]
    fn what_cannot_be_sent() {
        let refused = [
            Value::Text("a\0b".to_owned()),
            Value::Path("no/slash".to_owned()),
            Value::Path("/double//slash".to_owned()),
            Value::Signature("(".to_owned()),
            Value::Struct(Vec::new()),
            Value::Array(Kind::Byte, vec![Value::U32(1)]),
            Value::Text("x".repeat(MESSAGE_MAX)),
            (0..20).fold(Value::Byte(1), |value, _| Value::Variant(Box::new(value))),
        ];
        for value in refused {
            assert!(encode(&[value]).is_err());
        }
    }

    #[test]
    fn the_other_byte_order() {
        let bytes = [0, 0, 0, 3, b'a', b'b', b'c', 0];
        let read = Reader::new(&bytes, Order::Big).values(&[Kind::Text]);
        assert_eq!(read, Ok(vec!["abc".into()]));
    }

    #[test]
    fn lengths_beyond_the_end_take_no_memory() {
        let bytes = [0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0];
        for signature in ["s", "ay", "at"] {
            let kinds = Kind::list(signature).unwrap();
            assert!(Reader::new(&bytes, Order::Little).values(&kinds).is_err());
        }
    }
}
