//! Plans mount propagation: mount_namespaces(7), config-linux.md § Rootfs Mount Propagation.

use super::steps::Change;
use coracle_bundle::{Propagation, PropagationKind};

/// The change for one propagation option.
pub(super) fn change(propagation: Propagation) -> Change {
    let bit = match propagation.kind {
        PropagationKind::Private => libc::MS_PRIVATE,
        PropagationKind::Shared => libc::MS_SHARED,
        PropagationKind::Slave => libc::MS_SLAVE,
        PropagationKind::Unbindable => libc::MS_UNBINDABLE,
    };
    Change {
        propagation: bit,
        recursive: propagation.recursive,
        ..Change::default()
    }
}

/// The propagation of all mounts of a new mount namespace, before the first mount in it. A
/// namespace that stayed a peer of the host's would propagate the container's mounts to the host,
/// so it becomes a slave, or private if the config demands it.
pub(super) fn of_namespace(wanted: Option<Propagation>) -> Change {
    let kind = match wanted.map(|wanted| wanted.kind) {
        Some(PropagationKind::Private) => PropagationKind::Private,
        _ => PropagationKind::Slave,
    };
    change(Propagation {
        kind,
        recursive: true,
    })
}

/// The propagation of the detached clone of the root. In the host's own mount namespace it is
/// private, so that the container's mounts do not propagate to other namespaces.
pub(super) fn of_root(wanted: Option<Propagation>, on_host: bool) -> Change {
    if on_host {
        return change(Propagation {
            kind: PropagationKind::Private,
            recursive: true,
        });
    }
    of_namespace(wanted)
}

/// `shared` and `unbindable` are set after pivot_root(2), which refuses a shared root. A slave that
/// is made shared stays a slave of the host's mount as well, so the root is made private before.
pub(super) fn after_pivot(wanted: Option<Propagation>) -> Vec<Change> {
    let alone = Change {
        propagation: libc::MS_PRIVATE,
        ..Change::default()
    };
    match wanted {
        Some(wanted) if wanted.kind == PropagationKind::Shared => vec![alone, change(wanted)],
        Some(wanted) if wanted.kind == PropagationKind::Unbindable => vec![change(wanted)],
        _ => Vec::new(),
    }
}

/// The propagation of a bind mount without such an option: that of the root, or rprivate. It is
/// never unbindable, since no path in it could be made read-only by a bind then.
pub(super) fn of_bind(root: Option<Propagation>) -> Propagation {
    root.filter(|root| root.kind != PropagationKind::Unbindable)
        .unwrap_or(Propagation {
            kind: PropagationKind::Private,
            recursive: true,
        })
}

pub(super) fn is_private(wanted: Option<Propagation>) -> bool {
    wanted.is_some_and(|wanted| wanted.kind == PropagationKind::Private)
}

/// `rslave` and so on.
pub(super) fn name(change: &Change) -> &'static str {
    match (change.propagation, change.recursive) {
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
