//! `check`: whether this host and this caller can have containers, and what a bundle lacks here.
//! Facts are gathered in this file; what they mean is decided in `host`. Nothing is changed.

mod bundle;
mod finding;
mod host;
mod program;

use coracle_host::{Host, Needs};
use coracle_sys::NamespaceKind;

use crate::checkpoint::criu;
use crate::error::Error;
use crate::networks::check_ports;
use crate::options::CreateOptions;
use crate::prepare::gather;
use crate::store::Store;
pub use finding::{Finding, Level, Report};
use host::Facts;

/// Judges this host for containers in general.
///
/// # Errors
/// [`Error::Host`] when a fact that every kernel has could not be read.
pub fn check_host(options: &CreateOptions) -> Result<Report, Error> {
    let facts = facts(options, Needs::default())?;
    Ok(Report::of(facts.map_or_else(
        |finding| vec![finding],
        |facts| host::judge(&facts),
    )))
}

/// Judges this host for a bundle with the flags of `create`.
///
/// # Errors
/// As `create` refuses what would be wrong on every host.
pub fn check_bundle(store: &Store, options: &CreateOptions) -> Result<Report, Error> {
    let mut gathered = gather(store, options, options.attachment())?;
    // What `create` would mount from the container's directory, which is not there.
    let own = store.root().join(options.id.as_ref());
    let mounts = &mut gathered.bundle.config.mounts;
    mounts.retain(|mount| mount.bind().is_none_or(|(path, _)| !path.starts_with(&own)));
    let facts = match facts(options, gathered.needs(options))? {
        Ok(facts) => facts,
        Err(finding) => return Ok(Report::of(vec![finding])),
    };
    let examined = coracle_launch::examine(
        &gathered.bundle,
        &facts.host,
        &gathered.options,
        options.launch,
        gathered.wanted.as_ref(),
    );
    let mut findings = host::judge(&facts);
    let network = examined.network.as_ref();
    let ports = network.map(|plan| check_ports(store, &options.id, plan));
    findings.extend(ports.and_then(Result::err).map(bundle::port_taken));
    findings.extend(bundle::judge(&gathered.bundle, &facts.host, examined));
    Ok(Report::of(findings))
}

/// The facts, or what keeps every container from this machine.
fn facts(options: &CreateOptions, needs: Needs) -> Result<Result<Facts, Finding>, Error> {
    let needs = needs
        | Needs {
            cgroups: true,
            id_maps: true,
            apparmor: true,
            selinux: true,
            systemd: true,
            refusals: true,
            file_systems: true,
            ..Needs::default()
        };
    let (host, systemd_problem) = match probe(needs) {
        Ok(probed) => probed,
        Err(error) => return host::unusable(error).map(Err).map_err(Error::from),
    };
    let kinds = NamespaceKind::ALL;
    Ok(Ok(Facts {
        namespaces: kinds.map(|kind| (kind, coracle_launch::attempt_namespace(kind, &host))),
        host,
        systemd_problem,
        manager: options.launch.cgroup_manager,
        seccomp: coracle_seccomp::supported_flags().ok(),
        networks: networks(options),
        criu: criu().map(|(version, _)| version),
        is_protected: coracle_launch::is_protected().is_ok_and(|is_protected| is_protected),
    }))
}

/// A systemd that runs and does not answer is a finding, and all the rest is of interest still.
fn probe(needs: Needs) -> Result<(Host, Option<coracle_host::Error>), coracle_host::Error> {
    match coracle_host::probe(needs.clone()) {
        Err(problem @ coracle_host::Error::Systemd { .. }) => {
            let mut host = coracle_host::probe(Needs {
                systemd: false,
                ..needs
            })?;
            host.systemd = None.into();
            Ok((host, Some(problem)))
        }
        outcome => outcome.map(|host| (host, None)),
    }
}

/// The names of the configured networks, and a line for each thing that is wrong with them.
fn networks(options: &CreateOptions) -> (Vec<String>, Vec<String>) {
    let search = &options.search;
    let configured = match coracle_cni::read(&search.conf_dir) {
        Ok(configured) => configured,
        Err(error) => return (Vec::new(), vec![error.to_string()]),
    };
    let mut problems = configured.broken;
    let mut names = Vec::new();
    for (_, list) in &configured.lists {
        names.push(list.name.clone());
        let missing = list
            .plugins
            .iter()
            .filter_map(|plugin| coracle_cni::locate(&list.name, plugin, search).err());
        problems.extend(missing.map(|error| error.to_string()));
    }
    (names, problems)
}
