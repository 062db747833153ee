//! The plan as data: the steps in order, and the sources that they attach.

use coracle_bundle::{DeviceKind, FileSystem, MountIds, MountOptions, Namespace, PropagationKind};
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

/// The steps that make a container's root of an image directory, in order.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) root: Option<Root>,
    pub(crate) sources: Vec<Source>,
    pub(crate) id_maps: Vec<IdMap>,
    pub(crate) steps: Vec<Step>,
    /// The property that each step carries out, `config.json: mounts[3]`; empty for none.
    pub(crate) at: Vec<String>,
    pub(crate) ends: Ends,
    /// The number of mounts that are kept for later steps.
    pub(crate) kept: usize,
    /// The kept mount of the last new tmpfs at /dev.
    pub(crate) dev: Option<usize>,
    /// The index of the source that masks files, if any path is masked.
    pub(crate) null_device: Option<usize>,
    pub(crate) source_by: SourceBy,
    /// The mount namespace that the mounts are made in.
    pub(crate) mount_namespace: Namespace,
    /// Whether the container has a user namespace, so that its ids are mapped.
    pub(crate) in_user_namespace: bool,
}

impl Plan {
    /// A plan without steps, for a process that joins a running container.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            root: None,
            sources: Vec::new(),
            id_maps: Vec::new(),
            steps: Vec::new(),
            at: Vec::new(),
            ends: Ends::default(),
            kept: 0,
            dev: None,
            null_device: None,
            source_by: SourceBy::Init,
            mount_namespace: Namespace::New,
            in_user_namespace: false,
        }
    }

    /// The number of steps. A fault names one of them.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The steps of [`crate::mounts`], of [`crate::pivot`], and of [`crate::console`] and
    /// [`crate::finish`].
    #[must_use]
    pub fn phases(&self) -> [std::ops::Range<usize>; 3] {
        let Ends { mounts, pivot, .. } = self.ends;
        [0..mounts, mounts..pivot, pivot..self.steps()]
    }

    /// The mount point on the host of a container without a mount namespace. It must be unmounted
    /// by `umount2(path, MNT_DETACH)`, with everything below it, when the container is deleted.
    #[must_use]
    pub fn host_mount(&self) -> Option<&Path> {
        let root = self.root.as_ref()?;
        let on_host = self.mount_namespace == Namespace::Inherit;
        (on_host && root.source.is_some()).then_some(root.path.as_path())
    }

    /// Whether [`crate::provide`] has work to do.
    #[must_use]
    pub fn needs_provider(&self) -> bool {
        self.root.is_some() && self.sources.iter().any(|source| self.is_provided(source))
    }

    /// Whether a child of the runtime sends the source to init.
    pub(crate) fn is_provided(&self, source: &Source) -> bool {
        source.inside.is_none() && (self.source_by == SourceBy::Child || source.on_host)
    }

    /// Whether the root is hidden while mounts are made: in a new mount namespace, where no other
    /// process needs it on its path.
    pub(crate) fn has_own_namespace(&self) -> bool {
        self.mount_namespace == Namespace::New
    }

    /// Whether procfs and sysfs mounts outside the root stay reachable after the change of the
    /// root, and have to be covered.
    pub(crate) fn leaves_outside(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Move))
    }

    /// The steps of one phase with their numbers.
    pub(crate) fn phase(&self, from: usize, to: usize) -> impl Iterator<Item = (usize, &Step)> {
        let steps = self.steps.iter().enumerate();
        steps.skip(from).take(to.saturating_sub(from))
    }
}

/// The end of each phase, as an index into the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) mounts: usize,
    pub(crate) pivot: usize,
    pub(crate) console: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    pub(crate) path_c: CString,
    /// The index of its source; `None` if the host's own `/` is used.
    pub(crate) source: Option<usize>,
    /// Its step.
    pub(crate) step: usize,
}

/// The process that opens sources on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceBy {
    /// Init, each at its step, in its copy of the mount namespace, in which the root is hidden
    /// until everything is mounted.
    Init,
    /// A child of the runtime, in init's mount namespace: in a user namespace, init may lack the
    /// permission to reach a source.
    Child,
}

/// A directory or file of the host that a step attaches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// The property, for messages: `config.json: mounts[3].source`.
    pub(crate) at: String,
    /// The step that attaches it.
    pub(crate) step: usize,
    pub(crate) path: CString,
    pub(crate) recursive: bool,
    pub(crate) no_follow: bool,
    /// Whether a symbolic link is copied and not followed (`copy-symlink`).
    pub(crate) copy_link: bool,
    /// The path below the root, of a source that is in the root. It is resolved in the root at its
    /// step, through the mounts made by then.
    pub(crate) inside: Option<CString>,
    /// Whether it is cloned in the runtime's mount namespace: to be a peer of the host's mount, or
    /// since init's namespace is not a copy of that.
    pub(crate) on_host: bool,
    /// Whether the path comes from the config. No magic link of procfs is followed on it, since
    /// that could lead to the runtime's descriptors.
    pub(crate) by_config: bool,
    /// The changes to the detached clone, in order.
    pub(crate) changes: Vec<Change>,
    pub(crate) check: SourceCheck,
    /// The path to use if the first one does not exist or fails the check.
    pub(crate) alternative: Option<CString>,
    /// Whether it may be missing: the step decides what to do then.
    pub(crate) optional: bool,
    /// What the provider makes if the host has no such node.
    pub(crate) spare: Option<Spare>,
}

