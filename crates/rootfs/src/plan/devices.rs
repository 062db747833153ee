//! Devices and links in /dev: config-linux.md § Devices, § Default Devices.

use super::{Change, Planner, Source, SourceCheck, Step, UserNamespace, c_string};
use crate::Error;
use coracle_bundle::{Device as Asked, DeviceKind};
use coracle_sys::mount_attribute;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

/// A node to make, or to bind from the host.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// The directory, absolute below the root.
    pub(crate) directory: CString,
    pub(crate) name: CString,
    /// The path on the host that has such a node.
    pub(crate) host_path: CString,
    pub(crate) node: Node,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) how: HowMade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: DeviceKind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HowMade {
    /// mknod(2); where that is not permitted, the host's node is bound. A fifo has none.
    Mknod { fallback: Option<usize> },
    /// The host's node is bound: a user namespace may make no device, whatever it owns.
    Bind { source: usize },
}

#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) name: &'static CStr,
    pub(crate) target: &'static CStr,
    pub(crate) rule: LinkRule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkRule {
    /// What is there already stays.
    Keep,
    /// What is there already is replaced.
    Replace,
    /// Only made if this file is there.
    IfThere(&'static CStr),
}

/// config-linux.md § Default Devices: name, major, minor.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// runtime-linux.md § Dev symbolic links: made where procfs is mounted. `core` is an old custom.
const LINKS: [(&CStr, &CStr, LinkRule); 5] = [
    (c"fd", c"/proc/self/fd", LinkRule::Keep),
    (c"stdin", c"/proc/self/fd/0", LinkRule::Keep),
    (c"stdout", c"/proc/self/fd/1", LinkRule::Keep),
    (c"stderr", c"/proc/self/fd/2", LinkRule::Keep),
    (c"core", c"/proc/kcore", LinkRule::IfThere(c"/proc/kcore")),
];

pub(super) fn plan(planner: &mut Planner) -> Result<(), Error> {
    if !are_made(planner) {
        return Ok(());
    }
    for (at, device) in devices(planner) {
        let step = device_step(planner, &at, &device)?;
        planner.plan.steps.push(step);
    }
    let proc_is_mounted = planner.proc.is_some();
    for (name, target, rule) in LINKS {
        if proc_is_mounted {
            planner
                .plan
                .steps
                .push(Step::Link(Link { name, target, rule }));
        }
    }
    let ptmx = Link {
        name: c"ptmx",
        target: c"pts/ptmx",
        rule: LinkRule::Replace,
    };
    planner.plan.steps.push(Step::Link(ptmx));
    Ok(())
}

/// What will be put into the root by the steps of this module.
pub(super) fn places(planner: &Planner) -> Vec<PathBuf> {
    if !are_made(planner) {
        return Vec::new();
    }
    devices(planner)
        .into_iter()
        .map(|(_, device)| device.path)
        .collect()
}

/// The host's /dev as the container's is complete, and must not be written to; nor must the host's
/// own root.
fn are_made(planner: &Planner) -> bool {
    let bound = |mount: &coracle_bundle::Mount| {
        mount.destination == Path::new("/dev") && mount.options.bind.is_some()
    };
    let own_root = planner
        .plan
        .root
        .as_ref()
        .is_some_and(|root| root.source.is_some());
    own_root && !planner.config.mounts.iter().any(bound)
}

/// The default devices that the config does not define itself, then those of the config.
fn devices(planner: &Planner) -> Vec<(String, Asked)> {
    let asked = &planner.config.linux.devices;
    let mut devices: Vec<(String, Asked)> = DEFAULT
        .into_iter()
        .filter(|(path, ..)| !asked.iter().any(|device| device.path == Path::new(path)))
        .map(|(path, major, minor)| {
            let kind = DeviceKind::Char;
            let path = PathBuf::from(path);
            (
                path.display().to_string(),
                Asked {
                    path,
                    kind,
                    major,
                    minor,
                    mode: 0o666,
                    uid: 0,
                    gid: 0,
                },
            )
        })
        .collect();
    let own = asked.iter().enumerate();
    // The link to the container's own devpts takes the place of /dev/ptmx.
    let own = own.filter(|(_, device)| device.path != Path::new("/dev/ptmx"));
    devices.extend(own.map(|(index, device)| (format!("linux.devices[{index}]"), device.clone())));
    devices
}

fn device_step(planner: &mut Planner, at: &str, device: &Asked) -> Result<Step, Error> {
    let (Some(directory), Some(name)) = (device.path.parent(), device.path.file_name()) else {
        return Err(Error::DevicePath { at: at.to_owned() });
    };
    let host_path = c_string(device.path.as_os_str(), at)?;
    let node = Node {
        kind: device.kind,
        major: device.major,
        minor: device.minor,
    };
    let bound = planner.context.user_namespace != UserNamespace::Initial;
    let source = (device.kind != DeviceKind::Fifo).then(|| {
        let mut source = node_source(planner, at, &host_path, node);
        source.optional = !bound;
        planner.add_source(source)
    });
    let how = match source {
        Some(source) if bound => HowMade::Bind { source },
        fallback => HowMade::Mknod { fallback },
    };
    Ok(Step::Device(Device {
        directory: c_string(directory.as_os_str(), at)?,
        name: c_string(name, at)?,
        host_path,
        node,
        mode: device.mode,
        uid: device.uid,
        gid: device.gid,
        how,
    }))
}

fn node_source(planner: &Planner, at: &str, path: &CStr, node: Node) -> Source {
    let kind = if node.kind == DeviceKind::Block {
        "block"
    } else {
        "char"
    };
    let by_number = format!("/dev/{kind}/{}:{}", node.major, node.minor);
    Source {
        changes: vec![Change {
            set: mount_attribute::NOSUID | mount_attribute::NOEXEC,
            propagation: libc::MS_PRIVATE,
            ..Change::default()
        }],
        check: SourceCheck::Node(node),
        alternative: CString::new(by_number).ok(),
        ..Source::new(at.to_owned(), path.to_owned(), planner.next_step())
    }
}

impl Node {
    /// `c 1:3`
    pub(crate) fn describe(&self) -> String {
        match self.kind {
            DeviceKind::Char => format!("c {}:{}", self.major, self.minor),
            DeviceKind::Block => format!("b {}:{}", self.major, self.minor),
            DeviceKind::Fifo => "p".to_owned(),
        }
    }
}
