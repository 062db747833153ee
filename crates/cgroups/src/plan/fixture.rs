//! For tests of planners: a resources object, and what is written for it in both versions.

use coracle_bundle::Resources;
use coracle_host::{CgroupLayout, fixture};

use super::resources::plan;
use super::write::text;

pub(super) fn v2() -> CgroupLayout {
    (*fixture::v2().cgroups).clone()
}

/// Asserts the writes, or the error after `error: `.
#[track_caller]
pub(super) fn check(resources: &Resources, v1: &str, v2: &str) {
    for (layout, expected) in [(&*fixture::v1().cgroups, v1), (&self::v2(), v2)] {
        let found = match plan(resources, layout) {
            Ok(limits) => {
                let all = limits.hierarchies.iter().flatten().chain(&limits.unified);
                text(&all.cloned().collect::<Vec<_>>())
            }
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(found, expected);
    }
}
