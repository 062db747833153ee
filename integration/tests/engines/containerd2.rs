//! containerd 2 as Kubernetes uses it: what it asks a runtime for beyond its first release.

use std::path::Path;
use std::sync::Arc;

use coracle_integration::{Manager, skip};

use crate::checks;
use crate::containerd::TWO;
use crate::cri;
use crate::engine::{Engine, Shared};

static CONTAINERD: Shared<Engine> = Shared::new();

/// A pod with users of its own, and what its containers have to repeat.
const PRELUDE: &str = r#"
ids='[{"container_id": 0, "host_id": 1000000, "length": 65536}]'
users='"userns_options": {"mode": 0, "uids": '$ids', "gids": '$ids'}'
own='"security_context": {"namespace_options": {'$users'}}'
"#;

/// Ends the test as skipped unless containerd 2 is there.
pub(crate) fn needs_it() {
    if !TWO.folder.is_some_and(|folder| Path::new(folder).exists()) {
        skip!("needs containerd 2 in /opt/containerd2");
    }
}

fn containerd() -> Arc<Engine> {
    CONTAINERD.get(|| {
        needs_it();
        let mut engine = cri::set_up(TWO);
        engine.prelude += PRELUDE;
        engine
    })
}

#[test(last)]
fn nothing_is_left_behind() {
    let Some(containerd) = CONTAINERD.take() else {
        return;
    };
    cri::nothing_left(&containerd);
}

checks! { containerd,
    the_release: "cri Version '{}' runtime_version | cut -c 1-2" => "2.";
    it_reads_our_features: r#"
        cri Status '{}' | tr -d ' \n' | grep -o '"name":"coracle","features":{[^}]*}'"# => r#""name":"coracle","features":{"recursive_read_only_mounts":true,"user_namespaces":true}"#;
    output_in_the_log: "run '' '' sh -c 'echo out; echo err >&2' | sort" => "err\nout";
    exit_code: "run '' '' sh -c 'exit 7'; field exit_code" => "7";
    a_program_that_is_missing: r#"
        pod
        create '' '' no-such-program
        complaint cri StartContainer "$(id)" | grep -o 'executable file not found in .PATH'
        field exit_code"# => "executable file not found in $PATH\n128";
    a_control_group: r#"
        pod "\"cgroup_parent\": \"$some_parent\", $node"
        container '' '' sleep 1000
        grep -q "/some-pod.*$c" /proc/$(init)/cgroup && echo below"# => "below";
    exec_with_input: r#"
        pod
        container '' '' sleep 1000
        echo typed | cri exec $c head -n 1"# => "typed";
    exec_on_a_terminal: r#"
        pod
        container '' '' sleep 1000
        cri exec -t $c tty | tr -d '\r'"# => "/dev/pts/0";
    updated_memory: r#"
        pod
        container '"resources": {"memory_limit_in_bytes": 67108864}' '' sleep 1000
        resize '"memory_limit_in_bytes": 134217728'
        group memory.limit_in_bytes memory.max"# => "134217728";
    statistics: r#"
        pod
        container '' '' sleep 1000
        await '[ $(cri ContainerStats "$(id)" stats.memory.working_set_bytes.value) -gt 0 ]'
        echo well"# => "well";

    a_pod_of_mapped_users: r#"
        pod "$own"
        container "$own" '' sleep 1000
        cri sync $c cat /proc/self/uid_map | tr -s ' '
        stat -c %u /proc/$(init)"# => " 0 1000000 65536\n1000000";
    its_root_is_its_own: r#"
        pod "$own"
        container "$own" '' sleep 1000
        cri sync $c stat -c %u:%g /bin/busybox
        cri sync $c touch /file
        cri sync $c stat -c %u:%g /file"# => "0:0\n0:0";
    // The kernel gives a user namespace a procfs only where nothing covers the outer one.
    an_unmasked_proc_lets_pods_nest: r#"
        for masks in '' '"masked_paths": ["/proc/keys"],'; do
            pod "$own"
            container "${own%\}}, $masks \"apparmor\": {\"profile_type\": 1}}" '' sleep 1000
            code cri sync $c unshare -U -r -m -p -f mount -t proc proc /proc
            end
            : >/tmp/$name.pods
        done"# => "0\n1";
    a_volume_is_mapped: r#"
        mkdir -p /tmp/$name
        pod "$own"
        container "$own" '"mounts": [{"container_path": "/v", "host_path": "/tmp/'$name'", "uidMappings": '"$ids"', "gidMappings": '"$ids"'}],' sleep 1000
        cri sync $c touch /v/file
        stat -c %u:%g /tmp/$name/file"# => "0:0";
    an_image_as_a_volume: r#"
        run '' '"mounts": [{"container_path": "/v", "image": {"image": "localhost/busybox:latest"}, "readonly": true}],' sh -c 'test -x /v/bin/busybox && touch /v/x'"# => "touch: /v/x: Read-only file system";
    groups_of_the_pod_alone: r#"
        run '"security_context": {"run_as_user": {"value": 65534}, "supplemental_groups": [77], "supplemental_groups_policy": 1}' '' id -G"# => "65534 77";
    a_recursively_read_only_volume: r#"
        mkdir -p /tmp/$name
        mount -t tmpfs x /tmp/$name
        mkdir /tmp/$name/below
        mount -t tmpfs y /tmp/$name/below
        pod
        container '' '"mounts": [{"container_path": "/v", "host_path": "/tmp/'$name'", "readonly": true, "recursive_read_only": true}],' sleep 1000
        complaint cri sync $c touch /v/below/x
        stop 0
        umount -R /tmp/$name"# => "touch: /v/below/x: Read-only file system";
}

/// The kubelet's forensic checkpoint: an archive of the container, which goes on.
#[test]
fn a_checkpoint() {
    needs_it();
    // A daemon of its own, which finds criu: its shims inherit the path.
    let containerd = cri::set_up_with(TWO, Manager::Cgroupfs);
    containerd.needs_criu();
    let script = r#"
        export PATH=/usr/local/sbin:$PATH
        pkill -x containerd; await '! pgrep -x containerd'; daemon
        await 'cri Version'
        pod
        # A sleep that a dump interrupts may end early.
        container '' '' sh -c 'echo kept >/kept; while :; do sleep 1; done'
        await "cri sync $c test -s /kept"
        archive=/tmp/$name.tar
        cri CheckpointContainer "{\"container_id\": \"$c\", \"location\": \"$archive\"}" >/dev/null
        tar -tf $archive | grep -c pages-
        field state
        stop 0
        "#;
    containerd.check("checkpoint", script, "2\n1");
}
