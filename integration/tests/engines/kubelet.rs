//! Kubernetes itself: a cluster of one node with containerd 2, and a class of pods for each of two
//! runtimes, coracle and Debian's runc. Every check is made with both.
//!
//! `CORACLE_KUBERNETES` names a checkout of Kubernetes whose programs were built (`make`), with an
//! etcd in `PATH` or where `hack/install-etcd.sh` puts one; without it all is skipped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_integration::{Manager, needs, skip};

use crate::containerd::{NOTHING_LEFT, TWO};
use crate::containerd2;
use crate::cri;
use crate::engine::{Engine, Shared};

static KUBELET: Shared<Engine> = Shared::new();

/// The programs of a checkout.
const PROGRAMS: [&str; 5] = [
    "kubelet",
    "kube-apiserver",
    "kube-scheduler",
    "kube-controller-manager",
    "kubectl",
];

/// What kubelet reads at its start. The checks' pods are deleted at once, and what asks the node for
/// its disk is not of interest.
const KUBELET_CONFIG: &str = r#"
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
staticPodPath: /etc/kubernetes/manifests
resolvConf: /etc/kubernetes/resolv.conf
clusterDNS: [192.0.2.53]
failSwapOn: false
failCgroupV1: false
maxOpenFiles: 1024
evictionHard: {memory.available: 1Mi, nodefs.available: 1Mi, imagefs.available: 1Mi}
syncFrequency: 2s
fileCheckFrequency: 1s
nodeStatusUpdateFrequency: 2s
"#;

/// Anyone who has the token may do all.
const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: tests}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"#;

const CLASSES: &str = r#"
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: coracle}
handler: coracle
overhead: {podFixed: {memory: 20Mi}}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: runc}
handler: runc
overhead: {podFixed: {memory: 20Mi}}
"#;

