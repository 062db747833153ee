//! Scheduling policy, CPU affinity, I/O priority and memory policy.

use crate::Result;
use crate::kernel::done;

/// `struct sched_attr` of linux/sched/types.h, second version (5.3): see sched_setattr(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerAttributes {
    /// The size of the structure; [`sched_setattr`] fills it in.
    size: u32,
    /// `SCHED_OTHER` 0, `SCHED_FIFO` 1, `SCHED_RR` 2, `SCHED_BATCH` 3, `SCHED_IDLE` 5,
    /// `SCHED_DEADLINE` 6.
    pub policy: u32,
    /// `SCHED_FLAG_…`.
    pub flags: u64,
    /// −20 to 19, for the policies that are not real-time.
    pub nice: i32,
    /// 1 to 99, for `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds, of DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, of DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, of DEADLINE.
    pub period: u64,
    /// 0 to 1024, used with `SCHED_FLAG_UTIL_CLAMP_MIN`.
    pub utilization_min: u32,
    /// 0 to 1024, used with `SCHED_FLAG_UTIL_CLAMP_MAX`.
    pub utilization_max: u32,
}

impl SchedulerAttributes {
    /// The attributes of `policy`; all other fields are zero.
    #[must_use]
    pub fn of_policy(policy: u32) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }
}

const SIZE: u32 = 56;
const IOPRIO_WHO_PROCESS: i32 = 1;
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// `int sched_setattr(pid_t pid, struct sched_attr *attr, unsigned int flags)`, sched_setattr(2),
/// of the caller.
///
/// # Errors
///
/// The kernel's: `EPERM`, `EINVAL`, `EBUSY` if the deadline cannot be guaranteed, `EOPNOTSUPP` for
/// utilization clamps in a kernel built without them.
pub fn sched_setattr(attributes: &SchedulerAttributes) -> Result<()> {
    let attributes = SchedulerAttributes {
        size: SIZE,
        ..*attributes
    };
    // SAFETY: 0 is the caller; a whole `sched_attr` whose first member says its size. The kernel
    // writes to it only the size it would have liked, and only when that is an error.
    done(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// `int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *mask)`, sched_setaffinity(2), of
/// the caller: one bit for each processor, processor 0 in the lowest bit of the first word.
///
/// # Errors
///
/// `EINVAL` if none of the processors is online and allowed.
pub fn set_affinity(processors: &[u64]) -> Result<()> {
    let bytes = size_of_val(processors);
    // SAFETY: 0 is the caller; the kernel reads at most `bytes` bytes of the borrowed words. Its
    // masks are arrays of `unsigned long`, which has 64 bits on every machine we build for.
    done(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, bytes, processors.as_ptr()) })
}

/// `int ioprio_set(int which, int who, int ioprio)`, ioprio_set(2), of the caller: class 1 is
/// real-time, 2 best effort, 3 idle; levels go from 0 (highest) to 7.
///
/// # Errors
///
/// The kernel's: `EINVAL`, `EPERM` for the real-time class.
pub fn set_io_priority(class: u8, level: u8) -> Result<()> {
    let priority = u32::from(class) << IOPRIO_CLASS_SHIFT | u32::from(level);
    // SAFETY: takes three numbers; 0 is the caller.
    done(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) })
}

/// `long set_mempolicy(int mode, const unsigned long *nodemask, unsigned long maxnode)`,
/// set_mempolicy(2): `mode` is an `MPOL_…` with its flags, `nodes` has one bit for each memory
/// node.
///
/// # Errors
///
/// The kernel's: `EINVAL` for a mode that needs nodes without any, or for nodes that do not exist.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel subtracts one from the number of bits, an old bug that is now part of the
    // interface. An empty mask would wrap around, so it is passed as a null pointer.
    let bits = size_of_val(nodes) * 8 + 1;
    let nodes = if nodes.is_empty() {
        std::ptr::null()
    } else {
        nodes.as_ptr()
    };
    // SAFETY: the kernel reads `bits - 1` bits, all of which lie in the borrowed words, or nothing
    // from a null.
    done(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes, bits) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn attributes_have_the_second_versions_size() {
        assert_eq!(size_of::<SchedulerAttributes>(), 56);
        assert_eq!(std::mem::offset_of!(SchedulerAttributes, runtime), 24);
    }

    #[test]
    fn attributes_of_the_default_policy_are_taken() {
        assert_eq!(sched_setattr(&SchedulerAttributes::of_policy(3)), Ok(()));
        assert_eq!(sched_setattr(&SchedulerAttributes::of_policy(0)), Ok(()));
        let unknown = SchedulerAttributes::of_policy(99);
        assert_eq!(sched_setattr(&unknown), Err(Errno::EINVAL));
    }

    #[test]
    fn the_flags_for_utilization_are_known() {
        let bounded = SchedulerAttributes {
            flags: 0x20 | 0x40,
            utilization_max: 1024,
            ..SchedulerAttributes::of_policy(0)
        };
        let answer = sched_setattr(&bounded);
        assert!(
            matches!(answer, Ok(()) | Err(Errno::EOPNOTSUPP)),
            "{answer:?}"
        );
    }

    #[test]
    fn no_processor_is_refused() {
        assert_eq!(set_affinity(&[0]), Err(Errno::EINVAL));
        assert_eq!(set_affinity(&[u64::MAX; 16]), Ok(()));
    }

    #[test]
    fn priorities_of_the_disk() {
        assert_eq!(set_io_priority(2, 4), Ok(()));
        assert_eq!(set_io_priority(7, 0), Err(Errno::EINVAL));
    }

    #[test]
    fn policies_of_memory() {
        // MPOL_BIND needs nodes, MPOL_DEFAULT must have none. A kernel without NUMA has no call.
        let bind = set_memory_policy(2, &[]);
        assert!(
            matches!(bind, Err(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM)),
            "{bind:?}"
        );
        let default = set_memory_policy(0, &[]);
        assert!(
            matches!(default, Ok(()) | Err(Errno::ENOSYS | Errno::EPERM)),
            "{default:?}"
        );
    }
}
