//! Every limit of `linux.resources` as a value to write, in the hierarchy that has its controller.
//!
//! Paths play no part here, so an update of a running container plans the same way.

use coracle_bundle::Resources;
use coracle_host::{CgroupLayout, CgroupMode};

use super::write::Write;
use super::{block_io, cpu, hugetlb, memory, network, pids, rdma, unified};
use crate::{Error, Result};

/// What to write, by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// By index of the v1 hierarchy.
    pub(super) hierarchies: Vec<Vec<Write>>,
    /// In the v2 cgroup.
    pub(super) unified: Vec<Write>,
    /// v2 controllers that must be enabled, with the JSON path that needs them.
    pub(super) required: Vec<(String, String)>,
    /// What has no place, though it harms nobody.
    pub(super) warnings: Vec<String>,
}

/// Whose files a conversion is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// Where a controller lives.
enum Place {
    Hierarchy(usize),
    Unified,
    Missing,
}

/// All limits of `resources` on a machine with this layout.
pub(super) fn plan(resources: &Resources, layout: &CgroupLayout) -> Result<Limits> {
    let mut limits = Limits {
        hierarchies: vec![Vec::new(); layout.hierarchies.len()],
        ..Limits::default()
    };
    let noprefix = layout
        .hierarchies
        .iter()
        .any(|hierarchy| hierarchy.noprefix);
    let r = resources;
    let section = &mut |names: (&str, &str), convert: &dyn Fn(Version) -> Result<Vec<Write>>| {
        limits.section(layout, names, convert)
    };
    section(("memory", "memory"), &|version| {
        memory::plan(&r.memory, version)
    })?;
    section(("cpu", "cpu"), &|version| cpu::plan(&r.cpu, version))?;
    section(("cpuset", "cpuset"), &|_| Ok(cpu::cpuset(&r.cpu, noprefix)))?;
    section(("pids", "pids"), &|_| Ok(pids::plan(r.pids)))?;
    section(("blkio", "io"), &|version| {
        block_io::plan(&r.block_io, version)
    })?;
    section(("hugetlb", "hugetlb"), &|version| {
        hugetlb::plan(&r.hugepage_limits, version)
    })?;
    section(("net_cls", "net_cls"), &|version| {
        network::class(&r.network, version)
    })?;
    section(("net_prio", "net_prio"), &|version| {
        network::priorities(&r.network, version)
    })?;
    section(("rdma", "rdma"), &|_| rdma::plan(&r.rdma))?;
    unified::plan(&r.unified, layout, &mut limits)?;
    limits.warn(resources, layout);
    Ok(limits)
}

impl Limits {
    /// The JSON path of some limit, if any is asked.
    pub(super) fn first_source(&self) -> Option<&str> {
        let mut all = self.hierarchies.iter().flatten().chain(&self.unified);
        all.next().map(|write| write.source.as_str())
    }

    /// Moves out what is written in the v1 hierarchy with this index.
    pub(super) fn take_hierarchy(&mut self, index: usize) -> Vec<Write> {
        self.hierarchies
            .get_mut(index)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// One more write for the v1 hierarchy with this controller, if there is one.
    pub(super) fn push(&mut self, layout: &CgroupLayout, controller: &str, write: Write) {
        if let Place::Hierarchy(index) = place(layout, controller, controller)
            && let Some(list) = self.hierarchies.get_mut(index)
        {
            list.push(write);
        }
    }

    /// Puts the writes of one controller, by its v1 and its v2 name, where it lives.
    fn section(
        &mut self,
        layout: &CgroupLayout,
        (v1, v2): (&str, &str),
        convert: &dyn Fn(Version) -> Result<Vec<Write>>,
    ) -> Result<()> {
        let place = place(layout, v1, v2);
        let version = match place {
            Place::Hierarchy(_) => Version::V1,
            Place::Unified => Version::V2,
            Place::Missing if layout.mode == CgroupMode::V2 => Version::V2,
            Place::Missing => Version::V1,
        };
        let writes = convert(version)?;
        let Some(first) = writes.first() else {
            return Ok(());
        };
        match place {
            Place::Hierarchy(index) => {
                if let Some(list) = self.hierarchies.get_mut(index) {
                    list.extend(writes);
                }
                Ok(())
            }
            Place::Unified => {
                self.require(v2, &first.source.clone());
                self.unified.extend(writes);
                Ok(())
            }
            Place::Missing => {
                let name = if version == Version::V1 { v1 } else { v2 };
                Err(missing(&first.source, name, layout))
            }
        }
    }

    /// Notes that the v2 cgroup needs `controller`.
    pub(super) fn require(&mut self, controller: &str, source: &str) {
        if !self.required.iter().any(|(name, _)| name == controller) {
            self.required
                .push((controller.to_owned(), source.to_owned()));
        }
    }

    fn warn(&mut self, resources: &Resources, layout: &CgroupLayout) {
        let unified = |v1, v2| !matches!(place(layout, v1, v2), Place::Hierarchy(_));
        let memory = &resources.memory;
        let mut warn = |asked: bool, path: &str, why: &str| {
            if asked {
                self.warnings.push(format!("linux.resources.{path}: {why}"));
            }
        };
        let gone = "ignored: kernels since 5.16 have no such limit";
        warn(
            memory.kernel.is_some_and(|value| value > 0),
            "memory.kernel",
            gone,
        );
        warn(
            memory.kernel_tcp.is_some_and(|value| value > 0),
            "memory.kernelTCP",
            gone,
        );
        let none = "ignored: cgroup v2 has no such setting";
        if unified("memory", "memory") {
            warn(memory.swappiness.is_some(), "memory.swappiness", none);
            warn(
                memory.disable_oom_killer == Some(true),
                "memory.disableOOMKiller",
                none,
            );
        }
        if unified("blkio", "io") {
            let leaf = resources.block_io.leaf_weight;
            warn(
                leaf.is_some_and(|weight| weight != 0),
                "blockIO.leafWeight",
                none,
            );
        }
    }
}

fn place(layout: &CgroupLayout, v1: &str, v2: &str) -> Place {
    let hierarchy = |name: &str| {
        let has = |controllers: &Vec<String>| controllers.iter().any(|c| c == name);
        layout.hierarchies.iter().position(|h| has(&h.controllers))
    };
    if let Some(index) = hierarchy(v1) {
        return Place::Hierarchy(index);
    }
    match &layout.unified {
        Some(tree) if tree.controllers.iter().any(|c| c == v2) => Place::Unified,
        _ => Place::Missing,
    }
}

/// The error for a limit whose controller nobody has.
pub(super) fn missing(source: &str, controller: &str, layout: &CgroupLayout) -> Error {
    let place = match (&layout.unified, layout.mode) {
        (Some(tree), CgroupMode::V2) => {
            format!("{} does not have it", tree.mount.display())
        }
        (Some(tree), _) => {
            let mount = tree.mount.display();
            format!("no hierarchy of version 1 has it, nor does {mount}")
        }
        _ => "it is not mounted".to_owned(),
    };
    Error::Controller {
        path: source.to_owned(),
        controller: controller.to_owned(),
        place,
    }
}
