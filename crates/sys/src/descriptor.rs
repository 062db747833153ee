//! Descriptors: locking, closing a range, polling, sealed copies.

use crate::Result;
use crate::kernel::{done, new_descriptor, size};
use crate::waiting;
use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, SealFlag, fcntl, openat};
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// What [`close_range`] does to the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseRange {
    /// Closes them now. Afterwards no owner of one of them may be used or dropped, so this is for
    /// the last steps before an exec or exit.
    Close,
    /// Marks them to be closed by the next exec, since Linux 5.11.
    CloseOnExec,
}

/// Standard input. `std::io::stdin` would allocate a buffer.
///
/// If it was inherited closed, calls fail with `EBADF`.
// SAFETY: the number is not -1; a process keeps it for its standard input and never closes it.
pub const STDIN: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) };
/// Standard output, like [`STDIN`].
// SAFETY: as for `STDIN`.
pub const STDOUT: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(libc::STDOUT_FILENO) };
/// Standard error, like [`STDIN`].
// SAFETY: as for `STDIN`.
pub const STDERR: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(libc::STDERR_FILENO) };

/// How many descriptors [`poll_readable`] takes.
const POLLED: usize = 8;

/// `RLIMIT_NOFILE`: the C libraries give it types of different signs.
const NUMBER_OF_FILES: i32 = 7;

/// `MFD_EXEC` of linux/memfd.h, since Linux 6.3.
const MFD_EXEC: u32 = 0x10;

/// The seals that make the contents immutable. `F_SEAL_EXEC` is not among them: Linux 5.14 lacks
/// it.
const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

/// `int openat(AT_FDCWD, const char *path, int flags | O_CLOEXEC)`, openat(2), of what exists.
///
/// Not open(3): after it musl sets `O_CLOEXEC` once more, by a fcntl(2).
///
/// # Errors
///
/// The kernel's.
pub fn open<P: ?Sized + NixPath>(path: &P, flags: OFlag) -> Result<OwnedFd> {
    openat(AT_FDCWD, path, flags | OFlag::O_CLOEXEC, Mode::empty())
}

/// What [`flock`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Takes a shared lock, unless another holder has an exclusive one.
    Shared,
    /// Takes an exclusive lock, unless another holder has any.
    Exclusive,
    /// Releases the lock.
    None,
}

/// `int flock(int fd, int operation)`, flock(2), without waiting.
///
/// The lock belongs to the open file description, and so to every duplicate of the descriptor.
/// nix's guard is not used, since it ends the process if the unlock fails.
///
/// # Errors
///
/// The kernel's: `EWOULDBLOCK` if another holder has it.
pub fn flock(file: BorrowedFd<'_>, lock: Lock) -> Result<()> {
    let operation = match lock {
        Lock::Shared => libc::LOCK_SH | libc::LOCK_NB,
        Lock::Exclusive => libc::LOCK_EX | libc::LOCK_NB,
        Lock::None => libc::LOCK_UN,
    };
    // SAFETY: takes two numbers and touches no memory; the file is open for the borrow.
    done(unsafe { libc::syscall(libc::SYS_flock, file.as_raw_fd(), operation) })
}

/// `int close_range(unsigned int first, unsigned int last, int flags)`, close_range(2), since
/// Linux 5.9, on the numbers of `range`.
///
/// # Errors
///
/// The kernel's: `ENOMEM` if the table of descriptors had to be copied.
pub fn close_range(range: RangeInclusive<u32>, how: CloseRange) -> Result<()> {
    let (first, last) = (*range.start(), *range.end());
    let flags = match how {
        CloseRange::Close => 0,
        CloseRange::CloseOnExec => libc::CLOSE_RANGE_CLOEXEC,
    };
    // SAFETY: takes three numbers and touches no memory. That no owner of a closed number is used
    // again is the contract of `CloseRange::Close`, which its doc states.
    done(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) })
}

