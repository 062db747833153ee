//! SIGHUP, SIGINT and SIGTERM to a verb that has something to take back.

use coracle_program::Interrupts;

use crate::error::Error;

/// Queues the signals from here on: they end waits, and what was made is taken back.
pub(crate) fn catch() -> Result<Interrupts, Error> {
    Interrupts::catch().map_err(|errno| Error::System {
        attempted: "queue signals",
        errno,
    })
}

/// The same for taking back itself, which only a second signal ends.
pub(crate) fn spare_first() -> Result<Interrupts, Error> {
    let interrupts = catch()?;
    interrupts.spare_first();
    Ok(interrupts)
}

/// The error with the signal that is behind it, if one has come.
pub(crate) fn explain(error: Error, interrupts: &Interrupts) -> Error {
    match interrupts.signal() {
        Some(signal) => Error::Interrupted {
            signal,
            source: Box::new(error),
        },
        None => error,
    }
}
