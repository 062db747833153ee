//! From text to oci-spec's types, without what those types would let pass or would lose.
//!
//! 1. [`shape`] walks over the text once: syntax, duplicate keys, objects where objects belong,
//!    required properties. oci-spec fills in zeros for what is missing, and serde takes an array
//!    for an object.
//! 2. The text is parsed to oci-spec's types.
//! 3. Only if that fails is it parsed to a tree, [`repair`]ed where oci-spec refuses what the
//!    spec allows, and tried again; what still fails is reported with its path.

mod near;
mod place;
mod repair;
mod schema;
mod shape;

#[cfg(test)]
pub(crate) use schema::SCHEDULER_FLAGS;
pub(crate) use schema::{CONFIG, PROCESS, RESOURCES};
pub(crate) use shape::Shape;

use crate::error::{At, Document, Error, one_line};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// A document in oci-spec's types, and beside it what those cannot hold.
pub(crate) struct Read<T> {
    pub(crate) spec: T,
    pub(crate) notes: Notes,
}

/// What oci-spec's types cannot hold.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) warnings: Vec<String>,
    /// `pids.limit` is there. oci-spec reads its absence as zero, which is a real limit.
    pub(crate) pids_limit: bool,
    /// `hugepageLimits[index].limit` above `i64::MAX`, where oci-spec ends.
    pub(crate) hugepage_limits: BTreeMap<usize, u64>,
}

/// Reads `text`, a document of the given shape.
///
/// # Errors
/// Syntax, types, duplicate keys, missing properties; first of all a version of another major.
pub(crate) fn read<T: DeserializeOwned>(
    document: Document,
    shape: &'static Shape,
    text: &[u8],
) -> Result<Read<T>, Error> {
    let text = std::str::from_utf8(text).map_err(|error| {
        let (line, column) = position(text, error.valid_up_to());
        Error::NotUtf8 {
            document,
            line,
            column,
        }
    })?;
    read_text(document, shape, text).map_err(|error| match foreign_version(document, text) {
        Some(foreign) if !matches!(error, Error::Syntax { .. }) => foreign,
        _ => error,
    })
}

fn read_text<T: DeserializeOwned>(
    document: Document,
    shape: &'static Shape,
    text: &str,
) -> Result<Read<T>, Error> {
    let found = shape::check(document, shape, text)?;
    let odd_capability = found.odd_capability;
    let mut notes = Notes {
        pids_limit: found.pids_limit,
        warnings: found.warnings(document),
        ..Notes::default()
    };
    if !odd_capability && let Ok(spec) = serde_json::from_str(text) {
        return Ok(Read { spec, notes });
    }
    let mut tree: Value = serde_json::from_str(text).map_err(|error| syntax(document, &error))?;
    repair::repair(document, &mut tree, &mut notes);
    let text = tree.to_string();
    let spec = serde_json::from_str(&text).map_err(|error| type_error(document, &text, &error))?;
    Ok(Read { spec, notes })
}

/// A config of another major version may differ in anything, so its version is the error to show.
fn foreign_version(document: Document, text: &str) -> Option<Error> {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(rename = "ociVersion")]
        version: Option<String>,
    }
    if document != Document::Config {
        return None;
    }
    let versioned: Versioned = serde_json::from_str(text).ok()?;
    crate::validate::version(&versioned.version.unwrap_or_default(), At::Root(document)).err()
}

pub(crate) fn syntax(document: Document, error: &serde_json::Error) -> Error {
    Error::Syntax {
        document,
        line: error.line(),
        column: error.column(),
        problem: one_line(&sentence(error)),
    }
}

/// serde_json's words without the place, which it appends.
fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// `text` is one line, so the error's column is the offset after the value that was refused.
fn type_error(document: Document, text: &str, error: &serde_json::Error) -> Error {
    let path = place::path_at(text, error.column());
    let problem = in_plain_words(&one_line(&sentence(error)));
    shape::refuse_at(At::Root(document), &path, &problem)
}

/// Says ranges where serde says names of Rust types.
fn in_plain_words(sentence: &str) -> String {
    const WORDS: [(&str, &str); 8] = [
        ("expected u16", "expected a whole number from 0 to 65535"),
        (
            "expected u32",
            "expected a whole number from 0 to 4294967295",
        ),
        (
            "expected u64",
            "expected a whole number from 0 to 18446744073709551615",
        ),
        (
            "expected usize",
            "expected a whole number from 0 to 18446744073709551615",
        ),
        (
            "expected i32",
            "expected a whole number from -2147483648 to 2147483647",
        ),
        (
            "expected i64",
            "expected a whole number from -9223372036854775808 to 9223372036854775807",
        ),
        ("expected path string", "expected a string"),
        ("expected string or map", "expected a string"),
    ];
    for (rust, plain) in WORDS {
        if let Some(head) = sentence.strip_suffix(rust) {
            return format!("{head}{plain}");
        }
    }
    sentence.to_owned()
}

/// Line and column, from 1, of a byte offset.
fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let head = text.get(..offset).unwrap_or(text);
    let line = head.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = head.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}
