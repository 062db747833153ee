//! A cgroup for init below the container's own, if an annotation requests it.
//!
//! A v2 cgroup with processes cannot enable controllers for its children. With init one level
//! below, the container's own cgroup, the root of its cgroup namespace, has no processes, and the
//! container can enable controllers for cgroups that it makes.

use std::collections::BTreeMap;

use coracle_host::CgroupMode;

use crate::{Error, Result};

const ANNOTATION: &str = "run.coracle.init_cgroup";
const NAME_MAX: usize = 64;

/// The name of init's cgroup.
pub(super) fn plan(
    annotations: &BTreeMap<String, String>,
    mode: CgroupMode,
) -> Result<Option<String>> {
    let Some(name) = annotations.get(ANNOTATION) else {
        return Ok(None);
    };
    let refused = |reason: &str| {
        let path = format!("annotations[{ANNOTATION:?}]");
        Err(Error::config(&path, format!("{name:?}: {reason}")))
    };
    // Without a dot, the name cannot be that of a file of the kernel.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(is_plain) {
        return refused("expected up to 64 ASCII letters, digits, `_` and `-`");
    }
    match mode {
        CgroupMode::V2 => Ok(Some(name.clone())),
        _ => refused("only cgroup v2 has a use for it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, mode: CgroupMode) -> String {
        let annotations = BTreeMap::from([(ANNOTATION.to_owned(), value.to_owned())]);
        match plan(&annotations, mode) {
            Ok(name) => format!("{name:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn names() {
        assert_eq!(plan(&BTreeMap::new(), CgroupMode::V1).unwrap(), None);
        assert_eq!(check("init", CgroupMode::V2), "Some(\"init\")");
        for name in ["", "..", "a/b", "memory.max", &"x".repeat(65)] {
            let error = check(name, CgroupMode::V2);
            assert!(
                error.starts_with("config.json: annotations[\"run.coracle.init_cgroup\"]: \""),
                "{error}"
            );
        }
        let error = check("init", CgroupMode::Hybrid);
        assert!(
            error.ends_with("only cgroup v2 has a use for it"),
            "{error}"
        );
    }
}
