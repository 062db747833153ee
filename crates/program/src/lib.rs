//! Running a helper program: hooks, network plugins, criu.
//!
//! ```text
//! input, fill    what it reads: a file in memory
//! Output         what it prints: a pipe, read while it runs
//! start          the clone that becomes it, with nothing else of ours
//! wait           its end, or what ends it: a time limit, the container's end, a signal to us
//! Interrupts     SIGINT, SIGTERM and SIGHUP, which end waits and not the runtime
//! ```
//!
//! # Invariants
//!
//! * A program is over when its process is, not when its pipes are: what it leaves in the
//!   background holds nobody up.
//! * A program that is ended early is killed with its process group.
//! * [`start`] and [`wait`] without outputs take no heap: init runs its hooks by them.
//! * No policy: nothing here knows hooks, plugins or containers, or looks up `PATH`.

mod input;
mod interrupts;
mod output;
mod program;
mod wait;

pub use input::{empty_input, fill_input, input};
pub use interrupts::Interrupts;
pub use output::{Output, SHOWN_BYTES};
pub use program::{Execution, Program, clone_program, start};
pub use wait::{Failure, Limits, wait};
