//! `run`: create and start in one, and, in the foreground, wait and delete.

use crate::create::{self, Container, Goal};
use crate::delete;
use crate::error::Error;
use crate::foreground::Signals;
use crate::notify::Proxy;
use crate::options::{After, Attachment, RunOptions, Subreaper};
use crate::start;
use crate::store::Store;

/// What came of a `run`.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// The container's exit code, 128 + n for signal n; 0 when it was left running.
    pub code: i32,
    /// What the user should know though it is no error, one line each.
    pub warnings: Vec<String>,
}

/// Creates and starts a container. In the foreground, returns its exit code once it has ended and
/// is deleted.
///
/// # Errors
/// [`Error`]; nothing is left behind then.
pub fn run(store: &Store, options: &RunOptions) -> Result<Ended, Error> {
    let prepared = create::prepare(store, &options.create, options.attachment)?;
    let id = &options.create.id;
    if prepared.bundle.config.process.is_none() {
        return Err(Error::NoProcess { id: id.clone() });
    }
    let foreground = options.attachment == Attachment::Foreground;
    if foreground && options.subreaper == Subreaper::Yes {
        coracle_sys::set_child_subreaper().map_err(|errno| Error::System {
            attempted: "become subreaper",
            errno,
        })?;
    }
    let signals = foreground.then(Signals::catch).transpose()?;
    let container = create::make(store, &options.create, &prepared, Goal::Started)?;
    start::poststart(&container.directory, &container.record)?;
    let mut warnings = prepared.plan.warnings;
    let Some(signals) = signals else {
        return Ok(Ended { code: 0, warnings });
    };
    let Container {
        directory,
        record,
        init,
        console,
        proxy,
    } = container;
    let code = signals.wait(&init, console, proxy.as_ref().map(|p: &Proxy| p))?;
    if options.after == After::Delete {
        warnings.extend(delete::end(&directory, &record)?);
    }
    Ok(Ended { code, warnings })
}
