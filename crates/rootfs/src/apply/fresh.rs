//! Mounts new instances of filesystems: fsopen(2), fsconfig(2), fsmount(2).

use super::copy;
use super::inherited::Inherited;
use super::source::{self, Failure};
use super::target::{self, Found, Make};
use super::trail::Trail;
use crate::plan::explain::Check;
use crate::plan::{Change, Fallback, Fresh, Long, MODE_PREFIX, Parameters, Plan};
use coracle_sys::{
    Call, Cause, MOUNT_DATA_BYTES, OpenTreeFlags, Remark, fsconfig_create, fsconfig_flag,
    fsconfig_string, fsmount, fsopen, mount_attribute, setxattr,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::fchdir;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(super) fn attach(plan: &Plan, inherited: &mut Inherited, fresh: &Fresh) -> Result<(), Failure> {
    let base = inherited.base(fresh.target.base)?;
    let found = target::resolve(base, &fresh.target, Make::Directory)?;
    let mut refused = Remark::default();
    let made = instance(fresh, &found, &mut inherited.trail, &mut refused);
    let mount = match made {
        Ok(mount) => mount,
        Err(refusal) => fallback(plan, inherited, fresh, refusal)
            .inspect_err(|_| inherited.refused = refused)?,
    };
    for change in &fresh.changes {
        source::apply(mount.as_fd(), change, &inherited.id_maps)?;
    }
    inherited.attach(&fresh.target, found.place.as_fd(), mount.as_fd())?;
    if let Some(label) = &fresh.label {
        set_label(mount.as_fd(), label)?;
    }
    inherited.keep(fresh.keep, mount);
    Ok(())
}

/// Opens the fallback for a new instance that the kernel refuses.
fn fallback(
    plan: &Plan,
    inherited: &mut Inherited,
    fresh: &Fresh,
    refusal: Failure,
) -> Result<OwnedFd, Failure> {
    let refused = matches!(
        refusal,
        Cause::Call(
            Call::Fsopen | Call::Fsconfig | Call::Fsmount | Call::Mount,
            Errno::EPERM | Errno::EBUSY
        )
    );
    match fresh.fallback {
        Some(Fallback::Bind(index)) if refused => match inherited.obtain(plan, index) {
            Ok(Some(tree)) => Ok(tree),
            // The refusal is reported, not the failure of the fallback.
            Ok(None) | Err(Cause::Check(_)) => Err(refusal),
            Err(failure) => Err(failure),
        },
        Some(Fallback::BindOrNothing(index)) if refused => match inherited.obtain(plan, index)? {
            Some(tree) => Ok(tree),
            // The container has no cgroup of its own, so it gets an empty directory.
            None => empty_directory(),
        },
        _ => Err(refusal),
    }
}

/// Makes the detached mount with its options, flags and copied content.
fn instance(
    fresh: &Fresh,
    found: &Found,
    trail: &mut Trail,
    refused: &mut Remark,
) -> Result<OwnedFd, Failure> {
    let copies = fresh.copy_up && !found.made;
    let late = match copies {
        true => fresh.attributes & mount_attribute::RDONLY,
        false => 0,
    };
    let mount = match &fresh.long {
        Some(long) => by_mount(fresh, long, found, late)?,
        None => by_options(fresh, found, late, refused)?,
    };
    if copies {
        copy::contents(found.place.as_fd(), mount.as_fd(), trail)?;
    }
    if late != 0 {
        let change = Change {
            set: late,
            ..Change::default()
        };
        source::apply(mount.as_fd(), &change, &[])?;
    }
    Ok(mount)
}

fn by_options(
    fresh: &Fresh,
    found: &Found,
    late: u64,
    refused: &mut Remark,
) -> Result<OwnedFd, Failure> {
    let digits = match fresh.mode_of_target && !found.made {
        true => Some(octal(mode_of(found)?)),
        false => None,
    };
    let digits = digits
        .as_ref()
        .map(|digits| CStr::from_bytes_until_nul(digits));
    let digits = digits.transpose().map_err(|_| Check::Inconsistent)?;
    let mode = digits.map(|digits| (c"mode", Some(digits)));
    let options = shared(&fresh.parameters).chain(mode);
    let attributes = fresh.attributes & !late;
    new_mount(fresh.file_system.name(), options, attributes, refused)
}

/// The options, borrowed.
pub(super) fn shared(options: &Parameters) -> impl Iterator<Item = (&CStr, Option<&CStr>)> {
    let options = options.iter();
    options.map(|(key, value)| (key.as_c_str(), value.as_deref()))
}

/// A new detached mount. If it fails, `refused` gets the option that was, if it is about one, a NUL
/// and the kernel's own words.
pub(super) fn new_mount<'a>(
    file_system: &CStr,
    options: impl Iterator<Item = (&'a CStr, Option<&'a CStr>)>,
    attributes: u64,
    refused: &mut Remark,
) -> Result<OwnedFd, Failure> {
    let context = fsopen(file_system).map_err(Call::Fsopen.failed())?;
    let context = context.as_fd();
    for (key, value) in options {
        let set = match value {
            Some(value) => fsconfig_string(context, key, value),
            None => fsconfig_flag(context, key),
        };
        if set.is_err() {
            refused.push(key.to_bytes());
            for value in value.into_iter().map(CStr::to_bytes) {
                refused.push(b"=");
                refused.push(value);
            }
        }
        set.map_err(Call::Fsconfig.failed())
            .inspect_err(|_| read_log(context, refused))?;
    }
    let made = fsconfig_create(context).map_err(Call::Fsconfig.failed());
    made.and_then(|()| fsmount(context, attributes).map_err(Call::Fsmount.failed()))
        .inspect_err(|_| read_log(context, refused))
}

