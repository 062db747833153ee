//! Configs for the planner's tests: JSON in, a plan's text out.

use super::plan;
use super::steps::{Keyring, Options, Plan};
use coracle_bundle::{Config, ContainerId};
use coracle_host::Host;
use coracle_host::Setgroups;
use std::path::Path;
use std::sync::LazyLock;

/// A config with all new namespaces but the user namespace, and these members in `process` and
/// `linux`.
pub(crate) fn config(process: &str, linux: &str) -> Config {
    let text = format!(
        r#"{{
            "ociVersion": "1.2.0",
            "root": {{"path": "rootfs"}},
            "hostname": "web1",
            "process": {{"cwd": "/", "args": ["sh"] {process}}},
            "linux": {{
                "namespaces": [
                    {{"type": "pid"}}, {{"type": "mount"}}, {{"type": "uts"}}, {{"type": "ipc"}},
                    {{"type": "network"}}
                ] {linux}
            }}
        }}"#
    );
    coracle_bundle::parse(Path::new("/bundle"), text.as_bytes()).expect("a valid config")
}

/// As [`config`], with a user namespace that maps the first thousand ids.
pub(crate) fn config_in_user_namespace(process: &str) -> Config {
    let mut config = config(process, "");
    let mapping = coracle_bundle::IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 1000,
    };
    config.linux.namespaces.user = coracle_bundle::Namespace::New;
    config.linux.id_mappings.uid = vec![mapping];
    config.linux.id_mappings.gid = vec![mapping];
    config
}

/// Options without anything from the command line.
pub(crate) fn options() -> Options<'static> {
    static ID: LazyLock<ContainerId> =
        LazyLock::new(|| ContainerId::parse("web1").expect("a valid id"));
    Options {
        id: &ID,
        keyring: Keyring::New,
        environment: Vec::new(),
        preserved_fds: Vec::new(),
    }
}

/// The steps and warnings of [`plan`], or its error.
pub(crate) fn planned(config: &Config, host: &Host, options: &Options) -> String {
    planned_with(config, host, options, Setgroups::Allowed)
}

/// As [`planned`], with this permission to set groups.
pub(crate) fn planned_with(
    config: &Config,
    host: &Host,
    options: &Options,
    groups: Setgroups,
) -> String {
    match plan(config, host, options, groups) {
        Ok(plan) => text(&plan),
        Err(error) => format!("error: {error}\n"),
    }
}

/// The warnings of a plan, then its steps.
pub(crate) fn text(plan: &Plan) -> String {
    let warnings = plan
        .warnings
        .iter()
        .map(|line| format!("warning: {line}\n"));
    let steps = (0..plan.steps()).map(|step| format!("{}\n", plan.describe(step)));
    warnings.chain(steps).collect()
}
