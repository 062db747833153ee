//! `create`: makes a container whose init waits for its start.

use crate::creation::{self, StartedBy};
use crate::error::Error;
use crate::interrupt;
use crate::options::{Attachment, CreateOptions};
use crate::outputs::Connections;
use crate::prepare::prepare;
use crate::store::Store;

/// Makes a container and leaves its init waiting for `start`. Returns warnings, one line each.
///
/// # Errors
/// [`Error`]; nothing is left behind then.
pub fn create(store: &Store, options: &CreateOptions) -> Result<Vec<String>, Error> {
    let prepared = prepare(store, options, Attachment::Detached)?;
    // Before signals are queued, so that they end a connect(2) to a socket that does not answer.
    // Nothing has been made yet.
    let outputs = Connections::open(&options.outputs, Some(&prepared.bundle.config))?;
    let interrupts = interrupt::catch()?;
    let made = creation::make(store, &prepared, outputs, &interrupts, StartedBy::Start)?;
    Ok(made.running.warnings)
}
