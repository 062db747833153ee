//! Running the commands.

pub(crate) mod init;
mod launch;
pub(crate) mod output;
pub(crate) mod runtime;
