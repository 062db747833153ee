//! `linux.resources.unified`: files of the v2 cgroup by name. config-linux.md § Unified.

use std::collections::BTreeMap;

use coracle_host::{CgroupLayout, CgroupMode};

use super::write::{Limits, Write, missing};
use crate::{Error, Result};
use coracle_bundle::member;

const UNIFIED: &str = "linux.resources.unified";

/// Adds the values after the converted ones, so that they override them.
pub(super) fn plan(
    unified: &BTreeMap<String, String>,
    layout: &CgroupLayout,
    limits: &mut Limits,
) -> Result<()> {
    if unified.is_empty() {
        return Ok(());
    }
    let tree = match &layout.unified {
        Some(tree) if layout.mode == CgroupMode::V2 => tree,
        _ => {
            let reason = "invalid configuration: cannot use unified on cgroup v1";
            return Err(Error::config(UNIFIED, reason));
        }
    };
    for (file, value) in unified {
        let path = member(UNIFIED, file);
        let controller = file.split('.').next().unwrap_or_default();
        // Files of the cgroup itself (cgroup.max.depth) belong to no controller.
        if controller != "cgroup" {
            if !tree.controllers.iter().any(|name| name == controller) {
                return Err(missing(&path, controller, layout));
            }
            limits.require(controller, &path);
        }
        // Files such as io.max take one device per write.
        let lines = value.lines().filter(|line| !line.trim().is_empty());
        let writes = lines.map(|line| Write::by_name(file, line, &path));
        limits.unified.extend(writes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use coracle_bundle::Resources;
    use std::collections::BTreeMap;

    fn check(file: &str, value: &str, expected: &str) {
        let resources = Resources {
            unified: BTreeMap::from([(file.to_owned(), value.to_owned())]),
            ..Resources::default()
        };
        let on_v1 = "error: config.json: linux.resources.unified: \
                     invalid configuration: cannot use unified on cgroup v1";
        fixture::check(&resources, on_v1, expected);
    }

    #[test]
    fn values() {
        check("memory.high", "1M", "memory.high=1M");
        check(
            "io.max",
            "8:0 rbps=1\n8:16 wbps=2\n",
            "io.max=8:0 rbps=1 io.max=8:16 wbps=2",
        );
        check("cgroup.max.depth", "3", "cgroup.max.depth=3");
        check("memory.future", "x", "memory.future=x");
    }

    #[test]
    fn refusals() {
        check(
            "future.max",
            "x",
            "error: config.json: linux.resources.unified[\"future.max\"]: \
             cgroup future is required, but /sys/fs/cgroup does not have it",
        );
    }
}
