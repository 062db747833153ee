//! Carries out the verbs: `create`, `start`, `kill`, `delete` and the others, with a container's
//! record on disk and its status (runtime.md § Runtime and Lifecycle).
//!
//! ```
//! use coracle_container::{Store, list};
//! use std::path::Path;
//!
//! let store = Store::new(Path::new("/nonexistent"));
//! assert!(list(&store).unwrap().containers.is_empty());
//! ```
//!
//! # Invariants
//!
//! - Only facts are stored. The status is derived from the record, init's pid and start time, the
//!   FIFOs and the freezer.
//! - The record is replaced as a whole. Readers take no lock; writers hold one for a limited time.
//! - The record names the cgroup before it is made, and init before it does anything. Until then
//!   what was cloned has the lock's descriptor. So whenever the runtime is killed, `delete --force`
//!   finds and removes everything; without privileges, not a clone that was stopped meanwhile.
//! - A failed creation undoes what it made, last first.
//! - The bundle's config is read once: later verbs read the private copy.

mod check;
mod checkpoint;
mod clear;
mod create;
mod creation;
mod delete;
mod descriptors;
mod directory;
mod elsewhere;
mod ending;
mod error;
mod events;
mod exec;
mod exit;
mod explain;
mod foreground;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hold;
mod identity;
mod input;
mod inspect;
mod interrupt;
mod keeper;
mod kill;
mod lock;
mod mounts;
mod moved;
mod network;
mod networks;
mod notify;
mod options;
mod orphans;
mod outputs;
mod prepare;
mod process;
mod progress;
mod record;
mod relay;
mod restore;
mod run;
mod stage;
mod start;
mod state;
mod status;
mod store;
mod timestamp;
mod torn;
mod tree;
mod undo;
mod update;
mod user_namespace;

pub use check::{Finding, Level, Report, check_bundle, check_host};
pub use checkpoint::{CheckpointOptions, Written, checkpoint, criu};
pub use coracle_bundle::OCI_VERSION;
pub use coracle_cgroups::Statistics;
pub use coracle_checkpoint::{
    CgroupsMode, Features as CriuCan, Flags as CriuFlags, Kind as CheckpointKind, LsmLabels,
    PageServer, Version as CriuVersion, parse_page_server,
};
pub use coracle_cni::{ANNOTATIONS as NETWORK_ANNOTATIONS, Flags as NetworkFlags, Search};
pub use coracle_launch::Span;
pub use create::create;
pub use delete::delete;
pub use error::Error;
pub use events::{Event, events, statistics};
pub use exec::{ExecOptions, ExecProcess, exec};
pub use exit::Ending;
pub use explain::{Explanation, explain, explain_restore};
pub use hold::Hold;
pub use inspect::{Listing, list, pause, processes, resume, state};
pub use keeper::{Keeper, Side, split};
pub use kill::kill;
pub use mounts::{NewMount, add_mount, list_mounts, remove_mount};
pub use networks::{Network, Released, check_network, gc, inspect_network, networks};
pub use options::{
    After, Attachment, CgroupManager, ChangeRoot, CreateOptions, Force, Keyring, LaunchFlags,
    Outputs, Rootless, RunOptions, Scope, Subreaper, UserNamespace,
};
pub use process::{Process, describe};
pub use progress::{Progress, ProgressEvent};
pub use record::AddedMount;
pub use restore::{RestoreOptions, restore};
pub use run::{Ended, run};
pub use stage::Stage;
pub use start::start;
pub use state::State;
pub use status::Status;
pub use store::Store;
pub use timestamp::{age, now, rfc3339};
pub use update::{DeviceChanges, NewDevice, NewResources, Setting, UpdateOptions, update};

/// Returns if no container can write the file that this process executes; otherwise executes the
/// program again from a sealed file. Verbs that clone call this first.
///
/// # Errors
/// [`Error::Launch`] if the file cannot be sealed.
pub fn seal() -> Result<(), Error> {
    Ok(coracle_launch::seal()?)
}
