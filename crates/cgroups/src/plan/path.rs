//! `linux.cgroupsPath` in each hierarchy: config-linux.md § Cgroups Path.

use coracle_text::clean_path;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The configured path, as a clean relative path that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CgroupPath {
    /// Relative to the mount point of each hierarchy.
    Absolute(PathBuf),
    /// Relative to the runtime's own cgroup: below it on v1, beside it on v2.
    Relative(PathBuf),
    /// Relative to the root of each hierarchy, which may be outside its mount.
    InTree(PathBuf),
}

/// Parses the configured path; absent or empty means the container's id, relative to the runtime's
/// own cgroup.
pub(super) fn configured(path: Option<&str>, id: &str) -> Result<CgroupPath> {
    let text = path.filter(|path| !path.is_empty()).unwrap_or(id);
    let cleaned = clean_path(text);
    if cleaned.as_os_str().is_empty() {
        let reason = format!("`{text}` names no cgroup below the top");
        return Err(Error::config("linux.cgroupsPath", reason));
    }
    Ok(if text.starts_with('/') {
        CgroupPath::Absolute(cleaned)
    } else {
        CgroupPath::Relative(cleaned)
    })
}

/// The cgroup in a v1 hierarchy, relative to the mount point.
pub(super) fn in_hierarchy(at: &CgroupPath, own: &Path, root: &Path) -> PathBuf {
    match at {
        CgroupPath::Absolute(path) => path.clone(),
        CgroupPath::Relative(path) => shown(own, root).join(path),
        CgroupPath::InTree(path) => shown(path, root),
    }
}

/// The cgroup in the v2 tree, relative to the mount point. It is beside the runtime's own cgroup:
/// below it, it could have no limits, since a v2 cgroup with processes cannot enable controllers
/// for children.
pub(super) fn in_unified(at: &CgroupPath, own: &Path, root: &Path) -> PathBuf {
    match at {
        CgroupPath::Absolute(path) => path.clone(),
        CgroupPath::Relative(path) => {
            let mut parent = shown(own, root);
            parent.pop();
            parent.join(path)
        }
        CgroupPath::InTree(path) => shown(path, root),
    }
}

/// The cgroup relative to the mount point. In a container only a part of the hierarchy may be
/// mounted; a cgroup outside it counts as the mount point.
fn shown(own: &Path, root: &Path) -> PathBuf {
    own.strip_prefix(root)
        .map(|inside| clean_path(&inside.to_string_lossy()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    fn check(path: Option<&str>, own: &str, root: &str) -> (String, String) {
        let at = configured(path, "web1").unwrap();
        let (own, root) = (Path::new(own), Path::new(root));
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        (
            text(in_hierarchy(&at, own, root)),
            text(in_unified(&at, own, root)),
        )
    }

    fn pair(v1: &str, v2: &str) -> (String, String) {
        (v1.to_owned(), v2.to_owned())
    }

    #[test]
    fn absolute_paths_start_at_the_mount_point() {
        assert_eq!(check(Some("/a/b"), "/own", "/"), pair("a/b", "a/b"));
        assert_eq!(check(Some("/a/b"), "/own/x", "/own"), pair("a/b", "a/b"));
    }

    #[test]
    fn relative_paths_are_below_our_own_on_v1_and_beside_it_on_v2() {
        assert_eq!(check(Some("a"), "/u/s", "/"), pair("u/s/a", "u/a"));
        assert_eq!(check(Some("a"), "/", "/"), pair("a", "a"));
        assert_eq!(check(None, "/u/s", "/"), pair("u/s/web1", "u/web1"));
        assert_eq!(check(Some(""), "/u/s", "/"), pair("u/s/web1", "u/web1"));
    }

    #[test]
    fn the_mounts_root_is_taken_off() {
        assert_eq!(check(Some("a"), "/d/c1", "/d/c1"), pair("a", "a"));
        assert_eq!(check(Some("a"), "/d/c1/x", "/d/c1"), pair("x/a", "a"));
        assert_eq!(check(Some("a"), "/../other", "/"), pair("other/a", "a"));
        assert_eq!(check(Some("a"), "/elsewhere", "/d/c1"), pair("a", "a"));
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        for path in ["/", ".", "..", "/..", "a/.."] {
            let error = configured(Some(path), "web1").unwrap_err().to_string();
            assert!(
                error.starts_with("config.json: linux.cgroupsPath: "),
                "{error}"
            );
        }
    }

    /// All texts of up to `length` letters of the alphabet.
    fn texts(alphabet: &[char], length: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut first = 0;
        for _ in 0..length {
            let end = all.len();
            for at in first..end {
                all.extend(
                    alphabet
                        .iter()
                        .map(|letter| format!("{}{letter}", all[at]))
                        .collect::<Vec<_>>(),
                );
            }
            first = end;
        }
        all
    }

    /// The names that are left when `.` and `..` are followed from the top.
    fn names(path: &str) -> Vec<&str> {
        path.split('/').fold(Vec::new(), |mut names, name| {
            match name {
                "" | "." => {}
                ".." => drop(names.pop()),
                name => names.push(name),
            }
            names
        })
    }

    #[test]
    fn every_short_path() {
        let below = texts(&['/', '.', 'b'], 3);
        for path in texts(&['/', '.', 'a'], 7) {
            let path = if path.is_empty() { "web1" } else { &path };
            let wanted = names(path);
            let Ok(at) = configured(Some(path), "web1") else {
                assert!(wanted.is_empty(), "{path}");
                continue;
            };
            assert!(!wanted.is_empty(), "{path}");
            for own in &below {
                let own = format!("/{own}");
                let (v1, v2) = match path.starts_with('/') {
                    true => (wanted.clone(), wanted.clone()),
                    false => {
                        let own = names(&own);
                        let beside = &own[..own.len().saturating_sub(1)];
                        ([&own[..], &wanted].concat(), [beside, &wanted].concat())
                    }
                };
                let (own, root) = (Path::new(&own), Path::new("/"));
                let found = in_hierarchy(&at, own, root);
                assert_eq!(found, Path::new(&v1.join("/")), "{path} {own:?}");
                let found = in_unified(&at, own, root);
                assert_eq!(found, Path::new(&v2.join("/")), "{path} {own:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_leads_out(path in "[./a]{1,12}", own in "/[./b]{0,8}") {
            if let Ok(at) = configured(Some(&path), "web1") {
                for found in [
                    in_hierarchy(&at, Path::new(&own), Path::new("/")),
                    in_unified(&at, Path::new(&own), Path::new("/")),
                ] {
                    prop_assert!(found.components().all(|c| matches!(c, Component::Normal(_))));
                    prop_assert!(found.components().next().is_some());
                }
            }
        }
    }
}
