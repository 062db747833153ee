//! The caller's options.

/// The manager of the container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manager {
    /// The runtime itself, by files.
    #[default]
    Cgroupfs,
    /// systemd, over D-Bus.
    Systemd,
    /// No manager: the container stays in the caller's cgroup, and limits are not applied.
    Disabled,
}

/// Whether a container without limits and path does without a cgroup if the caller may not make
/// one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rootless {
    /// It does if the runtime is not root of the initial user namespace.
    #[default]
    Auto,
    /// It always does.
    True,
    /// It does not: this is an error.
    False,
}

/// The options of the caller.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The container's id: the cgroup's name if `linux.cgroupsPath` is absent.
    pub id: &'a str,
    /// `--systemd-cgroup`, `--cgroup-manager`.
    pub manager: Manager,
    /// `--rootless`.
    pub rootless: Rootless,
}
