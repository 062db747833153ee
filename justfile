# Short names for lines of shell that work as well by themselves.

target := `integration/target`
program := env_var_or_default("CARGO_TARGET_DIR", "target") / target / "release/coracle"

# List the recipes
default:
    @just --list

# Build the program: one static file below target
build:
    integration/build

# Make packages, in FOLDER: a tarball, .deb, .rpm, sums, a bill of materials
dist *FOLDER:
    integration/dist {{FOLDER}}

# Make packages twice, compare, install them in clean systems and use them there (root): 8 minutes
dist-test:
    integration/test dist

# Unit tests, examples in the documentation, rules of style (no root)
test:
    integration/test unit tidy

# Test the release build against this kernel (root)
kernel *FILTER:
    CORACLE="$(realpath {{program}})" cargo test -p coracle-integration --test kernel -- {{FILTER}}

# Build for aarch64, and try there by qemu-user what needs none of the newer system calls
aarch64:
    integration/aarch64

# Faults at system calls (root): a sample, `--all`, or `SCENARIO POINT FAULT` as a failure prints it
faults *ARGUMENTS:
    CORACLE="$(realpath {{program}})" cargo test -q -p coracle-integration --test faults -- {{ARGUMENTS}}

# Feed readers of what comes from outside, a minute each: `--seconds N`, names of targets
fuzz *ARGUMENTS:
    integration/fuzz/run {{ARGUMENTS}}

# Lines of those readers that the targets and the unit tests reach: `--missed FILE`
coverage *ARGUMENTS:
    integration/fuzz/coverage {{ARGUMENTS}}

# Images made to mislead the runtime (root): a sample, `--all`, or `--exact NAME`; names exchanged meanwhile: `races`
hostile *ARGUMENTS:
    CORACLE="$(realpath {{program}})" cargo test -q -p coracle-integration --test hostile -- {{ARGUMENTS}}

# Run all kernel tests in a guest with cgroup v2 and systemd (root, x86_64): 5 minutes and, once, 5 to make it
guest-kernel:
    CORACLE_TEST_FULL=1 integration/test release guest

# Drive podman, buildah, containerd and docker with the release build (root): 1 minute
engines:
    integration/test release engines

# kubelet's probes of so many PODS,SECONDS each second, by coracle and by runc (root)
probes COUNT='20,60':
    CORACLE_TEST_PROBES={{COUNT}} CORACLE="$(realpath {{program}})" cargo test -q -p coracle-integration --test engines -- node::probes --nocapture

# Docker Swarm with all outages, scaled to so many TASKS by coracle and by runc (root)
swarm TASKS='50':
    CORACLE_TEST_SWARM={{TASKS}} CORACLE_TEST_JOBS=1 CORACLE="$(realpath {{program}})" cargo test -q -p coracle-integration --test engines -- swarm --nocapture

# Run the validation programs of the OCI runtime-tools (root): 3 minutes, and some more the first time
conformance:
    integration/test release conformance

# Run those of a newer CHECKOUT (root): in it, `make runtimetest validation-executables` was run
conformance-of CHECKOUT:
    CORACLE_RUNTIME_TOOLS={{CHECKOUT}} CORACLE="$(realpath {{program}})" cargo test -p coracle-integration --test conformance

# Run youki's contest (root): in CHECKOUT, contest and runtimetest were built
contest CHECKOUT:
    CORACLE_CONTEST={{CHECKOUT}} CORACLE="$(realpath {{program}})" cargo test -p coracle-integration --test contest

# Run pods of a cluster by coracle and by runc (root): in CHECKOUT of Kubernetes, its programs and an etcd were built
kubelet CHECKOUT:
    CORACLE_KUBERNETES="$(realpath {{CHECKOUT}})" CORACLE="$(realpath {{program}})" cargo test -q -p coracle-integration --test engines -- kubelet:: kind::

# Build by coracle and by runc with BuildKit's daemon (root): FOLDER has buildkitd, buildctl and, for the rest, rootlesskit
buildkit FOLDER:
    CORACLE_BUILDKIT="$(realpath {{FOLDER}})" CORACLE="$(realpath {{program}})" cargo test -q -p coracle-integration --test engines -- buildkitd::

# Measure all verbs beside runc, crun or other RUNTIMES by path (root): `--rounds N`, `--plots DIR`, parts
bench *ARGUMENTS: build
    CORACLE="$(realpath {{program}})" cargo test -q -p coracle-integration --test bench -- {{ARGUMENTS}}

# Clippy, all warnings as errors
lint:
    integration/test lint

# Known faults of dependencies (cargo-deny; fetches the database of advisories)
audit:
    cargo deny check

# Format the source
fmt:
    cargo fmt --all

# Write the documentation of all crates
doc:
    cargo doc --workspace --no-deps --document-private-items

# Print what would be done for a bundle
explain BUNDLE: build
    "$(realpath {{program}})" explain --bundle {{BUNDLE}}

# What must be green (root)
ci:
    .ci/run
