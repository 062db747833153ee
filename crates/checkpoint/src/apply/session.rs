//! One `criu swrk` and the conversation with it.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_program::{Program, clone_program};
use coracle_sys::{Call, Cause, CloseRange, ExitStatus, Fault, NamespaceFlags, StringArray};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};

use super::find::environment;
use super::images::Images;
use crate::error::Error;
use crate::plan::answer::{Answer, Features, Notification};
use crate::plan::log::quoted;
use crate::plan::options::{field, kind};
use crate::plan::request::Request;
use crate::plan::version::{MINIMUM, Version};
use crate::plan::wire::Writer;

/// criu's messages have some hundred bytes.
const MAX_ANSWER_BYTES: usize = 65536;
/// How long criu may be silent before progress is reported, in milliseconds.
const PATIENCE_MS: u32 = 1000;
/// How long a question that needs no work may take, in times of `PATIENCE_MS`.
const PATIENCE_ASKED: u32 = 60;
/// How long criu may take everything back once nobody listens to it, in milliseconds.
const PATIENCE_LEFT_MS: u32 = 10_000;

/// Where criu runs.
pub struct Entry<'a> {
    /// The v2 cgroup that it is cloned into.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// A detached tree, and the directory where criu finds it.
    pub root: Option<(BorrowedFd<'a>, &'a Path)>,
    /// Whose mounts it sees.
    pub mounts: Mounts,
    /// Joins other cgroups. Called in the child: it must not allocate.
    pub join: &'a dyn Fn() -> Result<(), Fault>,
    /// Whether it stays in our session and has our standard input, so that the restored processes
    /// may have our terminal.
    pub shares_terminal: bool,
}

/// Whose mounts criu sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounts {
    /// A copy of ours: what it mounts for a while nobody else sees, and it goes with criu.
    Copied,
    /// Ours, which are also the container's.
    Shared,
}

impl Entry<'_> {
    /// Beside us, with nothing of ours.
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

impl std::fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

/// A criu that waits for requests. Dropped, it ends.
#[derive(Debug)]
pub struct Session {
    path: PathBuf,
    program: Program,
    link: Option<OwnedFd>,
    /// What criu inherits: our standard streams, then the request's namespaces.
    passed: Vec<OwnedFd>,
    mounts: Mounts,
    is_over: bool,
}

fn system(attempted: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::System { attempted, errno }
}

impl Session {
    /// Starts `criu`, open for the descriptors that `request` hands on.
    ///
    /// # Errors
    /// [`Error::System`], [`Error::Path`] of a namespace; a failed exec of criu is reported by
    /// the first request.
    pub fn start(criu: &Path, entry: &Entry, request: Option<&Request>) -> Result<Self, Error> {
        let (link, theirs) = coracle_sys::socket_pair().map_err(system("make a socket pair"))?;
        let passed = request.map(opened).transpose()?.unwrap_or_default();
        let child = Child::prepare(criu, entry, (&theirs, &passed))?;
        coracle_sys::assert_single_threaded();
        let namespaces = match entry.mounts {
            Mounts::Copied => NamespaceFlags::MOUNT,
            Mounts::Shared => NamespaceFlags::empty(),
        };
        match clone_program(namespaces, entry.cgroup, || child.become_criu(entry)) {
            Err((Call::Clone, Errno::EPERM)) if entry.mounts == Mounts::Copied => {
                Err(Error::Unprivileged)
            }
            Err((_, errno)) => Err(system("clone a process for criu")(errno)),
            Ok(program) => Ok(Self {
                path: criu.to_owned(),
                program,
                link: Some(link),
                passed,
                mounts: entry.mounts,
                is_over: false,
            }),
        }
    }

