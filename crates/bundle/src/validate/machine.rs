//! `hostname` and `domainname`: config.md § Hostname, § Domainname.

use super::text::c_string;
use crate::Namespace;
use crate::error::{At, Error, Shown};
use std::ffi::CString;

/// The kernel's `__NEW_UTS_LEN`, in bytes.
const MAX_BYTES: usize = 64;

/// Validates a name for the container's UTS namespace, which must not be the host's.
pub(super) fn name(
    text: Option<&str>,
    at: At<'_>,
    uts: &Namespace,
) -> Result<Option<CString>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if *uts == Namespace::Inherit {
        return Err(at.refuse(format!(
            "{} is set, but linux.namespaces has no uts entry",
            Shown(text)
        )));
    }
    if text.len() > MAX_BYTES {
        return Err(at.refuse(format!("{} is longer than {MAX_BYTES} bytes", Shown(text))));
    }
    c_string(text, at).map(Some)
}

#[cfg(test)]
mod tests {
    use crate::fixture::{accepted, base, refused, refused_from, remove, set};
    use serde_json::json;

    #[test]
    fn names_of_the_machine() {
        let long = "x".repeat(65);
        refused(&[
            (
                "/hostname",
                json!(long),
                &format!("hostname: \"{long}\" is longer than 64 bytes"),
            ),
            (
                "/domainname",
                json!(long),
                &format!("domainname: \"{long}\" is longer than 64 bytes"),
            ),
            (
                "/hostname",
                json!("a\0"),
                "hostname: \"a\\0\" holds a NUL byte",
            ),
        ]);
        accepted(&[
            ("/hostname", json!("x".repeat(64))),
            ("/domainname", json!("example.org")),
            ("/linux/namespaces/4/path", json!("/proc/1/ns/uts")),
        ]);
        let mut tree = base();
        remove(&mut tree, "/hostname");
        set(&mut tree, "/linux/namespaces", json!([{"type": "mount"}]));
        let missing = "is set, but linux.namespaces has no uts entry";
        refused_from(
            &tree,
            &[
                (
                    "/hostname",
                    json!("a"),
                    &format!("hostname: \"a\" {missing}"),
                ),
                (
                    "/domainname",
                    json!("b"),
                    &format!("domainname: \"b\" {missing}"),
                ),
            ],
        );
        crate::fixture::accepted_from(&tree, &[("/hostname", json!(""))]);
    }
}
