//! The working directory and what is needed to make it: config.md § Process, `cwd`.

use std::ffi::{CStr, CString};

/// `process.cwd`, with each of its parents ready for `mkdirat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkingDirectory {
    /// As given: absolute.
    pub(crate) path: CString,
    /// From the topmost directory below the root down to the path itself.
    pub(crate) levels: Vec<Level>,
}

/// One directory of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// From the root down to here.
    pub(crate) path: CString,
    /// The last component of it.
    pub(crate) name: CString,
}

impl WorkingDirectory {
    pub(crate) fn new(path: &CStr) -> Self {
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
        Self {
            path: path.to_owned(),
            levels,
        }
    }
}

/// The parts of a C string hold no NUL.
fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_grow_from_the_root() {
        let levels = WorkingDirectory::new(c"//srv/./data/").levels;
        let paths: Vec<_> = levels.iter().map(|level| level.path.as_c_str()).collect();
        assert_eq!(paths, [c"/srv", c"/srv/.", c"/srv/./data"]);
        assert_eq!(levels[2].name.as_c_str(), c"data");
        assert_eq!(WorkingDirectory::new(c"/").levels, []);
    }
}
