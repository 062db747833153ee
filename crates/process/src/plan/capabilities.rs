//! Capability sets: what of the config can be granted here (config.md § Linux Process).

use super::Subject;
use super::steps::Sets;
use coracle_bundle::CapabilitySet;

/// In the kernel's order: the place is the number.
const NAMES: [&str; 41] = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
];

/// The capabilities that this crate asks for by name.
pub(crate) const SETGID: u8 = 6;
pub(crate) const SETPCAP: u8 = 8;
pub(crate) const SYS_RESOURCE: u8 = 24;

/// The config's sets after clipping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) bounding: CapabilitySet,
    pub(crate) sets: Sets,
    pub(crate) ambient: CapabilitySet,
}

/// The config's sets as far as the kernel will take them, and a warning for each that was clipped.
///
/// `capset(2)` refuses a set as a whole; the spec wants the rest granted and the caller warned.
pub(crate) fn grant(subject: &Subject, warnings: &mut Vec<String>) -> Granted {
    let asked = subject.process.capabilities;
    let available = subject.available_capabilities();
    let mut clip = |field: &str, asked: CapabilitySet, limit: u64, why: &str| {
        let missing = CapabilitySet(asked.0 & !limit);
        if missing.0 != 0 {
            let names = names(missing);
            warnings.push(format!(
                "process.capabilities.{field}: {why}, left out: {names}"
            ));
        }
        CapabilitySet(asked.0 & limit)
    };
    let bounding = clip("bounding", asked.bounding, available, "not available here");
    let permitted = clip(
        "permitted",
        asked.permitted,
        available,
        "not available here",
    );
    let effective = clip("effective", asked.effective, permitted.0, "not permitted");
    let inheritable = clip(
        "inheritable",
        asked.inheritable,
        bounding.0,
        "not in the bounding set",
    );
    // A capability whose inheritable bit the config left out cannot be ambient. Generated configs
    // are full of these, so that this is no news to anyone.
    let inherited = CapabilitySet(asked.ambient.0 & inheritable.0);
    let ambient = clip("ambient", inherited, permitted.0, "not permitted");
    let sets = Sets {
        effective,
        permitted,
        inheritable,
    };
    Granted {
        bounding,
        sets,
        ambient,
    }
}

/// The numbers in a set, lowest first.
pub(crate) fn numbers(set: CapabilitySet) -> Vec<u8> {
    (0..64).filter(|number| holds(set.0, *number)).collect()
}

/// Whether the bit of a capability is set.
pub(crate) fn holds(set: u64, capability: u8) -> bool {
    set >> capability & 1 == 1
}

/// All capabilities up to the kernel's last.
pub(crate) fn up_to(last: u8) -> u64 {
    u64::MAX >> 63u8.saturating_sub(last)
}

/// `cap_chown,cap_kill`, or `none`.
pub(crate) fn names(set: CapabilitySet) -> String {
    if set.0 == 0 {
        return "none".to_owned();
    }
    let name = |number: u8| match NAMES.get(usize::from(number)) {
        Some(name) => (*name).to_owned(),
        None => format!("cap_{number}"),
    };
    numbers(set)
        .into_iter()
        .map(name)
        .collect::<Vec<_>>()
        .join(",")
}
