//! Makes the user namespaces of id-mapped mounts: mount_setattr(2), `MOUNT_ATTR_IDMAP`.

use crate::Error;
use crate::plan::IdMap;
use coracle_bundle::{IdMapping, MountIds};
use coracle_sys::{
    Call, Cause, Cloned, NamespaceFlags, Parentage, ProcFs, clone3, die_with_parent, exit,
    pidfd_send_signal, wait_exit,
};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Opens a namespace for each map. For the runtime.
pub(super) fn open(maps: &[IdMap]) -> Result<Vec<OwnedFd>, Error> {
    maps.iter().map(namespace).collect()
}

fn namespace(map: &IdMap) -> Result<OwnedFd, Error> {
    let namespace = match &map.ids {
        MountIds::Namespace(path) => by_path(path).map_err(Call::Open.failed()),
        MountIds::Lines(ids) => by_lines(&lines(&ids.uid), &lines(&ids.gid)),
    };
    namespace.map_err(|cause| Error::IdMap {
        at: map.at.clone(),
        cause,
    })
}

fn lines(ids: &[IdMapping]) -> String {
    let line = |ids: &IdMapping| format!("{} {} {}\n", ids.container_id, ids.host_id, ids.size);
    ids.iter().map(line).collect()
}

fn by_path(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    nix::fcntl::open(path, flags, Mode::empty())
}

/// A new user namespace needs a process, and its descriptor keeps it alive without one.
fn by_lines(uid: &str, gid: &str) -> Result<OwnedFd, Cause> {
    let parent = Pid::this();
    let made = clone3(NamespaceFlags::USER, None, Parentage::Own);
    match made.map_err(Call::Clone.failed())? {
        Cloned::Child => wait_for_the_end(parent),
        Cloned::Parent { pid, pidfd } => {
            let namespace = map(pid, uid, gid);
            end(pidfd.as_fd()).map_err(Call::Kill.failed())?;
            namespace
        }
    }
}

fn wait_for_the_end(parent: Pid) -> ! {
    if die_with_parent(parent, Signal::SIGKILL).is_err() {
        exit(1);
    }
    loop {
        nix::unistd::pause();
    }
}

fn end(child: BorrowedFd<'_>) -> Result<(), Errno> {
    pidfd_send_signal(child, libc::SIGKILL)?;
    wait_exit(child).map(drop)
}

fn map(pid: Pid, uid: &str, gid: &str) -> Result<OwnedFd, Cause> {
    let path = |file| ProcFs::path_of(pid, file);
    let procfs = ProcFs::private().map_err(Call::Open.failed())?;
    procfs.write(&path("uid_map"), uid.as_bytes())?;
    procfs.write(&path("gid_map"), gid.as_bytes())?;
    let namespace = procfs.open_target(&path("ns/user"), OFlag::O_RDONLY);
    namespace.map_err(Call::Open.failed())
}