/// A device node on a tmpfs of its own. A file system that belongs to a user namespace has no
/// devices, but one that the host's root has made has, and its node can be bound into any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spare {
    pub(crate) node: Node,
    pub(crate) mode: u32,
    /// Of the host.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Source {
    pub(crate) fn new(at: String, path: CString, step: usize) -> Self {
        Self {
            at,
            step,
            path,
            ..Self::default()
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SourceCheck {
    #[default]
    None,
    /// A directory other than the host's root.
    Root,
    /// The root of a real procfs.
    Procfs,
    /// The root of a procfs of this process's pid namespace.
    OwnProcfs,
    /// POSIX message queues.
    Queues,
    Node(Node),
}

/// One mount_setattr(2) on a detached tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// Flags to clear as well, unless the kernel has locked one of them.
    pub(crate) clear_unlocked: u64,
    /// `MS_PRIVATE` and so on, or zero.
    pub(crate) propagation: u64,
    pub(crate) id_map: Option<usize>,
    pub(crate) recursive: bool,
}

impl Change {
    /// This propagation and nothing else.
    pub(crate) fn propagation(kind: PropagationKind, recursive: bool) -> Self {
        let propagation = match kind {
            PropagationKind::Private => libc::MS_PRIVATE,
            PropagationKind::Shared => libc::MS_SHARED,
            PropagationKind::Slave => libc::MS_SLAVE,
            PropagationKind::Unbindable => libc::MS_UNBINDABLE,
        };
        Self {
            propagation,
            recursive,
            ..Self::default()
        }
    }

    /// One for each word of a mount's options.
    pub(crate) fn propagations(options: &MountOptions) -> Vec<Self> {
        let words = options.propagation.iter();
        words
            .map(|word| Self::propagation(word.kind, word.recursive))
            .collect()
    }

    /// `rslave` and so on.
    pub(crate) fn name(&self) -> &'static str {
        match (self.propagation, self.recursive) {
            (libc::MS_PRIVATE, false) => "private",
            (libc::MS_PRIVATE, true) => "rprivate",
            (libc::MS_SHARED, false) => "shared",
            (libc::MS_SHARED, true) => "rshared",
            (libc::MS_SLAVE, false) => "slave",
            (libc::MS_SLAVE, true) => "rslave",
            (libc::MS_UNBINDABLE, false) => "unbindable",
            (libc::MS_UNBINDABLE, true) => "runbindable",
            _ => "as it is",
        }
    }
}

/// The user namespace of id-mapped mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMap {
    /// The first mount that uses it, for messages.
    pub(crate) at: String,
    /// The mappings, or the path of a user namespace. For mappings a namespace is made.
    pub(crate) ids: MountIds,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Propagation(Change),
    Root,
    Bind(Bind),
    Fresh(Fresh),
    Cgroup(Cgroup),
    Remount(Remount),
    Device(Device),
    Link(Link),
    Pivot,
    Move,
    Chroot,
    RootPropagation(Vec<Change>),
    Console,
    ReadOnlyPath(Covered),
    Mask(Covered),
    /// Makes a tmpfs read-only once it is filled: the index of the kept mount, and its destination.
    ReadOnlyMount {
        kept: usize,
        destination: String,
    },
    ReadOnlyRoot,
}

/// The destination of a step's mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The absolute path, below the root or below the kept mount `base`.
    pub(crate) path: CString,
    pub(crate) base: Option<usize>,
    pub(crate) lookup: Lookup,
    /// Whether to refuse a destination that resolves into procfs, as one with links may.
    pub(crate) outside_procfs: bool,
    /// Whether somebody else could exchange a part of the path before the mount is attached: not
    /// below a file system that the plan has made before, in a mount namespace of its own.
    pub(crate) exchangeable: bool,
}

/// How the last component of a target's path is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Symbolic links are followed, within the root.
    Follow,
    /// It must be a directory and no link: otherwise /proc could be mounted elsewhere, and masked
    /// paths would miss it (CVE-2019-19921, CVE-2023-27561).
    Directory,
    /// The inode itself, even a symbolic link.
    NoFollow,
}

#[derive(Clone, Debug)]
pub(crate) struct Bind {
    /// `bind /etc/hosts on /etc/hosts (ro)`
    pub(crate) text: String,
    pub(crate) target: Target,
    pub(crate) source: usize,
    pub(crate) keep: Option<usize>,
}

/// What fsconfig(2) gets, in order: options with and without a value.
pub(crate) type Parameters = Vec<(CString, Option<CString>)>;

