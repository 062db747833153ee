//! Mounts that a test makes on the host.

use std::fs;
use std::path::{Path, PathBuf};

use crate::runner::clean_up;
use crate::{Command, Runtime};

/// A mount in the folder of a test's runtime. Drop it before the runtime, which would report it as
/// a leftover.
#[derive(Debug)]
pub struct HostMount {
    /// Where it is.
    pub path: PathBuf,
}

impl HostMount {
    /// A tmpfs on a new folder of this name, changed by [`HostMount::with`].
    pub fn new<const N: usize>(runtime: &Runtime, name: &str, options: [&str; N]) -> Self {
        let path = runtime.folder().folder(name);
        Self::at(path, ["-t", "tmpfs", "-o", "mode=755", name]).with(options)
    }

    /// `mount` with these arguments on this folder or file.
    #[track_caller]
    pub fn at<const N: usize>(path: PathBuf, arguments: [&str; N]) -> Self {
        let mount = Command::new("mount").args(arguments);
        mount.arg(&path).output().ok();
        Self { path }
    }

    /// `mount -o OPTION`, or `mount --make-…`, for each option in order.
    #[track_caller]
    pub fn with<const N: usize>(self, options: [&str; N]) -> Self {
        for option in options {
            let mount = match option.starts_with("--") {
                true => Command::new("mount").arg(option),
                false => Command::new("mount").args(["-o", option]),
            };
            mount.arg(&self.path).output().ok();
        }
        self
    }

    /// A path below it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// One more tmpfs, on a new folder below this one.
    #[track_caller]
    pub fn tmpfs_below(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(&path).expect("a folder");
        let mount = Command::new("mount").args(["-t", "tmpfs", name]);
        mount.arg(&path).output().ok();
        path
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let unmount = Command::new("umount").args(["-R", "-l"]);
        clean_up(|| drop(unmount.arg(&self.path).output()));
    }
}
