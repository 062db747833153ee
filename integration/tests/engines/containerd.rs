//! containerd with its own shim, by `ctr`.

use std::sync::Arc;

use coracle_integration::{Manager, needs};

use crate::checks;
use crate::engine::{Engine, Page, Shared, images};

static CONTAINERD: Shared<Engine> = Shared::new();

/// A release of containerd, whose settings have names of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    /// The text of `docs/kubernetes.md` that precedes the settings of this release.
    page: &'static str,
    /// More settings, for this machine: privileges that root may lack, the folder of Debian's
    /// plugins, and images that are already there.
    machine: &'static str,
    /// The folder of its programs, if they are not in `PATH`.
    pub(crate) folder: Option<&'static str>,
}

pub(crate) const ONE: Release = Release {
    page: "`/etc/containerd/config.toml` of containerd 1",
    machine: r#"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:latest"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
"#,
    folder: None,
};

pub(crate) const TWO: Release = Release {
    page: "`/etc/containerd/config.toml` of containerd 2",
    machine: r#"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost/pause:latest"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
"#,
    folder: Some("/opt/containerd2/bin"),
};

pub(crate) const PRELUDE: &str = r#"
image=localhost/busybox:latest
binary="--runc-binary /usr/local/bin/coracle"
daemon() {
    containerd >>/tmp/containerd 2>&1 &
    await 'ctr version' || { cat /tmp/containerd >&2; exit 1; }
}
# Runs a container with these options, and the words after `--` in it.
run() {
    options=
    while [ "$1" != -- ]; do options="$options $1"; shift; done
    shift
    ctr run --rm $binary $options $image $name "$@"
}
start() {
    ctr run --detach $binary "$@" $image $name sleep 1000
    trap 'ctr task rm --force $name >/dev/null 2>&1 || true; ctr container rm $name' EXIT
}
exec_() { ctr task exec --exec-id e$$ $name "$@"; }
pid() { ctr task ls | awk -v name=$name '$1 == name { print $2 }'; }
status() { ctr task ls | awk -v name=$name '$1 == name { print $3 }'; }
"#;

/// `ctr` asks for control groups by paths, which is cgroupfs's way.
fn containerd() -> Arc<Engine> {
    CONTAINERD.get(|| set_up(ONE, Manager::Cgroupfs))
}

/// A daemon, and in it the images for users of `ctr` and of Kubernetes.
pub(crate) fn set_up(release: Release, manager: Manager) -> Engine {
    needs::program("containerd");
    let mut engine = Engine::new(manager);
    if let Some(folder) = release.folder {
        engine.run("install", &format!("cp {folder}/* /usr/local/bin"));
    }
    engine.prelude = PRELUDE.to_owned();
    engine.write("/etc/containerd/config.toml", &settings(release, manager));
    let archive = images(&engine.sandbox);
    let import = format!(
        "daemon; for space in default k8s.io; do ctr -n $space images import {}; done",
        archive.display()
    );
    engine.run("daemon", &import);
    engine
}

/// The daemon's file.
pub(crate) fn settings(release: Release, manager: Manager) -> String {
    let settings = Page::Kubernetes.block(release.page) + release.machine;
    match manager {
        Manager::Cgroupfs => settings.replace("SystemdCgroup = true\n", ""),
        Manager::Systemd => settings,
    }
}

#[test(last)]
fn nothing_is_left_behind() {
    let Some(containerd) = CONTAINERD.take() else {
        return;
    };
    containerd.check("", NOTHING_LEFT, "");
}

/// Prints what was left behind by containers of all namespaces.
pub(crate) const NOTHING_LEFT: &str = r#"
for space in default k8s.io; do
    ctr -n $space task ls --quiet
    ctr -n $space container ls --quiet
    find /run/containerd/runc/$space /run/containerd/coracle/$space -mindepth 1 2>/dev/null || true
    find /sys/fs/cgroup -path "*/$space/*" -type d
done
find /sys/fs/cgroup -type d -name 'cri-containerd-*'
new_roots
alive containerd-shim"#;

