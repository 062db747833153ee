//! The only module that opens files and calls the kernel.

use crate::{
    CgroupLayout, CgroupMode, Delegation, Error, Fact, FileSystems, Host, NamespaceIds, Needs,
    Refusal, Refused, Setgroups, SubordinateIds, Systemd, SystemdManager,
};
use crate::{cgroup, identity, machine, systemd};
use coracle_dbus::{Call, Connection, Value};
use coracle_sys::{NamespaceFlags, NamespaceKind, ProcFs};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstatat};
use nix::sys::statfs::{SELINUX_MAGIC, statfs};
use nix::unistd::{AccessFlags, access, getegid, geteuid, getpid};
use procfs::process::MountInfo;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The types of file system that are read from the mount table.
const LOOKED_FOR: [&str; 3] = ["cgroup", "cgroup2", "resctrl"];

/// The inode of the initial user namespace, `USER_NS_INIT_INO` of linux/nsfs.h: fixed since Linux
/// 3.8. The id map does not identify it: another namespace may also map every id to itself.
const INITIAL_USER_NAMESPACE: u64 = 0xefff_fffd;

/// How long systemd may take to answer.
const BUS_LIMIT: Duration = Duration::from_secs(30);

const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";

/// The mount point that the kernel creates for selinuxfs.
const SELINUX: &str = "/sys/fs/selinux";

/// Gathers the facts of this machine and process that are always needed, and those that `needs`
/// names.
///
/// # Errors
///
/// A kernel older than [`KERNEL_FLOOR`](crate::KERNEL_FLOOR), no usable `/proc`, or a file of the
/// kernel that cannot be read or parsed. A file that a machine may lack is no error.
pub fn probe(needs: Needs) -> Result<Host, Error> {
    let kernel = machine::kernel_version(&release()?)?;
    let proc = ProcFs::mounted().map_err(|errno| Error::Proc { errno })?;
    let capabilities = coracle_sys::capget().map_err(|errno| Error::Capabilities { errno })?;
    let ambient_allowed =
        coracle_sys::ambient_is_allowed().map_err(|errno| Error::Capabilities { errno })?;
    let (euid, egid) = (geteuid().as_raw(), getegid().as_raw());
    let own = own_directory(&proc)?;
    let user = own_namespace(&own, NamespaceKind::User)?;
    let in_user_namespace = user.is_none_or(|(_, inode)| inode != INITIAL_USER_NAMESPACE);
    let table = mount_table(&own, &needs)?;
    let mut host = Host {
        kernel,
        euid,
        egid,
        capabilities: capabilities.effective,
        ambient_allowed,
        last_capability: last_capability(),
        in_user_namespace,
        // The initial user namespace always allows it: once a namespace has a gid map, the file can
        // no longer be set to `deny`, user_namespaces(7), and the initial one has a map from boot.
        setgroups: match in_user_namespace {
            true => identity::setgroups(&text_of_self(&own, c"setgroups")?),
            false => Setgroups::Allowed,
        },
        subordinate_ids: fact(needs.id_maps, || Ok(subordinate_ids(euid)))?,
        cgroups: fact(needs.cgroups, || cgroup_layout(&own, &table))?,
        apparmor: fact(needs.apparmor, || {
            let enabled = optional_text(Path::new(APPARMOR))?;
            Ok(enabled.is_some_and(|text| machine::is_apparmor_enabled(&text)))
        })?,
        selinux: fact(needs.selinux, || {
            Ok(statfs(SELINUX).is_ok_and(|found| found.filesystem_type() == SELINUX_MAGIC))
        })?,
        landlock: fact(needs.landlock, || Ok(coracle_sys::landlock_abi()))?,
        resctrl: fact(needs.resctrl, || {
            let mount = table.iter().find(|mount| mount.fs_type == "resctrl");
            Ok(mount.map(machine::mount_point))
        })?,
        namespaces: fact(needs.namespaces, || own_namespaces(&own))?,
        differing: match needs.compared {
            Some(compared) => Fact::Known(differing(&proc, (&own, user), compared)?),
            None => Fact::NotGathered,
        },
        online_nodes: fact(needs.nodes, online_nodes)?,
        systemd: Fact::NotGathered,
        user_namespaces_refused: fact(needs.refusals, || Ok(refusal()))?,
        delegation: Fact::NotGathered,
        file_systems: fact(needs.file_systems, file_systems)?,
        real_root: match &needs.root {
            Some(root) => Fact::Known(real_path(&own, root)),
            None => Fact::NotGathered,
        },
    };
    host.delegation = fact(needs.cgroups && needs.refusals, || delegation(&host))?;
    host.systemd = fact(needs.systemd, || find_systemd(&own, &host))?;
    Ok(host)
}