/// `int fcntl(int fd, F_DUPFD_CLOEXEC, 3)`, fcntl(2).
///
/// Not by the standard library: musl sets `O_CLOEXEC` once more after it.
///
/// # Errors
///
/// The kernel's: `EMFILE`.
pub fn duplicate(descriptor: BorrowedFd<'_>) -> Result<OwnedFd> {
    let number = descriptor.as_raw_fd();
    // SAFETY: takes three numbers and touches no memory; the descriptor is open for the borrow.
    let made = unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: a number from a fcntl(2) that duplicates is a new descriptor, owned by nobody yet.
    unsafe { new_descriptor(made) }
}

/// Closes the descriptors, by one close_range(2) for each run of consecutive numbers: the files of
/// cgroup hierarchies, which are opened one after the other, take a single call.
pub fn close_all(descriptors: &mut Vec<OwnedFd>) {
    let numbers = descriptors.drain(..).map(IntoRawFd::into_raw_fd);
    let mut numbers: Vec<u32> = numbers
        .filter_map(|number| number.try_into().ok())
        .collect();
    numbers.sort_unstable();
    for run in numbers.chunk_by(|number, next| number.checked_add(1) == Some(*next)) {
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            // It cannot fail: this process shares its table of descriptors with no other.
            let _ = close_range(*first..=*last, CloseRange::Close);
        }
    }
}

/// `int poll(struct pollfd *fds, nfds_t nfds, int timeout)`, poll(2).
///
/// Waits until one of at most eight descriptors is readable, closed at its other end or in error,
/// or until `timeout_ms` has passed; `None` waits for ever. Bit N of the result stands for the Nth
/// descriptor; 0 means that the time has passed. A pidfd is readable once its process has ended.
///
/// # Errors
///
/// The kernel's; `EINVAL` for more than eight. An interruption by a signal is retried.
pub fn poll_readable(descriptors: &[BorrowedFd<'_>], timeout_ms: Option<u32>) -> Result<u8> {
    let mut table = [libc::pollfd {
        fd: -1,
        events: libc::POLLIN,
        revents: 0,
    }; POLLED];
    let table = table.get_mut(..descriptors.len()).ok_or(Errno::EINVAL)?;
    for (entry, descriptor) in table.iter_mut().zip(descriptors) {
        entry.fd = descriptor.as_raw_fd();
    }
    let deadline = timeout_ms.map(|ms| Instant::now() + Duration::from_millis(u64::from(ms)));
    loop {
        let left = deadline.map_or(-1, left_ms);
        let left = match waiting::due_ms().map(i32::try_from) {
            Some(Ok(due)) if left < 0 || due < left => due,
            _ => left,
        };
        let count = libc::nfds_t::try_from(table.len()).map_err(|_| Errno::EINVAL)?;
        // SAFETY: `table` has `count` entries, alive and ours to write for the call.
        let answer = unsafe { libc::poll(table.as_mut_ptr(), count, left) };
        match Errno::result(answer) {
            Err(Errno::EINTR) => {}
            // A limit beyond `i32::MAX` milliseconds takes several calls.
            Ok(0) if deadline.is_none_or(|end| Instant::now() < end) => waiting::notify_if_due(),
            Err(errno) => return Err(errno),
            Ok(_) => break,
        }
    }
    let bits = table
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.revents != 0);
    Ok(bits.fold(0, |mask, (place, _)| mask | 1 << place))
}

/// `int poll(struct pollfd *fds, nfds_t nfds, int timeout)`, poll(2): whether the last `N`
/// descriptor numbers below `RLIMIT_NOFILE` are unused, so that at least `N` more can be opened.
/// For an unused number poll(2) returns `POLLNVAL`.
///
/// # Errors
///
/// The kernel's.
pub fn last_are_free<const N: usize>() -> Result<bool> {
    let (limit, _) = crate::get_rlimit(NUMBER_OF_FILES)?;
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let mut table = [libc::pollfd {
        fd: -1,
        events: 0,
        revents: 0,
    }; N];
    for (number, entry) in (1..).zip(&mut table) {
        entry.fd = limit - number;
    }
    let count = libc::nfds_t::try_from(N).map_err(|_| Errno::EINVAL)?;
    // SAFETY: `table` has `N` entries, alive and ours to write for the call.
    let answer = unsafe { libc::poll(table.as_mut_ptr(), count, 0) };
    Errno::result(answer)?;
    Ok(table
        .iter()
        .all(|entry| entry.revents & libc::POLLNVAL != 0))
}

