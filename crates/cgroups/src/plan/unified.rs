//! `linux.resources.unified`: files of the v2 cgroup by name. config-linux.md § Unified.

use std::collections::BTreeMap;

use coracle_host::{CgroupLayout, CgroupMode};

use super::limits::{Limits, missing};
use super::write::Write;
use crate::{Error, Result};

/// Adds the values after the converted ones, which they so override.
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
            return Err(Error::config("linux.resources.unified", reason));
        }
    };
    for (file, value) in unified {
        let path = format!("linux.resources.unified.{file}");
        let controller = controller(file).ok_or_else(|| {
            let reason = "is no file of a cgroup, such as memory.high";
            Error::config(path.clone(), reason)
        })?;
        // Files of the cgroup itself (cgroup.max.depth) belong to no controller.
        if controller != "cgroup" {
            if !tree.controllers.iter().any(|name| name == controller) {
                return Err(missing(&path, controller, layout));
            }
            limits.require(controller, &path);
        }
        // io.max and its like take one device a write.
        let lines = value.lines().filter(|line| !line.trim().is_empty());
        let writes = lines.map(|line| Write::new(file.as_str(), line, &path));
        limits.unified.extend(writes);
    }
    Ok(())
}

/// What stands before the first dot; `None` if the name leads elsewhere.
fn controller(file: &str) -> Option<&str> {
    if file.contains(['/', '\0']) {
        return None;
    }
    let (controller, rest) = file.split_once('.')?;
    (!controller.is_empty() && !rest.is_empty()).then_some(controller)
}

#[cfg(test)]
mod tests {
    use super::super::write::text;
    use super::*;
    use coracle_host::UnifiedTree;

    fn check(mode: CgroupMode, file: &str, value: &str) -> String {
        let controllers = ["io", "memory"].map(str::to_owned).to_vec();
        let layout = CgroupLayout {
            mode,
            hierarchies: Vec::new(),
            unified: Some(UnifiedTree {
                mount: "/sys/fs/cgroup".into(),
                root: "/".into(),
                own: "/".into(),
                controllers,
            }),
        };
        let unified = BTreeMap::from([(file.to_owned(), value.to_owned())]);
        let mut limits = Limits::default();
        let result = plan(&unified, &layout, &mut limits);
        let required = limits.required.iter().map(|(name, _)| format!(" +{name}"));
        text(&result.map(|()| limits.unified.clone())) + &required.collect::<String>()
    }

    #[test]
    fn values() {
        let v2 = CgroupMode::V2;
        assert_eq!(check(v2, "memory.high", "1M"), "memory.high=1M +memory");
        assert_eq!(
            check(v2, "io.max", "8:0 rbps=1\n8:16 wbps=2\n"),
            "io.max=8:0 rbps=1 io.max=8:16 wbps=2 +io"
        );
        assert_eq!(check(v2, "cgroup.max.depth", "3"), "cgroup.max.depth=3");
        assert_eq!(check(v2, "memory.future", "x"), "memory.future=x +memory");
    }

    #[test]
    fn refusals() {
        let v2 = CgroupMode::V2;
        assert_eq!(
            check(v2, "rdma.max", "x"),
            "error: linux.resources.unified.rdma.max: cgroup rdma is required, \
             but /sys/fs/cgroup does not have it"
        );
        for file in ["memory", "../x.y", ".x", "memory.", ""] {
            let text = check(v2, file, "1");
            assert!(
                text.ends_with("is no file of a cgroup, such as memory.high"),
                "{text}"
            );
        }
        for mode in [CgroupMode::V1, CgroupMode::Hybrid] {
            let text = check(mode, "memory.high", "1");
            assert!(text.ends_with("cannot use unified on cgroup v1"), "{text}");
        }
    }
}
