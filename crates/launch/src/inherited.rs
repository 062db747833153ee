//! Descriptors that the runtime opens before the clone and init inherits.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use coracle_bundle::HookPoint;
use coracle_cgroups::Joining;
use coracle_program::Interrupts;

use crate::error::Error;
use crate::plan::Plan;

/// The input of one launch besides its plan.
#[derive(Debug)]
pub struct Request<'a> {
    /// The cgroup that init joins.
    pub cgroup: Joining,
    /// Only for `exec`: the container that the process enters.
    pub target: Option<Target>,
    /// How init receives the permission to execute the program.
    pub release: Release,
    /// Descriptors of the caller that init closes before anything else.
    pub private: Vec<RawFd>,
    /// The lock by which the caller finds what is left of the launch if it is killed before it has
    /// recorded init. Init closes it when it may proceed, or at first if it sets up no root.
    pub lock: Option<RawFd>,
    /// Signals to the runtime that end its waits for init.
    pub interrupts: Option<&'a Interrupts>,
}

/// The running container that `exec` enters.
#[derive(Debug)]
pub struct Target {
    /// A pidfd of its init, by which its namespaces are joined.
    pub init: Rc<OwnedFd>,
    /// Its root directory, if it has no mount namespace and chroot(2) alone confines it.
    pub root: Option<OwnedFd>,
}

/// How init receives the permission to execute the program, and where it reports a failure after
/// that.
#[derive(Debug)]
pub enum Release {
    /// Through the socket of the runtime that launched it: `run` and `exec`.
    Socket,
    /// From `start`, which writes a byte into one FIFO and reads the others: `create`.
    Fifo(Fifos),
}

/// The FIFOs between init and `start`.
#[derive(Debug)]
pub struct Fifos {
    /// `start` writes one byte, init reads it.
    pub start: OwnedFd,
    /// Init writes its last message here. Only init has it open for writing, so end of file means
    /// that init executed the program, which closes it, or ended.
    pub started: OwnedFd,
    /// The output of `startContainer` hooks, if there are any. It is separate from `started`
    /// because a hook may leave a process behind that keeps it open.
    pub output: Option<OwnedFd>,
}

/// All descriptors of one launch.
#[derive(Debug)]
pub(crate) struct Inherited<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) namespaces: coracle_namespaces::Inherited,
    pub(crate) rootfs: Option<coracle_rootfs::Inherited>,
    /// For an `exec` with an intermediate: the v2 cgroup directory that init is cloned into, and
    /// the fallback. The container's processes may open these descriptors through /proc at the
    /// moment of the clone, so they are detached mounts from which no other directory can be
    /// reached.
    enclosed: [Option<OwnedFd>; 2],
    /// The standard input of each `createContainer` hook.
    pub(crate) create_container: Vec<OwnedFd>,
    /// The standard input of each `startContainer` hook.
    pub(crate) start_container: Vec<OwnedFd>,
    /// The output of the hooks that init runs; the runtime reads the other end.
    pub(crate) hook_output: Option<OwnedFd>,
    /// The files that take the place of this output. They are opened for hooks of the runtime as
    /// well, so that one that cannot be opened fails before the clone.
    pub(crate) hook_files: coracle_hooks::Files,
}

/// Up to which point a process needs the descriptors that it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Until init's root is changed. The intermediate keeps these, since init inherits them.
    RootChange,
    /// Until init executes the program.
    Program,
}

