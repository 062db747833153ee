//! A cgroup for init below the container's own, if an annotation requests it.
//!
//! A v2 cgroup with processes cannot enable controllers for its children. With init one level
//! below, the container's own cgroup, the root of its cgroup namespace, has no processes, and the
//! container can enable controllers for cgroups that it makes. With a subgroup, init's cgroup is
//! the root of its cgroup namespace itself, and the unit's cgroup stays out of its sight.

use std::collections::BTreeMap;

use coracle_bundle::annotation::{DELEGATE_CGROUP, INIT_CGROUP, SUBGROUP};
use coracle_host::CgroupMode;

use super::Manager;
use crate::{Error, Result};

const NAME_MAX: usize = 64;

/// Init's cgroup below the container's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitCgroup {
    /// Its name.
    pub name: String,
    /// Whether it is the root of a new cgroup namespace.
    pub is_namespace_root: bool,
}

/// Init's cgroup. The annotations of crun have no effect if they are empty, as with crun, and the
/// one of systemd none without it.
pub(super) fn plan(
    annotations: &BTreeMap<String, String>,
    mode: CgroupMode,
    manager: Manager,
) -> Result<Option<InitCgroup>> {
    let get = |key| Some((key, annotations.get(key)?));
    let of_crun = |key| get(key).filter(|(_, name)| !name.is_empty());
    let subgroup = of_crun(SUBGROUP).filter(|_| manager == Manager::Systemd);
    let mut wanted = [get(INIT_CGROUP), of_crun(DELEGATE_CGROUP), subgroup]
        .into_iter()
        .flatten();
    let Some((key, name)) = wanted.next() else {
        return Ok(None);
    };
    let refused = |reason: &str| {
        let path = format!("annotations[{key:?}]");
        Err(Error::config(&path, format!("{name:?}: {reason}")))
    };
    if let Some((other, _)) = wanted.next() {
        return refused(&format!(
            "annotations[{other:?}] gives init a cgroup as well"
        ));
    }
    // Without a dot, the name cannot be that of a file of the kernel.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(is_plain) {
        return refused("expected up to 64 ASCII letters, digits, `_` and `-`");
    }
    match mode {
        CgroupMode::V2 => Ok(Some(InitCgroup {
            name: name.clone(),
            is_namespace_root: key == SUBGROUP,
        })),
        _ => refused("only cgroup v2 has a use for it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(annotations: &[(&str, &str)], mode: CgroupMode, manager: Manager) -> String {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        match plan(&annotations.iter().map(owned).collect(), mode, manager) {
            Ok(None) => "none".to_owned(),
            Ok(Some(cgroup)) => format!("{} {}", cgroup.name, cgroup.is_namespace_root),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn names() {
        let check = |key, name, mode| check(&[(key, name)], mode, Manager::Cgroupfs);
        assert_eq!(check("a", "b", CgroupMode::V1), "none");
        let long = "x".repeat(65);
        for key in [INIT_CGROUP, DELEGATE_CGROUP] {
            assert_eq!(check(key, "init", CgroupMode::V2), "init false");
            for name in ["..", "a/b", "memory.max", &long] {
                let error = check(key, name, CgroupMode::V2);
                let start = format!("config.json: annotations[{key:?}]: \"");
                assert!(error.starts_with(&start), "{error}");
            }
            let error = check(key, "init", CgroupMode::Hybrid);
            let reason = "only cgroup v2 has a use for it";
            assert!(error.ends_with(reason), "{error}");
        }
        let error = check(INIT_CGROUP, "", CgroupMode::V2);
        assert!(error.contains("\"\": expected"), "{error}");
        assert_eq!(check(DELEGATE_CGROUP, "", CgroupMode::V1), "none");
    }

    #[test]
    fn a_subgroup_is_below_a_unit_only() {
        let sub = [(SUBGROUP, "sub")];
        let v2 = CgroupMode::V2;
        assert_eq!(check(&sub, v2, Manager::Systemd), "sub true");
        assert_eq!(check(&sub, CgroupMode::V1, Manager::Cgroupfs), "none");
        assert_eq!(check(&[(SUBGROUP, "")], v2, Manager::Systemd), "none");
        assert_eq!(
            check(&[sub[0], (DELEGATE_CGROUP, "d")], v2, Manager::Systemd),
            "config.json: annotations[\"run.oci.delegate-cgroup\"]: \"d\": \
             annotations[\"run.oci.systemd.subgroup\"] gives init a cgroup as well"
        );
    }
}
