//! Session, terminal and standard streams: config.md § Process, `terminal`.

use super::root::ROOT;
use crate::plan::explain::Check;
use crate::plan::steps::{Plan, Section};
use crate::plan::steps::{StreamSource, Streams};
use coracle_bundle::ConsoleSize;
use coracle_sys::{
    Call, DEVPTS_MAGIC, Fault, STDERR, STDIN, STDOUT, WindowSize, file_system_magic, open_beneath,
    open_in_root, pty_peer, set_controlling_terminal, set_window_size, unlock_pty,
};
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

/// Major and minor number of the null device and of the pty multiplexer: devices.txt.
const NULL: (u64, u64) = (1, 3);
const PTMX: (u64, u64) = (5, 2);

/// A new pseudo-terminal of the container. Descriptors 0 to 2 are copies of the slave.
#[derive(Debug)]
pub struct Console {
    /// The end for the runtime.
    pub master: OwnedFd,
    /// The end for the process, also bound to `/dev/console`.
    pub slave: OwnedFd,
}

/// Leaves the caller's session. In it the container could push characters into the caller's
/// terminal by TIOCSTI as if they had been typed (CVE-2017-5226).
///
/// # Errors
///
/// `EPERM` of setsid(2) for a process group leader.
pub fn session(plan: &Plan) -> Result<(), Fault> {
    let step = plan.first(Section::Session);
    nix::unistd::setsid()
        .map(drop)
        .map_err(Call::Setsid.at(step))
}

/// Opens a terminal if the config has one, and gives descriptors 0 to 2 to the process's user. Call
/// it after the change of the root and [`session`].
///
/// # Errors
///
/// The call that failed; see [`Plan::explain`].
pub fn console(plan: &Plan) -> Result<Option<Console>, Fault> {
    let step = plan.first(Section::Streams);
    let Streams { source, uid } = &plan.streams;
    match source {
        StreamSource::Inherited => inherit(*uid, step).map(|()| None),
        StreamSource::Terminal { window } => open_terminal(*window, *uid, step).map(Some),
    }
}

fn open_terminal(window: Option<ConsoleSize>, uid: u32, step: usize) -> Result<Console, Fault> {
    let master = open_multiplexer(step)?;
    unlock_pty(master.as_fd()).map_err(Call::Ioctl.at(step))?;
    // By the master and not by the path /dev/pts/N, over which the container could have mounted
    // (CVE-2025-52565).
    let slave = pty_peer(master.as_fd()).map_err(Call::Ioctl.at(step))?;
    if let Some(ConsoleSize { height, width }) = window {
        let size = WindowSize {
            rows: height,
            columns: width,
        };
        set_window_size(master.as_fd(), size).map_err(Call::Ioctl.at(step))?;
    }
    hand_over(slave.as_fd(), uid);
    set_controlling_terminal(slave.as_fd()).map_err(Call::Ioctl.at(step))?;
    for number in 0..3 {
        replace(number, slave.as_fd()).map_err(Call::Dup.at(step))?;
    }
    Ok(Console { master, slave })
}

/// Opens `/dev/pts/ptmx`. `/dev/ptmx` may be any file of the image. `/dev/pts` is verified to be a
/// devpts, and below it, without crossing a mount, there are only terminals.
fn open_multiplexer(step: usize) -> Result<OwnedFd, Fault> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let terminals =
        open_in_root(ROOT, c"/dev/pts", flags, Mode::empty()).map_err(Call::Openat2.at(step))?;
    let magic = file_system_magic(terminals.as_fd()).map_err(Call::Statfs.at(step))?;
    if magic != DEVPTS_MAGIC {
        return Err(Fault::new(step, Check::NotDevpts));
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW;
    let resolve = ResolveFlag::RESOLVE_NO_XDEV
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_BENEATH;
    let master = open_beneath(terminals.as_fd(), c"ptmx", flags, Mode::empty(), resolve)
        .map_err(Call::Openat2.at(step))?;
    let status = fstat(&master).map_err(Call::Stat.at(step))?;
    match is_device(&status, PTMX) {
        true => Ok(master),
        false => Err(Fault::new(step, Check::NotMultiplexer)),
    }
}

fn is_device(status: &FileStat, number: (u64, u64)) -> bool {
    // `st_rdev` only counts if the file is a device, so the type is checked first.
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    kind == SFlag::S_IFCHR && (major(status.st_rdev), minor(status.st_rdev)) == number
}

/// Keeps the caller's streams: replaces the host's null device by the container's, and gives
/// anything else to the process's user.
fn inherit(uid: u32, step: usize) -> Result<(), Fault> {
    let mut null = None;
    for (number, stream) in [STDIN, STDOUT, STDERR].iter().enumerate() {
        // A closed stream stays closed: the runtime has opened those that its caller left closed.
        let Ok(status) = fstat(stream) else { continue };
        if !is_device(&status, NULL) {
            hand_over(*stream, uid);
        } else if let Some(null) = null.get_or_insert_with(open_null) {
            replace(number, null.as_fd()).map_err(Call::Dup.at(step))?;
        }
    }
    if let Some(null) = null.flatten() {
        leave_open(null);
    }
    Ok(())
}

/// Saves a close(2): before init goes on as the user, it closes all that it does not keep.
fn leave_open(file: OwnedFd) {
    let _ = file.into_raw_fd();
}

/// Opens the container's null device. `None` if its `/dev/null` is anything else, and the host's
/// stays: opening a link, FIFO or device chosen by the image could have side effects on the host.
fn open_null() -> Option<OwnedFd> {
    let open = |flags| {
        let flags = flags | OFlag::O_NOFOLLOW;
        let file = open_in_root(ROOT, c"/dev/null", flags, Mode::empty()).ok()?;
        let status = fstat(&file).ok()?;
        is_device(&status, NULL).then_some(file)
    };
    open(OFlag::O_PATH).map(leave_open)?;
    open(OFlag::O_RDWR | OFlag::O_NOCTTY)
}

/// Makes the user owner of a stream, so that it can open `/dev/stdout`; the group stays. An error
/// is ignored: the caller may lack CAP_CHOWN over the file, as in a user namespace that does not
/// map its owner, or the stream may have no owner.
fn hand_over(stream: BorrowedFd, uid: u32) {
    let _ = coracle_sys::fchown(stream, uid);
}

fn replace(number: usize, with: BorrowedFd) -> nix::Result<()> {
    match number {
        0 => dup2_stdin(with),
        1 => dup2_stdout(with),
        _ => dup2_stderr(with),
    }
}
