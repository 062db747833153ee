//! Makes the list of steps from the config and the host's facts.

pub(crate) mod affinity;
pub(crate) mod capabilities;
mod confinement;
pub(crate) mod describe;
pub(crate) mod examined;
pub(crate) mod explain;
#[cfg(test)]
pub(crate) mod fixture;
mod identity;
mod landlock;
pub(crate) mod steps;
mod sysctl;
pub(crate) mod working_directory;

use crate::Error;
use coracle_bundle::{Config, Process};
use coracle_host::{Host, Needs, Setgroups};
use coracle_sys::Capability;
use steps::{Inheritance, Options, Plan, Program, Setting, StreamSource, Streams, Subject};
use working_directory::WorkingDirectory;

/// The facts that [`plan`] and [`plan_exec`] need for this process.
#[must_use]
pub fn needs(config: &Config, process: Option<&Process>) -> Needs {
    Needs {
        apparmor: process.is_some_and(|process| process.apparmor_profile.is_some()),
        selinux: process.is_some_and(|process| process.selinux_label.is_some()),
        landlock: config.landlock.is_some(),
        nodes: config.linux.memory_policy.is_some(),
        ..Needs::default()
    }
}

/// Plans the container's own process for `create` and `run`. `groups` is of its user namespace.
///
/// # Errors
///
/// A property that this host or user namespace cannot provide, with its JSON path.
pub fn plan(
    config: &Config,
    host: &Host,
    options: &Options,
    groups: Setgroups,
) -> Result<Plan, Error> {
    let none = without_process();
    let process = config.process.as_ref().unwrap_or(&none);
    let (machine, separate) = sysctl::machine(config, host);
    let subject = Subject {
        process,
        config,
        host,
        options,
        groups,
    };
    let mut plan = compose(&subject)?;
    identity::let_exec_join(&subject, &mut plan.privilege_drop);
    plan.machine = machine;
    // Made before the root becomes read-only.
    if !plan.cwd.levels.is_empty() {
        plan.machine.push(Setting::WorkingDirectory);
    }
    plan.separate = separate;
    Ok(plan)
}

/// Plans one more process, for `exec`. `config` has the properties of the container as a whole.
/// Unlike [`plan`] it makes no missing working directory: that is an error, as with runc and crun.
///
/// # Errors
///
/// As [`plan`].
pub fn plan_exec(
    process: &Process,
    config: &Config,
    host: &Host,
    options: &Options,
    groups: Setgroups,
) -> Result<Plan, Error> {
    let mut plan = compose(&Subject {
        process,
        config,
        host,
        options,
        groups,
    })?;
    affinity::of_exec(&process.exec_cpu_affinity, &mut plan);
    Ok(plan)
}

fn compose(subject: &Subject) -> Result<Plan, Error> {
    let mut warnings = Vec::new();
    let privilege_drop = identity::privilege_drop(subject, &mut warnings)?;
    Ok(Plan {
        inheritance: inheritance(subject),
        separate: Vec::new(),
        machine: Vec::new(),
        streams: streams(subject),
        confinement: confinement::steps(subject)?,
        privilege_drop,
        cwd: WorkingDirectory::new(&subject.process.cwd)?,
        program: Program::new(subject.process, &subject.options.environment),
        preserved_fds: subject.options.preserved_fds.clone(),
        warnings,
    })
}

fn inheritance(subject: &Subject) -> Vec<Inheritance> {
    let mut steps = Vec::new();
    if let Some(value) = subject.process.oom_score_adj {
        // Without privileges the score can be raised, but not lowered. Engines set a lower one all
        // the same, so a refusal is only a warning then.
        let refusal =
            match subject.host.has(Capability::SysResource) && !subject.host.in_user_namespace {
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
                .filter(|size| size.height != 0 && size.width != 0),
        },
    };
    Streams {
        source,
        uid: process.user.uid,
    }
}

/// The process of a config without `process`, which can be created but not started (config.md §
/// Process).
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

#[cfg(test)]
mod tests {
    use super::fixture::{config, config_in_user_namespace, options, planned, text};
    use super::*;
    use coracle_host::fixture::{unprivileged, v2};
    use expect_test::{Expect, expect};

    fn check(config: &Config, host: &Host, expected: &Expect) {
        expected.assert_eq(&planned(config, host, &options()));
    }

