//! Descriptors that the runtime opens before the clone and init inherits.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use coracle_bundle::HookPoint;
use coracle_cgroups::Joining;
use coracle_program::Interrupts;

use crate::error::Error;
use crate::plan::Plan;

/// What one launch needs beside its plan.
#[derive(Debug)]
pub struct Request<'a> {
    /// The cgroup that the process joins.
    pub cgroup: Joining,
    /// exec: the container that it enters.
    pub target: Option<Target>,
    /// How it learns of its start.
    pub release: Release,
    /// Descriptors of the caller's own, which init closes before anything else.
    pub private: Vec<RawFd>,
    /// Signals to the caller that end the waits for init.
    pub interrupts: Option<&'a Interrupts>,
}

/// A container that runs already.
#[derive(Debug)]
pub struct Target {
    /// A pidfd of its init, to join its namespaces.
    pub init: OwnedFd,
    /// Its root, where it is confined by chroot(2) alone.
    pub root: Option<OwnedFd>,
}

/// How init learns of its start, and where it reports a failure after that.
#[derive(Debug)]
pub enum Release {
    /// By the socket of the runtime that launched it: `run` and `exec`.
    Socket,
    /// By `start`, which writes a byte into one FIFO and reads the others: `create`.
    Fifo(Fifos),
}

/// The FIFOs between init and `start`.
#[derive(Debug)]
pub struct Fifos {
    /// `start` writes one byte, init reads it.
    pub start: OwnedFd,
    /// Init writes its last message. The end of file that follows says that it executed the program
    /// or ended: nobody else has it open, and its exec closes it.
    pub started: OwnedFd,
    /// Where hooks of the container print, if there are any: they may keep it open.
    pub output: Option<OwnedFd>,
}

/// All descriptors of one launch.
#[derive(Debug)]
pub(crate) struct Inherited<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) namespaces: coracle_namespaces::Inherited,
    pub(crate) rootfs: Option<coracle_rootfs::Inherited>,
    /// The v2 directory that the intermediate of an exec clones init into, and the second choice.
    /// They lead nowhere else: the container's processes may see them in the moment of the clone.
    enclosed: [Option<OwnedFd>; 2],
    /// Standard input of each hook that init runs.
    pub(crate) create_container: Vec<OwnedFd>,
    pub(crate) start_container: Vec<OwnedFd>,
    /// Where these hooks print, for the runtime to read.
    pub(crate) print: Option<OwnedFd>,
}

/// How far a process still has to go with the descriptors that it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The intermediate, which clones init, and init until its root is changed.
    RootChange,
    /// Init from there on.
    Program,
}

impl<'a> Inherited<'a> {
    /// Opens everything that the plan names; beside it stands what the runtime reads of hooks in
    /// init. Nothing outside this process changes.
    ///
    /// # Errors
    /// [`Error`] naming the property whose file, namespace or mount source cannot be opened.
    pub(crate) fn open(
        plan: &Plan,
        request: Request<'a>,
    ) -> Result<(Self, Option<coracle_program::Output>), Error> {
        // Namespaces are checked first: only a checked one may serve as an id map.
        let namespaces = match &request.target {
            Some(target) => coracle_namespaces::open_exec(&plan.namespaces, target.init.as_fd())?,
            None => coracle_namespaces::open(&plan.namespaces)?,
        };
        let rootfs = plan.rootfs.as_ref().map(coracle_rootfs::open).transpose()?;
        let (output, print) = match plan.hooks_in_init() {
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
            print,
            request,
        };
        Ok((inherited, output))
    }

    /// The runtime's copies that would keep a pipe alive behind init's back. Those of mounts are
    /// closed once it has proceeded, and the last copy of an enclosed directory when the program
    /// runs: the kernel waits some milliseconds for it.
    pub(crate) fn close_after_clone(&mut self) {
        self.request.cgroup.close();
        self.request.target = None;
        self.request.release = Release::Socket;
        self.print = None;
    }

    /// For one more clone, which joins the cgroup by itself.
    pub(crate) fn join_alone(&mut self) -> Result<(), Error> {
        self.close_enclosed();
        Ok(self.request.cgroup.join_alone()?)
    }

    /// Closes the directories of the cgroup that init was cloned into.
    pub(crate) fn close_enclosed(&mut self) {
        self.enclosed = [None, None];
    }

    /// The v2 directories that the intermediate clones init into: the first choice, and the one
    /// where the kernel says that controllers were handed down from there.
    pub(crate) fn clone_into(&self, plan: &Plan) -> [Option<BorrowedFd<'_>>; 2] {
        let [into, fallback] = match plan.rootfs {
            Some(_) => [&self.request.cgroup.into, &self.request.cgroup.fallback],
            None => self.enclosed.each_ref(),
        };
        [into, fallback].map(|directory| directory.as_ref().map(AsFd::as_fd))
    }

    /// exec: the root of a container that is confined by chroot(2) alone.
    pub(crate) fn target_root(&self) -> Option<&OwnedFd> {
        self.request.target.as_ref()?.root.as_ref()
    }

    /// The lowest descriptor from `first` on that is needed on the way. Heap-free.
    pub(crate) fn least_needed(&self, link: BorrowedFd, first: u32, until: Until) -> Option<u32> {
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
            .chain([self.print.as_ref(), self.target_root()]);
        let joined = self
            .enclosed
            .iter()
            .flatten()
            .chain(&self.request.cgroup.tasks);
        let joined = joined.chain(self.namespaces.needed_by_init());
        kept.flatten()
            .chain(joined.filter(|_| until == Until::RootChange))
            .chain(&self.start_container)
            .map(AsRawFd::as_raw_fd)
            .chain([link.as_raw_fd()])
            .filter_map(|number| u32::try_from(number).ok())
            .filter(|number| *number >= first)
            .min()
    }
}
