//! The location of the state root.
//!
//! Engines do not pass `--root` to every call on a container, so the default must be the same for
//! all of them, even if their environment differs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use crate::error::Error;

/// The default for the host's root user.
pub(crate) const SYSTEM: &str = "/run/coracle";

/// A state root and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    pub(crate) origin: Origin,
}

/// How a state root was determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `--root`.
    Flag,
    /// The default for the host's root user.
    System,
    /// The default below a user's runtime directory.
    User,
}

/// The inputs that determine the default.
struct Caller {
    uid: u32,
    /// `None` when unset, empty or relative.
    runtime_dir: Option<PathBuf>,
    user: Option<OsString>,
}

/// The state root for this call: `--root`, otherwise the default of the calling user.
pub(crate) fn find(flag: Option<&Path>) -> Result<Root, Error> {
    if let Some(path) = flag {
        return absolute_root(path).map(|path| Root {
            path,
            origin: Origin::Flag,
        });
    }
    let caller = Caller {
        uid: nix::unistd::geteuid().as_raw(),
        runtime_dir: std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute()),
        user: std::env::var_os("USER"),
    };
    if let Some(root) = default_root(&caller, in_user_namespace) {
        return Ok(root);
    }
    let login = PathBuf::from(format!("/run/user/{}", caller.uid));
    match std::fs::symlink_metadata(&login) {
        Ok(found) if found.is_dir() && found.uid() == caller.uid => Ok(Root {
            path: login.join("coracle"),
            origin: Origin::User,
        }),
        _ => Err(Error::Root(
            "XDG_RUNTIME_DIR is not set and there is no /run/user/UID: set it, or give --root",
        )),
    }
}

/// Makes the root below a user's runtime directory. The sticky bit protects it from being cleaned
/// up while containers run: basedir-spec, XDG_RUNTIME_DIR.
///
/// A failure is ignored here: the store makes a missing directory and reports the error.
pub(crate) fn prepare(root: &Root) {
    if root.origin == Origin::User {
        let _ = std::fs::DirBuilder::new().mode(0o1700).create(&root.path);
    }
}

fn absolute_root(path: &Path) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(path)
        .map_err(|_| Error::Root("--root: a directory is expected, not an empty value"))?;
    // A trailing /.. is not resolved here, but the path must not mean the root directory.
    let is_top = |part| matches!(part, Component::RootDir | Component::ParentDir);
    if absolute.components().all(is_top) {
        return Err(Error::Root("--root: / cannot be the state root"));
    }
    Ok(absolute)
}

/// `None` for a user who has no runtime directory.
fn default_root(caller: &Caller, in_user_namespace: fn() -> bool) -> Option<Root> {
    let below = |dir: &Path| Root {
        path: dir.join("coracle"),
        origin: Origin::User,
    };
    let system = Root {
        path: PathBuf::from(SYSTEM),
        origin: Origin::System,
    };
    match &caller.runtime_dir {
        Some(dir) if caller.uid != 0 => Some(below(dir)),
        None if caller.uid != 0 => None,
        // uid 0 in a user namespace that an ordinary user made is still that user, unless USER is
        // root: this is how podman's rootless mode calls the runtime.
        Some(dir) if !is_root(caller.user.as_ref()) && in_user_namespace() => Some(below(dir)),
        _ => Some(system),
    }
}

fn is_root(user: Option<&OsString>) -> bool {
    user.is_some_and(|user| user.as_bytes() == b"root")
}

/// The initial user namespace maps all ids onto themselves: user_namespaces(7).
fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default_for(uid: u32, dir: Option<&str>, user: Option<&str>, nested: bool) -> String {
        let caller = Caller {
            uid,
            runtime_dir: dir.map(PathBuf::from),
            user: user.map(OsString::from),
        };
        let root = default_root(&caller, if nested { || true } else { || false });
        root.map_or_else(|| "none".to_owned(), |root| root.path.display().to_string())
    }

    #[test]
    fn defaults() {
        let dir = Some("/run/user/7");
        for (uid, dir, user, nested, expected) in [
            (0, None, None, false, "/run/coracle"),
            (0, dir, Some("root"), false, "/run/coracle"),
            (0, dir, None, false, "/run/coracle"),
            (0, dir, Some("ann"), false, "/run/coracle"),
            (0, dir, Some("ann"), true, "/run/user/7/coracle"),
            (0, dir, None, true, "/run/user/7/coracle"),
            (0, dir, Some("root"), true, "/run/coracle"),
            (0, None, Some("ann"), true, "/run/coracle"),
            (7, dir, Some("root"), false, "/run/user/7/coracle"),
            (7, dir, None, true, "/run/user/7/coracle"),
            (7, None, None, false, "none"),
        ] {
            assert_eq!(
                default_for(uid, dir, user, nested),
                expected,
                "{uid} {dir:?} {user:?}"
            );
        }
    }

    #[test]
    fn a_root_is_absolute_and_not_the_top() {
        for top in ["/", "//", "/.", "/..", "/../..", ""] {
            assert!(absolute_root(Path::new(top)).is_err(), "{top:?}");
        }
        assert_eq!(
            absolute_root(Path::new("/a//b/./c")).unwrap(),
            Path::new("/a/b/c")
        );
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            absolute_root(Path::new("state")).unwrap(),
            here.join("state")
        );
    }
}
