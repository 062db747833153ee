//! A node over time: what must hold when containerd, its shims or the whole node go down, while
//! pods move from runc, and under kubelet's probes. Each test has a daemon of its own.

use coracle_integration::{Manager, needs};

use crate::containerd::{NOTHING_LEFT, ONE, Release, TWO};
use crate::containerd2;
use crate::cri;
use crate::engine::{Engine, Page};

const PRELUDE: &str = r#"
ready() { daemon; await 'cri Version'; }
killed() { pkill -9 -x $1 || true; await "! pgrep -x $1"; }
restart() { pkill -x containerd; await '! pgrep -x containerd'; ready; }
state_of_pod() { cri PodSandboxStatus "{\"pod_sandbox_id\": \"$1\"}" status.state; }
stop_pod() { cri StopPodSandbox "{\"pod_sandbox_id\": \"$1\"}" >/dev/null; }
remove_pod() { stop_pod $1; cri RemovePodSandbox "{\"pod_sandbox_id\": \"$1\"}" >/dev/null; }
# Makes so many pods with a container each, in `$pods` and `$containers`.
pods() {
    base=$name pods= containers=
    for number in $(seq $1); do
        name=$base-$number
        pod ''
        container '' '' sleep 1000
        pods="$pods $pod" containers="$containers $c"
    done
    name=$base
}
"#;

fn node() -> Engine {
    node_with(ONE)
}

fn node_with(release: Release) -> Engine {
    let mut engine = cri::set_up_with(release, Manager::Cgroupfs);
    engine.prelude += PRELUDE;
    engine
}

/// Debian's runc beside the program under test, which has to work here.
fn node_with_runc() -> Engine {
    needs::program("runc");
    let node = node();
    let probe = "handler=runc; pod && container '' '' sleep 1000";
    if node.script("probe", probe).output().code != 0 {
        coracle_integration::skip!("runc starts no pod here");
    }
    node
}

#[test]
fn containerd_restarts() {
    let script = r#"
        pod ''
        container '' '' sleep 1000
        before=$(init)
        restart
        field state
        cri sync $c echo well
        [ $before = $(init) ] && echo same
        stop 0
        field exit_code"#;
    node().check("restart", script, "1\nwell\nsame\n137");
}

#[test]
fn containerd_is_killed_while_it_deletes_pods() {
    killed_while_it_deletes_pods(&node());
}

#[test]
fn containerd_2_is_killed_while_it_deletes_pods() {
    containerd2::needs_it();
    killed_while_it_deletes_pods(&node_with(TWO));
}

/// kubelet repeats a deletion until it succeeds or the pod is not found. A shim may stay that has no
/// container any more, with runc as well: containerd 1.6 was killed after it had forgotten the shim
/// and before it ended it.
#[track_caller]
fn killed_while_it_deletes_pods(node: &Engine) {
    let script = r#"
        for delay in 0 0.1 0.3; do
            pods 4
            [ $(pgrep -xc sleep) = 8 ]
            for each in $pods; do remove_pod $each & done 2>/dev/null
            await '[ $(pgrep -xc sleep) -lt 8 ]'
            sleep $delay
            killed containerd
            wait
            ready
            for each in $pods; do
                if state_of_pod $each >/dev/null; then remove_pod $each; fi
            done
        done
        cri ListContainers '{}' containers
        cri ListPodSandbox '{}' items
        pgrep -lx sleep || true
        killed containerd-shim"#;
    node.check("deletion", script, "[]\n[]");
    cri::nothing_left(node);
}

/// Nothing runs any more, and what is not on a disk is gone: the state root is on a tmpfs.
#[test]
fn the_node_restarts() {
    let node = node();
    let script = r#"
        pod ''
        container '' '' sleep 1000
        for each in containerd containerd-shim sleep; do killed $each; done
        grep -o '/run/[^ ]*' /proc/self/mountinfo | sort -ru | grep -e /netns/ -e /containerd/ |
            xargs -r -n 1 umount
        rm -r /run/containerd
        find /sys/fs/cgroup -depth -path '*/k8s.io/*' -type d -exec rmdir {} +
        ip link del pods0
        ready
        state_of_pod $pod
        field state
        remove_pod $pod
        pod ''
        container '' '' sleep 1000
        cri sync $c echo well"#;
    node.check("reboot", script, "1\n2\nwell");
    cri::nothing_left(&node);
}

/// What `docs/kubernetes.md` says of a node that moves.
#[test]
fn old_pods_stay_with_runc() {
    let node = node_with_runc();
    let default = Page::Kubernetes.block("coracle becomes the default");
    node.write("/tmp/default.toml", &default);
    let script = r#"
        handler=runc
        pod ''
        container '' '' sleep 1000
        old=$pod first=$c
        cat /tmp/default.toml >>/etc/containerd/config.toml
        restart
        cri sync $first echo well
        name=$name-new handler=
        pod ''
        container '' '' sleep 1000
        ls /run/containerd/runc/k8s.io | grep -xc -e $old -e $first
        ls /run/containerd/coracle/k8s.io | grep -xc -e $pod -e $c
        coracle --root /run/containerd/coracle/k8s.io list --quiet | grep -xc $c
        end
        cri sync $first echo well
        remove_pod $old"#;
    node.check("move", script, "well\n2\n2\n1\nwell");
    node.check("", NOTHING_LEFT, "");
}

/// Probes of all pods each second. `CORACLE_TEST_PROBES=PODS,SECONDS` asks for more of them, and for
/// the same with runc.
#[test]
fn probes_each_second() {
    let wanted = std::env::var("CORACLE_TEST_PROBES").unwrap_or_default();
    let (node, handlers) = match wanted.is_empty() {
        true => (node(), "coracle"),
        false => (node_with_runc(), "coracle runc"),
    };
    let (count, seconds) = wanted.split_once(',').unwrap_or(("3", "5"));
    let length: u64 = seconds.parse().expect("CORACLE_TEST_PROBES=PODS,SECONDS");
    for handler in handlers.split(' ') {
        let script = format!(
            "handler={handler}
            pods {count}
            cri probe {seconds} $containers
            for each in $pods; do remove_pod $each; done"
        );
        let output = node.script("probes", &script).limit(90 + length).output();
        let output = output.ok();
        let line = output.line();
        println!("note: {handler}: {line}");
        assert!(line.contains(" 0 failed"), "{handler}: {line}");
    }
}

/// What `overhead` of a class stands for: beside its containers a pod has its pause container and
/// one shim, and no process of the runtime.
#[test]
fn nothing_of_the_runtime_stays_with_a_pod() {
    let node = node();
    let script = r#"
        pod ''
        container '' '' sleep 1000
        await '! pgrep -x coracle'
        for process in containerd-shim sleep; do
            pid=$(pgrep -xo $process)
            awk -v of=$process '$1 == "Pss:" { print of, $2 }' /proc/$pid/smaps_rollup
        done
        pgrep -c ."#;
    let output = node.run("overhead", script);
    println!("note: KiB of a pod: {}", output.line().replace('\n', ", "));
    let script = "await '! pgrep -x coracle'";
    node.check("", script, "");
}
