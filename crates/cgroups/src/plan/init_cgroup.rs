//! A cgroup for init below the container's own, where an annotation asks for it.
//!
//! A v2 cgroup that holds processes hands no controllers down. With init one level below, the
//! container's own cgroup, which is the top of its cgroup namespace, holds none: the container can
//! hand its controllers to cgroups that it makes itself.

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
    // No dot: the kernel's own files have one.
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
