//! podman of an ordinary user, with the ids that `/etc/subuid` gives him.

use std::sync::Arc;

use coracle_integration::{Manager, needs, skip};

use crate::checks;
use crate::engine::{Engine, Page, Shared, images};
use crate::podman::{machine, prelude};

static PODMAN: Shared<Engine> = Shared::new();

/// `$uid` becomes an account with ids of its own, and a device for its networks, as udev makes it.
pub(crate) const ACCOUNT: &str = r#"
home=/home/$uid runtime=/run/user/$uid
id -nu $uid || echo "somebody:x:$uid:$uid::$home:/bin/sh" >>/etc/passwd
getent group $uid || echo "somebody:x:$uid:" >>/etc/group
echo "$(id -nu $uid):100000:65536" | tee /etc/subuid >/etc/subgid
mkdir -p $home $runtime
chown -R $uid:$uid $home
chown $uid:$uid $runtime
chmod 700 $runtime
mknod /run/tun c 10 200
chmod 666 /run/tun
mount --bind /run/tun /dev/net/tun"#;

fn podman() -> Arc<Engine> {
    PODMAN.get(set_up)
}

fn set_up() -> Engine {
    for program in ["podman", "conmon", "newuidmap"] {
        needs::program(program);
    }
    let manager = Manager::of_machine();
    let uid = match manager {
        Manager::Cgroupfs => 2000,
        // One that has a systemd of his own.
        Manager::Systemd => user_of_systemd(),
    };
    let mut engine = Engine::new(manager);
    engine.may_lose_output = true;
    let config = Page::Engines.block("~/.config/containers/containers.conf");
    let file = format!("/home/{uid}/.config/containers/containers.conf");
    engine.write(&file, &config);
    engine.write(
        "/etc/containers/containers.conf.d/machine.conf",
        &machine(manager),
    );
    engine.write(
        "/etc/containers/storage.conf",
        "[storage]\ndriver = \"overlay\"\n",
    );
    engine.prelude = format!("uid={uid}\n{}", prelude(manager));
    engine.run("account", ACCOUNT);
    let archive = images(&engine.sandbox);
    engine.user = Some(uid);
    let load = format!("podman load --input {}", archive.display());
    engine.run("images", &load);
    engine
}

/// The user with the socket of a systemd.
fn user_of_systemd() -> u32 {
    let entries = std::fs::read_dir("/run/user")
        .into_iter()
        .flatten()
        .flatten();
    let uids = entries.filter_map(|entry| {
        let has_bus = entry.path().join("bus").exists();
        let uid = entry.file_name().to_string_lossy().parse().ok()?;
        (has_bus && uid != 0).then_some(uid)
    });
    uids.min()
        .unwrap_or_else(|| skip!("needs a user with systemd"))
}

#[test(last)]
fn nothing_is_left_behind() {
    let Some(podman) = PODMAN.take() else { return };
    let left = r#"
podman ps --all --quiet
find /run/user/$uid/coracle /run/user/$uid/crun /run/user/$uid/runc -mindepth 1 2>/dev/null || true
find /sys/fs/cgroup -type d -name '*libpod-*'
alive conmon"#;
    podman.check("", left, "");
}

