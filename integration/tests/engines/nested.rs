//! Systems within docker's containers, made of this machine's own programs: docker in docker, a job of
//! a GitLab runner with a docker service, and a node of Kubernetes as kind starts it. The runtime is
//! ours outside and inside.

use std::sync::Arc;

use coracle_integration::{Manager, needs};

use crate::containerd::{self, ONE};
use crate::cri;
use crate::docker;
use crate::engine::{self, Engine, Shared};

static NESTED: Shared<Engine> = Shared::new();

/// An image with folders that this machine's `/usr` is bound to, and settings of its own: those of
/// docker, and of a systemd that starts containerd and leaves the kernel's settings alone.
pub(crate) const IMAGE: &str = r#"
mkdir -p /tmp/host && cd /tmp/host
mkdir -p etc/systemd/system etc/cni/net.d etc/containerd etc/docker proc dev sys run tmp var root usr
for folder in bin sbin lib lib64; do ln -s usr/$folder $folder; done
cp -a /etc/passwd /etc/group /etc/nsswitch.conf /etc/ld.so.cache /etc/alternatives etc
cp /etc/docker/daemon.json etc/docker
cp /tmp/pods.conflist etc/cni/net.d
: >etc/machine-id
units=etc/systemd/system
cat >$units/node.target <<END
[Unit]
Requires=containerd.service
Wants=dbus.socket
After=containerd.service
END
cat >$units/containerd.service <<END
[Service]
Type=notify
ExecStart=/usr/bin/containerd
Delegate=yes
KillMode=process
END
ln -s node.target $units/default.target
for unit in $(ls /usr/lib/systemd/system/sysinit.target.wants); do
    case $unit in
    systemd-journald.service | systemd-tmpfiles-setup.service) ;;
    *) ln -s /dev/null $units/$unit ;;
    esac
done
tar -c . | docker import --change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin" \
    --change "ENV container=docker" - localhost/host >/dev/null
"#;

/// What the images' own first scripts do, as a docker's in docker and a kind node's. `HAS_NAT` stands
/// for that of [`docker`].
pub(crate) const FIRST: [(&str, &str); 2] = [
    (
        "/usr/local/bin/dind",
        r#"#!/bin/sh
# A group has no processes itself if those below it are to have limits.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir /sys/fs/cgroup/init
    for process in $(cat /sys/fs/cgroup/cgroup.procs); do
        echo $process >/sys/fs/cgroup/init/cgroup.procs || true
    done
    sed 's/[a-z]*/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
fi
# The numbers of processes that a killed container had.
find /run /var/run -name '*.pid' -delete
{ HAS_NAT; } >/dev/null 2>&1 || none='--iptables=false --ip6tables=false'
exec dockerd --storage-driver overlay2 $none "$@" >/var/log/dockerd 2>&1
"#,
    ),
    (
        "/usr/local/bin/node",
        "#!/bin/sh\nmount -o remount,ro /sys\nmount --make-rshared /\nexec /sbin/init\n",
    ),
];

/// `start_node FILE` starts a node with this file of containerd's, with the mounts of `$host`;
/// `await_node` waits until it is up.
pub(crate) const START_NODE: &str = r#"
start_node() {
    docker run --detach --tty --name $name --hostname $name --privileged --init=false \
        --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
        --tmpfs /tmp --tmpfs /run --volume /var --cgroupns=private --restart=on-failure:1 \
        $host -v /tmp/node:/node:ro -v /tmp/node/$1.toml:/etc/containerd/config.toml:ro \
        localhost/host node >/dev/null
    trap 'docker rm --force --volumes $name >/dev/null 2>&1' EXIT
}
await_node() {
    await "docker exec $name systemctl is-active node.target" || { docker logs $name >&2 && return 1; }
}
"#;

