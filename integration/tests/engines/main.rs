//! The engines of Debian's packages above the runtime, each in a house of its own: they are started
//! for real, offline, and used as people use them. The program under test takes the place of their
//! runtime; `CORACLE` may name another one, runc or crun, to test the tests.

use std::process::ExitCode;

use coracle_integration::runner::{self, Suite};

mod buildah;
mod containerd;
mod containerd2;
mod cri;
mod docker;
mod engine;
mod podman;
mod podman_rootless;

fn main() -> ExitCode {
    runner::in_turn(vec![
        suite(podman::TESTS, podman::LAST),
        suite(podman_rootless::TESTS, podman_rootless::LAST),
        suite(buildah::TESTS, buildah::LAST),
        suite(containerd::TESTS, containerd::LAST),
        suite(cri::TESTS, cri::LAST),
        suite(containerd2::TESTS, containerd2::LAST),
        suite(docker::TESTS, docker::LAST),
    ])
}

fn suite(tests: &[runner::Test], last: runner::Test) -> Suite {
    Suite {
        tests: tests.to_vec(),
        last: Some(last),
    }
}
