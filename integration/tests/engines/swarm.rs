//! Docker Swarm: three nodes, each a sandbox with its own docker, joined by a bridge.

use std::fs;
use std::sync::Arc;

use coracle_integration::runner::clean_up;
use coracle_integration::{Manager, Output, skip};

use crate::checks;
use crate::docker;
use crate::engine::{Engine, Shared};

static SWARM: Shared<Cluster> = Shared::new();

/// Scripts are run beside the nodes, in a sandbox of the bridge's, and drive them by their API.
const PRELUDE: &str = r#"
export DOCKER_HOST=tcp://10.7.0.1:2375
busybox=localhost/busybox pause=0.2
# Runs a command with the docker of a node.
on() { node=$1; shift; DOCKER_HOST=tcp://10.7.0.$node:2375 "$@"; }
# What a script may have made, a network last, which its tasks must have left.
remove() {
    docker service rm $name $name-2
    for kind in secret config; do docker $kind rm $name $name-2; done
    [ -z "$(docker network ls --quiet --filter name=^$name$)" ] || await "docker network rm $name"
}
# Prints which tasks a failed script had, and why they ended.
print_tasks() { [ -z "$name" ] || docker service ps --no-trunc $name >&2; }
trap '[ $? = 0 ] || print_tasks || true; [ -z "$name" ] || remove >/dev/null 2>&1 || true' EXIT
service() {
    docker service create --detach --quiet --no-resolve-image --name $name \
        --restart-delay 100ms --stop-grace-period 0s "$@" >/dev/null
}
update() { docker service update --detach --quiet --no-resolve-image "$@" $name >/dev/null; }
inspect() { docker service inspect --format "{{.$1}}" $name; }
# Prints a field of a service's wanted tasks.
tasks() { docker service ps --filter desired-state=running --format "{{.$1}}" ${2-$name}; }
count() { sort | uniq -c | awk '{print $1, $2}'; }
# Waits until so many tasks run, and no more are wanted.
settled() {
    await "[ \$(tasks CurrentState ${2-} | grep -c ^Running) = $1 ] &&
        [ \$(tasks ID ${2-} | wc -l) = $1 ]"
}
# Runs a command in each container of a service on a node.
within() {
    node=$1
    shift
    for id in $(on $node docker ps --quiet --filter name=^$name\\.); do
        on $node docker exec $id "$@"
    done
}
within_each() { for node in 1 2 3; do within $node "$@"; done; }
# With a limit of time of its own busybox's wget crashes in an image without glibc's files.
get='timeout 2 wget -qO-'
node_state() { docker node inspect --format '{{.Status.State}}' node-$1; }
leader() { docker node ls | grep -o 'node-.* Leader' | cut -d ' ' -f 1; }
# Prints the runtimes of a node's containers.
runtimes() {
    on $1 docker ps --quiet | DOCKER_HOST=tcp://10.7.0.$1:2375 \
        xargs -r docker inspect --format '{{.HostConfig.Runtime}}'
}
"#;

/// A power cut's part after all processes have died: what is not on a disk is gone. Two are left,
/// the sandbox's first process and the shell of this script.
const POWERED_OFF: &str = r#"
await '[ $(pgrep -c .) -le 2 ]'
awk 'NR == FNR { known[$1]; next } !($1 in known) { print $5 }' \
    /run/mounts-of-the-sandbox /proc/self/mountinfo | tac | xargs -r -n 1 umount
find /run -mindepth 1 ! -name mounts-of-the-sandbox -delete
find /sys/fs/cgroup -depth -path '*/docker/*' -type d -exec rmdir {} +
for link in $(ip -o link | sed 's/^[0-9]*: \([^:@]*\).*/\1/' | grep -vx 'lo\|eth0'); do
    ip link del $link 2>/dev/null || true
done"#;

/// Prints the last words of a docker that died.
const CRASHES: &str = "sed -n '/^panic:\\|^fatal error:/,$p' /tmp/dockerd | head -n 40";

/// Prints what a node's containers have left, after it left the cluster.
const NOTHING_LEFT: &str = r#"
docker ps --all --quiet
find /run/docker -path '*/runtime-*/moby/*'
find /sys/fs/cgroup -type d -path '*/docker/*'
new_roots
alive containerd-shim
alive sleep
alive coracle"#;

/// Parts of the kernel that docker's networks across nodes are made of.
const VXLAN: &str = "ip link add probe-$$ type vxlan id $$ dstport 4790 && ip link del probe-$$";
const IPVS: &str = "[ -e /proc/net/ip_vs ]";

/// Answers reach a task only if docker's new network namespaces forward packets. They take that from
/// the machine's first one, and docker sets it in its own, which is another one here.
const FORWARDING: &str = "[ $(unshare --net cat /proc/sys/net/ipv4/ip_forward) = 1 ]";

/// How many tasks `CORACLE_TEST_SWARM` asks for.
pub(crate) fn wanted_tasks() -> Option<usize> {
    let text = std::env::var("CORACLE_TEST_SWARM").ok()?;
    Some(text.parse().expect("CORACLE_TEST_SWARM=TASKS"))
}

/// A cluster whose nodes are all managers, so that one may fail.
pub(crate) struct Cluster {
    client: Engine,
    nodes: Vec<Engine>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let mut client = Engine::new(Manager::Cgroupfs);
        client.prelude = PRELUDE.to_owned();
        client.run(
            "bridge",
            "ip link add bridge type bridge
            ip addr add 10.7.0.254/24 dev bridge
            ip link set bridge up",
        );
        let nodes = (1..=3).map(|number| add(&client, number)).collect();
        let join = "
            docker swarm init --advertise-addr 10.7.0.1 --dispatcher-heartbeat 2s >/dev/null
            token=$(docker swarm join-token --quiet manager)
            for node in 2 3; do
                # A slow machine's node comes later than docker waits for it.
                on $node docker swarm join --token $token 10.7.0.1:2377 >/dev/null || true
                await \"[ \\$(node_state $node) = ready ]\"
            done";
        client.run("", join);
        Self { client, nodes }
    }

    /// Skips the test if this fails.
    fn needs(&self, what: &str, probe: &str) {
        if self.client.script("", probe).output().code != 0 {
            skip!("needs {what}");
        }
    }

    #[track_caller]
    fn check(&self, name: &str, script: &str, expected: &str) {
        self.client.check(name, script, expected);
    }

    /// Runs a script whose service stays.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Output {
        self.client
            .run("service", &format!("trap - EXIT\n{script}"))
    }

    /// Runs such a script, which must print this.
    #[track_caller]
    pub(crate) fn step(&self, script: &str, expected: &str) {
        let output = self.run(script);
        assert_eq!(output.line(), expected, "{script}\n{}", output.stderr);
    }

    /// A node, counted from 1.
    pub(crate) fn node(&self, number: usize) -> &Engine {
        &self.nodes[number - 1]
    }

    /// Sets a node's link `up` or `down`.
    pub(crate) fn plug(&self, number: usize, state: &str) {
        let script = format!("ip link set node-{number} {state}");
        self.client.run("", &script);
    }

    /// Takes a node's power: none of its packets tells the others.
    pub(crate) fn cut(&self, number: usize) {
        self.plug(number, "down");
        let node = self.node(number);
        // All that the script sees is killed, so it must see a pid namespace of the sandbox's own.
        let machine = fs::read_link("/proc/self/ns/pid").expect("a pid namespace");
        let kill = format!(
            "own=$(readlink /proc/self/ns/pid)
            [ \"$own\" != '{}' ]
            kill -9 -1",
            machine.display()
        );
        node.run("", &kill);
        node.run("", POWERED_OFF);
    }

    /// Starts such a node.
    pub(crate) fn power(&self, number: usize) {
        self.plug(number, "up");
        self.node(number).run("", "$daemon");
    }

    /// Sets the default runtime of all nodes.
    pub(crate) fn runtime(&self, name: &str) {
        for number in 1..=self.nodes.len() {
            self.runtime_of(number, name);
        }
    }

    /// Sets the default runtime of a node, as its docker runs.
    pub(crate) fn runtime_of(&self, number: usize, name: &str) {
        let script = format!(
            "sed -i 's/\"default-runtime\": .*/\"default-runtime\": \"{name}\",/' /etc/docker/daemon.json
            pkill -HUP -x dockerd
            await 'docker info --format {{{{.DefaultRuntime}}}} | grep -x {name}'"
        );
        self.node(number).run("", &script);
    }

    /// Removes all services, and takes the cluster apart.
    pub(crate) fn ends_with_nothing_left(self) {
        for node in &self.nodes {
            node.check("", CRASHES, "");
        }
        let script = r#"
            docker service ls --quiet | xargs -r docker service rm >/dev/null
            # docker 20.10 keeps the ended containers of a job on each node.
            for node in 1 2 3; do
                await "[ -z \"\$(on $node docker ps --quiet)\" ]"
                on $node docker container prune --force >/dev/null
            done
            for node in 3 2 1; do on $node docker swarm leave --force >/dev/null; done"#;
        self.client.run("", script);
        for node in &self.nodes {
            node.check("", NOTHING_LEFT, "");
        }
    }
}

