//! Parsers of the texts about the caller: `/etc/passwd`, `/etc/subuid`, `setgroups`, `PATH`.

use crate::Setgroups;
use coracle_text::{DEFAULT_PATH, passwd_users};
use std::path::{Path, PathBuf};

/// The name of `uid` in `/etc/passwd`: passwd(5), from the first line that matches.
pub(crate) fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    let mut users = passwd_users(passwd);
    users.find_map(|(number, name)| (number == uid).then_some(name))
}

/// (first, count) of the lines of `/etc/subuid` or `/etc/subgid` for the user: subuid(5). In
/// `/etc/subgid` too, the first field is the user, not the group.
pub(crate) fn subordinate_ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    text.lines()
        .filter_map(|line| range_of(line, name, uid))
        .collect()
}

fn range_of(line: &str, name: Option<&str>, uid: u32) -> Option<(u32, u32)> {
    let mut fields = line.trim().split(':');
    let owner = fields.next()?;
    let (first, count) = (
        fields.next()?.parse::<u32>().ok()?,
        fields.next()?.parse().ok()?,
    );
    let is_callers = Some(owner) == name || owner.parse() == Ok(uid);
    // newuidmap refuses a range that goes beyond the last id.
    let is_range = count > 0 && first.checked_add(count).is_some() && fields.next().is_none();
    (is_callers && is_range).then_some((first, count))
}

/// The text of `/proc/self/setgroups`.
pub(crate) fn setgroups(text: &str) -> Setgroups {
    match text.trim() {
        "deny" => Setgroups::Denied,
        _ => Setgroups::Allowed,
    }
}

/// The first path of `name` for which `is_program` holds, in `PATH` and then in the default one,
/// since an engine may have emptied `PATH`.
///
/// Relative entries are skipped: the current directory may be the bundle, whose files are not
/// trusted.
pub(crate) fn find_program(
    name: &str,
    path: &str,
    is_program: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    path.split(':')
        .chain(DEFAULT_PATH.split(':'))
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| Path::new(directory).join(name))
        .find(|candidate| is_program(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_users() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\n:x:5:5::/:\nbad\n\
            ada:x:1000:1000::/home/ada:\neve:x:1000:0::/:\n1000:x:0:0::/:\n";
        for (uid, expected) in [
            (0, Some("root")),
            (1000, Some("ada")),
            (5, None),
            (1001, None),
        ] {
            assert_eq!(user_name(passwd, uid), expected, "{uid}");
        }
    }

    #[test]
    fn ranges_by_name_and_by_number() {
        let text = "ada:100000:65536\n1000:300000:10\neve:200000:65536\n1001:1:1\n\
            ada:5\nada:x:1\nada:5:0\nada:4294967295:2\nada:1:2:3\n";
        let ranges = |name, uid| subordinate_ranges(text, name, uid);
        assert_eq!(
            ranges(Some("ada"), 1000),
            [(100_000, 65_536), (300_000, 10)]
        );
        assert_eq!(ranges(None, 1000), [(300_000, 10)]);
        assert_eq!(ranges(Some("root"), 0), []);
    }

    #[test]
    fn the_permission_to_set_groups() {
        assert_eq!(setgroups("allow\n"), Setgroups::Allowed);
        assert_eq!(setgroups(""), Setgroups::Allowed);
        assert_eq!(setgroups("deny\n"), Setgroups::Denied);
    }

    #[test]
    fn programs_are_found_by_absolute_entries_only() {
        let there = [
            "/opt/bin/newuidmap",
            "/usr/bin/newuidmap",
            "bin/newuidmap",
            "newuidmap",
        ];
        let find = |path| {
            find_program("newuidmap", path, |candidate| {
                there.iter().any(|known| Path::new(known) == candidate)
            })
        };
        assert_eq!(
            find("/opt/bin:/usr/bin"),
            Some(PathBuf::from("/opt/bin/newuidmap"))
        );
        assert_eq!(find("bin::."), Some(PathBuf::from("/usr/bin/newuidmap")));
        assert_eq!(find(""), Some(PathBuf::from("/usr/bin/newuidmap")));
        assert_eq!(find_program("absent", "/opt/bin", |_| false), None);
    }
}
