//! SIGHUP, SIGINT and SIGTERM to a verb that must undo what it made before it ends.

use coracle_program::Interrupts;

use crate::error::{Error, system};

/// Queues these signals from here on: they end waits, after which the verb undoes what it made.
pub(crate) fn catch() -> Result<Interrupts, Error> {
    Interrupts::catch().map_err(system("queue signals"))
}

/// Queues these signals during an undo, which only a second signal ends.
pub(crate) fn catch_for_undo() -> Result<Interrupts, Error> {
    let interrupts = catch()?;
    interrupts.require_second();
    Ok(interrupts)
}

/// Adds the signal to the error if one has come.
pub(crate) fn explain(error: Error, interrupts: &Interrupts) -> Error {
    match interrupts.signal() {
        Some(signal) => Error::Interrupted {
            signal,
            source: Box::new(error),
        },
        None => error,
    }
}
