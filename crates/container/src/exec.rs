//! `exec`: runs one more process in a container, with the confinement of its stored config.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use coracle_bundle::{Config, ContainerId, Namespace, Process};
use coracle_cgroups::Joining;
use coracle_launch::{Caller, Child, Plan, Point, Release, Request, Target};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde::de::IgnoredAny;

use crate::error::{Error, system, with_path};
use crate::foreground::{Running, Signals};
use crate::identity::{Identity, has_ended};
use crate::input;
use crate::inspect::{allow_in, read};
use crate::interrupt;
use crate::moved::{self, Groups};
use crate::notify;
use crate::options::{Attachment, Keyring, Outputs};
use crate::outputs::{self, Connections};
use crate::progress::Progress;
use crate::record::Record;
use crate::run::Ended;
use crate::state;
use crate::status::{Status, Verb};
use crate::store::Store;

/// The options of `exec`.
#[derive(Clone, Debug)]
pub struct ExecOptions {
    /// The container.
    pub id: ContainerId,
    /// The process to execute.
    pub process: ExecProcess,
    /// Replaces the working directory.
    pub cwd: Option<OsString>,
    /// Appended to the environment, `KEY=VALUE` each.
    pub env: Vec<OsString>,
    /// Whether a terminal is requested.
    pub tty: bool,
    /// Replaces uid, and gid if given.
    pub user: Option<(u32, Option<u32>)>,
    /// Appended to the supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Whether `exec` waits.
    pub attachment: Attachment,
    /// The receivers of its terminal, pidfd and pid.
    pub outputs: Outputs,
    /// Replaces the SELinux label.
    pub process_label: Option<String>,
    /// Replaces the AppArmor profile.
    pub apparmor: Option<String>,
    /// Sets no_new_privs even if the config does not.
    pub no_new_privs: bool,
    /// The numbers of capabilities to add.
    pub capabilities: Vec<u8>,
    /// The number of descriptors after LISTEN_FDS, or from 3 on, that the process keeps.
    pub preserve_fds: u32,
    /// Cgroups below the container's, each `[CONTROLLER[,…]:]PATH`.
    pub cgroup: Vec<String>,
    /// Execute even in a paused container.
    pub ignore_paused: bool,
}

/// What `exec` executes.
#[derive(Clone, Debug)]
pub enum ExecProcess {
    /// A file with a whole `process` object.
    File(PathBuf),
    /// The config's process with these arguments.
    Command(Vec<OsString>),
}

/// Executes a process in a running (or created) container. In the foreground, returns its exit
/// code.
///
/// # Errors
/// [`Error`]; the container is unchanged.
pub fn exec(store: &Store, options: &ExecOptions) -> Result<Ended, Error> {
    let (directory, record) = read(store, &options.id)?;
    let (init, pidfd) = find_init(options, &record)?;
    let config = coracle_bundle::parse(&record.bundle, &directory.config()?)?;
    let (process, odd) = process(options, &config)?;
    outputs::check_terminal(
        process.terminal,
        options.attachment,
        &options.outputs.console_socket,
    )?;
    let outputs = Connections::open(&options.outputs, None)?;
    let plan = plan(options, &record, &config, (&process, &init))?;
    directory.progress.planned(&plan);
    let cgroup = joining(options, &record, &init)?;
    let root = chroot(&config, (&init, &pidfd))?;
    let foreground = options.attachment == Attachment::Foreground;
    let signals = foreground.then(Signals::catch).transpose()?;
    // A process of the container may stop this one while it enters, so a signal must end the wait.
    let interrupts = interrupt::catch()?;
    let request = Request {
        cgroup,
        target: Some(Target {
            init: pidfd.into(),
            root,
        }),
        release: Release::Socket,
        private: Vec::new(),
        lock: None,
        interrupts: Some(&interrupts),
    };
    let mut entering = Entering {
        plan: &plan,
        progress: &directory.progress,
        state: || state::for_hook(&record, state::status(&directory, &record), init.pid),
    };
    let entered = entering.enter(request, outputs);
    let mut running = entered.map_err(|error| match error {
        Error::Launch(coracle_launch::Error::ContainerEnded) => stopped(),
        error => interrupt::explain(error, &interrupts),
    })?;
    let code = match signals {
        Some(signals) => {
            interrupts.hand_over();
            let ended = signals.wait(&mut running)?;
            entering.progress.waited("the program");
            ended.shell_code()
        }
        None => 0,
    };
    Ok(Ended {
        code,
        warnings: [odd, plan.warnings, running.warnings].concat(),
        ..Ended::default()
    })
}

/// The caller of an exec's launch.
struct Entering<'a, S> {
    plan: &'a Plan,
    progress: &'a Progress,
    /// Makes the container's state for the seccomp agent.
    state: S,
}

