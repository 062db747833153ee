//! What reading a document yields besides the values.

use std::collections::BTreeMap;

/// More warnings than this help nobody, and a hostile document could flood a log.
const MAX_WARNINGS: usize = 20;

/// Warnings, and what oci-spec's types cannot hold.
#[derive(Default)]
pub(crate) struct Notes {
    /// One line each.
    pub(crate) warnings: Vec<String>,
    /// `pids.limit` is there. oci-spec reads its absence as zero, which is a real limit.
    pub(crate) pids_limit: bool,
    /// `seccomp` is there without a default action and without system calls.
    pub(crate) empty_seccomp: bool,
    /// `hugepageLimits[index].limit` above `i64::MAX`, where oci-spec ends.
    pub(crate) hugepage_limits: BTreeMap<usize, u64>,
}

impl Notes {
    /// Adds a warning, unless there are many.
    pub(crate) fn warn(&mut self, line: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(line);
        }
    }
}
