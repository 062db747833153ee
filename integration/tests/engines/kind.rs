//! A node of Kubernetes in a container, as kind makes it: docker starts it by the program under test,
//! and systemd in it starts containerd 2, the servers and kubelet, whose pods the same program runs.
//! It needs what [`crate::kubelet`] needs but runc, and docker and systemd's programs.

use coracle_integration::{Manager, needs};

use crate::containerd::{self, TWO};
use crate::containerd2;
use crate::cri;
use crate::docker;
use crate::engine::{self, Engine};
use crate::kubelet;
use crate::nested;

/// `start_node DRIVER` takes a driver of control groups, `in_node` runs a script in the node.
const PRELUDE: &str = r#"
host="-v /usr:/usr:ro -v /opt:/opt:ro -v ${rootfs%/rootfs}/images:/images:ro"
in_node() {
    docker exec --interactive $name sh -euc "name=$name patience=$patience; . /node/words; $(cat)"
}
"#;

/// How the node starts the parts of the cluster.
const IN_NODE: &str = r#"
address=$(hostname -i)
background() {
    systemd-run --quiet --unit ${unit-${1##*/}} --setenv PATH="$PATH" --setenv KUBECONFIG=$KUBECONFIG -- "$@"
}
start_kubelet() {
    unit=kubelet background unshare --mount --propagation unchanged start-kubelet $address
}
logs() { journalctl --quiet --lines 40 --unit $1; }
"#;

fn kind() -> Engine {
    let checkout = kubelet::checkout();
    containerd2::needs_it();
    needs::program("systemctl");
    let mut engine = docker::engine(Manager::of_machine());
    docker::start(&engine, "");
    engine.prelude += nested::START_NODE;
    engine.prelude += PRELUDE;
    engine.write("/tmp/pods.conflist", cri::NETWORK);
    kubelet::install(&engine, &checkout, "/tmp/node/kubernetes");
    for (path, text) in nested::FIRST {
        engine.write(path, text);
    }
    let words = [engine::PRELUDE, kubelet::PRELUDE, IN_NODE].concat();
    engine.write("/tmp/node/words", &words);
    for manager in [Manager::Cgroupfs, Manager::Systemd] {
        let path = format!("/tmp/node/{}.toml", manager.name());
        engine.write(&path, &containerd::settings(TWO, manager));
    }
    let path = "Environment=PATH=/opt/containerd2/bin:/usr/local/bin:/usr/sbin:/usr/bin";
    let start = "ExecStart=/opt/containerd2/bin/containerd";
    let image = nested::IMAGE.replace("ExecStart=/usr/bin/containerd", &format!("{path}\n{start}"));
    let chmod = "chmod 755 /usr/local/bin/*";
    engine.run("image", &format!("{chmod}\n{image}"));
    engine
}

#[test]
fn a_pod_with_cgroupfs() {
    a_pod(Manager::Cgroupfs);
}

#[test]
fn a_pod_with_systemd() {
    a_pod(Manager::Systemd);
}

/// A pod of the class is started, asked, limited, deleted, and the node goes with another in it.
#[track_caller]
fn a_pod(manager: Manager) {
    let kind = kind();
    let node = format!(
        "start_node {}\nawait_node\nin_node <<'END'\n{}{}\nEND",
        manager.name(),
        r"
        PATH=/opt/containerd2/bin:$PATH
        ctr -n k8s.io images import /images/archive.tar >/dev/null
        cp -r /node/kubernetes /etc
        ",
        kubelet::START
    );
    let pods = r#"
        in_node <<'END'
        class=coracle
        run '' '' sh -c 'echo out; exit 7'
        get .status.containerStatuses[0].state.terminated.exitCode
        end
        name=other
        pod '' '"stdin": true, "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}},' sleep 1000
        ready
        echo typed | kubectl exec --stdin $name -- sh -c 'cat; exit 4' 2>/dev/null || echo $?
        id=$(get .status.containerStatuses[0].containerID)
        coracle --root /run/containerd/coracle/k8s.io list --quiet | grep -c ${id#*//}
        find /sys/fs/cgroup -type d -path "*kubepods*" -name "*${id#*//}*" | grep -q . && echo below
        class=
END
        docker rm --force --volumes $name >/dev/null
        await '[ -z "$(alive containerd-shim)" ]'
        find /sys/fs/cgroup -type d -name '*kubepods*'"#;
    let script = format!("{node}\n{pods}");
    let name = format!("node-{}", manager.name());
    let output = kind.script(&name, &script).limit(280).output().ok();
    assert_eq!(output.line(), "out\n7typed\n4\n1\nbelow", "{script}");
}
