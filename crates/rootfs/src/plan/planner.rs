//! What a plan depends on, and what the planners of the parts share while it grows.

use super::steps::{Change, Fresh, IdMap, Lookup, Plan, Source, SourceBy, Step, Target};
use crate::Error;
use coracle_bundle::{
    Config, Destination, FileSystem, Mount, MountKind, Namespace, PropagationKind,
};
use coracle_host::Host;
use coracle_sys::{Capability, Depth, mount_attribute};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Decisions of the caller and of the cgroups' plan that mounts depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// How the container's root becomes `/`.
    pub change_root: ChangeRoot,
    /// The container's own cgroup in each v1 hierarchy; empty if cgroups are not managed.
    pub cgroup_directories: Vec<CgroupDirectory>,
    /// The container's own cgroup in the v2 tree, as an absolute path on the host.
    pub unified_directory: Option<PathBuf>,
}

/// How the container's root becomes `/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangeRoot {
    /// By pivot_root(2).
    #[default]
    PivotRoot,
    /// By MS_MOVE over `/` and chroot(2), for hosts that run from an initramfs, which pivot_root(2)
    /// refuses.
    MoveAndChroot,
}

/// The container's cgroup in one v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupDirectory {
    /// The host's mount point of the hierarchy.
    pub mount: PathBuf,
    /// The container's own cgroup as an absolute path on the host.
    pub directory: PathBuf,
}

