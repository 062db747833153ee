//! `linux.maskedPaths`, `linux.readonlyPaths`, `root.readonly`: what the last phase covers.

use super::{
    Change, MountNamespace, Node, Planner, Source, SourceCheck, Step, c_string, propagation,
};
use crate::Error;
use coracle_bundle::DeviceKind;
use std::ffi::CString;
use std::path::Path;

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

pub(super) fn plan(planner: &mut Planner) -> Result<(), Error> {
    let linux = &planner.config.linux;
    for (index, path) in linux.readonly_paths.iter().enumerate() {
        let covered = covered(planner, path, &format!("linux.readonlyPaths[{index}]"))?;
        planner.plan.steps.push(Step::ReadOnlyPath(covered));
    }
    for (index, path) in linux.masked_paths.iter().enumerate() {
        let covered = covered(planner, path, &format!("linux.maskedPaths[{index}]"))?;
        planner.plan.steps.push(Step::Mask(covered));
    }
    if !linux.masked_paths.is_empty() {
        planner.plan.null_device = Some(null_device(planner));
    }
    for (kept, destination) in std::mem::take(&mut planner.seals) {
        planner.plan.steps.push(Step::Seal { kept, destination });
    }
    let late = propagation::after_pivot(linux.rootfs_propagation);
    if planner.context.mount_namespace != MountNamespace::Host && !late.is_empty() {
        // Not earlier: what is unbindable cannot be cloned to be made read-only.
        planner.plan.steps.push(Step::RootPropagation(late));
    }
    if planner.config.root.readonly {
        planner.plan.steps.push(Step::ReadOnlyRoot);
    }
    Ok(())
}

/// What files are masked with: the host's own null device, never the image's (CVE-2025-31133).
fn null_device(planner: &mut Planner) -> usize {
    let node = Node {
        kind: DeviceKind::Char,
        major: 1,
        minor: 3,
    };
    let source = Source {
        check: SourceCheck::Node(node),
        // A clone of a shared mount would let what happens on it travel to the host.
        changes: vec![Change {
            propagation: libc::MS_PRIVATE,
            ..Change::default()
        }],
        ..Source::new(
            "linux.maskedPaths".to_owned(),
            c"/dev/null".to_owned(),
            first_mask(planner),
        )
    };
    planner.add_source(source)
}

fn first_mask(planner: &Planner) -> u32 {
    let mut steps = (0_u32..).zip(&planner.plan.steps);
    steps
        .find(|(_, step)| matches!(step, Step::Mask(_)))
        .map_or(0, |(number, _)| number)
}

fn covered(planner: &Planner, path: &Path, at: &str) -> Result<Covered, Error> {
    let shown = c_string(path.as_os_str(), at)?;
    for (top, base) in [("/proc", planner.proc), ("/sys", planner.sys)] {
        if let (Some(base), Ok(below)) = (base, path.strip_prefix(top)) {
            let below = Path::new("/").join(below);
            let path = c_string(below.as_os_str(), at)?;
            return Ok(Covered {
                shown,
                path,
                base: Some(base),
            });
        }
    }
    Ok(Covered {
        path: shown.clone(),
        shown,
        base: None,
    })
}
