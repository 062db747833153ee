//! Tests of the whole runtime against the kernel. They need root; see `coracle_integration::runner`
//! for the command line and the environment.

#[macro_use]
extern crate coracle_integration;

use std::process::ExitCode;

mod added;
mod bad_config;
mod budgets;
mod cgroups;
mod checkpoint;
mod cli;
mod cni;
mod cni_plugins;
mod devices;
mod ending;
mod events;
mod examples;
mod exec;
mod explain;
mod hooks;
mod hygiene;
mod io;
mod landlock;
mod lifecycle;
mod limits;
mod load;
mod mistakes;
mod mounts;
mod namespaces;
mod neighbours;
mod nested;
mod notify;
mod pages;
mod peers;
mod phrases;
mod process;
mod ps;
mod regression;
mod rootfs;
mod rootless;
mod seccomp;
mod security;
mod shared_root;
mod shortages;
mod signals;
mod systemd;
mod terminal;
mod timeline;
mod update;

fn main() -> ExitCode {
    coracle_integration::runner::main()
}