/// The unfinished plan, and the input of the planners.
pub(crate) struct Planner<'a> {
    pub(crate) config: &'a Config,
    pub(crate) host: &'a Host,
    pub(crate) context: &'a Context,
    pub(crate) plan: Plan,
    /// The kept mounts on /proc and on /sys, if there are any.
    pub(crate) proc: Option<usize>,
    pub(crate) sys: Option<usize>,
    /// New file systems at /dev and /sys that nobody else can change yet, and that no later mount
    /// can have covered, and their kept mounts.
    pub(crate) made: Vec<(&'a Path, usize)>,
    /// The kept mounts that become read-only in the last phase, and their destinations.
    pub(crate) read_only_mounts: Vec<(usize, String)>,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(config: &'a Config, host: &'a Host, context: &'a Context) -> Self {
        let namespaces = &config.linux.namespaces;
        let other_owner = namespaces.user != Namespace::Inherit;
        let is_capable = host.has(Capability::SysAdmin);
        let mut plan = Plan::empty();
        plan.mount_namespace = namespaces.mount.clone();
        plan.in_user_namespace = other_owner || host.in_user_namespace;
        if is_capable && other_owner && namespaces.mount == Namespace::New {
            plan.source_by = SourceBy::Child;
        }
        Self {
            config,
            host,
            context,
            plan,
            proc: None,
            sys: None,
            made: Vec::new(),
            read_only_mounts: Vec::new(),
        }
    }

    /// The number of the next step.
    pub(crate) fn next_step(&self) -> usize {
        self.plan.steps()
    }

    /// Adds a step that carries out this property; empty for none.
    pub(crate) fn push(&mut self, at: impl Into<String>, step: Step) {
        self.plan.steps.push(step);
        self.plan.at.push(at.into());
    }

    pub(crate) fn keep(&mut self) -> usize {
        let kept = self.plan.kept;
        self.plan.kept += 1;
        kept
    }

    pub(crate) fn add_source(&mut self, mut source: Source) -> usize {
        source.on_host = self.is_on_host(&source.changes);
        self.plan.sources.push(source);
        self.plan.sources.len() - 1
    }

    /// Whether a source is cloned in the runtime's mount namespace. In a mount namespace that it
    /// joined, init has no copy of the host's mounts; and a mount that is to be a peer of the
    /// host's must be cloned before init's copies become slaves.
    fn is_on_host(&self, changes: &[Change]) -> bool {
        if !self.host.has(Capability::SysAdmin) || self.plan.source_by == SourceBy::Child {
            return false;
        }
        match self.plan.mount_namespace {
            Namespace::Join { .. } => true,
            Namespace::Inherit => false,
            Namespace::New => changes.iter().any(|change| match change.propagation {
                libc::MS_SHARED => true,
                libc::MS_SLAVE => self.root_is_private(),
                _ => false,
            }),
        }
    }

    /// The rest of a path on the host that is below the root by its text. `None` if it is not below
    /// the root, or if `..` in it leads out.
    pub(crate) fn inside(&self, path: &Path) -> Option<PathBuf> {
        let root = self.plan.root.as_ref()?;
        root.source?;
        let real = self.host.real_root.as_deref();
        let below = [Some(root.path.as_path()), real]
            .into_iter()
            .flatten()
            .find_map(|top| path.strip_prefix(top).ok())?;
        let mut parts = below.components();
        let stays = parts.try_fold(0_usize, |depth, part| match part {
            Component::ParentDir => depth.checked_sub(1),
            Component::Normal(_) => depth.checked_add(1),
            _ => Some(depth),
        });
        stays.map(|_| Path::new("/").join(below))
    }

    /// Whether the config requests a private root, which is no slave of the host's mount either.
    pub(crate) fn root_is_private(&self) -> bool {
        let requested = self.config.linux.rootfs_propagation;
        requested.is_some_and(|requested| requested.kind == PropagationKind::Private)
    }

    /// Where a mount goes; `lookup` where the destination does not decide.
    pub(crate) fn target(&self, mount: &Mount, lookup: Lookup) -> Result<Target, Error> {
        let (path, base, lookup) = match &mount.destination {
            Destination::Root => (c"/".to_owned(), None, lookup),
            Destination::Path(path) => match self.made_above(mount) {
                Some((below, base)) => (below, Some(base), lookup),
                None => (c_string(path), None, lookup),
            },
            // The validation lets only a procfs have this destination. It may cover an older
            // procfs, so it is not outside_procfs.
            Destination::Proc => (c"/proc".to_owned(), None, Lookup::Directory),
            // Reached through the mount that was made: no link of the image leads elsewhere.
            Destination::ProcFile(path) => {
                let procfs = self.proc.ok_or_else(|| Error::NoProcfs {
                    at: format!("{}.destination", mount.at),
                    destination: path,
                })?;
                let below = Path::new(path.trim_start_matches("/proc"));
                (c_string(below), Some(procfs), Lookup::NoFollow)
            }
        };
        Ok(Target {
            path,
            base,
            lookup,
            outside_procfs: base.is_none()
                && matches!(mount.destination, Destination::Root | Destination::Path(_)),
            exchangeable: base.is_none() || !self.plan.has_own_namespace(),
        })
    }

    /// The made file system that the mount's destination lies directly in, and the rest of the path
    /// below it. Not if an earlier mount is in between: its names may be anybody's.
    fn made_above(&self, mount: &Mount) -> Option<(CString, usize)> {
        let path = mount.destination.path();
        let mut made = self.made.iter();
        let (top, kept) = made.find(|(top, _)| path.starts_with(top) && path != *top)?;
        let earlier = self.config.mounts.iter();
        let mut earlier = earlier.take_while(|earlier| earlier.at != mount.at);
        let is_between = |earlier: &Mount| {
            let at = earlier.destination.path();
            at != *top && at != path && at.starts_with(top) && path.starts_with(at)
        };
        match earlier.any(is_between) {
            true => None,
            false => {
                let below = path.strip_prefix(top).ok()?;
                Some((c_string(Path::new("/").join(below)), *kept))
            }
        }
    }

    /// Notes what a step's mount means for later ones: a link of the image can lead it anywhere,
    /// unless its path has one part, which is no link, or is in a made file system.
    pub(crate) fn attached(&mut self, mount: &'a Mount, step: &Step) {
        let (target, new) = match step {
            Step::Bind(bind) => (&bind.target, None),
            Step::Cgroup(cgroup) => (&cgroup.target, None),
            Step::Fresh(fresh) => (&fresh.target, Some(fresh)),
            _ => return,
        };
        let place = mount.destination.path();
        if target.base.is_none() && (target.lookup == Lookup::Follow || !is_one_part(place)) {
            self.made.clear();
        }
        self.made.retain(|(top, _)| *top != place);
        let kept = new.and_then(|fresh| fresh.keep.filter(|_| is_made(place, fresh)));
        if let Some(kept) = kept.filter(|_| self.plan.has_own_namespace()) {
            self.made.push((place, kept));
        }
    }

    /// Keeps the mounts on /proc and /sys: masked paths in them are reached through them.
    pub(crate) fn kept(&mut self, mount: &Mount) -> Option<usize> {
        let place = mount.destination.path();
        if place != Path::new("/proc") && place != Path::new("/sys") {
            return None;
        }
        let kept = Some(self.keep());
        match mount.destination {
            Destination::Proc => self.proc = kept,
            _ => self.sys = kept,
        }
        kept
    }

    /// The call that gives a mount its id map.
    pub(crate) fn id_map(&mut self, mount: &Mount) -> Option<Change> {
        let requested = mount.id_map.as_ref()?;
        let maps = &mut self.plan.id_maps;
        let known = maps.iter().position(|known| known.ids == requested.ids);
        let id_map = known.unwrap_or_else(|| {
            maps.push(IdMap {
                at: mount.at.clone(),
                ids: requested.ids.clone(),
            });
            maps.len() - 1
        });
        Some(Change {
            set: mount_attribute::IDMAP,
            id_map: Some(id_map),
            recursive: requested.depth == Depth::Recursive,
            ..Change::default()
        })
    }

    /// Whether the container stays in the host's mount namespace.
    pub(crate) fn is_on_hosts_namespace(&self) -> bool {
        self.plan.mount_namespace == Namespace::Inherit
    }
}

