//! How the program is linked: a panic of a release aborts, nobody reads its unwind tables, and the
//! linker script beside this file leaves them out. They are a twelfth of the file.

#![allow(
    clippy::print_stdout,
    reason = "cargo reads the output of build scripts"
)]

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=release.ld");
    // `release`, and the profiles that inherit from it.
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // The start files that come with the musl target register the tables: there they stay.
    let is_musl = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl");
    if release
        && !is_musl
        && let Ok(folder) = env::var("CARGO_MANIFEST_DIR")
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/release.ld");
    }
}