fn fact<T>(is_needed: bool, gather: impl FnOnce() -> Result<T, Error>) -> Result<Fact<T>, Error> {
    match is_needed {
        true => gather().map(Fact::Known),
        false => Ok(Fact::NotGathered),
    }
}

/// The namespaces that process `pid` (in the caller's pid namespace) is in.
///
/// # Errors
///
/// The process has ended (even if it is not yet reaped), or the caller may not trace it.
pub fn namespaces_of(pid: i32) -> Result<NamespaceIds, Error> {
    let proc = ProcFs::mounted().map_err(|errno| Error::Proc { errno })?;
    let directory = directory_of(&proc, pid)?;
    namespaces_in(&directory).map_err(unseen(pid))
}

fn directory_of(proc: &ProcFs, pid: i32) -> Result<OwnedFd, Error> {
    let path = ProcFs::path_of(pid, "ns");
    let directory = proc.open(&path, OFlag::O_PATH | OFlag::O_DIRECTORY);
    directory.map_err(unseen(pid))
}

fn unseen(pid: i32) -> impl Fn(Errno) -> Error {
    move |errno| match errno {
        Errno::ENOENT | Errno::ESRCH => Error::ProcessEnded { pid },
        errno => Error::Namespaces { pid, errno },
    }
}

/// The kinds of which process `pid` is in another namespace than the runtime, whose own user
/// namespace is known.
fn differing(
    proc: &ProcFs,
    (own, user): (&ProcFs, Option<(u64, u64)>),
    (pid, kinds): (i32, NamespaceFlags),
) -> Result<NamespaceFlags, Error> {
    let directory = directory_of(proc, pid)?;
    let mut differing = NamespaceFlags::empty();
    let compared = NamespaceKind::ALL.into_iter();
    for kind in compared.filter(|kind| kinds.contains(kind.flag())) {
        let ours = match kind {
            NamespaceKind::User => user,
            _ => own_namespace(own, kind)?,
        };
        match (namespace_at(&directory, kind.file()), ours) {
            // The kernel lacks the kind.
            (Err(Errno::ENOENT), None) => {}
            (Ok(theirs), ours) if Some(theirs) == ours => {}
            (Ok(_), _) => differing |= kind.flag(),
            (Err(errno), _) => return Err(unseen(pid)(errno)),
        }
    }
    Ok(differing)
}

fn own_directory(proc: &ProcFs) -> Result<ProcFs, Error> {
    proc.own().map_err(|errno| Error::Read {
        path: "/proc/self".into(),
        errno,
    })
}

fn own_namespaces(own: &ProcFs) -> Result<NamespaceIds, Error> {
    let directory = own.open(c"ns", OFlag::O_PATH | OFlag::O_DIRECTORY);
    directory
        .and_then(|directory| namespaces_in(&directory))
        .map_err(|errno| Error::Namespaces {
            pid: getpid().as_raw(),
            errno,
        })
}