    #[test]
    fn a_bare_process() {
        check(
            &config("", ""),
            &v2(),
            &expect![[r#"
                set hostname web1
                start a new session
                hand standard streams to uid 0
                join session keyring _ses.web1
                run on all CPUs
                set HOME from /etc/passwd for uid 0
                change directory to /
                set umask 0022
                bound capabilities to none
                become 0:0
                clear the parent-death signal
                keep capabilities none
                change directory to / if root could not
                look up "sh"
                execute sh
            "#]],
        );
    }

    #[test]
    fn everything_in_order() {
        let process = r#",
            "env": ["PATH=/bin", "HOME=/root"],
            "terminal": true, "consoleSize": {"height": 24, "width": 80},
            "user": {"uid": 1000, "gid": 100, "umask": 63, "additionalGids": [10, 20]},
            "capabilities": {
                "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
                "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}],
            "noNewPrivileges": true, "oomScoreAdj": 500,
            "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7}
        "#;
        let linux = r#",
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "personality": {"domain": "LINUX32"},
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-1"}
        "#;
        check(
            &config(process, linux),
            &v2(),
            &expect![[r#"
                set OOM score adjustment 500
                make room for limits RLIMIT_NOFILE 4096
                set hostname web1
                set sysctl net.ipv4.ip_forward=1
                start a new session
                open a terminal of 80x24 for uid 1000
                join session keyring _ses.web1
                run on all CPUs
                set scheduler SCHED_BATCH, nice 5
                set I/O priority best effort 7
                set memory policy MPOL_BIND on nodes 0-1
                set personality LINUX32
                change directory to /
                set umask 0077
                limit RLIMIT_NOFILE to 1024:4096
                bound capabilities to cap_chown,cap_kill
                become 1000:100 (groups 10,20)
                clear the parent-death signal
                keep capabilities cap_chown,cap_kill, effective cap_kill, inheritable cap_kill
                make ambient cap_kill
                change directory to / if root could not
                look up "sh"
                set no_new_privs
                execute sh
            "#]],
        );
    }

    #[test]
    fn a_user_namespace_grants_what_its_runtime_lacks() {
        let process = r#", "capabilities": {"bounding": ["CAP_SYS_ADMIN"]}, "oomScoreAdj": -5"#;
        check(
            &config_in_user_namespace(process),
            &unprivileged(),
            &expect![[r#"
                set OOM score adjustment -5
                set hostname web1
                start a new session
                hand standard streams to uid 0
                join session keyring _ses.web1
                run on all CPUs
                set HOME from /etc/passwd for uid 0
                change directory to /
                set umask 0022
                bound capabilities to cap_sys_admin
                become 0:0
                clear the parent-death signal
                keep capabilities none
                change directory to / if root could not
                look up "sh"
                let exec join before the start
                execute sh
            "#]],
        );
    }

    #[test]
    fn exec_leaves_the_machine_alone() {
        let process = r#", "execCPUAffinity": {"initial": "0-3,8", "final": "2"}"#;
        let config = config(process, r#", "sysctl": {"net.ipv4.ip_forward": "1"}"#);
        let process = config.process.clone().expect("a process");
        let plan =
            plan_exec(&process, &config, &v2(), &options(), Setgroups::Allowed).expect("a plan");
        expect![[r#"
            start on CPUs 0-3,8 (affinity: 0x10f)
            start a new session
            hand standard streams to uid 0
            join session keyring _ses.web1
            run on CPUs 2 (affinity: 0x4)
            set HOME from /etc/passwd for uid 0
            change directory to /
            set umask 0022
            bound capabilities to none
            become 0:0
            clear the parent-death signal
            keep capabilities none
            change directory to / if root could not
            look up "sh"
            execute sh
        "#]]
        .assert_eq(&text(&plan));
    }

    #[test]
    fn a_config_without_process_can_be_created() {
        let mut config = config("", "");
        config.process = None;
        check(
            &config,
            &v2(),
            &expect![[r#"
                set hostname web1
                start a new session
                hand standard streams to uid 0
                join session keyring _ses.web1
                run on all CPUs
                set HOME from /etc/passwd for uid 0
                change directory to /
                set umask 0022
                bound capabilities to none
                become 0:0
                clear the parent-death signal
                keep capabilities none
                change directory to / if root could not
                execute 
            "#]],
        );
    }

    #[test]
    fn memory_comes_from_nodes_that_are_there() {
        let with = |flags: &str| {
            let policy = format!(r#""mode": "MPOL_BIND", "nodes": "1-2", "flags": [{flags}]"#);
            let config = config("", &format!(r#", "memoryPolicy": {{{policy}}}"#));
            planned(&config, &v2(), &options())
        };
        let missing =
            "error: linux.memoryPolicy.nodes: invalid memory policy: node 2 is not online\n";
        assert_eq!(with(""), missing);
        assert_eq!(with(r#""MPOL_F_STATIC_NODES""#), missing);
        assert!(with(r#""MPOL_F_RELATIVE_NODES""#).contains("on nodes 1-2"));
    }

    #[test]
    fn a_labelled_process_needs_its_module() {
        let apparmor = config(r#", "apparmorProfile": "docker-default""#, "");
        let selinux = config(r#", "selinuxLabel": "a:b:c""#, "");
        assert_eq!(
            planned(&apparmor, &v2(), &options()),
            "error: process.apparmorProfile: \"docker-default\": \
             AppArmor is not enabled on this host\n"
        );
        assert_eq!(
            planned(&selinux, &v2(), &options()),
            "error: process.selinuxLabel: \"a:b:c\": selinux label is specified in config, \
             but selinux is disabled or not supported\n"
        );
        let host = Host {
            apparmor: true.into(),
            selinux: true.into(),
            ..v2()
        };
        assert!(planned(&apparmor, &host, &options()).contains("set AppArmor profile docker-"));
        assert!(planned(&selinux, &host, &options()).contains("set SELinux label a:b:c"));
    }

    #[test]
    fn a_size_of_zero_is_none() {
        let size = r#", "terminal": true, "consoleSize": {"height": 0, "width": 9}"#;
        let unset = planned(&config(size, ""), &v2(), &options());
        assert!(unset.contains("open a terminal for uid 0"), "{unset}");
    }
}
