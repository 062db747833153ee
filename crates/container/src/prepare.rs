//! Prepares a creation: reads all that it needs, and makes the plan. Everything that can be refused
//! is refused here, before anything is touched.

use std::os::fd::OwnedFd;

use coracle_bundle::Bundle;
use coracle_cni::Requested;
use coracle_host::Needs;
use coracle_launch::Plan;

use crate::error::Error;
use crate::network::{self, Choice};
use crate::networks;
use crate::notify;
use crate::options::{Attachment, CreateOptions, UserNamespace};
use crate::outputs;
use crate::store::Store;
use crate::user_namespace;

/// A planned creation.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) options: &'a CreateOptions,
    pub(crate) bundle: Bundle,
    pub(crate) plan: Plan,
    /// Whether the caller waits for notifications of the service (sd_notify(3)).
    pub(crate) notify: bool,
    /// The network namespace of another container that init joins, if one is requested.
    pub(crate) joined: Option<OwnedFd>,
}

/// What a creation is planned from, besides the facts of the machine.
#[derive(Debug)]
pub(crate) struct Gathered<'a> {
    pub(crate) bundle: Bundle,
    /// The networks that are requested, with what is configured.
    pub(crate) wanted: Option<Requested>,
    /// The options of the container's process.
    pub(crate) options: coracle_launch::Options<'a>,
    joined: Option<OwnedFd>,
    notify: bool,
}

impl Gathered<'_> {
    /// The facts of the machine that the plan needs.
    pub(crate) fn needs(&self, options: &CreateOptions) -> Needs {
        let config = &self.bundle.config;
        let manager = options.launch.cgroup_manager;
        coracle_launch::needs(config, config.process.as_ref(), manager)
    }
}

/// Reads the bundle and the host's facts, and plans.
///
/// # Errors
/// [`Error`] naming the property or the flag that cannot be served.
pub(crate) fn prepare<'a>(
    store: &Store,
    options: &'a CreateOptions,
    attachment: Attachment,
) -> Result<Prepared<'a>, Error> {
    let gathered = gather(store, options, attachment)?;
    let progress = store.progress();
    let host = coracle_host::probe(gathered.needs(options))?;
    let wanted = gathered.wanted.as_ref();
    let plan = coracle_launch::plan(
        &gathered.bundle,
        &host,
        &gathered.options,
        options.launch,
        wanted,
    )?;
    coracle_launch::check(&plan)?;
    networks::check_requested(store, &options.id, plan.network.as_ref())?;
    progress.planned(&plan);
    Ok(Prepared {
        options,
        bundle: gathered.bundle,
        plan,
        notify: gathered.notify,
        joined: gathered.joined,
    })
}

/// Reads the bundle, the networks that are requested and the caller's environment.
///
/// # Errors
/// [`Error`] naming the property or the flag that cannot be served.
pub(crate) fn gather<'a>(
    store: &Store,
    options: &'a CreateOptions,
    attachment: Attachment,
) -> Result<Gathered<'a>, Error> {
    let mut bundle = coracle_bundle::load(&options.bundle, options.config.as_deref())?;
    if options.user_namespace == UserNamespace::Auto {
        user_namespace::add(&mut bundle)?;
    }
    let process = bundle.config.process.as_ref();
    let terminal = process.is_some_and(|process| process.terminal);
    outputs::check_terminal(terminal, attachment, &options.outputs.console_socket)?;
    let progress = store.progress();
    match &options.config {
        Some(file) => progress.done(format_args!("read {}", file.display())),
        None => progress.done(format_args!("read {}/config.json", bundle.dir.display())),
    }
    let flags = (&options.network, &options.search);
    let join = |id: &_| network::join(store, id);
    let Choice { wanted, joined } = network::choose(&mut bundle.config, flags, join)?;
    let directory = store.root().join(options.id.as_ref());
    if wanted.as_ref().is_some_and(|wanted| wanted.networks.files) {
        network::add_mounts(&mut bundle.config, &directory)?;
    }
    let listen_fds = notify::listen_fds();
    let preserved_fds = outputs::preserved(listen_fds, options.preserve_fds)?;
    let mut environment = notify::listen_environment(listen_fds);
    let notify = notify::is_awaited() && bundle.config.process.is_some();
    if notify {
        let config = &mut bundle.config;
        config.add_bind(directory.join("notify"), notify::DIRECTORY.into())?;
        environment.push(notify::ENVIRONMENT.to_owned());
    }
    Ok(Gathered {
        bundle,
        wanted,
        options: coracle_launch::Options {
            id: &options.id,
            keyring: options.keyring,
            environment,
            preserved_fds,
        },
        joined,
        notify,
    })
}
