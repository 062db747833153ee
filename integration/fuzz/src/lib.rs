//! Fuzz targets: parsers of input from outside, as functions of bytes. libFuzzer calls them with
//! new inputs, and a test with the corpus. A panic is a fault.

use std::collections::BTreeMap;
use std::path::Path;

use coracle_bundle::{Bundle, Config, ContainerId};
use coracle_cgroups::Manager;
use coracle_host::fixture;
use coracle_launch::{Flags, Keyring, Message, Options, Plan};
use serde_json::{Value, json};

/// A name, and what is done with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. The corpus has a folder for each.
pub const TARGETS: [Target; 19] = [
    ("config", config),
    ("process", process),
    ("resources", resources),
    ("seccomp", seccomp),
    ("mount-options", mount_options),
    ("cgroups-path", cgroups_path),
    ("sysctl", sysctl),
    ("devices", devices),
    ("message", message),
    ("record", coracle_container::fuzzing::record),
    ("notification", coracle_container::fuzzing::notification),
    ("bus", coracle_dbus::fuzzing::message),
    ("network", coracle_cni::fuzzing::configuration),
    ("plugin", coracle_cni::fuzzing::printed),
    ("criu", coracle_checkpoint::fuzzing::answer),
    ("image", coracle_checkpoint::fuzzing::image),
    ("log", coracle_checkpoint::fuzzing::log),
    ("netlink", coracle_namespaces::fuzzing::answers),
    ("passwd", coracle_process::fuzzing::find_home),
];

/// A config.json: refused by a line that names it, or planned for every kind of machine.
pub fn config(bytes: &[u8]) {
    match coracle_bundle::parse(Path::new("/b"), bytes) {
        Ok(config) => plan(config),
        Err(error) => is_a_line(&error.to_string()),
    }
}

/// The file of `exec --process`.
pub fn process(bytes: &[u8]) {
    match coracle_bundle::parse_process(bytes) {
        Ok((process, _)) => {
            let Some(config) = parse(&base()) else { return };
            let needs = coracle_launch::needs_exec(&process, &config, 1);
            let host = fixture::only(fixture::v2(), &needs);
            let planned = coracle_launch::plan_exec(&process, &config, &host, &options(&id()));
            shown(planned);
        }
        Err(error) => is_a_line(&error.to_string()),
    }
}

/// The file of `update --resources`.
pub fn resources(bytes: &[u8]) {
    let tree = coracle_bundle::tree(coracle_bundle::Document::Resources, bytes);
    if let Err(error) = tree.and_then(|tree| coracle_bundle::parse_resources(&tree)) {
        is_a_line(&error.to_string());
    }
}

/// The value of `linux.seccomp`.
pub fn seccomp(bytes: &[u8]) {
    with("/linux/seccomp", json_of(bytes));
}

/// The options of a bind and of a tmpfs, between commas.
pub fn mount_options(bytes: &[u8]) {
    let options: Vec<&str> = text_of(bytes).split(',').collect();
    with("/mounts/0/options", json!(options));
    with("/mounts/1/options", json!(options));
}

/// The value of `linux.cgroupsPath`: a path, or `SLICE:PREFIX:NAME`.
pub fn cgroups_path(bytes: &[u8]) {
    with("/linux/cgroupsPath", json!(text_of(bytes)));
}

/// Lines of `KEY=VALUE`.
pub fn sysctl(bytes: &[u8]) {
    let pairs = text_of(bytes)
        .lines()
        .filter_map(|line| line.split_once('='));
    let table: BTreeMap<_, _> = pairs.collect();
    with("/linux/sysctl", json!(table));
}

/// The value of `linux.resources.devices`.
pub fn devices(bytes: &[u8]) {
    with("/linux/resources/devices", json_of(bytes));
}

/// A message between the runtime and init: what is understood is written as it came.
pub fn message(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk() else {
        return;
    };
    if let Some(message) = Message::decode(bytes) {
        assert_eq!(Message::decode(&message.encode()), Some(message));
    }
}

/// A bundle that every machine can run, with a place for each of the values above.
fn base() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "mounts": [
            {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": []},
            {"destination": "/proc", "type": "proc", "source": "proc"}
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "network"}, {"type": "ipc"},
                {"type": "uts"}, {"type": "cgroup"}
            ],
            "resources": {}
        }
    })
}

/// The base with this value in its place.
fn with(pointer: &str, value: Value) {
    let mut tree = base();
    let (above, name) = pointer.rsplit_once('/').unwrap_or_default();
    if let Some(object) = tree.pointer_mut(above).and_then(Value::as_object_mut) {
        object.insert(name.to_owned(), value);
    }
    config(tree.to_string().as_bytes());
}

fn parse(tree: &Value) -> Option<Config> {
    coracle_bundle::parse(Path::new("/b"), tree.to_string().as_bytes()).ok()
}

/// Plans the config on all machines, by both managers, from the facts that it needs and no others.
fn plan(config: Config) {
    let bundle = Bundle {
        dir: "/b".into(),
        raw: Vec::new(),
        config,
    };
    for host in [
        fixture::v1(),
        fixture::hybrid(),
        fixture::v2(),
        fixture::unprivileged(),
    ] {
        for manager in [Manager::Cgroupfs, Manager::Systemd] {
            let flags = Flags {
                cgroup_manager: manager,
                ..Flags::default()
            };
            let process = bundle.config.process.as_ref();
            let needs = coracle_launch::needs(&bundle.config, process, manager);
            let host = fixture::only(fixture::with_systemd(host.clone()), &needs);
            let planned = coracle_launch::plan(&bundle, &host, &options(&id()), flags, None);
            shown(planned);
        }
    }
}

/// Every plan and every error can be formatted. The code that prints them escapes them.
fn shown(planned: Result<Plan, coracle_launch::Error>) {
    match planned {
        Ok(plan) => drop(plan.stages()),
        Err(error) => drop(error.to_string()),
    }
}

fn id() -> ContainerId {
    ContainerId::parse("fuzzed").unwrap_or_else(|_| unreachable!("a valid id"))
}

fn options(id: &ContainerId) -> Options<'_> {
    Options {
        id,
        keyring: Keyring::New,
        environment: Vec::new(),
        preserved_fds: Vec::new(),
    }
}

/// A line can neither forge another line of a log nor control a terminal.
fn is_a_line(text: &str) {
    assert!(
        !text.is_empty() && !text.contains(char::is_control),
        "{text:?}"
    );
}

fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}