impl<S: Fn() -> Vec<u8>> Entering<'_, S> {
    /// Launches the process, and returns once its program runs.
    fn enter(&mut self, request: Request, mut outputs: Connections) -> Result<Running, Error> {
        let mut launch = coracle_launch::launch(self.plan, request, self)?;
        let console = outputs.send_console(launch.take_console())?;
        let pid_file = outputs.send_child(b"setns", launch.child())?;
        launch.start().inspect_err(|_| {
            if let Some(path) = pid_file {
                let _ = std::fs::remove_file(path);
            }
        })?;
        let warnings = launch.take_warnings();
        let process = launch.release();
        self.reached(Point::Started);
        self.progress.done(format_args!("the program runs"));
        Ok(Running {
            process,
            console,
            proxy: None,
            warnings,
        })
    }
}

impl<S: Fn() -> Vec<u8>> Caller for Entering<'_, S> {
    type Error = Error;

    fn reached(&mut self, point: Point) {
        self.progress.reached(self.plan, point);
    }

    fn cloned(&mut self, child: &Child) -> Result<(), Error> {
        let pid = child.pid;
        self.progress.done(format_args!("cloned process {pid}"));
        Ok(())
    }

    fn state(&mut self, _: &Child) -> Vec<u8> {
        (self.state)()
    }
}

/// Opens the cgroup that the process joins. Where init is now is only read if the container's own
/// cgroups cannot be opened: the host may have moved it, and removed them.
fn joining(options: &ExecOptions, record: &Record, init: &Identity) -> Result<Joining, Error> {
    let init = Pid::from_raw(init.pid);
    let own = record.own_groups();
    let moved = || moved::groups(record).filter(Groups::is_moved);
    match open_cgroup(options, own, init) {
        Err(error) => match moved() {
            Some(groups) => open_cgroup(options, Some(groups.now()), init),
            None => Err(error),
        },
        opened => opened,
    }
}

fn open_cgroup(
    options: &ExecOptions,
    groups: Option<&coracle_cgroups::Record>,
    init: Pid,
) -> Result<Joining, Error> {
    if options.cgroup.is_empty() {
        return match groups.map(coracle_cgroups::at_init) {
            Some(cgroup) => Ok(coracle_cgroups::open(&cgroup, init)?),
            None => Ok(Joining::default()),
        };
    }
    // Without a cgroup, an empty record, for which the path is refused.
    let own = groups.cloned().unwrap_or_default();
    let cgroup = coracle_cgroups::sub_cgroup(&own, &options.cgroup)?;
    let opened = coracle_cgroups::open(&cgroup, init);
    let joining = opened.map_err(|source| Error::SubCgroup {
        requested: options.cgroup.join(" "),
        source: Box::new(source),
    })?;
    // If the caller names a cgroup, there is no fallback.
    Ok(Joining {
        fallback: None,
        ..joining
    })
}

/// Opens the root of a container without a mount namespace: only chroot(2) confines it, and
/// setns(2) does not enter that.
fn chroot(config: &Config, (init, pidfd): (&Identity, &OwnedFd)) -> Result<Option<OwnedFd>, Error> {
    if config.linux.namespaces.mount != Namespace::Inherit {
        return Ok(None);
    }
    let path = format!("/proc/{}/root", init.pid);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(path.as_str(), flags, Mode::empty());
    // If init is alive after the open, the path was not that of a later process with its pid.
    match has_ended(pidfd.as_fd()).and_then(|ended| Ok((root?, ended))) {
        Ok((root, false)) => Ok(Some(root)),
        Ok((_, true)) => Err(stopped()),
        Err(errno) => Err(with_path("open", Path::new(&path))(errno)),
    }
}

fn stopped() -> Error {
    Error::Status {
        refusal: "cannot exec in a stopped container: container not running",
        status: Status::Stopped,
    }
}

/// Checks the status, and returns init with a pidfd that is verified to be of init.
fn find_init(options: &ExecOptions, record: &Record) -> Result<(Identity, OwnedFd), Error> {
    let verb = match options.ignore_paused {
        true => Verb::ExecIgnorePaused,
        false => Verb::Exec,
    };
    // Opened before the status is derived, which then says of this very process that it is alive.
    // Created or running is the same for `exec`.
    let found = record.init.as_ref().map(Identity::open_alive);
    let is_alive = found.as_ref().map(|found| !matches!(found, Ok(None)));
    if let Some(status) = state::hindrance(is_alive, record) {
        allow_in(status, verb)?;
    }
    let init = record.init.ok_or_else(stopped)?;
    let pidfd = found.transpose().map_err(system("open init's pidfd"))?;
    Ok((init, pidfd.flatten().ok_or_else(stopped)?))
}

