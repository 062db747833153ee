//! Networks by plugins of the Container Network Interface: CNI SPEC 1.1.0, and configurations of
//! 1.0.0 and 0.4.0.
//!
//! ```text
//! request          pure: flags and annotations become a Request
//! read             the configurations of a folder
//! plan             pure: a Request and the configurations become attachments
//! add del check    the plugins of an attachment's list, one after the other
//! gc status        the plugins of a network, without a container
//! ```
//!
//! ```
//! use coracle_cni::{Flags, Request, request};
//! let flags = Flags { network: Some("none".to_owned()), ..Flags::default() };
//! assert_eq!(request(&flags, &Default::default())?, Some(Request::Empty));
//! # Ok::<(), coracle_cni::Error>(())
//! ```
//!
//! # What a plugin gets
//!
//! * stdin: its configuration with `cniVersion`, `name`, `runtimeConfig` and `prevResult`, in a
//!   file in memory. stdout: a pipe that takes a result of at most 1 MiB; stderr: a pipe whose last
//!   bytes are shown if the plugin fails. No other descriptor.
//! * `CNI_COMMAND`, `CNI_CONTAINERID`, `CNI_NETNS`, `CNI_IFNAME`, `CNI_PATH` and a default `PATH`;
//!   nothing of the caller's environment.
//! * a session of its own, with the default action of every signal; SIGKILL when the runtime dies.
//! * a time limit, then SIGKILL for its process group.
//!
//! # Invariants
//!
//! Without a requested network no file is read and no program is run. A request is checked
//! completely before a plugin runs. The plan is also the record, so DEL and CHECK get what ADD got,
//! even if the configuration has changed since. Nothing here knows where the record is kept.

#![cfg_attr(test, allow(clippy::too_many_lines, reason = "tests are tables"))]

mod apply;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod plan;

pub use apply::chain::{Container, add, check, del, gc, knows_gc, status, versions};
pub use apply::find::{absolute, locate, locate_all, read};
pub use apply::ports::check_ports;
pub use error::{Ended, Error, Failure};
pub use plan::{
    ANNOTATIONS, Attachment, Configured, Flags, NetworkList, Networks, Plan, Plugin, Request,
    Requested, Search, Verb, Version, find, hosts, plan, request, resolv_conf,
};
