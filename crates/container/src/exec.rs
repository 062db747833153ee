//! `exec`: one more process in a container, in the full cage of its stored config.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use coracle_bundle::{Config, Namespace, Process};
use coracle_cgroups::Joining;
use coracle_launch::{Gate, Given, Launch, Slots};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde::de::IgnoredAny;

use crate::build;
use crate::create::{Handoff, check_terminal};
use crate::error::{Error, io_errno};
use crate::foreground::Signals;
use crate::handoff;
use crate::identity::{Identity, has_ended};
use crate::input;
use crate::inspect::{allow, read};
use crate::moved;
use crate::notify;
use crate::options::{Attachment, ExecOptions, ExecProcess, Keyring};
use crate::record::Record;
use crate::run::Ended;
use crate::state;
use crate::status::{Status, Verb};
use crate::steps::{BEFORE, FIRST, LAST, REST, Steps};
use crate::store::Store;

/// How long an init that was killed together with an exec may need to end, in milliseconds.
const DEATH_MS: u32 = 100;

/// Executes a process in a running (or created) container. In the foreground, returns its exit
/// code.
///
/// # Errors
/// [`Error`]; the container is as it was.
pub fn exec(store: &Store, options: &ExecOptions) -> Result<Ended, Error> {
    let (directory, record) = read(store, &options.id)?;
    let verb = if options.ignore_paused {
        Verb::ExecIgnorePaused
    } else {
        Verb::Exec
    };
    let status = allow(verb, &directory, &record)?;
    let config = coracle_bundle::parse(&record.bundle, &directory.config()?)?;
    let (process, warnings) = process(options, &config)?;
    check_terminal(
        process.terminal,
        options.attachment,
        options.console_socket.as_deref(),
    )?;
    let console = options.console_socket.as_deref();
    let pidfd_socket = options.pidfd_socket.as_deref();
    let handoff = Handoff::of(console, pidfd_socket, options.pid_file.as_deref())?;
    let asked = (options, &directory.steps);
    let mut ended = launch(asked, (&record, status), &config, (&process, handoff))?;
    ended.warnings.splice(0..0, warnings);
    Ok(ended)
}

fn launch(
    (options, steps): (&ExecOptions, &Steps),
    (record, status): (&Record, Status),
    config: &Config,
    (process, handoff): (&Process, Handoff),
) -> Result<Ended, Error> {
    let (init, pidfd) = find_init(options, record)?;
    let plan = plan(options, keyring(record), config, (process, &init))?;
    steps.planned(&plan);
    let cgroup = cgroup(options, record)?;
    let signals = (options.attachment == Attachment::Foreground)
        .then(Signals::catch)
        .transpose()?;
    let site = Site {
        options,
        steps,
        plan: &plan,
        state: state::for_hook(record, status, init.pid),
        config,
        init,
        pidfd,
        cgroup,
    };
    let mut launch = match site.launch(site.joining()?) {
        Err(error) if build::born_dead(&error, site.cgroup.as_ref()) => {
            site.check_alive()?;
            site.launch(build::rejoin(
                site.cgroup.as_ref(),
                Pid::from_raw(init.pid),
            )?)?
        }
        launch => launch?,
    };
    let console = handoff.deliver(&mut launch, b"setns")?;
    launch.start().inspect_err(|_| forget_pid(options))?;
    steps.carried_out(&plan, &LAST);
    steps.done(format_args!("the program runs"));
    let refused = std::mem::take(&mut launch.warnings);
    let released = launch.release()?;
    let code = match signals {
        Some(signals) => signals.wait(&released, console, None)?,
        None => 0,
    };
    Ok(Ended {
        code,
        warnings: [plan.warnings, refused].concat(),
        ..Ended::default()
    })
}

/// Where the process is to be; `None` for a container without a cgroup.
fn cgroup(
    options: &ExecOptions,
    record: &Record,
) -> Result<Option<coracle_cgroups::Record>, Error> {
    let groups = moved::groups(record);
    let groups = groups.as_ref().map(|groups| groups.now());
    if options.cgroup.is_empty() {
        return Ok(groups.map(coracle_cgroups::at_init));
    }
    // Of a container without a cgroup, an empty record: then the path is refused.
    let own = groups.cloned().unwrap_or_default();
    Ok(Some(coracle_cgroups::sub_cgroup(&own, &options.cgroup)?))
}

/// What `create` was asked to do with the session keyring holds for `exec` too.
fn keyring(record: &Record) -> Keyring {
    match record.no_new_keyring {
        true => Keyring::Inherited,
        false => Keyring::New,
    }
}

/// Takes away the pid of a process that was not to be.
fn forget_pid(options: &ExecOptions) {
    if let Some(path) = &options.pid_file {
        let _ = std::fs::remove_file(path);
    }
}

/// Where the process goes.
struct Site<'a> {
    options: &'a ExecOptions,
    steps: &'a Steps,
    plan: &'a coracle_launch::Plan,
    /// The container's.
    state: Vec<u8>,
    config: &'a Config,
    init: Identity,
    pidfd: OwnedFd,
    cgroup: Option<coracle_cgroups::Record>,
}

