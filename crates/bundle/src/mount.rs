//! `mounts`: config.md § Mounts.

use coracle_sys::Depth;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Its place, for messages: `config.json: mounts[3]`.
    pub at: String,
    /// The destination.
    pub destination: Destination,
    /// What is mounted.
    pub kind: MountKind,
    /// The parsed options.
    pub options: MountOptions,
    /// The id map, if it has one.
    pub id_map: Option<MountIdMap>,
}

impl Mount {
    /// The source on the host of a bind mount, and whether mounts below it are bound as well.
    #[must_use]
    pub fn bind(&self) -> Option<(&Path, Depth)> {
        match &self.kind {
            MountKind::Bind { source, depth } => Some((source, *depth)),
            MountKind::New { .. } | MountKind::Remount { .. } => None,
        }
    }

    /// The file system of which a new instance is mounted.
    #[must_use]
    pub fn file_system(&self) -> Option<&FileSystem> {
        match &self.kind {
            MountKind::New { file_system, .. } => Some(file_system),
            MountKind::Bind { .. } | MountKind::Remount { .. } => None,
        }
    }
}

/// The destination of a mount: an absolute path without `.` and `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `/`: the mount becomes the root.
    Root,
    /// `/proc`: a procfs, or a bind mount whose source must be one.
    Proc,
    /// A file in `/proc` on which a bind mount may be made.
    ProcFile(&'static str),
    /// Any other path, not in `/proc`.
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

/// What to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A bind mount of a path of the host.
    Bind {
        /// The absolute path; a relative one was joined to the bundle's directory.
        source: PathBuf,
        /// Whether mounts below the source are bound as well.
        depth: Depth,
    },
    /// A new instance of a filesystem.
    New {
        /// Which one.
        file_system: FileSystem,
        /// A string for the filesystem.
        source: Option<CString>,
    },
    /// New options for an existing mount.
    Remount {
        /// Whether `bind` is among the options: the existing mount then counts as a bind mount.
        bind: bool,
    },
}

/// The type of a new mount. Those that the runtime treats in a way of their own have a name here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// `proc`.
    Proc,
    /// `sysfs`.
    Sysfs,
    /// `mqueue`.
    Mqueue,
    /// `devpts`.
    Devpts,
    /// `tmpfs`.
    Tmpfs,
    /// `ramfs`.
    Ramfs,
    /// `cgroup`: all hierarchies, whatever their version.
    Cgroup,
    /// `cgroup2`.
    Cgroup2,
    /// Another type that has no device: `ro` is a flag of the mount only.
    NoDevice(CString),
    /// Any other type, which may have a device: with `ro`, that is not written to either.
    Other(CString),
}

impl FileSystem {
    /// The type of this name.
    pub(crate) fn new(name: CString) -> Self {
        use FileSystem::{Cgroup, Cgroup2, Devpts, Mqueue, Proc, Ramfs, Sysfs, Tmpfs};
        let mut known = [Proc, Sysfs, Mqueue, Devpts, Tmpfs, Ramfs, Cgroup, Cgroup2].into_iter();
        match known.find(|known| known.name() == name.as_c_str()) {
            Some(known) => known,
            None => match name.to_bytes() {
                b"devtmpfs" | b"bpf" | b"overlay" | b"hugetlbfs" => FileSystem::NoDevice(name),
                _ => FileSystem::Other(name),
            },
        }
    }

    /// Its name, for fsopen(2) and mount(2); not empty.
    #[must_use]
    pub fn name(&self) -> &CStr {
        match self {
            FileSystem::Proc => c"proc",
            FileSystem::Sysfs => c"sysfs",
            FileSystem::Mqueue => c"mqueue",
            FileSystem::Devpts => c"devpts",
            FileSystem::Tmpfs => c"tmpfs",
            FileSystem::Ramfs => c"ramfs",
            FileSystem::Cgroup => c"cgroup",
            FileSystem::Cgroup2 => c"cgroup2",
            FileSystem::NoDevice(name) | FileSystem::Other(name) => name,
        }
    }
}

/// How the ids of a mount are mapped: mount_setattr(2), `MOUNT_ATTR_IDMAP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountIdMap {
    /// The map.
    pub ids: MountIds,
    /// Whether mounts below get it as well.
    pub depth: Depth,
}

