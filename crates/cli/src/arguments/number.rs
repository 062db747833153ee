//! Numbers and user ids, strictly parsed: only digits.
//!
//! Lenient parsing of a user id can end in 0, which is root, as for an overflow in CVE-2024-40635
//! and for a plain `1` in CVE-2026-30892. So there is one parser, which accepts only a whole valid
//! text and has no default.

/// A decimal number without sign, blank or leading zero (which some programs read as octal).
pub(crate) fn unsigned(text: &[u8]) -> Option<u32> {
    let is_plain = text == b"0" || !text.starts_with(b"0");
    if !is_plain || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A user or group id. 4294967295 is refused: to setresuid(2) it is -1, which leaves the id
/// unchanged, and that would be root.
pub(crate) fn id(text: &[u8]) -> Option<u32> {
    unsigned(text).filter(|id| *id != u32::MAX)
}

/// `UID` or `UID:GID`. Names are not supported: they would be looked up in a file of the image.
pub(crate) fn user(text: &[u8]) -> Option<(u32, Option<u32>)> {
    match text
        .iter()
        .position(|byte| *byte == b':')
        .map(|at| text.split_at(at))
    {
        Some((uid, [_, gid @ ..])) => Some((id(uid)?, Some(id(gid)?))),
        _ => Some((id(text)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        for (text, expected) in [
            ("0", (0, None)),
            ("1", (1, None)),
            ("1000", (1000, None)),
            ("1000:0", (1000, Some(0))),
            ("0:1000", (0, Some(1000))),
            ("65534:65534", (65534, Some(65534))),
            ("2147483648", (2_147_483_648, None)),
            (
                "4294967294:4294967294",
                (4_294_967_294, Some(4_294_967_294)),
            ),
        ] {
            assert_eq!(user(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn cve_2024_40635_and_2026_30892_odd_users_are_refused() {
        for text in [
            "",
            ":",
            "1:",
            ":1",
            "1:2:3",
            "-1",
            "+1",
            "1:-1",
            "1:+1",
            " 1",
            "1 ",
            "1: 2",
            "1 :2",
            "1\n",
            "\t1",
            "1\0",
            "01",
            "00",
            "0x0",
            "0b1",
            "0o7",
            "1e3",
            "1.0",
            "1,2",
            "1_000",
            "4294967295",
            "4294967296",
            "1000:4294967295",
            "1000:4294967296",
            "18446744073709551616",
            "99999999999999999999",
            "root",
            "0root",
            "1000a",
            "a1000",
            "root:root",
            "0:root",
            "1000;1000",
            "٣",
            "１",
            "²",
            "u0",
            "$UID",
            "--",
            "1:2:",
        ] {
            assert_eq!(user(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(user(b"1\xff"), None);
    }

    #[test]
    fn unsigned_is_the_whole_text() {
        assert_eq!(unsigned(b"4294967295"), Some(u32::MAX));
        for text in ["", "-0", "+0", "00", "1 ", "3.5", "4294967296", "0x10"] {
            assert_eq!(unsigned(text.as_bytes()), None, "{text:?}");
        }
    }
}
