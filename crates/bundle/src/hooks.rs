//! `hooks`: config.md § POSIX-platform Hooks.

use std::ffi::CString;

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident $field:ident $name:literal;)*) => {
        /// The six hook points in the order of the life cycle.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum HookPoint { $($(#[$doc])* $point,)* }

        /// The entries of each hook point, in order.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct PerPoint<T> { $($(#[$doc])* pub $field: Vec<T>,)* }

        impl HookPoint {
            /// In the order of the life cycle.
            pub const ALL: [HookPoint; 6] = [$(HookPoint::$point),*];

            /// The config's name of the point, e.g. `createRuntime`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(HookPoint::$point => $name,)* }
            }
        }

        impl<T> Default for PerPoint<T> {
            fn default() -> Self {
                Self { $($field: Vec::new(),)* }
            }
        }

        impl<T> PerPoint<T> {
            /// The entries of one point. Heap-free.
            #[must_use]
            pub fn at(&self, point: HookPoint) -> &[T] {
                match point { $(HookPoint::$point => &self.$field,)* }
            }

            /// Applies `make` to each entry.
            #[must_use]
            pub fn map<U>(&self, make: impl Fn(HookPoint, &T) -> U) -> PerPoint<U> {
                let all = |point| self.at(point).iter().map(|one| make(point, one)).collect();
                PerPoint { $($field: all(HookPoint::$point),)* }
            }
        }
    };
}

points! {
    /// Deprecated; runs right before `createRuntime`.
    Prestart prestart "prestart";
    /// In the runtime's namespaces, before pivot_root(2).
    CreateRuntime create_runtime "createRuntime";
    /// In the container's namespaces, before pivot_root(2).
    CreateContainer create_container "createContainer";
    /// In the container, before the process is executed.
    StartContainer start_container "startContainer";
    /// In the runtime's namespaces, after the process was executed.
    Poststart poststart "poststart";
    /// In the runtime's namespaces, after the container was deleted.
    Poststop poststop "poststop";
}

/// The hooks of a container, in listed order.
pub type Hooks = PerPoint<Hook>;

/// A command to run at a hook point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The absolute path of the program.
    pub path: CString,
    /// The arguments, including `argv[0]`; `[path]` if the config has none.
    pub args: Vec<CString>,
    /// The environment, `KEY=VALUE` each; `None` if the config has no `env`.
    pub env: Option<Vec<CString>>,
    /// The timeout in seconds, above zero.
    pub timeout_secs: Option<u32>,
}
