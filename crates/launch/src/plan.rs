//! The plan of one launch: the subsystems' plans side by side.

use std::ffi::CStr;

use coracle_bundle::{Bundle, Config, HookPoint, Process};
use coracle_cgroups::{Manager, Rootless};
use coracle_host::{Host, Needs, Setgroups};
use coracle_rootfs::{CgroupDirectory, Context};

use crate::error::Error;
use crate::filter::{self, Filter};

/// How the root file system becomes the root.
pub use coracle_rootfs::ChangeRoot;

/// The options of a process, be it the container's first or one of `exec`.
pub use coracle_process::{Keyring, Options};

/// The flags of a creation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    /// Who manages the cgroup.
    pub cgroup_manager: Manager,
    /// Whether missing permissions on cgroups are tolerated.
    pub rootless: Rootless,
    /// How the root is changed.
    pub change_root: ChangeRoot,
}

/// Everything that a launch will do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Namespaces, id maps, network devices.
    pub namespaces: coracle_namespaces::Plan,
    /// The cgroup; `None` for `exec`, which joins one that exists.
    pub cgroups: Option<coracle_cgroups::Plan>,
    /// The root file system; `None` for `exec`.
    pub rootfs: Option<coracle_rootfs::Plan>,
    /// The process.
    pub process: coracle_process::Plan,
    /// The filter of its system calls, if it has one.
    pub filter: Option<Filter>,
    /// The hooks of all six points; empty for `exec`.
    pub hooks: coracle_hooks::Plan,
    /// The networks, if any are requested.
    pub network: Option<coracle_cni::Plan>,
    /// What the user should know though it is no error, one line each.
    pub warnings: Vec<String>,
}

/// The facts of the machine that planning this process in this config needs, with this manager of
/// its cgroup.
#[must_use]
pub fn needs(config: &Config, process: Option<&Process>, manager: Manager) -> Needs {
    coracle_cgroups::needs(config, manager)
        | coracle_namespaces::needs(&config.linux)
        | coracle_rootfs::needs(config)
        | coracle_process::needs(config, process)
}

/// Plans the creation of a container. Its new network namespace is attached to the requested
/// networks. Pure.
///
/// # Errors
/// [`Error`] naming the property that cannot be served.
pub fn plan(
    bundle: &Bundle,
    host: &Host,
    options: &Options,
    flags: Flags,
    network: Option<&coracle_cni::Requested>,
) -> Result<Plan, Error> {
    let config = &bundle.config;
    let namespaces = with_groups(config, coracle_namespaces::plan(&config.linux, host)?);
    let cgroup_options = coracle_cgroups::Options {
        id: options.id.as_ref(),
        manager: flags.cgroup_manager,
        rootless: flags.rootless,
    };
    let cgroups = coracle_cgroups::plan(config, host, &cgroup_options)?;
    let groups = setgroups(&namespaces, host);
    let process = coracle_process::plan(config, host, options, groups)?;
    let no_new_privileges = config.process.as_ref().is_some_and(|p| p.no_new_privileges);
    let filter = filter::plan(config, no_new_privileges)?;
    let context = rootfs_context(flags.change_root, &cgroups);
    let rootfs = coracle_rootfs::plan(bundle, host, &context)?;
    let environment: Vec<_> = process.environment().map(CStr::to_owned).collect();
    let hooks = coracle_hooks::plan(&config.hooks, config.hook_files(), &environment);
    let network = network.map(|wanted| coracle_cni::plan(wanted, options.id, host));
    let warnings = [
        &config.warnings[..],
        &process.warnings,
        &cgroups.warnings,
        notes(&filter),
    ]
    .concat();
    Ok(Plan {
        namespaces,
        cgroups: Some(cgroups),
        rootfs: Some(rootfs),
        process,
        filter,
        hooks,
        network: network.transpose()?,
        warnings,
    })
}

/// The facts that [`plan_exec`] needs for a process beside this init.
#[must_use]
pub fn needs_exec(process: &Process, config: &Config, init: i32) -> Needs {
    Needs {
        compared: Some((init, coracle_namespaces::compared(&config.linux.namespaces))),
        ..coracle_process::needs(config, Some(process))
    }
}