checks! { podman,
    the_runtime_is_ours: r#"
        podman info --format '{{.Host.OCIRuntime.Path}} {{.Store.GraphDriverName}} {{.Host.Security.Rootless}}'"# => "/usr/local/bin/coracle overlay true";
    output_is_passed: "$run busybox sh -c 'echo out; echo err >&2' 2>/dev/null" => "out";
    exit_codes: r#"
        for n in 0 1 7 255; do code $run busybox sh -c "exit $n"; done"# => "0\n1\n7\n255";
    input_is_passed: "echo some text | $run -i busybox cat" => "some text";
    a_missing_program: "code $run busybox no-such-program" => "127";
    a_program_without_permission: "code $run busybox /etc/passwd" => "126";
    root_of_the_container_is_the_user: r#"
        $run busybox id -u
        $run busybox cat /proc/self/uid_map | head -n 1 | awk '{print $2}' | sed s/^$uid$/uid/"# => "0\nuid";
    // The namespace of podman's own, which holds the user's subordinate ids.
    coracle_below_unshare: r#"
        mkdir -p /home/$uid/$name/rootfs/bin
        cd /home/$uid/$name
        cp /bin/busybox rootfs/bin/sh
        podman unshare coracle spec --rootless
        sed -i -e 's/"terminal": true/"terminal": false/' -e 's/"sh"/"sh", "-c", "echo $$"/' config.json
        podman unshare coracle run $name"# => "1";
    another_user: "$run --user 1000:1000 busybox id -u" => "1000";
    further_groups: "$run --user 1000 --group-add 77 busybox id -G" => "0 77";
    // One after the other, since podman looks for ids that no other container has.
    mapped_users: r#"
        $run --userns keep-id busybox sh -c 'id -u; wc -l </proc/self/uid_map' | sed s/^$uid$/uid/
        $run --userns auto:size=500 busybox sh -c 'id -u; wc -l </proc/self/uid_map'"# => "uid\n3\n0\n1";
    a_volume: r#"
        mkdir -p /home/$uid/$name
        $run -v /home/$uid/$name:/v busybox touch /v/file
        stat -c %u /home/$uid/$name/file | sed s/^$uid$/uid/"# => "uid";
    a_named_volume: r#"
        podman volume create $name >/dev/null
        $run -v $name:/v busybox sh -c 'echo kept >/v/f'
        $run -v $name:/v busybox cat /v/f
        podman volume rm $name >/dev/null"# => "kept";
    a_temporary_file_system: r#"
        $run --tmpfs /scratch:size=1m busybox df -m /scratch | tail -n 1 | awk '{print $2}'"# => "1";
    a_read_only_root: r#"
        $run --read-only busybox touch /x 2>&1 || true"# => "touch: /x: Read-only file system";
    a_device: "$run --device /dev/zero busybox sh -c 'head -c 3 /dev/zero | wc -c'" => "3";
    privileged: r#"
        $run --privileged busybox sh -c 'mkdir /m; mount -t tmpfs x /m && echo mounted'"# => "mounted";
    init_reaps: "$run --init busybox cat /proc/1/comm" => "podman-init";
    kernel_parameters: r#"
        $run --sysctl net.ipv4.ip_default_ttl=77 busybox cat /proc/sys/net/ipv4/ip_default_ttl"# => "77";
    limits_of_resources: r#"
        $run --ulimit nofile=100:200 --ulimit nproc=99 busybox sh -c 'ulimit -n; ulimit -Hn'"# => "100\n200";
    the_default_profile: "$run busybox grep -c '^Seccomp:.*2' /proc/self/status" => "1";
    no_stray_descriptors: "$run busybox sh -c 'ls /proc/self/fd | tr \"\\n\" \" \"'" => "0 1 2 3";
    exec_runs_in_it: "start; code podman exec $name sh -c 'exit 9'" => "9";
    exec_with_user_and_environment: r#"
        start
        podman exec -u 7 -e X=y -w /tmp $name sh -c 'id -u; echo $X; pwd'"# => "7\ny\n/tmp";
    exec_of_a_missing_program: r#"
        start
        code podman exec $name no-such-program
        inspect State.Status"# => "127\nrunning";
    stop_by_force: "start; podman stop -t 0 $name >/dev/null 2>&1; inspect State.ExitCode" => "137";
    kill_with_a_signal: r#"
        podman run -d --name $name --network none busybox sh -c 'trap "exit 8" USR1; echo ready; while :; do sleep 0.02; done' >/dev/null
        await "podman logs $name | grep ready"
        podman kill -s USR1 $name >/dev/null
        podman wait $name
        podman rm $name >/dev/null"# => "8";
    restarted: "start; podman restart -t 0 $name >/dev/null; inspect State.Status" => "running";
    health: r#"
        start --health-cmd 'test -e /tmp/well' --health-interval disable
        code podman healthcheck run $name
        podman exec $name touch /tmp/well
        code podman healthcheck run $name"# => "1\n0";
    processes: "start; podman top $name comm | tail -n 1" => "sleep";
    processes_of_another: r#"
        start
        $run --pid container:$name busybox ps | grep -c '[s]leep 1000'"# => "1";
    the_hosts_network: "podman run --rm --network host busybox ip -o link | grep -c lo:" => "1";
    a_pod: r#"
        podman pod create --name $name --network none >/dev/null
        podman run -d --pod $name busybox sleep 1000 >/dev/null
        podman run --rm --pod $name busybox echo well
        podman pod rm -f -t 0 $name >/dev/null"# => "well";
    created_then_started: r#"
        podman create --name $name --network none busybox echo late >/dev/null
        podman init $name >/dev/null
        podman start -a $name
        podman rm $name >/dev/null"# => "late";
    called_crun: r#"
        cp /usr/local/bin/coracle /home/$uid/crun
        podman --runtime /home/$uid/crun run --rm --network none --cgroups disabled busybox echo well"# => "well";
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

/// systemd hands the user's groups to him; cgroupfs would need somebody else to.
#[test]
fn delegated_memory() {
    let podman = podman();
    if podman.sandbox.manager() != Manager::Systemd {
        skip!("needs a systemd that delegates to users");
    }
    let script = r#"
start --memory 64m --pids-limit 77
cgroup x memory.max
cgroup x pids.max
podman update --memory 96m $name >/dev/null
cgroup x memory.max
podman stats --no-stream --format '{{.PIDs}}' $name
podman pause $name >/dev/null
inspect State.Status
podman unpause $name >/dev/null
inspect State.Status"#;
    podman.check(
        "delegated-memory",
        script,
        "67108864\n77\n100663296\n1\npaused\nrunning",
    );
}

#[test]
fn a_network_of_the_users() {
    needs::program("slirp4netns");
    let script = "podman run --rm --network slirp4netns busybox ip -o -4 addr show tap0 | grep -o 'inet 10.0.2.100'";
    podman().check("network", script, "inet 10.0.2.100");
}

#[test]
fn published_ports() {
    needs::program("slirp4netns");
    let script = r#"
podman run -d --name $name --network slirp4netns -p 8084:80 busybox \
    sh -c 'echo page >/tmp/index.html; exec httpd -f -h /tmp' >/dev/null
await 'busybox wget -qO- http://localhost:8084/'
busybox wget -qO- http://localhost:8084/
podman rm -f -t 0 $name >/dev/null"#;
    podman().check("published-ports", script, "page");
}
