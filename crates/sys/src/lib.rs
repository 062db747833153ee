//! Wrappers of system calls: one typed function for each call, and the only unsafe code of the
//! project.
//!
//! The crates above decide which calls are made and in which order; nothing here knows what a
//! container is. Where `nix` has a call that does not allocate, the other crates use nix. This
//! crate has the calls that nix lacks, and those that nix wraps in a way that allocates, retries
//! without saying so, or lets the C library change every thread of the process. `rustix` is in the
//! tree through procfs and has some of these calls, but its errno, open flags and modes are types
//! of their own, so using both would double the vocabulary to save a few functions.
//!
//! ```
//! use coracle_sys::{NamespaceFlags, namespace_type};
//! let file = std::fs::File::open("/proc/self/ns/uts")?;
//! assert_eq!(namespace_type(std::os::fd::AsFd::as_fd(&file))?, NamespaceFlags::UTS);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Invariants
//!
//! * **No heap**, unless a function's documentation says so: everything here may run in the child
//!   between the clone and the exec, where [`allocation`] forbids it. Arguments are `&CStr`, slices
//!   and `BorrowedFd`; results are numbers, small values and [`OwnedFd`](std::os::fd::OwnedFd).
//! * **Close-on-exec from the start**: every descriptor that is made here has the flag `O_CLOEXEC`.
//! * **No policy**: no default, no fallback to an older call. The exceptions are [`ProcFs`], which
//!   falls back to the mounted `/proc` where it may not mount its own, and retries that the man
//!   pages demand.
//! * **No text**: an error is an [`Errno`](nix::errno::Errno), and the crate that knows the
//!   arguments writes the message.
//! * **No threads, no environment, no locks, no log.**

// The workspace denies unsafe code everywhere else. Each block here states why it is sound.
#![allow(unsafe_code)]

#[cfg(target_env = "musl")]
mod abort;
pub mod allocation;
mod bpf;
mod capability;
mod clone;
mod descriptor;
mod directory;
mod exec;
mod fault;
mod identity;
mod kernel;
mod key;
mod landlock;
mod local_time;
mod message;
mod mount;
mod namespace;
mod path;
mod pattern;
mod process;
mod procfs;
mod schedule;
mod seccomp;
mod signal;
mod start;
mod terminal;
mod timeline;
mod wait;
mod waiting;
mod xattr;

/// The value, or the kernel's errno.
pub type Result<T> = nix::Result<T>;

pub use bpf::{
    Instruction, bpf_attach_device, bpf_detach_device, bpf_is_named, bpf_load_device_program,
    bpf_program_by_id, bpf_query_device,
};
pub use capability::{
    Capabilities, Capability, KeepCapabilities, ambient_clear, ambient_is_allowed, ambient_raise,
    capget, capset, drop_bounding, read_bounding, set_keep_capabilities,
};
pub use clone::{Cloned, Parentage, assert_single_threaded, clone3, exit};
pub use descriptor::{
    CloseRange, Lock, STDERR, STDIN, STDOUT, close_all, close_range, duplicate, flock, is_sealed,
    last_are_free, open, poll_readable, sealed_copy,
};
pub use directory::{
    DirectoryEntries, DirectoryEntry, directory_entries, get_directory_entries, list_directory,
};
pub use exec::{StringArray, execve, execve_adding, execveat};
pub use fault::{Call, Cause, Fault, Remark};
pub use identity::{fchown, setdomainname, setgroups, sethostname, setresgid, setresuid};
pub use key::{join_session_keyring, key_permissions, set_key_permissions};
pub use landlock::{
    LandlockHandled, landlock_abi, landlock_allow_path, landlock_allow_port,
    landlock_create_ruleset, landlock_restrict_self,
};
pub use local_time::{LocalTime, local_time};
pub use message::{connect_unix, receive, send, socket_pair};
pub use mount::{
    Depth, MOUNT_DATA_BYTES, MountAttributes, OpenTreeFlags, fsconfig_create, fsconfig_flag,
    fsconfig_string, fsmount, fsopen, mount_attribute, mount_setattr, move_mount, open_tree,
};
pub use namespace::{
    NamespaceFlags, NamespaceKind, PerNamespace, loopback_up, namespace_type, setns, unshare,
};
pub use nix::fcntl::AT_FDCWD;
pub use path::{
    CGROUP_MAGIC, CGROUP2_MAGIC, DEVPTS_MAGIC, InodeKind, MQUEUE_MAGIC, NSFS_MAGIC, PROC_MAGIC,
    file_system_magic, getcwd, inode_at, mount_flags, mount_id, open_beneath, open_in_root,
    read_link, rename_no_replace,
};
pub use pattern::Pattern;
pub use process::{
    die_with_parent, get_rlimit, personality, pidfd_open, pidfd_send_signal, set_rlimit,
};
pub use procfs::ProcFs;
pub use schedule::{
    SchedulerAttributes, sched_setattr, set_affinity, set_io_priority, set_memory_policy,
};
pub use seccomp::{
    FilterFlags, FilterInstruction, knows_filter_action, knows_filter_flags, load_filter,
    pidfd_getfd,
};
pub use signal::{
    SignalMask, all_signals, block_all_signals, end_on_signals, may_be_ignored_or_blocked,
    read_signal_masks, reset_signals, restore_signals,
};
pub use start::{arguments, begin, settle};
pub use terminal::{
    WindowSize, pty_peer, set_controlling_terminal, set_window_size, unlock_pty, window_size,
};
pub use timeline::{
    Note, Noted, RUNTIME, has_timeline, keep_timeline, note_part, note_step, note_text, notes,
    since_boot_ns, time_ns,
};
pub use wait::{ExitStatus, pidfd_exit_status, wait_any, wait_exit};
pub use waiting::{PATIENCE, Wait, notify_if_due, on_long_wait, wait_for};
pub use xattr::{getxattr, listxattr, setxattr};
