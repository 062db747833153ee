//! The id of a container.

use crate::Error;
use std::fmt;

/// A container's id: `[A-Za-z0-9_+.-]+`, at most 255 bytes, neither `.` nor `..`.
///
/// It becomes the name of a directory, a cgroup and a keyring, so a name that could lead out of the
/// state root is refused here, for every verb.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

/// NAME_MAX, in bytes.
const MAX_BYTES: usize = 255;

impl ContainerId {
    /// Parses an id.
    ///
    /// # Errors
    /// [`Error::ContainerId`] if it is empty, too long, `.`, `..` or holds another character.
    pub fn parse(text: &str) -> Result<ContainerId, Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+.-".contains(&byte);
        let valid = !text.is_empty()
            && text.len() <= MAX_BYTES
            && text.bytes().all(allowed)
            && !matches!(text, "." | "..");
        if valid {
            Ok(ContainerId(text.to_owned()))
        } else {
            Err(Error::ContainerId(text.to_owned()))
        }
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ContainerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_file_names() {
        let long = "x".repeat(255);
        for good in [
            "a",
            "web1",
            "A_b+c.d-e",
            "...",
            ".hidden",
            "-x",
            "0",
            long.as_str(),
        ] {
            assert_eq!(ContainerId::parse(good).unwrap().as_ref(), good);
        }
        let too_long = "x".repeat(256);
        let bad = [
            "", ".", "..", "../x", "a/b", "a b", "a\n", "a\0", "é", "a:b", "@x", &too_long,
        ];
        for text in bad {
            let error = ContainerId::parse(text).unwrap_err().to_string();
            assert!(error.contains("invalid container ID format"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
