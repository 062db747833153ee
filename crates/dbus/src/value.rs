//! Values of messages.

use std::fmt;

use crate::Kind;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `v`
    Variant(Box<Value>),
    /// `aT`, with the type of its elements, which an empty array needs.
    Array(Kind, Vec<Value>),
    /// `(TT…)`: at least one member.
    Struct(Vec<Value>),
}

impl Value {
    /// The value's type.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Byte(_) => Kind::Byte,
            Self::Bool(_) => Kind::Bool,
            Self::I16(_) => Kind::I16,
            Self::U16(_) => Kind::U16,
            Self::I32(_) => Kind::I32,
            Self::U32(_) => Kind::U32,
            Self::I64(_) => Kind::I64,
            Self::U64(_) => Kind::U64,
            Self::Text(_) => Kind::Text,
            Self::Path(_) => Kind::Path,
            Self::Signature(_) => Kind::Signature,
            Self::Variant(_) => Kind::Variant,
            Self::Array(of, _) => Kind::Array(Box::new(of.clone())),
            Self::Struct(members) => Kind::Struct(members.iter().map(Self::kind).collect()),
        }
    }

    /// The text of a string or an object path.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) => Some(text),
            _ => None,
        }
    }

    /// The value in a variant; any other value itself.
    #[must_use]
    pub fn inner(&self) -> &Self {
        match self {
            Self::Variant(value) => value.inner(),
            value => value,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// For messages: `[1, 2]`, `('a', true)`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, values: &[Self]| {
            for (index, value) in values.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                write!(f, "{comma}{value}")?;
            }
            Ok(())
        };
        match self {
            Self::Byte(number) => write!(f, "{number}"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::I16(number) => write!(f, "{number}"),
            Self::U16(number) => write!(f, "{number}"),
            Self::I32(number) => write!(f, "{number}"),
            Self::U32(number) => write!(f, "{number}"),
            Self::I64(number) => write!(f, "{number}"),
            Self::U64(u64::MAX) => write!(f, "infinity"),
            Self::U64(number) => write!(f, "{number}"),
            Self::Text(text) | Self::Path(text) | Self::Signature(text) => write!(f, "'{text}'"),
            Self::Variant(value) => write!(f, "<{value}>"),
            Self::Array(_, values) => {
                f.write_str("[")?;
                list(f, values)?;
                f.write_str("]")
            }
            Self::Struct(values) => {
                f.write_str("(")?;
                list(f, values)?;
                f.write_str(")")
            }
        }
    }
}
