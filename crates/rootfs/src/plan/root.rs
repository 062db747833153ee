//! Plans how the root is bound before the mounts, and how it becomes `/` after them.

use super::planner::{ChangeRoot, Planner, c_string};
use super::steps::{Change, Root, Source, SourceCheck, Step};
use crate::Error;
use coracle_bundle::{Propagation, PropagationKind};

/// The property of the propagation of all mounts, and of the root's.
pub(super) const PROPAGATION: &str = "config.json: linux.rootfsPropagation";

pub(super) fn plan(planner: &mut Planner) {
    let path = planner.config.root.path.clone();
    let path_c = c_string(&path);
    let on_host = planner.is_on_hosts_namespace();
    if planner.config.root.is_the_hosts() {
        planner.plan.root = Some(Root {
            path,
            path_c,
            source: None,
            step: 0,
        });
        return;
    }
    let requested = planner.config.linux.rootfs_propagation;
    if !on_host {
        planner.push(PROPAGATION, Step::Propagation(of_namespace(requested)));
    }
    let step = planner.next_step();
    let source = planner.add_source(Source {
        changes: vec![of_root(requested, on_host)],
        recursive: true,
        check: SourceCheck::Root,
        ..Source::new("config.json: root.path".to_owned(), path_c.clone(), step)
    });
    planner.push("config.json: root.path", Step::Root);
    planner.plan.root = Some(Root {
        path,
        path_c,
        source: Some(source),
        step,
    });
}

pub(super) fn change(planner: &mut Planner) -> Result<(), Error> {
    let step = match planner.context.change_root {
        _ if planner.is_on_hosts_namespace() => Step::Chroot,
        ChangeRoot::PivotRoot => Step::Pivot,
        ChangeRoot::MoveAndChroot if planner.root_is_private() => {
            return Err(Error::PrivateWithoutPivot);
        }
        ChangeRoot::MoveAndChroot => Step::Move,
    };
    planner.push("", step);
    Ok(())
}

/// The propagation of all mounts of a new mount namespace, before the first mount in it. A
/// namespace that stayed a peer of the host's would propagate the container's mounts to the host,
/// so it becomes a slave, or private if the config demands it.
fn of_namespace(wanted: Option<Propagation>) -> Change {
    let kind = match wanted.map(|wanted| wanted.kind) {
        Some(PropagationKind::Private) => PropagationKind::Private,
        _ => PropagationKind::Slave,
    };
    Change::propagation(kind, true)
}

/// The propagation of the detached clone of the root. In the host's own mount namespace it is
/// private, so that the container's mounts do not propagate to other namespaces.
fn of_root(wanted: Option<Propagation>, on_host: bool) -> Change {
    if on_host {
        return Change::propagation(PropagationKind::Private, true);
    }
    of_namespace(wanted)
}

/// `shared` and `unbindable` are set after pivot_root(2), which refuses a shared root. A slave that
/// is made shared stays a slave of the host's mount as well, so the root is made private before.
pub(super) fn after_pivot(wanted: Option<Propagation>) -> Vec<Change> {
    use PropagationKind::{Private, Shared, Unbindable};
    let Some(Propagation { kind, recursive }) = wanted else {
        return Vec::new();
    };
    let change = Change::propagation(kind, recursive);
    match kind {
        Shared => vec![Change::propagation(Private, false), change],
        Unbindable => vec![change],
        _ => Vec::new(),
    }
}
