//! cri-o as Kubernetes uses it, where it is installed. Debian has none: what it asks of a runtime is
//! tested by [`conmon`](crate::conmon) everywhere.

use std::sync::Arc;

use coracle_integration::{Manager, needs};

use crate::checks;
use crate::conmon;
use crate::cri;
use crate::engine::{Engine, Page, Shared, images};

static CRIO: Shared<Engine> = Shared::new();

/// Settings for this machine: Debian's plugins, images that are already there, and the manager of
/// control groups. Its interrupts, which user-mode Linux has none of, are left alone.
const MACHINE: &str = r#"
[crio.image]
pause_image = "localhost/pause:latest"
[crio.network]
plugin_dirs = ["/usr/lib/cni"]
[crio.runtime]
default_runtime = "coracle"
conmon_cgroup = "pod"
irqbalance_config_restore_file = "disable"
"#;

const PRELUDE: &str = r#"
export CRI_SOCKET=unix:///var/run/crio/crio.sock
# Nothing but cri-o tells the process of a container.
init() { cri ContainerStatus "{\"container_id\": \"$c\", \"verbose\": true}" info.info | sed 's/.*"pid":\([0-9]*\).*/\1/'; }
# conmon lets the runtime write to the container's log, too: its warnings begin with the time.
logged() { cut -d ' ' -f 4- /tmp/logs/$name.log | grep -v ^time= || true; }
daemon() { crio >>/tmp/crio.log 2>&1 </dev/null & await 'cri Version' || { tail -n 20 /tmp/crio.log >&2; exit 1; }; }
"#;

fn crio() -> Arc<Engine> {
    CRIO.get(|| {
        for program in ["crio", "conmon", "podman"] {
            needs::program(program);
        }
        cri::needs_client();
        let manager = Manager::of_machine();
        let mut engine = Engine::new(manager);
        engine.prelude = cri::prelude(manager) + PRELUDE;
        cri::install_client(&engine);
        let settings = Page::Kubernetes.block("`/etc/crio/crio.conf.d/20-coracle.conf`");
        engine.write("/etc/crio/crio.conf.d/20-coracle.conf", &settings);
        let name = manager.name();
        let machine = format!("{MACHINE}cgroup_manager = \"{name}\"\n");
        engine.write("/etc/crio/crio.conf.d/30-machine.conf", &machine);
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        engine.write("/etc/containers/policy.json", policy);
        // Stopped at once, which takes a program that asks for it.
        engine.sandbox.folder().folder("rootfs");
        let pause = "trap 'exit' TERM\nsleep 100000 & wait";
        engine.sandbox.folder().script("rootfs/pause", pause);
        let load = engine.command("podman").args(["load", "--input"]);
        load.arg(images(&engine.sandbox)).output().ok();
        engine.run("daemon", "daemon");
        engine
    })
}

#[test(last)]
fn nothing_is_left_behind() {
    let Some(crio) = CRIO.take() else { return };
    crio.check("", conmon::LEFT, "");
}

checks! { crio,
    the_runtime: "cri Version '{}' runtime_name" => "cri-o";
    it_reads_our_features: r#"
        cri Status '{}' | tr -d ' \n' | grep -o '"name":"coracle","features":{[^}]*}'"# => r#""name":"coracle","features":{"recursive_read_only_mounts":true,"user_namespaces":true}"#;
    a_program_that_is_missing: r#"
        pod
        complaint container '' '' no-such-program | grep -o 'executable file not found in .PATH'"# => "executable file not found in $PATH";
    exec_with_a_time_limit: r#"
        pod
        container '' '' sleep 1000
        cri ExecSync "{\"container_id\": \"$c\", \"cmd\": [\"sleep\", \"2000\"], \"timeout\": 1}" stderr exit_code | base64 -d 2>/dev/null || true
        echo
        await '! pgrep -f "^sleep 2000$"'"# => "command timed out";
}

cri::checks_of_any_engine!(crio);