/// Starts the cluster, and waits for its node. What kubelet would set for the whole machine it finds
/// set, in files that it alone sees.
const START: &str = r#"
folder=/etc/kubernetes
mkdir -p $folder/manifests /var/lib/kubelet
: >$folder/resolv.conf
openssl genrsa -out $folder/accounts.key 2048 2>/dev/null
echo tests,admin,admin,system:masters >$folder/tokens
ip link add node0 type bridge
ip addr add 192.0.2.2/24 dev node0
ip link set node0 up
ip route add default via 192.0.2.1
background() { log=/tmp/${1##*/}.log; "$@" >$log 2>&1 </dev/null & }
background etcd --data-dir /tmp/etcd --unsafe-no-fsync --log-level error \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:0
background kube-apiserver --etcd-servers http://127.0.0.1:2379 --cert-dir $folder/certificates \
    --bind-address 127.0.0.1 --advertise-address 192.0.2.2 --allow-privileged \
    --service-cluster-ip-range 198.51.100.0/24 --service-account-issuer https://kubernetes \
    --service-account-key-file $folder/accounts.key \
    --service-account-signing-key-file $folder/accounts.key \
    --token-auth-file $folder/tokens --authorization-mode AlwaysAllow \
    --kubelet-preferred-address-types InternalIP \
    --disable-admission-plugins ServiceAccount
await 'kubectl get --raw /readyz' || { tail /tmp/kube-apiserver.log >&2; exit 1; }
background kube-scheduler --kubeconfig $KUBECONFIG --leader-elect=false \
    --authentication-skip-lookup --secure-port 0
background kube-controller-manager --kubeconfig $KUBECONFIG --leader-elect=false \
    --authentication-skip-lookup --secure-port 0
# Ids are not mapped on a mount that is made of layers, as /var is here.
mkdir -p /var/tmp/kubelet
mount --bind /var/tmp/kubelet /var/lib/kubelet
mount --make-shared /var/lib/kubelet
cat >/usr/local/bin/start-kubelet <<'END'
#!/bin/sh
mount --make-rprivate /proc
cd "$(mktemp -d)"
for pair in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    echo ${pair#*=} >$(basename ${pair%=*})
    mount --bind $(basename ${pair%=*}) /proc/sys/${pair%=*} || exit
done
exec kubelet --config /etc/kubernetes/kubelet --kubeconfig $KUBECONFIG --node-ip 192.0.2.2 \
    --hostname-override node --cert-dir /var/lib/kubelet/certificates
END
chmod +x /usr/local/bin/start-kubelet
start_kubelet
await "kubectl wait --for condition=Ready node/node" || { tail -n 40 /tmp/kubelet.log >&2; exit 1; }
create --filename $folder/classes
"#;

/// `pod SPEC FIELDS COMMAND...` makes a pod of `$class` with a container, `ready` waits for it.
const PRELUDE: &str = r#"
export KUBECONFIG=/etc/kubernetes/kubeconfig
trap end EXIT
end() {
    [ -z "${class-}" ] || kubectl delete pod,job,deployment --selector of=$name --wait >/dev/null
}
start_kubelet() {
    unshare --mount --propagation unchanged start-kubelet >>/tmp/kubelet.log 2>&1 </dev/null &
}
# The server looks at the fields as well, once it can say which there are.
create() { kubectl create --validate=false "$@" >/dev/null; }
list() { sep=; for word; do printf '%s"%s"' "$sep" "$word"; sep=', '; done; }
# Starting once more what a check needs from the beginning takes longer than other waits.
long() { for each in 1 2 3 4; do ! await "$1" 2>/dev/null || return 0; done; await "$1"; }
spec() {
    more=$1 fields=$2
    shift 2
    cat <<END
{"runtimeClassName": "$class", "automountServiceAccountToken": false, $more
 "terminationGracePeriodSeconds": ${grace-0}, "enableServiceLinks": false,
 "containers": [{"name": "one", "image": "localhost/busybox:latest", "imagePullPolicy": "Never",
  $fields "command": [$(list "$@")]}]}
END
}
pod() {
    create --filename - <<END
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "$name", "labels": {"of": "$name"}},
 "spec": $(spec "$@")}
END
}
get() { kubectl get pod $name --output jsonpath="{$1}"; }
ready() { kubectl wait --for condition=Ready --timeout 60s pod/$name >/dev/null; }
# Waits for the end of the pod, and prints its output.
run() { more=$1; shift; pod "\"restartPolicy\": \"Never\", $more" "$@"; over; kubectl logs $name; }
over() { long '[ $(get .status.phase) = Succeeded ] || [ $(get .status.phase) = Failed ]'; }
in_it() { kubectl exec $name --container one -- "$@"; }
"#;

fn kubelet() -> Arc<Engine> {
    KUBELET.get(|| {
        let Some(checkout) = std::env::var_os("CORACLE_KUBERNETES").map(PathBuf::from) else {
            skip!("CORACLE_KUBERNETES names no checkout of Kubernetes");
        };
        containerd2::needs_it();
        needs::program("openssl");
        needs::program("runc");
        // Below groups of the sandbox's own, so that no class of service stays behind.
        let mut engine = cri::set_up_with(TWO, Manager::Cgroupfs);
        engine.prelude += PRELUDE;
        install(&engine, &checkout);
        for (file, text) in [
            ("kubelet", KUBELET_CONFIG),
            ("kubeconfig", KUBECONFIG),
            ("classes", CLASSES),
        ] {
            engine.write(&format!("/etc/kubernetes/{file}"), text);
        }
        engine.script("", START).limit(600).output().ok();
        engine
    })
}

fn install(engine: &Engine, checkout: &Path) {
    let programs = PROGRAMS.map(|name| checkout.join("_output/bin").join(name));
    let etcd = checkout.join("third_party/etcd/etcd");
    let wanted = programs
        .iter()
        .chain(Some(&etcd).filter(|etcd| etcd.exists()));
    let command = engine.sandbox.command("cp").arg("-t");
    command.arg("/usr/local/bin").args(wanted).output().ok();
}

/// When all other checks are over, kubelet and its engine restart under pods of both classes.
#[test(last)]
fn restarts_and_nothing_is_left_behind() {
    let Some(kubelet) = KUBELET.take() else {
        return;
    };
    let script = r#"
        for class in coracle runc; do
            name=restart-$class
            pod '' '' sleep 1000
            ready
        done
        for each in kubelet containerd; do
            pkill -x $each
            await "! pgrep -x $each"
        done
        daemon
        start_kubelet
        long 'kubectl get --raw /api/v1/nodes/node/proxy/healthz'
        for class in coracle runc; do
            name=restart-$class
            long 'in_it true'
            in_it echo well
            get .status.containerStatuses[0].restartCount
            end
        done
        # kubelet collects what has ended each minute.
        long '[ -z "$(ctr -n k8s.io container ls --quiet)" ]'"#;
    kubelet.check("", script, "well\n0well\n0");
    kubelet.check("", NOTHING_LEFT, "");
}

/// Tests with pods of each class: the rest is as of [`checks!`](crate::checks).
macro_rules! classes {
    ($($name:ident: $script:literal => $expected:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let kubelet = kubelet();
                for class in ["coracle", "runc"] {
                    let name = format!("{}-{class}", stringify!($name).replace('_', "-"));
                    let script = format!("class={class}\n{}", $script);
                    let output = kubelet.script(&name, &script).limit(400).output().ok();
                    assert_eq!(output.line(), $expected, "{class}: {}", $script);
                }
            }
        )*
    };
}

