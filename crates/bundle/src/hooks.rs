//! `hooks`: config.md § POSIX-platform Hooks.

use std::ffi::CString;

/// The six hook points in the order of the life cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookPoint {
    /// Obsolete; runs right before the next.
    Prestart,
    /// In the runtime's namespaces, before pivot_root(2).
    CreateRuntime,
    /// In the container's namespaces, before pivot_root(2).
    CreateContainer,
    /// In the container, before the process is executed.
    StartContainer,
    /// In the runtime's namespaces, after the process was executed.
    Poststart,
    /// In the runtime's namespaces, after the container is gone.
    Poststop,
}

/// The hooks of a container, in listed order.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// [`HookPoint::Prestart`].
    pub prestart: Vec<Hook>,
    /// [`HookPoint::CreateRuntime`].
    pub create_runtime: Vec<Hook>,
    /// [`HookPoint::CreateContainer`].
    pub create_container: Vec<Hook>,
    /// [`HookPoint::StartContainer`].
    pub start_container: Vec<Hook>,
    /// [`HookPoint::Poststart`].
    pub poststart: Vec<Hook>,
    /// [`HookPoint::Poststop`].
    pub poststop: Vec<Hook>,
}

/// A command to run at a hook point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Absolute.
    pub path: CString,
    /// argv with `argv[0]`; `[path]` when the config has none.
    pub args: Vec<CString>,
    /// `KEY=VALUE` each, as listed; `None` when the config has no `env` at all.
    pub env: Option<Vec<CString>>,
    /// Seconds, above zero.
    pub timeout_secs: Option<u32>,
}

impl Hooks {
    /// The hooks of one point, in listed order.
    #[must_use]
    pub fn at(&self, point: HookPoint) -> &[Hook] {
        match point {
            HookPoint::Prestart => &self.prestart,
            HookPoint::CreateRuntime => &self.create_runtime,
            HookPoint::CreateContainer => &self.create_container,
            HookPoint::StartContainer => &self.start_container,
            HookPoint::Poststart => &self.poststart,
            HookPoint::Poststop => &self.poststop,
        }
    }
}

impl HookPoint {
    /// The config's name of the point, e.g. `createRuntime`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            HookPoint::Prestart => "prestart",
            HookPoint::CreateRuntime => "createRuntime",
            HookPoint::CreateContainer => "createContainer",
            HookPoint::StartContainer => "startContainer",
            HookPoint::Poststart => "poststart",
            HookPoint::Poststop => "poststop",
        }
    }
}