checks! { containerd,
    output_is_passed: "run -- sh -c 'echo out; echo err >&2' 2>/dev/null" => "out";
    errors_are_passed: "run -- sh -c 'echo out; echo err >&2' 2>&1 >/dev/null" => "err";
    exit_codes: "for n in 0 1 7 255; do code run -- sh -c \"exit $n\"; done" => "0\n1\n7\n255";
    a_killed_program: r#"
        code run -- sh -c 'kill -9 $$'
        code run -- sh -c 'sh -c "kill -9 \$\$"; exit $?'"# => "0\n137";
    input_is_passed: "echo some text | run -- head -n 1" => "some text";
    many_lines: "run -- seq 1 20000 | tail -n 1" => "20000";
    a_missing_program: r#"
        complaint run -- no-such-program | grep -o 'executable file not found in .PATH'
        ctr container ls -q | grep $name || true"# => "executable file not found in $PATH";
    a_missing_path: r#"
        complaint run -- /no/such/program | grep -o 'no such file or directory'"# => "no such file or directory";
    a_program_without_permission: r#"
        complaint run -- /etc/passwd | grep -o 'permission denied'"# => "permission denied";
    a_full_disk: r#"
        mkdir /tmp/$name
        mount -t tmpfs -o size=8k x /tmp/$name
        head -c 8k /dev/zero >/tmp/$name/fill
        complaint run --runc-root /tmp/$name -- true | grep -o 'no space left on device'
        find /tmp/$name -type f -printf '%f\n'
        find /sys/fs/cgroup -name $name
        umount /tmp/$name
        run -- echo well"# => "no space left on device\nfill\nwell";
    a_missing_working_directory: "run --cwd /no/such/folder -- pwd" => "/no/such/folder";
    the_same_id_again_after_a_failure: "code run -- no-such-program; run -- echo well" => "1\nwell";
    environment: "run --env A=b -- sh -c 'echo $A'" => "b";
    working_directory: "run --cwd /tmp -- pwd" => "/tmp";
    a_bind_mount: r#"
        mkdir /tmp/$name
        run --mount type=bind,src=/tmp/$name,dst=/volume,options=rbind:rw -- touch /volume/file
        ls /tmp/$name"# => "file";
    a_read_only_bind_mount: r#"
        run --mount type=bind,src=/etc,dst=/volume,options=rbind:ro -- touch /volume/x 2>&1 || true"# => "touch: /volume/x: Read-only file system";
    a_read_only_root: r#"
        run --read-only -- touch /x 2>&1 || true"# => "touch: /x: Read-only file system";
    the_default_profile: "run --seccomp -- grep -c '^Seccomp:.*2' /proc/self/status" => "1";
    privileged: r#"
        run --privileged -- sh -c 'mkdir /m; mount -t tmpfs x /m && echo mounted'"# => "mounted";
    the_hosts_network: "run --net-host -- ip -o link | grep -c lo:" => "1";
    a_joined_namespace: r#"
        start
        run2() { ctr run --rm $binary --with-ns pid:/proc/$(pid)/ns/pid $image $name-2 ps; }
        run2 | grep -c '[s]leep 1000'"# => "1";
    a_folder_as_root: r#"
        ctr run --rm $binary --rootfs --read-only $rootfs $name /bin/echo well"# => "well";
    memory: r#"
        start --memory-limit 67108864
        cat /sys/fs/cgroup/memory/default/$name/memory.limit_in_bytes /sys/fs/cgroup/default/$name/memory.max 2>/dev/null || true"# => "67108864";
    metrics: "start; ctr task metrics $name | awk '$1 == \"pids.current\" { print $2 }'" => "1";
    processes: r#"
        start
        exec_ sleep 2000 & await '[ $(ctr task ps $name | wc -l) = 3 ]'
        ctr task ps $name | grep -c "^$(pid)""# => "1";
    exec_runs_in_it: "start; exec_ hostname >/dev/null; code exec_ sh -c 'exit 9'" => "9";
    exec_with_input: "start; echo typed | exec_ cat" => "typed";
    exec_with_a_user: r#"
        start
        ctr task exec --exec-id x --user 7 --cwd /tmp $name sh -c 'id -u; pwd'"# => "7\n/tmp";
    exec_of_a_missing_program: r#"
        start
        complaint exec_ no-such-program | grep -o 'executable file not found in .PATH'
        status"# => "executable file not found in $PATH\nRUNNING";
    kill_with_a_signal: r#"
        start
        ctr task kill --signal KILL $name
        await '[ $(status) = STOPPED ]'
        status"# => "STOPPED";
    kill_of_all: r#"
        start
        exec_ sleep 2000 & await '[ $(ctr task ps $name | wc -l) = 3 ]'
        ctr task kill --all --signal KILL $name
        wait
        await '[ $(status) = STOPPED ]'
        status"# => "STOPPED";
    kill_of_the_dead: r#"
        start
        ctr task kill --signal KILL $name
        await '[ $(status) = STOPPED ]'
        complaint ctr task kill $name | grep -o 'process already finished'"# => "process already finished";
    pause_and_resume: r#"
        start
        ctr task pause $name
        status
        ctr task resume $name
        status"# => "PAUSED\nRUNNING";
    removal_by_force: r#"
        start
        ctr task rm --force $name >/dev/null 2>&1
        ctr task ls -q | grep $name || echo gone"# => "gone";
    removal_of_a_paused_one: r#"
        start
        ctr task pause $name
        ctr task kill --signal KILL $name
        ctr task resume $name 2>/dev/null || true
        await '[ $(status) = STOPPED ]'
        status"# => "STOPPED";
    called_runc: r#"
        cp /usr/local/bin/coracle /usr/local/bin/runc
        ctr container create $image $name sleep 1000
        ctr task start --detach $name
        status
        ctr task rm --force $name 2>/dev/null >/dev/null || true
        ctr container rm $name"# => "RUNNING";
    a_pid_file: r#"
        start --pid-file /tmp/$name
        [ $(cat /tmp/$name) = $(pid) ] && echo same"# => "same";
    two_namespaces: r#"
        start
        ctr -n k8s.io run --rm $binary $image $name echo well
        status"# => "well\nRUNNING";
    a_dead_shim: r#"
        start
        pkill -9 -f "containerd-shim.* -id $name"
        await 'ctr task ls | grep -v RUNNING | grep $name || ! ctr task ls | grep $name'
        ctr task rm --force $name 2>/dev/null >/dev/null || true
        ctr container rm $name
        start
        status"# => "RUNNING";
    no_stray_descriptors: "run -- sh -c 'ls /proc/self/fd | tr \"\\n\" \" \"'" => "0 1 2 3";
}

