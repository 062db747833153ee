//! Reads a text to the specification's types, in one pass over the text and one over its values.
//!
//! The types are oci-spec's, read by serde. [`gaps`] has all their differences from the
//! specification. serde_json's own reader of a tree accepts an array for an object, the last of
//! duplicate keys and any unknown key, and its errors have no path. The [`Reader`] here keeps the
//! JSON path, so that each error has it. The names of properties come from the types that are read.

mod gaps;
mod json;

pub(crate) use gaps::{Capabilities, Config, ExecCpuAffinity, Notes, Process, Scheduler};
pub(crate) use json::Json;

use crate::error::{At, Document, Error, Shown, one_line};
use gaps::StandIn;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::{self, Display};
use std::slice;

/// Reads a document to a value of its type.
///
/// # Errors
/// Wrong types, duplicate keys, missing properties: each with its path.
pub(crate) fn read<T: DeserializeOwned>(
    document: Document,
    json: &Json<'_>,
) -> Result<(T, Notes), Error> {
    walk(document, json, |reader| T::deserialize(reader))
}

/// Checks a document that is read to no type.
///
/// # Errors
/// Duplicate keys, with the path of their object.
pub(crate) fn check_keys(document: Document, json: &Json<'_>) -> Result<(), Error> {
    walk(document, json, |reader| reader.ignore()).map(|((), _)| ())
}

fn walk<'a, T>(
    document: Document,
    json: &'a Json<'a>,
    walk: impl FnOnce(Reader<'_>) -> Result<T, Problem>,
) -> Result<(T, Notes), Error> {
    let notes = RefCell::default();
    let reader = Reader {
        json,
        at: At::Root(document),
        notes: &notes,
    };
    let found = walk(reader).map_err(|problem| reader.error(problem))?;
    Ok((found, notes.into_inner()))
}

type Entry<'a> = (Cow<'a, str>, Json<'a>);

/// A value and its JSON path.
#[derive(Clone, Copy)]
struct Reader<'a> {
    json: &'a Json<'a>,
    at: At<'a>,
    notes: &'a RefCell<Notes>,
}

/// Why a value was refused. serde makes it without a path, which the reader adds.
#[derive(Debug)]
enum Problem {
    Text(String),
    Missing(&'static str),
    Placed(Error),
}

impl<'a> Reader<'a> {
    fn refuse(self, problem: impl Display) -> Problem {
        Problem::Placed(self.at.refuse(problem))
    }

    /// The error of a document.
    fn error(self, problem: Problem) -> Error {
        match problem {
            Problem::Placed(error) => error,
            Problem::Text(text) => self.at.refuse(one_line(&text)),
            Problem::Missing(key) => self.at.key(key).refuse(match self.json {
                Json::Object(entries) if entries.iter().any(|(name, _)| name == key) => {
                    "required, but null"
                }
                _ => "required, but missing",
            }),
        }
    }

    fn place<T>(self, result: Result<T, Problem>) -> Result<T, Problem> {
        result.map_err(|problem| Problem::Placed(self.error(problem)))
    }

    fn wrong_kind(self, expected: &str) -> Problem {
        let found = match self.json {
            Json::Null => "null",
            Json::Bool(_) => "a boolean",
            Json::Unsigned(_) | Json::Signed(_) | Json::Float(_) => "a number",
            Json::Text(_) => "a string",
            Json::List(_) => "an array",
            Json::Object(_) => "an object",
        };
        self.refuse(format!("found {found}, expected {expected}"))
    }

    /// The entries of an object. Refuses duplicate keys.
    fn object(self) -> Result<&'a [Entry<'a>], Problem> {
        let Json::Object(entries) = self.json else {
            return Err(self.wrong_kind("an object"));
        };
        let mut keys: Vec<&str> = entries.iter().map(|(key, _)| &**key).collect();
        keys.sort_unstable();
        match keys.array_windows().find(|[first, second]| first == second) {
            Some([key, _]) => Err(self.refuse(format!("the key {} stands here twice", Shown(key)))),
            None => Ok(entries),
        }
    }