impl<'a> Inherited<'a> {
    /// Opens everything that the plan names. Also returns the runtime's end of the pipe that hooks
    /// in init write to. Nothing outside this process changes.
    ///
    /// # Errors
    /// [`Error`] naming the property whose file, namespace or mount source cannot be opened.
    pub(crate) fn open(
        plan: &Plan,
        request: Request<'a>,
    ) -> Result<(Self, Option<coracle_program::Output>), Error> {
        // This order matters: an id mapped mount takes its id map from a namespace, which must have
        // been checked by then.
        let namespaces = match &request.target {
            Some(target) => coracle_namespaces::open_exec(&plan.namespaces, &target.init),
            None => coracle_namespaces::open(&plan.namespaces, request.interrupts)?,
        };
        let rootfs = plan.rootfs.as_ref().map(coracle_rootfs::open).transpose()?;
        let (output, hook_output) = match plan.hooks_in_init() {
            true => {
                let pipe = coracle_program::Output::pipe();
                let pipe = pipe.map_err(|errno| coracle_hooks::Error::Pipe { errno });
                pipe.map(|(read, write)| (Some(read), Some(write)))?
            }
            false => (None, None),
        };
        let stdin = |point| coracle_hooks::stdin_files(plan.hooks.at(point));
        let enclose = |directory: &Option<OwnedFd>| match directory {
            Some(directory) if plan.namespaces.intermediate && plan.rootfs.is_none() => {
                coracle_cgroups::enclose(directory.as_fd())
            }
            _ => None,
        };
        let cgroup = &request.cgroup;
        let inherited = Self {
            enclosed: [enclose(&cgroup.into), enclose(&cgroup.fallback)],
            namespaces,
            rootfs,
            create_container: stdin(HookPoint::CreateContainer)?,
            start_container: stdin(HookPoint::StartContainer)?,
            hook_output,
            hook_files: coracle_hooks::open_files(&plan.hooks)?,
            request,
        };
        Ok((inherited, output))
    }

    /// Closes the runtime's copies of descriptors whose end of file it waits for, and those it
    /// needs no more. The enclosed directories stay open until the program runs, since closing the
    /// last copy of such a mount takes some milliseconds.
    pub(crate) fn close_after_clone(&mut self) {
        self.request.cgroup.close();
        self.request.target = None;
        self.request.release = Release::Socket;
        self.hook_output = None;
        self.hook_files = coracle_hooks::Files::default();
    }

    /// Prepares a second clone, which joins the cgroup by writing its pid.
    pub(crate) fn join_alone(&mut self) -> Result<(), Error> {
        self.close_enclosed();
        Ok(self.request.cgroup.join_alone()?)
    }

    /// Closes the cgroup directories for an intermediate's clone.
    pub(crate) fn close_enclosed(&mut self) {
        self.enclosed = [None, None];
    }

    /// The v2 directories that the intermediate clones init into. The second is for EBUSY: a cgroup
    /// that enables controllers for its children cannot hold processes itself.
    pub(crate) fn clone_into(&self, plan: &Plan) -> [Option<BorrowedFd<'_>>; 2] {
        let [into, fallback] = match plan.rootfs {
            Some(_) => [&self.request.cgroup.into, &self.request.cgroup.fallback],
            None => self.enclosed.each_ref(),
        };
        [into, fallback].map(|directory| directory.as_ref().map(AsFd::as_fd))
    }

    /// For `exec`: the root directory of a container that chroot(2) alone confines.
    pub(crate) fn target_root(&self) -> Option<&OwnedFd> {
        self.request.target.as_ref()?.root.as_ref()
    }

    /// The lowest descriptor from `first` on that is needed up to that point. Heap-free.
    pub(crate) fn least_needed(&self, socket: BorrowedFd, first: u32, until: Until) -> Option<u32> {
        let fifos = match &self.request.release {
            Release::Socket => [None, None, None],
            Release::Fifo(fifos) => [
                Some(&fifos.start),
                Some(&fifos.started),
                fifos.output.as_ref(),
            ],
        };
        let kept = fifos
            .into_iter()
            .chain([self.hook_output.as_ref(), self.target_root()]);
        let joined = self
            .enclosed
            .iter()
            .flatten()
            .chain(&self.request.cgroup.tasks);
        let joined = joined.chain(self.namespaces.needed_by_init());
        kept.flatten()
            .chain(joined.filter(|_| until == Until::RootChange))
            .chain(&self.start_container)
            .chain(self.hook_files.iter())
            .map(AsRawFd::as_raw_fd)
            .chain([socket.as_raw_fd()])
            .filter_map(|number| u32::try_from(number).ok())
            .filter(|number| *number >= first)
            .min()
    }
}
