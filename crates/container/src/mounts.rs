//! Mounts that the runtime adds to the config's.

use std::path::PathBuf;

use coracle_bundle::{AttributeChange, Bind, Mount, MountOptions};
use coracle_sys::mount_attribute;

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
        bind: Some(Bind::Plain),
        attributes,
        ..MountOptions::default()
    };
    Mount {
        destination,
        source: Some(source),
        fs_type: None,
        options,
        id_mappings: None,
    }
}
