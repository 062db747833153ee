//! Mounts that the runtime adds to the config's, and the one that a container leaves on the host.

use std::path::{Path, PathBuf};

use coracle_bundle::{AttributeChange, Destination, Mount, MountKind, MountOptions};
use coracle_sys::{Depth, mount_attribute};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::error::{Error, with_path};

/// A read-only bind mount of something in the container's own directory.
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

/// Unmounts the root that a container without a mount namespace has left on the host.
pub(crate) fn detach(path: &Path) -> Result<(), Error> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: not a mount point, since init did not get so far.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(with_path("umount2", path)(errno)),
    }
}
