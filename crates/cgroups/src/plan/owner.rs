//! The owner of the container's v2 cgroup: config-linux.md § Cgroup ownership.

use std::path::Path;

use coracle_bundle::{Config, FileSystem, IdMapping, Namespace};

/// The host's uid of the container's user, if the container may manage its own cgroup: it has a new
/// cgroup namespace and a writable cgroup mount. `None` leaves the owner unchanged.
pub(super) fn plan(config: &Config) -> Option<u32> {
    let namespaces = &config.linux.namespaces;
    let writable = config.mounts.iter().any(|mount| {
        let read_only = mount.options.attributes.set & libc::MOUNT_ATTR_RDONLY != 0;
        let file_system = mount.file_system();
        matches!(file_system, Some(FileSystem::Cgroup | FileSystem::Cgroup2))
            && mount.destination.path() == Path::new("/sys/fs/cgroup")
            && !read_only
    });
    if namespaces.cgroup != Namespace::New || !writable {
        return None;
    }
    let uid = config.process.as_ref()?.user.uid;
    match namespaces.user {
        Namespace::Inherit => Some(uid),
        Namespace::New | Namespace::Join { .. } => {
            IdMapping::to_host(&config.linux.id_mappings.uid, uid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_ids() {
        let line = |container_id, host_id, size| IdMapping {
            container_id,
            host_id,
            size,
        };
        let mappings = [line(0, 1000, 1), line(1, 100_000, 65_536)];
        assert_eq!(IdMapping::to_host(&mappings, 0), Some(1000));
        assert_eq!(IdMapping::to_host(&mappings, 5), Some(100_004));
        assert_eq!(IdMapping::to_host(&mappings, 65_537), None);
        assert_eq!(IdMapping::to_host(&[], 0), None);
    }
}