    /// Skips the value of an unknown property, but refuses duplicate keys in it.
    fn ignore(self) -> Result<(), Problem> {
        let inside = |json, at| Reader { json, at, ..self }.ignore();
        match self.json {
            Json::List(list) => {
                let mut elements = list.iter().enumerate();
                elements.try_for_each(|(index, json)| inside(json, self.at.index(index)))
            }
            Json::Object(_) => {
                let mut entries = self.object()?.iter();
                entries.try_for_each(|(key, json)| inside(json, self.at.key(key)))
            }
            _ => Ok(()),
        }
    }

    /// Skips unknown properties, with a warning if one looks like a known one.
    fn ignore_unknown(
        self,
        entries: &'a [Entry<'a>],
        known: &[&'static str],
    ) -> Result<(), Problem> {
        for (key, json) in entries {
            let key = &**key;
            if known.contains(&key) {
                continue;
            }
            let at = self.at.key(key);
            if let Some(property) = near(known, key) {
                let warning = format!("{at} is not a property; did you mean {property}?");
                self.notes.borrow_mut().warn(warning);
            }
            Reader { json, at, ..self }.ignore()?;
        }
        Ok(())
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Problem;

    /// Reads a plain value: for objects and arrays serde calls other methods.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.place(match self.json {
            Json::Null => visitor.visit_unit(),
            Json::Bool(value) => visitor.visit_bool(*value),
            Json::Unsigned(value) => visitor.visit_u64(*value),
            Json::Signed(value) => visitor.visit_i64(*value),
            Json::Float(value) => visitor.visit_f64(*value),
            Json::Text(text) => visitor.visit_str(text),
            Json::List(_) | Json::Object(_) => {
                Err(self.wrong_kind(&in_plain_words(&visitor as &dyn Expected)))
            }
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.json {
            Json::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let Json::List(list) = self.json else {
            return Err(self.wrong_kind("an array"));
        };
        self.place(visitor.visit_seq(Elements {
            list: self,
            rest: list.iter().enumerate(),
        }))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let entries = self.object()?;
        self.place(visitor.visit_map(Entries {
            object: self,
            known: None,
            rest: entries.iter(),
            stand_in: None,
            value: None,
        }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let entries = self.object()?;
        let known = gaps::properties(name, fields);
        self.ignore_unknown(entries, known)?;
        for key in gaps::required(name, self.json) {
            if self.json.get(key).is_none() {
                return self.place(Err(Problem::Missing(key)));
            }
        }
        let stand_in = gaps::enter(name, self.json, self.at, &mut self.notes.borrow_mut());
        self.place(visitor.visit_map(Entries {
            object: self,
            known: Some(known),
            rest: entries.iter(),
            stand_in,
            value: None,
        }))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let name = String::deserialize(self)?;
        self.place(visitor.visit_enum(name.as_str().into_deserializer()))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct newtype_struct tuple tuple_struct identifier ignored_any
    }
}

struct Elements<'a> {
    list: Reader<'a>,
    rest: std::iter::Enumerate<slice::Iter<'a, Json<'a>>>,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Problem;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Problem> {
        let Some((index, json)) = self.rest.next() else {
            return Ok(None);
        };
        let at = self.list.at.index(index);
        let element = Reader {
            json,
            at,
            ..self.list
        };
        seed.deserialize(element).map(Some)
    }
}

/// The properties of a struct, or all entries of a map.
struct Entries<'a> {
    object: Reader<'a>,
    known: Option<&'static [&'static str]>,
    rest: slice::Iter<'a, Entry<'a>>,
    /// A value that replaces the object's value of its key.
    stand_in: Option<StandIn>,
    /// The value of the key that was returned last.
    value: Option<(&'a str, &'a Json<'a>)>,
}

impl<'a> Entries<'a> {
    /// Whether an entry is read. A null property counts as absent; unknown properties were handled
    /// before.
    fn is_read(&self, key: &str, value: &Json<'_>) -> bool {
        let Some(known) = self.known else {
            return true;
        };
        let replaced = self.stand_in.as_ref().is_some_and(|(name, _)| *name == key);
        *value != Json::Null && known.contains(&key) && !replaced
    }

