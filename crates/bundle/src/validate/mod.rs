//! Validates oci-spec's types and converts them to this crate's. Each file is a section of the
//! specification.

mod annotations;
mod devices;
mod hooks;
mod ids;
mod landlock;
mod linux;
mod machine;
mod memory_policy;
mod mounts;
mod namespaces;
mod network;
mod process;
mod rdt;
mod resources;
mod root;
mod scheduling;
mod seccomp;
mod sysctl;
mod text;
mod version;

pub use memory_policy::{MEMORY_FLAGS, MEMORY_MODES, RELATIVE_NODES};
pub(crate) use process::process;
pub(crate) use resources::resources;
pub use version::OCI_VERSION;
pub(crate) use version::version;

use crate::Config;
use crate::annotation::LANDLOCK;
use crate::error::{At, Document, Error};
use crate::read::{self, Notes};
use std::path::Path;

/// Validates a whole config. Its version was checked before.
pub(crate) fn config(dir: &Path, spec: read::Config, mut notes: Notes) -> Result<Config, Error> {
    let at = At::Root(Document::Config);
    let root = root::root(dir, spec.root.as_ref(), at.key("root"))?;
    let annotations_at = at.key("annotations");
    let annotations =
        annotations::annotations(spec.annotations.as_ref(), annotations_at, &mut notes)?;
    let mut linux = linux::linux(spec.linux.as_ref(), at.key("linux"), &notes)?;
    if let Some(seccomp) = &mut linux.seccomp {
        seccomp::add_receiver(seccomp, &annotations);
    }
    let process = match &spec.process {
        Some(raw) => Some(process(raw, at.key("process"), &mut notes)?),
        None => None,
    };
    if let Some(process) = &process {
        ids::check_user(
            &process.user,
            &linux.id_mappings,
            at.key("process").key("user"),
        )?;
    }
    let raw = spec.mounts.as_deref();
    let mounts = mounts::mounts(raw, at.key("mounts"), dir, &linux, &mut notes)?;
    root::check_host_root(&root, &linux, &mounts, at.key("root"))?;
    let uts = &linux.namespaces.uts;
    let domainname = machine::name(spec.domainname.as_deref(), at.key("domainname"), uts)?;
    let linux_at = at.key("linux");
    sysctl::check_domainname(domainname.as_ref(), &linux.sysctl, linux_at.key("sysctl"))?;
    Ok(Config {
        oci_version: spec.oci_version,
        root,
        process,
        hostname: machine::name(spec.hostname.as_deref(), at.key("hostname"), uts)?,
        domainname,
        mounts,
        hooks: hooks::hooks(spec.hooks.as_ref(), at.key("hooks"))?,
        landlock: match annotations.get(LANDLOCK) {
            Some(text) => Some(landlock::landlock(text, annotations_at.key(LANDLOCK))?),
            None => None,
        },
        annotations,
        linux,
        warnings: notes.warnings,
    })
}
