//! Errors of the planner, of opening the namespaces and of the runtime's other work.

use crate::reason::reason;
use coracle_sys::{Cause, NamespaceFlags, NamespaceKind};
use coracle_text::{Code, Detail, cause_errno, cause_text, errno_text};
use nix::errno::Errno;
use std::path::PathBuf;

/// Why the plan, or the runtime's part of applying it, failed. Init reports faults instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller has no privilege, and the config has no user namespace that would give it.
    #[error("linux.namespaces: without CAP_SYS_ADMIN a user namespace is needed")]
    NeedsUserNamespace,
    /// A new user namespace gives an unprivileged caller no capabilities over existing namespaces.
    #[error(
        "linux.namespaces[{index}].path: {path}: no CAP_SYS_ADMIN to join the {} namespace \
         beside a new user namespace", .kind.name()
    )]
    JoinBesideNewUser {
        /// The kind of the namespace.
        kind: NamespaceKind,
        /// The config's path.
        path: PathBuf,
        /// Its place in linux.namespaces.
        index: usize,
    },
    /// Moving devices needs power over the runtime's network namespace.
    #[error("linux.netDevices: moving devices needs CAP_NET_ADMIN")]
    DevicesWithoutPrivilege,
    /// The map is longer than the kernel accepts.
    #[error("linux.{list}: the map is {bytes} bytes of text, the kernel takes at most 4095")]
    MapTooLong {
        /// `uidMappings` or `gidMappings`.
        list: &'static str,
        /// The length of the map.
        bytes: usize,
    },
    /// The set-uid program that maps more ids for an unprivileged caller is not installed.
    #[error(
        "linux.{list}: more than the caller's own id needs {helper}, missing here \
         (package uidmap)"
    )]
    HelperMissing {
        /// `uidMappings` or `gidMappings`.
        list: &'static str,
        /// newuidmap or newgidmap.
        helper: &'static str,
    },
    /// The path of a namespace could not be opened.
    #[error("linux.namespaces[{index}].path: {path}: {}", errno_text(*.errno))]
    OpenNamespace {
        /// Its place in linux.namespaces.
        index: usize,
        /// The config's path.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The path is another kind of file.
    #[error("linux.namespaces[{index}].path: {path} is not a namespace")]
    NotNamespace {
        /// Its place in linux.namespaces.
        index: usize,
        /// The config's path.
        path: PathBuf,
    },
    /// The path is a namespace of another type.
    #[error(
        "linux.namespaces[{index}].path: {path} is a {} namespace, not {}",
        kind_name(*.found), .wanted.name()
    )]
    WrongType {
        /// Its place in linux.namespaces.
        index: usize,
        /// The config's path.
        path: PathBuf,
        /// The type of the namespace.
        found: NamespaceFlags,
        /// The type in the config.
        wanted: NamespaceKind,
    },
    /// A change of root in this namespace would change the host's root.
    #[error(
        "linux.namespaces[{index}].path: {path} is the runtime's own mount namespace; leave the \
         path out for a new one"
    )]
    OwnMountNamespace {
        /// Its place in linux.namespaces.
        index: usize,
        /// The config's path.
        path: PathBuf,
    },
    /// The joined user namespace has other maps than the config says.
    #[error("linux.{list}: the user namespace that is joined has another map: {map}")]
    MapDiffers {
        /// `uidMappings` or `gidMappings`.
        list: &'static str,
        /// The namespace's map, lines joined by commas.
        map: String,
    },
    /// The maps of a user namespace could not be read from inside it.
    #[error("look at the maps of the user namespace: {}", cause_text(*.cause))]
    ReadMaps {
        /// Why.
        cause: Cause,
    },
    /// No usable procfs could be opened.
    #[error("open procfs: {}", errno_text(*.errno))]
    Procfs {
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel refused a map.
    #[error("write /proc/{pid}/{file}: {}{hint}", errno_text(*.errno))]
    WriteMap {
        /// The first process of the user namespace.
        pid: i32,
        /// uid_map, gid_map or setgroups.
        file: &'static str,
        /// The kernel's answer.
        errno: Errno,
        /// The likely cause, or nothing.
        hint: &'static str,
    },
    /// newuidmap or newgidmap did not start, refused, or was killed.
    #[error(
        "{program}: {failure}{}{}",
        coracle_text::after_colon(output),
        behind(hint)
    )]
    Helper {
        /// Its path.
        program: PathBuf,
        /// How it failed.
        failure: coracle_program::Failure,
        /// The end of what it printed, on one line.
        output: String,
        /// The likely cause; may be empty.
        hint: String,
    },
    /// The device to move does not exist.
    #[error("linux.netDevices.{host_name}: no such network device")]
    NoDevice {
        /// The config's key.
        host_name: String,
    },
    /// The container's network namespace has a device of that name.
    #[error(
        "linux.netDevices.{host_name}: the container's network namespace already has a device \
         {name}"
    )]
    DeviceExists {
        /// The config's key.
        host_name: String,
        /// The name in the config.
        name: String,
    },
    /// An operation on a device failed.
    #[error("linux.netDevices.{host_name}: {action}: {}", reason(*.cause))]
    Device {
        /// The config's key.
        host_name: String,
        /// What was attempted.
        action: &'static str,
        /// Why.
        cause: Cause,
    },
    /// A netlink operation failed before any device was changed.
    #[error("linux.netDevices: {action}: {}", reason(*.cause))]
    Netlink {
        /// What was attempted.
        action: &'static str,
        /// Why.
        cause: Cause,
    },
}

