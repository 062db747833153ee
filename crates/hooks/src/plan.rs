//! Makes command lines of `hooks`. Pure.

use crate::error::{self, attempted};
use coracle_bundle::{Hook, HookPoint, Hooks, PerPoint};
use coracle_sys::{Fault, StringArray};
use coracle_text::{DEFAULT_PATH, Report};
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The command line of one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The absolute path.
    pub path: CString,
    /// The arguments, including `argv[0]`.
    pub argv: StringArray,
    /// The whole environment, except a HOME that init looks up.
    pub env: StringArray,
    /// Whether `env` is the process's environment, since the hook has none.
    pub of_process: bool,
    /// Whether it is killed when init ends; without a pid namespace of the container's own it would
    /// survive init. Not for `startContainer` hooks, where a seccomp filter could refuse the
    /// prctl(2).
    pub dies_with_init: bool,
    /// After this time it is killed.
    pub timeout: Option<Duration>,
}

/// The command lines of all hook points, each list in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    commands: PerPoint<Command>,
    /// Files that standard output and standard error are appended to, in place of the pipe.
    pub(crate) files: [Option<PathBuf>; 2],
}

/// The plan for these hooks; `process_env` is the environment that the process gets. `files` take
/// their standard output and standard error.
///
/// Source: config.md § POSIX-platform Hooks.
#[must_use]
pub fn plan(hooks: &Hooks, files: [Option<&Path>; 2], process_env: &[CString]) -> Plan {
    Plan {
        commands: hooks.map(|point, hook| command(point, hook, process_env)),
        files: files.map(|file| file.map(Path::to_owned)),
    }
}

fn command(point: HookPoint, hook: &Hook, process_env: &[CString]) -> Command {
    // The caller's environment is not passed on: it may hold secrets, and could change what a hook
    // does.
    let default = CString::new(format!("PATH={DEFAULT_PATH}"));
    let default: Vec<CString> = default.into_iter().collect();
    let default = match point {
        HookPoint::StartContainer => process_env,
        _ => &default,
    };
    let env = hook.env.as_deref().unwrap_or(default);
    Command {
        path: hook.path.clone(),
        argv: StringArray::new(hook.args.clone()),
        env: StringArray::new(env.to_vec()),
        of_process: point == HookPoint::StartContainer && hook.env.is_none(),
        dies_with_init: point == HookPoint::CreateContainer,
        timeout: hook
            .timeout_secs
            .map(|seconds| Duration::from_secs(seconds.into())),
    }
}

impl Plan {
    /// The commands of one point.
    #[must_use]
    pub fn at(&self, point: HookPoint) -> &[Command] {
        self.commands.at(point)
    }

    /// The number of steps at a point: one for each hook.
    #[must_use]
    pub fn steps(&self, point: HookPoint) -> usize {
        self.at(point).len()
    }

    /// Whether there is no hook at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        HookPoint::ALL
            .iter()
            .all(|point| self.at(*point).is_empty())
    }

    /// A step's name: `hook startContainer[0] /bin/check`, and the files that its output goes to.
    #[must_use]
    pub fn describe(&self, point: HookPoint, step: usize) -> String {
        let path = self
            .command(point, step)
            .map(|command| command.path.to_string_lossy());
        let mut text = describe(point, step, &path.unwrap_or_default());
        for (stream, file) in ["stdout", "stderr"].iter().zip(&self.files) {
            if let Some(file) = file {
                text.push_str(&format!(", {stream} to {}", file.display()));
            }
        }
        text
    }

    /// The sentence for a failure that init reported. `output` is the hooks' output, on one line.
    #[must_use]
    pub fn explain(&self, point: HookPoint, fault: &Fault, output: &str) -> Report {
        let timeout = self
            .command(point, fault.step)
            .and_then(|command| command.timeout);
        let failure = error::explain(fault.cause, timeout);
        let path = self
            .command(point, fault.step)
            .map(|command| command.path.to_string_lossy());
        let attempted = attempted(point, fault.step, &path.unwrap_or_default());
        let output = coracle_text::after_colon(output);
        let detail = error::detail(point, fault.step, fault.cause);
        Report::new(format!("{attempted}: {failure}{output}"), detail)
    }

    fn command(&self, point: HookPoint, step: usize) -> Option<&Command> {
        self.at(point).get(step)
    }
}

fn describe(point: HookPoint, index: usize, path: &str) -> String {
    format!("hook {}[{index}] {path}", point.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::cause;
    use coracle_program::Failure;
    use coracle_sys::Call;
    use nix::errno::Errno;

    fn hook(env: Option<Vec<CString>>) -> Hook {
        let (path, args) = (
            c"/bin/check".to_owned(),
            vec![c"check".to_owned(), c"-v".to_owned()],
        );
        Hook {
            path,
            args,
            env,
            timeout_secs: Some(2),
        }
    }

    fn env_at(point: HookPoint, env: Option<Vec<CString>>) -> Vec<CString> {
        let list = vec![hook(env)];
        let hooks = match point {
            HookPoint::StartContainer => Hooks {
                start_container: list,
                ..Hooks::default()
            },
            _ => Hooks {
                create_container: list,
                ..Hooks::default()
            },
        };
        let plan = plan(&hooks, [None, None], &[c"TERM=xterm".to_owned()]);
        let [command] = plan.at(point) else {
            panic!("one command")
        };
        assert_eq!(command.argv.get(1), Some(c"-v"));
        assert_eq!(command.timeout, Some(Duration::from_secs(2)));
        command.env.iter().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn environment_by_point() {
        let inside = env_at(HookPoint::StartContainer, None);
        assert_eq!(inside, [c"TERM=xterm".to_owned()]);
        let outside = env_at(HookPoint::CreateContainer, None);
        assert_eq!(
            outside,
            [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()]
        );
        for point in [HookPoint::StartContainer, HookPoint::CreateContainer] {
            assert_eq!(env_at(point, Some(Vec::new())), Vec::<CString>::new());
            let own = vec![c"A=1".to_owned()];
            assert_eq!(env_at(point, Some(own.clone())), own);
        }
    }

    #[test]
    fn reports_of_init_become_sentences() {
        let start_container = vec![hook(None), hook(None)];
        let plan = plan(
            &Hooks {
                start_container,
                ..Hooks::default()
            },
            [None, Some(Path::new("/log"))],
            &[],
        );
        let name = "hook startContainer[1] /bin/check, stderr to /log";
        assert_eq!(plan.describe(HookPoint::StartContainer, 1), name);
        let point = HookPoint::StartContainer;
        assert_eq!(plan.steps(point), 2);
        let say = |failure: Failure, output: &str| {
            let text = plan
                .explain(point, &Fault::new(1, cause(failure)), output)
                .text;
            let rest = text.strip_prefix("error running startContainer hook #1: /bin/check: ");
            rest.expect("the name of the step").to_owned()
        };
        assert_eq!(say(Failure::Start(Errno::ENOENT), ""), "not found (ENOENT)");
        assert_eq!(say(Failure::Status(3), "no disk"), "exit status 3: no disk");
        assert_eq!(say(Failure::Status(127), ""), "exit status 127");
        assert_eq!(say(Failure::Status(200), ""), "exit status 200");
        assert_eq!(say(Failure::Signal(9), ""), "killed by signal 9");
        assert_eq!(say(Failure::TimeOut(None), ""), "timed out after 2 s");
        let failure = Failure::Call(Call::Clone, Errno::ENOMEM);
        assert_eq!(say(failure, ""), "clone3: cannot allocate memory (ENOMEM)");
    }
}
