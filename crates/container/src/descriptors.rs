//! What init's standard streams are called, so that a restore can give others in their place.
//!
//! A pipe is `pipe:[INODE]`, as its link in `/proc/PID/fd` reads; a file of the host is
//! `file[MOUNT:INODE]` and a terminal `tty[NUMBER:DEVICE]` in hexadecimal numbers, criu(8)'s names
//! of them. Anything else has the text of its link and comes back by itself, or not at all.

use std::fs::{metadata, read_link, read_to_string};
use std::os::unix::fs::MetadataExt;

use coracle_bundle::Config;

/// The names of our own streams, which init inherits; none where it gets a terminal.
pub(crate) fn names(config: &Config) -> Vec<String> {
    match &config.process {
        Some(process) if !process.terminal => (0..3).map(|stream| name("self", stream)).collect(),
        _ => Vec::new(),
    }
}

/// The name of what a process has as a standard stream.
pub(crate) fn name(process: &str, stream: usize) -> String {
    let link = format!("/proc/{process}/fd/{stream}");
    let target = read_link(&link).unwrap_or_default();
    let target = target.to_string_lossy().into_owned();
    // Init opens the container's own null device instead.
    if target.starts_with("/dev/null") || !target.starts_with('/') {
        return target;
    }
    let facts = read_to_string(format!("/proc/{process}/fdinfo/{stream}")).unwrap_or_default();
    let mount = facts.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let mount = mount.and_then(|number| number.trim().parse::<u64>().ok());
    match (mount, metadata(&link)) {
        (Some(mount), Ok(file)) if file.is_file() => format!("file[{mount:x}:{:x}]", file.ino()),
        (_, Ok(file)) if target.starts_with("/dev/pts/") => {
            format!("tty[{:x}:{:x}]", file.rdev(), file.dev())
        }
        _ => target,
    }
}
