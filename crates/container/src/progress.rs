//! What a verb has done so far, one line for each step: the debug log.

use std::fmt;
use std::rc::Rc;

use coracle_bundle::HookPoint;
use coracle_launch::{Plan, Point};

/// Called with each step once it is done.
pub(crate) type Listener = Rc<dyn Fn(&str)>;

/// Where the lines go. Without a listener no line is ever formatted.
#[derive(Clone, Default)]
pub struct Progress(Option<Listener>);

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Progress" } else { "none" })
    }
}

impl Progress {
    /// Has `listener` called with each step once it is done.
    #[must_use]
    pub fn logged_by(listener: Listener) -> Self {
        Self(Some(listener))
    }

    /// A step was done.
    pub(crate) fn done(&self, step: fmt::Arguments<'_>) {
        if let Some(listener) = &self.0 {
            listener(&step.to_string());
        }
    }

    /// Whether lines go anywhere: what is costly to find for one need not be found otherwise.
    pub(crate) fn are_logged(&self) -> bool {
        self.0.is_some()
    }

    /// A plan was made.
    pub(crate) fn planned(&self, plan: &Plan) {
        if self.are_logged() {
            let stages = plan.stages();
            let steps: usize = stages.iter().map(|stage| stage.steps.len()).sum();
            self.done(format_args!("planned {steps} steps"));
        }
    }

    /// The stages of the plan that belong to this point were carried out.
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

    /// All hooks of the point have ended well.
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
