//! The progress of a verb, one line for each step: the debug log.

use std::fmt;
use std::rc::Rc;

use coracle_bundle::HookPoint;
use coracle_launch::{Plan, Point};

/// Called with each step once it is done.
pub(crate) type Listener = Rc<dyn Fn(&str)>;

/// The receiver of these lines. Without a listener, no line is formatted.
#[derive(Clone, Default)]
pub struct Progress(Option<Listener>);

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Progress" } else { "none" })
    }
}

impl Progress {
    /// Calls `listener` with each step once it is done.
    #[must_use]
    pub fn logged_by(listener: Listener) -> Self {
        Self(Some(listener))
    }

    /// Logs a step that was done.
    pub(crate) fn done(&self, step: fmt::Arguments<'_>) {
        if let Some(listener) = &self.0 {
            listener(&step.to_string());
        }
    }

    /// Whether lines are logged: if not, callers need not compute them.
    pub(crate) fn are_logged(&self) -> bool {
        self.0.is_some()
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
        for stage in plan.stages().iter().filter(|stage| stage.point == point) {
            for step in &stage.steps {
                self.done(format_args!("{}: {}: {step}", stage.actor, stage.name));
            }
        }
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
