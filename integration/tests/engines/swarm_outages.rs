//! Docker Swarm when nodes go and come back. Each test has a cluster of its own, one after the
//! other, and `CORACLE_TEST_SWARM` asks for them; one is always run.

use std::sync::{Mutex, MutexGuard, PoisonError};

use coracle_integration::{needs, skip};

use crate::swarm::{Cluster, wanted_tasks};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn cluster() -> (MutexGuard<'static, ()>, Cluster) {
    let guard = ONE_AT_A_TIME.lock();
    (
        guard.unwrap_or_else(PoisonError::into_inner),
        Cluster::new(),
    )
}

/// A cluster, if all tests are asked for.
fn cluster_if_wanted() -> (MutexGuard<'static, ()>, Cluster) {
    if wanted_tasks().is_none() {
        skip!("CORACLE_TEST_SWARM asks for it");
    }
    cluster()
}

/// Its tasks go to the others, and it takes new ones once it is back.
#[test]
fn a_node_loses_its_power() {
    let (_guard, swarm) = cluster();
    swarm.step(
        "service --replicas 6 $busybox sleep 1000
        settled 6",
        "",
    );
    swarm.cut(3);
    swarm.step(
        "await '[ $(node_state 3) = down ]'
        await '! tasks Node | grep node-3'
        settled 6
        tasks Node | count",
        "3 node-1\n3 node-2",
    );
    swarm.power(3);
    swarm.step(
        "await '[ $(node_state 3) = ready ]'
        docker service scale --detach $name=9 >/dev/null
        settled 9
        tasks Node | count
        await '[ $(on 3 docker ps --quiet | wc -l) = 3 ]'",
        "3 node-1\n3 node-2\n3 node-3",
    );
    swarm.ends_with_nothing_left();
}

#[test]
fn the_leader_loses_its_power() {
    let (_guard, swarm) = cluster_if_wanted();
    let output = swarm.run(
        "service --mode global --env V=1 --update-monitor 100ms $busybox sleep 1000
        settled 3
        leader",
    );
    let leader = output.line().strip_prefix("node-");
    let leader: usize = leader
        .and_then(|number| number.parse().ok())
        .expect("a leader");
    let others = [1, 2, 3].map(|number| number.to_string()).into_iter();
    let others: Vec<String> = others
        .filter(|number| *number != leader.to_string())
        .collect();
    swarm.cut(leader);
    let without_it = format!(
        "DOCKER_HOST=tcp://10.7.0.{}:2375
        await 'leader | grep -v node-{leader}'
        await '[ $(node_state {leader}) = down ]'
        update --env-add V=2
        await '[ $(inspect UpdateStatus.State) = completed ]'
        for node in {}; do within $node sh -c 'echo $V'; done",
        others[0],
        others.join(" ")
    );
    swarm.step(&without_it, "2\n2");
    swarm.power(leader);
    let with_it = format!(
        "await '[ $(node_state {leader}) = ready ]'
        await '[ \"$(within {leader} sh -c \"echo \\$V\")\" = 2 ]'
        settled 3
        leader | grep -vc node-{leader}
        docker node inspect --format '{{{{.ManagerStatus.Reachability}}}}' node-{leader}"
    );
    swarm.step(&with_it, "1\nreachable");
    swarm.ends_with_nothing_left();
}

#[test]
fn a_node_is_drained() {
    let (_guard, swarm) = cluster_if_wanted();
    let script = "
        service --replicas 6 $busybox sleep 1000
        settled 6
        availability() { docker node update --availability $1 node-3 >/dev/null; }
        availability drain
        await '! tasks Node | grep node-3'
        settled 6
        tasks Node | count
        await '[ -z \"$(on 3 docker ps --quiet)\" ]'
        availability active
        docker service scale --detach $name=9 >/dev/null
        settled 9
        tasks Node | count";
    let expected = "3 node-1\n3 node-2\n3 node-1\n3 node-2\n3 node-3";
    swarm.step(script, expected);
    swarm.ends_with_nothing_left();
}

/// The others replace its tasks, which run on until it hears of that.
#[test]
fn a_node_is_cut_off() {
    let (_guard, swarm) = cluster_if_wanted();
    swarm.step(
        "service --replicas 6 $busybox sleep 1000
        settled 6",
        "",
    );
    swarm.plug(3, "down");
    swarm.step(
        "await '[ $(node_state 3) = down ]'
        await '! tasks Node | grep node-3'
        settled 6",
        "",
    );
    swarm.node(3).check("", "docker ps --quiet | wc -l", "2");
    swarm.plug(3, "up");
    swarm.step(
        "await '[ $(node_state 3) = ready ]'
        await '[ -z \"$(on 3 docker ps --quiet)\" ]'
        settled 6",
        "",
    );
    swarm.ends_with_nothing_left();
}

