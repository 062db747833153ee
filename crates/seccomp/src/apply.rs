//! Carries a plan out: init loads the filter, the runtime asks the kernel before and hands the
//! listener on after it.

mod init;
mod runtime;

pub use init::load;
pub use runtime::{ProcessState, check, known_flags, send_listener, supported_flags};