/// `dind` starts docker in the container `$name`, `node FILE` a node with this file of containerd's.
const PRELUDE: &str = r#"
host="-v /usr:/usr:ro -v $rootfs:/busybox:ro -v ${rootfs%/rootfs}/images:/images:ro"
dind() {
    docker run --detach --name $name --privileged $host \
        -v /var/log -v /var/lib/docker localhost/host dind "$@" >/dev/null
    trap 'docker rm --force --volumes $name >/dev/null 2>&1' EXIT
    inside docker load --quiet --input /images/archive.tar >/dev/null
}
inside() {
    await "docker exec $name docker version || ! docker exec $name true"
    docker exec $name "$@" || {
        code=$?
        docker exec $name true || docker cp $name:/var/log/dockerd - >&2
        return $code
    }
}
node() {
    start_node $1
    driver=$1
    up
}
# Waits for the node, and puts the images into it.
up() {
    await_node
    in_node </dev/null
}
# Runs the script of standard input in the node, with the words of the tests for Kubernetes.
in_node() { docker exec --interactive $name sh -euc "name=$name rootfs=/busybox patience=$patience; . /node/$driver; $(cat)"; }
group_of_node() { find /sys/fs/cgroup -mindepth 2 -type d -path "*$(inspect Id)*/*"; }
"#;

fn nested() -> Arc<Engine> {
    NESTED.get(|| {
        needs::program("systemctl");
        cri::needs_client();
        let mut engine = docker::engine(Manager::of_machine());
        docker::start(&engine, "");
        engine.prelude += START_NODE;
        engine.prelude += PRELUDE;
        engine.write("/tmp/pods.conflist", cri::NETWORK);
        engine.write("/usr/local/bin/cri", cri::CLIENT);
        for (path, text) in FIRST {
            engine.write(path, &text.replace("HAS_NAT", docker::HAS_NAT));
        }
        for manager in [Manager::Cgroupfs, Manager::Systemd] {
            let prelude = [
                engine::PRELUDE,
                containerd::PRELUDE,
                &cri::prelude(manager),
                "touch /tmp/$name.pods
                await 'cri Version'
                ctr -n k8s.io images ls -q | grep -q . ||
                    ctr -n k8s.io images import /images/archive.tar >/dev/null\n",
            ];
            let path = format!("/tmp/node/{}", manager.name());
            engine.write(&path, &prelude.concat());
            let path = format!("/tmp/node/{}.toml", manager.name());
            engine.write(&path, &containerd::settings(ONE, manager));
        }
        let chmod = "chmod 755 /usr/local/bin/*";
        engine.run("image", &format!("{chmod}\n{IMAGE}"));
        engine
    })
}

#[test(last)]
fn nothing_is_left_behind() {
    let Some(nested) = NESTED.take() else { return };
    let left = r#"
docker ps --all --quiet
docker volume ls --quiet
find /run/docker/runtime-*/moby -mindepth 1
find /sys/fs/cgroup -type d \( -path '*/docker/*' -o -name 'docker-*.scope' \)
new_roots
alive containerd-shim
alive sleep"#;
    nested.check("", left, "");
}

#[test]
fn docker_in_docker() {
    let script = r#"
        dind
        inside docker info --format '{{.DefaultRuntime}}' 2>/dev/null
        inside docker run --rm --network none $busybox echo well
        inside docker run -d --name other --memory 64m $busybox sleep 1000 >/dev/null
        inside docker exec other sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true'
        inside sh -c "printf 'FROM $busybox\nRUN echo built >/f\n' | DOCKER_BUILDKIT=0 docker build --tag new - >/dev/null"
        inside docker run --rm --network none new cat /f
        inside docker stop -t 0 other >/dev/null
        inside docker inspect --format '{{.State.ExitCode}}' other"#;
    let expected = "coracle\nwell\n67108864\nbuilt\n137";
    nested().check("docker-in-docker", script, expected);
}

/// The outer one is killed while the inner one runs a container.
#[test]
fn docker_in_docker_is_killed() {
    let script = r#"
        dind
        inside docker run -d --name other $busybox sleep 4444 >/dev/null
        docker kill $name >/dev/null
        pgrep -fx 'sleep 4444' || true
        group_of_node
        docker start $name >/dev/null
        inside docker inspect --format '{{.State.Status}}' other
        inside docker start other >/dev/null
        inside docker exec other echo well"#;
    nested().check("killed-docker", script, "exited\nwell");
}

