//! One launch: the subsystems' plans composed, init cloned, its stages granted and its reports
//! heard.
//!
//! ```text
//! plan / plan_exec        pure: a bundle and the machine's facts become a Plan
//! Slots::open             what init inherits is opened
//! spawn                   init is cloned and waits
//! Launch::admit … start   the runtime's side of the protocol in [`Message`]
//! ```
//!
//! # Invariants
//!
//! - After the clone init neither allocates nor decides; all it needs is in the plan and the slots.
//! - The runtime never enters a namespace of the container; a short-lived child may do so.
//! - Init is killed when a [`Launch`] is dropped before its release, and dies with the runtime.
//! - A failure in init travels as coordinates; the sentence is made here, from the same plan.
//!
//! ```
//! use coracle_launch::Message;
//!
//! let bytes = Message::Created.encode();
//! assert_eq!(Message::decode(&bytes), Some(Message::Created));
//! ```

mod context;
mod error;
mod explain;
mod filter;
mod init;
mod message;
mod plan;
mod runtime;
mod seal;
mod slots;
mod sources;

pub use error::Error;
pub use explain::{StageText, explain_start};
pub use filter::{Filter, Moment, check};
pub use message::{Message, Stage};
pub use plan::{ChangeRoot, Keyring, Options, Plan, needs, needs_exec, plan, plan_exec};
pub use runtime::{ContainerState, Launch, Released, hint_of_end, spawn};
pub use seal::seal;
pub use slots::{Gate, Given, Slots};
