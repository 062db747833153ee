//! The working directory and its parents: config.md § Process, `cwd`.

use crate::Error;
use std::ffi::{CStr, CString};

/// The kernel's `PATH_MAX`, in bytes, including the terminating NUL.
pub(crate) const PATH_MAX: usize = 4096;

/// `process.cwd`, with each of its parents prepared for mkdirat(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkingDirectory {
    /// The configured path, which is absolute.
    pub(crate) path: CString,
    /// From the topmost directory below the root down to the path itself.
    pub(crate) levels: Vec<Level>,
}

/// One directory of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// The path from the root to this directory.
    pub(crate) path: CString,
    /// The last component of the path.
    pub(crate) name: CString,
}

impl WorkingDirectory {
    /// Fails for a path that is longer than PATH_MAX. The kernel would refuse it, and the list of
    /// its parents' paths, whose size is quadratic, could exhaust the memory.
    pub(crate) fn new(path: &CStr) -> Result<Self, Error> {
        let bytes = path.count_bytes();
        if bytes >= PATH_MAX {
            return Err(Error::LongWorkingDirectory { bytes });
        }
        let mut levels = Vec::new();
        let mut prefix = Vec::new();
        let components = path.to_bytes().split(|byte| *byte == b'/');
        for name in components.filter(|name| !name.is_empty()) {
            prefix.push(b'/');
            prefix.extend_from_slice(name);
            levels.push(Level {
                path: c_string(&prefix),
                name: c_string(name),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            levels,
        })
    }
}

/// Makes a C string of a part of one, which holds no NUL.
fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_grow_from_the_root() {
        let levels = |path| WorkingDirectory::new(path).expect("short enough").levels;
        assert_eq!(levels(c"/"), []);
        let levels = levels(c"//srv/./data/");
        let paths: Vec<_> = levels.iter().map(|level| level.path.as_c_str()).collect();
        assert_eq!(paths, [c"/srv", c"/srv/.", c"/srv/./data"]);
        assert_eq!(levels[2].name.as_c_str(), c"data");
    }

    #[test]
    fn what_no_kernel_takes_is_refused() {
        let new = |count| {
            let path = CString::new("/y".repeat(count)).expect("no NUL");
            WorkingDirectory::new(&path).map(|cwd| cwd.levels.len())
        };
        assert_eq!(new(2047), Ok(2047));
        assert_eq!(new(2048), Err(Error::LongWorkingDirectory { bytes: 4096 }));
    }
}
