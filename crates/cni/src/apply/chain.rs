//! The operations of CNI: each runs the plugins of a list in order.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use coracle_program::Limits;
use serde_json::{Map, Value, json};

use super::find::locate;
use super::run::run;
use crate::error::{Error, Failure};
use crate::plan::call::{Arguments, Call, call};
use crate::plan::{Attachment, NetworkList, Plan, Plugin, Search, Verb, Version, answer};

/// The container of an attachment.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// Its id.
    pub id: &'a str,
    /// Path of its network namespace; `None` if that no longer exists.
    pub namespace: Option<&'a Path>,
    /// What ends a plugin early, besides the network's time limit.
    pub limits: Limits<'a>,
}

/// Attaches the container: runs ADD of each plugin in order, with the result of the one before, and
/// returns the last result. CNI SPEC § Section 3.
///
/// # Errors
/// The first plugin that failed. Call [`del`] then, since it and those before it may have made
/// something.
pub fn add(plan: &Plan, attachment: &Attachment, container: &Container) -> Result<Value, Error> {
    let runner = Runner::of(plan, &attachment.network, container);
    let mut previous = None;
    for plugin in &attachment.network.plugins {
        let arguments = runner.arguments(attachment, container);
        let call = attachment.call(Verb::Add, plugin, previous.as_ref(), &arguments);
        let printed = runner.run(Verb::Add, plugin, &call)?;
        let result = answer::result(&printed, attachment.network.version);
        previous = Some(result.map_err(|failure| runner.failed(Verb::Add, plugin, failure))?);
    }
    Ok(previous.unwrap_or_default())
}

/// The pause before a second try. A plugin may fail because another one holds a lock, such as that
/// of the firewall's rules, but not for longer.
const PAUSE: Duration = Duration::from_millis(200);

/// Undoes an attachment: runs DEL of each plugin in reverse order, and once more if it fails. CNI
/// requires that DEL succeeds if there is nothing left to undo, so this can be repeated.
///
/// # Errors
/// The first plugin that failed twice; the others are run all the same.
pub fn del(plan: &Plan, attachment: &Attachment, container: &Container) -> Result<(), Error> {
    let runner = Runner::of(plan, &attachment.network, container);
    let mut failed = Ok(());
    for plugin in attachment.network.plugins.iter().rev() {
        let arguments = runner.arguments(attachment, container);
        let previous = attachment.result.as_ref();
        let call = attachment.call(Verb::Del, plugin, previous, &arguments);
        let done = match runner.run(Verb::Del, plugin, &call) {
            Err(error) if error.is_worth_retry() => {
                std::thread::sleep(PAUSE);
                runner.run(Verb::Del, plugin, &call)
            }
            done => done,
        };
        failed = failed.and(done.map(drop));
    }
    failed
}

/// Checks that an attachment still is as ADD made it: runs CHECK of each plugin in order.
///
/// # Errors
/// The first plugin that reports a difference; [`Error::Refused`] if the network disables CHECK.
pub fn check(plan: &Plan, attachment: &Attachment, container: &Container) -> Result<(), Error> {
    let network = &attachment.network;
    if network.disable_check {
        return Err(Error::Refused {
            network: network.name.clone(),
            problem: "its configuration says disableCheck",
        });
    }
    let runner = Runner::of(plan, network, container);
    for plugin in &network.plugins {
        let arguments = runner.arguments(attachment, container);
        let previous = attachment.result.as_ref();
        let call = attachment.call(Verb::Check, plugin, previous, &arguments);
        runner.run(Verb::Check, plugin, &call)?;
    }
    Ok(())
}

/// Whether the network's plugins support [`gc`].
#[must_use]
pub fn knows_gc(network: &NetworkList) -> bool {
    network.version >= Version::V1_1 && !network.disable_gc
}

