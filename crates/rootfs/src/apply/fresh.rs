//! New instances of file systems: fsopen(2), fsconfig(2), fsmount(2).

use super::open::Slots;
use super::source::{self, Failure};
use super::target::{self, Found, Make};
use super::{copy, fault};
use crate::plan::{Change, CopyUp, Fresh, Long};
use coracle_sys::{
    Call, fsconfig_create, fsconfig_flag, fsconfig_string, fsmount, fsopen, mount_attribute,
    setxattr,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::fchdir;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(super) fn attach(slots: &mut Slots, fresh: &Fresh) -> Result<(), Failure> {
    let base = slots.base(fresh.target.base)?;
    let found = target::resolve(base, &fresh.target, Make::Directory)?;
    if let Some(long) = &fresh.long {
        return by_mount(base, fresh, long, &found);
    }
    let mount = match instance(fresh, &found) {
        Ok(mount) => mount,
        Err((Call::Fsopen | Call::Fsconfig | Call::Fsmount, Errno::EPERM | Errno::EBUSY))
            if fresh.fallback.is_some() =>
        {
            // Without a cgroup of its own there is nothing that the container should see.
            match fresh.fallback.and_then(|index| slots.take(index)) {
                Some(tree) => tree,
                None => nothing()?,
            }
        }
        Err(failure) => return Err(failure),
    };
    for change in &fresh.changes {
        source::apply(mount.as_fd(), change, &slots.id_maps)
            .map_err(|errno| (Call::MountSetattr, errno))?;
    }
    let base = slots.base(fresh.target.base)?;
    target::attach(base, &fresh.target, found.place.as_fd(), mount.as_fd())?;
    if let Some(label) = &fresh.label {
        set_label(mount.as_fd(), label)?;
    }
    slots.keep(fresh.keep, mount);
    Ok(())
}

/// mount(2) on the working directory, which is the resolved place.
fn by_mount(
    base: BorrowedFd<'_>,
    fresh: &Fresh,
    long: &Long,
    found: &Found,
) -> Result<(), Failure> {
    fchdir(&found.place).map_err(|errno| (Call::Fchdir, errno))?;
    let (source, data) = (Some(long.source.as_c_str()), Some(long.data.as_c_str()));
    let flags = MsFlags::from_bits_retain(long.flags);
    mount(source, c".", Some(fresh.fs_type.as_c_str()), flags, data)
        .map_err(|errno| (Call::Mount, errno))?;
    match target::same_mount(
        target::again(base, &fresh.target)?.as_fd(),
        found.place.as_fd(),
    ) {
        Ok(()) => Err((Call::Check, fault::SWAPPED)),
        Err((Call::Check, _)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// The detached mount with its options, flags and first content.
fn instance(fresh: &Fresh, found: &Found) -> Result<OwnedFd, Failure> {
    let context = fsopen(&fresh.fs_type).map_err(|errno| (Call::Fsopen, errno))?;
    for (key, value) in &fresh.parameters {
        set(context.as_fd(), key, value.as_deref())?;
    }
    if fresh.mode_of_target && !found.made {
        let mode = fstat(&found.place)
            .map_err(|errno| (Call::Stat, errno))?
            .st_mode;
        let digits = octal(mode);
        let digits = CStr::from_bytes_until_nul(&digits).map_err(|_| (Call::Check, Errno::EINVAL));
        set(context.as_fd(), c"mode", Some(digits?))?;
    }
    fsconfig_create(context.as_fd()).map_err(|errno| (Call::Fsconfig, errno))?;
    let copies = fresh.copy_up != CopyUp::Nothing;
    let late = if copies {
        fresh.attributes & mount_attribute::RDONLY
    } else {
        0
    };
    let mount = fsmount(context.as_fd(), fresh.attributes & !late)
        .map_err(|errno| (Call::Fsmount, errno))?;
    if copies && !found.made {
        copy::contents(found.place.as_fd(), mount.as_fd(), fresh.copy_up)?;
    }
    if late != 0 {
        let change = Change {
            set: late,
            ..Change::default()
        };
        source::apply(mount.as_fd(), &change, &[]).map_err(|errno| (Call::MountSetattr, errno))?;
    }
    Ok(mount)
}

/// One option.
pub(super) fn set(
    context: BorrowedFd<'_>,
    key: &CStr,
    value: Option<&CStr>,
) -> Result<(), Failure> {
    let answer = match value {
        Some(value) => fsconfig_string(context, key, value),
        None => fsconfig_flag(context, key),
    };
    answer.map_err(|errno| (Call::Fsconfig, errno))
}

const OPTIONS: [(&CStr, &CStr); 4] = [
    (c"source", c"tmpfs"),
    (c"mode", c"555"),
    (c"size", c"4k"),
    (c"nr_inodes", c"2"),
];

/// An empty directory that stays so: a read-only tmpfs as small as there is.
pub(super) fn nothing() -> Result<OwnedFd, Failure> {
    let context = fsopen(c"tmpfs").map_err(|errno| (Call::Fsopen, errno))?;
    for (key, value) in OPTIONS {
        set(context.as_fd(), key, Some(value))?;
    }
    fsconfig_create(context.as_fd()).map_err(|errno| (Call::Fsconfig, errno))?;
    let attributes = mount_attribute::RDONLY
        | mount_attribute::NOSUID
        | mount_attribute::NODEV
        | mount_attribute::NOEXEC;
    fsmount(context.as_fd(), attributes).map_err(|errno| (Call::Fsmount, errno))
}

fn set_label(mount: BorrowedFd<'_>, label: &CStr) -> Result<(), Failure> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let top = openat(mount, c".", flags, Mode::empty()).map_err(|errno| (Call::Open, errno))?;
    let label = label.to_bytes_with_nul();
    setxattr(top.as_fd(), c"security.selinux", label).map_err(|errno| (Call::Xattr, errno))
}

/// The permission bits in octal digits, with a final NUL.
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
