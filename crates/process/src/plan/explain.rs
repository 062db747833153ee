//! Makes a sentence of a step's number and its cause.

use super::describe::{limit_to, most, text};
use super::examined::{self, Examined};
use super::steps::{
    Confinement, Inheritance, Label, Plan, PrivilegeDrop, Section, Setting, StreamSource, Sysctl,
};
use crate::Error;
use coracle_sys::{Call, Cause, Fault};
use coracle_text::{Code, Detail, Report, after_colon, cause_errno, cause_text, errno_text};
use nix::errno::Errno;
use std::ffi::CStr;

coracle_text::checks! {
    /// A working directory entered through a descriptor leads out of the root (CVE-2024-21626).
    OutsideRoot = "is not below the root: possible container breakout",
    NotDevpts = "/dev/pts is not a devpts of the container",
    NotMultiplexer = "/dev/pts/ptmx is not the device 5:2",
    NotInPath = "executable file not found in $PATH",
    IsDirectory = "permission denied (is a directory)",
    /// For example a FIFO, for which execve(2) fails with the same error.
    NotRegular = "permission denied",
    NoProgram = "there is nothing to start",
}

/// One step of any section.
enum Step<'a> {
    Inheritance(&'a Inheritance),
    Setting(&'a Setting),
    Session,
    Streams,
    Confinement(&'a Confinement),
    PrivilegeDrop(&'a PrivilegeDrop),
    Exec,
}

impl Plan {
    /// What a step does, in one line: `set hostname web1`.
    #[must_use]
    pub fn describe(&self, step: usize) -> String {
        let cwd = &self.cwd.path;
        match self.step(step) {
            None => format!("step {step}"),
            Some(Step::Inheritance(step)) => step.describe(),
            Some(Step::Setting(setting)) => setting.describe(cwd),
            Some(Step::Session) => "start a new session".to_owned(),
            Some(Step::Streams) => self.streams.describe(),
            Some(Step::Confinement(step)) => step.describe(cwd),
            Some(Step::PrivilegeDrop(PrivilegeDrop::Lookup)) => {
                format!("look up {}", self.quoted_name())
            }
            Some(Step::PrivilegeDrop(step)) => step.describe(cwd),
            Some(Step::Exec) => self.describe_exec(),
        }
    }

    /// Why a step failed, in one line. `remark` is what [`crate::examine`] has found.
    ///
    /// Engines match the sentences about `args[0]` to choose exit code 127 (not found) or 126 (not
    /// permitted), so these sentences have no prefix.
    #[must_use]
    pub fn explain(&self, fault: &Fault, remark: &[u8]) -> Report {
        let step = self.step(fault.step);
        let detail = Detail::new(step.as_ref().map_or(Code::ProcessFailed, Step::code))
            .path(step.as_ref().map_or("", Step::property))
            .errno(cause_errno(fault.cause));
        let sentence = match step {
            Some(Step::PrivilegeDrop(PrivilegeDrop::Lookup) | Step::Exec) => {
                return self.explain_exec(fault, remark);
            }
            Some(Step::Setting(Setting::Sysctl(sysctl))) => sysctl_cause(sysctl, fault),
            Some(Step::Setting(Setting::WorkingDirectory)) => self.directory_cause(fault),
            Some(Step::Streams) => self.streams_cause(fault),
            Some(Step::Confinement(step)) => self.confinement_cause(step, fault),
            Some(Step::PrivilegeDrop(step)) => self.privilege_drop_cause(step, fault),
            _ => None,
        };
        let (text, hint) = sentence.unwrap_or_else(|| {
            let what = self.describe(fault.step);
            (format!("{what}: {}", cause_text(fault.cause)), "")
        });
        Report::new(text, detail.hint(hint))
    }

    fn step(&self, step: usize) -> Option<Step<'_>> {
        let within = |section: Section| step.checked_sub(self.first(section));
        let inheritance = within(Section::Inheritance).and_then(|at| self.inheritance.get(at));
        let setting = || self.machine.get(within(Section::Machine)?);
        let confinement = || self.confinement.get(within(Section::Confinement)?);
        let privilege_drop = || self.privilege_drop.get(within(Section::PrivilegeDrop)?);
        let single = |section: Section| (within(section) == Some(0)).then_some(());
        inheritance
            .map(Step::Inheritance)
            .or_else(|| setting().map(Step::Setting))
            .or_else(|| single(Section::Session).map(|()| Step::Session))
            .or_else(|| single(Section::Streams).map(|()| Step::Streams))
            .or_else(|| confinement().map(Step::Confinement))
            .or_else(|| privilege_drop().map(Step::PrivilegeDrop))
            .or_else(|| single(Section::Exec).map(|()| Step::Exec))
    }

    fn quoted_name(&self) -> String {
        format!("{:?}", text(self.program.name()))
    }

    fn describe_exec(&self) -> String {
        let args: Vec<_> = self.program.args.iter().map(text).collect();
        let mut line = format!("execute {}", args.join(" "));
        if !self.preserved_fds.is_empty() {
            line.push_str(&format!(
                ", keeping {} descriptors after 2",
                self.preserved_fds.len()
            ));
        }
        line
    }

    /// Whether the step finds or executes the program.
    pub(crate) fn is_about_program(&self, step: usize) -> bool {
        matches!(
            self.step(step),
            Some(Step::PrivilegeDrop(PrivilegeDrop::Lookup) | Step::Exec)
        )
    }

    fn explain_exec(&self, fault: &Fault, remark: &[u8]) -> Report {
        match self.program.args.get(0) {
            Some(program) if fault.cause == Check::NotInPath.into() => {
                let mut report = explain_exec(program, fault, remark);
                let path = String::from_utf8_lossy(self.program.search_path());
                let hint = format!("searched {}", coracle_text::one_line(&path));
                report.text.push_str(&after_colon(&hint));
                report.detail = report.detail.hint(hint);
                report
            }
            Some(program) => explain_exec(program, fault, remark),
            None => Report::new(
                "process: missing in config.json, there is nothing to start",
                Detail::new(Code::ConfigInvalid).path("process"),
            ),
        }
    }

    fn streams_cause(&self, fault: &Fault) -> Option<Sentence> {
        let StreamSource::Terminal { .. } = self.streams.source else {
            return None;
        };
        let cause: &'static str = match fault.cause {
            Cause::Call(Call::Openat2, Errno::ENOENT) => {
                "/dev/pts/ptmx is not there: is devpts mounted?"
            }
            Cause::Call(Call::Openat2, Errno::EXDEV) => "/dev/pts/ptmx is covered by a mount",
            Cause::Check(check) => Check::text(check),
            _ => return None,
        };
        Some((format!("process.terminal: {cause}"), cause))
    }

    fn confinement_cause(&self, step: &Confinement, fault: &Fault) -> Option<Sentence> {
        if let Confinement::WorkingDirectory = step {
            return self.directory_cause(fault);
        }
        let Cause::Call(call, errno) = fault.cause else {
            return None;
        };
        let what = self.describe(fault.step);
        let cause = match (step, errno) {
            (Confinement::Keyring(_), Errno::EDQUOT) => {
                "the user's quota of keys is used up, see kernel.keys.maxkeys and \
                 /proc/key-users, or run with --no-new-keyring"
            }
            (Confinement::Keyring(_), _) if call == Call::Write => {
                "its label, write to `/proc/self/attr/keycreate`"
            }
            (Confinement::Limit(limit), Errno::EPERM) => {
                let text = format!(
                    "process.rlimits: {}: above what the runtime may give{}: {}",
                    limit_to(limit),
                    most(limit),
                    errno_text(errno)
                );
                return Some((text, "above what the runtime may give"));
            }
            (Confinement::Scheduler(scheduler), Errno::EPERM) if scheduler.deadline != 0 => {
                "SCHED_DEADLINE takes CAP_SYS_NICE and a cpuset of all CPUs"
            }
            (Confinement::Scheduler(scheduler), Errno::EPERM) if scheduler.priority != 0 => {
                "this takes CAP_SYS_NICE outside the user namespace and, on cgroup v1, \
                 linux.resources.cpu.realtimeRuntime"
            }
            (Confinement::Scheduler(_), Errno::EOPNOTSUPP) => {
                "the kernel is built without CONFIG_UCLAMP_TASK"
            }
            (Confinement::Scheduler(scheduler), Errno::EINVAL)
                if scheduler.policy_name == "SCHED_ISO" =>
            {
                "Linux has no such policy"
            }
            (Confinement::Scheduler(_) | Confinement::IoPriority(_), Errno::EPERM) => {
                "this takes CAP_SYS_NICE outside the user namespace"
            }
            (Confinement::MemoryPolicy(_), Errno::EINVAL) => {
                "the kernel knows no such policy, or none of the nodes is allowed here"
            }
            (Confinement::MemoryPolicy(_), Errno::ENOSYS) => "the kernel has no NUMA support",
            (Confinement::Landlock(_), Errno::EINVAL) if call == Call::LandlockRule => {
                "a file takes only execute, write_file, read_file, truncate and ioctl_dev"
            }
            (Confinement::Label(label), _) => return Some(label_cause(label, &what, call, errno)),
            _ => return None,
        };
        Some((format!("{what}: {cause}: {}", errno_text(errno)), cause))
    }

    fn privilege_drop_cause(&self, step: &PrivilegeDrop, fault: &Fault) -> Option<Sentence> {
        let PrivilegeDrop::Identity(identity) = step else {
            return match step {
                PrivilegeDrop::WorkingDirectoryAgain => self.directory_cause(fault),
                _ => None,
            };
        };
        let (uid, gid) = (identity.uid, identity.gid);
        let Cause::Call(call, errno) = fault.cause else {
            return None;
        };
        let text = match (call, errno) {
            (Call::Setuid, Errno::EINVAL) => {
                format!("process.user.uid: {uid} is not mapped in the user namespace")
            }
            (Call::Setgid, Errno::EINVAL) => {
                format!("process.user.gid: {gid} is not mapped in the user namespace")
            }
            (Call::Setgroups, Errno::EINVAL) => format!(
                "process.user.additionalGids: {:?} are not all mapped in the user namespace",
                identity.groups.as_deref().unwrap_or_default()
            ),
            (Call::Setgroups, Errno::EPERM) => {
                let groups = identity.groups.clone().unwrap_or_default();
                Error::GroupsDenied { groups }.to_string()
            }
            _ => return None,
        };
        let hint = match errno {
            Errno::EINVAL => "map it in linux.uidMappings and linux.gidMappings, or use another id",
            _ => "",
        };
        Some((text, hint))
    }

    fn directory_cause(&self, fault: &Fault) -> Option<Sentence> {
        let cwd = text(&self.cwd.path);
        let cause = match fault.cause {
            Cause::Check(check) => Check::text(check).to_owned(),
            Cause::Call(Call::Openat2, Errno::ELOOP) => {
                "goes through a magic link or a loop: possible container breakout".to_owned()
            }
            Cause::Call(Call::Mkdir, errno) => format!("cannot be made: {}", errno_text(errno)),
            // runc's words, by which podman finds its exit code 127.
            Cause::Call(Call::Openat2, Errno::ENOENT) => "no such file or directory".to_owned(),
            Cause::Call(_, errno) => errno_text(errno),
            Cause::Exit(_) => return None,
        };
        Some((format!("process.cwd: {cwd:?}: {cause}"), ""))
    }
}

/// A message, and the part of it that explains more than the errno does.
type Sentence = (String, &'static str);

impl Step<'_> {
    fn code(&self) -> Code {
        match self {
            Step::Streams => Code::TerminalFailed,
            _ => Code::ProcessFailed,
        }
    }

    /// The property of the config that it carries out.
    fn property(&self) -> &'static str {
        match self {
            Step::Inheritance(Inheritance::OomScoreAdj { .. }) => "process.oomScoreAdj",
            Step::Setting(Setting::Hostname(_)) => "hostname",
            Step::Setting(Setting::Domainname(_)) => "domainname",
            Step::Setting(Setting::Sysctl(_)) => "linux.sysctl",
            Step::Streams => "process.terminal",
            Step::Setting(Setting::WorkingDirectory)
            | Step::Confinement(Confinement::WorkingDirectory)
            | Step::PrivilegeDrop(PrivilegeDrop::WorkingDirectoryAgain) => "process.cwd",
            Step::Confinement(step) => step.property(),
            Step::PrivilegeDrop(PrivilegeDrop::Identity(_)) => "process.user",
            Step::PrivilegeDrop(PrivilegeDrop::NoNewPrivileges) => "process.noNewPrivileges",
            Step::PrivilegeDrop(
                PrivilegeDrop::Bounding { .. }
                | PrivilegeDrop::Capabilities(_)
                | PrivilegeDrop::Ambient { .. },
            ) => "process.capabilities",
            Step::Inheritance(Inheritance::HardLimits(_)) => "process.rlimits",
            Step::Inheritance(Inheritance::Affinity(_)) => "process.execCPUAffinity.initial",
            Step::Exec | Step::PrivilegeDrop(PrivilegeDrop::Lookup) => "process.args[0]",
            Step::Session | Step::PrivilegeDrop(_) => "",
        }
    }
}

