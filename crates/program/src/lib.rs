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
//! * A program has ended when its process has, even if its pipes are still open: a process that it
//!   left in the background does not delay the runtime.
//! * A program that is ended early is killed with its process group.
//! * [`start`], and [`wait`] without outputs, do not allocate: init runs its hooks with them.
//! * No policy: nothing here knows of hooks, plugins or containers, or searches `PATH`.

mod input;
mod interrupts;
mod output;
mod program;
mod wait;

pub use input::{empty_input, fill_input, input};
pub use interrupts::{CALL_LIMIT, Interrupts};
pub use output::{Output, SHOWN_BYTES};
pub use program::{Execution, Program, clone_program, start};
pub use wait::{Failure, Limits, wait};
