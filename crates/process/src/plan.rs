//! From the config and the host's facts to the list of steps.

pub(crate) mod affinity;
pub(crate) mod capabilities;
mod confinement;
pub(crate) mod environment;
pub(crate) mod explain;
mod identity;
pub(crate) mod steps;
mod sysctl;
pub(crate) mod working_directory;

use crate::Error;
use coracle_bundle::{Config, ConsoleSize, Namespace, Process};
use coracle_host::Host;
use environment::Program;
use nix::sys::signal::Signal;
use std::ffi::CString;
use std::path::PathBuf;
use steps::{Confinement, Descent, Inheritance, Setting, StreamSource, Streams};
use working_directory::WorkingDirectory;

/// What the command line and the caller's own state add to the config.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The container's id; its session keyring is called `_ses.<id>`.
    pub id: &'a str,
    /// Whether the process gets a session keyring of its own.
    pub keyring: Keyring,
    /// Whether the container's user namespace lets `setgroups(2)` through.
    pub groups: GroupsControl,
    /// Variables of ours such as `LISTEN_FDS=1`; each replaces one of the same name.
    pub environment: &'a [CString],
    /// Size of a terminal where the config's `consoleSize` gives none.
    pub window: Option<ConsoleSize>,
    /// The signal that the caller had set with `PR_SET_PDEATHSIG` on the runtime.
    pub parent_death_signal: Option<Signal>,
    /// How many descriptors after 2 stay open for the process.
    pub preserved_fds: u32,
}

/// Which session keyring the process runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyring {
    /// A keyring named after the container.
    New,
    /// The caller's (`--no-new-keyring`).
    Inherited,
}

/// What `/proc/PID/setgroups` of the container's user namespace says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupsControl {
    /// `allow`: the groups become exactly those of the config.
    Allowed,
    /// `deny`: groups in the config are an error.
    Denied,
}

/// All that happens to one process, in order.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What cannot be granted on this host, one line each.
    pub warnings: Vec<String>,
    pub(crate) inheritance: Vec<Inheritance>,
    /// Joined namespaces that must not turn out to be the host's: sysctl key, path, host's own.
    pub(crate) separate: Vec<SeparateNamespace>,
    pub(crate) machine: Vec<Setting>,
    pub(crate) streams: Streams,
    pub(crate) confinement: Vec<Confinement>,
    pub(crate) descent: Vec<Descent>,
    pub(crate) cwd: WorkingDirectory,
    pub(crate) program: Program,
    pub(crate) preserved_fds: u32,
}

/// A namespace joined by path, of which a sysctl says that it is not the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeparateNamespace {
    pub(crate) key: String,
    pub(crate) path: PathBuf,
    /// Device and inode of the runtime's own namespace.
    pub(crate) host: (u64, u64),
}

/// The parts of a plan that number their steps, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Inheritance,
    Machine,
    Session,
    Streams,
    Confinement,
    Descent,
    Exec,
}

/// Plans the container's own process for `create` and `run`.
///
/// # Errors
///
/// What the config asks and this host or this user namespace cannot give, with its JSON path.
pub fn plan(config: &Config, host: &Host, options: &Options) -> Result<Plan, Error> {
    let none = without_process();
    let process = config.process.as_ref().unwrap_or(&none);
    let (machine, separate) = sysctl::machine(config, host)?;
    let mut plan = compose(&Subject {
        process,
        config,
        host,
        options,
    })?;
    plan.machine = machine;
    // Before the root becomes read-only; `exec` makes it in its turn.
    plan.machine.push(Setting::WorkingDirectory);
    plan.separate = separate;
    Ok(plan)
}

/// Plans a further process for `exec`: the config gives what concerns the container as a whole.
///
/// # Errors
///
/// As [`plan`].
pub fn plan_exec(
    process: &Process,
    config: &Config,
    host: &Host,
    options: &Options,
) -> Result<Plan, Error> {
    let mut plan = compose(&Subject {
        process,
        config,
        host,
        options,
    })?;
    affinity::of_exec(&process.exec_cpu_affinity, &mut plan);
    Ok(plan)
}

