//! A scenario: a verb, on a container of some kind.

use std::os::unix::net::UnixDatagram;

use coracle_integration::{Bundle, Command, Runtime, json, machine};

/// A verb of the runtime, with what has to be there before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Run,
    RunDetached,
    Start,
    Exec,
    Kill,
    Delete,
    DeleteForce,
    Update,
    Pause,
    Resume,
}

/// A kind of container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Plain,
    Seccomp,
    Hooks,
    UserNamespace,
    Terminal,
    Network,
    Notify,
    Systemd,
    /// In the pid namespace and the user namespace of another container.
    Joined,
}

/// One of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) verb: Verb,
    pub(crate) variant: Variant,
}

const fn of(verb: Verb, variant: Variant) -> Scenario {
    Scenario { verb, variant }
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    of(Verb::Create, Variant::Plain),
    of(Verb::Create, Variant::Seccomp),
    of(Verb::Create, Variant::Hooks),
    of(Verb::Create, Variant::UserNamespace),
    of(Verb::Create, Variant::Terminal),
    of(Verb::Create, Variant::Network),
    of(Verb::Create, Variant::Notify),
    of(Verb::Create, Variant::Systemd),
    of(Verb::Create, Variant::Joined),
    of(Verb::Run, Variant::Plain),
    of(Verb::Run, Variant::Seccomp),
    of(Verb::Run, Variant::Hooks),
    of(Verb::Run, Variant::UserNamespace),
    of(Verb::Run, Variant::Network),
    of(Verb::Run, Variant::Systemd),
    of(Verb::Run, Variant::Joined),
    of(Verb::RunDetached, Variant::Plain),
    of(Verb::RunDetached, Variant::Network),
    of(Verb::Start, Variant::Plain),
    of(Verb::Start, Variant::Hooks),
    of(Verb::Exec, Variant::Plain),
    of(Verb::Exec, Variant::Seccomp),
    of(Verb::Exec, Variant::UserNamespace),
    of(Verb::Kill, Variant::Plain),
    of(Verb::Delete, Variant::Plain),
    of(Verb::Delete, Variant::Hooks),
    of(Verb::Delete, Variant::Network),
    of(Verb::Delete, Variant::Systemd),
    of(Verb::DeleteForce, Variant::Plain),
    of(Verb::DeleteForce, Variant::Hooks),
    of(Verb::DeleteForce, Variant::UserNamespace),
    of(Verb::DeleteForce, Variant::Network),
    of(Verb::DeleteForce, Variant::Systemd),
    of(Verb::Update, Variant::Plain),
    of(Verb::Update, Variant::Systemd),
    of(Verb::Pause, Variant::Plain),
    of(Verb::Pause, Variant::Systemd),
    of(Verb::Resume, Variant::Plain),
];

/// A network plugin that agrees with everything.
const PLUGIN: &str = r#"cat >/dev/null; case $CNI_COMMAND in ADD)
    echo '{"cniVersion":"1.1.0","interfaces":[],"ips":[{"address":"10.7.0.2/24"}],"dns":{}}';; esac"#;

/// The fixtures of a scenario.
pub(crate) struct Stage {
    pub(crate) runtime: Runtime,
    scenario: Scenario,
    bundle: Bundle,
    /// Takes what a service manager would be notified of.
    _manager: Option<UnixDatagram>,
    /// Its container's namespaces are joined. What is of it is not left behind by a verb.
    _other: Option<Runtime>,
}

impl Scenario {
    /// `run/hooks`
    pub(crate) fn name(&self) -> String {
        format!("{:?}/{:?}", self.verb, self.variant).to_lowercase()
    }

    /// Why it cannot be tried on this machine.
    pub(crate) fn lacks(&self) -> Option<&'static str> {
        match self.variant {
            Variant::Systemd if !machine().has_systemd => Some("needs systemd"),
            _ => None,
        }
    }

    /// Whether others may stop what the verb clones.
    pub(crate) fn is_shared(&self) -> bool {
        self.variant == Variant::Joined
    }

    /// Whether the container outlives the verb untouched, and serves the next try.
    pub(crate) fn spares(&self) -> bool {
        matches!(self.verb, Verb::Exec | Verb::Update)
    }
}

