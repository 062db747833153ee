//! What a verb has done so far, a line a step, for whoever wants to follow it.

use std::fmt;
use std::rc::Rc;

use coracle_launch::Plan;

/// Who hears of a step.
pub(crate) type Listener = Rc<dyn Fn(&str)>;

/// Takes the lines. Nothing is put together where nobody listens.
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
    pub fn told(listener: Listener) -> Self {
        Self(Some(listener))
    }

    /// A step was done.
    pub(crate) fn done(&self, step: fmt::Arguments<'_>) {
        if let Some(listener) = &self.0 {
            listener(&step.to_string());
        }
    }

    /// A plan was made; its steps are told as they are carried out.
    pub(crate) fn planned(&self, plan: &Plan) {
        if self.0.is_some() {
            let stages = plan.stages();
            let steps: usize = stages.iter().map(|stage| stage.steps.len()).sum();
            self.done(format_args!("planned {steps} steps"));
        }
    }

    /// All of these stages of the plan were carried out.
    pub(crate) fn carried_out(&self, plan: &Plan, names: &[&str]) {
        if self.0.is_none() {
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
