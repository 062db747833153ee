//! Checkpoint and restore by CRIU, criu(8): the requests, and the exchange of messages with it.
//!
//! ```text
//! plan::dump plan::restore   pure: options and facts become a Request
//! find                       the criu of PATH
//! Session::start             a `criu swrk` that waits for a request
//! Session::perform           the request, criu's notifications, and the answer
//! ```
//!
//! ```
//! use coracle_checkpoint::{Version, MINIMUM};
//! assert!(Version { major: 3, minor: 17, sublevel: 1 } > MINIMUM);
//! ```
//!
//! # Invariants
//!
//! - criu is found in PATH, and is a separate process that ends before the verb does.
//! - criu's messages are limited in size and decoded strictly before they are used.
//! - criu has its own session and gets no signals from the runtime, not even when that dies: if it
//!   were killed during a dump, the container would stay frozen. At the end of file of its socket
//!   it undoes everything itself.
//! - This crate has no part in cgroups, records and hooks.

mod apply;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod plan;

pub use apply::find::find;
pub use apply::images::{Images, Need, Readiness};
pub use apply::mountpoints::make_mountpoints;
pub use apply::network::raise_loopback;
pub use apply::session::Session;
pub use apply::start::{Mounts, StartOptions};
pub use error::Error;
pub use plan::answer::{Features, Notification};
pub use plan::mounts::{DumpFacts, Mountpoint, Parent, RestoreFacts, mountpoints};
pub use plan::options::{
    CgroupsMode, Flags, LsmLabels, PageServer, ParsePageServer, parse_page_server,
};
pub use plan::request::{
    Descriptors, Dump, Kind, Namespaces, Request, Restore, config_file, dump, restore,
};
pub use plan::version::{MINIMUM, Version};
