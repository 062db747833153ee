//! Why a plan was refused or could not be carried out.

use coracle_text::{Code, Detail, Report, errno_text};
use nix::errno::Errno;
use thiserror::Error;

/// What failed between planning a container and running its program.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The namespaces cannot be made or joined as configured.
    #[error(transparent)]
    Namespaces(#[from] coracle_namespaces::Error),
    /// The cgroup cannot be made or joined as configured.
    #[error(transparent)]
    Cgroups(#[from] coracle_cgroups::Error),
    /// The root filesystem cannot be made as configured.
    #[error(transparent)]
    Rootfs(#[from] coracle_rootfs::Error),
    /// The process cannot be set up as configured.
    #[error(transparent)]
    Process(#[from] coracle_process::Error),
    /// The seccomp filter cannot be made, or its listener cannot be passed to the agent.
    #[error(transparent)]
    Seccomp(#[from] coracle_seccomp::Error),
    /// The filter could make a call that gives up privileges appear to succeed without doing
    /// anything.
    #[error(
        "linux.seccomp: {answer} for {call}, which gives up privileges after the filter is loaded, \
         could keep them; set process.noNewPrivileges, or answer it otherwise"
    )]
    FakedCall {
        /// The profile's action for the call.
        answer: &'static str,
        /// The name of the system call.
        call: &'static str,
    },
    /// A seccomp program that an annotation gives whole can do the same.
    #[error(
        "annotations[{annotation:?}]: it can answer calls without doing them, and so keep \
         privileges that are given up after it is loaded; set process.noNewPrivileges"
    )]
    FakingProgram {
        /// The annotation.
        annotation: &'static str,
    },
    /// The standard input or output of hooks could not be set up.
    #[error(transparent)]
    Hooks(#[from] coracle_hooks::Error),
    /// A network cannot be attached as requested.
    #[error(transparent)]
    Network(#[from] coracle_cni::Error),
    /// The runtime's own file could not be protected.
    #[error("protect the runtime's own file: {call}: {}", errno_text(*errno))]
    Seal {
        /// The call that failed.
        call: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A call on the runtime's side failed.
    #[error("{attempted}: {}", errno_text(*errno))]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A signal to the runtime ended its wait for init.
    #[error("container init was killed before it executed the program")]
    Interrupted,
    /// Init reported a failure.
    #[error("{0}")]
    Init(Box<Report>),
    /// Init ended without a message.
    #[error("init was ended by {cause} before it was ready")]
    InitGone {
        /// The signal or exit code of init.
        cause: String,
        /// A possible cause; empty if there is none.
        hint: String,
    },
    /// Init was cloned into a cgroup and killed before its first message, so it has done nothing.
    /// [`crate::launch`] never returns this: it clones init once more, outside the cgroup.
    #[error("init was killed when it was cloned into the container's cgroup")]
    KilledAtClone,
    /// The container was killed while `exec` started a process in it.
    #[error("the container has ended")]
    ContainerEnded,
    /// Init did not answer in time.
    #[error("init did not answer within {seconds} s")]
    InitSilent {
        /// The limit.
        seconds: u64,
    },
}

impl Error {
    /// What programs read of it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        let of = Detail::new;
        match self {
            Error::Namespaces(error) => error.detail().stage("namespaces"),
            Error::Cgroups(error) => error.detail().stage("cgroup"),
            Error::Rootfs(error) => error.detail().stage("rootfs"),
            Error::Process(error) => error.detail().stage("process"),
            Error::Seccomp(error) => error.detail().stage("seccomp"),
            Error::FakedCall { .. } => of(Code::ConfigInvalid).path("linux.seccomp"),
            Error::FakingProgram { annotation } => {
                of(Code::ConfigInvalid).path(format_args!("annotations[{annotation:?}]"))
            }
            Error::Hooks(error) => error.detail(),
            Error::Network(error) => error.detail().stage("network"),
            Error::Seal { errno, .. } | Error::System { errno, .. } => {
                of(Code::RuntimeFailed).errno(*errno)
            }
            Error::Interrupted => of(Code::RuntimeInterrupted),
            Error::Init(report) => report.detail.clone(),
            Error::InitGone { hint, .. } if !hint.is_empty() => of(Code::SeccompBarsRuntime)
                .path("linux.seccomp")
                .hint(hint),
            Error::InitGone { .. } => of(Code::InitEnded),
            Error::KilledAtClone => of(Code::InitEnded),
            Error::ContainerEnded => of(Code::ContainerWrongStatus),
            Error::InitSilent { .. } => of(Code::InitSilent),
        }
    }
}

/// Makes [`Error::System`] of an errno.
pub(crate) fn system(attempted: &'static str) -> impl Fn(Errno) -> Error + Copy {
    move |errno| Error::System { attempted, errno }
}
