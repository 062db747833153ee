//! Parsers of the texts about the machine: the kernel's release, lists of numbers, security
//! modules, mounts.

use crate::{Error, KERNEL_FLOOR, KernelVersion};
use procfs::prelude::FromRead;
use procfs::process::{MountInfo, MountInfos};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The version in a release such as `6.12.9-amd64` or `5.14.0-570.el9.x86_64`.
pub(crate) fn kernel_version(release: &str) -> Result<KernelVersion, Error> {
    let number = |part: Option<&str>| {
        let digits = part?.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<u32>().ok()
    };
    let mut parts = release.split('.');
    let found = match (number(parts.next()), number(parts.next())) {
        (Some(major), Some(minor)) => KernelVersion { major, minor },
        _ => {
            return Err(Error::KernelRelease {
                release: release.to_owned(),
            });
        }
    };
    if found < KERNEL_FLOOR {
        return Err(Error::KernelTooOld { found });
    }
    Ok(found)
}

/// The numbers in a list of the kernel's such as `0-1,3`, ascending.
pub(crate) fn number_list(text: &str) -> Option<Vec<u32>> {
    // The kernel can be built for 1024 memory nodes at most.
    const MOST: u32 = 1024;
    let ranges = match text.trim() {
        "" => Vec::new(),
        text => coracle_text::number_ranges(text)?,
    };
    let is_possible = ranges.iter().all(|(_, last)| *last < MOST);
    is_possible.then(|| {
        ranges
            .into_iter()
            .flat_map(|(first, last)| first..=last)
            .collect()
    })
}

/// The types in the text of `/proc/filesystems`: proc_filesystems(5).
pub(crate) fn file_systems(text: &str) -> Vec<String> {
    let kinds = text.lines().filter_map(|line| line.split('\t').nth(1));
    kinds.map(str::to_owned).collect()
}

/// The types in the text of `modules.alias` of modprobe(8). The kernel asks for the module
/// `fs-TYPE`, since few modules are named after their file system: `alias fs-iso9660 isofs`.
pub(crate) fn loadable_file_systems(text: &str) -> Vec<String> {
    let aliases = text
        .lines()
        .filter_map(|line| line.strip_prefix("alias fs-"));
    let kinds = aliases.filter_map(|alias| alias.split(' ').next());
    kinds.map(str::to_owned).collect()
}

/// `/sys/module/apparmor/parameters/enabled` says yes.
pub(crate) fn is_apparmor_enabled(text: &str) -> bool {
    text.starts_with('Y')
}

/// The mounts of `/proc/self/mountinfo` whose file system is one of `kinds`.
///
/// Other lines are not parsed: a user may mount at a path that is not UTF-8, which must not make
/// the runtime fail, and a busy node has thousands of lines.
pub(crate) fn mounts_of(mountinfo: &[u8], kinds: &[&str]) -> Result<Vec<MountInfo>, Error> {
    let mut lines = Vec::new();
    for line in mountinfo.split_inclusive(|byte| *byte == b'\n') {
        if file_system_of(line).is_some_and(|kind| kinds.iter().any(|k| k.as_bytes() == kind)) {
            lines.extend_from_slice(line);
        }
    }
    match MountInfos::from_read(lines.as_slice()) {
        Ok(mounts) => Ok(mounts.0),
        Err(_) => Err(Error::Format {
            path: "/proc/self/mountinfo",
            problem: "a line does not read as in proc_pid_mountinfo(5)",
        }),
    }
}

/// The field after the separator ` - `. No path can contain it, since spaces in paths are escaped.
fn file_system_of(line: &[u8]) -> Option<&[u8]> {
    let at = line.windows(3).position(|window| window == b" - ")?;
    line.get(at + 3..)?.split(|byte| *byte == b' ').next()
}

/// The mount point of `mount`, unescaped.
pub(crate) fn mount_point(mount: &MountInfo) -> PathBuf {
    unescaped(mount.mount_point.as_os_str().as_bytes())
}

