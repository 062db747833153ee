//! Finds misspelt properties. The specification demands that unknown keys are ignored, so a
//! misspelt one would be ignored silently.

/// The minimum length of a name, in bytes: shorter ones are one letter away from too many others.
const SHORTEST: usize = 3;

/// The property that an unknown key probably stands for: it differs only in case, or in one letter.
pub(super) fn known(properties: &[&'static str], key: &str) -> Option<&'static str> {
    let names = || properties.iter().copied();
    let same = names().find(|name| name.eq_ignore_ascii_case(key));
    same.or_else(|| names().find(|name| is_near(name.as_bytes(), key.as_bytes())))
}

/// Whether one letter differs, is added or is missing, or two neighbours are exchanged.
fn is_near(name: &[u8], key: &[u8]) -> bool {
    if name.len().min(key.len()) < SHORTEST || name.len().abs_diff(key.len()) > 1 {
        return false;
    }
    let pairs = || name.iter().zip(key);
    let head = pairs().take_while(|(a, b)| a == b).count();
    let tail = name.iter().rev().zip(key.iter().rev());
    let tail = tail.take_while(|(a, b)| a == b).count();
    // One letter differs, is added or is missing.
    if head.saturating_add(tail) >= name.len().max(key.len()).saturating_sub(1) {
        return true;
    }
    // Two neighbouring letters are exchanged.
    let swapped = |text: &[u8]| match text.get(head..) {
        Some([first, second, ..]) => Some((*first, *second)),
        _ => None,
    };
    name.len() == key.len()
        && head.saturating_add(tail).saturating_add(2) == name.len()
        && swapped(name).map(|(first, second)| (second, first)) == swapped(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_is_near() {
        let near = |key: &str| is_near(b"mounts", key.as_bytes());
        for key in ["Mounts", "mount", "mountss", "mounds", "muonts", "ounts"] {
            assert!(near(key), "{key}");
        }
        for key in ["", "mo", "moun", "rounds", "mountsxx", "muonst", "hooks"] {
            assert!(!near(key), "{key}");
        }
        assert!(!is_near(b"op", b"oq") && !is_near(b"uid", b"ui"));
    }

    #[test]
    fn case_goes_before_letters() {
        let properties = ["uid", "gid", "op"];
        for (key, name) in [("Gid", "gid"), ("OP", "op"), ("pid", "uid")] {
            assert_eq!(known(&properties, key), Some(name));
        }
        assert_eq!(known(&properties, "user"), None);
    }
}