    fn next(&mut self) -> Option<(&'a str, &'a Json<'a>)> {
        while let Some((key, value)) = self.rest.next() {
            if self.is_read(key, value) {
                return Some((key, value));
            }
        }
        self.stand_in.take()
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Problem;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Problem> {
        self.value = self.next();
        let key = self.value.map(|(key, _)| StrDeserializer::new(key));
        key.map(|key| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Problem> {
        let (key, json) = self.value.take().unwrap_or(("", &Json::Null));
        let at = self.object.at.key(key);
        seed.deserialize(Reader {
            json,
            at,
            ..self.object
        })
    }
}

impl de::Error for Problem {
    fn custom<T: Display>(text: T) -> Problem {
        Problem::Text(text.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Problem {
        let expected = in_plain_words(expected);
        Problem::Text(match found {
            Unexpected::Unit => format!("invalid type: null, expected {expected}"),
            // In JSON's format: 2e+20, not 200000000000000000000.0.
            Unexpected::Float(number) => {
                let number = serde_json::Value::from(number);
                format!("invalid type: floating point `{number}`, expected {expected}")
            }
            found => format!("invalid type: {found}, expected {expected}"),
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Problem {
        let expected = in_plain_words(expected);
        Problem::Text(format!("invalid value: {found}, expected {expected}"))
    }

    fn missing_field(key: &'static str) -> Problem {
        Problem::Missing(key)
    }
}

impl std::error::Error for Problem {}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Replaces names of Rust types in serde's messages by ranges.
fn in_plain_words(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    let range = match &*expected {
        "u16" => "0 to 65535",
        "u32" => "0 to 4294967295",
        "u64" | "usize" => "0 to 18446744073709551615",
        "i32" => "-2147483648 to 2147483647",
        "i64" => "-9223372036854775808 to 9223372036854775807",
        "path string" => return "a string".to_owned(),
        _ => return expected,
    };
    format!("a whole number from {range}")
}

/// The minimum length of a name, in bytes: shorter ones are one letter away from too many others.
const SHORTEST: usize = 3;

/// The property that an unknown key probably stands for: it differs only in case, or in one letter.
fn near(properties: &[&'static str], key: &str) -> Option<&'static str> {
    let names = || properties.iter().copied();
    let same = names().find(|name| name.eq_ignore_ascii_case(key));
    same.or_else(|| names().find(|name| is_near(name.as_bytes(), key.as_bytes())))
}

/// Whether one letter differs, is added or is missing, or two neighbours are exchanged.
fn is_near(name: &[u8], key: &[u8]) -> bool {
    if name.len().min(key.len()) < SHORTEST || name.len().abs_diff(key.len()) > 1 {
        return false;
    }
    let pairs = || name.iter().zip(key);
    let head = pairs().take_while(|(a, b)| a == b).count();
    let tail = name.iter().rev().zip(key.iter().rev());
    let tail = tail.take_while(|(a, b)| a == b).count();
    // One letter differs, is added or is missing.
    if head.saturating_add(tail) >= name.len().max(key.len()).saturating_sub(1) {
        return true;
    }
    // Two neighbouring letters are exchanged.
    let swapped = |text: &[u8]| match text.get(head..) {
        Some([first, second, ..]) => Some((*first, *second)),
        _ => None,
    };
    name.len() == key.len()
        && head.saturating_add(tail).saturating_add(2) == name.len()
        && swapped(name).map(|(first, second)| (second, first)) == swapped(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_is_near() {
        let is_mounts = |key: &str| is_near(b"mounts", key.as_bytes());
        for key in ["Mounts", "mount", "mountss", "mounds", "muonts", "ounts"] {
            assert!(is_mounts(key), "{key}");
        }
        for key in ["", "mo", "moun", "rounds", "mountsxx", "muonst", "hooks"] {
            assert!(!is_mounts(key), "{key}");
        }
        assert!(!is_near(b"op", b"oq") && !is_near(b"uid", b"ui"));
    }

    #[test]
    fn case_goes_before_letters() {
        let properties = ["uid", "gid", "op"];
        for (key, name) in [("Gid", "gid"), ("OP", "op"), ("pid", "uid")] {
            assert_eq!(near(&properties, key), Some(name));
        }
        assert_eq!(near(&properties, "user"), None);
    }
}
