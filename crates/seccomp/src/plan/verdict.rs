//! Return values of a filter: `SECCOMP_RET_…` of linux/seccomp.h.

use coracle_bundle::SeccompAction;

/// Kills the whole process: if only one thread is killed, the others may wait for it for ever.
pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;

/// `SECCOMP_RET_USER_NOTIF`.
pub(crate) const NOTIFY: u32 = 0x7fc0_0000;

const ERRNO: u32 = 0x0005_0000;
const ENOSYS: u32 = 38;

/// The call fails with ENOSYS, as if it did not exist.
pub(crate) const NO_SUCH_CALL: u32 = ERRNO | ENOSYS;

/// The part of a return value that is the action, not its data: `SECCOMP_RET_ACTION_FULL`.
pub(crate) const ACTION: u32 = 0xffff_0000;

/// The return value of an action.
pub(crate) fn verdict(action: SeccompAction) -> u32 {
    match action {
        SeccompAction::KillThread => 0,
        SeccompAction::KillProcess => KILL_PROCESS,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno(errno) => ERRNO | u32::from(errno),
        SeccompAction::Trace(message) => 0x7ff0_0000 | u32::from(message),
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Notify => NOTIFY,
        SeccompAction::Allow => 0x7fff_0000,
    }
}

/// The action, for messages.
pub(crate) fn describe(verdict: u32) -> String {
    let data = verdict & !ACTION;
    match verdict & ACTION {
        0 => "kill the thread".to_owned(),
        KILL_PROCESS => "kill the process".to_owned(),
        0x0003_0000 => "trap".to_owned(),
        ERRNO => {
            let errno = i32::try_from(data).map_or(nix::errno::Errno::UnknownErrno, |number| {
                nix::errno::Errno::from_raw(number)
            });
            match errno {
                nix::errno::Errno::UnknownErrno => format!("errno {data}"),
                errno => format!("{errno:?}"),
            }
        }
        0x7ff0_0000 => format!("trace ({data})"),
        0x7ffc_0000 => "log".to_owned(),
        NOTIFY => "notify".to_owned(),
        _ => "allow".to_owned(),
    }
}