impl Stage {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let mut runtime = Runtime::new();
        let mut manager = None;
        match scenario.variant {
            Variant::Systemd => runtime = runtime.options(["--systemd-cgroup"]),
            Variant::Network => {
                runtime.folder().folder("conf");
                runtime.folder().folder("bin");
                let list = json!({"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "p"}]});
                runtime.folder().file("conf/n.conflist", &list.to_string());
                runtime.folder().script("bin/p", PLUGIN);
            }
            Variant::Notify => {
                let path = runtime.folder().join("notify");
                manager = Some(UnixDatagram::bind(&path).expect("a socket"));
                runtime = runtime.variable("NOTIFY_SOCKET", &path.display().to_string());
            }
            _ => {}
        }
        let mut bundle = bundle(&runtime, scenario);
        if scenario.variant == Variant::Joined {
            // The root filesystem is the mapped root's; the ids are those of the other container.
            bundle = bundle.user_namespace();
        }
        let other = (scenario.variant == Variant::Joined).then(Runtime::new);
        if let Some(other) = &other {
            let first = other.bundle().user_namespace().args(["sleep", "100000"]);
            let pid = other.start(&first).pid();
            for kind in ["pid", "user"] {
                bundle = bundle.join_namespace(kind, &format!("/proc/{pid}/ns/{kind}"));
            }
        }
        Self {
            runtime,
            scenario,
            bundle,
            _manager: manager,
            _other: other,
        }
    }

    /// Brings a new container to where the verb begins, and returns its id.
    pub(crate) fn prepare(&self) -> String {
        let id = self.runtime.id();
        let before = match self.scenario.verb {
            Verb::Create | Verb::Run | Verb::RunDetached => return id,
            Verb::Start => "create",
            _ => "run",
        };
        let mut command = self.with_bundle(before);
        if before == "run" {
            command = command.arg("--detach");
        }
        command.arg(&id).output().ok();
        match self.scenario.verb {
            Verb::Resume => self.plain(["pause", &id]),
            Verb::Delete => {
                self.plain(["kill", &id, "KILL"]);
                self.await_end(&id);
            }
            _ => {}
        }
        id
    }

    /// The verb on this container.
    pub(crate) fn command(&self, id: &str) -> Command {
        let command = match self.scenario.verb {
            Verb::Create => self.with_bundle("create"),
            Verb::Run => self.with_bundle("run"),
            Verb::RunDetached => self.with_bundle("run").arg("--detach"),
            Verb::Start => self.runtime.command(["start"]),
            Verb::Exec => self.runtime.command(["exec"]),
            Verb::Kill => self.runtime.command(["kill"]),
            Verb::Delete => self.runtime.command(["delete"]),
            Verb::DeleteForce => self.runtime.command(["delete", "--force"]),
            Verb::Update => self.runtime.command(["update", "--pids-limit", "70"]),
            Verb::Pause => self.runtime.command(["pause"]),
            Verb::Resume => self.runtime.command(["resume"]),
        };
        let command = command.arg(id).limit(10);
        match self.scenario.verb {
            Verb::Exec => command.arg("true"),
            Verb::Kill => command.arg("KILL"),
            _ => command,
        }
    }

    fn with_bundle(&self, verb: &str) -> Command {
        let command = self.runtime.with_bundle(verb, &self.bundle);
        let folder = |name: &str| self.runtime.folder().join(name).display().to_string();
        match self.scenario.variant {
            Variant::Network => command.args([
                "--cni-conf-dir",
                &folder("conf"),
                "--cni-bin-dir",
                &folder("bin"),
                "--network",
                "n",
            ]),
            Variant::Terminal => command.args(["--console-socket", &folder("console")]),
            _ => command,
        }
    }

    fn plain<const N: usize>(&self, words: [&str; N]) {
        self.runtime.command(words).output().ok();
    }

    fn await_end(&self, id: &str) {
        coracle_integration::wait_until("the container's end", || {
            let state = self.runtime.command(["state", id]).output();
            state.stdout.contains("\"stopped\"")
        });
    }
}

fn bundle(runtime: &Runtime, scenario: Scenario) -> Bundle {
    let limits = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 60}});
    let bundle = runtime.bundle().set("/linux/resources", limits);
    let bundle = match scenario.verb {
        Verb::Run => bundle.args(["true"]),
        _ => bundle.args(["sleep", "1000"]),
    };
    match scenario.variant {
        Variant::Seccomp => bundle.set(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["swapon", "reboot"], "action": "SCMP_ACT_ERRNO"}],
            }),
        ),
        Variant::Hooks => {
            let points = [
                "prestart",
                "createRuntime",
                "createContainer",
                "startContainer",
                "poststart",
                "poststop",
            ];
            points.iter().fold(bundle, |bundle, point| {
                bundle.hook(point, json!({"path": "/bin/true"}))
            })
        }
        Variant::UserNamespace => bundle.user_namespace(),
        Variant::Terminal => bundle.set("/process/terminal", json!(true)),
        _ => bundle,
    }
}
