//! Carrying out a plan: the runtime checks what the kernel supports, init loads the filter, and the
//! runtime sends the listener to the agent.

mod init;
mod runtime;

pub use init::load;
pub use runtime::{ProcessState, check, known_flags, send_listener, supported_flags};
