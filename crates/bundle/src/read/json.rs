//! A document as a tree that keeps duplicate keys, which a map would lose.

use crate::error::{Document, Error, one_line};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// A value. Strings without escapes are borrowed from the text.
#[derive(Debug, PartialEq)]
pub(crate) enum Json<'t> {
    Null,
    Bool(bool),
    Unsigned(u64),
    /// Below zero.
    Signed(i64),
    Float(f64),
    Text(Cow<'t, str>),
    List(Vec<Json<'t>>),
    /// In the order of the text.
    Object(Vec<(Cow<'t, str>, Json<'t>)>),
}

impl<'t> Json<'t> {
    /// Parses a whole document.
    ///
    /// # Errors
    /// The text is not UTF-8, not JSON, nested deeper than 128 levels, or has more after the value.
    pub(crate) fn parse(document: Document, text: &'t [u8]) -> Result<Json<'t>, Error> {
        let text = std::str::from_utf8(text).map_err(|error| {
            let (line, column) = position(text, error.valid_up_to());
            Error::NotUtf8 {
                document,
                line,
                column,
            }
        })?;
        serde_json::from_str(text).map_err(|error| Error::Syntax {
            document,
            line: error.line(),
            column: error.column(),
            problem: one_line(&without_position(&error)),
        })
    }

    /// The value of a key; `None` if it is absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<&Json<'t>> {
        let Json::Object(entries) = self else {
            return None;
        };
        let found = entries.iter().find(|(name, _)| name == key);
        found
            .map(|(_, value)| value)
            .filter(|value| **value != Json::Null)
    }
}

impl<'t> From<&'t Value> for Json<'t> {
    fn from(value: &'t Value) -> Self {
        match value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => Json::Unsigned(value),
                (None, Some(value)) => Json::Signed(value),
                (None, None) => number.as_f64().map_or(Json::Null, Json::Float),
            },
            Value::String(text) => Json::Text(Cow::Borrowed(text)),
            Value::Array(list) => Json::List(list.iter().map(Json::from).collect()),
            Value::Object(object) => {
                let entries = object.iter();
                Json::Object(
                    entries
                        .map(|(key, value)| (key.into(), value.into()))
                        .collect(),
                )
            }
        }
    }
}

impl From<Json<'_>> for Value {
    fn from(json: Json<'_>) -> Self {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => value.into(),
            Json::Unsigned(value) => value.into(),
            Json::Signed(value) => value.into(),
            Json::Float(value) => value.into(),
            Json::Text(text) => text.into(),
            Json::List(list) => list.into_iter().map(Value::from).collect(),
            Json::Object(entries) => {
                let entries = entries.into_iter();
                entries
                    .map(|(key, value)| (key.into_owned(), Value::from(value)))
                    .collect()
            }
        }
    }
}

/// serde_json appends the position to its sentence.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

/// Line and column, from 1, of a byte offset.
fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let head = text.get(..offset).unwrap_or(text);
    let line = head.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = head.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Json::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Json::Float(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut object = Vec::new();
        while let Some((key, value)) = entries.next_entry()? {
            let Json::Text(key) = key else {
                return Err(A::Error::custom("a key is no string"));
            };
            object.push((key, value));
        }
        Ok(Json::Object(object))
    }
}
