//! The facts from other subsystems that the root filesystem's plan depends on.

use std::path::PathBuf;

use coracle_rootfs::{CgroupDirectory, ChangeRoot, Context};

/// Makes the context of the root filesystem's plan: how the root is changed, and where the
/// container's cgroups are, which a mount of type `cgroup` shows. Pure.
pub(crate) fn rootfs(change_root: ChangeRoot, cgroups: &coracle_cgroups::Plan) -> Context {
    let (cgroup_directories, unified_directory) = directories(cgroups);
    Context {
        change_root,
        cgroup_directories,
        unified_directory,
    }
}

/// The container's cgroups as absolute paths on the host: each v1 hierarchy, and the v2 directory.
fn directories(plan: &coracle_cgroups::Plan) -> (Vec<CgroupDirectory>, Option<PathBuf>) {
    let Some(files) = plan.driver.files() else {
        return (Vec::new(), None);
    };
    let hierarchies = files.hierarchies.iter().map(|hierarchy| CgroupDirectory {
        mount: hierarchy.mount.clone(),
        directory: hierarchy.mount.join(&hierarchy.path),
    });
    let unified = files
        .unified
        .as_ref()
        .map(|tree| tree.mount.join(&tree.path));
    (hierarchies.collect(), unified)
}
