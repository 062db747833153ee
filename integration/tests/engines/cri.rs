//! containerd as Kubernetes uses it: pods and containers by the Container Runtime Interface.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use coracle_integration::{Command, Manager, needs, skip};

use crate::checks;
use crate::containerd::{self, NOTHING_LEFT, ONE, Release};
use crate::engine::{Engine, Shared};

static CRI: Shared<Engine> = Shared::new();

/// The network of pods.
pub(crate) const NETWORK: &str = r#"{"cniVersion": "0.4.0", "name": "pods", "plugins": [
{"type": "bridge", "bridge": "pods0", "isGateway": true,
"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/16"}]]}}]}"#;

/// `pod LINUX` and `container LINUX FIELDS COMMAND...` set `$pod` and `$c`.
const PRELUDE: &str = r#"
trap end EXIT
# The pods are noted in a file, for those that the first part of a pipe makes.
end() {
    for each in $(cat /tmp/$name.pods); do
        cri StopPodSandbox "{\"pod_sandbox_id\": \"$each\"}" || true
        cri RemovePodSandbox "{\"pod_sandbox_id\": \"$each\"}" || echo $name >>/tmp/stays
    done >/dev/null
}
sandbox() {
    printf '{"metadata": {"name": "%s", "uid": "%s", "namespace": "default"},' $name $name
    # systemd makes no group without a slice for it.
    case $parent,$1 in ,* | *cgroup_parent*) ;; *) set -- "\"cgroup_parent\": \"$parent\"${1:+,} $1" ;; esac
    # The name of the host is not a pod's to set.
    case $1 in *'"network": 2'*) ;; *) printf '"hostname": "%s",' $name ;; esac
    printf '"log_directory": "/tmp/logs", "linux": {%s}}' "$1"
}
node='"security_context": {"namespace_options": {"network": 2}}'
handler=coracle
pod() {
    linux=${1-$node}
    mkdir -p /tmp/logs
    pod=$(cri RunPodSandbox "{\"config\": $(sandbox "$linux"), \"runtime_handler\": \"$handler\"}" \
        pod_sandbox_id)
    echo $pod >>/tmp/$name.pods
}
# The command's words become a JSON list.
list() { sep=; for word; do printf '%s"%s"' "$sep" "$word"; sep=', '; done; }
create() {
    inner=$1 fields=$2
    shift 2
    c=$(cri CreateContainer "{\"pod_sandbox_id\": \"$pod\", \"config\": {
        \"metadata\": {\"name\": \"one$(cat /proc/sys/kernel/random/uuid)\"}, $fields
        \"image\": {\"image\": \"localhost/busybox:latest\"}, \"log_path\": \"$name.log\",
        \"command\": [$(list "$@")], \"linux\": {$inner}}, \"sandbox_config\": $(sandbox "$linux")}" \
        container_id)
}
id() { echo "{\"container_id\": \"$c\"}"; }
container() { create "$@"; cri StartContainer "$(id)" >/dev/null; }
field() { cri ContainerStatus "$(id)" status.$1; }
over() { await '[ $(field state) = 2 ]'; }
# Prints the log.
logged() { cut -d ' ' -f 4- /tmp/logs/$name.log; }
# Runs a container to its end and prints its log.
run() {
    pod "$node"
    container "$@"
    over
    logged
}
# Attaches to the container, types a line once its output arrives, and leaves all output in a file.
type_once_ready() {
    mkfifo /tmp/$name.in
    cri attach "$@" $c </tmp/$name.in >/tmp/$name.out &
    exec 9>/tmp/$name.in
    await "grep ready /tmp/$name.out"
    echo typed >&9
    exec 9>&-
    wait $!
}
stop() { cri StopContainer "{\"container_id\": \"$c\", \"timeout\": $1}" >/dev/null; }
group() {
    of=$(sed -n "s/.*:${1%%.*}://p; s/^0:://p" /proc/$(init)/cgroup | head -n 1)
    cat /sys/fs/cgroup/${1%%.*}$of/$1 2>/dev/null || cat /sys/fs/cgroup$of/$2
}
# Prints the group that kubelet makes for the pod, of this class.
group_of_pod() {
    unit=pod$(echo $name | tr - _)
    case $1 in guaranteed) class= ;; *) class=$1 ;; esac
    case $parent in
    '') echo /kubepods${class:+/$class}/$unit ;;
    *) echo /kubepods.slice${class:+/kubepods-$class.slice}/kubepods${class:+-$class}-$unit.slice ;;
    esac
}
resize() { cri UpdateContainerResources "{\"container_id\": \"$c\", \"linux\": {$1}}" >/dev/null; }
init() { ctr -n k8s.io task ls | awk -v c=$c '$1 == c { print $2 }'; }
"#;