/// Reads what the kernel says of the last failure: each read(2) of a context returns one message,
/// `e tmpfs: Bad value for 'size'`, until there is none (`ENODATA`).
fn read_log(context: BorrowedFd<'_>, refused: &mut Remark) {
    let mut message = [0; 256];
    refused.push(b"\0");
    while let Ok(length @ 1..) = nix::unistd::read(context, &mut message) {
        refused.push(message.get(..length).unwrap_or_default());
    }
}

fn mode_of(found: &Found) -> Result<u32, Failure> {
    let stat = fstat(&found.place).map_err(Call::Stat.failed())?;
    Ok(stat.st_mode)
}

/// Makes the mount by mount(2), which attaches it: on the working directory, set to the resolved
/// place. Returns a detached clone of it, and unmounts the original.
fn by_mount(fresh: &Fresh, long: &Long, found: &Found, late: u64) -> Result<OwnedFd, Failure> {
    fchdir(&found.place).map_err(Call::Fchdir.failed())?;
    let mut buffer = [0; MOUNT_DATA_BYTES];
    let data = long_data(fresh, long, found, &mut buffer)?;
    let source = Some(long.source.as_c_str());
    let mut flags = MsFlags::from_bits_retain(long.flags);
    flags.set(
        MsFlags::MS_RDONLY,
        flags.contains(MsFlags::MS_RDONLY) && late == 0,
    );
    mount(
        source,
        c".",
        Some(fresh.file_system.name()),
        flags,
        Some(data),
    )
    .map_err(Call::Mount.failed())?;
    let top = target::top_mount(found.place.as_fd())?;
    let clone = source::clone_mount(top.as_fd(), OpenTreeFlags::empty());
    fchdir(&top).map_err(Call::Fchdir.failed())?;
    umount2(c".", MntFlags::MNT_DETACH).map_err(Call::Umount.failed())?;
    clone
}

/// The options, with the mode of the covered directory if the config has none.
fn long_data<'a>(
    fresh: &Fresh,
    long: &'a Long,
    found: &Found,
    buffer: &'a mut [u8; MOUNT_DATA_BYTES],
) -> Result<&'a CStr, Failure> {
    if !fresh.mode_of_target {
        return Ok(&long.data);
    }
    let invalid = Cause::from(Check::Inconsistent);
    let bytes = long.data.to_bytes_with_nul();
    let start = if found.made { MODE_PREFIX.len() } else { 0 };
    let bytes = bytes.get(start..).ok_or(invalid)?;
    buffer
        .get_mut(..bytes.len())
        .ok_or(invalid)?
        .copy_from_slice(bytes);
    if !found.made {
        let digits = octal(mode_of(found)?);
        let place = buffer.get_mut(MODE_PREFIX.len() - DIGITS - 1..MODE_PREFIX.len() - 1);
        let (digits, _) = digits.split_at(DIGITS);
        place.ok_or(invalid)?.copy_from_slice(digits);
    }
    CStr::from_bytes_until_nul(buffer).map_err(|_| invalid)
}

/// Of a tmpfs without room for any file, should its mount be made writable.
const EMPTY: [(&CStr, &CStr); 4] = [
    (c"source", c"tmpfs"),
    (c"mode", c"555"),
    (c"size", c"4k"),
    (c"nr_inodes", c"2"),
];

/// Makes an empty directory that stays empty: a minimal read-only tmpfs.
pub(super) fn empty_directory() -> Result<OwnedFd, Failure> {
    tmpfs(&EMPTY, mount_attribute::RDONLY)
}

/// Makes a tmpfs without devices and programs.
pub(super) fn tmpfs(options: &[(&CStr, &CStr)], attributes: u64) -> Result<OwnedFd, Failure> {
    let always = mount_attribute::NOSUID | mount_attribute::NODEV | mount_attribute::NOEXEC;
    let options = options.iter().map(|(key, value)| (*key, Some(*value)));
    let refused = &mut Remark::default();
    new_mount(c"tmpfs", options, attributes | always, refused)
}

fn set_label(mount: BorrowedFd<'_>, label: &CStr) -> Result<(), Failure> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let top = openat(mount, c".", flags, Mode::empty()).map_err(Call::Open.failed())?;
    let label = label.to_bytes_with_nul();
    setxattr(top.as_fd(), c"security.selinux", label).map_err(Call::Xattr.failed())
}

/// The digits of a mode.
const DIGITS: usize = 4;

/// The permission bits in octal digits, with a terminating NUL.
fn octal(mode: u32) -> [u8; 5] {
    let digit = |shift: u32| {
        let value = (mode >> shift) & 7;
        b'0' + u8::try_from(value).unwrap_or(0)
    };
    [digit(9), digit(6), digit(3), digit(0), 0]
}

#[cfg(test)]
mod tests {
    use super::octal;

    #[test]
    fn modes_are_four_octal_digits() {
        assert_eq!(&octal(0o041_777), b"1777\0");
        assert_eq!(&octal(0o040_755), b"0755\0");
    }
}
