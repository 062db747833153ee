//! Descriptors that the runtime opens before the clone and init inherits.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use coracle_bundle::HookPoint;
use coracle_cgroups::UnitAction;

use crate::error::Error;
use crate::plan::Plan;

/// How init learns of its start, and where it reports a failure after that.
#[derive(Debug)]
pub enum Gate {
    /// The runtime that launched it grants the start: `run` and `exec`.
    Link,
    /// `start` writes a byte into one FIFO and reads the other: `create`.
    Fifos {
        /// Read by init.
        start: OwnedFd,
        /// Written by init alone; closed by its exec.
        started: OwnedFd,
        /// Where hooks of the container print, if there are any: they may keep it open.
        output: Option<OwnedFd>,
    },
}

/// All descriptors of one launch.
#[derive(Debug)]
pub struct Slots {
    pub(crate) namespaces: coracle_namespaces::Inherited,
    pub(crate) rootfs: Option<coracle_rootfs::Slots>,
    pub(crate) cgroup: coracle_cgroups::Record,
    /// v2: the directory that the clone is born into, and a second choice.
    pub(crate) into: Option<OwnedFd>,
    pub(crate) fallback: Option<OwnedFd>,
    /// The same two for the intermediate of an exec: they lead nowhere else, for the container's
    /// processes may see them in the moment of the clone.
    pub(crate) enclosed: [Option<OwnedFd>; 2],
    /// v1: the `tasks` file of each hierarchy.
    pub(crate) tasks: Vec<OwnedFd>,
    /// What init goes down into once its cgroup namespace is there.
    pub(crate) leaf: Option<OwnedFd>,
    /// What the runtime does with the clone before it goes on.
    pub(crate) place: Option<UnitAction>,
    /// exec into a container that was jailed by chroot alone: its root.
    pub(crate) exec_root: Option<OwnedFd>,
    /// Standard input of each hook that init runs.
    pub(crate) create_container: Vec<OwnedFd>,
    pub(crate) start_container: Vec<OwnedFd>,
    /// What the hooks in init print, for the runtime to read.
    pub(crate) output: Option<coracle_program::Output>,
    /// Where they print it.
    pub(crate) print: Option<OwnedFd>,
    pub(crate) gate: Gate,
    /// The caller's own descriptors: init closes them first.
    pub(crate) private: Vec<RawFd>,
}

/// How far a process still has to go with the descriptors that it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The intermediate, which clones init, and init up to the jail.
    Jail,
    /// Init from there on.
    Program,
}

/// What the caller has opened already.
#[derive(Debug)]
pub struct Given {
    /// The cgroup that is joined, for the sentence where that fails.
    pub cgroup: coracle_cgroups::Record,
    /// v2: the directory that the clone is born into.
    pub into: Option<OwnedFd>,
    /// v2: where a clone is born if the kernel refuses `into`, since controllers were handed down
    /// from there.
    pub fallback: Option<OwnedFd>,
    /// v1: the `tasks` file of each hierarchy.
    pub tasks: Vec<OwnedFd>,
    /// v2: the file of a cgroup below, which init goes down into once its namespaces are there.
    pub leaf: Option<OwnedFd>,
    /// systemd: what the runtime does with the clone before it goes on.
    pub place: Option<UnitAction>,
    /// exec into a container that was jailed by chroot alone: its root.
    pub exec_root: Option<OwnedFd>,
    /// exec: a pidfd of the container's init, to join its namespaces.
    pub init: Option<OwnedFd>,
    /// How init learns of its start.
    pub gate: Gate,
    /// Descriptors of the caller's own, which init closes before anything else.
    pub private: Vec<RawFd>,
}

impl Slots {
    /// Opens everything that the plan names. Nothing outside this process changes.
    ///
    /// # Errors
    /// [`Error`] naming the property whose file, namespace or mount source cannot be opened.
    pub fn open(plan: &Plan, given: Given) -> Result<Self, Error> {
        // First: what is no namespace must not be opened as that of an id map.
        let namespaces = match &given.init {
            Some(init) => coracle_namespaces::open_exec(&plan.namespaces, init.as_fd())?,
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
        let enclosed = [enclose(&given.into), enclose(&given.fallback)];
        Ok(Self {
            namespaces,
            rootfs,
            cgroup: given.cgroup,
            into: given.into,
            fallback: given.fallback,
            enclosed,
            tasks: given.tasks,
            leaf: given.leaf,
            place: given.place,
            exec_root: given.exec_root,
            create_container: stdin(HookPoint::CreateContainer)?,
            start_container: stdin(HookPoint::StartContainer)?,
            output,
            print,
            gate: given.gate,
            private: given.private,
        })
    }

    /// The runtime's copies that would keep a pipe alive behind init's back. Those of mounts are
    /// closed by [`crate::Launch::admit`], and the last copy of an enclosed directory when the
    /// program runs: the kernel waits some milliseconds for it.
    pub(crate) fn close_after_clone(&mut self) {
        self.into = None;
        self.fallback = None;
        self.tasks.clear();
        self.exec_root = None;
        self.print = None;
        self.gate = Gate::Link;
    }

    /// The v2 directories that the intermediate clones init into: the first choice, and the one
    /// where the kernel says that controllers were handed down from there.
    pub(crate) fn birthplaces(&self, plan: &Plan) -> [Option<BorrowedFd<'_>>; 2] {
        let [into, fallback] = match plan.rootfs {
            Some(_) => [&self.into, &self.fallback],
            None => self.enclosed.each_ref(),
        };
        [into, fallback].map(|directory| directory.as_ref().map(AsFd::as_fd))
    }

    /// The lowest descriptor from `first` on that is needed on the way. Heap-free.
    pub(crate) fn least_needed(&self, link: BorrowedFd, first: u32, until: Until) -> Option<u32> {
        let (start, started, output) = match &self.gate {
            Gate::Link => (None, None, None),
            Gate::Fifos {
                start,
                started,
                output,
            } => (Some(start), Some(started), output.as_ref()),
        };
        let owned = [
            start,
            started,
            output,
            self.print.as_ref(),
            self.exec_root.as_ref(),
        ];
        let owned = owned.into_iter().flatten();
        let joined = self.enclosed.iter().flatten().chain(&self.tasks);
        let joined = joined.chain(self.namespaces.needed_by_init());
        owned
            .chain(joined.filter(|_| until == Until::Jail))
            .chain(&self.start_container)
            .map(AsRawFd::as_raw_fd)
            .chain([link.as_raw_fd()])
            .filter_map(|number| u32::try_from(number).ok())
            .filter(|number| *number >= first)
            .min()
    }
}
