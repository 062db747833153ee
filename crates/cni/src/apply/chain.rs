//! The operations: each calls the plugins of a list one after the other.

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

/// The container that is attached.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// Its id.
    pub id: &'a str,
    /// Path of its network namespace; `None` when that is gone.
    pub namespace: Option<&'a Path>,
    /// What ends a plugin besides the network's own time limit.
    pub limits: Limits<'a>,
}

/// Attaches: ADD of each plugin in order, each with the result of the one before. Returns the
/// last result. CNI SPEC § Section 3.
///
/// # Errors
/// The first plugin that failed. What it and those before it made is there until [`del`].
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

/// How long a plugin waits for its second try: what another one changes at this moment (the rules
/// of a firewall, say) is locked for no longer.
const PAUSE: Duration = Duration::from_millis(200);

/// Takes an attachment back: DEL of each plugin in reverse order, a second time where it fails.
/// What is gone already is no failure to a plugin, so this can be repeated.
///
/// # Errors
/// The first plugin that failed twice; the others are called all the same.
pub fn del(plan: &Plan, attachment: &Attachment, container: &Container) -> Result<(), Error> {
    let runner = Runner::of(plan, &attachment.network, container);
    let mut failed = Ok(());
    for plugin in attachment.network.plugins.iter().rev() {
        let arguments = runner.arguments(attachment, container);
        let previous = attachment.result.as_ref();
        let call = attachment.call(Verb::Del, plugin, previous, &arguments);
        let done = match runner.run(Verb::Del, plugin, &call) {
            Err(error) if error.may_pass() => {
                std::thread::sleep(PAUSE);
                runner.run(Verb::Del, plugin, &call)
            }
            done => done,
        };
        failed = failed.and(done.map(drop));
    }
    failed
}

/// Looks whether an attachment is as ADD left it: CHECK of each plugin in order.
///
/// # Errors
/// The first plugin that misses something; [`Error::Refused`] where the network disables it.
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

/// Whether [`gc`] means anything to the network's plugins.
#[must_use]
pub fn knows_gc(network: &NetworkList) -> bool {
    network.version >= Version::V1_1 && !network.disable_gc
}

/// Has plugins take back whatever belongs to none of `valid`, pairs of container and interface: GC
/// of each plugin. Only where [`knows_gc`].
///
/// # Errors
/// The first plugin that failed; the others are called all the same.
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

/// STATUS of the network's plugins: whether ADD could be served. There is none before 1.1.0.
///
/// # Errors
/// The first plugin that could not.
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

/// The versions of the specification that a plugin speaks.
///
/// # Errors
/// It cannot be found, fails, or prints something else.
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

    /// Runs a plugin for a call that is about no container.
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
