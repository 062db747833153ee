//! podman and conmon, as root.

use std::sync::Arc;

use coracle_integration::{Manager, needs, skip};

use crate::checks;
use crate::engine::{Engine, Page, Shared, images};

static PODMAN: Shared<Engine> = Shared::new();

/// The privileges that this root may lack, and the manager of control groups.
pub(crate) fn machine(manager: Manager) -> String {
    let name = manager.name();
    format!(
        "[containers]\ndefault_ulimits = []\nlog_driver = \"k8s-file\"\n\
         [engine]\ncgroup_manager = \"{name}\"\nevents_logger = \"file\"\n"
    )
}

/// `$run` is a container that is removed at its end, `start` one that does nothing, in the
/// background; both as `$name`. `cgroup FILE1 FILE2` prints a file of its control group.
const PRELUDE: &str = r#"
run="podman run --rm --network none"
start() {
    podman run --detach --name $name --network none "$@" busybox sleep 1000 >/dev/null
    trap 'podman rm --force --time 0 $name >/dev/null 2>&1' EXIT
}
inspect() { podman inspect --format "{{.$1}}" $name; }
cgroup() {
    pid=$(inspect State.Pid)
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        cat /sys/fs/cgroup$(sed s/0::// /proc/$pid/cgroup)/$2
    else
        cat /sys/fs/cgroup/${1%%.*}$(sed -n "s/.*:${1%%.*}://p" /proc/$pid/cgroup)/$1
    fi
}
"#;

/// The beginning of scripts, with a parent for control groups in `$parent`.
pub(crate) fn prelude(manager: Manager) -> String {
    match manager {
        Manager::Cgroupfs => format!("parent=/some-parent\n{PRELUDE}"),
        Manager::Systemd => format!("parent=some-parent.slice\n{PRELUDE}"),
    }
}

fn podman() -> Arc<Engine> {
    PODMAN.get(|| set_up(Manager::of_machine()))
}

/// podman of root's, and the images.
pub(crate) fn set_up(manager: Manager) -> Engine {
    needs::program("podman");
    needs::program("conmon");
    let mut engine = Engine::new(manager);
    engine.may_lose_output = true;
    engine.prelude = prelude(manager);
    let file = "/etc/containers/containers.conf";
    engine.write(file, &Page::Engines.block(file));
    engine.write(
        "/etc/containers/containers.conf.d/machine.conf",
        &machine(manager),
    );
    for file in ["/etc/subuid", "/etc/subgid"] {
        engine.write(file, "containers:1000000:1000000\n");
    }
    let archive = images(&engine.sandbox);
    engine
        .command("podman")
        .args(["load", "--input"])
        .arg(archive)
        .output()
        .ok();
    engine
}

#[test(last)]
fn nothing_is_left_behind() {
    let Some(podman) = PODMAN.take() else { return };
    let left = r#"
podman ps --all --quiet
find /run/coracle /run/crun /run/runc -mindepth 1 2>/dev/null || true
find /sys/fs/cgroup -type d -name '*libpod-*'
new_roots
alive conmon"#;
    podman.check("", left, "");
}

checks! { podman,
    the_runtime_is_ours: r#"
        podman info --format '{{.Host.OCIRuntime.Path}} {{.Store.GraphDriverName}}'"# => "/usr/local/bin/coracle overlay";
    output_is_passed: "$run busybox sh -c 'echo out; echo err >&2' 2>/dev/null" => "out";
    errors_are_passed: "$run busybox sh -c 'echo out; echo err >&2' 2>&1 >/dev/null" => "err";
    exit_codes: r#"
        for n in 0 1 7 125 255; do code $run busybox sh -c "exit $n"; done"# => "0\n1\n7\n125\n255";
    a_killed_program: "code $run busybox sh -c 'sh -c \"kill -9 \\$\\$\"; exit $?'" => "137";
    input_is_passed: "echo some text | $run -i busybox cat" => "some text";
    many_lines: "$run busybox seq 1 20000 | tail -n 1" => "20000";

    // Errors and exit codes of the engine for a missing or forbidden program.
    a_missing_program: "code $run busybox no-such-program" => "127";
    a_missing_path: "code $run busybox /no/such/program" => "127";
    a_missing_program_is_named: r#"
        complaint $run busybox no-such-program | grep -o 'not found in .PATH'"# => "not found in $PATH";
    a_folder_as_program: "code $run busybox /etc" => "126";
    a_program_without_permission: "code $run busybox /etc/passwd" => "126";
    an_image_without_accounts: r#"
        tar -C $rootfs -c bin/busybox | podman import --quiet - bare >/dev/null
        $run bare /bin/busybox echo well
        $run --user 7:8 bare /bin/busybox id
        code $run --user somebody bare /bin/busybox id"# => "well\nuid=7 gid=8 groups=8\n126";
    a_full_disk: r#"
        mkdir /tmp/$name
        mount -t tmpfs -o size=8k x /tmp/$name
        head -c 8k /dev/zero >/tmp/$name/fill
        full="podman --runtime-flag root=/tmp/$name"
        complaint $full run --name $name --network none busybox true | grep -o 'no space left on device'
        find /tmp/$name -mindepth 1 -printf '%f\n'
        find /sys/fs/cgroup -name "*$(inspect Id)*"
        $full rm $name >/dev/null
        umount /tmp/$name"# => "no space left on device\nfill";
    a_program_of_another_format: r#"
        echo odd >/tmp/$name
        chmod 755 /tmp/$name
        code $run -v /tmp/$name:/bin/odd:ro busybox /bin/odd"# => "126";
    a_missing_working_directory: "code $run -w /no/such/folder busybox pwd" => "126";
    a_missing_user: "code $run --user nobody-at-all busybox id" => "126";
    nothing_is_left_of_a_failed_start: r#"
        code podman run --name $name --network none busybox no-such-program
        id=$(inspect Id)
        find /run/coracle /run/crun /run/runc /sys/fs/cgroup -name "*$id*" 2>/dev/null || true
        grep $id /proc/self/mountinfo || true
        podman rm $name >/dev/null"# => "127";

    // The process.
    environment: "$run -e A='b c' busybox sh -c 'echo $A'" => "b c";
    user_and_group: "$run --user 1000:2000 busybox sh -c 'id -u; id -g'" => "1000\n2000";
    further_groups: "$run --user 1000 --group-add 77 busybox id -G" => "0 77";
    working_directory: "$run -w /tmp busybox pwd" => "/tmp";
    host_name: "$run --hostname some-name busybox hostname" => "some-name";
    capabilities_dropped: r#"
        $run --cap-drop all busybox grep CapEff /proc/self/status | tr -d '[:alpha:][:space:]'"# => ":0000000000000000";
    a_capability_added: r#"
        $run --cap-drop all --cap-add net_raw busybox grep -c 'CapEff:.*2000' /proc/self/status"# => "1";
    the_default_profile: r#"
        $run busybox grep -c '^Seccomp:.*2' /proc/self/status
        code $run --cap-add sys_admin busybox true"# => "1\n0";
    an_unconfined_one: r#"
        $run --security-opt seccomp=unconfined busybox grep -c '^Seccomp:.*0' /proc/self/status"# => "1";
    a_profile_of_choice: r#"
        echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}' >/tmp/$name
        code $run --security-opt seccomp=/tmp/$name busybox mkdir /x"# => "1";
    no_new_privileges: r#"
        $run --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status |
        tr -d '[:alpha:][:space:]'"# => ":1";
    limits_of_resources: r#"
        $run --ulimit nofile=100:200 --ulimit nproc=99 busybox sh -c 'ulimit -n; ulimit -Hn'"# => "100\n200";
    score_for_the_oom_killer: r#"
        $run --oom-score-adj 500 busybox cat /proc/self/oom_score_adj"# => "500";
    file_mode_mask: "$run --umask 0077 busybox sh -c umask" => "0077";
    kernel_parameters: r#"
        $run --sysctl net.ipv4.ip_default_ttl=77 busybox cat /proc/sys/net/ipv4/ip_default_ttl"# => "77";
    privileged: r#"
        $run --privileged busybox sh -c 'mount -t tmpfs x /mnt 2>/dev/null || mkdir /m && mount -t tmpfs x /m && echo mounted'"# => "mounted";
    init_reaps: r#"
        $run --init busybox sh -c 'tr "\0" " " </proc/1/cmdline | cut -c 1-16'"# => "/run/podman-init";
    preserved_descriptors: r#"
        $run --preserve-fds 1 busybox sh -c 'cat <&3' 3<<END
given
END
"# => "given";
    no_stray_descriptors: r#"
        exec 9</etc/passwd
        $run busybox sh -c 'ls /proc/self/fd | tr "\n" " "'"# => "0 1 2 3";
    signal_mask_is_empty: r#"
        $run busybox grep SigBlk /proc/self/status | tr -d '[:alpha:][:space:]'"# => ":0000000000000000";

    // Files.
    a_volume: r#"
        mkdir /tmp/$name
        $run -v /tmp/$name:/volume busybox touch /volume/file
        ls /tmp/$name"# => "file";
    a_read_only_volume: r#"
        $run -v /etc:/volume:ro busybox sh -c 'touch /volume/x 2>&1'||true"# => "touch: /volume/x: Read-only file system";
    a_named_volume: r#"
        podman volume create $name >/dev/null
        $run -v $name:/v busybox sh -c 'echo kept >/v/f'
        $run -v $name:/v busybox cat /v/f
        podman volume rm $name >/dev/null"# => "kept";
    an_overlay_volume: r#"
        mkdir /tmp/$name
        $run -v /tmp/$name:/v:O busybox touch /v/x
        ls /tmp/$name"# => "";
    propagation_into_the_container: r#"
        mkdir -p /tmp/$name/m
        mount -t tmpfs x /tmp/$name
        mkdir /tmp/$name/m
        mount --make-shared /tmp/$name
        podman run -d --name $name --network none -v /tmp/$name:/v:rslave busybox sleep 1000 >/dev/null
        mount -t tmpfs y /tmp/$name/m
        touch /tmp/$name/m/seen
        podman exec $name ls /v/m
        podman rm -f -t 0 $name >/dev/null
        umount -R /tmp/$name"# => "seen";
    propagation_out_of_the_container: r#"
        mkdir -p /tmp/$name
        mount -t tmpfs x /tmp/$name
        mkdir /tmp/$name/m
        mount --make-shared /tmp/$name
        $run --privileged -v /tmp/$name:/v:rshared busybox mount -t tmpfs y /v/m
        grep -c /tmp/$name/m /proc/self/mountinfo
        umount -R /tmp/$name"# => "1";
    a_temporary_file_system: r#"
        $run --tmpfs /scratch:size=1m,mode=1700 busybox sh -c "df -m /scratch | tail -n 1 | awk '{print \$2}'; stat -c %a /scratch""# => "1\n1700";
    a_copied_temporary_file_system: r#"
        $run --tmpfs /etc busybox cat /etc/group | head -n 1"# => "root:x:0:";
    a_mount_by_its_long_name: r#"
        $run --mount type=tmpfs,destination=/m,tmpfs-size=2m busybox grep -c ' /m tmpfs' /proc/mounts"# => "1";
    a_read_only_root: r#"
        $run --read-only busybox sh -c 'touch /x 2>/dev/null || echo refused; touch /tmp/x && echo made'"# => "refused\nmade";
    shared_memory_size: r#"
        $run --shm-size 3m busybox df -m /dev/shm | tail -n 1 | awk '{print $2}'"# => "3";
    a_device: r#"
        $run --device /dev/zero:/dev/nought busybox sh -c 'head -c 3 /dev/nought | wc -c'"# => "3";
    a_device_without_a_right: r#"
        code $run --device /dev/fuse:/dev/f:rw busybox sh -c ': <>/dev/f'
        code $run --device /dev/fuse:/dev/f:r busybox sh -c ': <>/dev/f'"# => "0\n1";
    masked_paths: "$run busybox sh -c 'wc -c </proc/keys; ls /sys/firmware | wc -l'" => "0\n0";
    read_only_paths: r#"
        $run busybox sh -c 'echo 1 >/proc/sys/kernel/panic' 2>&1 | grep -o 'Read-only file system'"# => "Read-only file system";
    an_unmasked_path: r#"
        $run --security-opt unmask=/proc/keys busybox sh -c 'test -f /proc/keys && echo seen'"# => "seen";
    a_secret: r#"
        echo hush | podman secret create $name - >/dev/null
        $run --secret $name busybox cat /run/secrets/$name
        podman secret rm $name >/dev/null"# => "hush";
    copied_files: r#"
        start
        echo in >/tmp/$name
        podman cp /tmp/$name $name:/tmp/x
        podman exec $name cat /tmp/x"# => "in";
    changes: "start; podman exec $name touch /made; podman diff $name | grep made" => "A /made";
    a_commit: r#"
        start
        podman exec $name touch /made
        podman commit -q $name $name >/dev/null
        $run $name ls /made
        podman rmi $name >/dev/null"# => "/made";

    // Life.
    exec_runs_in_it: r#"
        start
        podman exec $name sh -c 'hostname; exit 9' >/dev/null || echo $?"# => "9";
    exec_sees_its_files: r#"
        start
        podman exec $name touch /tmp/x
        podman exec $name ls /tmp/x"# => "/tmp/x";
    exec_with_user_and_environment: r#"
        start
        podman exec -u 7 -e X=y -w /tmp $name sh -c 'id -u; echo $X; pwd'"# => "7\ny\n/tmp";
    exec_with_input: "start; echo typed | podman exec -i $name cat" => "typed";
    exec_detached: r#"
        start
        podman exec -d $name touch /tmp/late >/dev/null
        await 'podman exec $name ls /tmp/late'
        echo there"# => "there";
    exec_of_a_missing_program: r#"
        start
        code podman exec $name no-such-program
        inspect State.Status"# => "127\nrunning";
    exec_without_permission: "start; code podman exec $name /etc" => "126";
    exec_in_a_missing_directory: r#"
        start
        code podman exec --workdir /no/such/folder $name pwd
        podman exec $name ls -d /no 2>/dev/null || true"# => "127";
    exec_privileged: r#"
        start
        podman exec --privileged $name grep -c '^CapEff:.000001f' /proc/self/status"# => "1";
    exec_in_a_paused_container: r#"
        start
        podman pause $name >/dev/null
        code podman exec $name true
        podman unpause $name >/dev/null"# => "255";
    stop_by_signal: r#"
        podman run -d --name $name --network none busybox sh -c 'trap "exit 5" TERM; echo ready; while :; do sleep 0.02; done' >/dev/null
        await "podman logs $name | grep ready"
        podman stop -t 20 $name >/dev/null
        inspect 'State.Status}} {{.State.ExitCode'
        podman rm $name >/dev/null"# => "exited 5";
    stop_by_force: r#"
        start --stop-timeout 0
        podman stop $name 2>/dev/null >/dev/null
        inspect State.ExitCode"# => "137";
    stop_of_a_paused_container: r#"
        start
        podman pause $name >/dev/null
        podman rm -f -t 0 $name >/dev/null
        podman ps -aq --filter name=$name"# => "";
    kill_with_a_signal: r#"
        podman run -d --name $name --network none busybox sh -c 'trap "exit 8" USR1; echo ready; while :; do sleep 0.02; done' >/dev/null
        await "podman logs $name | grep ready"
        podman kill -s USR1 $name >/dev/null
        podman wait $name
        podman rm $name >/dev/null"# => "8";
    kill_of_the_dead: r#"
        start
        podman kill $name >/dev/null
        podman wait $name >/dev/null
        code podman kill $name"# => "125";
    pause_and_resume: r#"
        start
        podman pause $name >/dev/null
        inspect State.Status
        coracle state $(inspect Id) | grep -o paused
        podman unpause $name >/dev/null
        inspect State.Status"# => "paused\npaused\nrunning";
    created_and_removed: r#"
        podman create --name $name --network none busybox true >/dev/null
        podman init $name >/dev/null
        coracle state $(inspect Id) | grep -c '"created"$\|"created",'
        podman rm -f $name >/dev/null
        podman ps -aq --filter name=$name"# => "1";
    created_then_started: r#"
        podman create --name $name --network none busybox echo late >/dev/null
        podman init $name >/dev/null
        podman start -a $name
        podman rm $name >/dev/null"# => "late";
    restarted: "start; podman restart -t 0 $name >/dev/null; inspect State.Status" => "running";
    restart_policy: r#"
        podman run -d --name $name --network none --restart on-failure:2 busybox sh -c 'exit 3' >/dev/null
        await '[ $(podman inspect --format {{.RestartCount}} $name) = 2 ]'
        await '[ $(podman inspect --format {{.State.Status}} $name) = exited ]'
        inspect State.ExitCode
        podman rm -f $name >/dev/null"# => "3";
    health: r#"
        start --health-cmd 'test -e /tmp/well' --health-interval disable
        code podman healthcheck run $name
        podman exec $name touch /tmp/well
        code podman healthcheck run $name"# => "1\n0";
    logs: r#"
        podman run --name $name --network none busybox sh -c 'echo one; echo two'>/dev/null
        podman logs $name
        podman rm $name >/dev/null"# => "one\ntwo";
    events: r#"
        $run --name $name busybox true
        podman events --stream=false --filter container=$name --format '{{.Status}}' |
        grep -v attach |
        sort -u | tr '\n' ' '"# => "create died init remove start";
    hooks_of_a_folder: r#"
        mkdir -p /tmp/$name
        echo '{"version":"1.0.0","hook":{"path":"/bin/sh","args":["sh","-c","cat >>/tmp/log; echo >>/tmp/log"]},"when":{"always":true},"stages":["createRuntime","poststop"]}' >/tmp/$name/hook.json
        podman --hooks-dir /tmp/$name run --rm --network none busybox true
        await '[ $(wc -l </tmp/log) = 2 ]'
        grep -o '"status":"[a-z]*"' /tmp/log"# => "\"status\":\"creating\"\n\"status\":\"stopped\"";

    // Resources.
    memory: "start --memory 64m; cgroup memory.limit_in_bytes memory.max" => "67108864";
    number_of_processes: "start --pids-limit 55; cgroup pids.max pids.max" => "55";
    processor_time: r#"
        start --cpus 0.5
        cgroup cpu.cfs_quota_us cpu.max | cut -d ' ' -f 1"# => "50000";
    too_many_processes: r#"
        code $run --pids-limit 5 busybox sh -c 'for n in 1 2 3 4 5 6 7 8; do sleep 1 & done'"# => "2";
    killed_for_memory: r#"
        code $run --memory 16m --memory-swap 16m busybox sh -c 'head -c 100m /dev/zero | tail'"# => "137";
    updated_limits: r#"
        start --memory 64m --cpus 0.5
        podman update --memory 128m $name >/dev/null
        cgroup memory.limit_in_bytes memory.max
        cgroup cpu.cfs_quota_us cpu.max | cut -d ' ' -f 1"# => "134217728\n50000";
    statistics: "start; podman stats --no-stream --format '{{.PIDs}}' $name" => "1";
    processes: "start; podman top $name comm | tail -n 1" => "sleep";
    without_control_groups: "$run --cgroups disabled busybox echo well" => "well";
    a_parent_of_choice: r#"
        start --cgroup-parent $parent
        find /sys/fs/cgroup -path '*parent*/libpod*' | grep -q $(inspect Id) && echo found"# => "found";
    no_traces_of_control_groups: r#"
        start --cgroup-parent $parent
        id=$(inspect Id)
        podman rm -f -t 0 $name >/dev/null
        await '! find /sys/fs/cgroup -name "*$id*" | grep .'"# => "";

    // Namespaces.
    mapped_users: r#"
        $run --userns auto:size=1000 busybox sh -c 'wc -l </proc/self/uid_map; id -u'"# => "1\n0";
    mapped_users_own_their_files: r#"
        $run --uidmap 0:100000:5000 --gidmap 0:100000:5000 busybox stat -c %u /bin"# => "0";
    processes_of_another: r#"
        start
        $run --pid container:$name busybox ps | grep -c '[s]leep 1000'"# => "1";
    everything_of_another: r#"
        start --ipc shareable
        podman run --rm --network container:$name --pid container:$name --ipc container:$name --uts container:$name busybox true &&
        echo well"# => "well";
    processes_of_the_host: r#"
        $run --pid host busybox cat /proc/1/comm | cmp - /proc/1/comm && echo same"# => "same";
    names_of_the_host: r#"
        [ $(hostname) = $($run --uts host busybox hostname) ] && echo same"# => "same";
    a_control_group_namespace: r#"
        $run --cgroupns private busybox sh -c 'grep -c libpod /proc/self/cgroup'||true"# => "0";

    // Networks.
    no_network: "$run busybox ip -o link | wc -l" => "1";
    the_hosts_network: r#"
        podman run --rm --network host busybox true
        podman run --rm --network host busybox ip -o link | grep -c lo:"# => "1";
    a_bridge: r#"
        podman run --rm busybox ip -o -4 addr show eth0 | grep -o 'inet 10.88'"# => "inet 10.88";
    the_network_of_another: r#"
        start
        podman run --rm --network container:$name busybox ip -o link | wc -l"# => "1";
    a_network_of_choice: r#"
        podman network create $name >/dev/null
        podman run --rm --network $name busybox ip -o -4 addr show eth0 | grep -c inet
        podman network rm $name >/dev/null"# => "1";
    extra_hosts: r#"
        podman run --rm --add-host other:10.1.2.3 busybox grep -c 10.1.2.3 /etc/hosts"# => "1";

    // Pods.
    a_pod: r#"
        podman pod create --name $name --network none >/dev/null
        podman run -d --pod $name busybox sleep 1000 >/dev/null
        podman run --rm --pod $name busybox true
        podman pod inspect $name --format '{{.State}} {{.NumContainers}}'
        podman pod rm -f -t 0 $name >/dev/null"# => "Running 2";
    a_pod_shares_its_network: r#"
        podman pod create --name $name >/dev/null
        podman run -d --pod $name busybox sh -c 'echo page >/tmp/index.html; exec httpd -f -p 8090 -h /tmp' >/dev/null
        await "podman run --rm --pod $name busybox wget -qO- http://localhost:8090/"
        podman run --rm --pod $name busybox wget -qO- http://localhost:8090/
        podman pod rm -f -t 0 $name >/dev/null"# => "page";
    a_pod_stops_and_starts: r#"
        podman pod create --name $name --network none >/dev/null
        podman run -d --pod $name busybox sleep 1000 >/dev/null
        podman pod stop -t 0 $name >/dev/null
        podman pod start $name >/dev/null
        podman pod inspect $name --format '{{.State}}'
        podman pod rm -f -t 0 $name >/dev/null"# => "Running";
    a_pod_of_kubernetes: r#"
        printf 'apiVersion: v1\nkind: Pod\nmetadata:\n  name: kube\nspec:\n  containers:\n  - name: one\n    image: localhost/busybox:latest\n    imagePullPolicy: Never\n    command: [sleep, "1000"]\n' >/tmp/kube.yaml
        podman play kube --network none /tmp/kube.yaml >/dev/null
        podman exec kube-one echo well
        podman pod rm -f -t 0 kube >/dev/null"# => "well";

    coracle_in_a_privileged_one: r#"
        $run --privileged $within busybox sh -c "$inner""# => "1";
    coracle_in_one_that_is_not: r#"
        $run $within busybox sh -c "$inner" 2>&1 |
        grep -o 'without CAP_SYS_ADMIN a user namespace is needed; .*--privileged'"# => "without CAP_SYS_ADMIN a user namespace is needed; list one with mappings, have one made by --userns auto, or be root; a container's root has it with --privileged";
    podman_in_a_privileged_one: r#"
        mkdir -p /tmp/$name
        $run --privileged -v /usr/local:/usr/local -v /etc:/etc -v /tmp:/tmp -v /tmp/$name:/var/lib/containers \
            --rootfs /:O sh -c '
            podman load -qi '${rootfs%/rootfs}'/images/archive.tar >/dev/null
            podman --cgroup-manager cgroupfs run --rm --network none busybox echo well'"# => "well";

    // Under other names.
    called_crun: r#"
        cp /usr/local/bin/coracle /usr/local/bin/crun
        podman --runtime /usr/local/bin/crun run --rm --network none --cgroups disabled busybox echo well"# => "well";
    called_runc: r#"
        cp /usr/local/bin/coracle /usr/local/bin/runc
        code podman --runtime /usr/local/bin/runc run --rm --network none busybox no-such"# => "127";
    called_by_an_unknown_name: r#"
        cp /usr/local/bin/coracle /usr/local/bin/unknown
        code podman --runtime /usr/local/bin/unknown run --rm --network none busybox no-such"# => "127";
}