impl<'a> Site<'a> {
    /// The cgroup, open for the process to be born into.
    fn joining(&self) -> Result<Joining, Error> {
        let Some(cgroup) = &self.cgroup else {
            return Ok(Joining::default());
        };
        let opened = coracle_cgroups::open(cgroup, Pid::from_raw(self.init.pid));
        if self.options.cgroup.is_empty() {
            return Ok(opened?);
        }
        let joining = opened.map_err(|source| Error::SubCgroup {
            asked: self.options.cgroup.join(" "),
            source: Box::new(source),
        })?;
        // Who names a cgroup means it: no second choice.
        Ok(Joining {
            fallback: None,
            ..joining
        })
    }

    /// Who was killed with the whole container must not come again: its cgroup, which nobody kills
    /// a second time, would never be empty.
    fn check_alive(&self) -> Result<(), Error> {
        let ended = coracle_sys::poll_readable(&[self.pidfd.as_fd()], Some(DEATH_MS));
        match ended {
            Ok(0) => Ok(()),
            Ok(_) => Err(stopped(self.options)),
            Err(errno) => Err(Error::System {
                attempted: "wait for init's end",
                errno,
            }),
        }
    }

    /// Clones the process and sees it through to the point where only its start is missing.
    fn launch(&self, joining: Joining) -> Result<Launch<'a>, Error> {
        let pidfd = self.pidfd.try_clone().map_err(|error| Error::System {
            attempted: "duplicate init's pidfd",
            errno: io_errno(&error),
        })?;
        let given = Given {
            cgroup: self.cgroup.clone().unwrap_or_default(),
            into: joining.into,
            fallback: joining.fallback,
            tasks: joining.tasks,
            leaf: None,
            place: joining.unit_action,
            exec_root: self.chroot()?,
            init: Some(pidfd),
            gate: Gate::Link,
            private: Vec::new(),
        };
        let slots = Slots::open(self.plan, given)?;
        let mut launch = coracle_launch::spawn(self.plan, slots, None)?;
        launch.settle()?;
        self.steps.carried_out(self.plan, &BEFORE);
        let pid = launch.pid();
        self.steps.done(format_args!("cloned process {pid}"));
        launch.admit()?;
        launch.created(&state::told(&self.state))?;
        self.steps.carried_out(self.plan, &FIRST);
        self.steps.carried_out(self.plan, &REST);
        Ok(launch)
    }

    /// A container without a mount namespace is confined by chroot(2) alone, which setns(2) does
    /// not enter.
    fn chroot(&self) -> Result<Option<OwnedFd>, Error> {
        if self.config.linux.namespaces.mount != Namespace::Inherit {
            return Ok(None);
        }
        let path = format!("/proc/{}/root", self.init.pid);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(path.as_str(), flags, Mode::empty());
        // It lived while the path was opened, or else the path may have been a later process's.
        match has_ended(self.pidfd.as_fd()).and_then(|ended| Ok((root?, ended))) {
            Ok((root, false)) => Ok(Some(root)),
            Ok((_, true)) => Err(stopped(self.options)),
            Err(errno) => Err(Error::Store {
                call: "open",
                path: path.into(),
                errno,
            }),
        }
    }
}

fn stopped(options: &ExecOptions) -> Error {
    Error::Status {
        id: options.id.clone(),
        refusal: "cannot exec in a stopped container: container not running",
        status: Status::Stopped,
    }
}

/// Init and a pidfd of it that is checked to be of the process that the record means.
fn find_init(options: &ExecOptions, record: &Record) -> Result<(Identity, OwnedFd), Error> {
    let stopped = || stopped(options);
    let init = record.init.ok_or_else(stopped)?;
    let pidfd = init
        .open()
        .map_err(|errno| Error::System {
            attempted: "open init's pidfd",
            errno,
        })?
        .ok_or_else(stopped)?;
    Ok((init, pidfd))
}

fn plan(
    options: &ExecOptions,
    keyring: Keyring,
    config: &Config,
    (process, init): (&Process, &Identity),
) -> Result<coracle_launch::Plan, Error> {
    let listen_fds = notify::listen_fds();
    let preserved_fds = handoff::preserved(listen_fds, options.preserve_fds)?;
    let host = coracle_host::probe(coracle_launch::needs_exec(config, process))?;
    let namespaces = coracle_host::namespaces_of(init.pid)?;
    let options = coracle_launch::Options {
        id: options.id.clone(),
        manager: Default::default(),
        rootless: Default::default(),
        change_root: Default::default(),
        keyring,
        environment: Vec::new(),
        preserved_fds,
        network: None,
    };
    let plan = coracle_launch::plan_exec(process, config, &namespaces, &host, &options)?;
    coracle_launch::check(&plan)?;
    Ok(plan)
}

/// The process to execute: a file's, or the config's with what the flags change. Beside it stands
/// what is odd in the file.
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
            let mut process = config.process.clone().ok_or_else(|| Error::NoProcess {
                id: options.id.clone(),
            })?;
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

/// What the file does not mention of the cage is the config's: a caller who leaves a wall out does
/// not tear it down (CMD-10).
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

/// `--cap`: bounding, effective and permitted; ambient only where the config made it inheritable.
/// The inheritable set itself is never touched (CVE-2022-29162).
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