fn cri() -> Arc<Engine> {
    CRI.get(|| set_up(ONE))
}

/// containerd with a client of the interface, and the machine's manager of control groups.
pub(crate) fn set_up(release: Release) -> Engine {
    set_up_with(release, Manager::of_machine())
}

/// The same, with this manager of control groups.
pub(crate) fn set_up_with(release: Release, manager: Manager) -> Engine {
    needs_client();
    let mut engine = containerd::set_up(release, manager);
    install_client(&engine);
    engine.run("client", "await 'cri Version'");
    engine.prelude += &prelude(manager);
    engine
}

/// The client, and the network of its pods.
pub(crate) fn install_client(engine: &Engine) {
    engine.write("/etc/cni/net.d/10-pods.conflist", NETWORK);
    engine.write("/usr/local/bin/cri", CLIENT);
    engine.run("client", "chmod 755 /usr/local/bin/cri");
}

/// The client of the interface.
pub(crate) const CLIENT: &str = include_str!("../../engines/cri");

/// Ends the test as skipped unless the client can run.
pub(crate) fn needs_client() {
    let has_client = Command::new("python3").args(["-c", "import grpc, google.protobuf"]);
    if has_client.output().code != 0 {
        skip!("needs python3-grpcio and python3-protobuf");
    }
}

/// The beginning of scripts, with parents for control groups.
pub(crate) fn prelude(manager: Manager) -> String {
    let parents = match manager {
        Manager::Cgroupfs => "parent= some_parent=/some-pod",
        Manager::Systemd => "parent=pods.slice some_parent=some-pod.slice",
    };
    format!("{parents}\n{PRELUDE}")
}

#[test(last)]
fn nothing_is_left_behind() {
    let Some(cri) = CRI.take() else { return };
    nothing_left(&cri);
}

pub(crate) fn nothing_left(cri: &Engine) {
    let script = format!("cat /tmp/stays 2>/dev/null || true\n{NOTHING_LEFT}");
    cri.check("", &script, "");
}

#[test]
fn memory_quality_of_service() {
    needs::version_2();
    let script = r#"
        pod
        container '"resources": {"memory_limit_in_bytes": 67108864, "unified": {"memory.min": "16777216", "memory.high": "50331648"}}' '' sleep 1000
        group - memory.min
        group - memory.high
        resize '"memory_limit_in_bytes": 67108864, "unified": {"memory.high": "58720256"}'
        group - memory.high"#;
    cri().check("memory-qos", script, "16777216\n50331648\n58720256");
}

#[test]
fn memory_and_swap() {
    needs::version_2();
    if !Path::new("/proc/swaps").exists() {
        skip!("needs a kernel with swap");
    }
    let script = r#"
        pod
        container '"resources": {"memory_limit_in_bytes": 67108864, "memory_swap_limit_in_bytes": 100663296}' '' sleep 1000
        group - memory.swap.max
        resize '"memory_limit_in_bytes": 67108864, "memory_swap_limit_in_bytes": 67108864'
        group - memory.swap.max"#;
    cri().check("swap", script, "33554432\n0");
}

#[test]
fn an_apparmor_profile() {
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    if !loaded.contains("guest-test") {
        skip!("needs the AppArmor profile guest-test");
    }
    let script = r#"
        run '"security_context": {"apparmor": {"profile_type": 2, "localhost_ref": "guest-test"}}' '' cat /proc/self/attr/current"#;
    cri().check("apparmor", script, "guest-test (enforce)");
}

