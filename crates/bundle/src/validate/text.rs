//! Strings and paths in the form that the kernel accepts.

use crate::error::{At, Error, Shown};
use crate::numbers;
use coracle_text::clean_path;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// The string as a C string. Refuses a NUL byte.
pub(super) fn c_string(text: &str, at: At<'_>) -> Result<CString, Error> {
    CString::new(text).map_err(|_| nul(text, at))
}

fn nul(text: &str, at: At<'_>) -> Error {
    at.refuse(format!("{} holds a NUL byte", Shown(text)))
}

/// The string, or `None` if it is absent or empty.
pub(super) fn optional_c_string(text: Option<&str>, at: At<'_>) -> Result<Option<CString>, Error> {
    text.filter(|text| !text.is_empty())
        .map(|text| c_string(text, at))
        .transpose()
}

/// The path as text, which it is since it comes from JSON.
pub(super) fn path_text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// Refuses an empty path and a NUL byte.
pub(super) fn check_path(text: &str, at: At<'_>) -> Result<(), Error> {
    if text.is_empty() {
        return Err(at.refuse("\"\" is not a path"));
    }
    if text.contains('\0') {
        Err(nul(text, at))
    } else {
        Ok(())
    }
}

/// Refuses a path that is not absolute.
pub(super) fn check_absolute(text: &str, at: At<'_>) -> Result<(), Error> {
    check_path(text, at)?;
    if text.starts_with('/') {
        Ok(())
    } else {
        Err(at.refuse(format!("{} is not an absolute path", Shown(text))))
    }
}

/// The path from `/`, clean. `..` does not lead above `/`.
pub(super) fn absolute(text: &str) -> PathBuf {
    Path::new("/").join(clean_path(text))
}

/// Whether a component of the path is `..`.
pub(super) fn climbs(text: &str) -> bool {
    text.split('/').any(|part| part == "..")
}

/// The numbers of a list in the kernel's format, `0-3,7`, sorted, each once.
pub(super) fn number_list(text: &str, at: At<'_>) -> Result<Vec<u32>, Error> {
    numbers::parse(text).map_err(|problem| at.refuse(problem))
}

/// Checks the name of a network interface, as dev_valid_name() of the kernel does.
pub(super) fn check_interface(name: &str, at: At<'_>) -> Result<(), Error> {
    let forbidden = |character: char| {
        character == '/' || character == ':' || character.is_whitespace() || character.is_control()
    };
    let valid = !name.is_empty()
        && name.len() <= 15
        && !matches!(name, "." | "..")
        && !name.contains(forbidden);
    if valid {
        return Ok(());
    }
    Err(at.refuse(format!(
        "{} is no name for a network interface: 1 to 15 bytes without `/`, `:` and blanks",
        Shown(name)
    )))
}
