//! `delete`: ends a container and removes everything of it.

use std::os::fd::AsFd;

use coracle_bundle::{ContainerId, HookPoint};
use coracle_program::{Interrupts, Limits};

use crate::directory::{Directory, mounted};
use crate::elsewhere;
use crate::error::{Error, system};
use crate::hold::Hold;
use crate::interrupt;
use crate::lock;
use crate::moved::{self, Groups};
use crate::network;
use crate::options::Force;
use crate::record::Record;
use crate::state;
use crate::status::{Status, Verb, refusal};
use crate::store::Store;
use crate::torn;

/// How long a killed init may take to end, in milliseconds.
const PATIENCE_MS: u32 = 10_000;

/// If this variable is `1`, a container that is only created is not deleted without force, as
/// runtime.md § Delete demands. Without it, such a container is killed and deleted: engines rely on
/// that.
const STRICT: &str = "CORACLE_STRICT_DELETE";

/// Deletes a container: its processes, network, cgroup and directory, then the poststop hooks run.
///
/// Returns failures of poststop hooks and, with force, of network plugins: only warnings, since the
/// container is gone.
///
/// # Errors
/// Without force, [`Error::Status`] if it still runs, [`Error::Absent`], and [`Error::Cni`] if a
/// network plugin fails. [`Error::StillRunning`] if init does not end within 10 s. Another `delete`
/// continues with what is left.
pub fn delete(store: &Store, id: &ContainerId, force: Force) -> Result<Vec<String>, Error> {
    let Some(directory) = store.find(id)? else {
        return match force {
            Force::Yes => Ok(Vec::new()),
            Force::No => Err(elsewhere::absent(store.root(), id)),
        };
    };
    if force == Force::Yes {
        // Init is killed before the lock is taken: the lock's holder may wait for init.
        if let Ok(Some(record)) = directory.record() {
            let _ = end_processes(&record);
        }
    }
    let _lock = match force {
        Force::Yes => lock::acquire_by_force(&directory)?,
        Force::No => lock::acquire(&directory)?,
    };
    let record = match directory.record() {
        Ok(Some(record)) => record,
        Ok(None) if force == Force::Yes => return end_torn(store, &directory),
        Err(Error::Corrupt { .. } | Error::Newer { .. }) if force == Force::Yes => {
            let salvaged = directory.salvaged_record();
            return match salvaged.init.is_some() || salvaged.cgroup.is_some() {
                true => end(&directory, &salvaged, force, None),
                false => end_torn(store, &directory),
            };
        }
        Ok(None) => return Err(elsewhere::absent(store.root(), id)),
        Err(error) => return Err(error),
    };
    check(id, &directory, &record, force)?;
    end(&directory, &record, force, None)
}

/// Deletes a container whose record cannot be read at all.
fn end_torn(store: &Store, directory: &Directory) -> Result<Vec<String>, Error> {
    let (record, mut left) = torn::record(store, directory)?;
    left.extend(end(directory, &record, Force::Yes, None)?);
    Ok(left)
}

fn check(
    id: &ContainerId,
    directory: &Directory,
    record: &Record,
    force: Force,
) -> Result<(), Error> {
    if force == Force::Yes {
        return Ok(());
    }
    let status = state::status(directory, record);
    let strict = std::env::var_os(STRICT).is_some_and(|value| value == "1");
    let refusal = match refusal(Verb::Delete, status) {
        None if strict && status == Status::Created => {
            Some("cannot delete a container that is not stopped")
        }
        refusal => refusal,
    };
    match refusal {
        Some(_) => Err(Error::NotStopped {
            id: id.clone(),
            status,
        }),
        None => Ok(()),
    }
}

/// Kills and deletes the container, unless another process has deleted it meanwhile.
pub(crate) fn take_down(
    directory: &Directory,
    force: Force,
    interrupts: Option<&Interrupts>,
) -> Result<Vec<String>, Error> {
    let _lock = lock::acquire(directory)?;
    match directory.record()? {
        Some(record) => end(directory, &record, force, interrupts),
        None => Ok(Vec::new()),
    }
}

/// Deletes a container by force after a verb failed on it. The error also names what is left.
pub(crate) fn after(error: Error, directory: &Directory, interrupts: Option<&Interrupts>) -> Error {
    match take_down(directory, Force::Yes, interrupts) {
        Ok(warnings) => error.leaving(&warnings.join("; ")),
        Err(left) => error.leaving(&left.to_string()),
    }
}

