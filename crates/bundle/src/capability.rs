//! Names of capabilities: capabilities(7).

/// The number of a capability by its name, `CAP_CHOWN` or `CHOWN`; `None` if there is none such.
///
/// Upper case only: who wants `cap_chown` to count (the command line of `exec`) folds the case
/// first. A config must write the prefix: `config.md § Linux Process`.
#[must_use]
pub fn parse_capability(name: &str) -> Option<u8> {
    parse_prefixed(name).or_else(|| {
        let position = NAMES
            .iter()
            .position(|known| known.strip_prefix("CAP_") == Some(name))?;
        u8::try_from(position).ok()
    })
}

/// The same for the config's spelling alone.
pub(crate) fn parse_prefixed(name: &str) -> Option<u8> {
    let position = NAMES.iter().position(|known| *known == name)?;
    u8::try_from(position).ok()
}

/// In the order of their numbers: `linux/capability.h`, complete to Linux 6.18.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

#[cfg(test)]
mod tests {
    use super::*;
    use caps::Capability;

    #[test]
    fn the_table_agrees_with_the_caps_crate() {
        for capability in caps::all() {
            assert_eq!(
                parse_capability(&capability.to_string()),
                Some(capability.index())
            );
        }
        assert_eq!(caps::all().len(), NAMES.len());
    }

    #[test]
    fn both_spellings_upper_case_only() {
        assert_eq!(
            parse_capability("NET_RAW"),
            Some(Capability::CAP_NET_RAW.index())
        );
        assert_eq!(parse_prefixed("NET_RAW"), None);
        for unknown in [
            "",
            "CAP_",
            "cap_chown",
            "CAP_CAP_CHOWN",
            "CAP_NONE",
            "CAP_CHOWN ",
        ] {
            assert_eq!(parse_capability(unknown), None, "{unknown}");
        }
    }
}
