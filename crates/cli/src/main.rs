//! `coracle`, the command: arguments in, one line or JSON out.
//!
//! ```text
//! arguments   what was typed, in Go's spelling  ->  flags and arguments, by the table
//! verbs       one file a verb: its row of the table, its reading, its running
//! log         what is reported of a failure: one record, one line
//! ```
//!
//! **Invariants.** This crate decides nothing about containers: it reads arguments, calls one
//! function of `coracle_container` and prints. Only this crate prints. A verb's arguments are
//! refused before anything is touched. On success `create`, `start`, `kill` and their like print
//! nothing at all, since stdout and stderr belong to the container. One failure is one record.

mod arguments;
mod error;
mod log;
mod output;
mod root;
mod run;
mod verbs;

use std::process::ExitCode;

/// Aborts on an allocation between clone and exec; shipped builds pay nothing.
#[cfg(debug_assertions)]
#[global_allocator]
static ALLOCATOR: coracle_sys::allocation::Guarded = coracle_sys::allocation::Guarded;

fn main() -> ExitCode {
    run::run(std::env::args_os().skip(1).collect())
}
