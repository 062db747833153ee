//! What a plan is made of, as data: the steps in their order, and the sources that they attach.

use coracle_bundle::{DeviceKind, MountIds, Namespace};
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

/// The ordered steps from an image directory to a container's root.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) root: Option<Root>,
    pub(crate) sources: Vec<Source>,
    pub(crate) id_maps: Vec<IdMap>,
    pub(crate) steps: Vec<Step>,
    pub(crate) ends: Ends,
    /// How many descriptors of mounts are kept from one step for a later one.
    pub(crate) kept: usize,
    /// Index of the source that masks files, if any path is masked.
    pub(crate) null_device: Option<usize>,
    pub(crate) source_by: SourceBy,
    /// Where the mounts are seen.
    pub(crate) mount_namespace: Namespace,
    /// The container's ids are not the host's.
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
            ends: Ends::default(),
            kept: 0,
            null_device: None,
            source_by: SourceBy::Init,
            mount_namespace: Namespace::New,
            in_user_namespace: false,
        }
    }

    /// How many steps there are; faults name one of them.
    #[must_use]
    pub fn steps(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// The steps of [`crate::mounts`], of [`crate::pivot`], and of [`crate::console`] and
    /// [`crate::finish`].
    #[must_use]
    pub fn phases(&self) -> [std::ops::Range<u32>; 3] {
        let number = |end: usize| u32::try_from(end).unwrap_or(u32::MAX);
        let (mounts, pivot) = (number(self.ends.mounts), number(self.ends.pivot));
        [0..mounts, mounts..pivot, pivot..self.steps()]
    }

    /// The mount that a container without a mount namespace leaves on the host: to be unmounted
    /// (`umount2(path, MNT_DETACH)`, with all that is mounted below it) when the container is
    /// deleted.
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

    /// A child of the runtime sends it to init.
    pub(crate) fn is_provided(&self, source: &Source) -> bool {
        source.inside.is_none() && (self.source_by == SourceBy::Child || source.on_host)
    }

    /// Init's mount namespace is a copy of the runtime's: nobody looks for the root on its path
    /// until all is mounted.
    pub(crate) fn has_own_namespace(&self) -> bool {
        self.mount_namespace == Namespace::New
    }

    /// Full procfs and sysfs mounts outside the root stay reachable, and have to be covered.
    pub(crate) fn leaves_outside(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Move))
    }

    /// The steps of one phase with their numbers.
    pub(crate) fn phase(&self, from: usize, to: usize) -> impl Iterator<Item = (u32, &Step)> {
        (0_u32..)
            .zip(&self.steps)
            .skip(from)
            .take(to.saturating_sub(from))
    }
}

/// Where each phase of the steps ends (an index into the steps).
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
    /// Index of the detached clone; `None` when the host's own `/` is used as it is.
    pub(crate) source: Option<usize>,
    /// The number of its step.
    pub(crate) step: u32,
}

/// Who finds the sources on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceBy {
    /// Init, each at its turn, in its copy of the mount namespace, where no path leads to what it
    /// mounts until all is mounted.
    Init,
    /// A child of the runtime in init's copy of the mount namespace, which belongs to another user
    /// namespace: mapped root may be unable to walk to a source.
    Child,
}

/// A tree on the host that some step attaches.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The property, for messages: `config.json: mounts[3].source`.
    pub(crate) at: String,
    /// The step that attaches it.
    pub(crate) step: u32,
    pub(crate) path: CString,
    pub(crate) recursive: bool,
    pub(crate) no_follow: bool,
    /// A symbolic link is not followed but made again (`copy-symlink`).
    pub(crate) copy_link: bool,
    /// The path below the root of a source that lies in it: found at its turn within the root,
    /// through the mounts that were made.
    pub(crate) inside: Option<CString>,
    /// It is cloned in the runtime's own mount namespace, whose peer it shall be or which init has
    /// no copy of.
    pub(crate) on_host: bool,
    /// The path is the config's: no magic link of procfs is followed on it, which could lead into
    /// our own descriptors.
    pub(crate) by_config: bool,
    /// Applied on the detached clone, in order.
    pub(crate) changes: Vec<Change>,
    pub(crate) check: SourceCheck,
    /// Where to look when the first path is missing or another inode.
    pub(crate) alternative: Option<CString>,
    /// Not needed as a rule, and missing is no error: the step then says what that means.
    pub(crate) optional: bool,
}

