//! The process's program: whether it is there, for this machine, and with its interpreter.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use coracle_bundle::Config;
use coracle_text::errno_text;
use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstatat};

use super::finding::{BUNDLE, Finding, Level};

/// Where the runtime or the kernel mounts what is no part of the root file system.
const KERNELS_PLACES: [&str; 3] = ["/dev", "/proc", "/sys"];

const NAME: &str = "put the program into the root file system, or correct its name or PATH";
const IMAGE: &str = "install what it needs in the root file system, or use another image";

/// Looks for the process's program in the root file system as it is on the host. A mount may still
/// bring it.
pub(super) fn judge(config: &Config, candidates: &[PathBuf]) -> Option<Finding> {
    let name = config.process.as_ref()?.args.first()?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // A missing root is in the findings about sources of mounts.
    let root = nix::fcntl::open(&config.root.path, flags, Mode::empty()).ok()?;
    let look = |path: &PathBuf| {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let file = path.with_nix_path(|path| {
            coracle_sys::open_in_root(root.as_fd(), path, flags, Mode::empty())
        })??;
        is_program(file, c"")
    };
    let mut reason = None;
    for candidate in candidates {
        match look(candidate) {
            Ok(()) => {
                reason = Some((unusable(root.as_fd(), candidate)?, IMAGE));
                break;
            }
            // As execvp(3): a file that may not be executed is remembered, another looked for.
            Err(errno @ Errno::EACCES) => reason = Some((errno_text(errno), NAME)),
            Err(errno) => reason = reason.or(Some((errno_text(errno), NAME))),
        }
    }
    let (reason, remedy) = reason?;
    let found = format!("config.json: process.args[0]: {name:?}: {reason}");
    let is_of_kernel = |path: &Path| KERNELS_PLACES.iter().any(|place| path.starts_with(place));
    let mut mounts = config.mounts.iter();
    Some(
        match mounts.any(|mount| !is_of_kernel(mount.destination.path())) {
            true => Level::Note
                .of(BUNDLE, found + ", unless a mount brings it")
                .mended_by("look at the mount that is to bring it"),
            false => Level::Lacking.of(BUNDLE, found).mended_by(remedy),
        },
    )
}

/// What keeps a file from being executed, by its first bytes: it is for another machine, or its
/// interpreter is missing. What cannot be read is not judged.
fn unusable(root: BorrowedFd, path: &Path) -> Option<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let open = |path: &CStr| coracle_sys::open_in_root(root, path, flags, Mode::empty());
    let file = path.with_nix_path(open).ok()?.ok()?;
    let mut head = [0; coracle_process::PROGRAM_HEAD];
    let length = nix::unistd::read(&file, &mut head).ok()?;
    let head = head.get(..length)?;
    if let Some(reason) = coracle_process::wrong_format(head) {
        return Some(reason);
    }
    let interpreter = CString::new(coracle_process::interpreter(head)?).ok()?;
    // One that is relative begins at the process's working directory.
    if !interpreter.to_bytes().starts_with(b"/") {
        return None;
    }
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let found = coracle_sys::open_in_root(root, &interpreter, flags, Mode::empty());
    let errno = found.and_then(|file| is_program(file, c"")).err()?;
    let shown = interpreter.to_string_lossy();
    Some(format!("its interpreter {shown}: {}", errno_text(errno)))
}

/// Whether it is a file that can be executed by somebody.
pub(super) fn is_program(at: impl AsFd, path: &CStr) -> nix::Result<()> {
    let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
    let status = fstatat(at, path, flags)?;
    let kind = SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits());
    match kind == SFlag::S_IFREG && status.st_mode & 0o111 != 0 {
        true => Ok(()),
        false => Err(Errno::EACCES),
    }
}