classes! {
    output_and_exit_code: r#"
        run '' '' sh -c 'echo out; exit 7'
        get .status.phase
        get .status.containerStatuses[0].state.terminated.exitCode"# => "out\nFailed7";
    the_handler_is_the_class: r#"
        pod '' '' sleep 1000
        ready
        id=$(get .status.containerStatuses[0].containerID)
        test -e /run/containerd/$class/k8s.io/${id#*//} && echo $class | sed s/$class/same/"# => "same";
    exec: r#"
        pod '' '' sleep 1000
        ready
        echo typed | kubectl exec --stdin $name -- sh -c 'cat; exit 4' 2>/dev/null || echo $?"# => "typed\n4";
    attach: r#"
        pod '' '"stdin": true,' sh -c 'until read -t 1 line; do echo ready; done; echo got $line; sleep 1000'
        ready
        mkfifo /tmp/$name.in
        kubectl attach --stdin $name --quiet </tmp/$name.in >/tmp/$name.out 2>/dev/null &
        exec 9>/tmp/$name.in
        await "grep ready /tmp/$name.out"
        echo typed >&9
        await "grep got /tmp/$name.out"
        kill $!
        exec 9>&-
        grep -v ready /tmp/$name.out"# => "got typed";
    a_forwarded_port: r#"
        pod '' '' sh -c 'while :; do echo well | nc -l -p 8080; done'
        ready
        kubectl port-forward pod/$name :8080 >/tmp/$name.port &
        await 'grep 127 /tmp/$name.port'
        port=$(sed -n 's/.*127.0.0.1:\([0-9]*\) .*/\1/p' /tmp/$name.port)
        busybox nc 127.0.0.1 $port </dev/null
        kill $!"# => "well";
    probes: r#"
        pod '' '"readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1},
            "livenessProbe": {"exec": {"command": ["test", "!", "-e", "/tmp/ill"]}, "periodSeconds": 1, "failureThreshold": 1},' sleep 1000
        long '[ $(get .status.phase) = Running ]'
        get .status.containerStatuses[0].ready
        in_it touch /tmp/ready
        ready
        in_it touch /tmp/ill
        long '[ $(get .status.containerStatuses[0].restartCount) = 1 ]'
        get .status.containerStatuses[0].lastState.terminated.exitCode"# => "false137";
    a_program_that_is_missing: r#"
        pod '"restartPolicy": "Never",' '' no-such-program
        over
        get .status.containerStatuses[0].state.terminated.reason
        get .status.containerStatuses[0].state.terminated.message | grep -o 'executable file not found in .PATH'"# => "StartErrorexecutable file not found in $PATH";
    killed_for_memory: r#"
        pod '"restartPolicy": "Never",' '"resources": {"limits": {"memory": "16Mi"}},' sh -c 'head -c 100m /dev/zero | tail; sleep 1; exit 1'
        over
        get .status.containerStatuses[0].state.terminated.reason"# => "OOMKilled";
    classes_of_service: r#"
        for class_of in '"limits": {"cpu": "100m", "memory": "32Mi"}' '"requests": {"cpu": "50m"}' ''; do
            pod '' "\"resources\": {$class_of}," sleep 1000
            ready
            get .status.qosClass
            end
        done"# => "GuaranteedBurstableBestEffort";
    overhead_of_the_class: r#"
        pod '' '"resources": {"limits": {"cpu": "100m", "memory": "32Mi"}},' sleep 1000
        ready
        place=kubepods/pod$(get .metadata.uid)
        cat /sys/fs/cgroup/memory/$place/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/$place/memory.max"# => "54525952";
    volumes: r#"
        create configmap $name --from-literal key=value
        pod "\"volumes\": [{\"name\": \"c\", \"configMap\": {\"name\": \"$name\"}}, {\"name\": \"m\", \"emptyDir\": {\"medium\": \"Memory\"}}]," '"volumeMounts": [{"name": "c", "mountPath": "/c"}, {"name": "c", "mountPath": "/key", "subPath": "key"}, {"name": "m", "mountPath": "/m"}],' sleep 1000
        ready
        in_it sh -c 'cat /c/key /key; stat -f -c %T /m'
        kubectl delete configmap $name >/dev/null"# => "valuevaluetmpfs";
    a_secured_one: r#"
        run '"securityContext": {"fsGroup": 77, "seccompProfile": {"type": "RuntimeDefault"}},' \
            '"securityContext": {"runAsUser": 1000, "runAsGroup": 2000, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},' \
            sh -c 'id -u; id -G; touch /x 2>/dev/null || echo no; grep -e CapBnd -e NoNewPrivs -e Seccomp: /proc/self/status' | tr -d '\t'"# => "1000\n2000 77\nno\nCapBnd:0000000000000000\nNoNewPrivs:1\nSeccomp:2";
    containers_before_and_beside: r#"
        run '"volumes": [{"name": "v", "emptyDir": {}}], "initContainers": [
                {"name": "first", "image": "localhost/busybox:latest", "imagePullPolicy": "Never", "command": ["sh", "-c", "echo first >/v/file"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
                {"name": "beside", "image": "localhost/busybox:latest", "imagePullPolicy": "Never", "restartPolicy": "Always", "command": ["sh", "-c", "echo beside >>/v/file; sleep 1000"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],' \
            '"volumeMounts": [{"name": "v", "mountPath": "/v"}],' sh -c 'until grep beside /v/file >/dev/null; do sleep 0.1; done; cat /v/file'
        get .status.phase"# => "first\nbeside\nSucceeded";
    hooks_of_the_life: r#"
        mkdir -p /tmp/$name
        grace=10
        pod "\"volumes\": [{\"name\": \"v\", \"hostPath\": {\"path\": \"/tmp/$name\"}}]," '"volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "lifecycle": {"postStart": {"exec": {"command": ["touch", "/v/after-start"]}}, "preStop": {"exec": {"command": ["touch", "/v/before-stop"]}}},' \
            sh -c 'trap \"touch /v/signal; exit\" TERM; while :; do sleep 0.1; done'
        ready
        ls /tmp/$name
        kubectl delete pod $name --wait >/dev/null
        ls /tmp/$name"# => "after-start\nafter-start\nbefore-stop\nsignal";
    shared_processes: r#"
        pod '"shareProcessNamespace": true,' '' sleep 1234
        ready
        in_it ps -o args | grep -c -e '^sleep 1234$' -e '^sleep 100000$'"# => "2";
    an_ephemeral_container: r#"
        pod '' '' sleep 1234
        ready
        kubectl debug $name --image localhost/busybox:latest --image-pull-policy Never --target one \
            --container later --quiet -- cat /proc/1/cmdline >/dev/null 2>&1
        long '[ "$(get .status.ephemeralContainerStatuses[0].state.terminated.exitCode)" = 0 ]'
        kubectl logs $name --container later | tr '\0' ' '"# => "sleep 1234";
    resized_in_place: r#"
        pod '' '"resources": {"limits": {"cpu": "100m", "memory": "32Mi"}},' sleep 1000
        ready
        kubectl patch pod $name --subresource resize --patch '{"spec": {"containers": [{"name": "one",
            "resources": {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}}]}}' >/dev/null
        place=kubepods/pod$(get .metadata.uid)/$(get .status.containerStatuses[0].containerID | sed s,.*//,,)
        long 'grep -qs 67108864 /sys/fs/cgroup/memory/$place/memory.limit_in_bytes /sys/fs/cgroup/$place/memory.max'
        long 'grep -qs "^20000" /sys/fs/cgroup/cpu/$place/cpu.cfs_quota_us /sys/fs/cgroup/$place/cpu.max'
        long '[ "$(get .status.containerStatuses[0].resources.limits.memory)" = 64Mi ]'
        get .status.containerStatuses[0].restartCount"# => "0";
    statistics: r#"
        pod '' '' sleep 1000
        ready
        summary() { kubectl get --raw /api/v1/nodes/node/proxy/stats/summary | tr -d ' \n' | sed 's/"podRef"/\n&/g' | grep "\"name\":\"$name\""; }
        long 'summary | grep "workingSetBytes\":[1-9]"'
        long 'summary | grep "usageCoreNanoSeconds\":[1-9]"'
        ! [ -e /sys/fs/cgroup/kubepods/cpu.pressure ] || long 'summary | grep psi'
        echo well"# => "well";
}

/// Only what the node's engine says of the handler lets kubelet do it.
#[test]
fn a_pod_of_mapped_users() {
    let script = r#"
        class=coracle
        kubectl get node node --output jsonpath='{.status.runtimeHandlers[?(@.name=="coracle")].features}' |
            tr ',' '\n' | tr -d '{}"' | sort
        run '"hostUsers": false,' '' sh -c 'id -u; [ $(cat /proc/self/uid_map | tr -s \" \" | cut -d \" \" -f 3) = 0 ] || echo mapped'"#;
    let expected = "recursiveReadOnlyMounts:true\nuserNamespaces:true\n0\nmapped";
    kubelet().check("mapped", script, expected);
}