/// As a GitLab runner does: by docker's interface, the script on standard input of a container that is
/// attached to before it is started.
#[test]
fn a_job_by_dockers_interface() {
    needs::program("docker");
    let script = r#"
        podman system service --time 0 unix:///tmp/$name.sock &
        trap "kill $!" EXIT
        export DOCKER_HOST=unix:///tmp/$name.sock
        await 'docker version'
        job="docker create --interactive --network none --pids-limit -1 --volume $name:/builds"
        $job --name $name-helper busybox sh >/dev/null
        echo 'echo fetched >/builds/file' | docker start --attach --interactive $name-helper
        $job --name $name-job busybox sh >/dev/null
        printf 'set -e\ncat /builds/file\nexit 9\necho never\n' |
            docker start --attach --interactive $name-job || echo ended with $?
        docker rm --force $name-helper $name-job >/dev/null
        docker volume rm $name >/dev/null"#;
    podman().check("api-job", script, "fetched\nended with 9");
}

/// What a refusal within a container asks for.
#[test]
fn coracle_in_one_with_writable_control_groups() {
    needs::version_2();
    let script = r#"
        some="--cap-add SYS_ADMIN,NET_ADMIN --security-opt seccomp=unconfined"
        groups="--security-opt unmask=/sys/fs/cgroup"
        [ ! -e /sys/kernel/security/apparmor ] ||
            complaint $run $some $groups $within busybox sh -c "$inner" | grep -q apparmor=unconfined
        some="$some --security-opt apparmor=unconfined"
        $run $some $within busybox sh -c "$inner" 2>&1 | grep -o unmask=/sys/fs/cgroup
        $run $some $groups $within busybox sh -c "$inner""#;
    let expected = "unmask=/sys/fs/cgroup\n1";
    podman().check("writable-groups", script, expected);
}

