//! Reading the command line. Pure: no file and no environment variable is read.
//!
//! ```text
//! table    verbs and flags as plain values
//! parse    words -> flags and arguments, by the tables
//! values   the flags and arguments of one command -> the values that verbs need
//! complete words -> what may be typed next
//! help     tables -> help and usage texts
//! roff     tables -> manual pages
//! ```

pub(crate) mod complete;
pub(crate) mod global;
pub(crate) mod help;
pub(crate) mod network;
mod number;
mod parse;
mod quantity;
pub(crate) mod roff;
mod settings;
mod signal;
pub(crate) mod table;
mod usage;
mod values;

pub(crate) use number::{id as parse_id, user as parse_user};
pub(crate) use parse::{Line, parse};
pub(crate) use quantity::{bytes as parse_bytes, duration as parse_duration};
pub(crate) use settings::Global;
pub(crate) use signal::parse as parse_signal;
pub(crate) use usage::{Expected, Usage};
pub(crate) use values::{Arguments, utf8};
