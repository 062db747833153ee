//! The timeline of a launch in words: what init noted, by the plan's steps.

use coracle_bundle::HookPoint;
use coracle_sys::{Note, Noted};

use crate::message::Stage;
use crate::plan::Plan;

/// Something that took time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Who did it: `runtime` or `init`.
    pub actor: &'static str,
    /// The part of the work that it belongs to.
    pub stage: &'static str,
    /// What was done.
    pub what: String,
    /// When it began and ended, in nanoseconds since 1970.
    pub time_ns: (u64, u64),
}

/// What was done by the notes of a timeline. Without a plan, init's steps have numbers for names.
/// Pure.
#[must_use]
pub fn spans(plan: Option<&Plan>, notes: &[Note]) -> Vec<Span> {
    let mut spans = Vec::new();
    // The last note of the runtime and of init, each of which has a time of its own.
    let mut last: [Option<&Note>; 2] = [None, None];
    for note in notes {
        let is_runtime = note.part == coracle_sys::RUNTIME;
        let [of_init, of_runtime] = &mut last;
        let before = match is_runtime {
            true => of_runtime.replace(note),
            false => of_init.replace(note),
        };
        let Some(before) = before else { continue };
        let what = match &note.what {
            Noted::Text(text) => text.clone(),
            // A process other than init carries out this part of a plan.
            Noted::Step(_) if is_runtime => continue,
            Noted::Step(step) => described(plan, note.part, *step),
            // Between two beginnings there were no steps: the part is one span.
            Noted::Begin if before.what == Noted::Begin && !is_runtime => whole(before.part),
            Noted::Begin => continue,
        };
        let part = match note.what {
            Noted::Begin => before.part,
            _ => note.part,
        };
        spans.push(Span {
            actor: if is_runtime { "runtime" } else { "init" },
            stage: stage(part).map_or("wait", name),
            what,
            time_ns: (before.time_ns, note.time_ns),
        });
    }
    spans
}

fn stage(part: u8) -> Option<Stage> {
    Stage::ALL.get(usize::from(part)).copied()
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::CreateContainer => "createContainer hooks",
        Stage::StartContainer => "startContainer hooks",
        _ => stage.name(),
    }
}

fn whole(part: u8) -> String {
    match stage(part) {
        Some(Stage::Session) => "wait for the runtime",
        Some(Stage::Cgroup) => "join the container's cgroup",
        Some(Stage::Seccomp) => "load the system call filter",
        Some(stage) => name(stage),
        None => "work",
    }
    .to_owned()
}

fn described(plan: Option<&Plan>, part: u8, step: usize) -> String {
    let text = plan.zip(stage(part)).and_then(|(plan, stage)| match stage {
        Stage::Namespaces => Some(plan.namespaces.describe(step)),
        Stage::Rootfs => Some(plan.rootfs.as_ref()?.describe(step)),
        Stage::Process => Some(plan.process.describe(step)),
        Stage::CreateContainer => Some(plan.hooks.describe(HookPoint::CreateContainer, step)),
        Stage::StartContainer => Some(plan.hooks.describe(HookPoint::StartContainer, step)),
        Stage::Session | Stage::Cgroup | Stage::Seccomp => None,
    });
    text.unwrap_or_else(|| format!("step {step}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_lasts_from_the_note_before_by_the_same_actor() {
        let note = |part: u8, what: Noted, time_ns: u64| Note {
            part,
            what,
            time_ns,
        };
        let runtime = coracle_sys::RUNTIME;
        let notes = [
            note(runtime, Noted::Begin, 10),
            note(Stage::Session as u8, Noted::Begin, 11),
            note(runtime, Noted::Text("hook /h".to_owned()), 20),
            note(Stage::Rootfs as u8, Noted::Begin, 25),
            note(Stage::Rootfs as u8, Noted::Step(4), 30),
            note(Stage::Process as u8, Noted::Begin, 35),
        ];
        let spans = spans(None, &notes);
        let shown: Vec<_> = spans
            .iter()
            .map(|it| (it.actor, it.stage, it.what.as_str(), it.time_ns))
            .collect();
        let expected = [
            ("runtime", "wait", "hook /h", (10, 20)),
            ("init", "session", "wait for the runtime", (11, 25)),
            ("init", "rootfs", "step 4", (25, 30)),
        ];
        assert_eq!(shown, expected);
    }
}
