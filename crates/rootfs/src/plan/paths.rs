//! Plans the last phase: `linux.maskedPaths`, `linux.readonlyPaths` and `root.readonly`.

use super::planner::{Planner, c_string};
use super::root::{self, PROPAGATION};
use super::steps::{Change, Covered, Node, Source, SourceCheck, Step};
use coracle_bundle::{DeviceKind, PropagationKind};
use std::path::Path;

pub(super) fn plan(planner: &mut Planner) {
    let linux = &planner.config.linux;
    for path in &linux.readonly_paths {
        let step = Step::ReadOnlyPath(covered(planner, path));
        planner.push("config.json: linux.readonlyPaths", step);
    }
    for path in &linux.masked_paths {
        let step = Step::Mask(covered(planner, path));
        planner.push("config.json: linux.maskedPaths", step);
    }
    if !linux.masked_paths.is_empty() {
        planner.plan.null_device = Some(null_device(planner));
    }
    for (kept, destination) in std::mem::take(&mut planner.read_only_mounts) {
        planner.push("", Step::ReadOnlyMount { kept, destination });
    }
    let late = root::after_pivot(linux.rootfs_propagation);
    if !planner.is_on_hosts_namespace() && !late.is_empty() {
        // After the paths: an unbindable root cannot be cloned, by which paths in it become
        // read-only.
        planner.push(PROPAGATION, Step::RootPropagation(late));
    }
    if planner.config.root.readonly {
        planner.push("config.json: root.readonly", Step::ReadOnlyRoot);
    }
}

/// The source that masks files: the host's null device, since the image could have another file at
/// /dev/null (CVE-2025-31133).
fn null_device(planner: &mut Planner) -> usize {
    let node = Node {
        kind: DeviceKind::Char,
        major: 1,
        minor: 3,
    };
    let source = Source {
        check: SourceCheck::Node(node),
        // A clone of a shared mount is shared as well: mounts on it would propagate to the host.
        changes: vec![Change::propagation(PropagationKind::Private, false)],
        ..Source::new(
            "config.json: linux.maskedPaths".to_owned(),
            c"/dev/null".to_owned(),
            first_mask(planner),
        )
    };
    planner.add_source(source)
}

fn first_mask(planner: &Planner) -> usize {
    let mut steps = planner.plan.steps.iter();
    let mask = steps.position(|step| matches!(step, Step::Mask(_)));
    mask.unwrap_or(0)
}

fn covered(planner: &Planner, path: &Path) -> Covered {
    let shown = c_string(path);
    for (top, base) in [("/proc", planner.proc), ("/sys", planner.sys)] {
        if let (Some(base), Ok(below)) = (base, path.strip_prefix(top)) {
            let exchangeable = top != "/proc" || !planner.plan.has_own_namespace();
            let mut mounts = planner.config.mounts.iter();
            return Covered {
                shown,
                path: c_string(Path::new("/").join(below)),
                base: Some(base),
                exchangeable,
                may_be_mount: exchangeable || mounts.any(|mount| mount.destination.path() == path),
            };
        }
    }
    Covered {
        path: shown.clone(),
        shown,
        base: None,
        exchangeable: true,
        may_be_mount: true,
    }
}