/// As a GitLab runner does with its docker executor: a service, the job's volume filled by a helper,
/// then the job. Both are attached to before they are started, and get their script on standard input.
#[test]
fn a_job_with_a_docker_service() {
    let script = r#"
        dind --host unix:///var/run/docker.sock --host tcp://0.0.0.0:2375 --tls=false
        job="docker create --interactive --volume $name-builds:/builds --link $name:docker"
        $job --name $name-helper $busybox sh >/dev/null
        echo 'mkdir /builds/project; echo FROM localhost/busybox >/builds/project/Dockerfile; echo fetched' |
            docker start --attach --interactive $name-helper
        $job --name $name-job $host --env DOCKER_HOST=tcp://docker:2375 localhost/host sh >/dev/null
        docker start --attach --interactive $name-job <<'END' || echo ended with $?
        set -e
        cd /builds/project
        echo 'RUN echo built >/f' >>Dockerfile
        DOCKER_BUILDKIT=0 docker build --quiet --network none --tag new . >/dev/null
        docker run --rm --network none new cat /f
        exit 9
        echo never
END
        docker rm --force --volumes $name-helper $name-job >/dev/null
        docker volume rm $name-builds >/dev/null"#;
    nested().check("job", script, "fetched\nbuilt\nended with 9");
}

#[test]
fn a_node_of_kubernetes() {
    nested().check("node", &of_node(Manager::Cgroupfs), NODE.1);
}

#[test]
fn a_node_of_kubernetes_with_the_systemd_driver() {
    nested().check("systemd-node", &of_node(Manager::Systemd), NODE.1);
}

fn of_node(manager: Manager) -> String {
    // Each test searches the processes of all tests for its own `sleep`.
    let time = match manager {
        Manager::Cgroupfs => "4445",
        Manager::Systemd => "4446",
    };
    format!("node {}\n{}", manager.name(), NODE.0.replace("TIME", time))
}

/// What is done on a node, and what it prints. The node is killed under its pods at last, as by a
/// loss of power, and started again.
const NODE: (&str, &str) = (
    r#"
        docker exec $name sh -c 'test -c /dev/kmsg; tr "\0" " " </proc/1/cmdline; echo'
        in_node <<'END'
        place=$(group_of_pod burstable)
        pod "\"cgroup_parent\": \"$place\""
        container '"resources": {"memory_limit_in_bytes": 67108864}' '' sleep 1000
        grep -q "$place/.*$c" /proc/$(init)/cgroup && echo burstable
        coracle --root /run/containerd/coracle/k8s.io list --quiet | grep -xc $c
        echo typed | cri exec $c head -n 1
        await '[ $(cri ContainerStats "$(id)" stats.memory.working_set_bytes.value) -gt 0 ]'
        resize '"memory_limit_in_bytes": 134217728'
        group memory.limit_in_bytes memory.max
        stop 0
        field exit_code
END
        in_node <<'END'
        pod ''
        container '' '' sleep TIME
        trap - EXIT
END
        docker kill $name >/dev/null
        pgrep -fx 'sleep TIME' || true
        group_of_node
        docker start $name >/dev/null
        up
        in_node <<'END'
        cri ListContainers '{}' containers.0.state
        cri ListPodSandbox '{}' items.0.state
        cri ListPodSandbox '{}' items.0.id >/tmp/$name.pods
        end
        : >/tmp/$name.pods
        cri ListPodSandbox '{}' items
        find /run/containerd/coracle -mindepth 2 2>/dev/null || true
        pod ''
        container '' '' sleep 1000
        cri sync $c echo well
END
        docker stop --time 0 $name >/dev/null"#,
    "/sbin/init \nburstable\n1\ntyped\n134217728\n137\n2\n1\n[]\nwell",
);
