//! Starts criu: its environment, mounts and descriptors.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use coracle_sys::{Call, Cause, CloseRange, Fault, StringArray};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::find::environment;
use super::mountpoints::c_string;
use crate::error::{Error, system};

/// How criu is started.
pub struct StartOptions<'a> {
    /// The v2 cgroup that it is cloned into.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// A detached mount tree, and the directory where criu mounts it.
    pub root: Option<(BorrowedFd<'a>, &'a Path)>,
    /// The mounts that it sees.
    pub mounts: Mounts,
    /// Joins other cgroups. Called in the child, so it must not allocate.
    pub join: &'a dyn Fn() -> Result<(), Fault>,
    /// Whether criu keeps the runtime's session and standard input, so that restored processes can
    /// use the runtime's terminal.
    pub shares_terminal: bool,
}

/// The mounts that criu sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounts {
    /// A copy of the runtime's: mounts that criu makes for its work are private, and end with it.
    Copied,
    /// The runtime's own, which the container shares.
    Shared,
}

impl StartOptions<'_> {
    /// Without a cgroup, a root or the terminal.
    #[must_use]
    pub fn plain(mounts: Mounts) -> Self {
        Self {
            cgroup: None,
            root: None,
            mounts,
            join: &|| Ok(()),
            shares_terminal: false,
        }
    }
}

impl std::fmt::Debug for StartOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StartOptions").finish_non_exhaustive()
    }
}

/// The input of the child, made before the clone.
pub(super) struct Child<'a> {
    path: CString,
    arguments: StringArray,
    environment: StringArray,
    null: OwnedFd,
    target: CString,
    kept: Vec<BorrowedFd<'a>>,
}

impl<'a> Child<'a> {
    pub(super) fn prepare(
        criu: &Path,
        options: &StartOptions,
        (criu_socket, passed): (&'a OwnedFd, &'a [OwnedFd]),
    ) -> Result<Self, Error> {
        let path = c_string(criu.as_os_str());
        let number = criu_socket.as_raw_fd().to_string();
        let arguments = [
            path.clone(),
            c"swrk".to_owned(),
            c_string(OsStr::new(&number)),
        ];
        let environment = environment();
        let environment = environment.iter().map(|variable| c_string(variable));
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
        let target = options.root.map(|(_, target)| c_string(target.as_os_str()));
        let kept = [criu_socket].into_iter().chain(passed).map(AsFd::as_fd);
        Ok(Self {
            path,
            arguments: StringArray::new(arguments.to_vec()),
            environment: environment.collect(),
            null: null.map_err(system("open /dev/null"))?,
            target: target.unwrap_or_default(),
            kept: kept.collect(),
        })
    }

    /// Executes criu. Returns only if that fails. Does not allocate.
    pub(super) fn execute(&self, options: &StartOptions) -> Cause {
        // Signals that are blocked or ignored would stay so after execve(2).
        coracle_sys::reset_signals();
        match self.enter(options) {
            Ok(()) => {
                let errno = coracle_sys::execve(&self.path, &self.arguments, &self.environment);
                Cause::Call(Call::Exec, errno)
            }
            Err(cause) => cause,
        }
    }

    fn enter(&self, options: &StartOptions) -> Result<(), Cause> {
        let failed = |call| move |errno| (call, errno);
        (options.join)().map_err(|fault| fault.cause)?;
        if options.mounts == Mounts::Copied {
            let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
            mount(None::<&str>, c"/", None::<&str>, slave, None::<&str>)
                .map_err(failed(Call::Mount))?;
        }
        if let Some((tree, _)) = options.root {
            coracle_sys::move_mount(tree, coracle_sys::AT_FDCWD, &self.target)
                .map_err(failed(Call::MoveMount))?;
        }
        let null = self.null.as_fd();
        if !options.shares_terminal {
            nix::unistd::setsid().map_err(failed(Call::Setsid))?;
            dup2_stdin(null).map_err(failed(Call::Dup))?;
        }
        dup2_stdout(null).map_err(failed(Call::Dup))?;
        dup2_stderr(null).map_err(failed(Call::Dup))?;
        coracle_sys::close_range(3..=u32::MAX, CloseRange::CloseOnExec)
            .map_err(failed(Call::CloseRange))?;
        for descriptor in &self.kept {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).map_err(failed(Call::Dup))?;
        }
        Ok(())
    }
}
