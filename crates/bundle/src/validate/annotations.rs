//! `annotations`: config.md § Annotations.

use super::text::check_absolute;
use crate::annotation::{MOUNT_CONTEXT_TYPE, PATHS, ignored};
use crate::error::{At, Error, Shown};
use crate::read::Notes;
use std::collections::{BTreeMap, HashMap};

/// Validates the annotations. A key must not be empty.
pub(super) fn annotations(
    raw: Option<&HashMap<String, String>>,
    at: At<'_>,
    notes: &mut Notes,
) -> Result<BTreeMap<String, String>, Error> {
    let annotations: BTreeMap<String, String> = raw
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if annotations.contains_key("") {
        return Err(at.key("").refuse("an empty key"));
    }
    if let Some(kind) = annotations.get(MOUNT_CONTEXT_TYPE)
        && !["context", "fscontext", "defcontext", "rootcontext"].contains(&kind.as_str())
    {
        return Err(at.key(MOUNT_CONTEXT_TYPE).refuse(format!(
            "{} is not one of context, fscontext, defcontext, rootcontext",
            Shown(kind)
        )));
    }
    for key in PATHS {
        if let Some(path) = annotations.get(key) {
            check_absolute(path, at.key(key))?;
        }
    }
    ignored(&annotations).for_each(|warning| notes.warn(warning));
    Ok(annotations)
}

#[cfg(test)]
mod tests {
    use crate::fixture::{accepted, refused};
    use serde_json::json;

    #[test]
    fn keys_and_values() {
        refused(&[
            (
                "/annotations",
                json!({"": "x"}),
                "annotations[\"\"]: an empty key",
            ),
            (
                "/annotations",
                json!({"a": null}),
                "annotations.a: invalid type: null, expected a string",
            ),
            (
                "/annotations",
                json!({"a": {}}),
                "annotations.a: found an object, expected a string",
            ),
            (
                "/annotations",
                json!({"run.oci.mount_context_type": "label"}),
                "annotations[\"run.oci.mount_context_type\"]: \"label\" is not one of context, \
                 fscontext, defcontext, rootcontext",
            ),
        ]);
        accepted(&[
            ("/annotations", json!({"a": "", "b.c/d": "x"})),
            (
                "/annotations",
                json!({"run.oci.mount_context_type": "defcontext"}),
            ),
        ]);
    }
}
