//! Programs that tests write and then execute.
//!
//! A descriptor for writing is inherited by what another thread starts at that moment, until that has
//! executed its own program. To execute the file meanwhile fails with ETXTBSY, execve(2). So nothing
//! is started while a program is written.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{PoisonError, RwLock};

use crate::folder::set_mode;

/// Held by who writes a program, and shared by all who start one.
static WRITING: RwLock<()> = RwLock::new(());

/// Writes a program, mode 0755.
pub fn write_program(path: &Path, text: impl AsRef<[u8]>) {
    let _alone = WRITING.write().unwrap_or_else(PoisonError::into_inner);
    fs::write(path, text).expect("a program");
    set_mode(path, 0o755);
}

/// Copies a program, mode 0755.
pub fn copy_program(from: &Path, to: &Path) {
    let _alone = WRITING.write().unwrap_or_else(PoisonError::into_inner);
    fs::copy(from, to).unwrap_or_else(|error| panic!("{} is not here: {error}", from.display()));
    set_mode(to, 0o755);
}

/// Starts a command; when this returns, it has executed its program.
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    let _nothing_is_written = WRITING.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}
