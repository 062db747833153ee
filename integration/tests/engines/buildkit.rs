//! BuildKit, as dockerd embeds it: it runs the program `runc` of the daemon's path, whichever runtime
//! is docker's default, without `--root` and with a log of its own.

use std::sync::Arc;

use coracle_integration::{Manager, skip};

use crate::checks;
use crate::docker;
use crate::engine::{Engine, Page, Shared};

static BUILDKIT: Shared<Engine> = Shared::new();

/// `build` builds the image `$name` from the steps of standard input and prints what these print, by
/// Debian's client: one that is found before it may lack the plugin for builds.
const PRELUDE: &str = r#"
docker=/usr/bin/docker
build() {
    mkdir -p /tmp/$name
    { echo FROM $busybox && cat; } >/tmp/$name/Dockerfile
    DOCKER_BUILDKIT=1 $docker build --no-cache --progress plain --tag $name \
        "$@" /tmp/$name >/tmp/$name.log 2>&1 && built=0 || built=$?
    sed -n 's/^#[0-9]* [0-9][0-9.]* //p' /tmp/$name.log
    [ $built = 0 ] || grep -o 'exit code: .*' /tmp/$name.log | tail -n 1
}
"#;

fn buildkit() -> Arc<Engine> {
    BUILDKIT.get(|| {
        let manager = Manager::of_machine();
        let install = Page::Engines.block("For builds by coracle");
        let mut engine = docker::engine(manager);
        engine.run("install", &install);
        docker::start(&engine, "");
        engine.prelude += PRELUDE;
        let probe = "echo RUN true >/tmp/steps; build </tmp/steps; exit $built";
        if engine.script("probe", probe).output().code != 0 {
            let log = engine.run("probe", "cat /tmp/$name.log");
            match log.stdout.contains("buildx component is missing") {
                true => skip!("needs docker-buildx"),
                false => panic!("{log}"),
            }
        }
        engine
    })
}

#[test(last)]
fn nothing_is_left_behind() {
    let Some(buildkit) = BUILDKIT.take() else {
        return;
    };
    let left = r#"
find /run/coracle /run/runc -mindepth 1 2>/dev/null || true
find /sys/fs/cgroup -type d -path '*/buildkit/*'
new_roots
alive coracle
alive sleep"#;
    buildkit.check("", left, "");
}

checks! { buildkit,
    a_step: "echo 'RUN echo out; id -u; hostname' | build" => "out\n0\nbuildkitsandbox";
    // Other tests build meanwhile: `runc` is replaced by a rename, and `runc.real` stays for them.
    the_runtime_is_ours: r#"
        cd /usr/local/bin
        cp -a runc runc.real
        cp -a runc runc.back
        printf '#!/bin/sh\necho "$*" >>/tmp/calls\nexec /usr/local/bin/runc.real "$@"\n' >runc.log
        chmod 755 runc.log
        mv -T runc.log runc
        echo 'RUN true' | build
        mv -T runc.back runc
        grep -o -e --log-format.json -e run.--bundle /tmp/calls | sort -u"# => "--log-format json\nrun --bundle";
    a_file_of_a_step: r#"
        printf 'RUN echo kept >/kept\nRUN cat /kept' | build
        $run $name cat /kept"# => "kept\nkept";
    a_step_that_fails: "echo 'RUN exit 7' | build" => "exit code: 7";
    a_missing_program: r#"
        echo 'RUN ["no-such-program"]' | build | grep -v exit.code: |
        grep -o 'executable file not found in .PATH'"# => "executable file not found in $PATH";
    users: "printf 'USER 7\nRUN id -u\n' | build" => "7";
    a_working_directory: "printf 'WORKDIR /some/where\nRUN pwd\n' | build" => "/some/where";
    a_cache: r#"
        step='RUN --mount=type=cache,target=/c echo once >>/c/f && cat /c/f'
        printf '%s\n%s\n' "$step" "$step" | build
        $run $name sh -c 'ls /c 2>/dev/null | wc -l'"# => "once\nonce\nonce\n0";
    a_secret: r#"
        echo hidden >/tmp/$name.secret
        echo 'RUN --mount=type=secret,id=s cat /run/secrets/s' | build --secret id=s,src=/tmp/$name.secret
        code $run $name ls /run/secrets/s"# => "hidden\n1";
    temporary_files: r#"
        echo 'RUN --mount=type=tmpfs,target=/t touch /t/x && grep -o " /t tmpfs" /proc/mounts' | build
        $run $name sh -c 'ls /t 2>/dev/null | wc -l'"# => " /t tmpfs\n0";
    a_mount_of_the_context: r#"
        echo 'RUN --mount=target=/m head -n 1 /m/Dockerfile; touch /m/x || true' | build | sort"# => "FROM localhost/busybox\ntouch: /m/x: Read-only file system";
    no_network: "echo 'RUN ip -o link | wc -l' | build --network none" => "1";
    a_bridge: "echo 'RUN ip -o -4 addr show eth0 | grep -o inet.172.17' | build" => "inet 172.17";
    the_default_profile: r#"
        echo 'RUN grep -c "^Seccomp:.*2" /proc/self/status; unshare -m true || echo refused' | build | grep -v ^unshare"# => "1\nrefused";
    // BuildKit kills the step by `kill ID 9` and then deletes the container.
    a_build_that_is_interrupted: r#"
        echo 'RUN sleep 3333' >/tmp/$name.steps
        (build </tmp/$name.steps) &
        await 'pgrep -fx "sleep 3333"'
        for id in $(ls /run/coracle); do
            ! grep -q $id /proc/$(pgrep -fx "sleep 3333")/cgroup || step=$id
        done
        ls -d /run/coracle/$step >/dev/null
        pkill -INT -f "$docker.* /tmp/$name$"
        wait
        await '! pgrep -fx "sleep 3333"'
        await '! [ -e /run/coracle/$step ]'"# => "";
}