#[test]
fn a_terminal() {
    let script = "run --tty -- sh -c 'tty; read line; echo got $line; exit 6'";
    let (mut terminal, running) = containerd().on_terminal("terminal", script);
    terminal.expect("/dev/pts/0");
    terminal.send("typed\r");
    terminal.expect("got typed");
    running.wait().exits(6);
}

#[test]
fn a_terminal_of_exec() {
    let script = "start; exec_ --tty $name sh -c 'tty; until stty size | grep 24; do :; done; read x; exit 5'";
    let script = script.replace("exec_ --tty $name", "ctr task exec --tty --exec-id e $name");
    let (mut terminal, running) = containerd().on_terminal("terminal-of-exec", &script);
    terminal.expect("/dev/pts/0");
    terminal.expect("24 80");
    terminal.send("\r");
    running.wait().exits(5);
}

#[test]
fn the_daemon_restarts() {
    let script = "start; pkill -x containerd; await '! pgrep -x containerd'; daemon; status; exec_ echo well";
    set_up(ONE, Manager::Cgroupfs).check("restart", script, "RUNNING\nwell");
}

/// The checkpoint becomes an image of containerd's while the container is paused, and is restored
/// under another name.
#[test]
fn a_checkpoint() {
    // A daemon of its own, which finds criu: its shims inherit the path.
    let containerd = set_up(ONE, Manager::Cgroupfs);
    containerd.needs_criu();
    let script = "
        export PATH=/usr/local/sbin:$PATH
        pkill -x containerd; await '! pgrep -x containerd'; daemon
        start
        exec_ sh -c 'echo kept >/root/kept; echo $$ >/dev/null'
        ctr task checkpoint --image-path /tmp/$name $name >/dev/null
        ls /tmp/$name | grep -c pages
        status
        ctr container checkpoint --rw --image --task $name localhost/$name
        status
        ctr task rm --force $name >/dev/null
        ctr container restore --rw --live $name-2 localhost/$name
        ctr task ls | awk -v name=$name-2 '$1 == name { print $3 }'
        ctr task exec --exec-id e $name-2 cat /root/kept
        ctr task rm --force $name-2 >/dev/null; ctr container rm $name-2";
    containerd.check("checkpoint", script, "1\nRUNNING\nRUNNING\nRUNNING\nkept");
}
