//! cri-o's calls, as the sources of cri-o 1.37 and conmon-rs have them, without cri-o, which Debian
//! does not have: conmon with cri-o's flags, and the runtime as cri-o calls it itself.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use coracle_integration::runner::patience;
use coracle_integration::{Manager, needs, wait_until};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr};
use nix::sys::socket::{connect, recv, send, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

use crate::checks;
use crate::engine::{Engine, Shared};

static CONMON: Shared<Engine> = Shared::new();

/// `started COMMAND...` runs a container as `$name` with its files in `$b`, in namespaces that are
/// pinned as those of a pod are. `linux`, `fields` and `tty` are parts of its config.
const PRELUDE: &str = r#"
program=/usr/local/bin/coracle root=/run/crio-coracle
exits=/run/crio/exits attach=$files/attach b=$files/$name log=$b/log
tty=false linux='"resources": {"cpu": {"shares": 512}}' fields=
mkdir -p $b/persist $exits $attach
echo >$b/start
trap end EXIT
end() {
    oci delete --force $name || echo $name >>/tmp/stays
    for kind in net ipc uts; do
        ! [ -e /run/${kind}ns/$name ] || umount /run/${kind}ns/$name
    done
    await '! pgrep -f "conmon.* -c $name "'
}
# cri-o hands nothing of its own environment on but these.
environment="env -i CRI_O_EXTERNAL=1 PATH=$PATH"
oci() { $environment $program --root $root $systemd "$@"; }
state() { oci state $name | sed -n 's/.*"status": "\(.*\)".*/\1/p'; }
list() { sep=; for word; do printf '%s"%s"' "$sep" "$word"; sep=', '; done; }
process() {
    cat <<END
{"terminal": $tty, "user": {"uid": 0, "gid": 0, "umask": 18, "additionalGids": [0]}, $fields
 "args": [$(list "$@")], "cwd": "/", "env": ["PATH=/bin", "HOSTNAME=$name"], "oomScoreAdj": 1000,
 "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}}
END
}
config() {
    cat <<END
{"ociVersion": "1.0.2-dev", "hostname": "$name", "root": {"path": "$rootfs"},
 "process": $(process "$@"),
 "mounts": [
  {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
  {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
   "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
  {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
   "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
  {"destination": "/sys", "type": "sysfs", "source": "sysfs",
   "options": ["nosuid", "noexec", "nodev", "ro"]},
  {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
   "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
  {"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rw", "bind"]}],
 "annotations": {"io.kubernetes.cri-o.Name": "k8s_one_$name", "io.kubernetes.cri-o.TTY": "$tty",
  "io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.Labels": "{\"a\":\"b\"}",
  "io.container.manager": "cri-o", "org.systemd.property.TimeoutStopUSec": "uint64 30000000",
  "org.systemd.property.DefaultDependencies": "true",
  "org.systemd.property.After": "['crio.service']"},
 "linux": {"cgroupsPath": "$group", $linux,
  "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network", "path": "/run/netns/$name"},
   {"type": "ipc", "path": "/run/ipcns/$name"}, {"type": "uts", "path": "/run/utsns/$name"}],
  "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
  "readonlyPaths": ["/proc/bus", "/proc/sys"]}}
END
}
# The pipes by which cri-o lets conmon go on and learns of it are files here.
monitor() {
    : >$b/sync
    $environment _OCI_SYNCPIPE=3 _OCI_STARTPIPE=4 conmon "$@" 3>$b/sync 4<$b/start </dev/null
}
pins() {
    for kind in net ipc uts; do
        mkdir -p /run/${kind}ns
        touch /run/${kind}ns/$name
    done
    unshare --net=/run/netns/$name --ipc=/run/ipcns/$name --uts=/run/utsns/$name hostname $name
}
created() {
    pins
    config "$@" >$b/config.json
    monitored
}
monitored() {
    cd $b
    monitor -b $b -c $name --exit-dir $exits -l $log --log-level info -n k8s_one_$name \
        -P $b/conmon-pidfile -p $b/pidfile --persist-dir $b/persist -r $program \
        --runtime-arg --root=$root --socket-dir-path $attach --syslog -u $name $slices $options
    await '[ -s $b/sync ]'
}
started() { created "$@"; oci start $name; }
over() { await '[ -e $exits/$name ]' && cat $exits/$name && echo; }
logged() { cut -d ' ' -f 2- $log; }
# cri-o's ExecSync with a limit of seconds: conmon's result, then the command's output.
exec_sync() {
    limit=$1
    shift
    process "$@" >$b/process.json
    monitor -c $name -n k8s_one_$name -r $program -p $b/pidfile-exec -e -l $b/exec.log \
        --socket-dir-path $attach --log-level info --sync --log-global-size-max 16777216 \
        -T $limit $slices --exec-process-spec $b/process.json --runtime-arg --root=$root || true
    cat $b/sync
    ! [ -e $b/exec.log ] || cut -d ' ' -f 2- $b/exec.log
}
# Its Exec, which is the runtime's own.
exec_stream() { process "$@" >$b/process.json; oci exec --process $b/process.json $name; }
value() { cat /sys/fs/cgroup/${1%%.*}$place/$1 2>/dev/null || cat /sys/fs/cgroup$place/$2; }
"#;

fn conmon() -> Arc<Engine> {
    CONMON.get(|| {
        needs::program("conmon");
        let manager = Manager::of_machine();
        let mut engine = Engine::new(manager);
        coracle_integration::fill_rootfs(&engine.sandbox.folder().join("rootfs"));
        let groups = match manager {
            Manager::Cgroupfs => "systemd= slices= place=/pods/crio-$name group=/pods/crio-$name",
            Manager::Systemd => {
                "systemd=--systemd-cgroup slices=-s place=/pods.slice/crio-$name.scope \
                 group=pods.slice:crio:$name"
            }
        };
        let files = engine.sandbox.folder().folder("conmon");
        engine.prelude = format!("{groups} options= files={}\n{PRELUDE}", files.display());
        engine
    })
}

/// Prints what conmon and the runtime have left.
pub(crate) const LEFT: &str = r#"
cat /tmp/stays 2>/dev/null || true
find /run/crio-coracle -mindepth 1
find /sys/fs/cgroup -type d -name 'crio-*'
new_roots
alive conmon"#;

#[test(last)]
fn nothing_is_left_behind() {
    let Some(conmon) = CONMON.take() else { return };
    conmon.check("", &format!("trap - EXIT\n{LEFT}"), "");
}

checks! { conmon,
    output_and_exit_code: r#"
        started sh -c 'echo out; printf half; exit 7'
        over
        await '[ $(state) = stopped ]'
        logged"# => "7\nstdout F out\nstdout P half";
    its_pod: r#"
        started sleep 1000
        for kind in net ipc uts; do
            [ $(readlink /proc/$(cat $b/pidfile)/ns/$kind) = "$kind:[$(stat -Lc %i /run/${kind}ns/$name)]" ]
        done
        state
        exec_stream hostname"# => "running\nits-pod";
    a_program_that_is_missing: r#"
        created no-such-program
        grep -o '"pid": -1' $b/sync
        grep -o 'executable file not found in .PATH' $b/sync
        oci delete --force $name
        echo $?"# => "\"pid\": -1\nexecutable file not found in $PATH\n0";
    sync_exec: r#"
        started sleep 1000
        exec_sync 20 sh -c 'echo out; echo err >&2; exit 9'"# => "{\"exit_code\": 9}\nstdout F out\nstderr F err";
    sync_exec_with_a_time_limit: r#"
        started sleep 1000
        exec_sync 1 sleep 2000
        await '! pgrep -f "^sleep 2000$"'"# => r#"{"exit_code": -1, "message": "command timed out"}"#;
    sync_exec_of_a_missing_program: r#"
        started sleep 1000
        exec_sync 20 no-such-program | grep -o -e '"exit_code": -1' -e 'executable file not found in .PATH'"# => "\"exit_code\": -1\nexecutable file not found in $PATH";
    exec_as_a_stream: r#"
        started sleep 1000
        echo typed | exec_stream sh -c 'cat; echo err >&2; exit 4' 2>/dev/null || echo $?"# => "typed\n4";
    a_reopened_log: r#"
        started sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'
        await "grep 'F 1' $log"
        mv $log $log.1
        echo 2 0 0 >$b/ctl
        await "grep F $log"
        tail -n 1 $log.1 >/dev/null && echo well"# => "well";
    killed_for_memory: r#"
        linux='"resources": {"memory": {"limit": 16777216}}'
        started sh -c 'head -c 100m /dev/zero | tail; sleep 1000'
        # With version 2 conmon looks once the container has ended; systemd may have removed the group by then.
        counted='[ -e $b/oom ] && [ -e $b/persist/oom ]'
        [ ! -e /sys/fs/cgroup/cgroup.controllers ] || counted='grep "^oom_kill [1-9]" \
            /sys/fs/cgroup$(sed s/0::// /proc/$(cat $b/pidfile)/cgroup)/memory.events'
        await "$counted"
        echo counted"# => "counted";
    stop: r#"
        started sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.05; done'
        await 'grep ready $log'
        oci kill $name TERM
        state
        oci pause $name
        state
        oci resume $name
        oci kill $name KILL
        over
        await '[ $(state) = stopped ]'
        complaint oci kill $name TERM | grep -o 'container not running'
        oci kill -a $name 9"# => "running\npaused\n137\ncontainer not running";
    update: r#"
        started sleep 1000
        value cpu.shares cpu.weight | sed 's/^59$/512/; s/^100$/1024/'
        echo '{"cpu": {"shares": 1024, "quota": 50000, "period": 100000}, "memory": {"limit": 67108864}, "hugepageLimits": null}' | oci update --resources - $name
        value cpu.shares cpu.weight | sed 's/^59$/512/; s/^100$/1024/'
        value memory.limit_in_bytes memory.max
        exec_stream sh -c 'echo kept >/dev/null && echo well'"# => "512\n1024\n67108864\nwell";
    a_terminal_and_its_size: r#"
        tty=true options=-t
        started sh -c 'tty; until stty size | grep 33; do sleep 0.05; done; exit 3'
        echo 1 33 77 >$b/ctl
        over
        logged | grep -o '/dev/pts/0\|33 77'"# => "3\n/dev/pts/0\n33 77";
    // conmon-rs gives the global flags twice.
    calls_of_conmon_rs: r#"
        pins
        config sleep 1000 >$b/config.json
        twice="$environment $program --root=$root $systemd --root=$root $systemd"
        $twice create --bundle $b --pid-file $b/pidfile $name
        oci start $name
        $twice exec -d --pid-file=$b/pidfile-exec $name sleep 2000
        ps -o args= -p $(cat $b/pidfile),$(cat $b/pidfile-exec)"# => "sleep 1000\nsleep 2000";
    asked_at_its_start: r#"
        $environment $program --version | grep -c version
        $environment $program features 2>&1 | tr -d ' \n' | grep -o -e '"ociVersionMin":"1[^"]*"' -e '"idmap":{"enabled":[a-z]*}' -e '"rro"'
        $environment $program checkpoint --help >/dev/null && echo checkpoint
        complaint $environment $program restore --lsm-mount-context | grep -o 'flag needs an argument'"# => "1\n\"idmap\":{\"enabled\":true}\n\"rro\"\n\"ociVersionMin\":\"1.0.0\"\ncheckpoint\nflag needs an argument";
}

/// The daemon's side of an attached client: packets with the number of a stream first.
#[test]
fn attach() {
    let conmon = conmon();
    let script = r#"
        options=-i
        started sh -c 'read line; echo got $line; exit 5'
        over"#;
    let running = conmon.script("attached", script).spawn();
    let path = conmon
        .sandbox
        .folder()
        .join("conmon/attach/attached/attach");
    let client = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .expect("a socket");
    let limit = patience(20).as_secs().try_into().expect("a small number");
    let limit = TimeVal::new(limit, 0);
    setsockopt(&client, sockopt::ReceiveTimeout, &limit).expect("a time limit");
    let address = UnixAddr::new(&path).expect("a short path");
    wait_until("conmon's socket", || {
        connect(client.as_raw_fd(), &address).is_ok()
    });
    send(client.as_raw_fd(), b"typed\n", MsgFlags::empty()).expect("a line");
    let mut seen = String::new();
    let mut packet = [0; 8192];
    while let Ok(length @ 1..) = recv(client.as_raw_fd(), &mut packet, MsgFlags::empty()) {
        seen += &format!(
            "{} {}",
            packet[0],
            String::from_utf8_lossy(&packet[1..length])
        );
    }
    assert_eq!(seen, "2 got typed\n");
    assert_eq!(running.wait().ok().line(), "5");
}

/// cri-o checkpoints by the runtime, and restores by conmon.
#[test]
fn a_checkpoint() {
    let conmon = conmon();
    conmon.needs_criu();
    let script = r#"
        environment="$environment PATH=/usr/local/sbin:$PATH"
        started sh -c 'echo kept >/dev/shm/kept; while :; do sleep 0.1; done'
        await "exec_stream test -s /dev/shm/kept"
        oci checkpoint --file-locks --image-path $b/checkpoint --work-path $b/persist $name
        ls $b/checkpoint/inventory.img $b/persist/dump.log | wc -l
        over
        oci delete --force $name
        rm -f $exits/$name $b/ctl $b/attach $b/winsz
        options="--restore $b/checkpoint"
        monitored
        state
        exec_stream cat /dev/shm/kept"#;
    conmon.check("restored", script, "2\n137\nrunning\nkept");
}
