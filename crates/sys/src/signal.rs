//! Signal masks and dispositions without the heap, including the signals that the C library
//! reserves.

use crate::kernel::done;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal};
use std::sync::atomic::{AtomicU64, Ordering};

/// The signals that a thread blocks: signal N is bit N − 1, as in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalMask(pub u64);

/// `struct sigaction` of the kernel, whose members are in another order on some architectures. All
/// zeroes mean `SIG_DFL`, no flags and an empty mask on each.
#[repr(C)]
struct DefaultAction([u64; 4]);

/// The kernel's `sizeof(sigset_t)`, not the C library's 128.
const MASK_BYTES: usize = size_of::<u64>();

/// Every signal, also those that the C library reserves. sigfillset(3) of musl leaves out 32 to 34,
/// and 34 is the first real-time signal of every program that is linked with glibc.
pub fn all_signals() -> SigSet {
    // SAFETY: `sigset_t` consists of numbers: all zeroes is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: it begins with the kernel's mask, and is larger and no less aligned.
    unsafe { (&raw mut set).cast::<u64>().write(u64::MAX) };
    // SAFETY: all of it is initialised.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

/// Blocks every signal that can be blocked, and returns the mask from before.
pub fn block_all_signals() -> SignalMask {
    exchange_mask(SignalMask(u64::MAX))
}

/// Restores a mask that [`block_all_signals`] returned.
pub fn restore_signals(mask: SignalMask) {
    exchange_mask(mask);
}

/// The signals that this process may be ignoring: all of them until [`read_signal_masks`] has read
/// the file.
static MAY_BE_IGNORED: AtomicU64 = AtomicU64::new(u64::MAX);

/// The signals that this process inherited as blocked, after [`read_signal_masks`] has read them.
static BLOCKED: AtomicU64 = AtomicU64::new(0);

/// Reads which signals this process inherited as ignored and as blocked. The runtime calls it
/// before it blocks a signal itself, and before it clones, where `/proc` is the host's: then
/// [`reset_signals`] in its children makes a call for the ignored signals only.
///
/// The lines may lie beyond the first 4096 bytes, after thousands of groups. Then every signal is
/// taken for possibly ignored. Once `SigIgn` was found, the file is not read again, since only this
/// crate changes the dispositions.
pub fn read_signal_masks() {
    if MAY_BE_IGNORED.load(Ordering::Relaxed) == u64::MAX {
        let (ignored, blocked) = ignored_and_blocked();
        MAY_BE_IGNORED.store(ignored, Ordering::Relaxed);
        BLOCKED.store(blocked, Ordering::Relaxed);
    }
}

fn ignored_and_blocked() -> (u64, u64) {
    let mut text = [0; 4096];
    let file = crate::open(c"/proc/self/status", OFlag::O_RDONLY);
    let length = file.and_then(|file| nix::unistd::read(&file, &mut text));
    let text = text.get(..length.unwrap_or(0)).unwrap_or(&[]);
    let ignored = mask_in(text, b"\nSigIgn:\t").unwrap_or(u64::MAX);
    (ignored, mask_in(text, b"\nSigBlk:\t").unwrap_or(0))
}

/// Whether this process may be ignoring the signal or inherited it as blocked; always true before
/// [`read_signal_masks`].
#[must_use]
pub fn may_be_ignored_or_blocked(signal: i32) -> bool {
    let mask = MAY_BE_IGNORED.load(Ordering::Relaxed) | BLOCKED.load(Ordering::Relaxed);
    (1..=64).contains(&signal) && mask >> (signal - 1) & 1 != 0
}

/// The mask in the line of proc_pid_status(5) that starts with `key`: sixteen hexadecimal digits.
fn mask_in(status: &[u8], key: &[u8]) -> Option<u64> {
    let at = status.windows(key.len()).position(|window| window == key)?;
    let digits = status.get(at + key.len()..)?.get(..16)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// `int rt_sigaction(int sig, const struct sigaction *act, NULL, size_t size)`, sigaction(2).
///
/// For a process made by [`clone3`](crate::clone3), which has no handlers. Ignored signals and the
/// mask survive an exec, so every ignored signal gets its default action and the mask is emptied.
/// This includes the two signals that the C library reserves and refuses to change.
pub fn reset_signals() {
    let ignored = MAY_BE_IGNORED.swap(0, Ordering::Relaxed);
    for signal in 1..=64_i32 {
        if ignored >> (signal - 1) & 1 != 0 && signal != libc::SIGKILL && signal != libc::SIGSTOP {
            reset_signal(signal);
        }
    }
    exchange_mask(SignalMask::default());
}

/// Blocks SIGPIPE and SIGXFSZ: a write to a closed pipe then fails with `EPIPE`, and one beyond
/// `RLIMIT_FSIZE` with `EFBIG`, and neither kills a runtime in the middle of its work. Blocked and
/// not ignored, since [`reset_signals`] empties the mask of children anyway.
///
/// Gives SIGCHLD its default action. A caller may have left it ignored, and then the kernel reaps
/// children by itself and waitid(2) does not find them.
pub(crate) fn settle_signals() {
    let survived = SigSet::from_iter([Signal::SIGPIPE, Signal::SIGXFSZ]);
    let answer = survived.thread_block();
    debug_assert_eq!(answer, Ok(()));
    reset_signal(libc::SIGCHLD);
}

/// `struct sigaction` of the kernel with a handler, on the supported architectures.
#[repr(C)]
struct HandlingAction {
    handler: extern "C" fn(libc::c_int),
    flags: libc::c_ulong,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    restorer: extern "C" fn(libc::c_int),
    mask: u64,
}

/// `SA_RESTORER` of asm/signal.h: x86-64 requires it to deliver a signal.
#[cfg(target_arch = "x86_64")]
const HANDLING_FLAGS: libc::c_ulong = 0x0400_0000;
#[cfg(not(target_arch = "x86_64"))]
const HANDLING_FLAGS: libc::c_ulong = 0;

/// `int rt_sigaction(int sig, const struct sigaction *act, NULL, size_t size)`, sigaction(2).
///
/// The first process of a pid namespace gets no signal for which it has no handler,
/// pid_namespaces(7). With these handlers every signal that would end an ordinary process ends this
/// one, with the exit code 128 + N. An exec removes them.
pub fn end_on_signals() {
    const HARMLESS: [i32; 9] = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGCONT,
        libc::SIGCHLD,
        libc::SIGURG,
        libc::SIGWINCH,
    ];
    let action = HandlingAction {
        handler: end,
        flags: HANDLING_FLAGS,
        // Never reached: the handler does not return.
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        restorer: end,
        mask: u64::MAX,
    };
    for signal in (1..=64_i32).filter(|signal| !HARMLESS.contains(signal)) {
        // SAFETY: the kernel reads a whole `sigaction` as this machine has it. The handler only
        // ends the process by a system call, which is allowed at any moment (signal-safety(7)).
        let answer = unsafe { set_action(signal, &action) };
        debug_assert_eq!(answer, Ok(()));
    }
}

extern "C" fn end(signal: libc::c_int) {
    crate::exit(128_i32.saturating_add(signal))
}

fn reset_signal(signal: i32) {
    let action = DefaultAction([0; 4]);
    // SAFETY: the kernel reads a `sigaction`, on no machine larger than this one; no handler is
    // installed, so no code of ours can run at an odd moment.
    let answer = unsafe { set_action(signal, &action) };
    debug_assert!(matches!(answer, Ok(()) | Err(Errno::EINVAL)));
}

/// # Safety
///
/// `action` begins with a whole `sigaction` of this machine, and a handler in it may run at any
/// moment.
unsafe fn set_action<T>(signal: i32, action: &T) -> crate::Result<()> {
    let (new, old) = (std::ptr::from_ref(action), std::ptr::null_mut::<T>());
    // SAFETY: by the caller's promise; a null makes the kernel write nothing back.
    done(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, old, MASK_BYTES) })
}