/// Plans the execution of one more process in a running container.
///
/// `config` is the container's stored config; the host's facts are those of [`needs_exec`].
///
/// # Errors
/// [`Error`] naming the property that cannot be served.
pub fn plan_exec(
    process: &Process,
    config: &Config,
    host: &Host,
    options: &Options,
) -> Result<Plan, Error> {
    let joined = coracle_namespaces::joined(&config.linux.namespaces, host);
    let namespaces = with_groups(config, coracle_namespaces::plan_exec(joined, host));
    let groups = setgroups(&namespaces, host);
    let filter = filter::plan(config, process.no_new_privileges)?;
    let process = coracle_process::plan_exec(process, config, host, options, groups)?;
    let warnings = [&process.warnings, notes(&filter)].concat();
    Ok(Plan {
        namespaces,
        cgroups: None,
        rootfs: None,
        process,
        filter,
        hooks: coracle_hooks::Plan::default(),
        network: None,
        warnings,
    })
}

/// Checks that the running kernel supports the plan's seccomp filter, before anything is made.
///
/// # Errors
/// [`Error::Seccomp`] naming the flag or action that the kernel does not have.
pub fn check(plan: &Plan) -> Result<(), Error> {
    match &plan.filter {
        Some(filter) => Ok(coracle_seccomp::check(&filter.program)?),
        None => Ok(()),
    }
}

pub(crate) fn with_groups(
    config: &Config,
    plan: coracle_namespaces::Plan,
) -> coracle_namespaces::Plan {
    match config.keeps_groups() {
        true => plan.keeping_groups(),
        false => plan,
    }
}

/// Warnings about parts of the seccomp profile that have no effect on this machine.
fn notes(filter: &Option<Filter>) -> &[String] {
    filter
        .as_ref()
        .map_or(&[], |filter| &filter.program.notes[..])
}

/// What the root filesystem's plan depends on: how the root is changed, and where the container's
/// cgroups are, which a mount of type `cgroup` shows.
pub(crate) fn rootfs_context(change_root: ChangeRoot, cgroups: &coracle_cgroups::Plan) -> Context {
    let files = cgroups.driver.files();
    let hierarchies = files.map_or(&[][..], |files| &files.hierarchies);
    let directories = hierarchies.iter().map(|hierarchy| CgroupDirectory {
        mount: hierarchy.mount.clone(),
        directory: hierarchy.mount.join(&hierarchy.path),
    });
    let unified = files.and_then(|files| files.unified.as_ref());
    Context {
        change_root,
        cgroup_directories: directories.collect(),
        unified_directory: unified.map(|tree| tree.mount.join(&tree.path)),
    }
}

/// Whether the kernel will allow setgroups(2) in the process's user namespace. A new namespace
/// inherits the setting of the runtime's; that of a joined one is not known (user_namespaces(7)).
pub(crate) fn setgroups(namespaces: &coracle_namespaces::Plan, host: &Host) -> Setgroups {
    let maps = namespaces.maps.as_ref().map(|maps| maps.setgroups);
    if [Some(host.setgroups), maps].contains(&Some(Setgroups::Denied)) {
        Setgroups::Denied
    } else if namespaces.joins_user_namespace() {
        Setgroups::Unknown
    } else {
        Setgroups::Allowed
    }
}

impl Plan {
    /// Whether any hook runs during `create`. Init then waits once the mounts are attached, and
    /// poststop hooks run even if the creation fails.
    ///
    /// Init also waits before hooks that it runs itself: if it dies before it waits, the runtime
    /// knows that no hook has run.
    #[must_use]
    pub fn stops_for_hooks(&self) -> bool {
        let any = |point| !self.hooks.at(point).is_empty();
        any(HookPoint::Prestart) || any(HookPoint::CreateRuntime) || any(HookPoint::CreateContainer)
    }

    /// Whether init runs hooks itself.
    #[must_use]
    pub fn hooks_in_init(&self) -> bool {
        let any = |point| !self.hooks.at(point).is_empty();
        any(HookPoint::CreateContainer) || any(HookPoint::StartContainer)
    }

    /// The lowest descriptor from `first` on that the process gets. Heap-free.
    pub(crate) fn least_preserved(&self, first: u32) -> Option<u32> {
        let mut numbers = self.process.preserved_fds.iter().copied();
        numbers.find(|number| *number >= first)
    }
}
