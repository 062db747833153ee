//! Mounts that the runtime adds to the config's.

use std::path::PathBuf;

use coracle_bundle::{AttributeChange, Destination, Mount, MountKind, MountOptions};
use coracle_sys::{Depth, mount_attribute};

/// Something of the container's own directory, to be read only.
pub(crate) fn read_only(source: PathBuf, destination: PathBuf) -> Mount {
    let given = ["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned);
    let attributes = AttributeChange {
        set: mount_attribute::RDONLY
            | mount_attribute::NOSUID
            | mount_attribute::NODEV
            | mount_attribute::NOEXEC,
        clear: 0,
    };
    let options = MountOptions {
        given: given.to_vec(),
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
