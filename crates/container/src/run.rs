//! `run`: creates and starts a container and, in the foreground, waits for it and deletes it.

use nix::sys::prctl;
use std::os::fd::AsFd;

use coracle_program::Interrupts;
use coracle_sys::ExitStatus;

use crate::creation::{self, Container, StartedBy};
use crate::delete;
use crate::directory::Directory;
use crate::ending;
use crate::error::{Error, system};
use crate::foreground::Signals;
use crate::interrupt;
use crate::options::{After, Attachment, Force, RunOptions, Subreaper};
use crate::outputs::Connections;
use crate::prepare::prepare;
use crate::record::Record;
use crate::start;
use crate::store::Store;

/// The result of `run`.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// The container's exit code, 128 + n for signal n; 0 if it was left running.
    pub code: i32,
    /// Warnings, one line each.
    pub warnings: Vec<String>,
    /// Failures that must be reported: of the deletion, of poststop hooks, or of passing on the
    /// container's readiness.
    pub failures: Vec<String>,
}

/// Creates and starts a container. In the foreground, returns its exit code once it has ended and
/// is deleted.
///
/// # Errors
/// [`Error`]; nothing is left behind then.
pub fn run(store: &Store, options: &RunOptions) -> Result<Ended, Error> {
    let prepared = prepare(store, &options.create, options.attachment)?;
    if prepared.bundle.config.process.is_none() {
        return Err(Error::NoProcess);
    }
    let outputs = Connections::open(&options.create.outputs, Some(&prepared.bundle.config))?;
    let signals = catch_signals(options.attachment, options.subreaper)?;
    let interrupts = interrupt::catch()?;
    let container = creation::make(store, &prepared, outputs, &interrupts, StartedBy::Run)?;
    finish(container, signals, interrupts, options.after)
}

/// Runs poststart hooks and, in the foreground, waits until the container ends.
pub(crate) fn finish(
    container: Container,
    signals: Option<Signals>,
    interrupts: Interrupts,
    after: After,
) -> Result<Ended, Error> {
    let Container {
        directory,
        record,
        mut running,
    } = container;
    start::poststart(&directory, &record, &interrupts)?;
    match &signals {
        Some(_) => interrupts.hand_over(),
        None => drop(interrupts),
    }
    let (code, failures) = match signals {
        Some(signals) => {
            let waited = signals.wait(&mut running);
            directory.progress.waited("the program");
            end(waited, &directory, &record, after)?
        }
        None => {
            let init = running.process.pidfd.as_fd();
            let passed_on = running.proxy.map(|proxy| proxy.await_ready(init));
            let failed = passed_on.and_then(Result::err);
            (0, failed.iter().map(ToString::to_string).collect())
        }
    };
    Ok(Ended {
        code,
        warnings: running.warnings,
        failures,
    })
}

/// In the foreground, catches signals for the container, and makes this process its subreaper if
/// that is requested.
pub(crate) fn catch_signals(
    attachment: Attachment,
    subreaper: Subreaper,
) -> Result<Option<Signals>, Error> {
    let foreground = attachment == Attachment::Foreground;
    if foreground && subreaper == Subreaper::Yes {
        prctl::set_child_subreaper(true).map_err(system("become subreaper"))?;
    }
    foreground.then(Signals::catch).transpose()
}

/// Deletes a container of the foreground or, if it is to be kept, records how it ended. Returns its
/// exit code, and failures of the deletion, one line each.
fn end(
    waited: Result<ExitStatus, Error>,
    directory: &Directory,
    record: &Record,
    after: After,
) -> Result<(i32, Vec<String>), Error> {
    let status = waited.map_err(|error| delete::after(error, directory, None))?;
    let code = status.shell_code();
    if after == After::Keep {
        let init = record.init.as_ref();
        let recorded = init.map(|init| ending::record(directory, init, status));
        let failed = recorded.and_then(Result::err);
        return Ok((code, failed.iter().map(ToString::to_string).collect()));
    }
    // The exit code is returned even if the deletion fails.
    let failures = delete::take_down(directory, Force::No, None);
    Ok((
        code,
        failures.unwrap_or_else(|error| vec![error.to_string()]),
    ))
}
