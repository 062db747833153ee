//! Reading configurations and running plugins.

pub(crate) mod chain;
pub(crate) mod find;
mod run;
