//! What the root file system's plan needs to know of the other subsystems.

use std::path::PathBuf;

use coracle_bundle::{Config, Namespace};
use coracle_host::Host;
use coracle_rootfs::{
    CgroupDirectory, CgroupNamespace, Context, Jail, MountNamespace, Terminal, UserNamespace,
};

/// The facts that mounts depend on. Pure.
pub(crate) fn rootfs(
    config: &Config,
    host: &Host,
    jail: Jail,
    cgroups: &coracle_cgroups::Plan,
) -> Context {
    let namespaces = &config.linux.namespaces;
    let (cgroup_directories, unified_directory) = directories(cgroups);
    Context {
        mount_namespace: match namespaces.mount {
            Namespace::New => MountNamespace::New,
            Namespace::Join { .. } => MountNamespace::Joined,
            Namespace::Inherit => MountNamespace::Host,
        },
        user_namespace: match namespaces.user {
            Namespace::New => UserNamespace::New,
            Namespace::Join { .. } => UserNamespace::Joined,
            Namespace::Inherit if host.in_user_namespace => UserNamespace::Outer,
            Namespace::Inherit => UserNamespace::Initial,
        },
        cgroup_namespace: match namespaces.cgroup {
            Namespace::New => CgroupNamespace::New,
            Namespace::Join { .. } => CgroupNamespace::Joined,
            Namespace::Inherit => CgroupNamespace::Inherit,
        },
        jail,
        terminal: match config
            .process
            .as_ref()
            .is_some_and(|process| process.terminal)
        {
            true => Terminal::Pty,
            false => Terminal::None,
        },
        cgroup_directories,
        unified_directory,
    }
}

/// The container's cgroups as absolute paths of the host.
fn directories(plan: &coracle_cgroups::Plan) -> (Vec<CgroupDirectory>, Option<PathBuf>) {
    let Some(files) = plan.driver.files() else {
        return (Vec::new(), None);
    };
    let hierarchies = files.hierarchies.iter().map(|hierarchy| CgroupDirectory {
        names: hierarchy.controllers.clone(),
        mount: hierarchy.mount.clone(),
        directory: hierarchy.mount.join(&hierarchy.path),
    });
    let unified = files
        .unified
        .as_ref()
        .map(|tree| tree.mount.join(&tree.path));
    (hierarchies.collect(), unified)
}
