//! What was typed, read into values: pure, no file or environment is looked at.
//!
//! Engines drive runtimes with the spelling that Go's flag package takes: `-no-subreaper`,
//! `--keep=false`, `--bundle=DIR` and `--bundle DIR`. `spelling` turns that into the one spelling
//! that clap reads by the table of flags, and finds where a container's own command begins.

pub(crate) mod flag;
mod given;
mod global;
pub(crate) mod network;
mod number;
mod quantity;
mod signal;
mod spelling;
mod usage;

pub(crate) use given::Given;
pub(crate) use global::{
    Called, Global, hoist, read as read_global, read_log, table as global_table,
};
pub(crate) use number::{id as parse_id, user as parse_user};
pub(crate) use quantity::{bytes as parse_bytes, duration as parse_duration};
pub(crate) use signal::parse as parse_signal;
pub(crate) use spelling::Order;
pub(crate) use usage::{Expected, Usage};
