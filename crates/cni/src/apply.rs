//! Reading configurations and running plugins.

pub(crate) mod chain;
pub(crate) mod find;
pub(crate) mod ports;
mod run;
