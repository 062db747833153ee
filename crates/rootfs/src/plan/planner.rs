//! The unfinished plan, to which the planners of the parts add steps.

use super::context::Context;
use super::propagation;
use super::steps::{Change, Plan, Source, SourceBy, Step};
use coracle_bundle::{Config, Namespace};
use coracle_host::Host;
use coracle_sys::Capability;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The unfinished plan, and the input of the planners.
pub(crate) struct Planner<'a> {
    pub(crate) config: &'a Config,
    pub(crate) host: &'a Host,
    pub(crate) context: &'a Context,
    pub(crate) plan: Plan,
    /// The kept mounts on /proc and on /sys, if there are any.
    pub(crate) proc: Option<usize>,
    pub(crate) sys: Option<usize>,
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
            read_only_mounts: Vec::new(),
        }
    }

    /// The number of the next step.
    pub(crate) fn next_step(&self) -> u32 {
        self.plan.steps()
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.plan.steps.push(step);
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
        let wanted = self.config.linux.rootfs_propagation;
        match self.plan.mount_namespace {
            Namespace::Join { .. } => true,
            Namespace::Inherit => false,
            Namespace::New => changes.iter().any(|change| match change.propagation {
                libc::MS_SHARED => true,
                libc::MS_SLAVE => propagation::is_private(wanted),
                _ => false,
            }),
        }
    }

    /// The rest of a path on the host that is below the root by its text; `None` if `..` in it
    /// leads out of the root.
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

    /// Whether the container stays in the host's mount namespace.
    pub(crate) fn is_on_hosts_namespace(&self) -> bool {
        self.plan.mount_namespace == Namespace::Inherit
    }
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
