//! The part of Protocol Buffers (proto2) that criu's protocol uses: integers, booleans, strings and
//! messages.

/// Encodes a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds an integer that is not negative, an enumeration or a boolean.
    pub(crate) fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    pub(crate) fn text(&mut self, field: u32, text: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        // The length of a slice always fits.
        self.varint(u64::try_from(text.len()).unwrap_or(u64::MAX));
        self.bytes.extend_from_slice(text);
        self
    }

    pub(crate) fn message(&mut self, field: u32, message: &Writer) -> &mut Self {
        self.text(field, &message.bytes)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
    }
}

/// The bytes are not a message, or its types are not those of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// 32 or 64 bits, a type that no field of the protocol has.
    Fixed,
}

impl<'a> Value<'a> {
    pub(crate) fn number(self) -> Result<u64, Malformed> {
        match self {
            Value::Number(number) => Ok(number),
            _ => Err(Malformed),
        }
    }

    /// An `int32`. A negative one is encoded as an `int64`.
    pub(crate) fn int32(self) -> Result<i32, Malformed> {
        i32::try_from(self.number()?.cast_signed()).map_err(|_| Malformed)
    }

    pub(crate) fn flag(self) -> Result<bool, Malformed> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }
}

/// Calls `each` for each field of a message, in order.
pub(crate) fn read<'a>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(u64, Value<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            1 => skip(&mut bytes, 8)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| Malformed)?;
                let (value, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
                bytes = rest;
                Value::Bytes(value)
            }
            5 => skip(&mut bytes, 4)?,
            _ => return Err(Malformed),
        };
        match key >> 3 {
            0 => return Err(Malformed),
            field => each(field, value)?,
        }
    }
    Ok(())
}

fn skip<'a>(bytes: &mut &'a [u8], length: usize) -> Result<Value<'a>, Malformed> {
    let (_, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(Value::Fixed)
}

/// Decodes an integer: at most ten bytes, and only the lowest bit of the tenth, to fit into 64
/// bits.
fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        if shift == 63 && byte > 1 {
            return Err(Malformed);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Malformed> {
        let mut all = Vec::new();
        read(bytes, |field, value| {
            all.push((field, value));
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn the_encoding_is_that_of_its_specification() {
        let mut inner = Writer::default();
        inner.number(1, 150);
        let mut outer = Writer::default();
        outer.message(3, &inner).text(2, b"testing").number(46, 1);
        let bytes = outer.into_bytes();
        assert_eq!(
            bytes,
            b"\x1a\x03\x08\x96\x01\x12\x07testing\xf0\x02\x01".to_vec()
        );
        let expected = vec![
            (3, Value::Bytes(b"\x08\x96\x01")),
            (2, Value::Bytes(b"testing")),
            (46, Value::Number(1)),
        ];
        assert_eq!(fields(&bytes), Ok(expected));
    }

    #[test]
    fn a_negative_int32_is_read() {
        let minus_one = b"\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        let all = fields(minus_one).unwrap();
        assert_eq!(all[0].1.int32(), Ok(-1));
        assert_eq!(Value::Number(1 << 40).int32(), Err(Malformed));
        assert_eq!(Value::Number(2).flag(), Err(Malformed));
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        for bad in [
            &b"\x08"[..],
            b"\x08\x80",
            b"\x12\x05abc",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x09\x00\x00",
            b"\x0b",
            b"\x00\x01",
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        ] {
            assert_eq!(fields(bad), Err(Malformed), "{bad:x?}");
        }
        assert_eq!(
            fields(b"\x0d1234\x09\x31\x32\x33\x34\x35\x36\x37\x38"),
            Ok(vec![(1, Value::Fixed), (1, Value::Fixed)])
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u64, text: Vec<u8>, field in 1..0x2000_0000_u32) {
            let mut writer = Writer::default();
            writer.number(field, number).text(field, &text);
            let bytes = writer.into_bytes();
            let field = u64::from(field);
            let expected = vec![(field, Value::Number(number)), (field, Value::Bytes(&text))];
            prop_assert_eq!(fields(&bytes), Ok(expected));
        }

        #[test]
        fn nothing_that_arrives_is_too_much(bytes: Vec<u8>) {
            let _ = fields(&bytes);
        }
    }
}