/// Milliseconds until `deadline`, rounded up, so that a wait does not end early and loop without
/// sleeping.
fn left_ms(deadline: Instant) -> i32 {
    let left = deadline.saturating_duration_since(Instant::now());
    i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}

/// `int memfd_create(const char *name, unsigned int flags)`, memfd_create(2), filled from the
/// start of `source` by sendfile(2) and sealed by `F_ADD_SEALS`, fcntl(2).
///
/// Returns an executable copy in memory that can no longer be changed.
///
/// # Errors
///
/// The kernel's: `EACCES` where `vm.memfd_noexec` is 2, `ENOMEM`.
pub fn sealed_copy(name: &CStr, source: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let copy = match memfd_create(name, flags | MFD_EXEC) {
        // Kernels before 6.3 do not know `MFD_EXEC`, and every memfd is executable.
        Err(Errno::EINVAL) => memfd_create(name, flags)?,
        answer => answer?,
    };
    let mut offset: libc::off_t = 0;
    // Linux moves at most this many bytes in one sendfile(2).
    while send_file(copy.as_raw_fd(), source, &mut offset)? != 0 {}
    match fcntl(
        &copy,
        FcntlArg::F_ADD_SEALS(SEALS | SealFlag::from_bits_retain(libc::F_SEAL_EXEC)),
    ) {
        // `F_SEAL_EXEC`, since Linux 6.3, protects the mode; the contents are safe without it.
        Err(Errno::EINVAL) => fcntl(&copy, FcntlArg::F_ADD_SEALS(SEALS))?,
        answer => answer?,
    };
    Ok(copy)
}

fn memfd_create(name: &CStr, flags: u32) -> Result<OwnedFd> {
    // SAFETY: the name ends in NUL and is only read.
    let answer = unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) };
    // SAFETY: the call makes a new descriptor for its caller.
    unsafe { new_descriptor(answer) }
}

fn send_file(copy: i32, source: BorrowedFd<'_>, offset: &mut libc::off_t) -> Result<usize> {
    const PIECE: usize = 0x7fff_f000;
    // SAFETY: both files are open, and the kernel reads and writes one offset.
    size(unsafe {
        libc::syscall(
            libc::SYS_sendfile,
            copy,
            source.as_raw_fd(),
            &raw mut *offset,
            PIECE,
        )
    })
}