fn plan(
    options: &ExecOptions,
    record: &Record,
    config: &Config,
    (process, init): (&Process, &Identity),
) -> Result<Plan, Error> {
    let listen_fds = notify::listen_fds();
    let preserved_fds = outputs::preserved(listen_fds, options.preserve_fds)?;
    let host = coracle_host::probe(coracle_launch::needs_exec(process, config, init.pid))?;
    let launch = coracle_launch::Options {
        id: &options.id,
        // `--no-new-keyring` of `create` also holds for `exec`.
        keyring: match record.no_new_keyring {
            true => Keyring::Inherited,
            false => Keyring::New,
        },
        environment: Vec::new(),
        preserved_fds,
    };
    // `create` has asked the kernel whether it has what the filter needs.
    Ok(coracle_launch::plan_exec(process, config, &host, &launch)?)
}

/// The process to execute: from a file, or from the config, changed by the flags. Also returns
/// warnings about the file.
fn process(options: &ExecOptions, config: &Config) -> Result<(Process, Vec<String>), Error> {
    let mut warnings = Vec::new();
    let mut process = match &options.process {
        ExecProcess::File(path) => {
            let text = input::named("--process", path)?;
            let (process, odd) = coracle_bundle::parse_process(&text)?;
            warnings = odd;
            inherit(process, &text, config)
        }
        ExecProcess::Command(arguments) => {
            let mut process = config.process.clone().ok_or(Error::NoProcess)?;
            process.args = arguments
                .iter()
                .map(|a| c_string("ARGS", a))
                .collect::<Result<_, _>>()?;
            process.terminal = options.tty;
            process
        }
    };
    if options.tty {
        process.terminal = true;
    }
    apply_flags(options, &mut process)?;
    config.check_user(&process.user)?;
    Ok((process, warnings))
}

/// Takes the parts of the confinement that the file does not have from the config: without
/// capabilities in the file, for example, the process must not have more than the container.
fn inherit(mut process: Process, text: &[u8], config: &Config) -> Process {
    #[derive(Default, serde::Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Mentioned {
        no_new_privileges: Option<IgnoredAny>,
        rlimits: Option<IgnoredAny>,
        capabilities: Option<IgnoredAny>,
        apparmor_profile: Option<IgnoredAny>,
        selinux_label: Option<IgnoredAny>,
        oom_score_adj: Option<IgnoredAny>,
    }
    let Some(base) = &config.process else {
        return process;
    };
    let mentioned: Mentioned = serde_json::from_slice(text).unwrap_or_default();
    if mentioned.no_new_privileges.is_none() {
        process.no_new_privileges = base.no_new_privileges;
    }
    if mentioned.rlimits.is_none() {
        process.rlimits.clone_from(&base.rlimits);
    }
    if mentioned.capabilities.is_none() {
        process.capabilities = base.capabilities;
    }
    if mentioned.apparmor_profile.is_none() {
        process.apparmor_profile.clone_from(&base.apparmor_profile);
    }
    if mentioned.selinux_label.is_none() {
        process.selinux_label.clone_from(&base.selinux_label);
    }
    if mentioned.oom_score_adj.is_none() {
        process.oom_score_adj = base.oom_score_adj;
    }
    process
}

fn apply_flags(options: &ExecOptions, process: &mut Process) -> Result<(), Error> {
    let invalid = |flag, reason: String| Error::Value { flag, reason };
    if process.args.is_empty() {
        return Err(invalid("ARGS", "a command is required".to_owned()));
    }
    if let Some(cwd) = &options.cwd {
        if !cwd.as_bytes().starts_with(b"/") {
            return Err(invalid("--cwd", format!("{cwd:?} is not an absolute path")));
        }
        process.cwd = c_string("--cwd", cwd)?;
    }
    for variable in &options.env {
        let line = c_string("--env", variable)?;
        let mut parts = line.as_bytes().split_inclusive(|byte| *byte == b'=');
        let key = parts.next().unwrap_or_default().to_vec();
        process
            .env
            .retain(|other| !other.as_bytes().starts_with(&key));
        process.env.push(line);
    }
    if let Some((uid, gid)) = options.user {
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process
        .user
        .additional_gids
        .extend(&options.additional_gids);
    if let Some(label) = &options.process_label {
        process.selinux_label = Some(c_string("--process-label", &OsString::from(label))?);
    }
    if let Some(profile) = &options.apparmor {
        process.apparmor_profile = Some(c_string("--apparmor", &OsString::from(profile))?);
    }
    process.no_new_privileges |= options.no_new_privs;
    for number in &options.capabilities {
        add_capability(process, 1 << *number);
    }
    Ok(())
}

/// `--cap`: adds to the bounding, effective and permitted sets, and to the ambient set only if the
/// config has it inheritable. The inheritable set is never changed (CVE-2022-29162).
fn add_capability(process: &mut Process, bit: u64) {
    let sets = &mut process.capabilities;
    sets.bounding.0 |= bit;
    sets.effective.0 |= bit;
    sets.permitted.0 |= bit;
    sets.ambient.0 |= bit & sets.inheritable.0;
}

fn c_string(flag: &'static str, value: &OsString) -> Result<CString, Error> {
    CString::new(value.clone().into_vec()).map_err(|_| Error::Value {
        flag,
        reason: format!("{value:?} holds a NUL byte"),
    })
}
