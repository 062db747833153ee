//! Everything that keeps this machine from running a bundle; [`crate::plan`] stops at the first.

use std::path::PathBuf;

use coracle_bundle::Bundle;
use coracle_cgroups::Denied;
use coracle_host::{Host, Setgroups};

use crate::error::Error;
use crate::filter;
use crate::plan::{Flags, Options, rootfs_context, setgroups, with_groups};

/// What came of looking at a bundle.
#[derive(Debug, Default)]
pub struct Examined {
    /// All that is lacking, as far as it was found.
    pub lacks: Vec<Error>,
    /// Where the process's program may be, below the root; none without a process, or where no plan
    /// could be made for it.
    pub candidates: Vec<PathBuf>,
    /// The plan of the networks that are requested, if one could be made.
    pub network: Option<coracle_cni::Plan>,
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
        keep(coracle_namespaces::open(plan, None), &mut errors);
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
    let network = network.map(|requested| coracle_cni::plan(requested, options.id, host));
    let network = network.and_then(|plan| keep(plan, &mut errors));
    if let Some(plan) = &network {
        keep(coracle_cni::locate_all(plan), &mut errors);
    }
    Examined {
        lacks: errors,
        network,
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