/// `int rt_sigprocmask(SIG_SETMASK, const sigset_t *new, sigset_t *old, size_t size)`,
/// sigprocmask(2).
fn exchange_mask(new: SignalMask) -> SignalMask {
    let mut old = SignalMask::default();
    // SAFETY: the kernel reads and writes one mask of eight bytes each, as the size says.
    let answer = unsafe {
        let (new, old) = (&raw const new.0, &raw mut old.0);
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            new,
            old,
            MASK_BYTES,
        )
    };
    // The call fails only for invalid memory or an invalid size.
    assert!(answer == 0, "the kernel takes a signal mask");
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read_or_unknown() {
        const KEY: &[u8] = b"\nSigIgn:\t";
        let status = b"SigBlk:\t0000000000000000\nSigIgn:\t8000000000001001\nSigCgt:\t00";
        assert_eq!(mask_in(status, KEY), Some(0x8000_0000_0000_1001));
        for unknown in [
            &status[..40],
            b"SigIgn:\t0000000000000000\n",
            b"\nSigIgn:\tx",
        ] {
            assert_eq!(mask_in(unknown, KEY), None);
        }
        // Whoever starts the tests may have blocked signals. The file is of the process's first
        // thread, for which the C library blocks all of them while it starts a thread for a test.
        let own = nix::sys::signal::SigSet::thread_get_mask().unwrap();
        let is_own = own.contains(nix::sys::signal::Signal::SIGTERM);
        let is_read = || ignored_and_blocked().1 >> (libc::SIGTERM - 1) & 1 == 1;
        let mut tries = 0..1000;
        assert!(tries.any(|_| is_read() == is_own || {
            std::thread::sleep(std::time::Duration::from_millis(1));
            false
        }));
        // The standard library ignores SIGPIPE.
        let (ignored, _) = ignored_and_blocked();
        assert!(ignored >> (libc::SIGPIPE - 1) & 1 == 1 && ignored != u64::MAX);
    }

    #[test]
    fn a_mask_is_put_back() {
        let before = block_all_signals();
        let kill_and_stop = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
        let blocked = exchange_mask(before);
        assert_eq!(blocked.0, !kill_and_stop);
        assert_eq!(block_all_signals(), before);
        restore_signals(before);
    }

    #[test]
    fn signals_end_the_process_with_their_number() {
        use crate::{Cloned, ExitStatus, NamespaceFlags, Parentage};
        use std::os::fd::AsFd;
        for signal in [libc::SIGTERM, libc::SIGSEGV, libc::SIGUSR1, 34, 64] {
            let cloned = crate::clone3(NamespaceFlags::empty(), None, Parentage::Own);
            match cloned.expect("a child") {
                Cloned::Child => {
                    reset_signals();
                    end_on_signals();
                    let own = nix::unistd::Pid::this().as_raw();
                    // SAFETY: a signal to the caller itself.
                    unsafe { libc::syscall(libc::SYS_kill, own, signal) };
                    crate::exit(1)
                }
                Cloned::Parent { pidfd, .. } => {
                    let status = crate::wait_exit(pidfd.as_fd());
                    assert_eq!(status, Ok(ExitStatus::Code(128 + signal)));
                }
            }
        }
    }

    #[test]
    fn an_ignored_signal_is_reset() {
        // Neither the test harness nor the C library uses this one.
        let signal = libc::SIGRTMIN() + 5;
        // SAFETY: SIG_IGN installs no handler.
        let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
        assert_eq!(before, libc::SIG_DFL);
        reset_signals();
        // SAFETY: SIG_DFL installs no handler.
        let after = unsafe { libc::signal(signal, libc::SIG_DFL) };
        assert_eq!(after, libc::SIG_DFL);
        // What the Rust runtime had set for this process's sake.
        // SAFETY: SIG_IGN installs no handler.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    }
}
