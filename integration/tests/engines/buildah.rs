//! buildah, and `podman build`: each step of a build is a container.

use std::sync::Arc;

use coracle_integration::needs;

use crate::checks;
use crate::engine::{Engine, Shared};
use crate::podman::set_up;

static BUILDAH: Shared<Engine> = Shared::new();

const PRELUDE: &str = r#"
runtime="--isolation oci --runtime /usr/local/bin/coracle"
work=/tmp/build-$name
mkdir -p $work
# Builds what standard input says and prints what the steps say.
build() { buildah bud --quiet $runtime --tag localhost/$name "$@" $work; }
from() { buildah from --name $name localhost/busybox >/dev/null; trap 'buildah rm $name >/dev/null' EXIT; }
in_it() { buildah run $runtime "$@"; }
file() { printf "$@" >$work/Containerfile; }
"#;

fn buildah() -> Arc<Engine> {
    BUILDAH.get(|| {
        needs::program("buildah");
        let mut engine = set_up(coracle_integration::Manager::Cgroupfs);
        engine.prelude = PRELUDE.to_owned();
        engine
    })
}

#[test(last)]
fn nothing_is_left_behind() {
    let Some(buildah) = BUILDAH.take() else {
        return;
    };
    let left = r#"
buildah containers --quiet
find /run/coracle /run/crun /run/runc -mindepth 1 2>/dev/null || true
find /sys/fs/cgroup -type d -name 'buildah*'
find /var/tmp -name 'buildah*'
alive conmon"#;
    buildah.check("last", left, "");
}

checks! { buildah,
    a_step_runs: r#"
        file 'FROM localhost/busybox\nRUN echo made >/made\n'
        build >/dev/null
        buildah from --name $name $name >/dev/null
        cat $(buildah mount $name)/made
        buildah rm $name >/dev/null"# => "made";
    steps_see_one_another: r#"
        file 'FROM localhost/busybox\nRUN echo one >/one\nRUN cat /one >/two\n'
        build >/dev/null
        podman run --rm --network none $name cat /two"# => "one";
    a_failed_step: "file 'FROM localhost/busybox\\nRUN exit 7\\n'; code build" => "7";
    a_missing_program: r#"
        file 'FROM localhost/busybox\nRUN ["no-such-program"]\n'
        complaint build | grep -o 'executable file not found in .PATH' | head -n 1"# => "executable file not found in $PATH";
    a_user_and_a_folder: r#"
        file 'FROM localhost/busybox\nRUN mkdir /w && chown 1000 /w\nUSER 1000\nWORKDIR /w\nRUN id -u >id; pwd >>id\n'
        build >/dev/null
        podman run --rm --network none $name cat /w/id"# => "1000\n/w";
    an_argument: r#"
        file 'FROM localhost/busybox\nARG WHAT\nRUN echo $WHAT >/what\n'
        build --build-arg WHAT=this >/dev/null
        podman run --rm --network none $name cat /what"# => "this";
    a_copied_file: r#"
        echo copied >$work/file
        file 'FROM localhost/busybox\nCOPY file /file\nRUN cp /file /again\n'
        build >/dev/null
        podman run --rm --network none $name cat /again"# => "copied";
    two_stages: r#"
        file 'FROM localhost/busybox AS one\nRUN echo first >/file\nFROM localhost/busybox\nCOPY --from=one /file /file\nRUN cat /file >/again\n'
        build >/dev/null
        podman run --rm --network none $name cat /again"# => "first";
    a_cache_mount: r#"
        file 'FROM localhost/busybox\nRUN --mount=type=tmpfs,target=/scratch touch /scratch/x && ls /scratch >/seen\n'
        build >/dev/null
        podman run --rm --network none $name cat /seen"# => "x";
    a_secret: r#"
        echo hush >$work/secret
        file 'FROM localhost/busybox\nRUN --mount=type=secret,id=s cat /run/secrets/s >/seen\n'
        build --secret id=s,src=$work/secret >/dev/null
        podman run --rm --network none $name cat /seen"# => "hush";
    limits: r#"
        file 'FROM localhost/busybox\nRUN ulimit -n >/n\n'
        build --ulimit nofile=100:100 >/dev/null
        podman run --rm --network none $name cat /n"# => "100";
    many_lines: "from; in_it $name seq 1 20000 | tail -n 1" => "20000";
    a_run: "from; in_it $name echo well" => "well";
    exit_codes: "from; for n in 0 1 7; do code in_it $name sh -c \"exit $n\"; done" => "0\n1\n7";
    input_is_passed: "from; echo typed | in_it $name cat" => "typed";
    a_volume: "from; in_it -v $work:/v $name touch /v/file; ls $work" => "file";
    the_hosts_network: "from; in_it --network host $name ip -o link | grep -c lo:" => "1";
    no_network: "from; in_it --network none $name ip -o link | wc -l" => "1";
    a_host_name: "from; in_it --hostname some-name $name hostname" => "some-name";
    no_stray_descriptors: r#"
        from
        in_it $name sh -c 'ls /proc/self/fd | tr "\n" " "'"# => "0 1 2 3";
    the_default_profile: "from; in_it $name grep -c '^Seccomp:.*2' /proc/self/status" => "1";
    podman_builds: r#"
        file 'FROM localhost/busybox\nRUN echo made >/made\n'
        podman build --quiet --isolation oci --tag localhost/$name $work >/dev/null
        podman run --rm --network none $name cat /made"# => "made";
    a_commit: r#"
        from
        in_it $name touch /made
        buildah commit --quiet $name localhost/$name >/dev/null
        podman run --rm --network none localhost/$name ls /made"# => "/made";
}

#[test]
fn a_terminal() {
    let script = "from; in_it --tty $name sh -c 'tty; read line; echo got $line; exit 6'";
    let (mut terminal, running) = buildah().on_terminal("terminal", script);
    terminal.expect("/dev/pts/0");
    terminal.send("typed\r");
    terminal.expect("got typed");
    running.wait().exits(6);
}
