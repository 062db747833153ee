//! docker: the daemon with its own containerd, our runtime as its default.

use std::sync::Arc;

use coracle_integration::{Manager, needs, skip};

use crate::checks;
use crate::engine::{Engine, Page, Shared, images};

static DOCKER: Shared<Engine> = Shared::new();

const PRELUDE: &str = r#"
run="docker run --rm --network none"
start() {
    docker run --detach --name $name --network none \
        "$@" localhost/busybox sleep 1000 >/dev/null
    trap 'docker rm --force $name >/dev/null 2>&1' EXIT
}
busybox=localhost/busybox
inspect() { docker inspect --format "{{.$1}}" $name; }
cgroup() {
    pid=$(inspect State.Pid)
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        cat /sys/fs/cgroup$(sed s/0::// /proc/$pid/cgroup)/$2
    else
        cat /sys/fs/cgroup/${1%%.*}$(sed -n "s/.*:${1%%.*}://p" /proc/$pid/cgroup)/$1
    fi
}
"#;

fn docker() -> Arc<Engine> {
    DOCKER.get(|| {
        let docker = engine(Manager::of_machine());
        start(&docker, "");
        docker
    })
}

/// Fails where the kernel has no NAT for iptables, which lists a table's chains in any case.
pub(crate) const HAS_NAT: &str =
    "iptables --table nat --new-chain probe-$$ && iptables --table nat --delete-chain probe-$$";

/// The daemon, not started yet: `daemon` of its scripts does that.
pub(crate) fn engine(manager: Manager) -> Engine {
    needs::program("dockerd");
    let mut engine = Engine::new(manager);
    // Where the machine has no NAT, docker works without it if configured so.
    let daemon = format!(
        r#"
daemon() {{
    none='--iptables=false --ip6tables=false'
    ! {{ {HAS_NAT}; }} >/dev/null 2>&1 || none=
    PATH=/usr/local/sbin:$PATH
    dockerd --experimental --storage-driver overlay2 --exec-opt native.cgroupdriver={} \
        $none "$@" >>/tmp/dockerd 2>&1 &
    await 'docker version' || {{ cat /tmp/dockerd >&2; exit 1; }}
}}
"#,
        manager.name()
    );
    engine.prelude = PRELUDE.to_owned() + &daemon;
    let file = "/etc/docker/daemon.json";
    engine.write(file, &Page::Engines.block(file));
    engine
}

/// Starts the daemon with some more flags, and gives it the images.
pub(crate) fn start(docker: &Engine, flags: &str) {
    docker.run("daemon", &format!("daemon {flags}"));
    let load = docker.command("docker").args(["load", "--input"]);
    load.arg(images(&docker.sandbox)).output().ok();
}

#[test(last)]
fn nothing_is_left_behind() {
    let Some(docker) = DOCKER.take() else { return };
    let left = r#"
docker ps --all --quiet
find /run/docker/runtime-*/moby -mindepth 1
find /sys/fs/cgroup -type d \( -path '*/docker/*' -o -name 'docker-*.scope' \)
new_roots
alive containerd-shim"#;
    docker.check("", left, "");
}

checks! { docker,
    the_runtime_is_ours: r#"
        docker info --format '{{.DefaultRuntime}} {{.Driver}}' 2>/dev/null"# => "coracle overlay2";
    output_is_passed: "$run $busybox sh -c 'echo out; echo err >&2' 2>/dev/null" => "out";
    errors_are_passed: "$run $busybox sh -c 'echo out; echo err >&2' 2>&1 >/dev/null" => "err";
    exit_codes: r#"
        for n in 0 1 7 255; do code $run $busybox sh -c "exit $n"; done"# => "0\n1\n7\n255";
    input_is_passed: "echo some text | $run -i $busybox cat" => "some text";
    many_lines: "$run $busybox seq 1 20000 | tail -n 1" => "20000";

    a_missing_program: "code $run $busybox no-such-program" => "127";
    a_missing_path: "code $run $busybox /no/such/program" => "127";
    a_missing_program_is_named: r#"
        complaint $run $busybox no-such-program | grep -o 'executable file not found in .PATH'"# => "executable file not found in $PATH";
    a_folder_as_program: "code $run $busybox /etc" => "126";
    a_program_without_permission: "code $run $busybox /etc/passwd" => "126";
    an_image_without_accounts: r#"
        tar -C $rootfs -c bin/busybox | docker import - bare >/dev/null
        $run bare /bin/busybox echo well
        $run --user 7:8 bare /bin/busybox id
        code $run --user somebody bare /bin/busybox id"# => "well\nuid=7 gid=8 groups=8\n125";
    a_missing_user: "code $run --user nobody-at-all $busybox id" => "125";
    nothing_is_left_of_a_failed_start: r#"
        code docker run --name $name --network none $busybox no-such-program
        id=$(inspect Id)
        find /run/docker/runtime-*/moby /sys/fs/cgroup -name "*$id*"
        docker rm $name >/dev/null"# => "127";

    environment: "$run -e A='b c' $busybox sh -c 'echo $A'" => "b c";
    user_and_group: "$run --user 1000:2000 $busybox sh -c 'id -u; id -g'" => "1000\n2000";
    working_directory: "$run -w /tmp/new $busybox pwd" => "/tmp/new";
    host_name: "$run --hostname some-name $busybox hostname" => "some-name";
    capabilities_dropped: r#"
        $run --cap-drop all $busybox grep CapEff /proc/self/status | tr -d '[:alpha:][:space:]'"# => ":0000000000000000";
    the_default_profile: r#"
        $run $busybox grep -c '^Seccomp:.*2' /proc/self/status
        code $run $busybox unshare -m true"# => "1\n1";
    coracle_in_a_privileged_one: r#"
        $run --privileged $within $busybox sh -c "$inner""# => "1";
    an_unconfined_one: r#"
        $run --security-opt seccomp=unconfined $busybox grep -c '^Seccomp:.*0' /proc/self/status"# => "1";
    no_new_privileges: r#"
        $run --security-opt no-new-privileges $busybox grep NoNewPrivs /proc/self/status |
        tr -d '[:alpha:][:space:]'"# => ":1";
    limits_of_resources: r#"
        $run --ulimit nofile=100:200 $busybox sh -c 'ulimit -n; ulimit -Hn'"# => "100\n200";
    kernel_parameters: r#"
        $run --sysctl net.ipv4.ip_default_ttl=77 $busybox cat /proc/sys/net/ipv4/ip_default_ttl"# => "77";
    init_reaps: "$run --init $busybox cat /proc/1/comm" => "docker-init";
    no_stray_descriptors: "$run $busybox sh -c 'ls /proc/self/fd | tr \"\\n\" \" \"'" => "0 1 2 3";

    a_volume: r#"
        mkdir /tmp/$name
        $run -v /tmp/$name:/volume $busybox touch /volume/file
        ls /tmp/$name"# => "file";
    a_read_only_volume: r#"
        $run -v /etc:/volume:ro $busybox touch /volume/x 2>&1 || true"# => "touch: /volume/x: Read-only file system";
    a_named_volume: r#"
        $run -v $name:/v $busybox sh -c 'echo kept >/v/f'
        $run -v $name:/v $busybox cat /v/f
        docker volume rm $name >/dev/null"# => "kept";
    a_temporary_file_system: r#"
        $run --tmpfs /scratch:size=1m $busybox df -m /scratch | tail -n 1 | awk '{print $2}'"# => "1";
    a_read_only_root: r#"
        $run --read-only $busybox touch /x 2>&1 || true"# => "touch: /x: Read-only file system";
    shared_memory_size: r#"
        $run --shm-size 3m $busybox df -m /dev/shm | tail -n 1 | awk '{print $2}'"# => "3";
    a_device: r#"
        $run --device /dev/zero:/dev/nought $busybox sh -c 'head -c 3 /dev/nought | wc -c'"# => "3";
    a_device_without_a_right: r#"
        code $run --device /dev/fuse:/dev/f:rw $busybox sh -c ': <>/dev/f'
        code $run --device /dev/fuse:/dev/f:r $busybox sh -c ': <>/dev/f'"# => "0\n1";
    copied_files: r#"
        start
        echo in >/tmp/$name
        docker cp /tmp/$name $name:/etc/x 2>/dev/null
        docker exec $name cat /etc/x"# => "in";
    changes: "start; docker exec $name touch /made; docker diff $name | grep made" => "A /made";

    exec_runs_in_it: "start; code docker exec $name sh -c 'exit 9'" => "9";
    exec_with_user_and_environment: r#"
        start
        docker exec -u 7 -e X=y -w /tmp $name sh -c 'id -u; echo $X; pwd'"# => "7\ny\n/tmp";
    exec_with_input: "start; echo typed | docker exec -i $name cat" => "typed";
    exec_detached: r#"
        start
        docker exec -d $name touch /tmp/late
        await 'docker exec $name ls /tmp/late'
        echo there"# => "there";
    exec_of_a_missing_program: r#"
        start
        code docker exec $name no-such-program
        inspect State.Status"# => "126\nrunning";
    exec_without_permission: "start; code docker exec $name /etc" => "126";
    exec_in_a_missing_directory: r#"
        start
        code docker exec --workdir /no/such/folder $name pwd
        docker exec $name ls -d /no 2>/dev/null || true"# => "126";
    stop_by_signal: r#"
        docker run -d --name $name --network none $busybox sh -c 'trap "exit 5" TERM; echo ready; while :; do sleep 0.02; done' >/dev/null
        await "docker logs $name | grep ready"
        docker stop -t 20 $name >/dev/null
        inspect State.ExitCode
        docker rm $name >/dev/null"# => "5";
    stop_by_force: "start; docker stop -t 0 $name >/dev/null; inspect State.ExitCode" => "137";
    kill_with_a_signal: r#"
        docker run -d --name $name --network none $busybox sh -c 'trap "exit 8" USR1; echo ready; while :; do sleep 0.02; done' >/dev/null
        await "docker logs $name | grep ready"
        docker kill -s USR1 $name >/dev/null
        docker wait $name
        docker rm $name >/dev/null"# => "8";
    kill_of_the_dead: r#"
        start
        docker kill $name >/dev/null
        docker wait $name >/dev/null
        complaint docker kill $name | grep -o 'is not running'"# => "is not running";
    pause_and_resume: r#"
        start
        docker pause $name >/dev/null
        inspect State.Status
        docker unpause $name >/dev/null
        inspect State.Status"# => "paused\nrunning";
    removal_of_a_paused_one: r#"
        start
        docker pause $name >/dev/null
        docker rm -f $name >/dev/null
        docker ps -aq --filter name=$name"# => "";
    restarted: "start; docker restart -t 0 $name >/dev/null; inspect State.Status" => "running";
    restart_policy: r#"
        docker run -d --name $name --network none --restart on-failure:2 $busybox sh -c 'exit 3' >/dev/null
        await '[ $(docker inspect --format {{.RestartCount}} $name) = 2 ]'
        await '[ $(docker inspect --format {{.State.Status}} $name) = exited ]'
        inspect State.ExitCode
        docker rm $name >/dev/null"# => "3";
    health: r#"
        start --health-cmd 'test -e /tmp/well' --health-interval 100ms --health-retries 1
        await '[ $(docker inspect --format {{.State.Health.Status}} $name) = unhealthy ]'
        docker exec $name touch /tmp/well
        await '[ $(docker inspect --format {{.State.Health.Status}} $name) = healthy ]'
        echo well"# => "well";
    logs: r#"
        docker run --name $name --network none $busybox sh -c 'echo one; echo two' >/dev/null
        docker logs $name
        docker rm $name >/dev/null"# => "one\ntwo";
    events: r#"
        begin=$(date +%s)
        $run --name $name $busybox true
        docker events --since $begin --until $(($(date +%s) + 1)) --filter type=container --filter container=$name --format '{{.Status}}' |
        sort -u | tr '\n' ' '"# => "attach create destroy die start";
    renamed: r#"
        start
        docker rename $name $name-2
        docker exec $name-2 echo well
        docker rename $name-2 $name"# => "well";
    a_dead_shim: r#"
        start
        id=$(inspect Id)
        pkill -9 -f "containerd-shim.* -id $id"
        await '[ $(docker inspect --format {{.State.Status}} $name) = exited ]'
        docker start $name >/dev/null
        docker exec $name echo well"# => "well";

    memory: "start --memory 64m; cgroup memory.limit_in_bytes memory.max" => "67108864";
    number_of_processes: "start --pids-limit 55; cgroup pids.max pids.max" => "55";
    // docker must read of the kill before the cgroup is removed.
    killed_for_memory: r#"
        code docker run --name $name --network none --memory 16m --memory-swap 16m $busybox sh -c 'head -c 100m /dev/zero | tail; code=$?; sleep 1; exit $code'
        inspect State.OOMKilled
        docker rm $name >/dev/null"# => "137\ntrue";
    updated_limits: r#"
        start --memory 64m --cpus 0.5
        docker update --memory 128m --memory-swap 128m $name >/dev/null
        cgroup memory.limit_in_bytes memory.max
        cgroup cpu.cfs_quota_us cpu.max | cut -d ' ' -f 1"# => "134217728\n50000";
    updated_number_of_processes: r#"
        start --pids-limit 55
        docker update --pids-limit 66 $name >/dev/null
        cgroup pids.max pids.max"# => "66";
    statistics: "start; docker stats --no-stream --format '{{.PIDs}}' $name" => "1";
    processes: r#"
        start
        docker exec -d $name sleep 2000
        await "docker top $name | grep 2000"
        docker top $name -o pid,comm | grep -c sleep"# => "2";

    processes_of_another: r#"
        start
        $run --pid container:$name $busybox ps | grep -c '[s]leep 1000'"# => "1";
    processes_of_the_host: r#"
        $run --pid host $busybox cat /proc/1/comm | cmp - /proc/1/comm && echo same"# => "same";
    a_bridge: r#"
        docker run --rm $busybox ip -o -4 addr show eth0 | grep -o 'inet 172.17'"# => "inet 172.17";
    published_ports: r#"
        docker run -d --name $name -p 8082:80 $busybox sh -c 'echo page >/tmp/index.html; exec httpd -f -h /tmp' >/dev/null
        await 'busybox wget -qO- http://localhost:8082/'
        busybox wget -qO- http://localhost:8082/
        docker rm -f $name >/dev/null"# => "page";
    the_network_of_another: r#"
        start
        docker run --rm --network container:$name $busybox ip -o link | wc -l"# => "1";
}

/// By names, which docker's resolver knows: packets to it are turned aside by NAT.
#[test]
fn a_pair_finds_one_another() {
    let docker = docker();
    let probe = ["--table", "nat", "--list-rules", "DOCKER"];
    if docker.command("iptables").args(probe).output().code != 0 {
        skip!("needs iptables with nat");
    }
    docker.check("a-pair", PAIR, "page");
}

const PAIR: &str = r#"
docker network create $name >/dev/null
docker run -d --name $name-1 --network $name $busybox sh -c 'echo page >/tmp/index.html; exec httpd -f -h /tmp' >/dev/null
await "docker run --rm --network $name $busybox wget -qO- http://$name-1/"
docker run --rm --network $name $busybox wget -qO- http://$name-1/
docker rm -f $name-1 >/dev/null
docker network rm $name >/dev/null"#;

#[test]
fn a_terminal() {
    let script = "$run -it $busybox sh -c 'tty; read line; echo got $line; exit 6'";
    let (mut terminal, running) = docker().on_terminal("terminal", script);
    terminal.expect("/dev/pts/0");
    terminal.send("typed\r");
    terminal.expect("got typed");
    running.wait().exits(6);
}

#[test]
fn a_terminal_of_exec() {
    let script = "start; docker exec -it $name sh -c 'tty; until stty size | grep 24; do :; done; read x; exit 5'";
    let (mut terminal, running) = docker().on_terminal("terminal-of-exec", script);
    terminal.expect("/dev/pts/0");
    terminal.expect("24 80");
    terminal.send("\r");
    running.wait().exits(5);
}

#[test]
fn attach() {
    let script = "docker run -dit --name $name --network none $busybox sh >/dev/null
docker attach $name || echo code $?; docker rm $name >/dev/null";
    let (mut terminal, running) = docker().on_terminal("attach", script);
    terminal.send("echo $((40 + 2)); exit 4\r");
    terminal.expect("42");
    terminal.expect("code 4");
    running.wait().ok();
}

/// Checkpoints are an experimental feature of docker.
#[test]
fn a_checkpoint() {
    let docker = docker();
    docker.needs_criu();
    let script = format!(
        "{COUNTER}counter coracle
        docker checkpoint create --leave-running $name one >/dev/null
        inspect State.Status
        goes_on
        docker checkpoint ls $name | tail -n 1"
    );
    docker.check("checkpoint", &script, "running\ngoes on\none");
}

/// `start --checkpoint` of 20.10 fails before it comes to a runtime, since its containerd has the
/// content already (moby issue 42900): with runc as well, and not once the content is gone.
#[test]
fn a_start_from_a_checkpoint() {
    const WELL: &str = "exited\nrunning\ngoes on";
    let docker = docker();
    docker.needs_criu();
    let start = |runtime: &str, before: &str| {
        let script = format!(
            "{COUNTER}counter {runtime}
            docker checkpoint create $name one >/dev/null
            inspect State.Status
            {before}
            if docker start --checkpoint one $name 2>/tmp/$name
            then inspect State.Status; goes_on
            else sed 's/[0-9a-f]\\{{64\\}}/ID/g' /tmp/$name
            fi"
        );
        let output = docker.run(&format!("start-{runtime}"), &script);
        output.line().to_owned()
    };
    let ours = start("coracle", "");
    if ours != WELL {
        assert_eq!(ours, start("runc", ""));
        assert!(ours.ends_with("already exists"), "{ours}");
        assert_eq!(start("coracle", "forget"), WELL);
    }
}

/// `counter RUNTIME` starts a container that counts in its log, `goes_on` waits until it does, and
/// `forget` takes all checkpoints from containerd.
const COUNTER: &str = r#"
counter() {
    docker run -d --runtime $1 --name $name --network none $busybox \
        sh -c 'n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done' >/dev/null
    trap 'docker rm --force $name >/dev/null 2>&1' EXIT
    await "docker logs $name | grep -x 3"
}
forget() {
    of="ctr --namespace moby --address $(ls /run/docker/containerd/containerd.sock)"
    $of content rm $($of content ls --quiet) >/dev/null
}
goes_on() {
    before=$(docker logs --tail 1 $name)
    await "[ \$(docker logs --tail 1 $name) -gt $before ]" && echo goes on
}
"#;
