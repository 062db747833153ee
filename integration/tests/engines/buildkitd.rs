//! BuildKit's own daemon, with our runtime and with Debian's runc: every check is made with both.
//!
//! `CORACLE_BUILDKIT` names a folder with `buildkitd` and `buildctl`, else they are looked for in
//! `PATH`; without them all is skipped. `rootlesskit` may lie beside them.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_integration::{Manager, fill_rootfs, needs, skip};

use crate::engine::{Engine, Page, Shared};
use crate::podman_rootless::ACCOUNT;

static BUILDKITD: Shared<Engine> = Shared::new();

/// The runtimes, each with a daemon of its own.
const RUNTIMES: [&str; 2] = ["coracle", "runc"];

/// `daemon NAME [FLAG...]` starts a daemon of the runtime up to a dot, `build` builds the steps of
/// standard input and prints what these print. No registry is there: the base is a folder.
const PRELUDE: &str = r#"
# Each attempt is a program that asks the daemon.
pause=0.1
folders=/tmp/buildkit-$(id -u)
use() { export BUILDKIT_HOST=unix://$folders/$1/socket; }
# What follows is done by this runtime.
by() {
    runtime=$1 name=$name-$1 states=/run/$1
    use $1
}
daemon() {
    folder=$folders/$1 config=/etc/buildkit/${1%%.*}.toml
    use $1
    shift
    mkdir -p $folder
    ${rootless-} buildkitd --config $config --root $folder/root --addr $BUILDKIT_HOST --containerd-worker=false \
        --otel-socket-path $folder/traces --oci-worker-net=host \
        --allow-insecure-entitlement security.insecure \
        --allow-insecure-entitlement network.host "$@" >>$folder/log 2>&1 </dev/null &
    echo $! >$folder/pid
    await 'buildctl debug workers' || { cat $folder/log >&2; exit 1; }
}
# `kill_daemon SIGNAL NAME`
kill_daemon() {
    kill -$1 $(cat $folders/$2/pid)
    ended $2
}
ended() { await "! kill -0 $(cat $folders/$1/pid)"; }
# In a shell of its own, so that this is the client's process.
call() {
    mkdir -p /tmp/$name
    { echo FROM base && cat; } >/tmp/$name/Dockerfile
    exec buildctl build --frontend dockerfile.v0 --local context=/tmp/$name --local dockerfile=/tmp/$name \
        --local base=$rootfs --opt context:base=local:base --no-cache --progress plain \
        "$@" >/tmp/$name.log 2>&1
}
step_output() { sed -n 's/^#[0-9]* [0-9][0-9.]* //p' /tmp/$name.log; }
build() {
    (call "$@") && built=0 || built=$?
    step_output
    [ $built = 0 ] || grep -o -e 'exit code: .*' -e 'is not allowed' /tmp/$name.log | tail -n 1 | grep . ||
        tail -n 1 /tmp/$name.log
}
# Starts a build of a step that sleeps so many seconds, its process is `$sleeper`, its container `$id`.
start_to_sleep() {
    seconds=$1
    shift
    echo "RUN sleep $seconds" | call "$@" &
    build=$!
    await "pgrep -fx 'sleep $seconds'"
    sleeper=$(pgrep -fx "sleep $seconds")
    # Without a cgroup it is the only one.
    for id in $(ls $states); do ! grep -q $id /proc/$sleeper/cgroup || break; done
    ls -d $states/$id >/dev/null
}
# Waits until nothing is left of it.
cleared() {
    await "! kill -0 $sleeper"
    await "! [ -e $states/$id ]"
    await "! find /sys/fs/cgroup -type d -name $id | grep ."
    await "! grep $id /proc/self/mountinfo"
}
"#;

fn buildkitd() -> Arc<Engine> {
    BUILDKITD.get(|| {
        let engine = installed();
        for runtime in RUNTIMES {
            engine.run(runtime, &format!("daemon {runtime}"));
        }
        engine
    })
}

/// The programs and their configs, in a sandbox.
fn installed() -> Engine {
    let programs = folder();
    needs::program("runc");
    let mut engine = Engine::new(Manager::Cgroupfs);
    fill_rootfs(&engine.sandbox.folder().folder("rootfs"));
    let wanted = ["buildkitd", "buildctl", "rootlesskit"].map(|name| programs.join(name));
    let wanted = wanted.iter().filter(|program| program.exists());
    let copy = engine.sandbox.command("cp").args(["-t", "/usr/local/bin"]);
    copy.args(wanted).output().ok();
    let config = Page::Engines.block("For buildkitd");
    engine.write("/etc/buildkit/coracle.toml", &config);
    let other = config.replace("/usr/local/bin/coracle", "/usr/sbin/runc");
    engine.write("/etc/buildkit/runc.toml", &other);
    engine.prelude = PRELUDE.to_owned();
    engine
}

/// The folder with the programs.
fn folder() -> PathBuf {
    if let Some(folder) = env::var_os("CORACLE_BUILDKIT") {
        return folder.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let has_both = |folder: &PathBuf| {
        ["buildkitd", "buildctl"]
            .iter()
            .all(|name| folder.join(name).exists())
    };
    match env::split_paths(&path).find(has_both) {
        Some(folder) => folder,
        None => skip!("neither CORACLE_BUILDKIT nor PATH has buildkitd and buildctl"),
    }
}

#[test(last)]
fn nothing_is_left_behind() {
    let Some(buildkitd) = BUILDKITD.take() else {
        return;
    };
    let left = r#"
kill_daemon TERM coracle
kill_daemon TERM runc
find /run/coracle /run/runc -mindepth 1
find /sys/fs/cgroup -type d -path '*/buildkit/*'
new_roots
alive coracle
alive sleep"#;
    buildkitd.check("", left, "");
}

/// A network of each step's own, by plugins: the daemon makes the namespace, which the step joins. Its
/// flag for the plugins' file has no effect, so that lies where it is looked for.
#[test]
fn a_network_by_plugins() {
    if !Path::new("/usr/lib/cni/bridge").exists() {
        skip!("needs the standard plugins in /usr/lib/cni");
    }
    let script = r#"
        cat >/etc/buildkit/cni.json <<END
{"cniVersion": "0.4.0", "name": "$name", "type": "bridge", "bridge": "$runtime",
    "ipam": {"type": "host-local", "subnet": "192.0.2.0/24", "dataDir": "/tmp/$name.addresses"}}
END
        daemon $runtime.network --oci-worker-net=cni --oci-cni-binary-dir /usr/lib/cni
        echo 'RUN ip -o -4 addr show eth0 | grep -o inet.192.0.2; ip -o link | wc -l' | build
        kill_daemon TERM $runtime.network
        ip link del $runtime"#;
    check_both(&buildkitd(), "network", script, "inet 192.0.2\n2");
}

#[test]
fn an_agent() {
    needs::program("ssh-agent");
    let script = r#"
        eval "$(ssh-agent -a /tmp/$name.agent)" >/dev/null
        echo 'RUN --mount=type=ssh stat -c %F:%a $SSH_AUTH_SOCK' | build --ssh default=/tmp/$name.agent
        kill $SSH_AGENT_PID"#;
    check_both(&buildkitd(), "agent", script, "socket:600");
}

/// The daemon of an ordinary user, in the namespaces that rootlesskit makes.
#[test]
fn an_ordinary_user() {
    of_an_ordinary_user("rootless", "");
}

/// As in a container that allows no procfs of its own.
#[test]
fn an_ordinary_user_without_a_process_sandbox() {
    of_an_ordinary_user("unboxed", "--oci-worker-no-process-sandbox");
}

#[track_caller]
fn of_an_ordinary_user(name: &str, flags: &str) {
    needs::program("newuidmap");
    let mut engine = installed();
    if engine.script("", "rootlesskit --version").output().code != 0 {
        skip!("needs rootlesskit");
    }
    let script = r#"
        rootless="rootlesskit --net=host --copy-up=/etc --copy-up=/run --state-dir /home/$uid/$name"
        states=$XDG_RUNTIME_DIR/$runtime
        daemon $runtime.user --rootless $flags
        build <<'END'
RUN id -u; head -n 1 /proc/self/uid_map | tr -s " "; grep -c "^Seccomp:.*2" /proc/self/status
USER 7
RUN id -u
END
        echo 'RUN --mount=type=cache,target=/c touch /c/x && exit 7' | build
        echo 'RUN --network=none ip -o link | wc -l' | build
        echo 'RUN --security=insecure mount -t tmpfs m /root && echo mounted' | build --allow security.insecure
        start_to_sleep 1006
        kill -INT $build
        cleared
        kill_daemon TERM $runtime.user
        ls $states"#;
    let script = format!("uid=2000 flags={flags}\n{script}");
    engine.run("account", &format!("uid=2000\n{ACCOUNT}"));
    engine.user = Some(2000);
    let expected = "0\n 0 2000 1\n1\n7\nexit code: 7\n1\nmounted";
    check_both(&engine, name, &script, expected);
}

#[track_caller]
fn check_both(engine: &Engine, name: &str, script: &str, expected: &str) {
    for runtime in RUNTIMES {
        engine.check(name, &format!("by {runtime}\n{script}"), expected);
    }
}

/// Tests by both runtimes: the rest is as of [`checks!`](crate::checks).
macro_rules! by_both {
    ($($name:ident: $script:literal => $expected:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let name = stringify!($name).replace('_', "-");
                check_both(&buildkitd(), &name, $script, $expected);
            }
        )*
    };
}

by_both! {
    a_step: "echo 'RUN echo out; id -u; hostname' | build" => "out\n0\nbuildkitsandbox";
    a_file_of_a_step: "printf 'RUN echo kept >/kept\nRUN cat /kept\n' | build" => "kept";
    a_step_that_fails: "echo 'RUN exit 7' | build" => "exit code: 7";
    a_missing_program: r#"
        echo 'RUN ["no-such-program"]' | build |
            grep -o -e 'executable file not found in .PATH' -e 'exit code.*'"# => "executable file not found in $PATH\nexit code: 1";
    // BuildKit has both append to one log.
    the_log: r#"
        echo 'RUN ["no-such-program-of-the-log"]' | build >/dev/null
        grep no-such-program-of-the-log $folders/$runtime/root/runc-overlayfs/executor/runc-log.json |
            grep -o -e '^{"level":"error","msg"' -e '"time":"20'"# => "{\"level\":\"error\",\"msg\"\n\"time\":\"20";
    users: "printf 'USER 7\nRUN id -u\nUSER nobody:7\nRUN id -u; id -g\n' | build" => "7\n65534\n7";
    environment: r#"
        printf 'ENV A="b c"\nARG X=y\nRUN echo $A $X\n' | build --opt build-arg:X=z"# => "b c z";
    a_working_directory: "printf 'WORKDIR /some\nWORKDIR where\nRUN pwd\n' | build" => "/some/where";
    a_cache: r#"
        step='RUN --mount=type=cache,target=/c,id='$name' echo once >>/c/f && cat /c/f'
        printf '%s\n%s\nRUN ls -d /c || true\n' "$step" "$step" | build | grep -v ^ls"# => "once\nonce\nonce";
    a_cache_with_an_owner: r#"
        mount="type=cache,target=/c,id=$name,uid=7,gid=8,mode=0700"
        echo "RUN --mount=$mount stat -c %u:%g:%a /c" | build
        echo "RUN --mount=$mount,ro touch /c/x || true" | build"# => "7:8:700\ntouch: /c/x: Read-only file system";
    a_secret: r#"
        echo hidden >/tmp/$name.secret
        build --secret id=s,src=/tmp/$name.secret <<'END'
RUN --mount=type=secret,id=s,target=/x/y,uid=7,mode=0444 cat /x/y; stat -c %a:%u /x/y
RUN --mount=type=secret,id=s,env=S echo $S
RUN ls /x /run/secrets 2>/dev/null || true
END"# => "hidden\n444:7\nhidden";
    temporary_files: r#"
        build <<'END'
RUN --mount=type=tmpfs,target=/t,size=1m touch /t/x && grep -o " /t tmpfs.*size=1024k" /proc/mounts
RUN ls -d /t 2>/dev/null || true
END"# => " /t tmpfs rw,nosuid,relatime,size=1024k";
    // The link's target is outside of the root.
    temporary_files_behind_a_link: r#"
        printf 'RUN ln -s ../../tmp /l\nRUN --mount=type=tmpfs,target=/l grep -o " /tmp tmpfs" /proc/mounts\n' | build"# => " /tmp tmpfs";
    a_mount_of_the_context: r#"
        echo 'RUN --mount=target=/m head -n 1 /m/Dockerfile; touch /m/x || true' | build | sort"# => "FROM base\ntouch: /m/x: Read-only file system";
    a_mount_that_is_writable: r#"
        echo 'RUN --mount=target=/m,rw touch /m/x && echo written' | build
        code ls /tmp/$name/x"# => "written\n2";
    a_mount_of_another_stage: r#"
        printf 'FROM base AS a\nRUN echo other >/f\nFROM base\nRUN --mount=from=a,source=/f,target=/g cat /g\n' | build"# => "other";
    no_network: r#"
        echo 'RUN --network=none ip -o link | cut -d : -f 2' | build"# => " lo";
    the_daemons_network: r#"
        echo 'RUN --network=host readlink /proc/self/ns/net' | build --allow network.host |
            grep -cxF $(readlink /proc/self/ns/net)"# => "1";
    the_default_profile: r#"
        echo 'RUN grep -c "^Seccomp:.*2" /proc/self/status; unshare -m true || echo refused' | build | grep -v ^unshare"# => "1\nrefused";
    insecure: r#"
        echo 'RUN --security=insecure true' | build
        echo 'RUN --security=insecure mkdir /m && mount -t tmpfs m /m && grep -c "^Seccomp:.*0" /proc/self/status' |
            build --allow security.insecure"# => "is not allowed\n1";
    further_limits: r#"
        echo 'RUN ulimit -n; ulimit -Hn; grep -o "/dev/shm .*size=1024k" /proc/mounts' |
            build --opt ulimit=nofile=100:200 --opt shm-size=1048576"# => "100\n200\n/dev/shm tmpfs rw,nosuid,relatime,size=1024k";
    memory_and_processor: r#"
        cd /sys/fs/cgroup
        build --opt memory=33554432 --opt cpuperiod=100000 --opt cpuquota=50000 <<'END'
RUN cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes cpu.max 2>/dev/null || true
RUN cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null | sed 's/$/ 100000/'
RUN exec 2>/dev/null; head -c 100m /dev/zero | tail | wc -c
END"# => "33554432\n50000 100000\n0";
    a_parent: r#"
        start_to_sleep 1001$(printf %s $runtime | wc -c) --opt cgroup-parent=/of-$name
        find /sys/fs/cgroup -type d -path "*/of-$name/buildkit/$id" | grep -q . && echo below
        kill -INT $build
        cleared
        find /sys/fs/cgroup -depth -type d -path "*/of-$name*" -exec rmdir {} +"# => "below";
    // Each keeps a file, so that none is left out.
    many_at_once: r#"
        for n in $(seq 20); do
            printf 'FROM base AS s%s\nRUN echo step %s; echo %s >/f%s\n' $n $n $n $n
        done >/tmp/$name.steps
        echo FROM scratch >>/tmp/$name.steps
        for n in $(seq 20); do echo COPY --from=s$n /f$n /; done >>/tmp/$name.steps
        build --output type=local,dest=/tmp/$name.out </tmp/$name.steps | sort -u | wc -l
        cat /tmp/$name.out/* | wc -l"# => "20\n20";
    a_build_that_is_interrupted: r#"
        for signal in INT KILL; do
            start_to_sleep 1002$(printf %s $runtime$signal | wc -c)
            kill -$signal $build
            cleared
        done"# => "";
    many_builds_that_are_interrupted: r#"
        for n in $(seq 10); do
            printf 'FROM base AS s%s\nRUN trap "" TERM INT; sleep 1003%s%s\n' $n $n $(printf %s $runtime | wc -c)
        done >/tmp/$name.steps
        echo FROM scratch >>/tmp/$name.steps
        for n in $(seq 10); do echo COPY --from=s$n /etc /etc; done >>/tmp/$name.steps
        call </tmp/$name.steps &
        pattern="^sleep 1003[0-9]*$(printf %s $runtime | wc -c)$"
        await '[ $(pgrep -fc "$pattern") = 10 ]'
        kill -INT $!
        await '! pgrep -f "$pattern"'"# => "";
    // A step ends before the daemon does.
    a_daemon_that_is_told_to_end: r#"
        daemon $runtime.ends
        start_to_sleep 1004$(printf %s $runtime | wc -c)
        kill -TERM $(cat $folders/$runtime.ends/pid)
        await "grep 'stopping server' $folder/log"
        kill -0 $sleeper
        kill -INT $build
        cleared
        ended $runtime.ends"# => "";
    // BuildKit clears nothing of a daemon that was killed; whoever starts it again has the names.
    a_daemon_that_is_killed: r#"
        daemon $runtime.killed
        start_to_sleep 1005$(printf %s $runtime | wc -c)
        kill_daemon KILL $runtime.killed
        kill -0 $sleeper && echo running
        daemon $runtime.killed
        echo 'RUN echo built' | build
        $runtime delete --force $id
        await "! kill -0 $sleeper"
        find $states/$id /sys/fs/cgroup -name $id 2>/dev/null || true
        kill_daemon TERM $runtime.killed
        umount $folders/$runtime.killed/root/runc-overlayfs/executor/$id/rootfs"# => "running\nbuilt";
}