/// Kills all processes and removes everything. The caller holds the lock.
///
/// Only a second signal ends the wait for a plugin or a hook. A signal in `interrupts`, the queue
/// of a verb that failed, counts as the first.
pub(crate) fn end(
    directory: &Directory,
    record: &Record,
    force: Force,
    interrupts: Option<&Interrupts>,
) -> Result<Vec<String>, Error> {
    let was_over = is_over(record);
    let progress = &directory.progress;
    if !was_over {
        kill_processes(record)?;
    }
    progress.done(format_args!("no process is left"));
    let waits = record.network.is_some() || record.poststop_hooks;
    let own = match interrupts {
        Some(interrupts) => {
            interrupts.require_second();
            None
        }
        None => waits.then(interrupt::catch_for_undo).transpose()?,
    };
    let interrupts = interrupts.or(own.as_ref());
    let mut warnings = network::detach(directory, record, force, interrupts)?;
    if let Some(cgroup) = &record.cgroup {
        match record.cgroup_made {
            true if was_over => coracle_cgroups::remove(cgroup)?,
            true => remove_cgroup(cgroup)?,
            false => coracle_cgroups::remove_planned(cgroup)?,
        }
        progress.done(format_args!("removed the cgroup"));
    }
    if let Some(mount) = &record.host_mount {
        mounted::detach(mount)?;
        progress.done(format_args!("unmounted {}", mount.display()));
    }
    let hooks = poststop_hooks(directory, record);
    directory.remove()?;
    let hooks = hooks.unwrap_or_else(|error| {
        warnings.push(error.to_string());
        coracle_hooks::Plan::default()
    });
    let state = state::for_hook(record, Status::Stopped, 0);
    let limits = Limits {
        interrupts,
        ..Limits::default()
    };
    let failures = run_poststop(&hooks, &state, &limits);
    if failures.is_empty() {
        progress.ran_hooks(&hooks, HookPoint::Poststop);
    }
    warnings.extend(failures.iter().map(ToString::to_string));
    Ok(warnings)
}

/// Kills once more if needed: an `exec` that began before may have put a process into it after the
/// kill.
fn remove_cgroup(cgroup: &coracle_cgroups::Record) -> coracle_cgroups::Result<()> {
    match coracle_cgroups::remove(cgroup) {
        Err(coracle_cgroups::Error::Remove { .. }) if cgroup.has_cgroups() => {
            coracle_cgroups::kill(cgroup, nix::libc::SIGKILL)?;
            coracle_cgroups::remove(cgroup)
        }
        other => other,
    }
}

/// Runs all poststop hooks, also if their output has nowhere to go. Returns what failed.
pub(crate) fn run_poststop(
    hooks: &coracle_hooks::Plan,
    state: &[u8],
    limits: &Limits,
) -> Vec<coracle_hooks::Error> {
    let point = HookPoint::Poststop;
    let commands = hooks.at(point);
    if commands.is_empty() {
        return Vec::new();
    }
    let (files, unopened) = match coracle_hooks::open_files(hooks) {
        Ok(files) => (files, None),
        Err(error) => (coracle_hooks::Files::default(), Some(error)),
    };
    let failed = coracle_hooks::run_all(point, commands, &files, state, limits);
    unopened.into_iter().chain(failed).collect()
}

fn poststop_hooks(directory: &Directory, record: &Record) -> Result<coracle_hooks::Plan, Error> {
    if !record.poststop_hooks {
        return Ok(coracle_hooks::Plan::default());
    }
    let config = coracle_bundle::parse(&record.bundle, &directory.config()?)?;
    Ok(coracle_hooks::plan(&config.hooks, config.hook_files(), &[]))
}

/// Whether no process of the container can be left: init has ended and the container has its own
/// pid namespace. Processes in its cgroup then belong to another container with the same path. An
/// init that was never recorded may still be alive.
fn is_over(record: &Record) -> bool {
    record.own_pid_namespace && record.init.is_some_and(|init| !init.is_alive())
}

/// Kills init and all processes of the cgroup, and waits for init's end.
pub(crate) fn end_processes(record: &Record) -> Result<(), Error> {
    match is_over(record) {
        true => Ok(()),
        false => kill_processes(record),
    }
}

/// Like [`end_processes`], for a container that is not over.
fn kill_processes(record: &Record) -> Result<(), Error> {
    let pidfd = match &record.init {
        Some(init) => init.open().map_err(system("open init's pidfd"))?,
        None => None,
    };
    let moved = moved::groups(record).filter(Groups::is_moved);
    if let Some(pidfd) = &pidfd {
        let _ = coracle_sys::pidfd_send_signal(pidfd.as_fd(), nix::libc::SIGKILL);
    }
    // Init may be frozen in the cgroup that it was moved to.
    if let Some(Ok(cgroup)) = moved.as_ref().map(|groups| groups.ours("delete")) {
        let _ = coracle_cgroups::release(cgroup);
    }
    if let Some(cgroup) = record.own_cgroup() {
        coracle_cgroups::kill(cgroup, nix::libc::SIGKILL)?;
    }
    let Some(pidfd) = pidfd else { return Ok(()) };
    let _wait = coracle_sys::wait_for("the end of init");
    let ended = coracle_sys::poll_readable(&[pidfd.as_fd()], Some(PATIENCE_MS))
        .map_err(system("wait for init's end"))?;
    match (ended, &record.init) {
        (0, Some(init)) => Err(Error::StillRunning {
            pid: init.pid,
            hold: Hold::of(init.pid, record.own_pid_namespace),
        }),
        _ => Ok(()),
    }
}