impl Source {
    pub(crate) fn new(at: String, path: CString, step: u32) -> Self {
        Self {
            at,
            step,
            path,
            recursive: false,
            no_follow: false,
            copy_link: false,
            inside: None,
            on_host: false,
            by_config: false,
            changes: Vec::new(),
            check: SourceCheck::None,
            alternative: None,
            optional: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceCheck {
    None,
    /// A directory other than the host's root.
    Root,
    /// The root of a real procfs.
    Procfs,
    /// The root of the procfs that shows the pid namespace of whoever looks.
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
    /// Cleared as well, unless the kernel has locked one of them.
    pub(crate) clear_unlocked: u64,
    /// `MS_PRIVATE` and so on, or zero.
    pub(crate) propagation: u64,
    pub(crate) id_map: Option<usize>,
    pub(crate) recursive: bool,
}

/// The user namespace of id-mapped mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMap {
    /// The first mount that has it, for messages.
    pub(crate) at: String,
    /// Lines are those of a throw-away namespace.
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
    /// A tmpfs that was filled becomes read-only: index of the kept mount and its destination.
    ReadOnlyMount {
        kept: usize,
        destination: String,
    },
    ReadOnlyRoot,
}

/// Where a step's mount goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Absolute, below the root or below the kept mount `base`.
    pub(crate) path: CString,
    pub(crate) base: Option<usize>,
    pub(crate) lookup: Lookup,
    /// Refuse what resolves into procfs: the text of the destination does not say where it leads.
    pub(crate) guarded: bool,
}

/// How the last part of a target's path is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Links of the image are followed within the root.
    Follow,
    /// A real directory, no link as its last part: else what looks like /proc is none
    /// (CVE-2019-19921, CVE-2023-27561).
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

/// A new instance of a file system.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    /// `mount proc on /proc (nosuid)`
    pub(crate) text: String,
    pub(crate) target: Target,
    pub(crate) fs_type: CString,
    pub(crate) parameters: Vec<(CString, Option<CString>)>,
    pub(crate) attributes: u64,
    pub(crate) changes: Vec<Change>,
    /// tmpfs without `mode=`: the mode of the directory it covers.
    pub(crate) mode_of_target: bool,
    /// What is in the directory that it covers is copied into it.
    pub(crate) copy_up: bool,
    pub(crate) keep: Option<usize>,
    /// What is bound when the kernel does not permit a fresh instance.
    pub(crate) fallback: Option<Fallback>,
    /// mqueue takes its label as an attribute of its root, not as an option.
    pub(crate) label: Option<CString>,
    /// The options as mount(2) takes them, where one is too long for fsconfig(2).
    pub(crate) long: Option<Long>,
}

/// What stands in for a new instance that the kernel refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// This source; where it is missing, the refusal stands.
    Bind(usize),
    /// This source; where it is missing, an empty directory.
    BindOrNothing(usize),
}

/// What the data begins with where the mode is that of the directory it covers, whose digits are
/// put in.
pub(crate) const MODE_PREFIX: &[u8] = b"mode=0000,";

/// Arguments of mount(2), for options that fsconfig(2) does not take.
#[derive(Clone, Debug)]
pub(crate) struct Long {
    pub(crate) source: CString,
    pub(crate) flags: u64,
    pub(crate) data: CString,
}

/// A tmpfs with one directory a hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    /// `mount cgroup on /sys/fs/cgroup (ro)`
    pub(crate) text: String,
    pub(crate) target: Target,
    /// Of the tmpfs.
    pub(crate) parameters: Vec<(CString, CString)>,
    /// Of the tmpfs, without read-only, which it becomes once it is filled.
    pub(crate) attributes: u64,
    pub(crate) read_only: bool,
    pub(crate) propagation: Vec<Change>,
    pub(crate) entries: Vec<CgroupEntry>,
    /// Names of merged controllers and the directory they lead to: `cpu` → `cpu,cpuacct`.
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
    /// A new mount, which shows the cgroup namespace's part.
    Fresh {
        fs_type: CString,
        parameters: Vec<(CString, Option<CString>)>,
        attributes: u64,
        /// Bound instead where the kernel does not permit a fresh one.
        fallback: Option<usize>,
    },
    /// The cgroup that init is in.
    Bind { source: usize },
}

/// New flags for what is mounted already.
#[derive(Clone, Debug)]
pub(crate) struct Remount {
    /// `remount /dev (ro)`
    pub(crate) text: String,
    pub(crate) target: Target,
    pub(crate) changes: Vec<Change>,
    /// `key=value,…` for the superblock; `None` leaves it alone.
    pub(crate) data: Option<CString>,
}

/// A node to make, or to bind from the host.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// The directory, absolute below the root.
    pub(crate) directory: CString,
    pub(crate) name: CString,
    /// The path on the host that has such a node.
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
    /// mknod(2); where that is not permitted, the host's node is bound. A fifo has none.
    Mknod { fallback: Option<usize> },
    /// The host's node is bound: a user namespace may make no device, whatever it owns.
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
    /// What is there already stays.
    Keep,
    /// What is there already is replaced.
    Replace,
    /// Only made if this file is there.
    IfThere(&'static CStr),
}

/// A path that is masked or made read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    /// Absolute, below the root: what the container's processes will see.
    pub(crate) shown: CString,
    /// Absolute, below the root or below the kept mount `base`.
    pub(crate) path: CString,
    /// The mount on /proc or /sys: what is reached through it is what the kernel shows there,
    /// whatever became of the directory that it lies on.
    pub(crate) base: Option<usize>,
}

impl Node {
    /// `c 1:3`
    pub(crate) fn describe(&self) -> String {
        match self.kind {
            DeviceKind::Char => format!("c {}:{}", self.major, self.minor),
            DeviceKind::Block => format!("b {}:{}", self.major, self.minor),
            DeviceKind::Fifo => "p".to_owned(),
        }
    }
}
