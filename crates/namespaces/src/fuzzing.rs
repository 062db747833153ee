//! What the kernel answers, for fuzzing.

pub use crate::apply::netlink::answers;
