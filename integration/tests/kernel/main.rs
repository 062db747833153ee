//! Tests of the whole runtime against the kernel. They need root; see `coracle_integration::runner`
//! for the command line and the environment.

use std::process::ExitCode;

use coracle_integration::runner;

mod exec;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;

fn main() -> ExitCode {
    let modules = [
        exec::TESTS,
        lifecycle::TESTS,
        mounts::TESTS,
        namespaces::TESTS,
        process::TESTS,
    ];
    runner::main(&modules.concat())
}