/// Tasks run on without a majority of managers, and nothing can be changed.
#[test]
fn most_managers_lose_their_power() {
    let (_guard, swarm) = cluster_if_wanted();
    swarm.step(
        "service --mode global $busybox sleep 1000
        settled 3
        within 1 cat /proc/1/stat | cut -d ' ' -f 22 >/tmp/since",
        "",
    );
    swarm.cut(2);
    swarm.cut(3);
    swarm.step(
        "await \"docker service update --env-add A=b $name 2>&1 | grep 'lost quorum\\|no leader\\|deadline'\"
        within 1 cat /proc/1/stat | cut -d ' ' -f 22 | cmp - /tmp/since && echo 'runs on'",
        "runs on",
    );
    swarm.power(2);
    swarm.power(3);
    swarm.step(
        "for node in 1 2 3; do await \"[ \\$(node_state $node) = ready ]\"; done
        settled 3
        within_each cat /proc/1/comm",
        "sleep\nsleep\nsleep",
    );
    swarm.ends_with_nothing_left();
}

/// There is as much as is wanted once the engine is back. docker 20.10 and its containerd do not agree
/// then on tasks that were just made, and leave them with their shims, runc's as well: when those
/// are ended, so is what they hold.
#[test]
fn engines_are_killed_while_tasks_start() {
    let (_guard, swarm) = cluster_if_wanted();
    for seconds in ["0.2", "0.7", "1.5"] {
        swarm.step(
            "docker service rm $name >/dev/null 2>&1 || true
            service --replicas 15 $busybox sleep 1000",
            "",
        );
        let script = format!(
            "sleep {seconds}
            pkill -9 -x 'dockerd|containerd'
            await '! pgrep -x dockerd\\|containerd'
            $daemon"
        );
        swarm.node(2).run("", &script);
        swarm.step(
            "await '[ $(node_state 2) = ready ]'
            settled 15
            await '[ $(within_each cat /proc/1/comm | grep -c sleep) = 15 ]'",
            "",
        );
    }
    swarm.step("docker service rm $name >/dev/null", "");
    let forgotten = "
        await '[ -z \"$(docker ps --quiet)\" ]'
        pkill -9 containerd-shim || true
        await '[ -z \"$(find /run/docker -path \"*/runtime-*/moby/*\")\" ]'";
    swarm.node(2).run("", forgotten);
    swarm.ends_with_nothing_left();
}

#[test]
fn a_shim_is_killed() {
    let (_guard, swarm) = cluster_if_wanted();
    swarm.step(
        "service --mode global $busybox sleep 1000
        settled 3
        tasks ID >/tmp/before",
        "",
    );
    swarm.node(2).run("", "pkill -9 containerd-shim");
    swarm.step(
        "await '[ $(tasks ID | grep -vcxFf /tmp/before) = 1 ]'
        settled 3
        await '[ $(on 2 docker ps --quiet | wc -l) = 1 ]'
        within_each cat /proc/1/comm",
        "sleep\nsleep\nsleep",
    );
    swarm.ends_with_nothing_left();
}

/// As a cluster is moved: one node after the other is drained, given the other default, and back.
#[test]
fn nodes_move_from_runc() {
    needs::program("runc");
    let (_guard, swarm) = cluster_if_wanted();
    swarm.runtime("runc");
    swarm.step(
        "service --replicas 6 $busybox sleep 1000
        settled 6
        for node in 1 2 3; do runtimes $node; done | count",
        "6 runc",
    );
    for number in 1..=3 {
        let drain = format!(
            "docker node update --availability drain node-{number} >/dev/null
            await '[ -z \"$(on {number} docker ps --quiet)\" ]'
            settled 6"
        );
        swarm.step(&drain, "");
        swarm.runtime_of(number, "coracle");
        let back = format!(
            "docker node update --availability active node-{number} >/dev/null
            await '[ $(node_state {number}) = ready ]'"
        );
        swarm.step(&back, "");
    }
    swarm.step(
        "docker service update --detach --quiet --force $name >/dev/null
        await '[ $(inspect UpdateStatus.State) = completed ]'
        settled 6
        for node in 1 2 3; do runtimes $node; done | count",
        "6 coracle",
    );
    swarm.ends_with_nothing_left();
}

/// `CORACLE_TEST_SWARM=TASKS` says how many. Also with runc, in turns.
#[test]
fn scaled_to_many() {
    needs::program("runc");
    let (_guard, swarm) = cluster_if_wanted();
    let tasks = wanted_tasks().unwrap_or_default();
    for runtime in ["coracle", "runc"].repeat(3) {
        swarm.runtime(runtime);
        let script = format!(
            "now() {{ date +%s.%N; }}
            service --replicas 1 $busybox sleep 1000
            settled 1
            start=$(now)
            docker service scale --detach $name={tasks} >/dev/null
            settled {tasks}
            all=$(now)
            docker service rm $name >/dev/null
            for node in 1 2 3; do await \"[ -z \\\"\\$(on $node docker ps --all --quiet)\\\" ]\"; done
            echo $start $all $(now) | awk '{{printf \"%.1f s, removed in %.1f s\", $2 - $1, $3 - $2}}'"
        );
        let output = swarm.run(&script);
        println!("note: {runtime}: {tasks} tasks in {}", output.line());
    }
    swarm.ends_with_nothing_left();
}
