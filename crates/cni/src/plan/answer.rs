//! The output of plugins: results, errors, versions. CNI SPEC § Section 5.

use serde_json::Value;

use super::list::Version;
use super::text::shown;
use crate::error::{Ended, Failure};

/// The result of ADD, which the next plugin gets unchanged.
pub(crate) fn result(printed: &[u8], version: Version) -> Result<Value, Failure> {
    let invalid = |problem: String| Failure::InvalidOutput {
        problem,
        printed: shown(&String::from_utf8_lossy(printed)),
    };
    let result: Value = serde_json::from_slice(printed)
        .map_err(|error| invalid(format!("its result is not JSON: {error}")))?;
    if !result.is_object() {
        return Err(invalid("its result is not an object".to_owned()));
    }
    match result.get("cniVersion").and_then(Value::as_str) {
        Some(found) if found == version.text() => Ok(result),
        found => {
            let found = found.map_or_else(|| "no version".to_owned(), |found| format!("{found:?}"));
            Err(invalid(format!(
                "its result is of {found}, not of {:?}",
                version.text()
            )))
        }
    }
}

/// Why a plugin failed, from its error object if it printed one.
pub(crate) fn failure(ended: Ended, printed: &[u8], stderr: &[u8]) -> Failure {
    let report: Value = match ended {
        Ended::Status(_) => serde_json::from_slice(printed).unwrap_or_default(),
        _ => Value::Null,
    };
    match report.get("code").and_then(Value::as_u64) {
        Some(code) => {
            let member = |key| shown(report.get(key).and_then(Value::as_str).unwrap_or_default());
            let texts = ["msg", "details"].map(member).into_iter();
            let texts: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
            Failure::Reported {
                code,
                text: texts.join(": "),
            }
        }
        None => Failure::Ended {
            ended,
            printed: match ended {
                Ended::Status(_) | Ended::Signal(_) => diagnostics(printed, stderr),
                _ => String::new(),
            },
        },
    }
}

fn diagnostics(printed: &[u8], stderr: &[u8]) -> String {
    match shown(&String::from_utf8_lossy(stderr)) {
        text if text.is_empty() => shown(&String::from_utf8_lossy(printed)),
        text => text,
    }
}

/// The versions that a plugin supports.
pub(crate) fn versions(printed: &[u8]) -> Result<Vec<String>, Failure> {
    let answer: Value = serde_json::from_slice(printed).unwrap_or_default();
    let list = answer.get("supportedVersions").and_then(Value::as_array);
    let texts = |list: &Vec<Value>| {
        let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
        texts.collect::<Option<Vec<String>>>()
    };
    list.and_then(texts).ok_or_else(|| Failure::InvalidOutput {
        problem: "its answer has no list of versions".to_owned(),
        printed: shown(&String::from_utf8_lossy(printed)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(printed: &str) -> String {
        let failure = result(printed.as_bytes(), Version::V1_0);
        failure.expect_err("no result").to_string()
    }

    #[test]
    fn results() {
        let good = br#"{"cniVersion":"1.0.0","ips":[]}"#;
        assert!(result(good, Version::V1_0).is_ok());
        assert_eq!(
            result(good, Version::V1_1).unwrap_err().to_string(),
            r#"its result is of "1.0.0", not of "1.1.0": {"cniVersion":"1.0.0","ips":[]}"#
        );
        assert!(refused("{}").starts_with("its result is of no version, not of \"1.0.0\""));
        assert_eq!(refused("[1]"), "its result is not an object: [1]");
        let text = "its result is not JSON: expected value at line 1 column 1: what\\n\\u{1b}[m";
        assert_eq!(refused("what\n\u{1b}[m"), text);
        assert!(refused("").starts_with("its result is not JSON: EOF"));
    }

    #[test]
    fn errors() {
        let output =
            br#"{"cniVersion":"1.0.0","code":11,"msg":"no\nroom","details":"in 10.0.0.0/30"}"#;
        let text = failure(Ended::Status(1), output, b"noise").to_string();
        assert_eq!(text, "no\\nroom: in 10.0.0.0/30 (code 11)");
        assert_eq!(
            failure(Ended::Status(2), b"", b"panic: x\n").to_string(),
            "exit status 2: panic: x"
        );
        assert_eq!(
            failure(Ended::Status(2), b"{", b"").to_string(),
            "exit status 2: {"
        );
        assert_eq!(
            failure(Ended::Status(2), b"", b"").to_string(),
            "exit status 2"
        );
    }

    #[test]
    fn versions_are_a_list() {
        let printed = br#"{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}"#;
        assert_eq!(versions(printed).unwrap(), ["0.4.0", "1.0.0"]);
        assert!(versions(b"{}").is_err());
    }
}
