//! HOME from the container's `/etc/passwd`, on the stack.

use super::root::ROOT;
use coracle_sys::open_in_root;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// How much of the file is read, in bytes: the image may have one of any length.
const MAX_PASSWD_BYTES: usize = 64 * 1024;
/// `HOME=` and PATH_MAX, in bytes.
const MAX_VARIABLE_BYTES: usize = NAME.len() + 4096;
const NAME: &[u8] = b"HOME=";

/// The variable `HOME=…`, for execve(2).
#[derive(Debug)]
pub(crate) struct Home {
    /// The variable, padded with zero bytes.
    bytes: [u8; MAX_VARIABLE_BYTES],
}

impl Home {
    /// The home directory of `uid` from its first line in `/etc/passwd`; `/` if there is none, or
    /// if the file cannot be read.
    pub(crate) fn of(uid: u32) -> Self {
        let mut home = Self {
            bytes: [0; MAX_VARIABLE_BYTES],
        };
        let mut search = Search::new(uid);
        if open_passwd().is_none_or(|file| read(&file, &mut search).is_none()) {
            search.found.clear();
        }
        let path = match search.found.bytes() {
            path if path.starts_with(b"/") => path,
            _ => b"/",
        };
        let text = NAME.iter().chain(path);
        // `Field` is shorter than the rest of `bytes`, so at least one zero byte terminates it.
        for (to, from) in home.bytes.iter_mut().zip(text) {
            *to = *from;
        }
        home
    }

    /// The whole variable.
    pub(crate) fn variable(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).ok()
    }
}

/// Opens the file if it is regular: a device or a FIFO of the image must not be opened for reading.
fn open_passwd() -> Option<OwnedFd> {
    let open = |flags| open_in_root(ROOT, c"/etc/passwd", flags, Mode::empty()).ok();
    let seen = fstat(open(OFlag::O_PATH)?).ok()?;
    if SFlag::from_bits_truncate(seen.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return None;
    }
    // O_NONBLOCK, since the file may have been replaced by a FIFO since. One that was replaced is
    // not used.
    let file = open(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
    let opened = fstat(&file).ok()?;
    ((seen.st_dev, seen.st_ino) == (opened.st_dev, opened.st_ino)).then_some(file)
}

/// Reads until the line is found; `None` if it is not.
fn read(file: &OwnedFd, search: &mut Search) -> Option<()> {
    let mut buffer = [0; 4096];
    let mut rest = MAX_PASSWD_BYTES;
    while rest > 0 {
        let length = nix::unistd::read(file, &mut buffer).ok()?;
        if length == 0 {
            break;
        }
        rest = rest.saturating_sub(length);
        for byte in buffer.get(..length)? {
            if search.take(*byte) == Row::Found {
                return Some(());
            }
        }
    }
    // The last line may lack its newline.
    (search.take(b'\n') == Row::Found).then_some(())
}

/// Looks for root's line in an image's `/etc/passwd`, for fuzzing.
#[cfg(feature = "fuzzing")]
pub fn find(passwd: &[u8]) {
    let mut search = Search::new(0);
    let found = passwd.iter().find(|byte| search.take(**byte) == Row::Found);
    assert!(found.is_none() || search.found.bytes().len() < passwd.len());
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Going,
    Found,
}

/// Reads `name:password:uid:gid:comment:home:shell` byte by byte.
struct Search {
    uid: u32,
    field: usize,
    /// The number in the third field; `None` if the field is not a number.
    number: Option<u32>,
    digits: usize,
    found: Field,
}

impl Search {
    fn new(uid: u32) -> Self {
        Self {
            uid,
            field: 0,
            number: Some(0),
            digits: 0,
            found: Field::default(),
        }
    }

    fn take(&mut self, byte: u8) -> Row {
        match (self.field, byte) {
            (_, b'\n') if self.is_wanted() => return Row::Found,
            (_, b'\n') => *self = Self::new(self.uid),
            (_, b':') => self.field = self.field.saturating_add(1),
            (2, byte) => {
                self.number = self.number.and_then(|number| append_digit(number, byte));
                self.digits = self.digits.saturating_add(1);
            }
            (5, byte) => self.found.push(byte),
            _ => {}
        }
        Row::Going
    }

    /// Whether the line so far is the wanted one. One without a sixth field has no home directory.
    fn is_wanted(&self) -> bool {
        self.field >= 5 && self.digits > 0 && self.number == Some(self.uid)
    }
}

fn append_digit(number: u32, byte: u8) -> Option<u32> {
    let digit = char::from(byte).to_digit(10)?;
    number.checked_mul(10)?.checked_add(digit)
}

/// A path shorter than PATH_MAX; empty if it was too long or malformed.
struct Field {
    bytes: [u8; 4095],
    length: usize,
}

impl Default for Field {
    fn default() -> Self {
        Self {
            bytes: [0; 4095],
            length: 0,
        }
    }
}

impl Field {
    /// Adds a byte. A NUL byte, or one byte too many, makes the path invalid.
    fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(self.length) {
            Some(place) if byte != 0 => {
                *place = byte;
                self.length = self.length.saturating_add(1);
            }
            _ => self.length = usize::MAX,
        }
    }

    fn clear(&mut self) {
        self.length = 0;
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(uid: u32, passwd: &str) -> Option<String> {
        let mut search = Search::new(uid);
        let found = passwd
            .bytes()
            .chain([b'\n'])
            .any(|byte| search.take(byte) == Row::Found);
        found.then(|| String::from_utf8_lossy(search.found.bytes()).into_owned())
    }

    #[test]
    fn the_row_of_the_number_counts() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                      bob:x:1000:1000:Bob,,,:/home/bob:/bin/sh\n\
                      twin:x:1000:1000::/home/twin:/bin/sh";
        assert_eq!(home(0, passwd).as_deref(), Some("/root"));
        assert_eq!(home(1000, passwd).as_deref(), Some("/home/bob"));
        assert_eq!(home(100, passwd), None);
    }

    #[test]
    fn odd_rows_are_passed_over() {
        let passwd = "::::::\n+\nroot:x:0\nx:x:4294967296:0::/wrong:\nx:x:0x0:0::/wrong:\n\
                      empty:x::0::/wrong:\nlast:x:0:0::/right";
        assert_eq!(home(0, passwd).as_deref(), Some("/right"));
    }

    #[test]
    fn a_name_that_looks_like_a_number_is_none() {
        // CVE-2016-3697: `1000:x:0:0` made uid 1000 root.
        assert_eq!(home(1000, "1000:x:0:0::/root:/bin/sh"), None);
    }

    #[test]
    fn long_and_cut_paths_are_nothing() {
        let long = format!("x:x:0:0::/{}:", "a".repeat(5000));
        assert_eq!(home(0, &long).as_deref(), Some(""));
        assert_eq!(home(0, "x:x:0:0::/a\0b:").as_deref(), Some(""));
        assert_eq!(home(0, "x:x:0:0:::/bin/sh").as_deref(), Some(""));
    }
}
