//! The bundle and its `config.json`: read once, validated against the specification, and converted
//! to types that cannot hold what the specification forbids.
//!
//! The text is read once, to [oci-spec](https://docs.rs/oci-spec)'s types. Those accept more than
//! the specification allows (missing numbers become zero) and less (some flags and large numbers
//! are refused): `read/gaps.rs` has all differences. The result needs no second check: paths are
//! absolute and free of NUL, numbers are in range, options are bits, and contradictions were
//! refused. What depends on the host (whether the root exists, or the kernel has a controller) is
//! left to the planners.
//!
//! ```
//! use coracle_bundle::{Namespace, parse};
//! use std::path::Path;
//!
//! let text = br#"{
//!     "ociVersion": "1.3.0",
//!     "root": {"path": "rootfs"},
//!     "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
//!     "mounts": [{"destination": "/proc", "type": "proc", "options": ["nosuid", "ro"]}],
//!     "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}
//! }"#;
//! let config = parse(Path::new("/run/bundle"), text)?;
//! assert_eq!(config.root.path, Path::new("/run/bundle/rootfs"));
//! assert_eq!(config.linux.namespaces.pid, Namespace::New);
//!
//! let text = String::from_utf8_lossy(text).replace("proc\",", "proc/sys\",");
//! let error = parse(Path::new("/run/bundle"), text.as_bytes()).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "config.json: mounts[0].destination: \"/proc/sys\" cannot be mounted because it is inside \
//!      /proc"
//! );
//! # Ok::<(), coracle_bundle::Error>(())
//! ```
//!
//! # Invariants
//! - Only [`load`] reads a file, once; everything else is a function of text.
//! - No input leads to a panic. Time is at most n log n of the input's size, and memory a small
//!   multiple of it plus 64 MiB.
//! - Every error is one line that names the property by its path, the value, and what was
//!   expected; control characters in it are escaped.
//! - Unknown properties are ignored; a duplicate key is refused, even inside them.
//! - Absent, null, empty and zero are distinguished wherever they have different meanings.
//! - Nothing depends on the host: no environment, clock or user names.

#![cfg_attr(test, allow(clippy::too_many_lines, reason = "tests are tables"))]

pub mod annotation;
mod capability;
mod error;
mod file;
mod hooks;
mod id;
mod landlock;
mod linux;
mod load;
mod mount;
mod numbers;
mod options;
mod process;
mod read;
mod resources;
mod seccomp;
mod validate;

#[cfg(test)]
mod fixture;

pub use capability::{capability_name, parse_capability};
pub use error::{Document, Error, member};
pub use file::{INPUT_FLAGS, MAX_CONFIG_BYTES, Unread, look_at, read_all, read_regular};
pub use hooks::{Hook, HookPoint, Hooks, PerPoint};
pub use id::ContainerId;
pub use landlock::*;
pub use linux::*;
pub use load::{load, parse, parse_process, parse_resources, parse_tree, text, tree};
pub use mount::*;
pub use options::mount_options;
pub use process::*;
pub use resources::*;
pub use seccomp::*;
pub use validate::{MEMORY_FLAGS, MEMORY_MODES, OCI_VERSION, RELATIVE_NODES};

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// A bundle whose `config.json` was read once and validated.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The absolute path of the bundle's directory.
    pub dir: PathBuf,
    /// The bytes of `config.json`, for the private copy in the container's directory.
    pub raw: Vec<u8>,
    /// The validated config.
    pub config: Config,
}

/// `config.json`, in types that cannot hold what the specification forbids.
#[derive(Clone, Debug)]
pub struct Config {
    /// A SemVer of major version 1.
    pub oci_version: String,
    /// The container's root filesystem.
    pub root: Root,
    /// The process. A container without it can be created, but not started.
    pub process: Option<Process>,
    /// The host name, at most 64 bytes; only with a UTS namespace that is listed, new or joined.
    pub hostname: Option<CString>,
    /// The NIS domain name, at most 64 bytes; only with a UTS namespace that is listed.
    pub domainname: Option<CString>,
    /// The mounts, in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// The hooks.
    pub hooks: Hooks,
    /// The annotations, none of which has an empty key.
    pub annotations: BTreeMap<String, String>,
    /// The rules of Landlock, which an annotation has.
    pub landlock: Option<Landlock>,
    /// The `linux` section; the default value if it is absent.
    pub linux: Linux,
    /// Warnings that the specification demands (unknown capabilities, relative destinations), one
    /// line each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Whether the process keeps the supplementary groups of the runtime's caller: crun's
    /// annotation `run.oci.keep_original_groups`.
    #[must_use]
    pub fn keeps_groups(&self) -> bool {
        let value = self.annotations.get(annotation::KEEP_ORIGINAL_GROUPS);
        value.is_some_and(|value| value == "1")
    }

    /// The files that hooks append their standard output and standard error to, where annotations
    /// name some.
    #[must_use]
    pub fn hook_files(&self) -> [Option<&Path>; 2] {
        [annotation::HOOKS_STDOUT, annotation::HOOKS_STDERR]
            .map(|key| self.annotations.get(key).map(Path::new))
    }
}

/// `root`: config.md § Root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The absolute path; a relative one was joined to the bundle's directory. Links are not
    /// resolved.
    pub path: PathBuf,
    /// Whether the root is read-only.
    pub readonly: bool,
}

impl Root {
    /// It is the host's own `/`, by its text: the container has no mount namespace, no mounts, and
    /// nothing is changed in it.
    #[must_use]
    pub fn is_the_hosts(&self) -> bool {
        self.path == Path::new("/")
    }
}