/// The own namespace of this kind; `None` if the kernel lacks the kind.
fn own_namespace(own: &ProcFs, kind: NamespaceKind) -> Result<Option<(u64, u64)>, Error> {
    let link = ProcFs::path_of("ns", &kind.file().to_string_lossy());
    match namespace_at(own, &link) {
        Ok(id) => Ok(Some(id)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::Namespaces {
            pid: getpid().as_raw(),
            errno,
        }),
    }
}

/// Device and inode of the namespace that the link leads to: stat(2) follows it without opening it.
fn namespace_at(directory: impl AsFd, link: &CStr) -> nix::Result<(u64, u64)> {
    fstatat(directory, link, AtFlags::empty()).map(|status| (status.st_dev, status.st_ino))
}

/// The namespaces in a directory `/proc/PID/ns`.
fn namespaces_in(directory: &OwnedFd) -> nix::Result<NamespaceIds> {
    let mut ids = NamespaceIds::default();
    for kind in NamespaceKind::ALL {
        match namespace_at(directory, kind.file()) {
            Ok(id) => *ids.of_mut(kind) = id,
            // Every kernel has mount namespaces, and every process is in one until it ends.
            Err(Errno::ENOENT) if kind != NamespaceKind::Mount => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(ids)
}

fn release() -> Result<String, Error> {
    match nix::sys::utsname::uname() {
        Ok(names) => Ok(names.release().to_string_lossy().into_owned()),
        Err(_) => Err(Error::KernelRelease {
            release: String::new(),
        }),
    }
}

/// Every supported kernel knows capability 40. A prctl for each further number is cheaper than
/// reading `cap_last_cap`, and works where `/proc/sys` is masked.
fn last_capability() -> u8 {
    let is_unknown = |number: &u8| coracle_sys::read_bounding(*number).is_err();
    (41..64).find(is_unknown).map_or(63, |unknown| unknown - 1)
}

/// The path without links, if it differs from `path`. The kernel resolves it, and the link in
/// `/proc/self/fd` has the result.
fn real_path(own: &ProcFs, path: &Path) -> Option<PathBuf> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = nix::fcntl::open(path, flags, Mode::empty()).ok()?;
    let link = CString::new(format!("fd/{}", directory.as_raw_fd())).ok()?;
    let link = own.open(&link, OFlag::O_PATH | OFlag::O_NOFOLLOW).ok()?;
    let mut text = [0; 4096];
    let length = coracle_sys::read_link(link.as_fd(), &mut text).ok()?;
    let real = PathBuf::from(OsStr::from_bytes(text.get(..length)?));
    (real != path).then_some(real)
}

fn mount_table(own: &ProcFs, needs: &Needs) -> Result<Vec<MountInfo>, Error> {
    if needs.cgroups || needs.resctrl {
        machine::mounts_of(&bytes_of_self(own, c"mountinfo")?, &LOOKED_FOR)
    } else {
        Ok(Vec::new())
    }
}

fn cgroup_layout(own: &ProcFs, table: &[MountInfo]) -> Result<CgroupLayout, Error> {
    let mut layout = cgroup::layout(&bytes_of_self(own, c"cgroup")?, table)?;
    if let Some(tree) = &mut layout.unified {
        let text = optional_text(&tree.mount.join("cgroup.controllers"))?.unwrap_or_default();
        tree.controllers = text.split_whitespace().map(ToOwned::to_owned).collect();
    }
    Ok(layout)
}

/// All settings that may refuse user namespaces. The kernel asks the first of everybody.
const REFUSALS: [Refusal; 3] = [
    Refusal {
        setting: "user.max_user_namespaces",
        value: "0",
        allowing: "15000",
        whom: Refused::Everybody,
    },
    Refusal {
        setting: "kernel.unprivileged_userns_clone",
        value: "0",
        allowing: "1",
        whom: Refused::Unprivileged,
    },
    Refusal {
        setting: "kernel.apparmor_restrict_unprivileged_userns",
        value: "1",
        allowing: "0",
        whom: Refused::Unprivileged,
    },
];

fn refusal() -> Option<Refusal> {
    REFUSALS.into_iter().find(|refusal| {
        let path = Path::new("/proc/sys").join(refusal.setting.replace('.', "/"));
        // A kernel that has no such setting refuses nothing by it.
        let text = optional_text(&path).ok().flatten();
        text.is_some_and(|text| text.trim() == refusal.value)
    })
}

/// Where cgroups would be made. A hierarchy of v1 that limits nothing is not looked at.
fn delegation(host: &Host) -> Result<Option<Delegation>, Error> {
    let place = |mount: &Path, root: &Path, own: &Path| match own.strip_prefix(root) {
        Ok(below) if !host.is_root() && below != Path::new("") => mount.join(below),
        _ => mount.to_owned(),
    };
    let layout = &host.cgroups;
    let directory = match (&layout.unified, layout.hierarchies.as_slice()) {
        (Some(tree), _) if layout.mode == CgroupMode::V2 => {
            place(&tree.mount, &tree.root, &tree.own)
        }
        (_, hierarchies) => {
            let is_limiting = |name: &String| !name.starts_with("name=");
            let mut limiting = hierarchies.iter();
            match limiting.find(|one| one.controllers.iter().any(is_limiting)) {
                Some(one) => place(&one.mount, &one.root, &one.own),
                None => return Ok(None),
            }
        }
    };
    let controllers = optional_text(&directory.join("cgroup.controllers"))?.unwrap_or_default();
    Ok(Some(Delegation {
        refused: access(&directory, AccessFlags::W_OK).err(),
        controllers: controllers.split_whitespace().map(str::to_owned).collect(),
        directory,
    }))
}

fn file_systems() -> Result<FileSystems, Error> {
    let aliases = Path::new("/lib/modules")
        .join(release()?)
        .join("modules.alias");
    let present = optional_text(Path::new("/proc/filesystems"))?.unwrap_or_default();
    Ok(FileSystems {
        present: machine::file_systems(&present),
        loadable: match Path::new("/proc/modules").exists() {
            // A file that this user may not read says no more than one that is not there.
            true => optional_text(&aliases)
                .ok()
                .flatten()
                .map(|text| machine::loadable_file_systems(&text)),
            // The kernel was built without modules.
            false => Some(Vec::new()),
        },
    })
}

/// The manager that serves the caller: the system manager for root, otherwise the user's own.
fn find_systemd(own: &ProcFs, host: &Host) -> Result<Option<Systemd>, Error> {
    // The check of sd_booted(3).
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(None);
    }
    let manager = match host.is_root() {
        true => SystemdManager::System,
        false => SystemdManager::User,
    };
    let variable = |name| std::env::var(name).ok();
    let (session_bus, directory) = (
        variable("DBUS_SESSION_BUS_ADDRESS"),
        variable("XDG_RUNTIME_DIR"),
    );
    let buses = systemd::buses(&systemd::Surroundings {
        manager,
        session_bus: session_bus.as_deref(),
        runtime_directory: directory.as_deref(),
        uid: systemd::outer_uid(&text_of_self(own, c"uid_map")?, host.euid),
    });
    let mut problem: Option<coracle_dbus::Error> = None;
    for bus in buses {
        let answers = Connection::open(&bus, BUS_LIMIT, None).and_then(|mut connection| {
            let version = manager_property(&mut connection, "Version")?;
            Ok((version, manager_property(&mut connection, "ControlGroup")?))
        });
        match answers {
            Ok((version, cgroup)) => {
                let cgroup = cgroup.as_ref().and_then(|value| value.inner().text());
                let version = systemd::version(version.as_ref());
                let cgroup = Path::new("/").join(cgroup.unwrap_or_default());
                return Ok(Some(Systemd {
                    manager,
                    version,
                    cgroup,
                    bus,
                }));
            }
            // The first bus is the one that should have worked. But an error of a bus that exists
            // is more useful than one of a bus that is missing.
            Err(error) => {
                problem = match problem {
                    Some(first) if error.is_absence() || !first.is_absence() => Some(first),
                    _ => Some(error),
                };
            }
        }
    }
    problem.map_or(Ok(None), |problem| Err(Error::Systemd { problem }))
}

