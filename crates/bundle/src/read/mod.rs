//! Reads a text to the specification's types, in one pass over the text and one over its values.
//!
//! The types are oci-spec's, read by serde. [`gaps`] has all their differences from the
//! specification. The [`reader`] adds what serde lacks: JSON paths, and the refusal of duplicate
//! keys and of arrays in place of objects.

mod gaps;
mod json;
mod near;
mod notes;
mod reader;

pub(crate) use gaps::{Capabilities, Config, ExecCpuAffinity, Process, Scheduler};
pub(crate) use json::Json;
pub(crate) use notes::Notes;

use crate::error::{At, Document, Error};
use reader::{Problem, Reader};
use serde::de::DeserializeOwned;
use std::cell::RefCell;

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