    /// criu's pid.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.program.pid()
    }

    /// criu's version, which is not too old for anything. `is_ended` is asked each second whether
    /// the wait for it is over.
    ///
    /// # Errors
    /// [`Error::TooOld`]; [`Error::Silent`]; as any request.
    pub fn version(&mut self, is_ended: &dyn Fn() -> bool) -> Result<Version, Error> {
        let found = self.ask(kind::VERSION, is_ended)?.version;
        self.demand(found, MINIMUM, "this")
    }

    /// `found`, unless it is older than `needed`.
    ///
    /// # Errors
    /// [`Error::TooOld`].
    fn demand(
        &self,
        found: Version,
        needed: Version,
        purpose: &'static str,
    ) -> Result<Version, Error> {
        match found >= needed {
            true => Ok(found),
            false => Err(Error::TooOld {
                found,
                purpose,
                needed,
            }),
        }
    }

    /// What criu finds that this kernel can do.
    ///
    /// # Errors
    /// [`Error::Silent`]; as any request.
    pub fn features(&mut self) -> Result<Features, Error> {
        Ok(self.ask(kind::FEATURE_CHECK, &|| false)?.features)
    }

    /// A question after which criu waits for the next one.
    fn ask(&mut self, kind: u64, is_ended: &dyn Fn() -> bool) -> Result<Answer, Error> {
        let mut request = Writer::default();
        request.number(1, kind).number(4, 1);
        if kind == kind::FEATURE_CHECK {
            let mut features = Writer::default();
            features.number(1, 1).number(2, 1);
            request.message(5, &features);
        }
        self.send(&request.into_bytes());
        let mut silent = 0;
        while self.is_silent()? {
            silent += 1;
            if silent >= PATIENCE_ASKED || is_ended() {
                return Err(Error::Silent {
                    path: self.path.clone(),
                });
            }
        }
        let Some((answer, _)) = self.receive("check")? else {
            return Err(self.gone("check", None));
        };
        match answer.kind == kind && answer.success {
            true => Ok(answer),
            false => Err(Error::Protocol { verb: "check" }),
        }
    }

    /// Sends the request and answers notifications until criu is done; returns the pid of a
    /// restored init. With each of `cgroups`, controllers and path, what was dumped from the
    /// container's cgroup goes there.
    ///
    /// # Errors
    /// What `notified` says, after criu has taken everything back; [`Error::Failed`],
    /// [`Error::Gone`], [`Error::Protocol`].
    pub fn perform<E: From<Error>>(
        mut self,
        request: &Request,
        images: &Images,
        cgroups: &[(String, String)],
        notified: &mut dyn FnMut(Notification) -> Result<(), E>,
    ) -> Result<i32, E> {
        images.forget_log(request.log_name());
        let directories = (
            self.as_seen(&images.directory)?,
            images
                .work
                .as_ref()
                .map(|work| self.as_seen(work))
                .transpose()?,
        );
        self.send(&self.message(request, &directories, cgroups));
        let mut refused = None;
        let outcome = loop {
            if self.is_silent()? {
                notified(Notification::Waiting)?;
                continue;
            }
            let (answer, attached) = match self.receive(request.verb()) {
                Ok(Some(message)) => message,
                Ok(None) => break Err(self.gone(request.verb(), Some((request, images)))),
                Err(error) => break Err(error),
            };
            let Some(script) = &answer.script else {
                break self.finish(request, images, &answer);
            };
            let notification = notification(script, answer.pid, attached);
            let done = match refused {
                None => notified(notification)
                    .map_err(|error| refused = Some(error))
                    .is_ok(),
                // Whatever it says while it takes everything back.
                Some(_) => true,
            };
            let mut reply = Writer::default();
            reply.number(1, kind::NOTIFY).number(3, u64::from(done));
            self.send(&reply.into_bytes());
        };
        match refused {
            Some(error) => Err(error),
            None => Ok(outcome?),
        }
    }

    /// criu opens directories by our descriptors of them, and what it mounts there has to be in its
    /// own copy of the mounts: so has the descriptor.
    fn as_seen(&self, directory: &OwnedFd) -> Result<OwnedFd, Error> {
        let failed = system("open the directory of images as criu sees it");
        let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let path = nix::fcntl::readlink(link.as_str()).map_err(&failed)?;
        let path = Path::new(&path).strip_prefix("/").unwrap_or(Path::new(""));
        let path = match self.mounts {
            Mounts::Copied => Path::new(&format!("/proc/{}/root", self.pid())).join(path),
            Mounts::Shared => Path::new("/").join(path),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let seen = open(&path, flags, Mode::empty()).map_err(&failed)?;
        let inode = |fd: &OwnedFd| fstat(fd).map(|status| (status.st_dev, status.st_ino));
        match inode(&seen).map_err(&failed)? == inode(directory).map_err(&failed)? {
            true => Ok(seen),
            false => Err(failed(Errno::ESTALE)),
        }
    }

    fn message(
        &self,
        request: &Request,
        (images, work): &(OwnedFd, Option<OwnedFd>),
        cgroups: &[(String, String)],
    ) -> Vec<u8> {
        let number = |fd: RawFd| u64::try_from(fd).unwrap_or_default();
        let mut options = request.options.clone();
        options.number(field::IMAGES_DIR_FD, number(images.as_raw_fd()));
        if let Some(work) = work {
            options.number(field::WORK_DIR_FD, number(work.as_raw_fd()));
        }
        if !nix::unistd::geteuid().is_root() {
            options.number(field::UNPRIVILEGED, 1);
        }
        for (controllers, path) in cgroups {
            let mut root = Writer::default();
            root.text(1, controllers.as_bytes())
                .text(2, path.as_bytes());
            options.message(field::CG_ROOT, &root);
        }
        let streams = request.streams.iter().map(|(name, _)| name.as_str());
        let names = streams.chain(request.namespaces.iter().map(|(key, _)| *key));
        for (name, passed) in names.zip(&self.passed) {
            let mut inherited = Writer::default();
            inherited
                .text(1, name.as_bytes())
                .number(2, number(passed.as_raw_fd()));
            options.message(field::INHERIT_FD, &inherited);
        }
        let mut message = Writer::default();
        message.number(1, request.kind).message(2, &options);
        message.into_bytes()
    }

    /// A criu that is gone is noticed when its answer is awaited.
    fn send(&self, message: &[u8]) {
        if let Some(link) = &self.link {
            let _ = coracle_sys::send(link.as_fd(), message, None);
        }
    }

    fn is_silent(&self) -> Result<bool, Error> {
        let Some(link) = &self.link else {
            return Ok(false);
        };
        let ready = coracle_sys::poll_readable(&[link.as_fd()], Some(PATIENCE_MS));
        ready
            .map(|ready| ready == 0)
            .map_err(system("wait for criu"))
    }

    /// `None` when criu has ended.
    fn receive(&self, verb: &'static str) -> Result<Option<(Answer, Option<OwnedFd>)>, Error> {
        let Some(link) = &self.link else {
            return Ok(None);
        };
        let mut buffer = vec![0; MAX_ANSWER_BYTES];
        match coracle_sys::receive(link.as_fd(), &mut buffer) {
            Ok((0, _)) | Err(Errno::ECONNRESET) => Ok(None),
            Ok((length, attached)) => {
                let answer = buffer.get(..length).map(Answer::decode);
                match answer {
                    Some(Ok(answer)) => Ok(Some((answer, attached))),
                    _ => Err(Error::Protocol { verb }),
                }
            }
            Err(Errno::EMSGSIZE) => Err(Error::Protocol { verb }),
            Err(errno) => Err(system("hear of criu")(errno)),
        }
    }

    /// The last answer has come: criu ends by itself.
    fn finish(
        &mut self,
        request: &Request,
        images: &Images,
        answer: &Answer,
    ) -> Result<i32, Error> {
        if answer.kind != request.kind {
            return Err(Error::Protocol {
                verb: request.verb(),
            });
        }
        let log = request.log_name();
        let failed = |words: String| Error::Failed {
            verb: request.verb(),
            reason: images.reason(log).unwrap_or(words),
            log: images.log_path(log),
        };
        let status = self.wait();
        let quiet = answer.message.is_empty() && images.last_line(log).is_none();
        if !answer.success && quiet && answer.errno == Errno::EBADRQC as i32 {
            return Err(Error::BadRequest {
                verb: request.verb(),
                file: request.config_file.clone().filter(|file| file.exists()),
            });
        }
        if !answer.success {
            return Err(failed(match answer.message.as_str() {
                "" => {
                    let last = images.last_line(log);
                    last.unwrap_or_else(|| format!("errno {}", answer.errno))
                }
                message => quoted(message),
            }));
        }
        // After a pre-dump criu wants the dump itself, and calls our end a failure.
        match status {
            ExitStatus::Code(0) => Ok(answer.pid),
            _ if request.kind == kind::PRE_DUMP => Ok(0),
            _ => Err(failed("it failed after its answer".to_owned())),
        }
    }

    fn gone(&mut self, verb: &'static str, about: Option<(&Request, &Images)>) -> Error {
        let status = self.wait();
        if let (ExitStatus::Code(127), Some(cause)) = (status, self.program.start_error()) {
            return Error::Start {
                path: self.path.clone(),
                cause,
            };
        }
        let log = about.map(|(request, images)| (request.log_name(), images));
        let reason = log.and_then(|(name, images)| images.reason(name));
        Error::Gone {
            verb,
            status,
            reason: reason.map(|text| format!(": {text}")).unwrap_or_default(),
            log: log.map_or_else(PathBuf::new, |(name, images)| images.log_path(name)),
        }
    }

    fn wait(&mut self) -> ExitStatus {
        self.link = None;
        self.is_over = true;
        coracle_sys::wait_exit(self.program.as_fd()).unwrap_or(ExitStatus::Code(0))
    }
}

