//! Containers whose init was moved out of its cgroups by the host, which then removed the cgroups.
//! Verbs read the cgroups that init is in now, and change them if no other process is in them.

use std::borrow::Cow;
use std::fs::read_link;

use nix::unistd::Pid;

use crate::error::Error;
use crate::identity::{self, Identity};
use crate::record::Record;

/// The container's cgroups at this moment.
pub(crate) struct Groups<'a> {
    own: &'a coracle_cgroups::Record,
    now: Cow<'a, coracle_cgroups::Record>,
    init: Option<Identity>,
    own_pid_namespace: bool,
}

/// The cgroups that the container's processes are in; `None` for a container without cgroups.
pub(crate) fn groups(record: &Record) -> Option<Groups<'_>> {
    let own = record.own_groups()?;
    let followed = record.init.and_then(|init| {
        let followed = coracle_cgroups::follow(own, Pid::from_raw(init.pid));
        // If init is alive after its cgroup was read, that was not the cgroup of a later process
        // with its pid.
        followed.filter(|_| init.is_alive())
    });
    Some(Groups {
        own,
        now: followed.map_or(Cow::Borrowed(own), Cow::Owned),
        init: record.init,
        own_pid_namespace: record.own_pid_namespace,
    })
}

/// Whether the container's processes are frozen. Since every verb calls this, init's cgroups are
/// only read if the container's own are gone.
pub(crate) fn is_frozen(record: &Record) -> bool {
    let is_frozen = |groups: &coracle_cgroups::Record| match groups.has_cgroups() {
        true => coracle_cgroups::is_frozen(groups).unwrap_or(Some(false)),
        false => Some(false),
    };
    let own = record.own_groups().map(is_frozen);
    let now = match own {
        Some(None) => groups(record).and_then(|groups| is_frozen(groups.now())),
        own => own.flatten(),
    };
    now == Some(true)
}

impl Groups<'_> {
    /// The cgroups for reading, and for adding a process.
    pub(crate) fn now(&self) -> &coracle_cgroups::Record {
        &self.now
    }

    /// The cgroups for changes.
    ///
    /// # Errors
    /// [`Error::Moved`] if processes of others are in them.
    pub(crate) fn ours(&self, verb: &'static str) -> Result<&coracle_cgroups::Record, Error> {
        let stranger = match self.is_moved() {
            true => coracle_cgroups::processes_in_moved(self.own, &self.now)?
                .into_iter()
                .find(|pid| !self.is_member(*pid)),
            false => None,
        };
        match stranger {
            Some(pid) => Err(Error::Moved { verb, pid }),
            None => Ok(&self.now),
        }
    }

    /// The pids of the container's processes, sorted.
    ///
    /// # Errors
    /// A cgroup that cannot be read.
    pub(crate) fn processes(&self) -> Result<Vec<i32>, Error> {
        let mut pids = coracle_cgroups::processes(&self.now)?;
        if self.is_moved() {
            pids.retain(|pid| self.is_member(*pid));
        }
        Ok(pids)
    }

    /// Whether init is in other cgroups than the container's own.
    pub(crate) fn is_moved(&self) -> bool {
        matches!(self.now, Cow::Owned(_))
    }

    /// Whether the process or an ancestor is in the container's pid namespace or, if the container
    /// has none of its own, descends from init.
    fn is_member(&self, pid: i32) -> bool {
        let Some(init) = self.init else { return false };
        let namespace = |pid: i32| read_link(format!("/proc/{pid}/ns/pid")).ok();
        let inside = namespace(init.pid).filter(|_| self.own_pid_namespace);
        let mut next = Some(pid);
        while let Some(pid) = next {
            if pid == init.pid || inside.is_some() && namespace(pid) == inside {
                return true;
            }
            next = parent(pid);
        }
        false
    }
}

fn parent(pid: i32) -> Option<i32> {
    let stat = identity::stat(pid).ok()??;
    (stat.ppid > 1).then_some(stat.ppid)
}
