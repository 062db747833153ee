//! What the caller chooses.

/// Who makes the container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manager {
    /// The runtime itself, by files.
    #[default]
    Cgroupfs,
    /// systemd, over D-Bus.
    Systemd,
    /// Nobody: the container stays in the caller's cgroup, limits are not applied.
    Disabled,
}

/// Whether a container without limits and path goes without a cgroup where it may not make one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rootless {
    /// It does if the runtime isn't root of the initial user namespace.
    #[default]
    Auto,
    /// It does.
    True,
    /// An error.
    False,
}

/// What the caller chose.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The container's id: the cgroup's name if `linux.cgroupsPath` is absent.
    pub id: &'a str,
    /// `--systemd-cgroup`, `--cgroup-manager`.
    pub manager: Manager,
    /// `--rootless`.
    pub rootless: Rootless,
}