impl Confinement {
    fn property(&self) -> &'static str {
        match self {
            Confinement::Scheduler(_) => "process.scheduler",
            Confinement::IoPriority(_) => "process.ioPriority",
            Confinement::Affinity(_) => "process.execCPUAffinity.final",
            Confinement::MemoryPolicy(_) => "linux.memoryPolicy",
            Confinement::Personality { .. } => "linux.personality",
            Confinement::Umask(_) => "process.user.umask",
            Confinement::WorkingDirectory => "process.cwd",
            Confinement::Label(Label::AppArmor { .. }) => "process.apparmorProfile",
            Confinement::Label(Label::Selinux { .. }) => "process.selinuxLabel",
            Confinement::Limit(_) => "process.rlimits",
            Confinement::Keyring(_) | Confinement::Home { .. } | Confinement::Landlock(_) => "",
        }
    }
}

/// The cause of a label's failure. Engines match the file in backquotes to find that a security
/// label was the cause.
fn label_cause(label: &Label, what: &str, call: Call, errno: Errno) -> Sentence {
    let file = match label {
        Label::AppArmor { .. } => "attr/apparmor/exec",
        Label::Selinux { .. } => "attr/exec",
    };
    let hint = match (label, call, errno) {
        (Label::AppArmor { .. }, Call::Write, Errno::ENOENT) => "the profile is not loaded",
        (Label::Selinux { .. }, Call::Write, Errno::EINVAL) => "the policy knows no such label",
        _ => "",
    };
    let (before, errno) = (after_colon(hint), errno_text(errno));
    let text = format!("{what}: write to `/proc/self/{file}`{before}: {errno}");
    (text, hint)
}

