//! Finds criu, starts it, and exchanges messages with it.

pub(crate) mod find;
pub(crate) mod images;
pub(crate) mod mountpoints;
pub(crate) mod network;
pub(crate) mod session;
pub(crate) mod start;
