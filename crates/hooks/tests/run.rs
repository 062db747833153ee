//! Real hooks, run by a process with a single thread: a clone demands that, and libtest always has
//! two. Hence a `main` of its own, which takes a part of a test's name as an argument.

// All of this is tests, but clippy's exemption looks for libtest's attribute.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

use coracle_bundle::HookPoint;
use coracle_hooks::{Command, Error, Files, fill_stdin, run, run_all, stdin_files};
use coracle_program::{Limits, Output};
use coracle_sys::{Cause, ExitStatus, StringArray};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

macro_rules! named {
    ($($test:ident,)*) => { &[$((stringify!($test), $test)),*] };
}

const TESTS: &[(&str, fn())] = named![
    state_is_read_to_its_end,
    state_may_be_ignored,
    environment_is_the_given_one,
    output_is_in_the_error,
    what_does_not_start,
    a_status_of_127_is_the_hooks_own,
    a_signal_is_named,
    a_time_limit_kills_the_group,
    a_time_limit_holds_for_a_chatterbox,
    what_stays_in_the_background_holds_nobody,
    no_other_descriptor_signal_or_session,
    the_first_failure_ends_a_run_and_not_a_run_of_all,
    init_reports_coordinates,
];

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let chosen = TESTS.iter().filter(|(name, _)| name.contains(&wanted));
    let mut failed = 0;
    for (name, test) in chosen {
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += i32::from(!passed);
    }
    std::process::exit(failed);
}

fn command(path: &CStr, args: &[&str], timeout_secs: Option<u64>) -> Command {
    let argv = args
        .iter()
        .map(|arg| CString::new(*arg).expect("no NUL"))
        .collect();
    Command {
        path: path.to_owned(),
        argv: StringArray::new(argv),
        of_process: false,
        dies_with_init: false,
        env: StringArray::new(vec![c"PATH=/usr/bin:/bin".to_owned(), c"A=b".to_owned()]),
        timeout: timeout_secs.map(Duration::from_secs),
    }
}

fn shell(script: &str) -> Command {
    command(c"/bin/sh", &["sh", "-c", script], None)
}

/// The error's text without its beginning.
fn failure(command: Command, state: &[u8]) -> String {
    let error = run(
        HookPoint::CreateRuntime,
        &[command],
        &Files::default(),
        state,
        &Limits::default(),
    )
    .expect_err("a failure");
    let text = error.to_string();
    let rest = text
        .strip_prefix("error running createRuntime hook #0: ")
        .expect("the name of the hook");
    rest.to_owned()
}

fn run_shell(script: &str) -> Result<(), Error> {
    run(
        HookPoint::CreateRuntime,
        &[shell(script)],
        &Files::default(),
        b"{}",
        &Limits::default(),
    )
}

fn state_is_read_to_its_end() {
    let state = [b"{".as_slice(), &vec![b' '; 100_000], b"}"].concat();
    let script = "test $(wc -c) = 100002";
    run(
        HookPoint::Prestart,
        &[shell(script), shell(script)],
        &Files::default(),
        &state,
        &Limits::default(),
    )
    .expect("success");
}

fn state_may_be_ignored() {
    run_shell("exec <&-; exit 0").expect("success");
    run(
        HookPoint::Prestart,
        &[shell("exit 0")],
        &Files::default(),
        &[b'x'; 200_000],
        &Limits::default(),
    )
    .expect("success");
}

fn environment_is_the_given_one() {
    let env = command(c"/usr/bin/env", &["env"], None);
    run(
        HookPoint::Prestart,
        std::slice::from_ref(&env),
        &Files::default(),
        b"",
        &Limits::default(),
    )
    .expect("success");
    let script = "test \"$A\" = b && test $(env | wc -l) -le 5 && exit 9";
    assert_eq!(failure(shell(script), b""), "/bin/sh: exit status 9");
}

fn output_is_in_the_error() {
    let script = "echo one; echo \"$0 two\" >&2; exit 3";
    assert_eq!(
        failure(shell(script), b""),
        "/bin/sh: exit status 3: one\\nsh two"
    );
    let script = "head -c 300000 /dev/zero | tr '\\0' x; echo end; exit 1";
    let text = failure(shell(script), b"");
    assert!(text.ends_with("xxend"), "{text}");
    assert!(text.len() < 4200);
}

fn what_does_not_start() {
    let say = |path| failure(command(path, &["x"], None), b"");
    assert_eq!(
        say(c"/nonexistent/hook"),
        "/nonexistent/hook: not found (ENOENT)"
    );
    assert_eq!(
        say(c"/etc/passwd"),
        "/etc/passwd: permission denied (EACCES)"
    );
    assert_eq!(say(c"/etc"), "/etc: permission denied (EACCES)");
}

fn a_status_of_127_is_the_hooks_own() {
    assert_eq!(failure(shell("exit 127"), b""), "/bin/sh: exit status 127");
}