fn manager_property(
    connection: &mut Connection,
    name: &str,
) -> coracle_dbus::Result<Option<Value>> {
    let call = Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        body: &["org.freedesktop.systemd1.Manager".into(), name.into()],
    };
    let reply = connection.call(&call, BUS_LIMIT)?;
    Ok(reply.values.into_iter().next())
}

/// These facts only help to explain a failure. newuidmap and newgidmap decide, and may read more
/// than the runtime can.
fn subordinate_ids(uid: u32) -> SubordinateIds {
    let text = |path: &str| {
        optional_text(Path::new(path))
            .ok()
            .flatten()
            .unwrap_or_default()
    };
    let passwd = text("/etc/passwd");
    let name = identity::user_name(&passwd, uid);
    let path = std::env::var("PATH").unwrap_or_default();
    let program = |name| identity::find_program(name, &path, is_program);
    SubordinateIds {
        uid: identity::subordinate_ranges(&text("/etc/subuid"), name, uid),
        gid: identity::subordinate_ranges(&text("/etc/subgid"), name, uid),
        newuidmap: program("newuidmap"),
        newgidmap: program("newgidmap"),
    }
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

fn online_nodes() -> Result<Vec<u32>, Error> {
    let path = "/sys/devices/system/node/online";
    match optional_text(Path::new(path))? {
        Some(text) => machine::number_list(&text).ok_or(Error::Format {
            path,
            problem: "not a list of numbers such as 0-1,3",
        }),
        // A kernel without NUMA has one node, number 0.
        None => Ok(vec![0]),
    }
}

fn text_of_self(own: &ProcFs, name: &CStr) -> Result<String, Error> {
    Ok(String::from_utf8_lossy(&bytes_of_self(own, name)?).into_owned())
}

fn bytes_of_self(own: &ProcFs, name: &CStr) -> Result<Vec<u8>, Error> {
    let read = own.open(name, OFlag::O_RDONLY).and_then(bytes_of);
    read.map_err(|errno| {
        let path = Path::new("/proc/self").join(name.to_string_lossy().as_ref());
        Error::Read { path, errno }
    })
}

/// Reads to the end: files of procfs report a size of 0.
fn bytes_of(file: OwnedFd) -> nix::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Large pieces, since procfs generates the text again for every read.
    let mut piece = [0; 16 * 1024];
    loop {
        let length = nix::unistd::read(&file, &mut piece)?;
        if length == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(piece.get(..length).unwrap_or(&piece));
    }
}

