//! What to mount, make and cover, in which order. Pure: nothing here asks the kernel.

mod cgroup;
mod devices;
mod explain;
mod mounts;
mod paths;
mod propagation;

use crate::Error;
use coracle_bundle::{Bundle, Config};
use coracle_host::Host;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub(crate) use cgroup::{Cgroup, CgroupEntry, CgroupFill};
pub(crate) use devices::{Device, HowMade, Link, LinkRule, Node};
pub(crate) use mounts::{Bind, Fresh, Remount, Target, Want};
pub(crate) use paths::Covered;

/// What the other subsystems' plans say that a mount depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The container's mount namespace.
    pub mount_namespace: MountNamespace,
    /// Whose user namespace the mounts are made in.
    pub user_namespace: UserNamespace,
    /// The container's cgroup namespace.
    pub cgroup_namespace: CgroupNamespace,
    /// The container's network namespace, which owns what sysfs shows.
    pub network_namespace: NetworkNamespace,
    /// How the container is confined to its root.
    pub jail: Jail,
    /// Whether a pty will be bound on `/dev/console`.
    pub terminal: Terminal,
    /// The container's own cgroup in each v1 hierarchy, empty where cgroups are not managed.
    pub cgroup_directories: Vec<CgroupDirectory>,
    /// The container's own cgroup in the v2 tree, as an absolute path on the host.
    pub unified_directory: Option<PathBuf>,
}

/// The container's cgroup in one v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupDirectory {
    /// Controllers of the hierarchy, or the one `name=…`.
    pub names: Vec<String>,
    /// Where the host has mounted the hierarchy.
    pub mount: PathBuf,
    /// The container's own cgroup as an absolute path on the host.
    pub directory: PathBuf,
}

/// Where the container's mounts are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountNamespace {
    /// A namespace made for this container.
    #[default]
    New,
    /// An existing one, joined by path.
    Joined,
    /// The runtime's own: the mounts outlive the container (see [`Plan::host_mount`]).
    Host,
}

/// The user namespace that the container's mounts belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserNamespace {
    /// The initial one.
    #[default]
    Initial,
    /// One made for the container.
    New,
    /// One joined by path.
    Joined,
    /// The runtime runs in a user namespace itself, and the container stays in it.
    Outer,
}

/// The container's cgroup namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupNamespace {
    /// Made for the container.
    New,
    /// Joined by path.
    Joined,
    /// The runtime's own.
    #[default]
    Inherit,
}

/// The container's network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// Made for the container.
    New,
    /// Joined by path.
    Joined,
    /// The runtime's own.
    #[default]
    Inherit,
}

/// How the container is confined to its root filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jail {
    /// pivot_root(2).
    #[default]
    PivotRoot,
    /// The root is moved over `/` and entered by chroot(2): for hosts that run from an initramfs.
    NoPivot,
}

/// Whether the container's process has a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Terminal {
    /// A pty, bound on `/dev/console`.
    Pty,
    /// None.
    #[default]
    None,
}

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
    pub(crate) context: Context,
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
}

/// Who opens the sources: the runtime, which has the host's view, or (an ordinary user's) init in its
/// own copy of the mount namespace, since only there it may clone mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceBy {
    Runtime,
    Init,
}

/// A tree on the host that some step attaches.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The config's place, for messages: `mounts[3].source`.
    pub(crate) at: String,
    /// The step that attaches it.
    pub(crate) step: u32,
    pub(crate) path: CString,
    pub(crate) recursive: bool,
    pub(crate) no_follow: bool,
    /// A symbolic link is not followed but made again (`copy-symlink`).
    pub(crate) copy_link: bool,
    /// Applied on the detached clone, in order.
    pub(crate) changes: Vec<Change>,
    pub(crate) check: SourceCheck,
    /// Where to look when the first path is missing or another inode.
    pub(crate) alternative: Option<CString>,
    /// Missing is no error: the step then says what that means.
    pub(crate) optional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceCheck {
    None,
    /// A directory other than the host's root.
    Root,
    /// The root of a real procfs.
    Procfs,
    Node(Node),
}

/// One mount_setattr(2) on a detached tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// `MS_PRIVATE` and so on, or zero.
    pub(crate) propagation: u64,
    pub(crate) id_map: Option<usize>,
    pub(crate) recursive: bool,
}

/// Where the user namespace of an id-mapped mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdMap {
    /// A throw-away namespace with these uid_map and gid_map.
    Lines { at: String, uid: String, gid: String },
    /// A namespace by path.
    Path { at: String, path: PathBuf },
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
    RootPropagation(Change),
    Console,
    ReadOnlyPath(Covered),
    Mask(Covered),
    /// A tmpfs that was filled becomes read-only: index of the kept mount and its destination.
    Seal { kept: usize, destination: String },
    ReadOnlyRoot,
}

