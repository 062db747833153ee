//! Temporary folders that are safe to remove, whatever a broken runtime mounted into them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, umount2};

use crate::leftovers::mounts_below;
use crate::programs::write_program;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A folder that is removed on drop. Others may pass through it: ordinary users run tests as well.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes one with a name of its own below `CORACLE_TEST_DIR` or `/tmp`.
    pub fn new() -> Self {
        let base = std::env::var_os("CORACLE_TEST_DIR").map_or("/tmp".into(), PathBuf::from);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("coracle-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        set_mode(&path, 0o755);
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a folder below it, mode 0755.
    pub fn folder(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).expect("a folder");
        set_mode(&path, 0o755);
        path
    }

    /// Makes a file below it, mode 0644.
    pub fn file(&self, name: impl AsRef<Path>, text: &str) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, text).expect("a file");
        set_mode(&path, 0o644);
        path
    }

    /// Makes a program below it: a shell script, mode 0755.
    pub fn script(&self, name: impl AsRef<Path>, text: &str) -> PathBuf {
        let path = self.join(name);
        write_program(&path, format!("#!/bin/sh\n{text}\n"));
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Sets the mode against whatever umask there is.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}

/// Removes a folder after unmounting all that is mounted below it: a bind of the host's `/usr`, left
/// by a faulty runtime, must not be emptied with it.
pub(crate) fn remove(path: &Path) {
    for mount in mounts_below(path).iter().rev() {
        let _ = umount2(mount, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    if mounts_below(path).is_empty() {
        let _ = fs::remove_dir_all(path);
    }
}
