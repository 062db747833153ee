//! Running the commands.

pub(crate) mod init;
mod launch;
pub(crate) mod runtime;
