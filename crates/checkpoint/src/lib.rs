//! Checkpoint and restore by CRIU, criu(8): what is asked of it, and the conversation with it.
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
//! - criu is the one of PATH, and a process of its own that is over when a verb is.
//! - What criu says is bounded, and decoded strictly before anything is made of it.
//! - It gets its own session and no signal of ours, not even at our death: a criu that is killed in
//!   the middle of a dump could not let the container go on. It notices that we are gone by the
//!   end of its socket, and takes everything back by itself.
//! - Nothing here knows cgroups, records or hooks.

mod apply;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod plan;

pub use apply::find::find;
pub use apply::images::{Images, Need};
pub use apply::mountpoints::make_mountpoints;
pub use apply::network::raise_loopback;
pub use apply::session::{Entry, Mounts, Session};
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