impl Error {
    /// What programs read of it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        let mut detail = Detail::new(self.code()).errno(self.errno());
        if let Some(path) = self.path() {
            detail = detail.path(path);
        }
        detail.hint(self.hint())
    }

    fn code(&self) -> Code {
        match self {
            Self::NeedsUserNamespace
            | Self::JoinBesideNewUser { .. }
            | Self::DevicesWithoutPrivilege => Code::CallerUnprivileged,
            Self::MapTooLong { .. } => Code::ConfigInvalid,
            Self::HelperMissing { .. }
            | Self::MapDiffers { .. }
            | Self::ReadMaps { .. }
            | Self::WriteMap { .. }
            | Self::Helper { .. } => Code::IdMapFailed,
            Self::OpenNamespace { .. }
            | Self::NotNamespace { .. }
            | Self::WrongType { .. }
            | Self::OwnMountNamespace { .. } => Code::NamespaceInvalid,
            Self::Procfs { .. } => Code::HostUnreadable,
            Self::NoDevice { .. }
            | Self::DeviceExists { .. }
            | Self::Device { .. }
            | Self::Netlink { .. } => Code::NetDeviceFailed,
        }
    }

    /// The property that it is about.
    fn path(&self) -> Option<String> {
        Some(match self {
            Self::NeedsUserNamespace => "linux.namespaces".to_owned(),
            Self::JoinBesideNewUser { index, .. }
            | Self::OpenNamespace { index, .. }
            | Self::NotNamespace { index, .. }
            | Self::WrongType { index, .. }
            | Self::OwnMountNamespace { index, .. } => format!("linux.namespaces[{index}].path"),
            Self::MapTooLong { list, .. }
            | Self::HelperMissing { list, .. }
            | Self::MapDiffers { list, .. } => format!("linux.{list}"),
            Self::WriteMap { pid, file, .. } => format!("/proc/{pid}/{file}"),
            Self::Helper { program, .. } => program.display().to_string(),
            Self::NoDevice { host_name }
            | Self::DeviceExists { host_name, .. }
            | Self::Device { host_name, .. } => format!("linux.netDevices.{host_name}"),
            Self::DevicesWithoutPrivilege | Self::Netlink { .. } => "linux.netDevices".to_owned(),
            Self::ReadMaps { .. } | Self::Procfs { .. } => return None,
        })
    }

    fn errno(&self) -> Option<Errno> {
        match self {
            Self::OpenNamespace { errno, .. }
            | Self::Procfs { errno }
            | Self::WriteMap { errno, .. } => Some(*errno),
            Self::ReadMaps { cause } | Self::Device { cause, .. } | Self::Netlink { cause, .. } => {
                cause_errno(*cause)
            }
            Self::Helper { failure, .. } => failure.errno(),
            _ => None,
        }
    }

    /// What may help.
    fn hint(&self) -> &str {
        match self {
            Self::NeedsUserNamespace => {
                "list one with mappings, have one made by --userns auto, or be root; a container's \
                 root has it with --privileged"
            }
            Self::HelperMissing { .. } => "install the package uidmap",
            Self::JoinBesideNewUser { .. } | Self::DevicesWithoutPrivilege => "be root",
            Self::OpenNamespace { .. } | Self::NotNamespace { .. } | Self::WrongType { .. } => {
                "make the namespace, or leave the path out for a new one"
            }
            Self::NoDevice { .. } => "make the device, or leave it out",
            Self::WriteMap { hint, .. } => hint.trim_start_matches([':', ';', ' ']),
            Self::Helper { hint, .. } => hint,
            _ => "",
        }
    }
}

fn behind(hint: &str) -> String {
    match hint {
        "" => String::new(),
        hint => format!("; {hint}"),
    }
}

fn kind_name(flags: NamespaceFlags) -> &'static str {
    NamespaceKind::ALL
        .into_iter()
        .find(|kind| kind.flag() == flags)
        .map_or("strange", NamespaceKind::name)
}
