//! `mounts`: config.md § Mounts.

use std::ffi::{CStr, CString};
use std::path::PathBuf;

/// One mount.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Absolute, lexically clean; `/` covers the root. In `/proc` only what may stand there.
    pub destination: PathBuf,
    /// For binds absolute (joined with the bundle's directory); else the config's string as it
    /// stands. Only a remount goes without one among the binds.
    pub source: Option<PathBuf>,
    /// The file system; a dummy for binds.
    pub fs_type: Option<CString>,
    /// What the option strings say.
    pub options: MountOptions,
    /// Of the mount itself, not of the container. Both lists non-empty.
    pub id_mappings: Option<IdMappings>,
}

/// The options of a mount, taken apart: config.md § Linux mount options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// The strings as given, for display.
    pub given: Vec<String>,
    /// `bind` or `rbind` (or type `bind`).
    pub bind: Option<Bind>,
    /// Change the mount that is there already.
    pub remount: bool,
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
    /// The mount is to be id-mapped.
    pub idmap: Option<IdmapOption>,
    /// A source that is a symbolic link is made anew at the destination; only on binds.
    pub copy_symlink: bool,
    /// The link itself is the source; only on binds.
    pub src_nofollow: bool,
    /// The link itself is the destination.
    pub dest_nofollow: bool,
}

/// How much of the source's tree is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// `bind`: one mount.
    Plain,
    /// `rbind`: with all below it.
    Recursive,
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

/// `MS_PRIVATE` and its kin.
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

/// `idmap` (plain) or `ridmap` (recursive) among the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdmapOption {
    /// One mount.
    Plain,
    /// With all below it.
    Recursive,
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
