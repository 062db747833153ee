//! `root`: config.md § Root.

use super::text::{check_path, path_text};
use crate::error::{At, Error, Shown};
use crate::{Linux, Mount, Namespace, Root};
use oci_spec::runtime as oci;
use std::path::{Component, Path};

/// Validates the root filesystem. Whether it exists is found out when it is opened.
pub(super) fn root(dir: &Path, raw: Option<&oci::Root>, at: At<'_>) -> Result<Root, Error> {
    let Some(raw) = raw else {
        return Err(at.refuse("root must be specified"));
    };
    check_path(path_text(raw.path()), at.key("path"))?;
    // `..` is not removed: after a symbolic link it leads to another directory than the text
    // suggests.
    Ok(Root {
        path: dir.join(raw.path()),
        readonly: raw.readonly().unwrap_or(false),
    })
}

/// pivot_root(2) cannot make `/` the root again. Without a mount namespace there is only chroot(2),
/// and what is mounted in the host's own root, or made read-only, would be so for the host.
pub(super) fn check_host_root(
    root: &Root,
    linux: &Linux,
    mounts: &[Mount],
    at: At<'_>,
) -> Result<(), Error> {
    let at = at.key("path");
    let has_namespace = linux.namespaces.mount != Namespace::Inherit;
    if has_namespace && leads_to_top(&root.path) {
        return Err(at.refuse(format!(
            "{} is the host's root file system; a container with a mount namespace needs its own",
            Shown(&root.path.to_string_lossy())
        )));
    }
    if root.is_the_hosts() && (root.readonly || !mounts.is_empty()) {
        return Err(at.refuse("mounts and readonly need a root other than / or a mount namespace"));
    }
    Ok(())
}

/// Whether an absolute path leads to `/`, by its text. The bundle's part of it need not be UTF-8.
fn leads_to_top(path: &Path) -> bool {
    let depth = path.components().fold(0_usize, |depth, part| match part {
        Component::Normal(_) => depth.saturating_add(1),
        Component::ParentDir => depth.saturating_sub(1),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => depth,
    });
    depth == 0
}

#[cfg(test)]
mod tests {
    use crate::fixture::{accepted, base, parse_tree, refused, remove, set, with};
    use serde_json::json;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    #[test]
    fn roots() {
        let host = "is the host's root file system; a container with a mount namespace needs its \
                    own";
        refused(&[
            ("/root", json!(null), "root: root must be specified"),
            ("/root", json!({}), "root.path: required, but missing"),
            ("/root/path", json!(""), "root.path: \"\" is not a path"),
            (
                "/root/path",
                json!("a\0"),
                "root.path: \"a\\0\" holds a NUL byte",
            ),
            (
                "/root/path",
                json!("/"),
                &format!("root.path: \"/\" {host}"),
            ),
            (
                "/root/path",
                json!("/x/.."),
                &format!("root.path: \"/x/..\" {host}"),
            ),
            (
                "/root/path",
                json!(".."),
                &format!("root.path: \"/b/..\" {host}"),
            ),
        ]);
        assert_eq!(
            with("/root/path", json!("a/b")).root.path,
            Path::new("/b/a/b")
        );
        assert_eq!(with("/root/path", json!("/x")).root.path, Path::new("/x"));
        accepted(&[("/root/path", json!(".")), ("/root/readonly", json!(null))]);
    }

    #[test]
    fn a_bundle_may_have_any_name() {
        let dir = Path::new(OsStr::from_bytes(b"/b\xff"));
        let parsed = |path: &str| {
            let mut tree = base();
            set(&mut tree, "/root/path", json!(path));
            crate::parse(dir, tree.to_string().as_bytes())
        };
        let config = parsed("rootfs").expect("a good config");
        assert_eq!(config.root.path, dir.join("rootfs"));
        let error = parsed("../b/..").expect_err("the host's root").to_string();
        assert!(error.contains("/../b/..\" is the host's root"), "{error}");
    }

    #[test]
    fn the_hosts_root_will_do_without_a_mount_namespace() {
        let mut tree = base();
        remove(&mut tree, "/linux");
        remove(&mut tree, "/hostname");
        set(&mut tree, "/root/path", json!("/"));
        let changed = "config.json: root.path: mounts and readonly need a root other than / or a \
                       mount namespace";
        assert_eq!(parse_tree(&tree).unwrap_err().to_string(), changed);
        remove(&mut tree, "/mounts");
        let mut config = parse_tree(&tree).unwrap();
        let added = config.add_bind("/run/x".into(), "/run/x".into());
        assert_eq!(added.unwrap_err().to_string(), changed);
        set(&mut tree, "/root/readonly", json!(true));
        assert_eq!(parse_tree(&tree).unwrap_err().to_string(), changed);
    }
}
