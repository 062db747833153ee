//! `events`: statistics of a container, and notifications that it ran out of memory.

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use coracle_bundle::ContainerId;
use coracle_cgroups::{CgroupEvent, Statistics};

use crate::ending;
use crate::error::{Error, system};
use crate::exit::Ending;
use crate::inspect::read;
use crate::moved::{self, Groups};
use crate::record::Record;
use crate::state;
use crate::status::Status;
use crate::store::Store;

/// One event of a container.
#[derive(Clone, Debug)]
pub enum Event {
    /// Its use of resources.
    Statistics(Box<Statistics>),
    /// It has run out of memory.
    OutOfMemory,
    /// It has ended, in this way. The last event; it does not come if that cannot be found out.
    Ended(Ending),
}

/// The container's use of resources.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::NoCgroup`], or a cgroup that cannot be read.
pub fn statistics(store: &Store, id: &ContainerId) -> Result<Statistics, Error> {
    let record = living(store, id)?;
    sample(&record)
}

/// Reports the container's use of resources every `interval`, and each time that it runs out of
/// memory, until the container ends or `report` returns `Break`. Takes no lock.
///
/// # Errors
/// As [`statistics`].
pub fn events(
    store: &Store,
    id: &ContainerId,
    interval: Duration,
    report: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<(), Error> {
    let gone = || Error::NotRunning { id: id.clone() };
    let record = living(store, id)?;
    let init = record.init.ok_or_else(gone)?;
    let pidfd = init.open().map_err(system("open init"))?.ok_or_else(gone)?;
    let mut watch = coracle_cgroups::watch(groups(&record)?.now())?;
    let mut next = Instant::now() + interval;
    let end = |report: &mut dyn FnMut(Event) -> ControlFlow<()>| {
        let status = ending::of_process(pidfd.as_fd(), &init);
        let ended = status.map(|status| Ending::of(status, record.own_cgroup()));
        ended.map(|ended| report(Event::Ended(ended)));
    };
    loop {
        let patience = next.saturating_duration_since(Instant::now());
        let happening = watch.wait(pidfd.as_fd(), patience);
        let event = match happening.map_err(system("wait for events"))? {
            CgroupEvent::OutOfMemory => Event::OutOfMemory,
            CgroupEvent::End => {
                end(report);
                return Ok(());
            }
            CgroupEvent::Nothing if Instant::now() < next => continue,
            CgroupEvent::Nothing => {
                next = (next + interval).max(Instant::now());
                match sample(&record) {
                    Ok(sample) => Event::Statistics(Box::new(sample)),
                    // The container has ended since.
                    Err(_) if !init.is_alive() => {
                        end(report);
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if report(event).is_break() {
            return Ok(());
        }
    }
}

fn living(store: &Store, id: &ContainerId) -> Result<Record, Error> {
    let (directory, record) = read(store, id)?;
    match state::status(&directory, &record) {
        Status::Stopped => Err(Error::NotRunning { id: id.clone() }),
        _ => Ok(record),
    }
}

/// Reads the statistics of the cgroups that init is in now.
fn sample(record: &Record) -> Result<Statistics, Error> {
    Ok(coracle_cgroups::statistics(groups(record)?.now())?)
}

fn groups(record: &Record) -> Result<Groups<'_>, Error> {
    moved::groups(record).ok_or(Error::NoCgroup {
        verb: "report its events",
    })
}