impl Drop for Session {
    /// criu notices that the link is closed, and takes back what it did. One that does not is ended
    /// with the other processes of its cgroup.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.link = None;
        let own = [self.program.as_fd()];
        let ended = coracle_sys::poll_readable(&own, Some(PATIENCE_LEFT_MS));
        if ended.is_ok_and(|ended| ended != 0) {
            self.wait();
        }
    }
}

fn notification(script: &str, pid: i32, attached: Option<OwnedFd>) -> Notification {
    match (script, attached) {
        ("setup-namespaces", _) => Notification::SetupNamespaces(pid),
        ("post-restore", _) => Notification::PostRestore(pid),
        ("status-ready", _) => Notification::StatusReady,
        ("orphan-pts-master", Some(master)) => Notification::Terminal(master),
        (other, _) => Notification::Other(other.to_owned()),
    }
}

/// Copies of the standard streams, which are criu's own otherwise, and the namespaces.
fn opened(request: &Request) -> Result<Vec<OwnedFd>, Error> {
    let streams = request.streams.iter().map(|(_, number)| {
        let stream = match number {
            0 => coracle_sys::STDIN,
            1 => coracle_sys::STDOUT,
            _ => coracle_sys::STDERR,
        };
        let copy = stream.try_clone_to_owned();
        copy.map_err(|error| Error::System {
            attempted: "duplicate a standard stream",
            errno: coracle_text::io_errno(&error),
        })
    });
    let namespaces = request.namespaces.iter().map(|(_, path)| {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        open(path, flags, Mode::empty()).map_err(|errno| Error::Path {
            flag: "config.json: linux.namespaces",
            path: path.clone(),
            call: "open",
            errno,
        })
    });
    streams.chain(namespaces).collect()
}

