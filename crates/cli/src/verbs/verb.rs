//! The parts of a verb.

use std::any::Any;
use std::rc::Rc;

use coracle_container::{Ended, Progress, ProgressEvent, Span, Store};

use crate::arguments::table::Command;
use crate::arguments::{Arguments, Global, Usage};
use crate::error::Error;
use crate::log::{Level, Log};
use crate::root::{self, Root};
use crate::trace::Trace;

/// A verb of the command line.
pub(crate) struct Verb {
    pub(crate) command: Command,
    /// Whether the verb starts a process in a container, which could overwrite the runtime's own
    /// file through `/proc` if it were not sealed: CVE-2019-5736.
    pub(crate) needs_seal: bool,
    /// Parses the arguments, and refuses invalid ones before anything is changed.
    pub(crate) read: fn(&Arguments) -> Result<Box<dyn Request>, Usage>,
}

/// The request of a verb, parsed from valid arguments.
pub(crate) trait Request: Any {
    /// Performs the request and returns the exit status.
    fn perform(&self, context: &Context) -> Result<i32, Error>;
}

/// The environment of a verb.
pub(crate) struct Context<'a> {
    pub(crate) global: &'a Global,
    pub(crate) log: &'a Rc<Log>,
    pub(crate) trace: Option<&'a Rc<Trace>>,
    pub(crate) verbs: &'static [Verb],
}

impl Context<'_> {
    /// The state root. Only verbs that need it call this, so that `features`, say, works without
    /// one.
    pub(crate) fn root(&self) -> Result<Root, Error> {
        let root = root::find(self.global.root.as_deref())?;
        let line = format!("state root: {}", root.path.display());
        self.log.record(Level::Debug, &line);
        Ok(root)
    }

    pub(crate) fn store_at(&self, root: &Root) -> Store {
        Store::new(&root.path).logging(steps(self.log, self.trace))
    }

    pub(crate) fn store(&self) -> Result<Store, Error> {
        Ok(self.store_at(&self.root()?))
    }

    /// The store, for verbs that create the root if it is missing.
    pub(crate) fn new_store(&self) -> Result<Store, Error> {
        let root = self.root()?;
        root::prepare(&root);
        Ok(self.store_at(&root))
    }

    /// Logs warnings and failures, and returns the exit status.
    pub(crate) fn report(&self, ended: &Ended) -> i32 {
        self.log.warn_all(&ended.warnings);
        for failure in &ended.failures {
            self.log.warn_always(failure);
        }
        ended.code
    }
}

/// The listener that writes a verb's steps to the log, at level debug, and to the trace.
fn steps(log: &Rc<Log>, trace: Option<&Rc<Trace>>) -> Progress {
    let log = log.has(Level::Debug).then(|| Rc::clone(log));
    let trace = trace.cloned();
    if log.is_none() && trace.is_none() {
        return Progress::default();
    }
    Progress::logged_by(Rc::new(move |event| {
        if let Some(trace) = &trace {
            trace.record(event);
        }
        let Some(log) = &log else { return };
        match event {
            ProgressEvent::Done(step) => log.record(Level::Debug, step),
            ProgressEvent::Step(actor, stage, step) => {
                log.record(Level::Debug, &format!("{actor}: {stage}: {step}"));
            }
            ProgressEvent::Waited(what) => log.record(Level::Debug, &format!("waited for {what}")),
            ProgressEvent::Timed(span) => {
                let (began, ended) = span.time_ns;
                let Span {
                    actor, stage, what, ..
                } = span;
                let took = ended.saturating_sub(began) / 1000;
                let line = format!("{actor}: {stage}: {what}: took {took} µs");
                log.record(Level::Debug, &line);
            }
        }
    }))
}