/// Checks that every engine passes.
macro_rules! checks_of_any_engine {
    ($engine:path) => {
$crate::checks! { $engine,
    the_runtime_is_ready: r#"
        cri Status '{}' status.conditions.0.type status.conditions.0.status"# => "RuntimeReady\nTrue";

    a_pod: r#"
        pod ''
        cri PodSandboxStatus "{\"pod_sandbox_id\": \"$pod\"}" status.state"# => "0";
    a_pod_has_an_address: r#"
        pod ''
        cri PodSandboxStatus "{\"pod_sandbox_id\": \"$pod\"}" status.network.ip | cut -d . -f 1,2"# => "10.77";
    a_pod_of_the_hosts_network: r#"
        pod
        container '' '' sleep 1000
        [ $(readlink /proc/$(init)/ns/net) != $(readlink /proc/self/ns/net) ] || echo host"# => "host";
    a_pod_stops: r#"
        pod
        cri StopPodSandbox "{\"pod_sandbox_id\": \"$pod\"}" >/dev/null
        cri PodSandboxStatus "{\"pod_sandbox_id\": \"$pod\"}" status.state"# => "1";
    a_pods_kernel_parameters: r#"
        pod '"sysctls": {"net.ipv4.ip_default_ttl": "77"}'
        container '' '' sleep 1000
        cri sync $c cat /proc/sys/net/ipv4/ip_default_ttl"# => "77";
    a_pods_host_name: r#"
        pod ''
        container '' '' sleep 1000
        [ $(cri sync $c hostname) = $name ] && echo same"# => "same";
    a_pods_control_group: r#"
        pod "\"cgroup_parent\": \"$some_parent\", $node"
        container '' '' sleep 1000
        grep -q "/some-pod.*$c" /proc/$(init)/cgroup && echo below"# => "below";

    output_in_the_log: "run '' '' sh -c 'echo out; echo err >&2' | sort" => "err\nout";
    exit_code: "run '' '' sh -c 'exit 7'; field exit_code" => "7";
    a_killed_one: r#"
        pod
        container '' '' sleep 1000
        kill -9 $(init)
        over
        field exit_code"# => "137";
    environment: r#"
        run '' '"envs": [{"key": "A", "value": "b c"}],' sh -c 'echo $A'"# => "b c";
    working_directory: "run '' '\"working_dir\": \"/tmp\",' pwd" => "/tmp";
    user_and_groups: r#"
        run '"security_context": {"run_as_user": {"value": 1000}, "run_as_group": {"value": 2000}, "supplemental_groups": [77]}' '' sh -c 'id -u; id -G'"# => "1000\n2000 77";
    a_read_only_root: r#"
        run '"security_context": {"readonly_rootfs": true}' '' touch /x"# => "touch: /x: Read-only file system";
    a_capability_added: r#"
        run '"security_context": {"capabilities": {"drop_capabilities": ["ALL"], "add_capabilities": ["NET_RAW"]}}' '' grep CapEff /proc/self/status |
        tr -d '[:alpha:][:space:]'"# => ":0000000000002000";
    no_new_privileges: r#"
        run '"security_context": {"no_new_privs": true}' '' grep NoNewPrivs /proc/self/status |
        tr -d '[:alpha:][:space:]'"# => ":1";
    privileged: r#"
        pod '"security_context": {"privileged": true, "namespace_options": {"network": 2}}'
        container '"security_context": {"privileged": true}' '' sh -c 'mkdir /m; mount -t tmpfs x /m && echo mounted'
        over
        logged"# => "mounted";
    masked_paths: r#"
        run '"security_context": {"masked_paths": ["/proc/keys"]}' '' sh -c 'test -c /proc/keys && echo masked'"# => "masked";
    read_only_paths: r#"
        run '"security_context": {"readonly_paths": ["/proc/sys"]}' '' sh -c 'echo 1 >/proc/sys/kernel/panic' |
        grep -o 'Read-only file system'"# => "Read-only file system";
    no_stray_descriptors: "run '' '' sh -c 'ls /proc/self/fd | wc -l'" => "4";
    the_default_profile: r#"
        run '"security_context": {"seccomp": {"profile_type": 0}}' '' grep -c '^Seccomp:.*2' /proc/self/status"# => "1";
    an_unconfined_one: r#"
        run '"security_context": {"seccomp": {"profile_type": 1}}' '' grep -c '^Seccomp:.*0' /proc/self/status"# => "1";
    a_profile_of_the_node: r#"
        cat >/tmp/$name.json <<END
{"defaultAction": "SCMP_ACT_ALLOW",
 "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}
END
        run '"security_context": {"seccomp": {"profile_type": 2, "localhost_ref": "/tmp/'$name'.json"}}' '' mkdir /x"# => "mkdir: can't create directory '/x': Operation not supported";
    an_unmasked_proc: r#"
        run '' '' grep -c ' /proc/' /proc/self/mountinfo"# => "0";
    a_program_without_permission: r#"
        pod
        complaint container '' '' /etc/passwd | grep -o 'permission denied'"# => "permission denied";

    a_volume: r#"
        mkdir -p /tmp/$name
        run '' '"mounts": [{"container_path": "/v", "host_path": "/tmp/'$name'"}],' touch /v/file
        ls /tmp/$name"# => "file";
    a_read_only_volume: r#"
        run '' '"mounts": [{"container_path": "/v", "host_path": "/etc", "readonly": true}],' touch /v/x"# => "touch: /v/x: Read-only file system";
    propagation_into_the_container: r#"
        mkdir -p /tmp/$name
        mount -t tmpfs x /tmp/$name
        mount --make-shared /tmp/$name
        mkdir /tmp/$name/m
        pod
        container '' '"mounts": [{"container_path": "/v", "host_path": "/tmp/'$name'", "propagation": 1}],' sleep 1000
        mount -t tmpfs y /tmp/$name/m
        touch /tmp/$name/m/seen
        cri sync $c ls /v/m
        stop 0
        umount -R /tmp/$name"# => "seen";
    propagation_out_of_the_container: r#"
        mkdir -p /tmp/$name
        mount -t tmpfs x /tmp/$name
        mount --make-shared /tmp/$name
        mkdir /tmp/$name/m
        pod '"security_context": {"privileged": true, "namespace_options": {"network": 2}}'
        container '"security_context": {"privileged": true}' '"mounts": [{"container_path": "/v", "host_path": "/tmp/'$name'", "propagation": 2}],' sleep 1000
        cri sync $c mount -t tmpfs y /v/m
        grep -c /tmp/$name/m /proc/self/mountinfo
        stop 0
        umount -R /tmp/$name"# => "1";
    a_device: r#"
        run '' '"devices": [{"container_path": "/dev/nought", "host_path": "/dev/zero", "permissions": "rwm"}],' sh -c 'head -c 3 /dev/nought | wc -c'"# => "3";

    the_network_is_the_pods: r#"
        pod ''
        container '' '' sleep 1000
        first=$(readlink /proc/$(init)/ns/net)
        container '' '' sleep 1000
        [ $first = $(readlink /proc/$(init)/ns/net) ] &&
        [ $first != $(readlink /proc/self/ns/net) ] &&
        echo same"# => "same";
    semaphores_are_the_pods: r#"
        pod
        container '' '' sleep 1000
        first=$(readlink /proc/$(init)/ns/ipc)
        container '' '' sleep 1000
        [ $first = $(readlink /proc/$(init)/ns/ipc) ] && echo same"# => "same";
    processes_are_the_pods: r#"
        pod '"security_context": {"namespace_options": {"network": 2, "pid": 0}}'
        shared='"security_context": {"namespace_options": {"pid": 0}}'
        container "$shared" '' sleep 1234
        container "$shared" '' sleep 1000
        cri sync $c ps | grep -c '[s]leep 1[02].[04]$'"# => "2";
    processes_are_the_containers: r#"
        pod
        own='"security_context": {"namespace_options": {"pid": 1}}'
        container "$own" '' sleep 1000
        cri sync $c cat /proc/1/comm"# => "sleep";
    processes_of_a_target: r#"
        pod
        own='"security_context": {"namespace_options": {"pid": 1}}'
        container "$own" '' sleep 1234
        container '"security_context": {"namespace_options": {"pid": 3, "target_id": "'$c'"}}' '' sleep 1000
        cri sync $c cat /proc/1/cmdline | tr '\0' ' '"# => "sleep 1234";
    processes_are_the_nodes: r#"
        pod '"security_context": {"namespace_options": {"network": 2, "pid": 2}}'
        container '"security_context": {"namespace_options": {"pid": 2}}' '' sleep 1000
        [ "$(cri sync $c cat /proc/1/comm)" = "$(cat /proc/1/comm)" ] && echo same"# => "same";

    exec_and_wait: r#"
        pod
        container '' '' sleep 1000
        code cri sync $c sh -c 'exit 9'
        cri sync $c sh -c 'echo out; echo err >&2' 2>/dev/null"# => "9\nout";
    exec_of_a_missing_program: r#"
        pod
        container '' '' sleep 1000
        complaint cri sync $c no-such-program | grep -o 'executable file not found in .PATH'"# => "executable file not found in $PATH";
    exec_as_a_stream: r#"
        pod
        container '' '' sleep 1000
        code cri exec $c sh -c 'exit 4'
        cri exec $c sh -c 'echo out; echo err >&2' 2>/dev/null"# => "4\nout";
    exec_with_input: r#"
        pod
        container '' '' sleep 1000
        echo typed | cri exec $c head -n 1"# => "typed";
    exec_on_a_terminal: r#"
        pod
        container '' '' sleep 1000
        cri exec -t $c tty | tr -d '\r'"# => "/dev/pts/0";
    // containerd attaches the input before the output, so an answer to what is typed at once can be
    // lost; and it ends the streams with the container, so that the last line can be lost, too.
    attach: r#"
        pod
        container '' '"stdin": true,' sh -c 'until read -t 1 line; do echo ready; done; echo got $line; sleep 1; exit 4'
        type_once_ready
        grep -v ready /tmp/$name.out
        over
        field exit_code"# => "got typed\n4";
    attach_to_a_terminal: r#"
        pod
        container '' '"stdin": true, "tty": true,' sh -c 'until read -t 1 line; do echo ready; done; tty; exit 5'
        type_once_ready -t
        grep -o /dev/pts/0 /tmp/$name.out
        over
        field exit_code"# => "/dev/pts/0\n5";

    stop_by_signal: r#"
        pod
        container '' '' sh -c 'trap \"exit 5\" TERM; echo ready; while :; do sleep 0.02; done'
        await "grep ready /tmp/logs/$name.log"
        stop 20
        field exit_code"# => "5";
    stop_by_force: r#"
        pod
        container '' '' sh -c 'trap \"\" TERM; while :; do sleep 0.02; done'
        stop 0
        field exit_code"# => "137";
    stop_of_the_stopped: "pod; container '' '' true; over; stop 1; stop 1; field exit_code" => "0";
    removal: r#"
        pod
        container '' '' true
        over
        cri RemoveContainer "$(id)" >/dev/null
        code field state"# => "1";
    removal_of_a_running_one: r#"
        pod
        container '' '' sleep 1000
        cri RemoveContainer "$(id)" >/dev/null
        code field state"# => "1";
    removal_of_a_created_one: r#"
        pod
        create '' '' sleep 1000
        cri RemoveContainer "$(id)" >/dev/null
        code field state"# => "1";
    a_pod_ends_its_containers: r#"
        pod
        container '' '' sleep 1000
        cri StopPodSandbox "{\"pod_sandbox_id\": \"$pod\"}" >/dev/null
        field state"# => "2";
    another_attempt: r#"
        pod
        container '' '' true
        over
        container '' '' true
        over
        field exit_code"# => "0";

    memory: r#"
        pod
        container '"resources": {"memory_limit_in_bytes": 67108864}' '' sleep 1000
        group memory.limit_in_bytes memory.max"# => "67108864";
    processor_shares: r#"
        pod
        container '"resources": {"cpu_shares": 512}' '' sleep 1000
        group cpu.shares cpu.weight | sed 's/^59$/512/'"# => "512";
    // containerd must read of the kill before the cgroup is removed.
    killed_for_memory: r#"
        run '"resources": {"memory_limit_in_bytes": 16777216}' '' sh -c 'head -c 100m /dev/zero | tail; sleep 1; exit 1' >/dev/null
        field reason"# => "OOMKilled";
    updated_memory: r#"
        pod
        container '"resources": {"memory_limit_in_bytes": 67108864}' '' sleep 1000
        resize '"memory_limit_in_bytes": 134217728'
        group memory.limit_in_bytes memory.max"# => "134217728";
    devices_after_an_update: r#"
        pod
        container '"resources": {"memory_limit_in_bytes": 67108864}' '' sleep 1000
        resize '"cpu_shares": 512'
        cri sync $c sh -c 'echo kept >/dev/null && echo well'"# => "well";
    resized_in_place: r#"
        pod
        container '"resources": {"cpu_period": 100000, "cpu_quota": 50000, "memory_limit_in_bytes": 67108864}' '' sleep 1000
        before=$(init)
        for size in 128 32; do
            resize "\"cpu_period\": 100000, \"cpu_quota\": ${size}000, \"memory_limit_in_bytes\": $((size * 1048576))"
            echo $(group cpu.cfs_quota_us cpu.max) $(group memory.limit_in_bytes memory.max) | cut -d ' ' -f 1,2,3 | sed 's/ 100000 / /'
        done
        [ $before = $(init) ] && echo same"# => "128000 134217728\n32000 33554432\nsame";
    quality_of_service: r#"
        for class in guaranteed burstable besteffort; do
            place=$(group_of_pod $class)
            pod "\"cgroup_parent\": \"$place\", $node"
            container '' '' sleep 1000
            grep -q "$place/.*$c" /proc/$(init)/cgroup && echo $class
            end
            : >/tmp/$name.pods
        done"# => "guaranteed\nburstable\nbesteffort";
    // A pod's own limit is kubelet's to set, on the group that it made. The shell would
    // print `Killed` on stderr.
    memory_of_the_whole_pod: r#"
        place=$(group_of_pod burstable)
        pod "\"cgroup_parent\": \"$place\", $node"
        limit=/sys/fs/cgroup/memory$place/memory.limit_in_bytes
        [ -e $limit ] || limit=/sys/fs/cgroup$place/memory.max
        echo 33554432 >$limit
        container '' '' sh -c 'exec 2>/dev/null; head -c 100m /dev/zero | tail >/dev/null; echo $?'
        over
        logged"# => "137";
    oom_score: r#"
        run '"resources": {"oom_score_adj": 999}' '' cat /proc/self/oom_score_adj"# => "999";
    statistics: r#"
        pod
        container '' '' sleep 1000
        await '[ $(cri ContainerStats "$(id)" stats.memory.working_set_bytes.value) -gt 0 ]'
        echo well"# => "well";
}
    };
}
pub(crate) use checks_of_any_engine;

checks_of_any_engine!(cri);

checks! { cri,
    a_program_that_is_missing: r#"
        pod
        create '' '' no-such-program
        complaint cri StartContainer "$(id)" | grep -o 'executable file not found in .PATH'
        field exit_code"# => "executable file not found in $PATH\n128";
    exec_with_a_time_limit: r#"
        pod
        container '' '' sleep 1000
        complaint cri ExecSync "{\"container_id\": \"$c\", \"cmd\": [\"sleep\", \"2000\"], \"timeout\": 1}" |
        grep -o 'timeout 1s exceeded'
        await '! pgrep -f "^sleep 2000$"'"# => "timeout 1s exceeded";
    a_dead_shim: r#"
        pod
        container '' '' sleep 1000
        pkill -9 -f "containerd-shim.* -id $pod"
        await '[ $(cri PodSandboxStatus "{\"pod_sandbox_id\": \"$pod\"}" status.state) = 1 ]'
        over
        echo over"# => "over";
}
