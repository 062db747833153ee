//! Types of values, and their signatures: D-Bus Specification § Type System.

use std::fmt;

use crate::{Error, Result};

/// The limit on nesting: deeper than any value that systemd uses.
pub(crate) const DEPTH_MAX: usize = 16;
/// The specification's limit on a signature.
const SIGNATURE_MAX: usize = 255;

/// The type of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `y`
    Byte,
    /// `b`
    Bool,
    /// `n`
    I16,
    /// `q`
    U16,
    /// `i`
    I32,
    /// `u`
    U32,
    /// `x`
    I64,
    /// `t`
    U64,
    /// `s`
    Text,
    /// `o`
    Path,
    /// `g`
    Signature,
    /// `v`
    Variant,
    /// `aT`
    Array(Box<Kind>),
    /// `(TT…)`
    Struct(Vec<Kind>),
}

impl Kind {
    /// The types that a signature lists.
    ///
    /// # Errors
    /// An invalid signature, one nested too deep, or one with dictionaries or descriptors.
    pub fn list(signature: &str) -> Result<Vec<Self>> {
        if signature.len() > SIGNATURE_MAX {
            return Err(Error::malformed("a signature is too long"));
        }
        let mut rest = signature.as_bytes();
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            kinds.push(take(&mut rest, DEPTH_MAX)?);
        }
        Ok(kinds)
    }

    /// The type of a signature that has exactly one.
    ///
    /// # Errors
    /// Those of [`Kind::list`], and any other number of types.
    pub fn one(signature: &str) -> Result<Self> {
        match <[Self; 1]>::try_from(Self::list(signature)?) {
            Ok([kind]) => Ok(kind),
            Err(_) => Err(Error::malformed("a signature is not of one type")),
        }
    }

    /// The alignment of a value of this type in a message, in bytes.
    pub(crate) fn alignment(&self) -> usize {
        match self {
            Self::Byte | Self::Signature | Self::Variant => 1,
            Self::I16 | Self::U16 => 2,
            Self::Bool | Self::I32 | Self::U32 | Self::Text | Self::Path | Self::Array(_) => 4,
            Self::I64 | Self::U64 | Self::Struct(_) => 8,
        }
    }
}

fn take(rest: &mut &[u8], depth: usize) -> Result<Kind> {
    let depth = depth
        .checked_sub(1)
        .ok_or(Error::malformed("a signature is nested too deep"))?;
    let incomplete = Error::malformed("a signature is incomplete");
    let (first, after) = rest.split_first().ok_or(incomplete)?;
    *rest = after;
    Ok(match first {
        b'y' => Kind::Byte,
        b'b' => Kind::Bool,
        b'n' => Kind::I16,
        b'q' => Kind::U16,
        b'i' => Kind::I32,
        b'u' => Kind::U32,
        b'x' => Kind::I64,
        b't' => Kind::U64,
        b's' => Kind::Text,
        b'o' => Kind::Path,
        b'g' => Kind::Signature,
        b'v' => Kind::Variant,
        b'a' => Kind::Array(Box::new(take(rest, depth)?)),
        b'(' => {
            let mut members = Vec::new();
            while rest.first() != Some(&b')') {
                members.push(take(rest, depth)?);
            }
            *rest = rest.get(1..).unwrap_or_default();
            if members.is_empty() {
                return Err(Error::malformed("an empty structure"));
            }
            Kind::Struct(members)
        }
        _ => return Err(Error::malformed("a type that is not understood")),
    })
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self {
            Self::Byte => "y",
            Self::Bool => "b",
            Self::I16 => "n",
            Self::U16 => "q",
            Self::I32 => "i",
            Self::U32 => "u",
            Self::I64 => "x",
            Self::U64 => "t",
            Self::Text => "s",
            Self::Path => "o",
            Self::Signature => "g",
            Self::Variant => "v",
            Self::Array(of) => return write!(f, "a{of}"),
            Self::Struct(members) => {
                f.write_str("(")?;
                members
                    .iter()
                    .try_for_each(|member| write!(f, "{member}"))?;
                ")"
            }
        };
        f.write_str(letter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        for text in ["", "s", "uoss", "a(sv)", "aau", "a(sa(sv))", "(i(bt))v"] {
            let kinds = Kind::list(text).unwrap();
            let again: String = kinds.iter().map(ToString::to_string).collect();
            assert_eq!(again, text);
        }
        let deep = "a".repeat(20) + "s";
        for text in ["a", "(", "(s", "()", "a{sv}", "h", "d", "z", ")", &deep] {
            assert!(Kind::list(text).is_err(), "{text}");
        }
        assert!(Kind::one("ss").is_err());
    }
}
