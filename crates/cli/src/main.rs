//! `coracle`, the command: arguments in, one line or JSON out.
//!
//! ```text
//! arguments   the words of the command line  ->  flags and arguments, by the table
//! verbs       one file for each verb: its row of the table, its parser, its action
//! log         records of failures and warnings, one line each
//! ```
//!
//! **Invariants.** This crate decides nothing about containers: it reads arguments, calls one
//! function of `coracle_container` and prints the result. Only this crate prints. Invalid arguments
//! are refused before anything is changed. On success, verbs such as `create`, `start` and `kill`
//! print nothing, since stdout and stderr belong to the container. A failure is one record.

#![cfg_attr(not(test), no_main)]

mod arguments;
mod error;
mod log;
mod output;
mod people;
mod root;
mod run;
mod trace;
mod users;
mod verbs;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Aborts on an allocation between clone and exec. Only debug builds have it.
#[cfg(debug_assertions)]
#[global_allocator]
static ALLOCATOR: coracle_sys::allocation::Guarded = coracle_sys::allocation::Guarded;

/// In place of musl's own, which spreads small allocations over many pages. Each costs a fault.
#[cfg(all(target_env = "musl", not(debug_assertions)))]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[cfg(not(test))]
coracle_sys::program!(command);

#[cfg_attr(test, allow(dead_code, reason = "tests have a main of their own"))]
fn command() -> u8 {
    let words = coracle_sys::arguments().skip(1);
    run::run(
        words
            .map(|word| OsStr::from_bytes(word.to_bytes()).into())
            .collect(),
    )
}
