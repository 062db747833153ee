//! Looks for the reason of a failed mount, in the runtime and after the failure: the kernel's errno
//! often tells too little.

use crate::plan::{Fresh, Plan, Step};
use coracle_bundle::FileSystem;
use coracle_sys::{Call, Cause, Fault};
use coracle_text::{io_errno, one_line};
use nix::errno::Errno;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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
                // The kernel only says `VFS: Mount too revealing`, and the plan says more.
                Errno::EPERM if plan.in_user_namespace => {
                    return match fresh.file_system {
                        FileSystem::Proc => covered_proc().unwrap_or_default(),
                        _ => String::new(),
                    };
                }
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

/// Why the kernel refuses a procfs where the runtime's own is covered in places, as it is in a
/// container with masked paths. None if nothing covers it.
fn covered_proc() -> Option<String> {
    let covers = covers_of_proc(&std::fs::read("/proc/self/mountinfo").ok()?);
    let (first, rest) = covers.split_first()?;
    let first = one_line(&first.to_string_lossy());
    let more = match rest.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!(
        "in a user namespace the kernel allows it only where nothing covers the runtime's own \
         /proc, as mounts on {first}{more} do here: ask the runtime outside not to mask it \
         (podman: --security-opt unmask=ALL, docker: --security-opt systempaths=unconfined, \
         Kubernetes: procMount: Unmasked)"
    ))
}

/// The mount points below `/proc` of proc_pid_mountinfo(5). Those on directories that are always
/// empty hide nothing, and the kernel does not mind them: binfmt_misc and its automount.
fn covers_of_proc(mountinfo: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let Some(place) = fields.nth(4) else { continue };
        let kind = fields.skip_while(|field| *field != b"-").nth(1);
        if place.starts_with(b"/proc/") && !matches!(kind, Some(b"autofs" | b"binfmt_misc")) {
            found.push(coracle_host::unescaped(place));
        }
    }
    found
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_are_what_hides_something() {
        let table = b"\
            22 1 0:21 / /proc rw - proc proc rw\n\
            23 22 0:22 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n\
            24 22 0:5 /null /proc/kcore rw - devtmpfs dev rw\n\
            25 22 0:21 /sys /proc/sys ro shared:3 - proc proc rw\n\
            26 1 0:23 / /process rw - tmpfs tmpfs rw\n";
        let expected = ["/proc/kcore", "/proc/sys"].map(PathBuf::from);
        assert_eq!(covers_of_proc(table), expected);
    }
}
