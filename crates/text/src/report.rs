//! What programs read of a failure beside its message: a stable code, and where it happened.

use nix::errno::Errno;
use std::fmt::{self, Display};

macro_rules! codes {
    ($($name:ident = $text:literal,)*) => {
        /// The kind of a failure. Programs rely on the texts, so none changes its meaning:
        /// docs/errors.md lists them with cause and remedy.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $(#[doc = concat!("`", $text, "`")] $name,)* }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The code as a program reads it: `mount.failed`.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }
        }
    };
}

codes! {
    CallerUnprivileged = "caller.unprivileged",
    CgroupBusy = "cgroup.busy",
    CgroupFailed = "cgroup.failed",
    CgroupLimitRefused = "cgroup.limit-refused",
    CgroupNoController = "cgroup.no-controller",
    CgroupNoDelegation = "cgroup.no-delegation",
    CheckpointFailed = "checkpoint.failed",
    CheckpointNoCriu = "checkpoint.no-criu",
    ConfigInvalid = "config.invalid",
    ConfigNotFound = "config.not-found",
    ConfigSyntax = "config.syntax",
    ConfigUnreadable = "config.unreadable",
    ContainerExists = "container.exists",
    ContainerForeign = "container.foreign",
    ContainerLocked = "container.locked",
    ContainerNoCgroup = "container.no-cgroup",
    ContainerNotFound = "container.not-found",
    ContainerOutOfMemory = "container.out-of-memory",
    ContainerStillRunning = "container.still-running",
    ContainerWrongStatus = "container.wrong-status",
    DeviceFailed = "device.failed",
    ExecFailed = "exec.failed",
    ExecNoInterpreter = "exec.no-interpreter",
    ExecNotFound = "exec.not-found",
    ExecNotPermitted = "exec.not-permitted",
    ExecWrongFormat = "exec.wrong-format",
    HookFailed = "hook.failed",
    HookTimeOut = "hook.time-out",
    HostUnreadable = "host.unreadable",
    HostUnsupported = "host.unsupported",
    IdMapFailed = "id-map.failed",
    InitEnded = "init.ended",
    InitSilent = "init.silent",
    MountFailed = "mount.failed",
    MountSourceNotFound = "mount.source-not-found",
    NamespaceFailed = "namespace.failed",
    NamespaceInvalid = "namespace.invalid",
    NetDeviceFailed = "net-device.failed",
    NetworkInvalid = "network.invalid",
    NetworkNotFound = "network.not-found",
    NetworkPluginFailed = "network.plugin-failed",
    NetworkPluginNotFound = "network.plugin-not-found",
    NetworkPortTaken = "network.port-taken",
    OutputFailed = "output.failed",
    ProcessFailed = "process.failed",
    RootFailed = "root.failed",
    RuntimeFailed = "runtime.failed",
    RuntimeInterrupted = "runtime.interrupted",
    SeccompAgentFailed = "seccomp.agent-failed",
    SeccompBarsRuntime = "seccomp.bars-runtime",
    SeccompFailed = "seccomp.failed",
    StateCorrupt = "state.corrupt",
    StateFailed = "state.failed",
    SystemdFailed = "systemd.failed",
    TerminalFailed = "terminal.failed",
    UsageInvalid = "usage.invalid",
    UsageUnknownVerb = "usage.unknown-verb",
}

/// What programs read of a failure beside its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Its kind.
    pub code: Code,
    /// The property of the config without the file's name (`mounts[2].source`), or else the file or
    /// flag that it is about.
    pub path: Option<String>,
    /// The kernel's answer.
    pub errno: Option<Errno>,
    /// The part of the container's plan that it belongs to: `namespaces`.
    pub stage: Option<&'static str>,
    /// What may help, without an end mark.
    pub hint: Option<String>,
}

impl Detail {
    /// A failure of this kind and nothing else.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self {
            code,
            path: None,
            errno: None,
            stage: None,
            hint: None,
        }
    }

    /// With this path, as a message names it.
    #[must_use]
    pub fn path(mut self, path: impl Display) -> Self {
        let path = path.to_string();
        let property = path.strip_prefix("config.json: ").unwrap_or(&path);
        self.path = Some(property.to_owned()).filter(|path| !path.is_empty());
        self
    }

    /// With this answer of the kernel.
    #[must_use]
    pub fn errno(mut self, errno: impl Into<Option<Errno>>) -> Self {
        self.errno = errno.into();
        self
    }

    /// With this hint, if it has text.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        self.hint = Some(hint).filter(|hint| !hint.is_empty());
        self
    }

    /// In this part of the plan, unless it is in one already.
    #[must_use]
    pub fn stage(mut self, stage: &'static str) -> Self {
        self.stage = self.stage.or(Some(stage));
        self
    }
}

/// A failure that another process has reported as numbers, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was attempted, on what and why it failed, in one line.
    pub text: String,
    /// What programs read of it.
    pub detail: Detail,
}

impl Report {
    /// The text with its details.
    pub fn new(text: impl Into<String>, detail: Detail) -> Self {
        let text = text.into();
        Self { text, detail }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_words_with_a_dot() {
        let texts: Vec<_> = Code::ALL.iter().map(|code| code.text()).collect();
        assert!(texts.is_sorted_by(|one, next| one < next), "{texts:?}");
        for text in texts {
            let (part, kind) = text.split_once('.').expect("a dot");
            let is_word = |word: &str| {
                word.split('-').all(|part| {
                    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase())
                })
            };
            assert!(is_word(part) && is_word(kind), "{text}");
        }
    }

    #[test]
    fn the_page_of_errors_has_each_code_with_a_remedy() {
        let page = include_str!("../../../docs/errors.md");
        let rows = page.lines().filter_map(|line| {
            let [code, cause, remedy] =
                line.strip_prefix("| `")?.split(" | ").collect::<Vec<_>>()[..]
            else {
                return None;
            };
            assert!(!cause.is_empty() && remedy.len() > 2, "{line}");
            code.strip_suffix('`')
        });
        let codes: Vec<_> = Code::ALL.iter().map(|code| code.text()).collect();
        assert_eq!(rows.collect::<Vec<_>>(), codes);
    }

    #[test]
    fn a_property_is_named_without_its_file() {
        let detail = Detail::new(Code::ConfigInvalid).path("config.json: mounts[2].source");
        assert_eq!(detail.path.as_deref(), Some("mounts[2].source"));
        let detail = Detail::new(Code::StateFailed).path("/run/x").hint("");
        assert_eq!(detail.path.as_deref(), Some("/run/x"));
        assert_eq!(detail.hint, None);
        assert_eq!(detail.stage("a").stage("b").stage, Some("a"));
    }
}