/// The plan for the root filesystem that `bundle` asks for.
///
/// # Errors
/// What the spec or the kernel would refuse for certain, named by its JSON path.
pub fn plan(bundle: &Bundle, host: &Host, context: &Context) -> Result<Plan, Error> {
    let config = &bundle.config;
    let mut planner = Planner::new(config, host, context);
    planner.root()?;
    mounts::plan(&mut planner)?;
    devices::plan(&mut planner)?;
    planner.plan.ends.mounts = planner.plan.steps.len();
    planner.jail()?;
    planner.plan.ends.pivot = planner.plan.steps.len();
    if context.terminal == Terminal::Pty {
        planner.plan.steps.push(Step::Console);
    }
    planner.plan.ends.console = planner.plan.steps.len();
    paths::plan(&mut planner)?;
    Ok(planner.plan)
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
            source_by: SourceBy::Runtime,
            context: Context::default(),
        }
    }

    /// How many steps there are; faults name one of them.
    #[must_use]
    pub fn steps(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// The mount that a container without a mount namespace leaves on the host: to be unmounted
    /// (`umount2(path, MNT_DETACH)`, with all that is mounted below it) when the container is deleted.
    #[must_use]
    pub fn host_mount(&self) -> Option<&Path> {
        let root = self.root.as_ref()?;
        let on_host = self.context.mount_namespace == MountNamespace::Host;
        (on_host && root.source.is_some()).then_some(root.path.as_path())
    }

    /// Full procfs and sysfs mounts outside the root stay reachable, and have to be covered.
    pub(crate) fn leaves_outside(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Move))
    }

    /// The steps of one phase with their numbers.
    pub(crate) fn phase(&self, from: usize, to: usize) -> impl Iterator<Item = (u32, &Step)> {
        (0_u32..).zip(&self.steps).skip(from).take(to.saturating_sub(from))
    }
}

/// What the planners of the parts share while the plan grows.
pub(crate) struct Planner<'a> {
    pub(crate) config: &'a Config,
    pub(crate) host: &'a Host,
    pub(crate) context: &'a Context,
    pub(crate) plan: Plan,
    /// The mount now on /proc and the one on /sys, where a step keeps them.
    pub(crate) proc: Option<usize>,
    pub(crate) sys: Option<usize>,
    /// Kept mounts that become read-only in the last phase, and their destinations.
    pub(crate) seals: Vec<(usize, String)>,
}

const CAP_SYS_ADMIN: u64 = 1 << 21;

impl<'a> Planner<'a> {
    fn new(config: &'a Config, host: &'a Host, context: &'a Context) -> Self {
        let mut plan = Plan::empty();
        plan.context = context.clone();
        if host.capabilities & CAP_SYS_ADMIN == 0 {
            plan.source_by = SourceBy::Init;
        }
        Self { config, host, context, plan, proc: None, sys: None, seals: Vec::new() }
    }

    /// The number that the next step will have.
    pub(crate) fn next_step(&self) -> u32 {
        self.plan.steps()
    }

    pub(crate) fn keep(&mut self) -> usize {
        let slot = self.plan.kept;
        self.plan.kept += 1;
        slot
    }

    pub(crate) fn add_source(&mut self, source: Source) -> usize {
        self.plan.sources.push(source);
        self.plan.sources.len() - 1
    }

    /// The container's ids are not the host's.
    pub(crate) fn in_user_namespace(&self) -> bool {
        self.context.user_namespace != UserNamespace::Initial
    }

    fn root(&mut self) -> Result<(), Error> {
        let path = self.config.root.path.clone();
        let path_c = c_string(path.as_os_str(), "root.path")?;
        let on_host = self.context.mount_namespace == MountNamespace::Host;
        if path == Path::new("/") {
            self.host_root(path, path_c, on_host)?;
            return Ok(());
        }
        if !on_host {
            let change = propagation::of_namespace(self.config.linux.rootfs_propagation);
            self.plan.steps.push(Step::Propagation(change));
        }
        let source = Source {
            changes: vec![propagation::of_root(self.config.linux.rootfs_propagation, on_host)],
            recursive: true,
            check: SourceCheck::Root,
            ..Source::new("root.path".to_owned(), path_c.clone(), self.next_step())
        };
        let source = Some(self.add_source(source));
        self.plan.steps.push(Step::Root);
        self.plan.root = Some(Root { path, path_c, source });
        Ok(())
    }

    /// The host's own `/` as root: only where nothing of it would be changed.
    fn host_root(&mut self, path: PathBuf, path_c: CString, on_host: bool) -> Result<(), Error> {
        if !on_host {
            return Err(Error::RootIsHost);
        }
        if !self.config.mounts.is_empty() || self.config.root.readonly {
            return Err(Error::HostRootChanged);
        }
        self.plan.root = Some(Root { path, path_c, source: None });
        Ok(())
    }

    fn jail(&mut self) -> Result<(), Error> {
        let wanted = self.config.linux.rootfs_propagation;
        match (self.context.mount_namespace, self.context.jail) {
            (MountNamespace::Host, _) => {
                self.plan.steps.push(Step::Chroot);
                return Ok(());
            }
            (_, Jail::PivotRoot) => self.plan.steps.push(Step::Pivot),
            (_, Jail::NoPivot) => {
                if propagation::is_private(wanted) {
                    return Err(Error::PrivateWithoutPivot);
                }
                self.plan.steps.push(Step::Move);
            }
        }
        if let Some(change) = propagation::after_pivot(wanted) {
            self.plan.steps.push(Step::RootPropagation(change));
        }
        Ok(())
    }
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
            changes: Vec::new(),
            check: SourceCheck::None,
            alternative: None,
            optional: false,
        }
    }
}

/// The text as the kernel takes it.
pub(crate) fn c_string(text: &OsStr, at: &str) -> Result<CString, Error> {
    CString::new(text.as_bytes()).map_err(|_| Error::Nul { at: at.to_owned() })
}
