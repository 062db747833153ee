//! Exchanges messages with one `criu swrk`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use coracle_program::{Program, clone_program};
use coracle_sys::{Call, ExitStatus, NamespaceFlags};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::Pid;

use super::images::Images;
use super::start::{Child, Mounts, StartOptions};
use crate::error::{Error, system};
use crate::plan::answer::{Answer, Features, Notification};
use crate::plan::log::quoted;
use crate::plan::options::{field, kind};
use crate::plan::request::Request;
use crate::plan::version::{MINIMUM, Version};
use crate::plan::wire::Writer;

/// Far above the few hundred bytes of criu's messages.
const MAX_ANSWER_BYTES: usize = 65536;
/// After how long without a message progress is reported, in milliseconds.
const PATIENCE_MS: u32 = 1000;
/// How long a query may take, as a multiple of `PATIENCE_MS`.
const QUERY_PATIENCE: u32 = 60;
/// How long criu may take to undo everything after its socket is closed, in milliseconds.
const UNDO_MS: u32 = 10_000;

/// A criu that waits for requests, until it is dropped.
#[derive(Debug)]
pub struct Session {
    path: PathBuf,
    program: Program,
    socket: Option<OwnedFd>,
    /// The descriptors that criu inherits: standard streams, then the request's namespaces.
    passed: Vec<OwnedFd>,
    mounts: Mounts,
    is_over: bool,
}

impl Session {
    /// Starts `criu`, with the descriptors that `request` passes on.
    ///
    /// # Errors
    /// [`Error::System`]; [`Error::Path`] of a namespace. A failed execve(2) is reported by the
    /// first request.
    pub fn start(
        criu: &Path,
        options: &StartOptions,
        request: Option<&Request>,
    ) -> Result<Self, Error> {
        let (socket, criu_socket) =
            coracle_sys::socket_pair().map_err(system("make a socket pair"))?;
        let passed = request.map(open_passed).transpose()?.unwrap_or_default();
        let child = Child::prepare(criu, options, (&criu_socket, &passed))?;
        coracle_sys::assert_single_threaded();
        let namespaces = match options.mounts {
            Mounts::Copied => NamespaceFlags::MOUNT,
            Mounts::Shared => NamespaceFlags::empty(),
        };
        match clone_program(namespaces, options.cgroup, || child.execute(options)) {
            Err((Call::Clone, Errno::EPERM)) if options.mounts == Mounts::Copied => {
                Err(Error::Unprivileged)
            }
            Err((_, errno)) => Err(system("clone a process for criu")(errno)),
            Ok(program) => Ok(Self {
                path: criu.to_owned(),
                program,
                socket: Some(socket),
                passed,
                mounts: options.mounts,
                is_over: false,
            }),
        }
    }

