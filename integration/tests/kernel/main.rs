//! Tests of the whole runtime against the kernel. They need root; see `coracle_integration::runner`
//! for the command line and the environment.

use std::process::ExitCode;

use coracle_integration::runner;

mod bad_config;
mod budgets;
mod cgroups;
mod checkpoint;
mod cli;
mod cni;
mod cni_plugins;
mod devices;
mod events;
mod examples;
mod exec;
mod explain;
mod hooks;
mod io;
mod lifecycle;
mod limits;
mod load;
mod mounts;
mod namespaces;
mod notify;
mod phrases;
mod process;
mod regression;
mod rootfs;
mod rootless;
mod seccomp;
mod security;
mod shared_root;
mod systemd;
mod terminal;
mod update;

fn main() -> ExitCode {
    let modules = [
        bad_config::TESTS,
        budgets::TESTS,
        cgroups::TESTS,
        checkpoint::TESTS,
        cli::TESTS,
        cni::TESTS,
        cni_plugins::TESTS,
        devices::TESTS,
        events::TESTS,
        examples::TESTS,
        exec::TESTS,
        explain::TESTS,
        hooks::TESTS,
        io::TESTS,
        lifecycle::TESTS,
        limits::TESTS,
        load::TESTS,
        mounts::TESTS,
        namespaces::TESTS,
        notify::TESTS,
        phrases::TESTS,
        process::TESTS,
        regression::TESTS,
        rootfs::TESTS,
        rootless::TESTS,
        seccomp::TESTS,
        security::TESTS,
        shared_root::TESTS,
        systemd::TESTS,
        terminal::TESTS,
        update::TESTS,
    ];
    runner::main(&modules.concat())
}