/// Whether the mount has no names but those that the plan and the kernel give it, so that no link
/// of an image is in it.
pub(crate) fn is_made(place: &Path, fresh: &Fresh) -> bool {
    match fresh.file_system {
        FileSystem::Tmpfs => place == Path::new("/dev") && !fresh.copy_up,
        FileSystem::Sysfs => place == Path::new("/sys"),
        _ => false,
    }
}

fn is_one_part(path: &Path) -> bool {
    let mut parts = path.components().skip(1);
    matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none()
}

/// The text as a C string.
pub(crate) fn c_string(text: impl AsRef<OsStr>) -> CString {
    let text = CString::new(text.as_ref().as_bytes());
    assert!(
        text.is_ok(),
        "the bundle refuses NUL, and the kernel's own paths hold none"
    );
    text.unwrap_or_default()
}

/// How the last part of a destination is looked up where the kind of the mount does not decide.
pub(crate) fn lookup(mount: &Mount) -> Lookup {
    match mount.options.dest_nofollow {
        true => Lookup::NoFollow,
        false => Lookup::Follow,
    }
}

/// What a mount's step does: `bind /h on /etc/hosts (ro)`, without the words for binding.
pub(crate) fn described(mount: &Mount) -> String {
    let what = match &mount.kind {
        MountKind::Bind { source, .. } => format!("bind {} on", source.display()),
        MountKind::New { file_system, .. } => {
            format!("mount {} on", file_system.name().to_string_lossy())
        }
        MountKind::Remount { .. } => "remount".to_owned(),
    };
    let words = mount.options.texts.iter().map(String::as_str);
    let words: Vec<_> = words
        .filter(|word| !matches!(*word, "bind" | "rbind" | "remount"))
        .collect();
    let options = match words.is_empty() {
        true => String::new(),
        false => format!(" ({})", words.join(",")),
    };
    format!("{what} {}{options}", mount.destination.path().display())
}
