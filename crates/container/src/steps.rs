//! What a verb has done so far, one line for each step: the debug log.

use std::fmt;
use std::rc::Rc;

use coracle_launch::Plan;

/// Called with each step once it is done.
pub(crate) type Listener = Rc<dyn Fn(&str)>;

/// Where the lines go. Without a listener no line is ever formatted.
#[derive(Clone, Default)]
pub struct Steps(Option<Listener>);

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Steps" } else { "none" })
    }
}

impl Steps {
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

    /// All of these stages of the plan were carried out.
    pub(crate) fn carried_out(&self, plan: &Plan, names: &[&str]) {
        if !self.are_logged() {
            return;
        }
        for stage in plan.stages() {
            if names.contains(&stage.name) {
                for step in &stage.steps {
                    self.done(format_args!("{}: {}: {step}", stage.actor, stage.name));
                }
            }
        }
    }
}

/// What the runtime does before the clone.
pub(crate) const BEFORE: [&str; 2] = ["cgroup", "inherited"];
/// What init does until it waits for hooks of the runtime, or goes on without.
pub(crate) const FIRST: [&str; 2] = ["namespaces", "mounts"];
/// The rest of what init does before it waits for its start.
pub(crate) const REST: [&str; 7] = [
    "createContainer hooks",
    "root",
    "machine",
    "paths",
    "process",
    "system calls",
    "user",
];
/// What init does once it is started.
pub(crate) const LAST: [&str; 2] = ["startContainer hooks", "program"];
