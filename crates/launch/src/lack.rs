//! All that keeps this machine from a bundle, where [`crate::plan`] stops at the first.

use std::path::PathBuf;

use coracle_bundle::Bundle;
use coracle_cgroups::Denied;
use coracle_host::{Host, Setgroups};

use crate::error::Error;
use crate::filter;
use crate::plan::{Flags, Options, rootfs_context, setgroups, with_groups};

/// Something that a bundle needs and this machine or this caller does not have.
#[derive(Debug)]
pub struct Lack {
    /// What fails, and why.
    pub error: Error,
    /// What would mend it, in one line.
    pub remedy: &'static str,
}

impl From<Error> for Lack {
    fn from(error: Error) -> Self {
        let remedy = remedy(&error);
        Lack { error, remedy }
    }
}

/// What came of looking at a bundle.
#[derive(Debug, Default)]
pub struct Examined {
    /// All that is lacking, as far as it was found.
    pub lacks: Vec<Lack>,
    /// Where the process's program may be, below the root; none without a process, or where no plan
    /// could be made for it.
    pub candidates: Vec<PathBuf>,
}

/// Looks for what each subsystem refuses of a bundle, one thing of each at most: in its plan, or
/// when it looks at what the plan needs of this machine. Nothing is changed.
#[must_use]
pub fn examine(
    bundle: &Bundle,
    host: &Host,
    options: &Options,
    flags: Flags,
    network: Option<&coracle_cni::Requested>,
) -> Examined {
    let config = &bundle.config;
    let mut errors = Vec::new();
    let namespaces = keep(coracle_namespaces::plan(&config.linux, host), &mut errors);
    let namespaces = namespaces.map(|plan| with_groups(config, plan));
    let groups = namespaces.as_ref().map(|plan| setgroups(plan, host));
    if let Some(plan) = &namespaces {
        keep(coracle_namespaces::open(plan), &mut errors);
    }
    let cgroup_options = coracle_cgroups::Options {
        id: options.id.as_ref(),
        manager: flags.cgroup_manager,
        rootless: flags.rootless,
    };
    let cgroups = coracle_cgroups::plan(config, host, &cgroup_options);
    let cgroups = keep(cgroups, &mut errors).unwrap_or_default();
    errors.extend(not_delegated(&cgroups, host));
    let groups = groups.unwrap_or(Setgroups::Unknown);
    let process = coracle_process::plan(config, host, options, groups);
    let process = keep(process, &mut errors);
    let no_new_privileges = config.process.as_ref().is_some_and(|p| p.no_new_privileges);
    if let Some(Some(filter)) = keep(filter::plan(config, no_new_privileges), &mut errors) {
        keep(coracle_seccomp::check(&filter.program), &mut errors);
    }
    let context = rootfs_context(flags.change_root, &cgroups);
    if let Some(plan) = keep(coracle_rootfs::plan(bundle, host, &context), &mut errors) {
        keep(coracle_rootfs::open(&plan), &mut errors);
    }
    if let Some(requested) = network
        && let Some(plan) = keep(coracle_cni::plan(requested, options.id, host), &mut errors)
    {
        keep(coracle_cni::locate_all(&plan), &mut errors);
    }
    Examined {
        lacks: errors.into_iter().map(Lack::from).collect(),
        candidates: process.map_or_else(Vec::new, |plan| plan.candidates().collect()),
    }
}

fn keep<T, E: Into<Error>>(outcome: Result<T, E>, errors: &mut Vec<Error>) -> Option<T> {
    outcome.map_err(|error| errors.push(error.into())).ok()
}

/// A cgroup that the plan cannot do without, in a place where none can be made.
fn not_delegated(plan: &coracle_cgroups::Plan, host: &Host) -> Option<Error> {
    let place = host.delegation.as_ref()?;
    let coracle_cgroups::Driver::Files(files) = &plan.driver else {
        return None;
    };
    let (Denied::Fail { needed_by }, Some(errno)) = (&files.denied, place.refused) else {
        return None;
    };
    let directory = place.directory.clone();
    let error = match needed_by.clone() {
        Some(path) => coracle_cgroups::Error::Delegation {
            path,
            directory,
            errno,
        },
        None => coracle_cgroups::Error::Make {
            path: directory,
            errno,
        },
    };
    Some(error.into())
}

fn remedy(error: &Error) -> &'static str {
    use coracle_cgroups::Error as Cgroups;
    use coracle_namespaces::Error as Namespaces;
    use coracle_process::Error as Process;
    use coracle_rootfs::Error as Rootfs;
    use coracle_seccomp::Error as Seccomp;
    match error {
        Error::Namespaces(Namespaces::NeedsUserNamespace) => {
            "be root, or add a user namespace with mappings: coracle spec --rootless writes one"
        }
        Error::Namespaces(Namespaces::HelperMissing { .. }) => "install the package uidmap",
        Error::Namespaces(
            Namespaces::JoinBesideNewUser { .. } | Namespaces::DevicesWithoutPrivilege,
        ) => "be root",
        Error::Namespaces(
            Namespaces::OpenNamespace { .. }
            | Namespaces::NotNamespace { .. }
            | Namespaces::WrongType { .. },
        ) => "make the namespace, or leave the path out for a new one",
        Error::Namespaces(Namespaces::NoDevice { .. }) => "make the device, or leave it out",
        Error::Cgroups(Cgroups::NoSystemd) => "use --cgroup-manager cgroupfs",
        Error::Cgroups(Cgroups::Controller { .. }) => {
            "enable the controller (kernel command line: cgroup_enable=NAME), or drop the limit"
        }
        Error::Cgroups(Cgroups::Delegation { .. }) => {
            "delegate a cgroup: systemd-run --user --scope -p Delegate=yes COMMAND"
        }
        Error::Cgroups(Cgroups::Make { .. }) => {
            "mount cgroups writable, or use --cgroup-manager disabled"
        }
        Error::Process(Process::AppArmorDisabled { .. }) => {
            "boot with apparmor=1 security=apparmor, or leave the profile out"
        }
        Error::Process(Process::SelinuxDisabled { .. }) => {
            "boot with selinux=1 security=selinux, or leave the label out"
        }
        Error::Process(Process::NoLandlock { .. } | Process::LandlockRight { .. }) => {
            "boot a newer kernel, with landlock in lsm=, or leave it out of the rules"
        }
        Error::Rootfs(Rootfs::NoCgroups { .. }) => {
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup, or leave the mount out"
        }
        Error::Rootfs(Rootfs::Source { .. } | Rootfs::SourceKind { .. }) => {
            "make what is to be mounted, or correct its path"
        }
        Error::Rootfs(Rootfs::IdMapUnprivileged { .. }) => "be root, or leave the id map out",
        Error::Seccomp(Seccomp::UnsupportedFlag { .. } | Seccomp::UnsupportedAction { .. }) => {
            "boot a newer kernel, or leave it out of the profile"
        }
        Error::Network(_) => "install the plugins or configure the network: coracle network ls",
        _ => "change this property of config.json",
    }
}
