//! Plans devices and links in /dev: config-linux.md § Devices, § Default Devices.

use super::planner::{Planner, c_string};
use super::steps::{
    Change, Device, HowMade, Link, LinkRule, Node, Source, SourceBy, SourceCheck, Spare, Step,
};
use coracle_bundle::{
    Device as Requested, DeviceKind, IdMapping, Mount, MountKind, PropagationKind,
};
use coracle_host::KernelVersion;
use coracle_sys::{Capability, mount_attribute};
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

/// runtime-linux.md § Dev symbolic links, made if procfs is mounted. `core` is not in the
/// specification, but other runtimes make it.
const LINKS: [Link; 5] = [
    link(c"fd", c"/proc/self/fd", LinkRule::Keep),
    link(c"stdin", c"/proc/self/fd/0", LinkRule::Keep),
    link(c"stdout", c"/proc/self/fd/1", LinkRule::Keep),
    link(c"stderr", c"/proc/self/fd/2", LinkRule::Keep),
    link(c"core", c"/proc/kcore", LinkRule::IfThere(c"/proc/kcore")),
];

const PTMX: Link = link(c"ptmx", c"pts/ptmx", LinkRule::Replace);

const fn link(name: &'static CStr, target: &'static CStr, rule: LinkRule) -> Link {
    Link { name, target, rule }
}

pub(super) fn plan(planner: &mut Planner) {
    if !are_made(planner) {
        return;
    }
    for (at, device) in devices(planner) {
        let step = device_step(planner, at.clone(), &device);
        planner.push(at, step);
    }
    let has_procfs = planner.proc.is_some();
    let with_procfs = LINKS.iter().filter(|_| has_procfs);
    for link in with_procfs.chain([&PTMX]).copied() {
        planner.push("", Step::Link(link));
    }
}

/// The config's devices and nothing else, for a running container.
pub(super) fn plan_requested(planner: &mut Planner) {
    for (index, device) in planner.config.linux.devices.iter().enumerate() {
        let at = format!("config.json: linux.devices[{index}]");
        let step = device_step(planner, at.clone(), device);
        planner.push(at, step);
    }
}

/// The devices and links that are made in the root.
pub(super) fn places(planner: &Planner) -> Vec<PathBuf> {
    if !are_made(planner) {
        return Vec::new();
    }
    devices(planner)
        .into_iter()
        .map(|(_, device)| device.path)
        .collect()
}

/// Whether devices are made at all: not in the host's /dev, if that is the container's, and not in
/// the host's own root.
fn are_made(planner: &Planner) -> bool {
    let bound = |mount: &Mount| {
        let is_bind = matches!(
            mount.kind,
            MountKind::Bind { .. } | MountKind::Remount { bind: true }
        );
        is_bind && mount.destination.path() == Path::new("/dev")
    };
    let own_root = planner
        .plan
        .root
        .as_ref()
        .is_some_and(|root| root.source.is_some());
    own_root && !planner.config.mounts.iter().any(bound)
}

/// The default devices that the config does not define itself, followed by those of the config.
fn devices(planner: &Planner) -> Vec<(String, Requested)> {
    let requested = &planner.config.linux.devices;
    let is_requested = |path: &Path| requested.iter().any(|device| device.path == path);
    let defaults = Requested::defaults().filter(|device| !is_requested(&device.path));
    let defaults = defaults.map(|device| ("default devices".to_owned(), device));
    let own = requested.iter().enumerate();
    // /dev/ptmx is a link to the container's own devpts.
    let own = own.filter(|(_, device)| device.path != Path::new("/dev/ptmx"));
    let own = own.map(|(index, device)| {
        let at = format!("config.json: linux.devices[{index}]");
        (at, device.clone())
    });
    defaults.chain(own).collect()
}

fn device_step(planner: &mut Planner, at: String, device: &Requested) -> Step {
    let host_path = c_string(&device.path);
    let node = Node::of(device);
    let bound = planner.plan.in_user_namespace;
    let source = (device.kind != DeviceKind::Fifo).then(|| {
        let mut source = node_source(planner, at, &host_path, node);
        source.optional = !bound;
        source.spare = spare(planner, device, node);
        planner.add_source(source)
    });
    let how = match source {
        Some(source) if bound => HowMade::Bind { source },
        fallback => HowMade::Mknod { fallback },
    };
    Step::Device(Device {
        directory: c_string(device.path.parent().unwrap_or(Path::new("/"))),
        name: c_string(device.path.file_name().unwrap_or_default()),
        host_path,
        node,
        mode: device.mode,
        uid: device.uid,
        gid: device.gid,
        how,
    })
}

/// Since this kernel, a part of a detached mount can be cloned.
const CLONES_DETACHED: KernelVersion = KernelVersion {
    major: 6,
    minor: 15,
};

/// The node that the host's root makes where the host has none.
fn spare(planner: &Planner, device: &Requested, node: Node) -> Option<Spare> {
    let (host, maps) = (planner.host, &planner.config.linux.id_mappings);
    let may_make = planner.plan.source_by == SourceBy::Child
        && host.has(Capability::Mknod)
        && !host.in_user_namespace
        && host.kernel >= CLONES_DETACHED;
    may_make.then_some(Spare {
        node,
        mode: device.mode,
        uid: IdMapping::to_host(&maps.uid, device.uid)?,
        gid: IdMapping::to_host(&maps.gid, device.gid)?,
    })
}

fn node_source(planner: &Planner, at: String, path: &CStr, node: Node) -> Source {
    let kind = if node.kind == DeviceKind::Block {
        "block"
    } else {
        "char"
    };
    let by_number = format!("/dev/{kind}/{}:{}", node.major, node.minor);
    Source {
        changes: vec![Change {
            set: mount_attribute::NOSUID | mount_attribute::NOEXEC,
            ..Change::propagation(PropagationKind::Private, false)
        }],
        check: SourceCheck::Node(node),
        alternative: CString::new(by_number).ok(),
        ..Source::new(at, path.to_owned(), planner.next_step())
    }
}
