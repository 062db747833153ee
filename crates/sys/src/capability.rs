//! Capabilities: capabilities(7).

use crate::Result;
use crate::kernel::done;
use nix::errno::Errno;

/// The capabilities on which decisions of the runtime depend, by their numbers in
/// linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// `CAP_SETGID`.
    Setgid = 6,
    /// `CAP_SETUID`.
    Setuid = 7,
    /// `CAP_SETPCAP`.
    Setpcap = 8,
    /// `CAP_NET_ADMIN`.
    NetAdmin = 12,
    /// `CAP_SYS_PTRACE`.
    SysPtrace = 19,
    /// `CAP_SYS_ADMIN`.
    SysAdmin = 21,
    /// `CAP_SYS_RESOURCE`.
    SysResource = 24,
    /// `CAP_MKNOD`.
    Mknod = 27,
}

impl Capability {
    /// Whether it is in `set`, which has one bit for each capability.
    #[must_use]
    pub fn is_in(self, set: u64) -> bool {
        set & 1 << self as u8 != 0
    }
}

/// Three of a thread's capability sets, one bit each: bit 21 is `CAP_SYS_ADMIN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The set that the kernel checks.
    pub effective: u64,
    /// The capabilities that may be made effective.
    pub permitted: u64,
    /// The capabilities kept by an exec of a program with inheritable file capabilities.
    pub inheritable: u64,
}

/// Whether the permitted set survives the change from uid 0 to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepCapabilities {
    /// It does, until the next exec.
    Keep,
    /// It is cleared: the kernel's default.
    Drop,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: two halves of 32 bits.
const VERSION: u32 = 0x2008_0522;

/// `int capget(cap_user_header_t header, cap_user_data_t data)`, capget(2): the caller's sets.
///
/// # Errors
///
/// The kernel's; none is known for the caller itself.
pub fn capget() -> Result<Capabilities> {
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut halves = [Half::default(); 2];
    // SAFETY: a whole header; version 3 makes the kernel write two halves, and there are two.
    done(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) })?;
    let [low, high] = halves;
    let join = |low, high| u64::from(low) | u64::from(high) << 32;
    Ok(Capabilities {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

/// `int capset(cap_user_header_t header, const cap_user_data_t data)`, capget(2).
///
/// # Errors
///
/// `EPERM` for a permitted bit that was not permitted, an effective one that is not permitted, or
/// an inheritable one beyond the bounding set.
pub fn capset(capabilities: &Capabilities) -> Result<()> {
    let low = |set: u64| u32::try_from(set & u64::from(u32::MAX)).unwrap_or(0);
    let half = |shift: u32| Half {
        effective: low(capabilities.effective >> shift),
        permitted: low(capabilities.permitted >> shift),
        inheritable: low(capabilities.inheritable >> shift),
    };
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let halves = [half(0), half(32)];
    // SAFETY: a whole header; version 3 makes the kernel read two halves, and there are two.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) })
}

/// `int prctl(PR_CAPBSET_DROP, unsigned long cap)`, PR_CAPBSET_DROP(2const).
///
/// # Errors
///
/// `EINVAL` for a number that the kernel does not know, `EPERM` without `CAP_SETPCAP`.
pub fn drop_bounding(capability: u8) -> Result<()> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0).map(drop)
}

/// `int prctl(PR_CAPBSET_READ, unsigned long cap)`, PR_CAPBSET_READ(2const).
///
/// # Errors
///
/// `EINVAL` for a number that the kernel does not know.
pub fn read_bounding(capability: u8) -> Result<bool> {
    prctl(libc::PR_CAPBSET_READ, u64::from(capability), 0).map(|answer| answer == 1)
}

/// `int prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)`, since Linux 4.3.
///
/// # Errors
///
/// The kernel's; none is known.
pub fn ambient_clear() -> Result<()> {
    let operation = u64::from(libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned());
    prctl(libc::PR_CAP_AMBIENT, operation, 0).map(drop)
}

/// `int prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, unsigned long cap, 0, 0)`, since Linux 4.3.
///
/// # Errors
///
/// `EPERM` if the capability is not both permitted and inheritable, `EINVAL` for an unknown one.
pub fn ambient_raise(capability: u8) -> Result<()> {
    let operation = u64::from(libc::PR_CAP_AMBIENT_RAISE.cast_unsigned());
    prctl(libc::PR_CAP_AMBIENT, operation, u64::from(capability)).map(drop)
}

/// `int prctl(PR_GET_SECUREBITS)`, PR_GET_SECUREBITS(2const): whether the secure bits, which pass
/// from process to process, let ambient capabilities be raised.
///
/// # Errors
///
/// The kernel's; none is known.
pub fn ambient_is_allowed() -> Result<bool> {
    /// `SECBIT_NO_CAP_AMBIENT_RAISE` of linux/securebits.h.
    const NO_RAISE: libc::c_int = 1 << 6;
    prctl(libc::PR_GET_SECUREBITS, 0, 0).map(|bits| bits & NO_RAISE == 0)
}

/// `int prctl(PR_SET_KEEPCAPS, long state)`, PR_SET_KEEPCAPS(2const).
///
/// # Errors
///
/// `EPERM` if the secure bits lock the choice.
pub fn set_keep_capabilities(keep: KeepCapabilities) -> Result<()> {
    let state = match keep {
        KeepCapabilities::Keep => 1,
        KeepCapabilities::Drop => 0,
    };
    prctl(libc::PR_SET_KEEPCAPS, state, 0).map(drop)
}

/// The operations of this file take numbers alone; no pointer is ever passed.
fn prctl(operation: i32, first: u64, second: u64) -> Result<i32> {
    // SAFETY: `operation` is one of this file's, none of which reads memory; the arguments that
    // must be zero are.
    Errno::result(unsafe { libc::prctl(operation, first, second, 0_u64, 0_u64) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_read_as_procfs_prints_them() {
        assert_eq!((size_of::<Header>(), size_of::<[Half; 2]>()), (8, 24));
        let ours = capget().expect("our own sets");
        let text = std::fs::read_to_string("/proc/thread-self/status").expect("our status");
        for (name, set) in [
            ("CapEff", ours.effective),
            ("CapPrm", ours.permitted),
            ("CapInh", ours.inheritable),
        ] {
            assert!(
                text.contains(&format!("{name}:\t{set:016x}")),
                "{name} {set:016x}"
            );
        }
    }

    #[test]
    fn setting_what_is_set_changes_nothing() {
        let ours = capget().expect("our own sets");
        assert_eq!(capset(&ours), Ok(()));
        assert_eq!(capget(), Ok(ours));
    }

    #[test]
    fn unknown_numbers_are_refused() {
        assert!(read_bounding(0).is_ok());
        assert_eq!(read_bounding(63), Err(Errno::EINVAL));
        assert_eq!(ambient_raise(63), Err(Errno::EINVAL));
    }
}
