//! Carrying out a plan.

pub(crate) mod attempt;
pub(crate) mod devices;
pub(crate) mod inherited;
pub(crate) mod init;
pub(crate) mod netlink;
pub(crate) mod runtime;
