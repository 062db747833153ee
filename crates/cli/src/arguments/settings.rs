//! The values of the global flags.

use std::path::PathBuf;

use coracle_container::{CgroupManager, Rootless};

use crate::log::Settings;

/// What holds for every verb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Global {
    pub(crate) log: Settings,
    /// As typed; `None` is the caller's default.
    pub(crate) root: Option<PathBuf>,
    pub(crate) cgroup_manager: CgroupManager,
    pub(crate) rootless: Rootless,
    /// `--criu` of old go-runc, which nothing reads.
    pub(crate) names_criu: bool,
}