#[test]
fn a_terminal() {
    let script = "$run -it busybox sh -c 'tty; read line; echo got $line; exit 6'";
    let (mut terminal, running) = podman().on_terminal("terminal", script);
    terminal.expect("/dev/pts/0");
    terminal.send("typed\r");
    terminal.expect("got typed");
    running.wait().exits(6);
}

#[test]
fn a_terminal_of_exec() {
    let script = "start; podman exec -it $name sh -c 'tty; until stty size | grep 24; do :; done; read x; exit 5'";
    let (mut terminal, running) = podman().on_terminal("terminal-of-exec", script);
    terminal.expect("/dev/pts/0");
    terminal.expect("24 80");
    terminal.send("\r");
    running.wait().exits(5);
}

#[test]
fn a_detached_terminal() {
    let script = "podman run -dt --name $name --network none busybox sh -c 'tty; sleep 1000' >/dev/null
await \"podman logs $name | grep pts\"; podman logs $name | tr -d '\\r'; podman rm -f -t 0 $name >/dev/null";
    podman().check("detached-terminal", script, "/dev/pts/0");
}

#[test]
fn attach() {
    let script =
        "podman run -dit --name $name --network none busybox sh >/dev/null; podman attach $name
podman wait $name; podman rm $name >/dev/null";
    let (mut terminal, running) = podman().on_terminal("attach", script);
    terminal.send("echo $((40 + 2)); exit 4\r");
    terminal.expect("42");
    terminal.expect("\n4\r\n");
    running.wait().ok();
}

