//! The values of the global flags.

use std::path::PathBuf;

use coracle_container::{CgroupManager, Rootless};

use crate::log::Settings;

/// The settings that apply to every verb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Global {
    pub(crate) log: Settings,
    /// The value of `--trace`.
    pub(crate) trace: Option<PathBuf>,
    /// The value of `--root`; `None` means the default of the calling user.
    pub(crate) root: Option<PathBuf>,
    pub(crate) cgroup_manager: CgroupManager,
    pub(crate) rootless: Rootless,
    /// Whether the line has `--criu`, which old go-runc passes and which is ignored.
    pub(crate) names_criu: bool,
}
