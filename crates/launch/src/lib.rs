//! One launch: composes the subsystems' plans, clones init, lets it proceed step by step and
//! receives its reports.
//!
//! ```text
//! add / remove       change the mounts of a running container
//! plan / plan_exec   pure: a bundle and the machine's facts become a Plan
//! launch             clones init and sees it through to its start; a Caller acts in between
//! Launch::start      or Launch::release, which leaves the start to the FIFO
//! ```
//!
//! # Invariants
//!
//! - After the clone init neither allocates nor decides; all it needs is in the plan and in
//!   descriptors that it inherits.
//! - The runtime never enters a namespace of the container; a short-lived child may do so.
//! - Init is killed when a [`Launch`] is dropped before its release, and dies with the runtime.
//! - Init reports a failure as numbers (stage, step and cause); the runtime makes the sentence from
//!   the same plan.
//!
//! ```
//! use coracle_launch::Message;
//!
//! let bytes = Message::Created.encode();
//! assert_eq!(Message::decode(&bytes), Some(Message::Created));
//! ```

mod error;
mod explain;
mod filter;
mod inherited;
mod init;
mod lack;
mod launch;
mod message;
mod plan;
mod running;
mod runtime;
mod seal;
mod sources;
mod spans;

pub use error::Error;
pub use explain::{Failure, Point, StageText, explain_start};
pub use filter::{Filter, Moment};
pub use inherited::{Fifos, Release, Request, Target};
pub use lack::{Examined, examine};
pub use launch::{Caller, launch};
pub use message::{Message, Stage, add_remark};
pub use plan::{
    ChangeRoot, Flags, Keyring, Options, Plan, check, needs, needs_exec, plan, plan_exec,
};
pub use running::{Running, Taken, add, remove};
pub use runtime::{Child, Launch, hint_of_end};
pub use seal::{NAME, is_protected, seal};
pub use spans::{Span, spans};

/// Plans one more mount or device for a running container.
pub use coracle_rootfs::{needs as needs_added, plan_added};

/// Whether namespaces of a kind can be had.
pub use coracle_namespaces::attempt as attempt_namespace;
