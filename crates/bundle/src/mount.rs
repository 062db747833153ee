//! `mounts`: config.md § Mounts.

use coracle_sys::Depth;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Where it goes.
    pub destination: Destination,
    /// What is mounted there.
    pub kind: MountKind,
    /// What the option strings say of it.
    pub options: MountOptions,
    /// It is id-mapped.
    pub id_map: Option<MountIdMap>,
}

impl Mount {
    /// The host's path that is bound, and how much of its tree.
    #[must_use]
    pub fn bind(&self) -> Option<(&Path, Depth)> {
        match &self.kind {
            MountKind::Bind { source, depth } => Some((source, *depth)),
            MountKind::New { .. } | MountKind::Remount { .. } => None,
        }
    }

    /// The type of the new file system.
    #[must_use]
    pub fn fs_type(&self) -> Option<&CStr> {
        match &self.kind {
            MountKind::New { fs_type, .. } => Some(fs_type),
            MountKind::Bind { .. } | MountKind::Remount { .. } => None,
        }
    }
}

/// Where a mount goes: an absolute path, lexically clean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `/`: the mount covers the root, and becomes it.
    Root,
    /// `/proc`: what is mounted there is a procfs, or a bind, whose source has to be one.
    Proc,
    /// The path of a file in `/proc` that a bind may cover.
    ProcFile(&'static str),
    /// Any other place, not in `/proc`.
    Path(PathBuf),
}

impl Destination {
    /// The path in the container.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Destination::Root => Path::new("/"),
            Destination::Proc => Path::new("/proc"),
            Destination::ProcFile(path) => Path::new(path),
            Destination::Path(path) => path,
        }
    }
}

/// What is done at the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A tree of the host is mounted.
    Bind {
        /// Absolute: joined with the bundle's directory when relative.
        source: PathBuf,
        /// Whether the mounts below the source come along.
        depth: Depth,
    },
    /// A new instance of a file system is mounted.
    New {
        /// Its type; not empty.
        fs_type: CString,
        /// A word that the file system understands.
        source: Option<CString>,
    },
    /// What is mounted there already gets other options.
    Remount {
        /// `bind` stands beside it: what is there counts as bound by the config.
        bind: bool,
    },
}

/// How the ids of a mount are mapped: mount_setattr(2), `MOUNT_ATTR_IDMAP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountIdMap {
    /// The map.
    pub ids: MountIds,
    /// Whether the mounts below get it too.
    pub depth: Depth,
}

/// Where the map of a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountIds {
    /// These lines, of the mount itself or of the container's new user namespace.
    Lines(IdMappings),
    /// The user namespace that the container joins, by its path.
    Namespace(PathBuf),
}

/// The options of a mount, taken apart: config.md § Linux mount options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// The strings of the config, for display.
    pub texts: Vec<String>,
    /// `MOUNT_ATTR_*` to set and to clear on the mount, in mount_setattr(2)'s sense: where an
    /// access time mode is set, `clear` holds `MOUNT_ATTR__ATIME`.
    pub attributes: AttributeChange,
    /// The same, recursive (`rro` and so on).
    pub recursive: AttributeChange,
    /// Flags of the superblock by their option names: `sync`, `dirsync`, `mand`, `lazytime`,
    /// `iversion`, `silent`. fsconfig(2) knows the first four for every file system, the others
    /// were flags of mount(2) alone. None on binds.
    pub superblock: Vec<&'static CStr>,
    /// In order.
    pub propagation: Vec<Propagation>,
    /// What only the file system understands, in order: (key, value). None on binds.
    pub data: Vec<(CString, Option<CString>)>,
    /// Fill the tmpfs with what it covers.
    pub tmpcopyup: bool,
    /// A source that is a symbolic link is made anew at the destination; only on binds.
    pub copy_symlink: bool,
    /// The link itself is the source; only on binds.
    pub src_nofollow: bool,
    /// The link itself is the destination.
    pub dest_nofollow: bool,
}

/// Bits of `MOUNT_ATTR_*` to set and to clear; cleared first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttributeChange {
    /// To set.
    pub set: u64,
    /// To clear.
    pub clear: u64,
}

/// A propagation type to give to a mount: mount_namespaces(7) § Shared subtrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// Which.
    pub kind: PropagationKind,
    /// Also to all mounts below.
    pub recursive: bool,
}

/// `MS_PRIVATE`, `MS_SHARED`, `MS_SLAVE`, `MS_UNBINDABLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropagationKind {
    /// `MS_PRIVATE`.
    Private,
    /// `MS_SHARED`.
    Shared,
    /// `MS_SLAVE`.
    Slave,
    /// `MS_UNBINDABLE`.
    Unbindable,
}

/// One line of a uid_map or gid_map; `size` is above zero, no overflow. For a mount the first
/// id is the file system's, the second the one that it appears as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMapping {
    /// First id inside.
    pub container_id: u32,
    /// First id outside.
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// Both maps of a user namespace or of a mount; at most 340 ranges each, none overlapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMappings {
    /// Lines of uid_map.
    pub uid: Vec<IdMapping>,
    /// Lines of gid_map.
    pub gid: Vec<IdMapping>,
}