/// What the child needs, made before the clone.
struct Child<'a> {
    path: CString,
    arguments: StringArray,
    environment: StringArray,
    null: OwnedFd,
    target: CString,
    kept: Vec<BorrowedFd<'a>>,
}

impl<'a> Child<'a> {
    fn prepare(
        criu: &Path,
        entry: &Entry,
        (theirs, passed): (&'a OwnedFd, &'a [OwnedFd]),
    ) -> Result<Self, Error> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL);
        let failed = system("start criu");
        let path = text(criu.as_os_str()).map_err(&failed)?;
        let number = theirs.as_raw_fd().to_string();
        let arguments = [text(OsStr::new("swrk")), text(OsStr::new(&number))];
        let arguments: Result<Vec<_>, _> =
            [Ok(path.clone())].into_iter().chain(arguments).collect();
        let variables: Result<Vec<_>, _> = environment().iter().map(|one| text(one)).collect();
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
        let target = entry.root.map(|(_, target)| text(target.as_os_str()));
        let kept = [theirs].into_iter().chain(passed).map(AsFd::as_fd);
        Ok(Self {
            path,
            arguments: StringArray::new(arguments.map_err(&failed)?),
            environment: StringArray::new(variables.map_err(&failed)?),
            null: null.map_err(system("open /dev/null"))?,
            target: target.transpose().map_err(&failed)?.unwrap_or_default(),
            kept: kept.collect(),
        })
    }

    /// Returns only with the reason why not. Does not allocate.
    fn become_criu(&self, entry: &Entry) -> Cause {
        // What is blocked or ignored would stay so over the exec.
        coracle_sys::reset_signals();
        match self.get_ready(entry) {
            Ok(()) => {
                let errno = coracle_sys::execve(&self.path, &self.arguments, &self.environment);
                Cause::Call(Call::Exec, errno)
            }
            Err(cause) => cause,
        }
    }

    fn get_ready(&self, entry: &Entry) -> Result<(), Cause> {
        let failed = |call| move |errno| (call, errno);
        (entry.join)().map_err(|fault| fault.cause)?;
        if entry.mounts == Mounts::Copied {
            let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
            mount(None::<&str>, c"/", None::<&str>, slave, None::<&str>)
                .map_err(failed(Call::Mount))?;
        }
        if let Some((tree, _)) = entry.root {
            coracle_sys::move_mount(tree, coracle_sys::AT_FDCWD, &self.target)
                .map_err(failed(Call::MoveMount))?;
        }
        let null = self.null.as_fd();
        if !entry.shares_terminal {
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
