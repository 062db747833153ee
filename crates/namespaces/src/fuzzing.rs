//! The parsers of the kernel's replies, for fuzzing.

pub use crate::apply::netlink::answers;
