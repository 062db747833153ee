//! Mounts of the runtime's own: those that it adds to the config's, and those left on the host.

use std::path::{Path, PathBuf};

use coracle_bundle::{AttributeChange, Destination, Mount, MountKind, MountOptions};
use coracle_sys::{Depth, mount_attribute};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::error::Error;

/// Something of the container's own directory, to be read only.
pub(crate) fn read_only(source: PathBuf, destination: PathBuf) -> Mount {
    let texts = ["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned);
    let attributes = AttributeChange {
        set: mount_attribute::RDONLY
            | mount_attribute::NOSUID
            | mount_attribute::NODEV
            | mount_attribute::NOEXEC,
        clear: 0,
    };
    let options = MountOptions {
        texts: texts.to_vec(),
        attributes,
        ..MountOptions::default()
    };
    Mount {
        destination: Destination::Path(destination),
        kind: MountKind::Bind {
            source,
            depth: Depth::Single,
        },
        options,
        id_map: None,
    }
}

/// Unmounts what a container without a mount namespace has left on the host.
pub(crate) fn detach(path: &Path) -> Result<(), Error> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: init had not come as far as mounting it.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::Store {
            call: "umount2",
            path: path.to_owned(),
            errno,
        }),
    }
}