/// What all parts of the planner read.
pub(crate) struct Subject<'a> {
    pub(crate) process: &'a Process,
    pub(crate) config: &'a Config,
    pub(crate) host: &'a Host,
    pub(crate) options: &'a Options<'a>,
}

impl Subject<'_> {
    /// The process runs in a user namespace other than the runtime's, where its root has every
    /// capability (credentials after `CLONE_NEWUSER` and after `setns`).
    pub(crate) fn in_new_user_namespace(&self) -> bool {
        self.config.linux.namespaces.user != Namespace::Inherit
    }

    /// The capabilities that the process can be given at most.
    pub(crate) fn available_capabilities(&self) -> u64 {
        let known = capabilities::up_to(self.host.last_capability);
        match self.in_new_user_namespace() {
            true => known,
            false => known & self.host.capabilities,
        }
    }
}

fn compose(subject: &Subject) -> Result<Plan, Error> {
    let mut warnings = Vec::new();
    let descent = identity::descent(subject, &mut warnings)?;
    Ok(Plan {
        inheritance: inheritance(subject),
        separate: Vec::new(),
        machine: Vec::new(),
        streams: streams(subject),
        confinement: confinement::steps(subject)?,
        descent,
        cwd: WorkingDirectory::new(&subject.process.cwd),
        program: Program::new(subject.process, subject.options.environment),
        preserved_fds: subject.options.preserved_fds,
        warnings,
    })
}

fn inheritance(subject: &Subject) -> Vec<Inheritance> {
    let mut steps = Vec::new();
    if let Some(value) = subject.process.oom_score_adj {
        // A rootless caller may raise the score but not lower it; engines ask for it all the same.
        let refusal =
            match capabilities::holds(subject.host.capabilities, capabilities::SYS_RESOURCE)
                && !subject.host.in_user_namespace
            {
                true => steps::Refusal::Fatal,
                false => steps::Refusal::Warned,
            };
        steps.push(Inheritance::OomScoreAdj { value, refusal });
    }
    if !subject.process.rlimits.is_empty() {
        steps.push(Inheritance::HardLimits(subject.process.rlimits.clone()));
    }
    steps
}

fn streams(subject: &Subject) -> Streams {
    let process = subject.process;
    let source = match process.terminal {
        false => StreamSource::Inherited,
        true => StreamSource::Terminal {
            window: process
                .console_size
                .or(subject.options.window)
                .filter(|size| size.height != 0 && size.width != 0),
        },
    };
    Streams {
        source,
        uid: process.user.uid,
    }
}

/// A config without `process` can be created, not started (config.md § Process).
fn without_process() -> Process {
    Process {
        terminal: false,
        console_size: None,
        user: coracle_bundle::User::default(),
        args: Vec::new(),
        env: Vec::new(),
        cwd: c"/".to_owned(),
        capabilities: coracle_bundle::Capabilities::default(),
        rlimits: Vec::new(),
        no_new_privileges: false,
        oom_score_adj: None,
        scheduler: None,
        io_priority: None,
        exec_cpu_affinity: coracle_bundle::ExecCpuAffinity::default(),
        apparmor_profile: None,
        selinux_label: None,
    }
}

impl Plan {
    /// How many steps there are, the runtime's own before the clone included.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.first(Section::Exec).saturating_add(1)
    }

    /// The number of a section's first step.
    pub(crate) fn first(&self, section: Section) -> u32 {
        let lengths = [
            (Section::Inheritance, self.inheritance.len()),
            (Section::Machine, self.machine.len()),
            (Section::Session, 1),
            (Section::Streams, 1),
            (Section::Confinement, self.confinement.len()),
            (Section::Descent, self.descent.len()),
        ];
        let before = lengths.iter().take_while(|(each, _)| *each != section);
        let steps: usize = before.map(|(_, length)| length).sum();
        u32::try_from(steps).unwrap_or(u32::MAX)
    }
}