/// Runs GC of each plugin, which removes everything that belongs to none of the `valid` pairs of
/// container and interface. Requires [`knows_gc`].
///
/// # Errors
/// The first plugin that failed; the others are run all the same.
pub fn gc(network: &NetworkList, valid: &[(String, String)], search: &Search) -> Result<(), Error> {
    let valid: Vec<Value> = valid
        .iter()
        .map(|(id, interface)| json!({"containerID": id, "ifname": interface}))
        .collect();
    let runner = Runner::without_container(network, search);
    let mut failed = Ok(());
    for plugin in &network.plugins {
        let mut extra = Map::new();
        let valid = Value::Array(valid.clone());
        extra.insert("cni.dev/valid-attachments".to_owned(), valid);
        let done = runner
            .run_without_container(Verb::Gc, plugin, extra)
            .map(drop);
        failed = failed.and(done);
    }
    failed
}

/// Runs STATUS of the network's plugins: whether they are ready for ADD. Before CNI 1.1.0 there is
/// no STATUS, and this succeeds.
///
/// # Errors
/// The first plugin that is not ready.
pub fn status(network: &NetworkList, search: &Search) -> Result<(), Error> {
    if network.version < Version::V1_1 {
        return Ok(());
    }
    let runner = Runner::without_container(network, search);
    let mut plugins = network.plugins.iter();
    plugins.try_for_each(|plugin| {
        runner
            .run_without_container(Verb::Status, plugin, Map::new())
            .map(drop)
    })
}

/// The versions of the specification that a plugin supports.
///
/// # Errors
/// The plugin cannot be found, fails, or prints no list of versions.
pub fn versions(
    network: &NetworkList,
    plugin: &Plugin,
    search: &Search,
) -> Result<Vec<String>, Error> {
    let runner = Runner::without_container(network, search);
    let printed = runner.run_without_container(Verb::Version, plugin, Map::new())?;
    answer::versions(&printed).map_err(|failure| runner.failed(Verb::Version, plugin, failure))
}

/// Runs plugins of one network.
struct Runner<'a> {
    network: &'a NetworkList,
    search: &'a Search,
    limits: Limits<'a>,
    unprivileged: bool,
}

impl<'a> Runner<'a> {
    fn of(plan: &'a Plan, network: &'a NetworkList, container: &Container<'a>) -> Self {
        let mut runner = Self::without_container(network, &plan.search);
        runner.limits = Limits {
            timeout: runner.limits.timeout,
            ..container.limits
        };
        runner.unprivileged = plan.unprivileged;
        runner
    }

    fn without_container(network: &'a NetworkList, search: &'a Search) -> Self {
        Self {
            network,
            search,
            limits: Limits {
                timeout: Some(Duration::from_secs(search.timeout_s.into())),
                ..Limits::default()
            },
            unprivileged: false,
        }
    }

    fn arguments<'b>(
        &'b self,
        attachment: &'b Attachment,
        container: &Container<'b>,
    ) -> Arguments<'b> {
        Arguments {
            id: container.id,
            namespace: container.namespace,
            interface: &attachment.interface,
            bin_dirs: &self.search.bin_dirs,
        }
    }

    /// Runs a plugin for an operation without a container.
    fn run_without_container(
        &self,
        verb: Verb,
        plugin: &Plugin,
        extra: Map<String, Value>,
    ) -> Result<Vec<u8>, Error> {
        let arguments = Arguments {
            bin_dirs: &self.search.bin_dirs,
            ..Arguments::default()
        };
        let call = call(verb, (self.network, plugin), extra, &arguments);
        self.run(verb, plugin, &call)
    }

    fn run(&self, verb: Verb, plugin: &Plugin, call: &Call) -> Result<Vec<u8>, Error> {
        let path = locate(&self.network.name, plugin, self.search)?;
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::Missing {
            network: self.network.name.clone(),
            plugin: plugin.kind().to_owned(),
            dirs: self.search.bin_dirs.clone(),
        })?;
        let _wait = coracle_sys::wait_for(&format!("network plugin {}", plugin.kind()));
        run(&path, call, &self.limits).map_err(|failure| self.failed(verb, plugin, failure))
    }

    fn failed(&self, verb: Verb, plugin: &Plugin, failure: Failure) -> Error {
        Error::Plugin {
            network: self.network.name.clone(),
            plugin: plugin.kind().to_owned(),
            verb,
            failure,
            unprivileged: self.unprivileged,
        }
    }
}
