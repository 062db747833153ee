//! Runs the commands.

pub(crate) mod execution;
pub(crate) mod files;
pub(crate) mod init;
pub(crate) mod runtime;
