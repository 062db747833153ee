//! Waiting for events of a container: out of memory, and its end. cgroup-v1/memory.rst § OOM
//! Control, cgroup-v2.rst, memory.events.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::files;
use crate::table::{MEMORY_EVENTS, Version};
use crate::{Error, Record, Result};

/// Waits for events of one container.
#[derive(Debug)]
pub struct Watch {
    memory: Memory,
}

/// How running out of memory is noticed.
#[derive(Debug)]
enum Memory {
    /// v1: an eventfd to which the kernel adds 1 each time, and once more when the cgroup is
    /// removed. `memory.oom_control` shows whether it was.
    Notice { notice: EventFd, file: OwnedFd },
    /// v2: the file `memory.events`, which can be polled, and the last known count of kills. v1
    /// without eventfd: `memory.oom_control`, which has the same count but cannot be polled, so it
    /// is read whenever another event ends the wait.
    Events { file: OwnedFd, kills: u64 },
    /// There is no memory controller.
    Silent,
}

/// An event of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupEvent {
    /// A process was killed because the cgroup ran out of memory; on v1, the cgroup ran out of
    /// memory.
    OutOfMemory,
    /// Init has ended.
    End,
    /// Nothing happened within the time limit.
    Nothing,
}

/// Starts to watch the container's events.
///
/// # Errors
/// A cgroup that cannot be read, or is gone.
pub fn watch(record: &Record) -> Result<Watch> {
    let (path, file, listen): (_, _, fn(&Path) -> nix::Result<Memory>) =
        match (record.hierarchy("memory"), &record.unified) {
            (Some(memory), _) => (&memory.path, MEMORY_EVENTS.name(Version::V1), notice),
            (None, Some(unified)) => (&unified.path, MEMORY_EVENTS.name(Version::V2), events),
            (None, None) => {
                let memory = Memory::Silent;
                return Ok(Watch { memory });
            }
        };
    let memory = listen(path).map_err(Error::read(path, file))?;
    Ok(Watch { memory })
}

fn notice(path: &Path) -> nix::Result<Memory> {
    let directory = files::open_path(path)?;
    let control = files::open_to_read(directory.as_fd(), MEMORY_EVENTS.name(Version::V1))?;
    let notice = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let line = format!("{} {}", notice.as_fd().as_raw_fd(), control.as_raw_fd());
    match files::write(directory.as_fd(), "cgroup.event_control", &line) {
        Ok(()) => Ok(Memory::Notice {
            notice,
            file: control,
        }),
        // A PREEMPT_RT kernel has no such events.
        Err(Errno::EOPNOTSUPP | Errno::ENOENT) => {
            let kills = kills(&control)?;
            Ok(Memory::Events {
                file: control,
                kills,
            })
        }
        Err(errno) => Err(errno),
    }
}

fn events(path: &Path) -> nix::Result<Memory> {
    let directory = files::open_path(path)?;
    // Without the memory controller the cgroup has no OOM kills.
    match files::open_to_read(directory.as_fd(), MEMORY_EVENTS.name(Version::V2)) {
        Ok(file) => {
            let kills = kills(&file)?;
            Ok(Memory::Events { file, kills })
        }
        Err(Errno::ENOENT) => Ok(Memory::Silent),
        Err(errno) => Err(errno),
    }
}

fn kills(file: &OwnedFd) -> nix::Result<u64> {
    let text = files::read_open(file)?;
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    Ok(count
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0))
}

impl Watch {
    /// Waits for something to happen, at most as long as `patience`. `init` is the pidfd of the
    /// container's init. Out of memory is reported before the end that it causes.
    ///
    /// # Errors
    /// The kernel's on waiting.
    pub fn wait(&mut self, init: BorrowedFd, patience: Duration) -> nix::Result<CgroupEvent> {
        let memory = match &self.memory {
            Memory::Notice { notice, .. } => Some((notice.as_fd(), PollFlags::POLLIN)),
            Memory::Events { file, .. } => Some((file.as_fd(), PollFlags::POLLPRI)),
            Memory::Silent => None,
        };
        let mut watched = vec![PollFd::new(init, PollFlags::POLLIN)];
        watched.extend(memory.map(|(descriptor, flags)| PollFd::new(descriptor, flags)));
        // Rounded up, so that a wait of less than a millisecond does not loop without sleeping.
        let timeout = patience.saturating_add(Duration::from_micros(999));
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let has_ended = watched.first().and_then(PollFd::any).unwrap_or(false);
        if self.is_out_of_memory() {
            Ok(CgroupEvent::OutOfMemory)
        } else if has_ended {
            Ok(CgroupEvent::End)
        } else {
            Ok(CgroupEvent::Nothing)
        }
    }

    /// Whether memory has run out since the last call; `false` if the cgroup is gone.
    fn is_out_of_memory(&mut self) -> bool {
        match &mut self.memory {
            Memory::Notice { notice, file } => {
                let count = notice.read().unwrap_or(0);
                // Read after the eventfd: the kernel removes the file before it adds 1 for the
                // removal.
                let is_gone = || files::read_open(file).is_err_and(files::is_gone);
                count > 1 || count == 1 && !is_gone()
            }
            Memory::Events { file, kills: known } => {
                let now = kills(file).unwrap_or(*known);
                let grown = now > *known;
                *known = now;
                grown
            }
            Memory::Silent => false,
        }
    }
}
