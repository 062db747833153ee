//! Names of init's standard streams, by which a restore replaces them.
//!
//! The names are those of criu(8): for a pipe its link in `/proc/PID/fd`, `pipe:[INODE]`; for a
//! file of the host `file[MOUNT:INODE]`, and for a terminal `tty[NUMBER:DEVICE]`, in hexadecimal.
//! Anything else is named by its link, and criu restores it itself or fails.

use std::fs::{metadata, read_link};
use std::os::unix::fs::MetadataExt;

use coracle_bundle::Config;
use nix::fcntl::OFlag;

/// The names of the runtime's own streams, which init inherits; none if init gets a terminal.
pub(crate) fn names(config: &Config) -> Vec<String> {
    match &config.process {
        Some(process) if !process.terminal => (0..3).map(|stream| name("self", stream)).collect(),
        _ => Vec::new(),
    }
}

/// The name of a process's standard stream.
pub(crate) fn name(process: &str, stream: usize) -> String {
    let link = format!("/proc/{process}/fd/{stream}");
    let target = read_link(&link).unwrap_or_default();
    let target = target.to_string_lossy().into_owned();
    // Init replaces the host's null device by the container's, so the link is enough.
    if target.starts_with("/dev/null") || !target.starts_with('/') {
        return target;
    }
    match (mount_of(process, stream), metadata(&link)) {
        (Some(mount), Ok(file)) if file.is_file() => format!("file[{mount:x}:{:x}]", file.ino()),
        (_, Ok(file)) if target.starts_with("/dev/pts/") => {
            format!("tty[{:x}:{:x}]", file.rdev(), file.dev())
        }
        _ => target,
    }
}

/// The mount of the file, from its fdinfo: proc_pid_fdinfo(5).
fn mount_of(process: &str, stream: usize) -> Option<u64> {
    let path = format!("/proc/{process}/fdinfo/{stream}");
    let file = coracle_sys::open(path.as_str(), OFlag::O_RDONLY).ok()?;
    // procfs returns all of it to one read; `mnt_id` is the third line.
    let mut facts = [0; 512];
    let length = nix::unistd::read(&file, &mut facts).ok()?;
    let facts = std::str::from_utf8(facts.get(..length)?).ok()?;
    let number = facts
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))?;
    number.trim().parse().ok()
}
