//! Runs the commands.

mod execution;
pub(crate) mod init;
pub(crate) mod runtime;
