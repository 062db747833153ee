//! The library of the tests that need root and a kernel: a [`Runtime`] to run, its [`Bundle`]s, the
//! facts of the [`machine()`], and the [`runner`] that reports the results.
//!
//! A test is five to ten lines:
//!
//! ```no_run
//! use coracle_integration::Runtime;
//!
//! let runtime = Runtime::new();
//! let bundle = runtime.bundle().shell("exit 7");
//! assert_eq!(runtime.run(&bundle).code, 7);
//! ```
//!
//! # Invariants
//!
//! - Every command has a time limit; nothing here waits for ever.
//! - Each [`Runtime`] has a state root and a folder of its own. Dropping it deletes its containers and
//!   then *looks*: a process, mount, control group or state file left behind fails the test.
//! - A test that this machine cannot run is reported by [`skip!`] with its reason, never passed
//!   silently.
//! - No unsafe code: `setpriv`, `setsid` and the shell make the system calls that would need it.

mod bundle;
mod command;
mod container;
pub mod criu;
pub mod expected;
mod folder;
mod host_mount;
mod leftovers;
mod machine;
mod orphans;
mod programs;
mod receiver;
pub mod runner;
mod runtime;
pub mod sample;
mod sandbox;
pub mod terminal;
pub mod trace;

pub use bundle::{Bundle, fill_rootfs};
pub use command::{Command, Output, Running, wait_until, wait_until_within};
pub use container::{Child, Container};
pub use coracle_test_attribute::test;
pub use folder::Folder;
pub use host_mount::HostMount;
#[doc(hidden)]
pub use inventory;
pub use leftovers::groups;
pub use machine::{
    Layout, Machine, control_file, either, has_controller, is_v2, machine, needs, status_field,
};
pub use orphans::collect_orphans;
pub use programs::{copy_program, write_program};
pub use receiver::Receiver;
pub use runtime::{Runtime, build_folder, program};
pub use sandbox::{Manager, Sandbox};
pub use serde_json::{Value, json};

/// Ends the test as skipped: `skip!("no cgroup v2 here")`. The runner prints the reason.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {
        $crate::runner::skip(format!($($reason)*))
    };
}

/// The registration that `#[test]` expands to, in addition to the function.
#[doc(hidden)]
#[macro_export]
macro_rules! register {
    ($name:ident) => {
        $crate::register!(@ $name, false);
    };
    ($name:ident last) => {
        $crate::register!(@ $name, true);
    };
    (@ $name:ident, $is_last:literal) => {
        $crate::inventory::submit! {
            $crate::runner::Test {
                module: module_path!(),
                name: stringify!($name),
                line: line!(),
                run: $name,
                is_last: $is_last,
            }
        }
    };
}