#[test]
fn published_ports() {
    let podman = podman();
    if podman
        .command("iptables")
        .args(["-t", "nat", "-N", "some-chain"])
        .output()
        .code
        != 0
    {
        skip!("needs iptables with nat");
    }
    podman.check("published-ports", PUBLISHED, "page");
}

const PUBLISHED: &str = r#"
podman run -d --name $name -p 8081:80 busybox \
    sh -c 'echo page >/tmp/index.html; exec httpd -f -h /tmp' >/dev/null
await 'busybox wget -qO- http://localhost:8081/'
busybox wget -qO- http://localhost:8081/
podman rm -f -t 0 $name >/dev/null"#;

/// `counter` is a container that counts in its log, `goes_on` waits until it does.
const COUNTER: &str = r#"
PATH=/usr/local/sbin:$PATH
counter() {
    podman run -d --name $name --network none busybox \
        sh -c 'n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done' >/dev/null
    trap 'podman rm --force --ignore --time 0 $name $name-2 >/dev/null 2>&1 || true' EXIT
    await "podman logs $name | grep -x 3"
}
goes_on() {
    before=$(podman logs --tail 1 $1)
    await "[ \$(podman logs --tail 1 $1) -gt $before ]" && echo goes on
}
"#;

#[test]
fn a_checkpoint() {
    let podman = podman();
    podman.needs_criu();
    let script = "counter
        podman container checkpoint --leave-running $name >/dev/null
        inspect State.Status
        goes_on $name
        podman container checkpoint $name >/dev/null
        inspect State.Status
        podman container restore $name >/dev/null
        inspect State.Status
        goes_on $name
        podman exec $name echo in
        podman stop --time 0 $name >/dev/null
        inspect State.Status";
    let expected = "running\ngoes on\nexited\nrunning\ngoes on\nin\nexited";
    podman.check("checkpoint", &format!("{COUNTER}{script}"), expected);
}

