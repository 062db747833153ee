//! Finds criu.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::error::Error;
use coracle_text::DEFAULT_PATH;

/// The first executable `criu` in `PATH` or in the default directories, since some engines call
/// runtimes without a `PATH`.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find() -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path)
        .filter(|place| place.is_absolute())
        .chain(DEFAULT_PATH.split(':').map(PathBuf::from));
    let mut candidates = places.map(|place| place.join("criu"));
    let found = candidates.find(|path| path.is_file() && access(path, AccessFlags::X_OK).is_ok());
    found.ok_or(Error::NotFound)
}

/// The caller's environment, with the default directories added to `PATH`: criu runs tar(1) and
/// iptables(8).
pub(super) fn environment() -> Vec<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut full = OsString::from("PATH=");
    for part in [path.as_os_str(), Path::new(DEFAULT_PATH).as_os_str()] {
        if full.len() > 5 {
            full.push(":");
        }
        full.push(part);
    }
    let others = std::env::vars_os().filter(|(name, _)| name.as_bytes() != b"PATH");
    let others = others.map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    others.chain([full]).collect()
}