/// The origin of a mount's id map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountIds {
    /// These mappings, of the mount itself or of the container's new user namespace.
    Lines(IdMappings),
    /// The path of the user namespace that the container joins.
    Namespace(PathBuf),
}

/// The options of a mount, taken apart: config.md § Linux mount options. [`MountKind`] and
/// [`MountIdMap`] have what came of those that are not public here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// The strings of the config, for display.
    pub texts: Vec<String>,
    /// The flags to set and to clear on the mount, for mount_setattr(2). If an access time mode is
    /// set, `clear` has `MOUNT_ATTR__ATIME`.
    pub attributes: AttributeChange,
    /// The flags to set and to clear on the mount and all below it (`rro` and so on).
    pub recursive: AttributeChange,
    /// Flags of the superblock by their option names: `sync`, `dirsync`, `mand`, `lazytime`,
    /// `iversion`, `silent`. fsconfig(2) accepts the first four for every filesystem; the others
    /// were only flags of mount(2). None for bind mounts.
    pub superblock: Vec<&'static CStr>,
    /// Propagation options, in order.
    pub propagation: Vec<Propagation>,
    /// Options for the filesystem, in order, as key and value. None for bind mounts.
    pub data: Vec<(CString, Option<CString>)>,
    /// Whether the contents of the covered directory are copied into the tmpfs.
    pub tmpcopyup: bool,
    /// Whether a source that is a symbolic link is copied to the destination; only for bind mounts.
    pub copy_symlink: bool,
    /// Whether a link as the source is not followed; only for bind mounts.
    pub src_nofollow: bool,
    /// Whether a link as the destination is not followed.
    pub dest_nofollow: bool,
    /// `bind` or `rbind`.
    pub(crate) bind: Option<Depth>,
    pub(crate) remount: bool,
    /// `idmap` or `ridmap`.
    pub(crate) idmap: Option<Depth>,
    /// The mapping after `idmap=` or `ridmap=`.
    pub(crate) mapping: Option<String>,
}

impl MountOptions {
    /// The `MOUNT_ATTR_*` of a new mount, which has none below it.
    #[must_use]
    pub fn of_new_mount(&self) -> u64 {
        self.attributes.set | self.recursive.set
    }
}

/// `MOUNT_ATTR_*` flags to set and to clear; cleared first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttributeChange {
    /// To set.
    pub set: u64,
    /// To clear.
    pub clear: u64,
}

/// A propagation type to set on a mount: mount_namespaces(7) § Shared subtrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// The type.
    pub kind: PropagationKind,
    /// Whether it is set on all mounts below as well.
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

/// A range of a uid_map or gid_map; `size` is above zero, and the ends do not overflow. For a
/// mount, the first id is on the filesystem, and the second is the id that it appears as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMapping {
    /// First id inside.
    pub container_id: u32,
    /// First id outside.
    pub host_id: u32,
    /// The number of ids.
    pub size: u32,
}

impl IdMapping {
    /// The host's id for an id inside, if it is in one of the ranges.
    #[must_use]
    pub fn to_host(ranges: &[Self], id: u32) -> Option<u32> {
        ranges.iter().find_map(|range| {
            let offset = id.checked_sub(range.container_id)?;
            (offset < range.size).then(|| range.host_id.checked_add(offset))?
        })
    }
}

/// Both maps of a user namespace or of a mount, with at most 340 ranges each that do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMappings {
    /// The ranges of uid_map.
    pub uid: Vec<IdMapping>,
    /// The ranges of gid_map.
    pub gid: Vec<IdMapping>,
}

#[cfg(test)]
mod tests {
    use super::FileSystem;
    use std::ffi::CString;

    #[test]
    fn file_systems_keep_their_names() {
        let names = "proc sysfs mqueue devpts tmpfs ramfs cgroup cgroup2 devtmpfs bpf overlay \
                     hugetlbfs ext4 none procfs";
        let mut others = 0;
        for name in names.split_whitespace() {
            let file_system = FileSystem::new(CString::new(name).unwrap());
            assert_eq!(file_system.name().to_str(), Ok(name));
            others += usize::from(matches!(file_system, FileSystem::Other(_)));
        }
        assert_eq!(others, 3);
    }
}
