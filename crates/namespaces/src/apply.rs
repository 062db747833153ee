//! Carrying out a plan.

mod devices;
pub(crate) mod init;
mod netlink;
pub(crate) mod runtime;
