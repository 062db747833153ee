//! `linux.resources` as values to write. config-linux.md § Control groups.

use coracle_bundle::{HugepageLimit, Limit, Network, Rdma, Resources};
use coracle_host::CgroupLayout;
use std::collections::BTreeMap;

use super::write::{Limits, Write, source};
use super::{block_io, cpu, memory, unified};
use crate::Result;
use crate::table::{
    HUGETLB_LIMIT, HUGETLB_RESERVED, NET_CLASS, NET_PRIORITY, PIDS_LIMIT, RDMA_LIMIT,
};
use coracle_bundle::member;

/// The limits of `resources` on a machine with this layout of cgroups.
pub(super) fn plan<'a>(resources: &Resources, layout: &'a CgroupLayout) -> Result<Limits<'a>> {
    let mut limits = Limits::new(layout);
    memory::plan(&resources.memory, &mut limits)?;
    cpu::plan(&resources.cpu, &mut limits)?;
    // Init could not be cloned into a v2 cgroup with a limit of zero processes, and systemd refuses
    // zero.
    let processes = resources.pids.map(|limit| match limit {
        Limit::Amount(0) => Limit::Amount(1),
        limit => limit,
    });
    limits.set(&PIDS_LIMIT, processes)?;
    block_io::plan(&resources.block_io, &mut limits)?;
    huge_pages(&resources.hugepage_limits, &mut limits)?;
    network(&resources.network, &mut limits)?;
    rdma(&resources.rdma, &mut limits)?;
    unified::plan(&resources.unified, layout, &mut limits)?;
    Ok(limits)
}

/// Limits on usage and, if the kernel supports it, on reservations. cgroup-v1/hugetlb.rst,
/// cgroup-v2.rst § HugeTLB.
fn huge_pages(list: &[HugepageLimit], limits: &mut Limits) -> Result<()> {
    for (index, HugepageLimit { page_size, limit }) in list.iter().enumerate() {
        let source = format!("{}[{index}].limit", source(&HUGETLB_LIMIT));
        let named = |write: Write| {
            let name = write.file.name.replace('*', page_size);
            write.named(name)
        };
        limits.add(&HUGETLB_LIMIT, &source, (*limit).into(), named)?;
        let if_there = |write| named(write).if_there();
        limits.add(&HUGETLB_RESERVED, &source, (*limit).into(), if_there)?;
    }
    Ok(())
}

/// The tag of the container's packets, and their priorities by interface of the runtime's network
/// namespace. cgroup-v1/net_cls.rst, net_prio.rst.
fn network(network: &Network, limits: &mut Limits) -> Result<()> {
    limits.set(&NET_CLASS, network.class_id)?;
    for (index, (name, priority)) in network.priorities.iter().enumerate() {
        let source = format!("{}[{index}]", source(&NET_PRIORITY));
        let line = format!("{name} {priority}");
        limits.add(&NET_PRIORITY, &source, line.into(), |write| write)?;
    }
    Ok(())
}

/// One line for each device. cgroup-v1/rdma.rst, cgroup-v2.rst § RDMA.
fn rdma(devices: &BTreeMap<String, Rdma>, limits: &mut Limits) -> Result<()> {
    for (name, device) in devices {
        let mut line = name.clone();
        for (key, value) in [
            ("hca_handle", device.hca_handles),
            ("hca_object", device.hca_objects),
        ] {
            if let Some(value) = value {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        let source = member(&source(&RDMA_LIMIT), name);
        limits.add(&RDMA_LIMIT, &source, line.into(), |write| write)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::check;
    use super::*;

    #[test]
    fn processes() {
        for (limit, expected) in [
            (Limit::Unlimited, "pids.max=max"),
            (Limit::Amount(0), "pids.max=1"),
            (Limit::Amount(2048), "pids.max=2048"),
        ] {
            let resources = Resources {
                pids: Some(limit),
                ..Resources::default()
            };
            check(&resources, expected, expected);
        }
        check(&Resources::default(), "", "");
    }

    #[test]
    fn huge_pages_in_use_and_in_reserve() {
        let limit = HugepageLimit {
            page_size: "2MB".to_owned(),
            limit: 4096,
        };
        let resources = Resources {
            hugepage_limits: vec![limit],
            ..Resources::default()
        };
        check(
            &resources,
            "hugetlb.2MB.limit_in_bytes=4096 hugetlb.2MB.rsvd.limit_in_bytes=4096 (if there)",
            "hugetlb.2MB.max=4096 hugetlb.2MB.rsvd.max=4096 (if there)",
        );
    }

    #[test]
    fn only_v1_knows_packets() {
        let with = |network| Resources {
            network,
            ..Resources::default()
        };
        let class = Network {
            class_id: Some(0x10_0001),
            priorities: Vec::new(),
        };
        let path = "error: config.json: linux.resources.network";
        let none = "cgroup v2 has no such setting";
        let refused = format!("{path}.classID: {none}");
        check(&with(class), "net_cls.classid=1048577", &refused);
        let priorities = Network {
            class_id: None,
            priorities: vec![("eth0".to_owned(), 500), ("lo".to_owned(), 0)],
        };
        let lines = "net_prio.ifpriomap=eth0 500 net_prio.ifpriomap=lo 0";
        let refused = format!("{path}.priorities[0]: {none}");
        check(&with(priorities), lines, &refused);
    }

    #[test]
    fn rdma_devices() {
        let lines = |hca_handles, hca_objects, expected: &str| {
            let limits = Rdma {
                hca_handles,
                hca_objects,
            };
            let resources = Resources {
                rdma: BTreeMap::from([("mlx5_1".to_owned(), limits)]),
                ..Resources::default()
            };
            check(&resources, expected, expected);
        };
        let both = "rdma.max=mlx5_1 hca_handle=3 hca_object=10000";
        lines(Some(3), Some(10_000), both);
        lines(None, Some(0), "rdma.max=mlx5_1 hca_object=0");
    }
}
