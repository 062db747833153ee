//! The engines of Debian's packages above the runtime, each in a sandbox of its own: they are started
//! for real, offline, and used as people use them. The program under test takes the place of their
//! runtime; `CORACLE` may name another one, runc or crun, to test the tests.

#[macro_use]
extern crate coracle_integration;

use std::process::ExitCode;

mod buildah;
mod buildkit;
mod buildkitd;
mod conmon;
mod containerd;
mod containerd2;
mod cri;
mod crio;
mod docker;
mod engine;
mod kind;
mod kubelet;
mod nested;
mod node;
mod podman;
mod podman_rootless;
mod swarm;
mod swarm_outages;

fn main() -> ExitCode {
    coracle_integration::runner::module_by_module()
}