/// A path of proc_pid_mountinfo(5) with `\040`, `\011`, `\012` and `\134` replaced by the
/// characters that they stand for.
pub fn unescaped(path: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..3).filter(|_| first == b'\\').and_then(octal);
        bytes.push(escaped.unwrap_or(first));
        rest = match escaped {
            Some(_) => after.get(3..).unwrap_or(&[]),
            None => after,
        };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileSystems;

    #[test]
    fn releases() {
        let version = |release| kernel_version(release).map(|v| (v.major, v.minor));
        for (release, expected) in [
            ("6.18.44-fc-v595", (6, 18)),
            ("5.14.0-570.el9.x86_64", (5, 14)),
            ("6.1-rc3", (6, 1)),
            ("10.0", (10, 0)),
        ] {
            assert_eq!(version(release), Ok(expected), "{release}");
        }
        let old = Error::KernelTooOld {
            found: KernelVersion { major: 5, minor: 4 },
        };
        assert_eq!(version("5.4.0-216-generic"), Err(old));
        for release in ["", "6", "x.y", "6.x", ".5.14"] {
            let error = Error::KernelRelease {
                release: release.to_owned(),
            };
            assert_eq!(version(release), Err(error), "{release}");
        }
    }

    #[test]
    fn file_systems_are_present_or_loadable() {
        let aliases = "# by depmod\nalias fs-overlay overlay\nalias fs-iso9660 isofs\n\
                       alias iso9660 isofs\nalias pci:v1* fs-zfs\n";
        let mut found = FileSystems {
            present: file_systems("nodev\tproc\n\text4\nnodev\tfuse\n"),
            loadable: Some(loadable_file_systems(aliases)),
        };
        assert_eq!(found.present, ["proc", "ext4", "fuse"]);
        for (kind, is_there) in [
            ("proc", true),
            ("fuse.sshfs", true),
            ("iso9660", true),
            ("isofs", false),
            ("zfs", false),
        ] {
            assert_eq!(found.has(kind), Some(is_there), "{kind}");
        }
        found.loadable = None;
        assert_eq!(found.has("ext4"), Some(true));
        assert_eq!(found.has("zfs"), None);
    }

    #[test]
    fn lists_of_numbers() {
        for (text, expected) in [
            ("0\n", Some(vec![0])),
            ("0-1,3\n", Some(vec![0, 1, 3])),
            ("\n", Some(vec![])),
            ("0-4294967295", None),
            ("0-x", None),
        ] {
            assert_eq!(number_list(text), expected, "{text:?}");
        }
    }

    #[test]
    fn security_modules() {
        assert!(is_apparmor_enabled("Y\n"));
        assert!(!is_apparmor_enabled("N\n") && !is_apparmor_enabled(""));
    }

    #[test]
    fn mounts_are_sifted_before_they_are_parsed() {
        let table = b"31 23 0:28 / /mnt/\xff\xfe rw - fuse.x x rw\n\
            32 31 0:29 / /sys/fs/resctrl rw,relatime shared:7 master:1 - resctrl resctrl rw\n\
            33 31 0:30 / /sys/fs/a\\040-\\040b rw - cgroup2 cgroup2 rw\n";
        let mounts = mounts_of(table, &["resctrl", "cgroup2"]).expect("two mounts");
        let points: Vec<_> = mounts.iter().map(mount_point).collect();
        assert_eq!(
            points,
            [
                PathBuf::from("/sys/fs/resctrl"),
                PathBuf::from("/sys/fs/a - b")
            ]
        );
        assert!(mounts_of(b"33 31 0:30 / - cgroup2 x\n", &["cgroup2"]).is_err());
    }

    #[test]
    fn escapes_are_undone() {
        for (text, expected) in [
            ("/plain", "/plain"),
            ("/a\\040b\\011c\\012d\\134e", "/a b\tc\nd\\e"),
            ("/end\\", "/end\\"),
            ("/not\\999", "/not\\999"),
            ("/short\\04", "/short\\04"),
        ] {
            assert_eq!(
                unescaped(text.as_bytes()),
                PathBuf::from(expected),
                "{text}"
            );
        }
    }
}
