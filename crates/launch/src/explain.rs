//! The plan as text: all of it for `explain`, one step of it for an error.

use std::ops::Range;

use coracle_bundle::{Config, HookPoint, NetDevice};
use coracle_sys::{Call, Cause, Fault};
use coracle_text::{Code, Detail, Report, cause_errno, cause_text};
use serde::Serialize;

use crate::error::Error;
use crate::filter::{Filter, Moment};
use crate::message::{Check, Stage};
use crate::plan::Plan;

/// One part of the plan, with its steps in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageText {
    /// The name of the part.
    pub name: &'static str,
    /// Who carries them out: `runtime` or `init`.
    pub actor: &'static str,
    /// One sentence for each step.
    pub steps: Vec<String>,
    /// The point of the launch by which all of them are done.
    #[serde(skip)]
    pub point: Point,
}

/// A point of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The cgroup is made.
    Prepared,
    /// Init has been cloned and has done nothing yet.
    Cloned,
    /// The mounts are attached.
    Mounted,
    /// Init waits for its start.
    Created,
    /// The program runs.
    Started,
    /// No point of init's work: hooks of the runtime and network plugins.
    Elsewhere,
}

impl Plan {
    /// The whole plan in the order in which it is carried out; parts without steps are left out.
    #[must_use]
    pub fn stages(&self) -> Vec<StageText> {
        let hooks = |point| {
            (0..self.hooks.steps(point))
                .map(|step| self.hooks.describe(point, step))
                .collect()
        };
        let namespaces = (0..self.namespaces.steps()).map(|step| self.namespaces.describe(step));
        let rootfs = |phase: usize| {
            let plan = self.rootfs.as_ref();
            let steps = plan.and_then(|plan| plan.phases().get(phase).cloned());
            let steps = steps.unwrap_or_default();
            steps
                .filter_map(|step| Some(plan?.describe(step)))
                .collect()
        };
        let process = |steps: Range<usize>| steps.map(|step| self.process.describe(step)).collect();
        let machine = self.process.machine_steps();
        let privilege_drop = self.process.privilege_drop_steps();
        let last = self.process.steps().saturating_sub(1);
        let cgroups = self.cgroups.as_ref().map(coracle_cgroups::Plan::describe);
        let (runtime, init) = (stage("runtime"), stage("init"));
        let (before, after) = (Moment::Privileged, Moment::Last);
        let (prestart, start) = (HookPoint::Prestart, HookPoint::StartContainer);
        use Point::{Cloned, Created, Elsewhere, Mounted, Prepared, Started};
        let mut stages = vec![
            runtime("cgroup", Prepared, cgroups.unwrap_or_default()),
            runtime("inherited", Cloned, process(0..machine.start)),
            runtime("network", Elsewhere, self.network_steps()),
            init("namespaces", Mounted, namespaces.collect()),
            init("mounts", Mounted, rootfs(0)),
            runtime("prestart hooks", Elsewhere, hooks(prestart)),
            runtime(
                "createRuntime hooks",
                Elsewhere,
                hooks(HookPoint::CreateRuntime),
            ),
            init(
                "createContainer hooks",
                Created,
                hooks(HookPoint::CreateContainer),
            ),
            init("root", Created, rootfs(1)),
            init("machine", Created, process(machine.clone())),
            init("paths", Created, rootfs(2)),
            init(
                "process",
                Created,
                process(machine.end..privilege_drop.start),
            ),
            init("system calls", Created, self.filter_steps(before)),
            init("user", Created, process(privilege_drop)),
            init("system calls", Created, self.filter_steps(after)),
            init("startContainer hooks", Started, hooks(start)),
            init("program", Started, process(last..last + 1)),
            runtime("poststart hooks", Elsewhere, hooks(HookPoint::Poststart)),
            runtime("poststop hooks", Elsewhere, hooks(HookPoint::Poststop)),
        ];
        stages.retain(|stage| !stage.steps.is_empty());
        stages
    }

