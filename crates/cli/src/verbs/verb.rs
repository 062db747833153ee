//! What every verb is made of.

use std::any::Any;
use std::rc::Rc;

use coracle_container::{Progress, Store};

use crate::arguments::table::Command;
use crate::arguments::{Arguments, Global, Usage};
use crate::error::Error;
use crate::log::{Level, Log};
use crate::root::{self, Root};

/// A verb of the command line.
pub(crate) struct Verb {
    pub(crate) command: Command,
    /// Whether a container's process could reach the runtime's own file, which is sealed then:
    /// CVE-2019-5736.
    pub(crate) needs_seal: bool,
    /// Reads the arguments, and refuses bad ones before anything is touched.
    pub(crate) read: fn(&Arguments) -> Result<Box<dyn Request>, Usage>,
}

/// What a verb is to do, read from valid arguments.
pub(crate) trait Request: Any {
    /// Does it and returns the exit status.
    fn perform(&self, context: &Context) -> Result<i32, Error>;
}

/// What a verb works with besides its arguments.
pub(crate) struct Context<'a> {
    pub(crate) global: &'a Global,
    pub(crate) log: &'a Rc<Log>,
    pub(crate) verbs: &'static [Verb],
}

impl Context<'_> {
    /// The state root. Verbs that need none, such as `features`, work where there is none.
    pub(crate) fn root(&self) -> Result<Root, Error> {
        let root = root::find(self.global.root.as_deref())?;
        let line = format!("state root: {}", root.path.display());
        self.log.record(Level::Debug, &line);
        Ok(root)
    }

    pub(crate) fn store_at(&self, root: &Root) -> Store {
        Store::new(&root.path).logging(steps(self.log))
    }

    pub(crate) fn store(&self) -> Result<Store, Error> {
        Ok(self.store_at(&self.root()?))
    }

    /// The store, for the verbs that make the root if it is missing.
    pub(crate) fn new_store(&self) -> Result<Store, Error> {
        let root = self.root()?;
        root::prepare(&root);
        Ok(self.store_at(&root))
    }
}

/// The listener that writes a verb's steps to the log, at level debug.
fn steps(log: &Rc<Log>) -> Progress {
    if !log.has(Level::Debug) {
        return Progress::default();
    }
    let log = Rc::clone(log);
    Progress::logged_by(Rc::new(move |step| log.record(Level::Debug, step)))
}