fn sysctl_cause(sysctl: &Sysctl, fault: &Fault) -> Option<Sentence> {
    let Cause::Call(call, errno) = fault.cause else {
        return None;
    };
    let cause = match (call, errno) {
        (Call::Openat2 | Call::Open, Errno::ENOENT) => {
            "this kernel has no such key, or not in this namespace"
        }
        (_, Errno::EPERM | Errno::EACCES) => {
            "the key is read-only, or belongs to the host's root and not to this user namespace"
        }
        (Call::Write, Errno::EINVAL) if sysctl.key.ends_with("ping_group_range") => {
            "the group ids must be mapped in the user namespace"
        }
        (Call::Write, Errno::EINVAL) => "the kernel does not take this value",
        _ => return None,
    };
    let Sysctl { key, value, .. } = sysctl;
    let errno = errno_text(errno);
    let text = format!("linux.sysctl: {key}={value}: {cause}: {errno}");
    Some((text, cause))
}

/// Why `program`, the process's `args[0]`, could not be found or executed. Engines match these
/// texts. `remark` is what [`crate::examine`] has found.
#[must_use]
pub fn explain_exec(program: &CStr, fault: &Fault, remark: &[u8]) -> Report {
    let hint = exec_hint(fault.cause, remark);
    let cause = match fault.cause {
        Cause::Call(_, Errno::ENOENT) => "no such file or directory",
        Cause::Call(_, Errno::EACCES) => "permission denied",
        Cause::Call(_, Errno::ENOEXEC) => "exec format error",
        Cause::Call(_, errno) => &errno_text(errno),
        Cause::Check(check) => Check::text(check),
        Cause::Exit(_) => &cause_text(fault.cause),
    };
    let because = after_colon(&hint);
    let sentence = match fault.cause {
        // Found, but not executed.
        Cause::Call(Call::Exec, _) => format!("exec {}: {cause}{because}", text(program)),
        _ => format!("exec: {:?}: {cause}{because}", text(program)),
    };
    let detail = Detail::new(exec_code(fault.cause))
        .path("process.args[0]")
        .errno(cause_errno(fault.cause));
    Report::new(sentence, detail.hint(hint))
}

