//! `ociVersion`: config.md § Specification version.

use crate::error::{At, Error, Shown};

/// The version of the specification that this release implements.
pub const OCI_VERSION: &str = "1.3.0";

/// Accepts every 1.x: a newer minor version only adds properties that older runtimes may ignore.
pub(crate) fn version(text: &str, at: At<'_>) -> Result<(), Error> {
    let at = at.key("ociVersion");
    if text.is_empty() {
        return Err(at.refuse("required, but missing"));
    }
    match major(text) {
        Some("1") => Ok(()),
        Some(_) => Err(at.refuse(format!("{} is not supported, only 1.x.y is", Shown(text)))),
        None => Err(at.refuse(format!("{} is not in SemVer 2.0.0 form", Shown(text)))),
    }
}

/// The major version of a well-formed version: `1.0.2`, `1.1.0-rc.2`, `1.3.0+dev`.
fn major(text: &str) -> Option<&str> {
    let (rest, build) = split_at(text, '+');
    let (core, pre_release) = split_at(rest, '-');
    let mut numbers = core.split('.');
    let (major, minor, patch) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let identifier = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let release = |part: &str| {
        identifier(part) && (!part.bytes().all(|byte| byte.is_ascii_digit()) || is_number(part))
    };
    let valid = numbers.next().is_none()
        && [major, minor, patch].into_iter().all(is_number)
        && pre_release.is_none_or(|parts| parts.split('.').all(release))
        && build.is_none_or(|parts| parts.split('.').all(identifier));
    valid.then_some(major)
}

fn split_at(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((head, tail)) => (head, Some(tail)),
        None => (text, None),
    }
}

/// Whether this is a decimal number without leading zeros.
fn is_number(part: &str) -> bool {
    part == "0"
        || (!part.starts_with('0')
            && !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

    #[test]
    fn semver_of_major_one() {
        let at = At::Root(Document::Config);
        let good = [
            "1.0.0",
            "1.0.2-dev",
            "1.3.0+dev",
            "1.1.0-rc.2",
            "1.99.0",
            "1.0.0-alpha+001",
            "1.0.0--",
            "1.2.3-0a.1+b-c.00",
        ];
        for text in good {
            assert_eq!(version(text, at), Ok(()), "{text}");
        }
        let bad = [
            "",
            "1",
            "1.0",
            "1.0.0.0",
            "v1.0.0",
            "01.0.0",
            "1.00.0",
            "1.0.0-",
            "1.0.0+",
            "1.0.0-01",
            "1.0.0-a..b",
            "1.0.0-é",
            " 1.0.0",
            "1.0.0\n",
            "0.9.0",
            "2.0.0",
            "9.9.9",
            "-1.0.0",
        ];
        for text in bad {
            let error = version(text, at).unwrap_err().to_string();
            assert!(error.starts_with("config.json: ociVersion: "), "{error}");
        }
    }
}