/// The file's text; `None` if there is no such file.
fn optional_text(path: &Path) -> Result<Option<String>, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    match nix::fcntl::open(path, flags, Mode::empty()).and_then(bytes_of) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(Error::Read {
            path: path.to_owned(),
            errno,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::Pid;

    const EVERYTHING: Needs = Needs {
        namespaces: true,
        compared: None,
        cgroups: true,
        id_maps: true,
        resctrl: true,
        apparmor: true,
        landlock: true,
        selinux: true,
        nodes: true,
        systemd: false,
        refusals: true,
        file_systems: true,
        root: None,
    };

    #[test]
    fn a_path_behind_links_has_a_real_one() {
        let folder = std::env::temp_dir().join(format!("coracle-probe-{}", Pid::this()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a directory");
        let link = folder.join("link");
        let target = folder.join("target");
        std::fs::create_dir(&target).expect("a directory");
        std::os::unix::fs::symlink(&target, &link).expect("a link");
        let real = |path: &Path| {
            let root = Some(path.to_owned());
            let needs = Needs {
                root,
                ..Needs::default()
            };
            let host = probe(needs).expect("the facts of this machine");
            (*host.real_root).clone()
        };
        let behind = real(&link).expect("another path");
        assert_eq!(behind, target.canonicalize().expect("it is there"));
        assert_eq!(real(&behind), None);
        assert_eq!(real(&folder.join("missing")), None);
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }

    #[test]
    fn this_machine() {
        let host = probe(EVERYTHING).expect("the facts of this machine");
        assert_eq!(host.euid, geteuid().as_raw());
        assert!((40..64).contains(&host.last_capability));
        assert!(host.capabilities < 1 << (host.last_capability + 1));
        assert!(host.online_nodes.contains(&0));
        assert!(
            host.file_systems.has("proc") == Some(true)
                && host.file_systems.has("nosuchfs") != Some(true)
        );
        let place = host.delegation.as_ref().map(|place| &place.directory);
        assert!(
            place.is_none_or(|place| place.join("cgroup.procs").exists()),
            "{place:?}"
        );
        for tree in &host.cgroups.hierarchies {
            assert!(tree.mount.join("tasks").exists(), "{tree:?}");
        }
        if let Some(tree) = &host.cgroups.unified {
            assert!(tree.mount.join("cgroup.procs").exists(), "{tree:?}");
        }
    }

    #[test]
    fn nothing_is_read_that_nobody_needs() {
        let host = probe(Needs::default()).expect("the cheap facts");
        assert_eq!(host.cgroups, Fact::NotGathered);
        assert_eq!(host.subordinate_ids, Fact::NotGathered);
        assert_eq!(host.resctrl, Fact::NotGathered);
        assert_eq!(host.online_nodes, Fact::NotGathered);
        assert_eq!(host.namespaces, Fact::NotGathered);
    }

    #[test]
    fn a_child_shares_our_namespaces_until_it_ends() {
        let own = namespaces_of(getpid().as_raw()).expect("our own");
        let mut child = std::process::Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("a child");
        let pid = i32::try_from(child.id()).expect("a process number");
        assert_eq!(namespaces_of(pid), Ok(own));
        let compared = |kinds| {
            let needs = Needs {
                compared: Some((pid, kinds)),
                ..Needs::default()
            };
            probe(needs).map(|host| host.differing)
        };
        let all = NamespaceFlags::all();
        assert_eq!(compared(all), Ok(Fact::Known(NamespaceFlags::empty())));
        drop(child.stdin.take());
        let pidfd = coracle_sys::pidfd_open(Pid::from_raw(pid)).expect("its pidfd");
        let ended = coracle_sys::poll_readable(&[std::os::fd::AsFd::as_fd(&pidfd)], None);
        assert_eq!(ended, Ok(1));
        // It has ended, and nobody has waited for it.
        let error = namespaces_of(pid).expect_err("a process without namespaces");
        let refused = Error::Namespaces {
            pid,
            errno: Errno::EACCES,
        };
        let refused = [Error::ProcessEnded { pid }, refused];
        assert!(refused.contains(&error));
        let error = compared(all).expect_err("a process without namespaces");
        assert!(refused.contains(&error));
        child.wait().expect("its status");
        let error = namespaces_of(pid).expect_err("no process");
        assert_eq!(error, Error::ProcessEnded { pid });
    }

    #[test]
    fn own_namespaces_are_those_the_standard_library_sees() {
        use std::os::linux::fs::MetadataExt;
        let own = namespaces_of(getpid().as_raw()).expect("our own");
        for (name, id) in [("mnt", own.mount), ("net", own.network), ("user", own.user)] {
            let status = std::fs::metadata(format!("/proc/self/ns/{name}")).expect("a namespace");
            assert_eq!((status.st_dev(), status.st_ino()), id);
        }
    }
}
