//! `root`: config.md § Root.

use super::Scope;
use super::text::{check_path, clean, path_text};
use crate::error::{At, Error, Shown};
use crate::{Namespace, Root};
use oci_spec::runtime as oci;
use std::path::Path;

/// The root file system. Whether it is there is seen when it is opened.
pub(super) fn root(dir: &Path, raw: Option<&oci::Root>, at: At<'_>) -> Result<Root, Error> {
    let Some(raw) = raw else {
        return Err(at.refuse("root must be specified"));
    };
    check_path(path_text(raw.path()), at.key("path"))?;
    // Not cleaned: behind a link `..` is not what it looks like.
    Ok(Root {
        path: dir.join(raw.path()),
        readonly: raw.readonly().unwrap_or(false),
    })
}

/// pivot_root(2) cannot make `/` the root again; without a mount namespace there is no jail.
pub(super) fn check_jail(root: &Root, scope: &Scope<'_>, at: At<'_>) -> Result<(), Error> {
    let host_root = clean(path_text(&root.path)) == Path::new("/");
    if host_root && scope.namespaces.mount != Namespace::Inherit {
        return Err(at.key("path").refuse(format!(
            "{} is the host's root file system; a container with a mount namespace needs its own",
            Shown(path_text(&root.path))
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::fixture::{accepted, base, parse_tree, refused, remove, set, with};
    use serde_json::json;
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
    fn the_hosts_root_will_do_without_a_mount_namespace() {
        let mut tree = base();
        remove(&mut tree, "/linux");
        remove(&mut tree, "/hostname");
        set(&mut tree, "/root/path", json!("/"));
        assert!(parse_tree(&tree).is_ok());
    }
}
