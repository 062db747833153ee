//! Failures of outside suites that are expected: files of lines `NAME: REASON`, or
//! `NAME [CONDITION]: REASON` for some machines only.

use std::collections::BTreeMap;

use crate::machine::{has_controller, machine};
use crate::runner::Verdict;

/// Why a test of a suite is expected to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    reason: String,
    /// False if the failure is a matter of timing.
    is_certain: bool,
}

/// The lines of `text` whose condition holds on this machine, by name.
///
/// # Panics
/// On a line of another form.
pub fn read(text: &str) -> BTreeMap<String, Expected> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let entries = lines.filter_map(|line| {
        let (name, reason) = line.split_once(": ").expect("NAME: REASON");
        let (name, condition) = name.split_once(" [").unwrap_or((name, ""));
        let condition = condition.trim_end_matches(']');
        let entry = Expected {
            reason: reason.to_owned(),
            is_certain: condition != "sometimes",
        };
        holds(condition).then(|| (name.to_owned(), entry))
    });
    entries.collect()
}

fn holds(condition: &str) -> bool {
    let machine = machine();
    match condition {
        "" | "sometimes" => true,
        "newer suite" => std::env::var_os("CORACLE_RUNTIME_TOOLS").is_some(),
        "no AppArmor" => !machine.has_apparmor,
        "no SELinux" => !machine.has_selinux,
        "no CAP_SYS_RESOURCE" => machine.capabilities & (1 << 24) == 0,
        other => match other.strip_prefix("no controller ") {
            Some(name) => !has_controller(name),
            None => panic!("expected failures: unknown condition {other:?}"),
        },
    }
}

/// A test's verdict: an expected failure counts as skipped, and a pass that was not expected fails.
pub fn judge(complaint: Option<String>, expected: Option<&Expected>) -> Verdict {
    match (complaint, expected) {
        (None, Some(expected)) if expected.is_certain => {
            Verdict::Failed(format!("passed: {}", expected.reason))
        }
        (None, _) => Verdict::Passed,
        (Some(_), Some(expected)) => Verdict::Skipped(format!("should fail: {}", expected.reason)),
        (Some(complaint), None) => Verdict::Failed(complaint),
    }
}