/// A new instance of a filesystem.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    /// `mount proc on /proc (nosuid)`
    pub(crate) text: String,
    pub(crate) target: Target,
    pub(crate) file_system: FileSystem,
    pub(crate) parameters: Parameters,
    pub(crate) attributes: u64,
    pub(crate) changes: Vec<Change>,
    /// Whether a tmpfs without `mode=` gets the mode of the directory that it covers.
    pub(crate) mode_of_target: bool,
    /// Whether the contents of the directory that it covers are copied into it.
    pub(crate) copy_up: bool,
    pub(crate) keep: Option<usize>,
    /// What to bind if the kernel refuses a new instance.
    pub(crate) fallback: Option<Fallback>,
    /// The label of an mqueue, which is set as an extended attribute of its root and not as an
    /// option.
    pub(crate) label: Option<CString>,
    /// The options for mount(2), if one is too long for fsconfig(2).
    pub(crate) long: Option<Long>,
}

/// The fallback for a new instance that the kernel refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// Bind this source. If it is missing, report the refusal.
    Bind(usize),
    /// Bind this source. If it is missing, mount an empty tmpfs.
    BindOrNothing(usize),
}

/// The beginning of the data if the mode is that of the covered directory; its digits are filled
/// in.
pub(crate) const MODE_PREFIX: &[u8] = b"mode=0000,";

/// The arguments of mount(2), for options that are too long for fsconfig(2).
#[derive(Clone, Debug)]
pub(crate) struct Long {
    pub(crate) source: CString,
    pub(crate) flags: u64,
    pub(crate) data: CString,
}

/// A tmpfs with one directory for each cgroup hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    /// `mount cgroup on /sys/fs/cgroup (ro)`
    pub(crate) text: String,
    pub(crate) target: Target,
    /// The parameters of the tmpfs.
    pub(crate) parameters: Parameters,
    /// The attributes of the tmpfs, without read-only, which is set once it is filled.
    pub(crate) attributes: u64,
    pub(crate) read_only: bool,
    pub(crate) propagation: Vec<Change>,
    pub(crate) entries: Vec<CgroupEntry>,
    /// Links from the names of joined controllers to their directory: `cpu` to `cpu,cpuacct`.
    pub(crate) links: Vec<(CString, CString)>,
}

/// One hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct CgroupEntry {
    pub(crate) name: CString,
    pub(crate) fill: CgroupFill,
}

#[derive(Clone, Debug)]
pub(crate) enum CgroupFill {
    /// A new mount, which shows the part of the cgroup namespace.
    Fresh {
        file_system: FileSystem,
        parameters: Parameters,
        attributes: u64,
        /// The source to bind if the kernel refuses a new mount.
        fallback: usize,
    },
    /// A bind mount of the cgroup that init is in.
    Bind { source: usize },
}

/// New flags for an existing mount.
#[derive(Clone, Debug)]
pub(crate) struct Remount {
    /// `remount /dev (ro)`
    pub(crate) text: String,
    pub(crate) target: Target,
    pub(crate) changes: Vec<Change>,
    /// `key=value,…` for the superblock, which is not changed if this is `None`.
    pub(crate) data: Option<CString>,
}

/// A device node to make, or to bind from the host.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// The absolute path of the directory, below the root.
    pub(crate) directory: CString,
    pub(crate) name: CString,
    /// The path of the node on the host.
    pub(crate) host_path: CString,
    pub(crate) node: Node,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) how: HowMade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: DeviceKind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HowMade {
    /// By mknod(2). If that is not permitted, the host's node is bound, except for a FIFO.
    Mknod { fallback: Option<usize> },
    /// By a bind mount of the host's node: in a user namespace no device can be made.
    Bind { source: usize },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) name: &'static CStr,
    pub(crate) target: &'static CStr,
    pub(crate) rule: LinkRule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkRule {
    /// An existing file stays.
    Keep,
    /// An existing file is replaced.
    Replace,
    /// The link is only made if this file exists.
    IfThere(&'static CStr),
}

/// A path that is masked or made read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    /// The absolute path in the container.
    pub(crate) shown: CString,
    /// The absolute path, below the root or below the kept mount `base`.
    pub(crate) path: CString,
    /// The kept mount on /proc or /sys: it is the kernel's even if its mount point was exchanged.
    pub(crate) base: Option<usize>,
    /// Whether somebody else could exchange a part of `path`, or cover `base`. Not in the procfs of
    /// a new mount namespace: its names are the kernel's, and no link leads a mount into it.
    pub(crate) exchangeable: bool,
    /// Whether `path` could be a mount point: in that procfs only where the config has a mount.
    pub(crate) may_be_mount: bool,
}

impl Node {
    pub(crate) fn of(device: &coracle_bundle::Device) -> Self {
        Self {
            kind: device.kind,
            major: device.major,
            minor: device.minor,
        }
    }

    /// `c 1:3`
    pub(crate) fn describe(&self) -> String {
        match self.kind {
            DeviceKind::Char => format!("c {}:{}", self.major, self.minor),
            DeviceKind::Block => format!("b {}:{}", self.major, self.minor),
            DeviceKind::Fifo => "p".to_owned(),
        }
    }
}
