//! The options of requests, with the field numbers of criu's images/rpc.proto.

use bitflags::bitflags;

/// `criu_req_type`.
pub(crate) mod kind {
    pub(crate) const DUMP: u64 = 1;
    pub(crate) const RESTORE: u64 = 2;
    pub(crate) const PRE_DUMP: u64 = 4;
    pub(crate) const NOTIFY: u64 = 6;
    pub(crate) const FEATURE_CHECK: u64 = 9;
    pub(crate) const VERSION: u64 = 10;
}

/// `criu_opts`.
pub(crate) mod field {
    pub(crate) const IMAGES_DIR_FD: u32 = 1;
    pub(crate) const PID: u32 = 2;
    pub(crate) const LEAVE_RUNNING: u32 = 3;
    pub(crate) const EVASIVE_DEVICES: u32 = 6;
    pub(crate) const LOG_LEVEL: u32 = 9;
    pub(crate) const LOG_FILE: u32 = 10;
    pub(crate) const PAGE_SERVER: u32 = 11;
    pub(crate) const NOTIFY_SCRIPTS: u32 = 12;
    pub(crate) const ROOT: u32 = 13;
    pub(crate) const PARENT_IMG: u32 = 14;
    pub(crate) const TRACK_MEM: u32 = 15;
    pub(crate) const WORK_DIR_FD: u32 = 17;
    pub(crate) const MANAGE_CGROUPS: u32 = 24;
    pub(crate) const CG_ROOT: u32 = 25;
    pub(crate) const RST_SIBLING: u32 = 26;
    pub(crate) const INHERIT_FD: u32 = 27;
    pub(crate) const MANAGE_CGROUPS_MODE: u32 = 34;
    pub(crate) const EXTERNAL: u32 = 37;
    pub(crate) const EMPTY_NS: u32 = 38;
    pub(crate) const JOIN_NS: u32 = 39;
    pub(crate) const FREEZE_CGROUP: u32 = 44;
    pub(crate) const ORPHAN_PTS_MASTER: u32 = 50;
    pub(crate) const CONFIG_FILE: u32 = 51;
    pub(crate) const LSM_PROFILE: u32 = 53;
    pub(crate) const LSM_MOUNT_CONTEXT: u32 = 63;
    pub(crate) const UNPRIVILEGED: u32 = 67;
}

bitflags! {
    /// Switches of `checkpoint` and `restore`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// Keep established TCP connections.
        const TCP_ESTABLISHED = 1;
        /// Close established TCP connections.
        const TCP_CLOSE = 1 << 1;
        /// Skip TCP connections that are not accepted yet.
        const TCP_SKIP_IN_FLIGHT = 1 << 2;
        /// Allow unix sockets whose peer is outside the container.
        const EXT_UNIX_SK = 1 << 3;
        /// Allow the caller's terminal and session.
        const SHELL_JOB = 1 << 4;
        /// Keep file locks.
        const FILE_LOCKS = 1 << 5;
        /// Load memory after the restore, on demand.
        const LAZY_PAGES = 1 << 6;
        /// Drop pages of parent images that newer ones replace.
        const AUTO_DEDUP = 1 << 7;
        /// Link deleted files again that still have another name.
        const LINK_REMAP = 1 << 8;
    }
}

/// The field of each switch.
pub(crate) const SWITCHES: [(Flags, u32); 9] = [
    (Flags::EXT_UNIX_SK, 4),
    (Flags::TCP_ESTABLISHED, 5),
    (Flags::SHELL_JOB, 7),
    (Flags::FILE_LOCKS, 8),
    (Flags::AUTO_DEDUP, 16),
    (Flags::LINK_REMAP, 18),
    (Flags::TCP_SKIP_IN_FLIGHT, 46),
    (Flags::LAZY_PAGES, 48),
    (Flags::TCP_CLOSE, 52),
];

/// How criu handles cgroups: `criu_cg_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupsMode {
    /// Leave them alone.
    Ignore,
    /// Restore properties of those that it makes.
    #[default]
    Soft,
    /// Restore properties of all.
    Full,
    /// Make all, none of which may exist.
    Strict,
}

impl CgroupsMode {
    /// The mode for a value of `--manage-cgroups-mode`.
    #[must_use]
    pub fn parse(word: &[u8]) -> Option<Self> {
        match word {
            b"ignore" => Some(Self::Ignore),
            b"soft" | b"" => Some(Self::Soft),
            b"full" => Some(Self::Full),
            b"strict" => Some(Self::Strict),
            _ => None,
        }
    }

    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Ignore => 0,
            Self::Soft => 3,
            // criu's own `strict` (5) refuses the cgroup that the runtime makes.
            Self::Full | Self::Strict => 4,
        }
    }
}

/// The address of a page server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageServer {
    /// An address, without brackets.
    pub address: String,
    /// A TCP port.
    pub port: u16,
}

/// The value of `--page-server` is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsePageServer;

/// Parses `ADDRESS:PORT` or `[ADDRESS]:PORT`.
///
/// # Errors
/// [`ParsePageServer`] for anything else.
pub fn parse_page_server(text: &str) -> Result<PageServer, ParsePageServer> {
    let (address, port) = text.rsplit_once(':').ok_or(ParsePageServer)?;
    let bracketed = address
        .strip_prefix('[')
        .and_then(|it| it.strip_suffix(']'));
    let is_clear = bracketed.is_some() || !address.contains([':', '[', ']']);
    let address = bracketed.unwrap_or(address);
    match port.parse() {
        Ok(port) if port != 0 && is_clear && !address.is_empty() => Ok(PageServer {
            address: address.to_owned(),
            port,
        }),
        _ => Err(ParsePageServer),
    }
}

/// Labels of security modules that replace those of the images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LsmLabels {
    /// `apparmor:NAME` or `selinux:NAME`.
    pub profile: Option<String>,
    /// The SELinux context of mounts.
    pub mount_context: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_is_an_address_and_a_port() {
        let parsed = |text| parse_page_server(text).map(|it| (it.address, it.port));
        assert_eq!(parsed("127.0.0.1:27"), Ok(("127.0.0.1".to_owned(), 27)));
        assert_eq!(parsed("[::1]:65535"), Ok(("::1".to_owned(), 65535)));
        for bad in [
            "", "a", "a:", ":1", "a:0", "a:65536", "::1:5", "[::1:5", "a:-1",
        ] {
            assert_eq!(parsed(bad), Err(ParsePageServer), "{bad}");
        }
    }
}