/// Into a file, and from it under the same name and another.
#[test]
fn an_exported_checkpoint() {
    let podman = podman();
    podman.needs_criu();
    let script = "counter
        podman exec $name sh -c 'echo kept >/root/kept'
        podman container checkpoint --export /tmp/$name.tar $name >/dev/null
        podman rm $name >/dev/null
        podman container restore --import /tmp/$name.tar >/dev/null
        podman container restore --import /tmp/$name.tar --name $name-2 >/dev/null
        for one in $name $name-2; do
            podman inspect --format '{{.State.Status}}' $one
            podman exec $one cat /root/kept
            goes_on $one
        done";
    let expected = "running\nkept\ngoes on\nrunning\nkept\ngoes on";
    podman.check(
        "exported-checkpoint",
        &format!("{COUNTER}{script}"),
        expected,
    );
}

/// Memory first, while the container goes on, and then what has changed since.
#[test]
fn a_checkpoint_after_another() {
    let podman = podman();
    podman.needs_criu();
    let check = podman.command("/usr/local/sbin/criu");
    if check
        .args(["check", "--feature", "mem_dirty_track"])
        .output()
        .code
        != 0
    {
        skip!("needs a kernel that tracks changed memory");
    }
    let script = "counter
        podman container checkpoint --pre-checkpoint --export /tmp/$name.pre.tar $name >/dev/null
        inspect State.Status
        goes_on $name
        podman container checkpoint --with-previous --export /tmp/$name.tar $name >/dev/null
        podman rm $name >/dev/null
        podman container restore --import-previous /tmp/$name.pre.tar --import /tmp/$name.tar >/dev/null
        inspect State.Status
        goes_on $name";
    let expected = "running\ngoes on\nrunning\ngoes on";
    podman.check(
        "checkpoint-after-another",
        &format!("{COUNTER}{script}"),
        expected,
    );
}
