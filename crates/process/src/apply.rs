//! Carries out a plan: the runtime's part before the clone, and init's after it, without the heap.

mod confinement;
mod console;
mod examine;
mod exec;
mod home;
mod landlock;
mod machine;
mod root;
mod runtime;
mod working_directory;

pub use confinement::{Confined, become_user, confine};
pub use console::{Console, console, session};
pub use examine::examine;
pub use exec::{Ready, exec};
#[cfg(feature = "fuzzing")]
pub use home::find as find_home;
pub use machine::machine;
pub use runtime::{Before, after_clone, before_clone};
