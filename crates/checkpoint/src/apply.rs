//! Finding criu, starting it, and talking to it.

pub(crate) mod find;
pub(crate) mod images;
pub(crate) mod mountpoints;
pub(crate) mod network;
pub(crate) mod session;
