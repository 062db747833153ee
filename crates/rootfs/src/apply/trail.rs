//! The path of the file that a walk is at, for the message of a failure.

use std::ffi::CStr;

/// A path in a buffer of a few hundred bytes. Names that do not fit are left out before the last
/// one.
#[derive(Debug)]
pub(super) struct Trail {
    bytes: [u8; SIZE],
    length: usize,
    /// The number of names left out.
    hidden: usize,
    /// Whether the walk failed. Otherwise no path is reported.
    failed: bool,
}

const SIZE: usize = 512;

impl Trail {
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; SIZE],
            length: 0,
            hidden: 0,
            failed: false,
        }
    }

    /// Enters a directory or file of this name.
    pub(super) fn push(&mut self, name: &CStr) {
        let name = name.to_bytes();
        let end = self.length + name.len() + 1;
        // There is always room for dots and a last name after this.
        let room = self.hidden == 0 && end <= SIZE - LAST;
        let place = self.bytes.get_mut(self.length..end).filter(|_| room);
        let Some((slash, place)) = place.and_then(<[u8]>::split_last_mut) else {
            self.hidden += 1;
            return;
        };
        place.copy_from_slice(name);
        *slash = b'/';
        self.length = end;
    }

    /// Returns to the directory above.
    pub(super) fn pop(&mut self) {
        if self.hidden > 0 {
            self.hidden -= 1;
            return;
        }
        let inner = self.bytes.get(..self.length.saturating_sub(1));
        let slash = inner
            .unwrap_or_default()
            .iter()
            .rposition(|byte| *byte == b'/');
        self.length = slash.map_or(0, |slash| slash + 1);
    }

    /// Records that the walk failed here; only the first time counts.
    pub(super) fn fail_at(&mut self, name: &CStr) {
        if self.failed {
            return;
        }
        self.failed = true;
        if self.hidden > 0 {
            self.append(b".../");
        }
        self.append(name.to_bytes());
    }

    fn append(&mut self, more: &[u8]) {
        let end = self.length + more.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(more);
            self.length = end;
        }
    }

    /// The path at which the walk failed; empty if it did not.
    pub(super) fn text(&self) -> &[u8] {
        match self.failed {
            true => self.bytes.get(..self.length).unwrap_or_default(),
            false => &[],
        }
    }
}

/// NAME_MAX, and the dots before the name, in bytes.
const LAST: usize = 260;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_named_with_its_directories() {
        let mut trail = Trail::new();
        for name in [c"a", c"b", c"c"] {
            trail.push(name);
        }
        trail.pop();
        assert_eq!(trail.text(), b"");
        trail.fail_at(c"file");
        trail.fail_at(c"later");
        assert_eq!(trail.text(), b"a/b/file");
    }

    #[test]
    fn a_long_path_keeps_its_ends() {
        let mut trail = Trail::new();
        for _ in 0..1000 {
            trail.push(c"0123456789");
        }
        for _ in 0..500 {
            trail.pop();
        }
        let longest = [b'x'; 255];
        let name = std::ffi::CString::new(longest).expect("no NUL");
        trail.fail_at(&name);
        let text = String::from_utf8(trail.text().to_vec()).expect("UTF-8");
        assert!(text.starts_with("0123456789/0123456789/"), "{text}");
        assert!(
            text.ends_with(&format!("/.../{}", "x".repeat(255))),
            "{text}"
        );
        let mut trail = Trail::new();
        for _ in 0..100 {
            trail.push(c"0123456789");
        }
        for _ in 0..100 {
            trail.pop();
        }
        trail.fail_at(c"top");
        assert_eq!(trail.text(), b"top");
    }
}
