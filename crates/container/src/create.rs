//! `create`: a container whose init waits for its start.

use crate::creation::{self, StartedBy};
use crate::error::Error;
use crate::interrupt;
use crate::options::{Attachment, CreateOptions};
use crate::prepare::prepare;
use crate::store::Store;

/// Makes a container and leaves its init waiting for `start`. Returns warnings, one line each.
///
/// # Errors
/// [`Error`]; nothing is left behind then.
pub fn create(store: &Store, options: &CreateOptions) -> Result<Vec<String>, Error> {
    let prepared = prepare(store, options, Attachment::Detached)?;
    let interrupts = interrupt::catch()?;
    Ok(creation::make(store, &prepared, &interrupts, StartedBy::Start)?.warnings)
}
