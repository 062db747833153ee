//! The output of reading a document besides its values.

use std::collections::BTreeMap;

/// The maximum number of warnings: a hostile document could flood a log.
const MAX_WARNINGS: usize = 20;

/// Warnings, and values that oci-spec's types cannot hold.
#[derive(Default)]
pub(crate) struct Notes {
    /// The warnings, one line each.
    pub(crate) warnings: Vec<String>,
    /// Whether `pids.limit` is present. oci-spec reads an absent one as zero, which is a valid
    /// limit.
    pub(crate) pids_limit: bool,
    /// Whether `seccomp` is present but has neither a default action nor system calls.
    pub(crate) empty_seccomp: bool,
    /// Each `hugepageLimits[index].limit` above `i64::MAX`, which oci-spec cannot hold.
    pub(crate) hugepage_limits: BTreeMap<usize, u64>,
}

impl Notes {
    /// Adds a warning, up to the maximum.
    pub(crate) fn warn(&mut self, line: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(line);
        }
    }
}