    /// The networks that the container is attached to, and the devices that it gets.
    fn network_steps(&self) -> Vec<String> {
        let networks = self.network.as_ref().map(coracle_cni::Plan::describe);
        let mut steps = networks.unwrap_or_default();
        let devices = self.namespaces.devices.iter();
        steps.extend(devices.map(|NetDevice { host_name, name }| {
            format!("move the network device {host_name} into the container as {name}")
        }));
        steps
    }

    /// The filter's steps, if it is loaded at that moment.
    fn filter_steps(&self, moment: Moment) -> Vec<String> {
        match &self.filter {
            Some(Filter {
                program,
                moment: own,
                ..
            }) if *own == moment => (0..program.steps())
                .map(|step| program.describe(step))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The message for a failure that init reported.
    pub(crate) fn explain(&self, failure: &Failure) -> Report {
        let (fault, remark) = (&failure.fault, failure.remark.as_slice());
        let point = match failure.stage {
            Stage::CreateContainer => HookPoint::CreateContainer,
            Stage::StartContainer => HookPoint::StartContainer,
            Stage::Namespaces => return self.namespaces.explain(fault),
            Stage::Process => return self.explain_process(fault, remark),
            Stage::Seccomp => {
                return match &self.filter {
                    Some(filter) => filter.program.explain(fault),
                    None => plain("the seccomp filter", fault.cause),
                };
            }
            Stage::Rootfs => {
                return match &self.rootfs {
                    Some(rootfs) => {
                        rootfs.explain(fault, &coracle_rootfs::examine(rootfs, fault, remark))
                    }
                    None => plain("the root file system", fault.cause),
                };
            }
            Stage::Cgroup => return plain("join the container's cgroup", fault.cause),
            Stage::Session => return plain("prepare init", fault.cause),
        };
        self.hooks.explain(point, fault, &failure.output)
    }
}

impl Plan {
    /// The message for a failed step of the process. The filter may have refused execve(2).
    fn explain_process(&self, fault: &Fault, remark: &[u8]) -> Report {
        let mut report = self.process.explain(fault, remark);
        let barred = self.filter.iter().flat_map(|filter| &filter.barred);
        let is_barred = barred.into_iter().any(|(call, _)| *call == "execve");
        if is_barred && matches!(fault.cause, Cause::Call(Call::Exec, _)) {
            report.detail = Detail {
                code: Code::SeccompBarsRuntime,
                ..report
                    .detail
                    .hint("the seccomp profile does not allow execve")
            };
        }
        report
    }
}

/// A failure that init reported, before it is put into words.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The part of init's work.
    pub stage: Stage,
    /// The step, and why it failed.
    pub fault: Fault,
    /// What init has found out about it.
    pub remark: Vec<u8>,
    /// The output of init's hooks, on one line.
    pub output: String,
}

impl Failure {
    /// The error with this message for it.
    pub(crate) fn reported(&self, mut report: Report) -> Error {
        report.detail = report.detail.stage(self.stage.name());
        Error::Init(Box::new(report))
    }
}

fn stage(actor: &'static str) -> impl Fn(&'static str, Point, Vec<String>) -> StageText {
    move |name, point, steps| StageText {
        name,
        actor,
        steps,
        point,
    }
}

/// The sentence for a failure that no plan describes.
pub(crate) fn plain(what: &str, cause: Cause) -> Report {
    let text = match cause {
        Cause::Check(check) => format!("{what}: {}", Check::text(check)),
        cause => format!("{what}: {}", cause_text(cause)),
    };
    let detail = Detail::new(Code::RuntimeFailed).errno(cause_errno(cause));
    Report::new(text, detail)
}

/// The error for a failure that init reported after it was created: of a startContainer hook or
/// execve(2). `start` has no plan any more, only the stored config.
#[must_use]
pub fn explain_start(config: &Config, failure: &Failure) -> Error {
    let fault = &failure.fault;
    failure.reported(match failure.stage {
        Stage::StartContainer => coracle_hooks::plan(&config.hooks, [None, None], &[]).explain(
            HookPoint::StartContainer,
            fault,
            &failure.output,
        ),
        _ => match config
            .process
            .as_ref()
            .and_then(|process| process.args.first())
        {
            Some(program) => coracle_process::explain_exec(program, fault, &failure.remark),
            None => plain("start", fault.cause),
        },
    })
}