impl Drop for Cluster {
    /// A step that fails may do so because a docker died.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                clean_up(|| node.check("", CRASHES, ""));
            }
        }
    }
}

/// Makes a node and starts its docker.
fn add(client: &Engine, number: usize) -> Engine {
    let mut node = docker::engine(Manager::Cgroupfs);
    let link = format!("node-{number}");
    client.sandbox.connect(&link, &node.sandbox, "eth0");
    client.run("", &format!("ip link set {link} master bridge up"));
    let set_up = format!(
        "hostname {link}
        ip addr add 10.7.0.{number}/24 dev eth0
        ip link set eth0 up
        ip route add default via 10.7.0.254"
    );
    node.run("network", &set_up);
    let flags =
        format!("--host unix:///run/docker.sock --host tcp://10.7.0.{number}:2375 --tls=false");
    node.prelude += &format!("daemon='daemon {flags}'\n");
    docker::start(&node, &flags);
    node
}

fn swarm() -> Arc<Cluster> {
    SWARM.get(Cluster::new)
}

#[test(last)]
fn nothing_is_left_behind() {
    let Some(swarm) = SWARM.take() else { return };
    let swarm = Arc::into_inner(swarm).expect("no other test");
    swarm.ends_with_nothing_left();
}

checks! { swarm,
    nodes_are_ready: r#"
        docker node ls --format '{{.Hostname}} {{.Status}} {{.Availability}}' | sort
        for node in 1 2 3; do on $node docker info --format '{{.DefaultRuntime}}'; done 2>/dev/null"# => "node-1 Ready Active\nnode-2 Ready Active\nnode-3 Ready Active\ncoracle\ncoracle\ncoracle";
    a_service_spreads: r#"
        service --replicas 6 $busybox sleep 1000
        settled 6
        tasks Node | count"# => "2 node-1\n2 node-2\n2 node-3";
    scaled_up_and_down: r#"
        service $busybox sleep 1000
        for count in 12 1; do
            docker service scale --detach $name=$count >/dev/null
            settled $count
            await "[ \$(within_each cat /proc/1/comm | grep -c sleep) = $count ]"
        done
        echo well"# => "well";
    one_on_each_node: r#"
        service --mode global --hostname '{{.Node.Hostname}}.{{.Service.Name}}' $busybox sleep 1000
        settled 3
        within_each hostname | sort"# => "node-1.one-on-each-node\nnode-2.one-on-each-node\nnode-3.one-on-each-node";
    one_by_one: r#"
        service --replicas 3 --env V=1 --update-parallelism 1 --update-monitor 100ms $busybox sleep 1000
        settled 3
        update --env-add V=2
        await "[ \$(inspect UpdateStatus.State) = completed ]"
        within_each sh -c 'echo $V' | count
        docker service rollback --detach --quiet $name >/dev/null
        await "[ \$(inspect UpdateStatus.State) = rollback_completed ]"
        within_each sh -c 'echo $V' | count"# => "3 2\n3 1";
    a_killed_task_is_replaced: r#"
        service $busybox sleep 1000
        settled 1
        first=$(tasks ID)
        for node in 1 2 3; do
            on $node docker ps --quiet --filter name=^$name\\. | on $node xargs -r docker kill >/dev/null
        done
        await "! tasks ID | grep $first"
        settled 1
        docker service ps --no-trunc --format '{{.Error}}' --filter desired-state=shutdown $name"# => "\"task: non-zero exit (137)\"";
    a_job_on_each_node: r#"
        service --mode global-job $busybox true
        await "[ \$(docker service ps --format '{{.CurrentState}}' $name | grep -c ^Complete) = 3 ]"
        docker service ps --format '{{.Node}}' $name | sort"# => "node-1\nnode-2\nnode-3";
    a_secret: r#"
        for secret in $name $name-2; do echo hidden | docker secret create $secret - >/dev/null; done
        service --secret $name --secret source=$name-2,target=/etc/mine,uid=7,gid=8,mode=0400 $busybox sleep 1000
        settled 1
        within_each cat /run/secrets/$name /etc/mine
        within_each stat -c '%a %u:%g' /run/secrets/$name /etc/mine
        within_each stat -fc %T /run/secrets/$name"# => "hidden\nhidden\n444 0:0\n400 7:8\ntmpfs";
    configurations: r#"
        echo 'I am {{.Service.Name}}' | docker config create --template-driver golang $name - >/dev/null
        echo plain | docker config create $name-2 - >/dev/null
        service --config source=$name,target=/etc/who,mode=0440 --config source=$name-2,target=/etc/what $busybox sleep 1000
        settled 1
        within_each cat /etc/who /etc/what
        within_each stat -c %a /etc/who"# => "I am configurations\nplain\n440";
    limits: r#"
        service --limit-memory 64m --limit-cpu 0.5 --limit-pids 55 --reserve-memory 32m \
            --ulimit nofile=100:200 $busybox sleep 1000
        settled 1
        within_each sh -c 'cd /sys/fs/cgroup
            cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us 2>/dev/null ||
            cat memory.max pids.max cpu.max | cut -d " " -f 1
            ulimit -n; ulimit -Hn'"# => "67108864\n55\n50000\n100\n200";
    ports_of_nodes: r#"
        service --mode global --publish mode=host,target=80,published=8080 $busybox \
            sh -c 'echo page >/tmp/index.html; exec httpd -f -h /tmp'
        settled 3
        for node in 1 2 3; do busybox wget -qO- http://10.7.0.$node:8080/; done"# => "page\npage\npage";
}

