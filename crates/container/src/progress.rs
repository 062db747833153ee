//! The progress of a verb: for the debug log, a line for each step; for a trace, the times too.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use coracle_bundle::HookPoint;
use coracle_launch::{Plan, Point, Span, spans};

/// Something that a verb did.
#[derive(Clone, Copy, Debug)]
pub enum ProgressEvent<'a> {
    /// This was done just now.
    Done(&'a str),
    /// Of a plan, this stage's steps were done by now. By whom, the stage, the step.
    Step(&'static str, &'static str, &'a str),
    /// Until now there was only a wait for this.
    Waited(&'a str),
    /// This was done at the times that it has. Only if a timeline is kept.
    Timed(&'a Span),
}

/// Called with each event.
pub(crate) type Listener = Rc<dyn Fn(ProgressEvent<'_>)>;

/// The receiver of what a verb does. Without a listener, no text is formatted.
#[derive(Clone, Default)]
pub struct Progress {
    listener: Option<Listener>,
    /// How many spans of the timeline have been reported.
    noted: Rc<Cell<usize>>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.are_logged() {
            "Progress"
        } else {
            "none"
        })
    }
}

impl Progress {
    /// Calls `listener` with each event.
    #[must_use]
    pub fn logged_by(listener: Listener) -> Self {
        Self {
            listener: Some(listener),
            noted: Rc::default(),
        }
    }

    fn emit(&self, event: ProgressEvent<'_>) {
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }

    /// Logs a step that was done.
    pub(crate) fn done(&self, step: fmt::Arguments<'_>) {
        if self.are_logged() {
            self.noted(None);
            self.emit(ProgressEvent::Done(&step.to_string()));
        }
    }

    /// Logs the end of a wait.
    pub(crate) fn waited(&self, what: &str) {
        self.emit(ProgressEvent::Waited(what));
    }

    /// Whether lines are logged: if not, callers need not compute them.
    pub(crate) fn are_logged(&self) -> bool {
        self.listener.is_some()
    }

    /// Logs that a plan was made.
    pub(crate) fn planned(&self, plan: &Plan) {
        if self.are_logged() {
            let stages = plan.stages();
            let steps: usize = stages.iter().map(|stage| stage.steps.len()).sum();
            self.done(format_args!("planned {steps} steps"));
        }
    }

    /// Logs the plan's stages that are done by this point.
    pub(crate) fn reached(&self, plan: &Plan, point: Point) {
        if !self.are_logged() {
            return;
        }
        self.noted(Some(plan));
        for stage in plan.stages().iter().filter(|stage| stage.point == point) {
            for step in &stage.steps {
                self.emit(ProgressEvent::Step(stage.actor, stage.name, step));
            }
        }
    }

    /// Reports the notes of the timeline that were made since the last time. Those of init wait for
    /// a plan, which has the words for them.
    pub(crate) fn noted(&self, plan: Option<&Plan>) {
        if !coracle_sys::has_timeline() {
            return;
        }
        let all = spans(plan, &coracle_sys::notes());
        let new = all.get(self.noted.get()..).unwrap_or_default();
        if plan.is_none() && new.iter().any(|span| span.actor == "init") {
            return;
        }
        self.noted.set(all.len());
        new.iter()
            .for_each(|span| self.emit(ProgressEvent::Timed(span)));
    }

    /// Logs that all hooks of the point have succeeded.
    pub(crate) fn ran_hooks(&self, hooks: &coracle_hooks::Plan, point: HookPoint) {
        let count = match self.are_logged() {
            true => hooks.steps(point),
            false => 0,
        };
        for index in 0..count {
            self.done(format_args!("ran {}", hooks.describe(point, index)));
        }
    }
}
