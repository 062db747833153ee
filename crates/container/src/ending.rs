//! How a container ended.
//!
//! The kernel tells the exit status of a process to its parent, by `/proc/PID/stat` to anyone until
//! the parent has asked, and from Linux 6.15 on to whoever has had a pidfd open. After that nobody
//! knows it, so a process that waits has to record it.

use std::os::fd::BorrowedFd;

use coracle_sys::ExitStatus;

use crate::directory::Directory;
use crate::error::Error;
use crate::exit::Ending;
use crate::identity::{self, Identity};
use crate::lock;
use crate::record::Record;
use crate::timestamp;

/// The ending of a stopped container: what was recorded, or what a zombie still tells.
pub(crate) fn found(record: &Record) -> Option<Ending> {
    let of_zombie = || Some(Ending::of(zombie(&record.init?)?, record.own_cgroup()));
    record.ended.clone().or_else(of_zombie)
}

/// The ending of a process that ends now, by a pidfd that was opened while it lived. Asks again,
/// since the parent may reap it between the two.
pub(crate) fn of_process(pidfd: BorrowedFd, init: &Identity) -> Option<ExitStatus> {
    let of_pidfd = || coracle_sys::pidfd_exit_status(pidfd).ok().flatten();
    of_pidfd().or_else(|| zombie(init)).or_else(of_pidfd)
}

/// The status of a zombie. The kernel shows a zero to a caller without the right to trace it, so a
/// zero counts only for root.
fn zombie(init: &Identity) -> Option<ExitStatus> {
    let stat = identity::stat(init.pid).ok().flatten()?;
    let is_it = stat.starttime == init.start_time && stat.state == 'Z';
    let may_trace = nix::unistd::geteuid().is_root();
    let status = stat
        .exit_code
        .filter(|status| is_it && (may_trace || *status != 0));
    status.map(ExitStatus::of_wait_status)
}

/// Records how the container ended, unless it was deleted meanwhile, or another has its id.
///
/// # Errors
/// The lock's, or that of the write.
pub(crate) fn record(
    directory: &Directory,
    init: &Identity,
    status: ExitStatus,
) -> Result<(), Error> {
    let _lock = lock::acquire(directory)?;
    let Some(mut record) = directory.record()?.filter(|it| it.init == Some(*init)) else {
        return Ok(());
    };
    let mut ending = Ending::of(status, record.own_cgroup());
    ending.at = Some(timestamp::now());
    record.ended = Some(ending);
    directory.write_record(&record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_read_again() {
        let text = br#"{"version":1,"id":"a","ended":{"exitCode":1,"oomKilled":true}}"#;
        let record = Record::parse(text).unwrap();
        let ending = found(&record).unwrap();
        assert_eq!(
            (ending.exit_code, ending.oom_killed, ending.at),
            (1, true, None)
        );
        assert_eq!(
            found(&Record::parse(br#"{"version":1,"id":"a"}"#).unwrap()),
            None
        );
    }
}
