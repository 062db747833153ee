//! The names of users.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use coracle_text::passwd_users;

/// Only this much of /etc/passwd is read; users beyond it are shown by number.
const MAX_PASSWD_BYTES: u64 = 4 << 20;

/// User names by uid. The C library's lookup loads shared objects, which a static program cannot
/// do, so /etc/passwd is read here.
pub(crate) fn names() -> BTreeMap<u32, String> {
    // Non-blocking and limited: the file may be a FIFO, or endless.
    let opened = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open("/etc/passwd");
    let mut passwd = Vec::new();
    match opened.and_then(|file| file.take(MAX_PASSWD_BYTES).read_to_end(&mut passwd)) {
        Ok(_) => parse_passwd(&String::from_utf8_lossy(&passwd)),
        Err(_) => BTreeMap::new(),
    }
}

/// Of several names for a uid the first is used: passwd(5).
fn parse_passwd(passwd: &str) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for (uid, name) in passwd_users(passwd) {
        names.entry(uid).or_insert_with(|| name.to_owned());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_uid_counts() {
        let names = parse_passwd("root:x:0:0::/:\ntoor:x:0:0\n\nbroken\nann:x:7:7\nbad:x:y:1\n");
        assert_eq!(
            names,
            BTreeMap::from([(0, "root".to_owned()), (7, "ann".to_owned())])
        );
    }
}
