//! Which value of a document stands at an offset: serde says where it stopped, users want the path.

use super::shape::Step;

/// The path of the first value that ends at `offset` or later. `text` is valid JSON.
///
/// Only for messages, and only after a failure: the types that the document is parsed to then need
/// no second set of code that counts along.
pub(super) fn path_at(text: &str, offset: usize) -> Vec<Step> {
    let bytes = text.as_bytes();
    let mut path = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let end = token_end(bytes, at);
        match byte {
            b'{' => path.push(Step::Key(String::new())),
            b'[' => path.push(Step::Index(0)),
            b',' => {
                if let Some(Step::Index(index)) = path.last_mut() {
                    *index += 1;
                }
            }
            b'"' if bytes.get(end) == Some(&b':') => {
                let key = text
                    .get(at..end)
                    .and_then(|key| serde_json::from_str(key).ok());
                if let (Some(Step::Key(last)), Some(key)) = (path.last_mut(), key) {
                    *last = key;
                }
            }
            b':' => {}
            b'}' | b']' => {
                path.pop();
                if end >= offset {
                    return path;
                }
            }
            _ if end >= offset => return path,
            _ => {}
        }
        at = end;
    }
    path
}

/// Where the token that begins at `start` ends: a string, a number or a word, or one sign.
fn token_end(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    let length = match rest.first() {
        Some(b'"') => {
            let mut escaped = false;
            let closing = rest.iter().skip(1).position(|byte| {
                let closes = *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                closes
            });
            closing.map_or(rest.len(), |length| length + 2)
        }
        Some(b'{' | b'}' | b'[' | b']' | b',' | b':') | None => 1,
        Some(_) => {
            let delimiter = |byte: &u8| matches!(byte, b',' | b'}' | b']');
            rest.iter().position(delimiter).unwrap_or(rest.len())
        }
    };
    start + length
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_value_is_found_at_its_end() {
        let text = json!({"a": [1, {"b\"c": "x,}"}, []], "d": {"e": null}, "f": -2.5}).to_string();
        for (value, path) in [
            ("1", "a/0"),
            ("\"x,}\"", "a/1/b\"c"),
            ("\"x,}\"}", "a/1"),
            ("[]", "a/2"),
            ("[]]", "a"),
            ("null", "d/e"),
            ("null}", "d"),
            ("-2.5", "f"),
        ] {
            let end = text.find(value).unwrap() + value.len();
            let found: Vec<String> = path_at(&text, end)
                .iter()
                .map(|step| match step {
                    Step::Key(key) => key.clone(),
                    Step::Index(index) => index.to_string(),
                })
                .collect();
            assert_eq!(found.join("/"), path, "{value}");
        }
    }
}