/// A hint for a failed execve(2), where the errno alone does not show the cause.
fn exec_hint(cause: Cause, remark: &[u8]) -> String {
    let (found, remark) = examined::found(remark);
    let examined = Examined::read(remark).map(|examined| examined.to_string());
    match (found, examined) {
        (Some(path), examined) => {
            let path = coracle_text::one_line(&String::from_utf8_lossy(path));
            let examined = examined.unwrap_or_else(|| "it may not be executed".to_owned());
            return format!("{path} was found, but {examined}");
        }
        (None, Some(examined)) => return examined,
        (None, None) => {}
    }
    let Cause::Call(Call::Exec, errno) = cause else {
        return String::new();
    };
    match errno {
        Errno::ENOENT => "its interpreter is missing",
        Errno::E2BIG => {
            "process.args and process.env are larger than the kernel takes: 128 KiB each text, and \
             a quarter of RLIMIT_STACK in all"
        }
        Errno::ETXTBSY => "a process has it open for writing",
        Errno::EAGAIN => "its user has more processes than RLIMIT_NPROC",
        _ => "",
    }
    .to_owned()
}

fn exec_code(cause: Cause) -> Code {
    match cause {
        Cause::Call(Call::Exec, Errno::ENOENT) => Code::ExecNoInterpreter,
        Cause::Call(_, Errno::ENOENT | Errno::ENOTDIR) => Code::ExecNotFound,
        Cause::Call(_, Errno::EACCES | Errno::EPERM) => Code::ExecNotPermitted,
        Cause::Call(_, Errno::ENOEXEC) => Code::ExecWrongFormat,
        cause if cause == Check::NotInPath.into() => Code::ExecNotFound,
        cause if cause == Check::IsDirectory.into() || cause == Check::NotRegular.into() => {
            Code::ExecNotPermitted
        }
        _ => Code::ExecFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{config, options};
    use super::super::plan;
    use super::*;
    use coracle_host::fixture::v2;

    const PROCESS: &str = r#",
        "terminal": true, "user": {"uid": 7, "gid": 8, "additionalGids": [9]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}],
        "scheduler": {
            "policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000, "period": 4000
        },
        "apparmorProfile": "strict"
    "#;
    const LINUX: &str = r#",
        "sysctl": {"net.ipv4.ping_group_range": "0 1"}, "memoryPolicy": {"mode": "MPOL_LOCAL"}
    "#;

    /// The sentence for a fault of the first step whose description begins so.
    fn check(step: &str, cause: impl Into<Cause>, expected: &str) {
        let host = coracle_host::Host {
            apparmor: true.into(),
            ..v2()
        };
        let groups = coracle_host::Setgroups::Allowed;
        let plan = plan(&config(PROCESS, LINUX), &host, &options(), groups).expect("a plan");
        let number = (0..plan.steps()).find(|number| plan.describe(*number).starts_with(step));
        let fault = Fault::new(number.expect("such a step"), cause);
        assert_eq!(plan.explain(&fault, b"").text, expected);
    }

    #[test]
    fn programs_in_the_words_that_engines_look_for() {
        let check = |program: &std::ffi::CStr, cause: Cause, expected: &str| {
            assert_eq!(
                explain_exec(program, &Fault::new(0, cause), b"").text,
                expected
            );
        };
        let access = |errno| Cause::Call(Call::Access, errno);
        let exec = |errno| Cause::Call(Call::Exec, errno);
        let missing = r#"exec: "foo": executable file not found in $PATH"#;
        check(c"foo", Check::NotInPath.into(), missing);
        check(
            c"/foo",
            access(Errno::ENOENT),
            r#"exec: "/foo": no such file or directory"#,
        );
        let directory = r#"exec: "/etc": permission denied (is a directory)"#;
        check(c"/etc", Check::IsDirectory.into(), directory);
        check(
            c"/x",
            access(Errno::EACCES),
            r#"exec: "/x": permission denied"#,
        );
        check(c"/x", exec(Errno::EACCES), "exec /x: permission denied");
        check(c"./x", exec(Errno::ENOEXEC), "exec ./x: exec format error");
        let script = "exec x: no such file or directory: its interpreter is missing";
        check(c"x", exec(Errno::ENOENT), script);
        check(
            c"/x/y",
            access(Errno::ENOTDIR),
            r#"exec: "/x/y": not a directory (ENOTDIR)"#,
        );
    }

    #[test]
    fn sysctls_with_key_value_and_cause() {
        let check = |fault, cause| {
            let key = "linux.sysctl: net.ipv4.ping_group_range=0 1";
            check("set sysctl", fault, &format!("{key}: {cause}"));
        };
        check(
            (Call::Write, Errno::EINVAL),
            "the group ids must be mapped in the user namespace: invalid argument (EINVAL)",
        );
        check(
            (Call::Openat2, Errno::ENOENT),
            "this kernel has no such key, or not in this namespace: not found (ENOENT)",
        );
        check(
            (Call::Write, Errno::EPERM),
            "the key is read-only, or belongs to the host's root and not to this user namespace: \
             operation not permitted (EPERM)",
        );
    }

    #[test]
    fn what_the_user_cannot_know() {
        check(
            "join session",
            (Call::Keyctl, Errno::EDQUOT),
            "join session keyring _ses.web1: the user's quota of keys is used up, see \
             kernel.keys.maxkeys and /proc/key-users, or run with --no-new-keyring: \
             disk quota exceeded (EDQUOT)",
        );
        check(
            "limit",
            (Call::Setrlimit, Errno::EPERM),
            "process.rlimits: RLIMIT_NOFILE to 1024:4096: above what the runtime may give \
             (fs.nr_open is the most): operation not permitted (EPERM)",
        );
        check(
            "set scheduler",
            (Call::Scheduler, Errno::EPERM),
            "set scheduler SCHED_DEADLINE, runtime 2000, deadline 3000, period 4000 ns: \
             SCHED_DEADLINE takes CAP_SYS_NICE and a cpuset of all CPUs: \
             operation not permitted (EPERM)",
        );
        check(
            "set scheduler",
            (Call::Scheduler, Errno::EOPNOTSUPP),
            "set scheduler SCHED_DEADLINE, runtime 2000, deadline 3000, period 4000 ns: \
             the kernel is built without CONFIG_UCLAMP_TASK: \
             operation not supported (EOPNOTSUPP)",
        );
        check(
            "set memory",
            (Call::MemoryPolicy, Errno::ENOSYS),
            "set memory policy MPOL_LOCAL: the kernel has no NUMA support: \
             function not implemented (ENOSYS)",
        );
        check(
            "set AppArmor",
            (Call::Write, Errno::ENOENT),
            "set AppArmor profile strict: write to `/proc/self/attr/apparmor/exec`: \
             the profile is not loaded: not found (ENOENT)",
        );
        check(
            "open a terminal",
            Check::NotDevpts,
            "process.terminal: /dev/pts is not a devpts of the container",
        );
    }

    #[test]
    fn ids_that_are_not_mapped() {
        check(
            "become",
            (Call::Setuid, Errno::EINVAL),
            "process.user.uid: 7 is not mapped in the user namespace",
        );
        check(
            "become",
            (Call::Setgroups, Errno::EINVAL),
            "process.user.additionalGids: [9] are not all mapped in the user namespace",
        );
        check(
            "become",
            (Call::Setgroups, Errno::EPERM),
            "process.user.additionalGids: [9] cannot be set, setgroups is not allowed here",
        );
    }

    #[test]
    fn a_directory_outside_is_a_breakout() {
        // CVE-2024-21626.
        check(
            "change directory",
            Check::OutsideRoot,
            r#"process.cwd: "/": is not below the root: possible container breakout"#,
        );
        check(
            "change directory",
            (Call::Openat2, Errno::ELOOP),
            "process.cwd: \"/\": goes through a magic link or a loop: possible container breakout",
        );
        check(
            "change directory",
            (Call::Mkdir, Errno::EROFS),
            r#"process.cwd: "/": cannot be made: read-only file system (EROFS)"#,
        );
        check(
            "change directory",
            (Call::Openat2, Errno::ENOENT),
            r#"process.cwd: "/": no such file or directory"#,
        );
    }

    #[test]
    fn anything_else_names_the_step_and_the_call() {
        check(
            "start a new",
            (Call::Setsid, Errno::EPERM),
            "start a new session: setsid: operation not permitted (EPERM)",
        );
    }
}
