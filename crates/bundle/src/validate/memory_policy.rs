//! `linux.memoryPolicy`: config-linux.md § Memory policy, set_mempolicy(2).

use super::text::number_list;
use crate::MemoryPolicy;
use crate::error::{At, Error};
use oci_spec::runtime as oci;
use oci_spec::runtime::MemoryPolicyFlagType as Flag;
use oci_spec::runtime::MemoryPolicyModeType as Mode;

/// The modes, each at its number.
pub const MEMORY_MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// The flags, the lowest bit first.
pub const MEMORY_FLAGS: [&str; 3] = [
    "MPOL_F_NUMA_BALANCING",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_STATIC_NODES",
];

const NUMA_BALANCING: u32 = 1 << 13;
/// The node numbers are relative to the allowed nodes (set_mempolicy(2)).
pub const RELATIVE_NODES: u32 = 1 << 14;
const STATIC_NODES: u32 = 1 << 15;

/// Validates the arguments of set_mempolicy(2). Which nodes exist depends on the host.
pub(super) fn memory_policy(
    raw: &oci::LinuxMemoryPolicy,
    at: At<'_>,
) -> Result<MemoryPolicy, Error> {
    let mode = match raw.mode() {
        Mode::MpolDefault => 0_u8,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let mode_name = MEMORY_MODES.get(usize::from(mode)).copied();
    let mode_name = mode_name.unwrap_or_default();
    let nodes = match raw.nodes().as_deref() {
        None | Some("") => Vec::new(),
        Some(list) => number_list(list, at.key("nodes"))?,
    };
    match raw.mode() {
        Mode::MpolDefault | Mode::MpolLocal if !nodes.is_empty() => {
            return Err(at.key("nodes").refuse(format!("{mode_name} takes none")));
        }
        Mode::MpolDefault | Mode::MpolLocal | Mode::MpolPreferred => {}
        _ if nodes.is_empty() => {
            return Err(at
                .key("nodes")
                .refuse(format!("{mode_name} needs at least one")));
        }
        _ => {}
    }
    let flags = raw
        .flags()
        .iter()
        .flatten()
        .fold(0, |bits, flag| bits | flag_bit(flag));
    check_flags(flags, mode_name, nodes.is_empty(), at.key("flags"))?;
    Ok(MemoryPolicy {
        mode: mode.into(),
        mode_name,
        flags,
        nodes,
    })
}

fn flag_bit(flag: &Flag) -> u32 {
    match flag {
        Flag::MpolFNumaBalancing => NUMA_BALANCING,
        Flag::MpolFRelativeNodes => RELATIVE_NODES,
        Flag::MpolFStaticNodes => STATIC_NODES,
    }
}

fn check_flags(flags: u32, mode: &str, no_nodes: bool, at: At<'_>) -> Result<(), Error> {
    let about_nodes = flags & (RELATIVE_NODES | STATIC_NODES);
    if about_nodes == RELATIVE_NODES | STATIC_NODES {
        return Err(at.refuse("MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other"));
    }
    if flags & NUMA_BALANCING != 0 && !matches!(mode, "MPOL_BIND" | "MPOL_PREFERRED_MANY") {
        return Err(at.refuse(format!(
            "MPOL_F_NUMA_BALANCING goes with MPOL_BIND and MPOL_PREFERRED_MANY, not with {mode}"
        )));
    }
    if about_nodes != 0 && no_nodes {
        return Err(at.refuse(format!("{mode} without nodes takes no flag about nodes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{accepted, refused, with};
    use serde_json::{Value, json};

    fn policy(mode: &str, nodes: &str, flags: &[&str]) -> Value {
        json!({"mode": mode, "nodes": nodes, "flags": flags})
    }

    #[test]
    fn policies() {
        let at = "/linux/memoryPolicy";
        let both: &[&str] = &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"];
        refused(&[
            (
                at,
                json!({"nodes": "0"}),
                "linux.memoryPolicy.mode: invalid memory policy: required, but missing",
            ),
            (
                at,
                policy("MPOL_NONE", "", &[]),
                "linux.memoryPolicy.mode: invalid memory policy: \
                 unknown variant `MPOL_NONE`, expected one of \
                 `MPOL_DEFAULT`, `MPOL_BIND`, `MPOL_INTERLEAVE`, `MPOL_WEIGHTED_INTERLEAVE`, \
                 `MPOL_PREFERRED`, `MPOL_PREFERRED_MANY`, `MPOL_LOCAL`",
            ),
            (
                at,
                policy("MPOL_DEFAULT", "0", &[]),
                "linux.memoryPolicy.nodes: invalid memory policy: MPOL_DEFAULT takes none",
            ),
            (
                at,
                policy("MPOL_LOCAL", "0-1", &[]),
                "linux.memoryPolicy.nodes: invalid memory policy: MPOL_LOCAL takes none",
            ),
            (
                at,
                policy("MPOL_BIND", "", &[]),
                "linux.memoryPolicy.nodes: invalid memory policy: MPOL_BIND needs at least one",
            ),
            (
                at,
                json!({"mode": "MPOL_PREFERRED_MANY"}),
                "linux.memoryPolicy.nodes: invalid memory policy: \
                 MPOL_PREFERRED_MANY needs at least one",
            ),
            (
                at,
                policy("MPOL_WEIGHTED_INTERLEAVE", "", &[]),
                "linux.memoryPolicy.nodes: invalid memory policy: \
                 MPOL_WEIGHTED_INTERLEAVE needs at least one",
            ),
            (
                at,
                policy("MPOL_BIND", "1-0", &[]),
                "linux.memoryPolicy.nodes: invalid memory policy: \
                 \"1-0\": the range \"1-0\" is empty",
            ),
            (
                at,
                policy("MPOL_BIND", "x", &[]),
                "linux.memoryPolicy.nodes: invalid memory policy: \
                 \"x\" is not a list of numbers and ranges like 0-3,7",
            ),
            (
                at,
                policy("MPOL_BIND", "0", both),
                "linux.memoryPolicy.flags: invalid memory policy: \
                 MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude \
                 each other",
            ),
            (
                at,
                policy("MPOL_INTERLEAVE", "0", &["MPOL_F_NUMA_BALANCING"]),
                "linux.memoryPolicy.flags: invalid memory policy: \
                 MPOL_F_NUMA_BALANCING goes with MPOL_BIND and \
                 MPOL_PREFERRED_MANY, not with MPOL_INTERLEAVE",
            ),
            (
                at,
                policy("MPOL_PREFERRED", "", &["MPOL_F_STATIC_NODES"]),
                "linux.memoryPolicy.flags: invalid memory policy: \
                 MPOL_PREFERRED without nodes takes no flag about nodes",
            ),
            (
                at,
                policy("MPOL_BIND", "0", &["MPOL_F_X"]),
                "linux.memoryPolicy.flags[0]: invalid memory policy: \
                 unknown variant `MPOL_F_X`, expected one of \
                 `MPOL_F_NUMA_BALANCING`, `MPOL_F_RELATIVE_NODES`, `MPOL_F_STATIC_NODES`",
            ),
        ]);
        accepted(&[
            (at, policy("MPOL_PREFERRED", "", &[])),
            (at, policy("MPOL_PREFERRED", "1", &["MPOL_F_STATIC_NODES"])),
            (
                at,
                json!({"mode": "MPOL_DEFAULT", "nodes": null, "flags": null}),
            ),
        ]);
        let flags = ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES"];
        let policy = with(at, policy("MPOL_BIND", "3,0-1", &flags))
            .linux
            .memory_policy
            .unwrap();
        assert_eq!((policy.mode, policy.nodes), (2, vec![0, 1, 3]));
        assert_eq!(policy.flags, NUMA_BALANCING | RELATIVE_NODES);
    }
}