fn a_signal_is_named() {
    assert_eq!(
        failure(shell("kill -TERM $$"), b""),
        "/bin/sh: killed by signal 15"
    );
}

fn a_time_limit_kills_the_group() {
    let begin = Instant::now();
    // Both ignore what can be ignored; the pid of the one in the background is written.
    let script = "trap '' TERM HUP; sleep 60 & echo $!; wait; sleep 60";
    let hook = command(c"/bin/sh", &["sh", "-c", script], Some(1));
    let text = failure(hook, b"");
    let pid = text
        .strip_prefix("/bin/sh: timed out after 1 s: ")
        .expect(&text);
    assert!((1..20).contains(&begin.elapsed().as_secs()));
    // The signal is sent; that it has died is known by its pidfd, if it isn't forgotten already.
    let pid = Pid::from_raw(pid.parse().expect("a number"));
    match coracle_sys::pidfd_open(pid) {
        Err(errno) => assert_eq!(errno, Errno::ESRCH),
        Ok(pidfd) => {
            let ended = coracle_sys::poll_readable(&[pidfd.as_fd()], Some(20_000));
            assert_eq!(ended, Ok(1));
        }
    }
}

fn a_time_limit_holds_for_a_chatterbox() {
    let hook = command(c"/usr/bin/yes", &["yes"], Some(1));
    let text = failure(hook, b"");
    assert!(
        text.starts_with("/usr/bin/yes: timed out after 1 s: "),
        "{text}"
    );
}

fn what_stays_in_the_background_holds_nobody() {
    let begin = Instant::now();
    let script = "sleep 30 & echo $!; exit 4";
    let text = failure(shell(script), b"");
    let pid = text.strip_prefix("/bin/sh: exit status 4: ").expect(&text);
    assert!(begin.elapsed().as_secs() < 20);
    let pid = Pid::from_raw(pid.parse().expect("a number"));
    kill(pid, Signal::SIGKILL).expect("it still runs");
}

fn no_other_descriptor_signal_or_session() {
    let file = std::fs::File::open("/dev/null").expect("the null device");
    let stray = nix::unistd::dup(&file).expect("a descriptor without the flag");
    let mask = coracle_sys::block_all_signals();
    // The descriptor of the listing itself is the fourth.
    let script = "test \"$(ls /proc/self/fd | tr -d '\\n')\" = 0123 || exit 10\n\
        grep -q '^SigBlk:[[:space:]]*0*$' /proc/self/status || exit 11\n\
        grep -q '^SigIgn:[[:space:]]*0*$' /proc/self/status || exit 12\n\
        read -r line < /proc/self/stat; set -- $line; test $1 = $6 || exit 13";
    let answer = run_shell(script);
    coracle_sys::restore_signals(mask);
    drop(stray);
    answer.expect("success");
}

fn the_first_failure_ends_a_run_and_not_a_run_of_all() {
    let hooks = ["exit 0", "exit 5", "echo x; exit 6"].map(shell);
    let error = run(
        HookPoint::Poststop,
        &hooks,
        &Files::default(),
        b"",
        &Limits::default(),
    )
    .expect_err("a failure");
    assert_eq!(
        error.to_string(),
        "error running poststop hook #1: /bin/sh: exit status 5"
    );
    let all = run_all(
        HookPoint::Poststop,
        &hooks,
        &Files::default(),
        b"",
        &Limits::default(),
    );
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(
        all[0],
        "error running poststop hook #1: /bin/sh: exit status 5"
    );
    assert_eq!(
        all[1],
        "error running poststop hook #2: /bin/sh: exit status 6: x"
    );
    assert_eq!(all.len(), 2);
}

fn init_reports_coordinates() {
    let run = |scripts: &[&str], files: usize| {
        let commands: Vec<_> = scripts.iter().map(|script| shell(script)).collect();
        let stdin = stdin_files(&commands).expect("files");
        fill_stdin(&stdin, b"state").expect("room");
        let (mut output, writer) = Output::pipe().expect("a pipe");
        let stdin = stdin.get(..files).expect("as many");
        let answer = coracle_hooks::run_in_container(
            &commands,
            stdin,
            Files::default().or(Some(writer.as_fd())),
            None,
        );
        output.read();
        (
            answer.map_err(|fault| (fault.step, fault.cause)),
            output.text(),
        )
    };
    assert_eq!(run(&["cat", "cat"], 2), (Ok(()), "statestate".to_owned()));
    let failed = run(&["cat", "echo why >&2; exit 3", "echo no"], 3);
    assert_eq!(
        failed,
        (
            Err((1, Cause::Exit(ExitStatus::Code(3)))),
            "statewhy".to_owned()
        )
    );
    let (answer, _) = run(&["kill -9 $$"], 1);
    assert_eq!(answer, Err((0, Cause::Exit(ExitStatus::Signal(9)))));
    let (answer, _) = run(&["cat", "cat"], 1);
    assert!(matches!(answer, Err((1, Cause::Check(_)))), "{answer:?}");
}