/// `int fcntl(int fd, F_GET_SEALS)`, F_GET_SEALS(2const): whether the file is a memfd whose
/// contents are sealed.
///
/// # Errors
///
/// The kernel's; a file that has no seals is `false`, not an error.
pub fn is_sealed(file: BorrowedFd<'_>) -> Result<bool> {
    match fcntl(file, FcntlArg::F_GET_SEALS) {
        Ok(bits) => Ok(SealFlag::from_bits_retain(bits).contains(SEALS)),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_lock_is_taken_shared_and_given_back() {
        let open = || std::fs::File::open("/proc/self/exe").expect("this program");
        let (one, other) = (open(), open());
        assert_eq!(flock(one.as_fd(), Lock::Shared), Ok(()));
        assert_eq!(flock(other.as_fd(), Lock::Shared), Ok(()));
        assert_eq!(flock(one.as_fd(), Lock::Exclusive), Err(Errno::EWOULDBLOCK));
        assert_eq!(flock(other.as_fd(), Lock::None), Ok(()));
        assert_eq!(flock(one.as_fd(), Lock::Exclusive), Ok(()));
        assert_eq!(flock(other.as_fd(), Lock::Shared), Err(Errno::EWOULDBLOCK));
    }

    #[test]
    fn a_copy_is_whole_and_final() {
        let mut source = std::fs::File::open("/proc/self/exe").expect("this program");
        let copy = sealed_copy(c"copy", source.as_fd()).expect("a copy");
        assert_eq!(is_sealed(copy.as_fd()), Ok(true));
        assert_eq!(is_sealed(source.as_fd()), Ok(false));
        let mut copy = std::fs::File::from(copy);
        let refused = copy.write(b"x").map_err(|error| error.raw_os_error());
        assert_eq!(refused, Err(Some(libc::EPERM)));
        assert!(copy.set_len(0).is_err());
        copy.rewind().expect("a start");
        let (mut left, mut right) = (Vec::new(), Vec::new());
        source.read_to_end(&mut left).expect("this program");
        copy.read_to_end(&mut right).expect("its copy");
        assert!(left == right);
    }

    #[test]
    fn a_plain_memfd_is_not_sealed() {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        let file = memfd_create(c"open", flags).expect("a memfd");
        assert_eq!(is_sealed(file.as_fd()), Ok(false));
    }

    #[test]
    fn the_last_numbers_are_free_until_one_is_taken() {
        let (limit, _) = crate::get_rlimit(NUMBER_OF_FILES).expect("the limit");
        let limit = i32::try_from(limit).expect("a number of a descriptor");
        let null = std::fs::File::open("/dev/null").expect("the null device");
        assert_eq!(last_are_free::<4>(), Ok(true));
        let taken = fcntl(&null, FcntlArg::F_DUPFD_CLOEXEC(limit - 4)).expect("a copy");
        assert_eq!(
            (last_are_free::<3>(), last_are_free::<4>()),
            (Ok(true), Ok(false))
        );
        nix::unistd::close(taken).expect("ours");
    }

    #[test]
    fn polls_tell_which_one() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (other, _open) = std::io::pipe().expect("a pipe");
        let both = [other.as_fd(), reader.as_fd()];
        assert_eq!(poll_readable(&both, Some(0)), Ok(0));
        assert_eq!(poll_readable(&both, Some(2)), Ok(0));
        { &writer }.write_all(b"x").expect("room in the pipe");
        assert_eq!(poll_readable(&both, None), Ok(0b10));
        assert_eq!(
            poll_readable(&[other.as_fd(); 9], Some(0)),
            Err(Errno::EINVAL)
        );
    }

    #[test]
    fn only_the_descriptors_of_the_list_are_closed() {
        let pipes = (0..4).map(|_| nix::unistd::pipe().unwrap());
        let (readers, mut writers): (Vec<OwnedFd>, Vec<OwnedFd>) = pipes.unzip();
        let kept = writers.remove(1);
        close_all(&mut writers);
        assert!(writers.is_empty());
        assert_eq!(nix::unistd::write(&kept, b"x"), Ok(1));
        for (number, reader) in readers.iter().enumerate() {
            let expected = usize::from(number == 1);
            assert_eq!(
                nix::unistd::read(reader, &mut [0; 2]),
                Ok(expected),
                "{number}"
            );
        }
    }

    #[test]
    fn a_duplicate_is_of_the_same_file_and_ends_at_exec() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let twin = duplicate(writer.as_fd()).unwrap();
        let flags = fcntl(&twin, FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
        drop(writer);
        assert_eq!(nix::unistd::write(&twin, b"x"), Ok(1));
        assert_eq!(nix::unistd::read(&reader, &mut [0; 2]), Ok(1));
    }

    #[test]
    fn an_end_is_readable() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(writer);
        assert_eq!(poll_readable(&[reader.as_fd()], None), Ok(1));
    }

    #[test]
    fn descriptors_far_out_are_marked() {
        // Far above what the other tests of this process use.
        let file = std::fs::File::open("/dev/null").expect("the null device");
        let number = fcntl(&file, FcntlArg::F_DUPFD(900)).expect("a high number");
        assert_eq!(close_range(900..=950, CloseRange::CloseOnExec), Ok(()));
        // SAFETY: the number was just made and has no other owner.
        let file = unsafe { new_descriptor(libc::c_long::from(number)) }.expect("it is open");
        assert_eq!(fcntl(&file, FcntlArg::F_GETFD), Ok(libc::FD_CLOEXEC));
    }
}
