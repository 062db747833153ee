//! Plans how the root is bound before the mounts, and how it becomes `/` after them.

use super::context::ChangeRoot;
use super::planner::{Planner, c_string};
use super::propagation;
use super::steps::{Root, Source, SourceCheck, Step};
use crate::Error;
use std::path::Path;

pub(super) fn plan(planner: &mut Planner) -> Result<(), Error> {
    let path = planner.config.root.path.clone();
    let path_c = c_string(&path);
    let on_host = planner.is_on_hosts_namespace();
    if path == Path::new("/") {
        // Allowed only if the host's root is not changed.
        if !planner.config.mounts.is_empty() || planner.config.root.readonly {
            return Err(Error::HostRootChanged);
        }
        planner.plan.root = Some(Root {
            path,
            path_c,
            source: None,
            step: 0,
        });
        return Ok(());
    }
    let requested = planner.config.linux.rootfs_propagation;
    if !on_host {
        planner.push(Step::Propagation(propagation::of_namespace(requested)));
    }
    let step = planner.next_step();
    let source = planner.add_source(Source {
        changes: vec![propagation::of_root(requested, on_host)],
        recursive: true,
        check: SourceCheck::Root,
        ..Source::new("config.json: root.path".to_owned(), path_c.clone(), step)
    });
    planner.push(Step::Root);
    planner.plan.root = Some(Root {
        path,
        path_c,
        source: Some(source),
        step,
    });
    Ok(())
}

pub(super) fn change(planner: &mut Planner) -> Result<(), Error> {
    let is_private = propagation::is_private(planner.config.linux.rootfs_propagation);
    planner.push(match planner.context.change_root {
        _ if planner.is_on_hosts_namespace() => Step::Chroot,
        ChangeRoot::PivotRoot => Step::Pivot,
        ChangeRoot::MoveAndChroot if is_private => return Err(Error::PrivateWithoutPivot),
        ChangeRoot::MoveAndChroot => Step::Move,
    });
    Ok(())
}
