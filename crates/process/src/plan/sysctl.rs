//! Host name, domain name and sysctls: config.md § Hostname, config-linux.md § Sysctl.

use super::SeparateNamespace;
use super::steps::{Setting, Sysctl};
use crate::Error;
use coracle_bundle::{Config, Namespace, Namespaces};
use coracle_host::{Host, NamespaceIds};
use std::ffi::CString;

/// The kernel's list of IPC sysctls outside `fs.mqueue`.
const IPC_KEYS: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// The namespace that owns a sysctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Ipc,
    Network,
    Uts,
    User,
}

/// The settings in order, and the joined namespaces that must not be the host's own.
pub(super) fn machine(
    config: &Config,
    host: &Host,
) -> Result<(Vec<Setting>, Vec<SeparateNamespace>), Error> {
    let mut settings = Vec::new();
    let mut separate = Vec::new();
    settings.extend(config.hostname.clone().map(Setting::Hostname));
    settings.extend(config.domainname.clone().map(Setting::Domainname));
    for (key, value) in &config.linux.sysctl {
        let path = path(key).map_err(|reason| Error::SysctlKey {
            key: key.clone(),
            reason,
        })?;
        refuse_conflict(key, &path, config)?;
        let not_separate = || Error::SysctlNotSeparate { key: key.clone() };
        let owner = owner(&path).ok_or_else(not_separate)?;
        let (namespace, host) = owner.of(&config.linux.namespaces, &host.namespaces);
        match namespace {
            Namespace::Inherit => return Err(not_separate()),
            Namespace::New => {}
            Namespace::Join { path, .. } => {
                separate.push(SeparateNamespace {
                    key: key.clone(),
                    path: path.clone(),
                    host,
                });
            }
        }
        // A key with a NUL byte is none, see `path`.
        let path = CString::new(format!("sys/{path}")).unwrap_or_default();
        settings.push(Setting::Sysctl(Sysctl {
            key: key.clone(),
            path,
            value: value.clone(),
        }));
    }
    Ok((settings, separate))
}

/// The key as a path below `/proc/sys`, or why it is none.
///
/// The first separator decides, as for sysctl(8): in `net.ipv4.conf.eno2/100.rp_filter` the dots
/// separate and the slash stands for the interface's own dot; after a first slash all is literal.
fn path(key: &str) -> Result<String, &'static str> {
    let path: String = match key.find(['.', '/']).and_then(|at| key.get(at..)) {
        None => return Err("no separator"),
        Some(rest) if rest.starts_with('/') => key.to_owned(),
        Some(_) => key.chars().map(swap_separator).collect(),
    };
    if path.contains('\0') {
        return Err("NUL byte");
    }
    match path
        .split('/')
        .find(|part| matches!(*part, "" | "." | ".."))
    {
        Some("") => Err("empty part"),
        Some(_) => Err("`.` or `..` as a part"),
        None => Ok(path),
    }
}

fn swap_separator(letter: char) -> char {
    match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    }
}

fn refuse_conflict(key: &str, path: &str, config: &Config) -> Result<(), Error> {
    let field = match path {
        "kernel/hostname" => "hostname",
        "kernel/domainname" if config.domainname.is_some() => "domainname",
        _ => return Ok(()),
    };
    Err(Error::SysctlConflict {
        key: key.to_owned(),
        field,
    })
}

/// `None` for what is the whole machine's.
fn owner(path: &str) -> Option<Owner> {
    let (tree, _) = path.split_once('/')?;
    match tree {
        "net" => Some(Owner::Network),
        "user" => Some(Owner::User),
        _ if path.starts_with("fs/mqueue/") || IPC_KEYS.contains(&path) => Some(Owner::Ipc),
        _ if path == "kernel/domainname" => Some(Owner::Uts),
        _ => None,
    }
}

impl Owner {
    fn of<'a>(self, asked: &'a Namespaces, host: &NamespaceIds) -> (&'a Namespace, (u64, u64)) {
        match self {
            Self::Ipc => (&asked.ipc, host.ipc),
            Self::Network => (&asked.network, host.network),
            Self::Uts => (&asked.uts, host.uts),
            Self::User => (&asked.user, host.user),
        }
    }
}