/// The cluster, if all tests are asked for.
fn swarm_if_wanted() -> Arc<Cluster> {
    if wanted_tasks().is_none() {
        skip!("CORACLE_TEST_SWARM asks for it");
    }
    swarm()
}

checks! { swarm_if_wanted,
    constraints: r#"
        docker node update --label-add $name=here node-2 >/dev/null
        service --replicas 3 --constraint node.labels.$name==here $busybox sleep 1000
        settled 3
        tasks Node | count
        update --constraint-rm node.labels.$name==here --constraint-add node.hostname!=node-2
        await "[ \$(tasks Node | grep -c node-2) = 0 ]"
        settled 3
        tasks Node | grep -c 'node-[13]'"# => "3 node-2\n3";
    no_node_is_suitable: r#"
        service --constraint node.hostname==elsewhere $busybox sleep 1000
        await "tasks CurrentState | grep ^Pending"
        docker service ps --no-trunc --format '{{.Error}}' $name"# => "\"no suitable node (scheduling constraints not satisfied on 3 nodes)\"";
    a_bound_on_each_node: r#"
        service --replicas 4 --replicas-max-per-node 1 $busybox sleep 1000
        await "[ \$(tasks CurrentState | grep -c ^Running) = 3 ]"
        tasks CurrentState | cut -d ' ' -f 1 | count"# => "1 Pending\n3 Running";
    new_tasks_before_old_ones: r#"
        service --replicas 3 --update-order start-first --update-parallelism 0 $busybox sleep 1000
        settled 3
        update --args 'sleep 2000'
        await "[ \$(inspect UpdateStatus.State) = completed ]"
        settled 3
        within_each cat /proc/1/cmdline | tr '\0' ' '"# => "sleep 2000 sleep 2000 sleep 2000";
    a_failed_update_is_rolled_back: r#"
        service --replicas 2 --update-failure-action rollback --update-monitor 2s \
            --rollback-monitor 100ms $busybox sleep 1000
        settled 2
        update --args no-such-program
        await "[ \$(inspect UpdateStatus.State) = rollback_completed ]"
        settled 2
        within_each cat /proc/1/comm | count
        docker service ps --no-trunc --format '{{.Error}}' $name |
            grep -o 'executable file not found in .PATH' | sort -u"# => "2 sleep\nexecutable file not found in $PATH";
    health: r#"
        service --health-cmd 'test ! -e /tmp/ill' --health-interval 100ms --health-retries 1 $busybox sleep 1000
        settled 1
        first=$(tasks ID)
        within_each touch /tmp/ill
        await "! tasks ID | grep $first"
        settled 1
        docker service ps --no-trunc --format '{{.Error}}' --filter desired-state=shutdown $name |
            grep -o 'unhealthy container'"# => "unhealthy container";
    a_greedy_task_is_replaced: r#"
        service --limit-memory 16m --mount type=tmpfs,target=/scratch $busybox sh -c 'sleep 0.5; tail /dev/zero; exit 9'
        await "first=\$(tasks ID | grep .)"
        await "docker service ps --no-trunc --format '{{.Error}}' $name | grep '(137)\|(9)'"
        await "tasks ID | grep -v '$first'"
        echo replaced"# => "replaced";
    no_more_attempts: r#"
        service --restart-condition on-failure --restart-max-attempts 2 $busybox sh -c 'exit 3'
        await "[ \$(docker service ps --format '{{.CurrentState}}' $name | grep -c ^Failed) = 3 ]"
        # Ten times the delay of another attempt.
        sleep 1
        docker service ps --no-trunc --format '{{.CurrentState}} {{.Error}}' $name |
            sed 's/^\([A-Z][a-z]*\) .*(\(.*\)).*/\1-\2/' | count"# => "3 Failed-3";
    jobs: r#"
        service --mode replicated-job --replicas 5 --max-concurrent 2 $busybox true
        await "[ \$(docker service ps --format '{{.CurrentState}}' $name | grep -c ^Complete) = 5 ]"
        docker service ls --filter name=$name --format '{{.Replicas}}'"# => "0/2 (5/5 completed)";
    a_signal_and_a_grace: r#"
        service --stop-signal USR1 --stop-grace-period 20s $busybox sh -c \
            'trap "echo bye; exit 5" USR1; echo ready; while :; do sleep 0.02; done'
        await "docker service logs $name | grep ready"
        node=$(tasks Node | cut -d - -f 2)
        id=$(on $node docker ps --quiet --filter name=^$name\\.)
        since=$(date +%s)
        docker service scale --detach $name=0 >/dev/null
        await "docker service logs $name | grep bye"
        # The container is removed once it has ended.
        ended() {
            on $node docker events --since $since --until $(date +%s) --filter event=die \
                --filter container=$id --format '{{.Actor.Attributes.exitCode}}'
        }
        await "ended | grep ."
        ended"# => "5";
    a_rotated_secret: r#"
        echo old | docker secret create $name - >/dev/null
        echo new | docker secret create $name-2 - >/dev/null
        service --replicas 2 --secret source=$name,target=key --update-monitor 100ms $busybox sleep 1000
        settled 2
        update --secret-rm $name --secret-add source=$name-2,target=key
        await "[ \$(inspect UpdateStatus.State) = completed ]"
        within_each cat /run/secrets/key"# => "new\nnew";
    changed_limits: r#"
        service --limit-memory 64m --update-monitor 100ms $busybox sleep 1000
        settled 1
        update --limit-memory 128m
        await "[ \$(inspect UpdateStatus.State) = completed ]"
        within_each sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null ||
            cat /sys/fs/cgroup/memory.max'"# => "134217728";
    a_confined_service: r#"
        service --read-only --user 7:8 --cap-drop ALL --cap-add NET_RAW --workdir /etc --init \
            --sysctl net.ipv4.ip_default_ttl=77 --env 'A=b c' $busybox sleep 1000
        settled 1
        within_each sh -c 'id -u; id -g; pwd; echo $A; cat /proc/1/comm /proc/sys/net/ipv4/ip_default_ttl
            touch /tmp/x 2>&1; sed -n "s/CapBnd:\t//p" /proc/1/status'"# => "7\n8\n/etc\nb c\ndocker-init\n77\ntouch: /tmp/x: Read-only file system\n0000000000002000";
    volumes: r#"
        service --mode global --mount type=volume,source=$name,target=/kept --mount type=tmpfs,target=/scratch,tmpfs-size=1m \
            --mount type=bind,source=/etc,target=/theirs,readonly $busybox sleep 1000
        settled 3
        within_each sh -c 'echo kept >/kept/f; df -m /scratch | tail -n 1 | tr -s " " | cut -d " " -f 2
            touch /theirs/x 2>&1 || true'
        docker service rm $name >/dev/null
        for node in 1 2 3; do
            on $node docker run --rm --network none --volume $name:/kept $busybox cat /kept/f
            await "on $node docker volume rm $name"
        done"# => "1\ntouch: /theirs/x: Read-only file system\n1\ntouch: /theirs/x: Read-only file system\n1\ntouch: /theirs/x: Read-only file system\nkept\nkept\nkept";
    logs_of_all: r#"
        service --replicas 3 $busybox sh -c 'echo here; exec sleep 1000'
        await "[ \$(docker service logs --raw $name | wc -l) = 3 ]"
        docker service logs --raw $name | count"# => "3 here";
    a_stack: r#"
        cat >/tmp/$name.yml <<-END
	version: "3.8"
	services:
	  web:
	    image: $busybox
	    command: sh -c 'cp /page /tmp/index.html; exec httpd -f -h /tmp'
	    stop_grace_period: 0s
	    configs: [{source: page, target: /page}]
	    deploy: {replicas: 2, endpoint_mode: dnsrr}
	    healthcheck: {test: wget -qO /dev/null http://127.0.0.1/, interval: 200ms}
	configs:
	  page: {file: /tmp/$name.page}
	END
        echo page >/tmp/$name.page
        docker stack deploy --resolve-image never --compose-file /tmp/$name.yml $name >/dev/null 2>&1
        settled 2 ${name}_web
        docker stack rm $name >/dev/null 2>&1
        echo well"# => "well";
}

/// The cluster, if its kernel has networks across nodes.
fn with_overlays() -> Arc<Cluster> {
    let swarm = swarm_if_wanted();
    swarm.needs("VXLAN", VXLAN);
    swarm.needs("iptables with nat", docker::HAS_NAT);
    swarm
}

/// The same, if the kernel can give each of several tasks its turn.
fn with_balancing() -> Arc<Cluster> {
    let swarm = with_overlays();
    swarm.needs("IPVS (modprobe ip_vs)", IPVS);
    swarm.needs("the machine's net.ipv4.ip_forward=1", FORWARDING);
    swarm
}

/// By docker's resolver, to which packets are turned aside by NAT.
#[test]
fn names_across_nodes() {
    let swarm = with_overlays();
    let script = r#"
        docker network create --driver overlay --attachable $name >/dev/null
        service --mode global --network $name --endpoint-mode dnsrr $busybox \
            sh -c 'hostname >/tmp/index.html; exec httpd -f -h /tmp'
        settled 3
        addresses="nslookup $name 127.0.0.11 | sed -n 's/^Address[ 0-9]*: *\(10[.][0-9.]*\).*/\1/p'"
        on 3 docker run --rm --network $name $busybox sh -c "
            for try in \$(seq 60); do
                for address in \$($addresses); do $get http://\$address/; done >>/tmp/seen
                [ \$(sort -u /tmp/seen | wc -l) != 3 ] || break
                sleep 0.5
            done 2>/dev/null
            sort -u /tmp/seen | wc -l"
"#;
    swarm.check("names", script, "3");
}

/// An address that stands for all tasks: the kernel's IPVS gives each its turn.
#[test]
fn a_virtual_address() {
    let swarm = with_balancing();
    let script = r#"
        docker network create --driver overlay --attachable $name >/dev/null
        service --replicas 3 --network $name $busybox \
            sh -c 'hostname >/tmp/index.html; exec httpd -f -h /tmp'
        settled 3
        on 3 docker run --rm --network $name $busybox sh -c "
            for try in \$(seq 60); do
                $get http://$name/ >>/tmp/seen || sleep 0.5
                [ \$(sort -u /tmp/seen | wc -l) != 3 ] || break
            done 2>/dev/null
            sort -u /tmp/seen | wc -l"
"#;
    swarm.check("virtual", script, "3");
}

/// A port that is published on all nodes leads to the tasks, wherever they are.
#[test]
fn a_port_of_the_cluster() {
    let swarm = with_balancing();
    let script = r#"
        service --replicas 2 --publish published=8081,target=80 $busybox \
            sh -c 'echo page >/tmp/index.html; exec httpd -f -h /tmp'
        settled 2
        for node in 1 2 3; do
            await "busybox wget -T 1 -qO- http://10.7.0.$node:8081/"
            busybox wget -qO- http://10.7.0.$node:8081/
        done"#;
    swarm.check("port", script, "page\npage\npage");
}