    /// criu's pid.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.program.pid()
    }

    /// criu's version, which must be supported. `is_ended` is called once a second, and ends the
    /// wait.
    ///
    /// # Errors
    /// [`Error::TooOld`], [`Error::Silent`], and those of [`Session::perform`].
    pub fn version(&mut self, is_ended: &dyn Fn() -> bool) -> Result<Version, Error> {
        let found = self.query(kind::VERSION, is_ended)?.version;
        match found >= MINIMUM {
            true => Ok(found),
            false => Err(Error::TooOld { found }),
        }
    }

    /// The features that criu and this kernel support.
    ///
    /// # Errors
    /// [`Error::Silent`], and those of [`Session::perform`].
    pub fn features(&mut self) -> Result<Features, Error> {
        Ok(self.query(kind::FEATURE_CHECK, &|| false)?.features)
    }

    /// Sends a query. criu waits for the next request after it.
    fn query(&mut self, kind: u64, is_ended: &dyn Fn() -> bool) -> Result<Answer, Error> {
        let mut request = Writer::default();
        request.number(1, kind).number(4, 1);
        if kind == kind::FEATURE_CHECK {
            let mut features = Writer::default();
            features.number(1, 1).number(2, 1);
            request.message(5, &features);
        }
        self.send(&request.into_bytes());
        let _wait = coracle_sys::wait_for("criu");
        let mut silent = 0;
        while self.is_silent()? {
            silent += 1;
            if silent >= QUERY_PATIENCE || is_ended() {
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

    /// Sends the request and answers notifications until criu is done. Returns the pid of a
    /// restored init. `cgroups` has controllers and path of each cgroup that restored processes are
    /// put into.
    ///
    /// # Errors
    /// The error of `notified`, after criu has undone everything; [`Error::Failed`],
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
            self.reopen("--image-path", &images.directory)?,
            images
                .work
                .as_ref()
                .map(|work| self.reopen("--work-path", work))
                .transpose()?,
        );
        self.send(&self.message(request, &directories, cgroups));
        let mut refused = None;
        let mut wait = None;
        let outcome = loop {
            // Of a dump the caller tells how far it is.
            if request.kind == kind::RESTORE {
                wait.get_or_insert_with(|| coracle_sys::wait_for("criu"));
            }
            if self.is_silent()? {
                notified(Notification::Waiting)?;
                continue;
            }
            // Hooks that run for a notification are waited for in their own words.
            wait = None;
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
                // Notifications while criu undoes everything.
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

    /// Opens a directory in criu's mount namespace. criu opens it by the runtime's descriptor, and
    /// can mount there only if it is in criu's own copy of the mounts.
    fn reopen(&self, flag: &'static str, directory: &OwnedFd) -> Result<OwnedFd, Error> {
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
            false => Err(Error::Images {
                flag,
                path,
                problem: "another directory is in its place in criu's mount namespace",
            }),
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

    /// Sends a message. If criu has ended, the next receive fails.
    fn send(&self, message: &[u8]) {
        if let Some(socket) = &self.socket {
            let _ = coracle_sys::send(socket.as_fd(), message, None);
        }
    }

    fn is_silent(&self) -> Result<bool, Error> {
        let Some(socket) = &self.socket else {
            return Ok(false);
        };
        let ready = coracle_sys::poll_readable(&[socket.as_fd()], Some(PATIENCE_MS));
        ready
            .map(|ready| ready == 0)
            .map_err(system("wait for criu"))
    }

    /// Receives a message; `None` if criu has ended.
    fn receive(&self, verb: &'static str) -> Result<Option<(Answer, Option<OwnedFd>)>, Error> {
        let Some(socket) = &self.socket else {
            return Ok(None);
        };
        let mut buffer = vec![0; MAX_ANSWER_BYTES];
        match coracle_sys::receive(socket.as_fd(), &mut buffer) {
            Ok((0, _)) | Err(Errno::ECONNRESET) => Ok(None),
            Ok((length, attached)) => {
                let answer = buffer.get(..length).map(Answer::decode);
                match answer {
                    Some(Ok(answer)) => Ok(Some((answer, attached))),
                    _ => Err(Error::Protocol { verb }),
                }
            }
            Err(Errno::EMSGSIZE) => Err(Error::Protocol { verb }),
            Err(errno) => Err(system("receive from criu")(errno)),
        }
    }

    /// Handles the last answer, after which criu ends.
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
        // After a pre-dump criu waits for the dump, and exits with a failure at the end of file.
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
        self.socket = None;
        self.is_over = true;
        coracle_sys::wait_exit(self.program.as_fd()).unwrap_or(ExitStatus::Code(0))
    }
}

impl Drop for Session {
    /// Closes the socket, at which criu undoes everything and ends. One that does not end is killed
    /// later, with the other processes of its cgroup.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.socket = None;
        let own = [self.program.as_fd()];
        let ended = coracle_sys::poll_readable(&own, Some(UNDO_MS));
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

/// Duplicates the standard streams, which criu replaces by its own, and opens the namespaces.
fn open_passed(request: &Request) -> Result<Vec<OwnedFd>, Error> {
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
