//! Looks for the reason of a failed mount, in the runtime and after the failure: the kernel's errno
//! often tells too little.

use crate::plan::{Fresh, Plan, Step};
use coracle_sys::{Call, Cause, Fault};
use coracle_text::{io_errno, one_line};
use nix::errno::Errno;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the errno of a fault does not tell, in words; empty if nothing was found. `remark` is what
/// init has found out.
///
/// Only paths of the config are looked at, and nothing is opened: what they lead to may have been
/// made by others.
#[must_use]
pub fn examine(plan: &Plan, fault: &Fault, remark: &[u8]) -> String {
    match (plan.steps.get(fault.step), fault.cause) {
        (
            Some(Step::Fresh(fresh)),
            Cause::Call(Call::Fsopen | Call::Fsconfig | Call::Fsmount, errno),
        ) => {
            match errno {
                // The plan knows better than the kernel: `VFS: Mount too revealing`.
                Errno::EPERM if plan.in_user_namespace => return String::new(),
                Errno::ENOENT => missing_layer(fresh),
                _ => None,
            }
            .unwrap_or_else(|| refusal(fresh, remark))
        }
        (Some(Step::Bind(bind)), Cause::Call(Call::MountSetattr, Errno::EINVAL)) => {
            let source = plan.sources.get(bind.source);
            let source =
                source.filter(|source| source.changes.iter().any(|one| one.id_map.is_some()));
            let path =
                source.map(|source| Path::new(std::ffi::OsStr::from_bytes(source.path.to_bytes())));
            path.and_then(file_system).unwrap_or_default()
        }
        (Some(_), _) if !remark.is_empty() => {
            // The path comes from the image, so control characters are escaped.
            format!("copy {}", one_line(&String::from_utf8_lossy(remark)))
        }
        _ => String::new(),
    }
}

/// The option that was refused, if it is one, and the kernel's words, which begin with the level
/// of the message: `e tmpfs: Bad value for 'size'`.
fn refusal(fresh: &Fresh, remark: &[u8]) -> String {
    let text = String::from_utf8_lossy(remark);
    let (option, log) = text.split_once('\0').unwrap_or((&text, ""));
    let messages = log.lines().filter_map(|line| line.split_once(' '));
    let words: Vec<_> = messages.map(|(_, words)| one_line(words)).collect();
    let name = fresh.file_system.name().to_string_lossy();
    match (option, words.as_slice()) {
        ("", []) => String::new(),
        (option, []) => format!("{name} does not accept the option {}", one_line(option)),
        (_, words) => words.join("; "),
    }
}

/// The first directory of an overlay that is not there. Before Linux 6.5 the kernel does not say
/// which.
fn missing_layer(fresh: &Fresh) -> Option<String> {
    if fresh.file_system.name() != c"overlay" {
        return None;
    }
    let layers = fresh.parameters.iter().filter_map(|(key, value)| {
        let key = key.to_str().ok()?;
        let value = value.as_ref()?.to_str().ok()?;
        matches!(key, "lowerdir" | "upperdir" | "workdir").then_some((key, value))
    });
    let paths = layers.flat_map(|(key, value)| value.split(':').map(move |path| (key, path)));
    let mut paths = paths.filter(|(_, path)| !path.is_empty());
    paths.find_map(|(key, path)| {
        let error = std::fs::metadata(path).err()?;
        (io_errno(&error) == Errno::ENOENT).then(|| format!("{key} {path:?} is missing"))
    })
}

/// File systems that cannot be id-mapped, or only since a release, by their magic numbers:
/// linux/magic.h.
const FILE_SYSTEMS: [(u64, &str); 12] = [
    (0x0102_1994, "tmpfs, before Linux 6.3"),
    (0x794c_7630, "overlay, before Linux 5.19"),
    (0x6573_5546, "fuse, before Linux 6.12"),
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x1cd1, "devpts"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0x0102_1997, "9p"),
    (0x1980_0202, "mqueue"),
];

fn file_system(path: &Path) -> Option<String> {
    let found = nix::sys::statfs::statfs(path).ok()?;
    let magic = u64::try_from(found.filesystem_type().0).ok()? & 0xffff_ffff;
    let name = FILE_SYSTEMS.iter().find(|(known, _)| *known == magic);
    let name = name.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned());
    Some(format!("its file system cannot be id-mapped ({name})"))
}
