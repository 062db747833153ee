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
const PROGRAMS: [&str; 4] = ["kubelet", "kube-apiserver", "kube-scheduler", "kubectl"];

/// What kubelet reads at its start. The checks' pods are deleted at once, and what asks the node for
/// its disk is not of interest. When memory runs out, one process is killed and not all: containerd 2
/// often misses the reason where the container's whole cgroup of version 2 ends with it, runc's as well.
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
singleProcessOOMKill: true
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

/// What kubelet would set for the whole machine it finds set, in files that it alone sees; and it does
/// not start where the processor has no frequency, as in user-mode Linux.
const START_KUBELET: &str = r#"#!/bin/sh
mount --make-rprivate /proc
cd "$(mktemp -d)"
for pair in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    echo ${pair#*=} >$(basename ${pair%=*})
    mount --bind $(basename ${pair%=*}) /proc/sys/${pair%=*} || exit
done
{ cat /proc/cpuinfo; echo 'cpu MHz : 1000.000'; } >cpuinfo
grep -q 'cpu MHz' /proc/cpuinfo || mount --bind cpuinfo /proc/cpuinfo || exit
exec kubelet --config /etc/kubernetes/kubelet --kubeconfig $KUBECONFIG --node-ip $1 \
    --hostname-override node --cert-dir /var/lib/kubelet/certificates
"#;

/// The network of the cluster, and a folder for kubelet.
const NODE: &str = r#"
ip link add node0 type bridge
ip addr add 192.0.2.2/24 dev node0
ip link set node0 up
ip route add default via 192.0.2.1
# Ids are not mapped on a mount that is made of layers, as /var is here.
mkdir -p /var/tmp/kubelet /var/lib/kubelet
mount --bind /var/tmp/kubelet /var/lib/kubelet
mount --make-shared /var/lib/kubelet
"#;

/// Starts the cluster on a node with this `$address`, and waits for it. The server's own key, which it
/// makes at its start, signs the tokens of accounts as well. No controller is there to take the taint
/// of a new node away, so it gets none.
pub(crate) const START: &str = r#"
folder=/etc/kubernetes
mkdir -p $folder/manifests /var/lib/kubelet
: >$folder/resolv.conf
echo tests,admin,admin,system:masters >$folder/tokens
background etcd --data-dir /tmp/etcd --unsafe-no-fsync --log-level error \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:0
background kube-apiserver --etcd-servers http://127.0.0.1:2379 --cert-dir $folder/certificates \
    --bind-address 127.0.0.1 --advertise-address $address --allow-privileged \
    --service-cluster-ip-range 198.51.100.0/24 --service-account-issuer https://kubernetes \
    --service-account-key-file $folder/certificates/apiserver.key \
    --service-account-signing-key-file $folder/certificates/apiserver.key \
    --token-auth-file $folder/tokens --authorization-mode AlwaysAllow \
    --kubelet-preferred-address-types InternalIP \
    --disable-admission-plugins ServiceAccount,TaintNodesByCondition
await 'kubectl get --raw /readyz' || { logs kube-apiserver >&2; exit 1; }
background kube-scheduler --kubeconfig $KUBECONFIG --leader-elect=false \
    --authentication-skip-lookup --secure-port 0
start_kubelet
await 'kubectl wait --for condition=Ready node/node' || { logs kubelet >&2; exit 1; }
create --filename $folder/classes
"#;

/// `pod SPEC FIELDS COMMAND...` makes a pod of `$class` with a container, `ready` waits for it.
pub(crate) const PRELUDE: &str = r#"
export KUBECONFIG=/etc/kubernetes/kubeconfig
# Each attempt is a program that asks the server.
pause=0.3
trap end EXIT
end() {
    [ -z "${class-}" ] || kubectl delete pod --selector of=$name --wait >/dev/null
}
# The server looks at the fields as well, once it can say which there are.
create() { kubectl create --validate=false "$@" >/dev/null; }
list() { sep=; for word; do printf '%s"%s"' "$sep" "$word"; sep=', '; done; }
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
ready() {
    kubectl wait --for condition=Ready --timeout $((60 * ${patience-1}))s pod/$name >/dev/null ||
        { kubectl describe pod $name >&2 && return 1; }
}
# Waits for the end of the pod, and prints its output.
run() { more=$1; shift; pod "\"restartPolicy\": \"Never\", $more" "$@"; over; kubectl logs $name; }
over() {
    await 'get .status.phase | grep -e Succeeded -e Failed' ||
        { kubectl describe pod $name >&2 && return 1; }
}
in_it() { kubectl exec $name --container one -- "$@"; }
"#;

/// How a sandbox starts the parts of the cluster, and finds its processes among the machine's.
const IN_SANDBOX: &str = r#"
address=192.0.2.2
background() { log=/tmp/${1##*/}.log; "$@" >>$log 2>&1 </dev/null & }
start_kubelet() {
    log=/tmp/kubelet.log
    unshare --mount --propagation unchanged start-kubelet $address >>$log 2>&1 </dev/null &
}
logs() { tail -n 40 /tmp/$1.log; }
killed() {
    pkill --ns $$ --nslist net -x $1 || true
    await "! pgrep --ns $$ --nslist net -x $1"
}
# Prints the control groups of the pod.
group_of_pod() { find /sys/fs/cgroup -type d -name "*pod$(get .metadata.uid | tr - '?')*"; }
"#;

fn kubelet() -> Arc<Engine> {
    KUBELET.get(|| {
        let checkout = checkout();
        containerd2::needs_it();
        needs::program("runc");
        let mut engine = cri::set_up_with(TWO, manager());
        engine.prelude += PRELUDE;
        engine.prelude += IN_SANDBOX;
        install(&engine, &checkout, "/etc/kubernetes");
        let start = format!("{NODE}{START}");
        engine.script("", &start).limit(600).output().ok();
        engine
    })
}

/// A checkout of Kubernetes, or the test is skipped.
pub(crate) fn checkout() -> PathBuf {
    let Some(checkout) = std::env::var_os("CORACLE_KUBERNETES").map(PathBuf::from) else {
        skip!("CORACLE_KUBERNETES names no checkout of Kubernetes");
    };
    checkout
}

/// systemd where it is, but not beside a kubelet of the machine's: both would use `kubepods.slice`, and
/// each would remove the other's pods.
fn manager() -> Manager {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd"];
    let has_kubelet = |place| Path::new(place).join("kubepods.slice").exists();
    match places.into_iter().any(has_kubelet) {
        true => Manager::Cgroupfs,
        false => Manager::of_machine(),
    }
}

/// The programs, and in a folder their settings.
pub(crate) fn install(engine: &Engine, checkout: &Path, folder: &str) {
    let programs = PROGRAMS.map(|name| checkout.join("_output/bin").join(name));
    let etcd = checkout.join("third_party/etcd/etcd");
    let wanted = programs
        .iter()
        .chain(Some(&etcd).filter(|etcd| etcd.exists()));
    let command = engine.sandbox.command("cp").arg("-t");
    command.arg("/usr/local/bin").args(wanted).output().ok();
    engine.write("/usr/local/bin/start-kubelet", START_KUBELET);
    engine.run("install", "chmod 755 /usr/local/bin/start-kubelet");
    for (file, text) in [
        ("kubelet", KUBELET_CONFIG),
        ("kubeconfig", KUBECONFIG),
        ("classes", CLASSES),
    ] {
        engine.write(&format!("{folder}/{file}"), text);
    }
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
        for each in kubelet containerd; do killed $each; done
        daemon
        start_kubelet
        await 'kubectl get --raw /api/v1/nodes/node/proxy/healthz'
        for class in coracle runc; do
            name=restart-$class
            await 'in_it true'
            in_it echo well
            get .status.containerStatuses[0].restartCount
            end
        done
        # kubelet collects what has ended each minute.
        await '[ -z "$(ctr -n k8s.io container ls --quiet)" ]'"#;
    let output = kubelet.script("", script).limit(280).output();
    // Its namespace of mounts is its own, and systemd keeps the groups of its classes of service.
    let end = r#"
        killed kubelet
        ! [ -e /run/systemd/private ] || systemctl stop kubepods.slice"#;
    kubelet.run("", end);
    assert_eq!(output.ok().line(), "well\n0well\n0");
    kubelet.check("", NOTHING_LEFT, "");
}

/// Tests with pods of each class: the rest is as of [`checks!`](crate::checks).
macro_rules! classes {
    ($($name:ident: $script:literal => $expected:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let kubelet = kubelet();
                let classes = ["coracle", "runc"];
                let outputs = classes.map(|class| {
                    let name = format!("{}-{class}", stringify!($name).replace('_', "-"));
                    let script = format!("class={class}\n{}", $script);
                    let output = kubelet.script(&name, &script).limit(140).output();
                    format!("{class}, {}: {}\n{}", output.code, output.line(), output.stderr)
                });
                for (class, text) in classes.iter().zip(&outputs) {
                    let expected = format!("{class}, 0: {}\n", $expected);
                    assert!(text.starts_with(&expected), "{}\n{}", $script, outputs.concat());
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
        seconds="\"timeoutSeconds\": $((5 * patience))"
        pod '' '"readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, '"$seconds"'},
            "livenessProbe": {"exec": {"command": ["test", "!", "-e", "/tmp/ill"]}, "periodSeconds": 1, "failureThreshold": 1, '"$seconds"'},' sleep 1000
        await '[ $(get .status.phase) = Running ]'
        get .status.containerStatuses[0].ready
        in_it touch /tmp/ready
        ready
        in_it touch /tmp/ill
        await '[ $(get .status.containerStatuses[0].restartCount) = 1 ]'
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
        for each in $(group_of_pod); do cat $each/memory.limit_in_bytes $each/memory.max 2>/dev/null || true; done"# => "54525952";
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
        grace=$((10 * patience))
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
        await '[ "$(get .status.ephemeralContainerStatuses[0].state.terminated.exitCode)" = 0 ]'
        kubectl logs $name --container later | tr '\0' ' '"# => "sleep 1234";
    resized_in_place: r#"
        pod '' '"resources": {"limits": {"cpu": "100m", "memory": "32Mi"}},' sleep 1000
        ready
        kubectl patch pod $name --subresource resize --patch '{"spec": {"containers": [{"name": "one",
            "resources": {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}}]}}' >/dev/null
        groups=$(find /sys/fs/cgroup -type d -name "*$(get .status.containerStatuses[0].containerID | sed s,.*//,,)*")
        await 'for each in $groups; do cat $each/memory.limit_in_bytes $each/memory.max; done | grep 67108864'
        await 'for each in $groups; do cat $each/cpu.cfs_quota_us $each/cpu.max; done | grep "^20000"'
        await '[ "$(get .status.containerStatuses[0].resources.limits.memory)" = 64Mi ]'
        get .status.containerStatuses[0].restartCount"# => "0";
    statistics: r#"
        # What an idle program used may stay 0 where the scheduler's clock has steps of 10 ms.
        pod '' '' sh -c 'seq 500000 >/dev/null; sleep 1000'
        ready
        summary() { kubectl get --raw /api/v1/nodes/node/proxy/stats/summary | tr -d ' \n' | sed 's/"podRef"/\n&/g' | grep "\"name\":\"$name\""; }
        await 'summary | grep "workingSetBytes\":[1-9]"'
        await 'summary | grep "usageCoreNanoSeconds\":[1-9]"'
        ! [ -e /sys/fs/cgroup/kubepods*/cpu.pressure ] || await 'summary | grep psi'
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
    let output = kubelet().script("mapped", script).limit(280).output().ok();
    assert_eq!(output.line(), expected, "{script}");
}
