//! What every verb is made of.

use std::any::Any;
use std::rc::Rc;

use coracle_container::{Steps, Store};

use crate::arguments::table::Command;
use crate::arguments::{Arguments, Global, Usage};
use crate::error::Error;
use crate::log::{Level, Log};
use crate::root::{self, Root};

/// A verb of the command line.
pub(crate) struct Verb {
    pub(crate) command: Command,
    /// Whether it lets a container's process come near ours, so that our own file must be sealed.
    pub(crate) needs_seal: bool,
    /// Refuses what is wrong in form, before anything is touched.
    pub(crate) read: fn(&Arguments) -> Result<Box<dyn Request>, Usage>,
}

/// A verb with its arguments, valid in form.
pub(crate) trait Request: Any {
    /// Does what was requested and gives the exit status.
    fn perform(&self, context: &Context) -> Result<i32, Error>;
}

/// What a verb works with besides its arguments.
pub(crate) struct Context<'a> {
    pub(crate) global: &'a Global,
    pub(crate) log: &'a Rc<Log>,
    pub(crate) verbs: &'static [Verb],
}

impl Context<'_> {
    /// The state root. Looked for only where it is used: `features` and the like work without one.
    pub(crate) fn root(&self) -> Result<Root, Error> {
        let root = root::find(self.global.root.as_deref())?;
        let line = format!("state root: {}", root.path.display());
        self.log.say(Level::Debug, &line);
        Ok(root)
    }

    pub(crate) fn store_at(&self, root: &Root) -> Store {
        Store::new(&root.path).logging(steps(self.log))
    }

    pub(crate) fn store(&self) -> Result<Store, Error> {
        Ok(self.store_at(&self.root()?))
    }

    /// The store of the verbs that make the root.
    pub(crate) fn new_store(&self) -> Result<Store, Error> {
        let root = self.root()?;
        root::prepare(&root);
        Ok(self.store_at(&root))
    }
}

/// Where the steps of a verb go: to the log, if it is to have them.
fn steps(log: &Rc<Log>) -> Steps {
    if !log.has(Level::Debug) {
        return Steps::default();
    }
    let log = Rc::clone(log);
    Steps::logged_by(Rc::new(move |step| log.say(Level::Debug, step)))
}
