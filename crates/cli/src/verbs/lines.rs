//! Command lines as callers write them, and as nobody should.

use std::ffi::OsString;
use std::fmt::{Debug, Write};
use std::path::PathBuf;

use coracle_container::{
    After, Attachment, CgroupManager, CgroupsMode, ChangeRoot, CheckpointKind, CheckpointOptions,
    CreateOptions, CriuFlags, ExecOptions, ExecProcess, Force, Keyring, NetworkFlags, NewResources,
    RestoreOptions, Rootless, RunOptions, Scope, Search, Subreaper,
};

use super::{Request, read};
use crate::arguments::{Called, Global, Usage, read_global};

/// Words are parted by blanks, `''` is an empty one.
fn words(line: &str) -> Vec<OsString> {
    line.split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| word.replace("''", "").into())
        .collect()
}

fn parse(line: &str) -> Result<(Global, Request), Usage> {
    match read_global(super::hoist(words(line)))? {
        (global, Called::Help) => Ok((global, Request::Print("Commands:".to_owned()))),
        (global, Called::Version) => Ok((global, Request::Print(super::version()))),
        (global, Called::Verb { name, rest }) => {
            let request = read(&name, &global, rest)?;
            Ok((global, request))
        }
    }
}

/// What was read, without whatever is as it is by default.
fn shown(line: &str) -> String {
    match parse(line) {
        Ok((global, request)) => show(&global, &request),
        Err(usage) => format!("error: {usage}"),
    }
}

/// Collects ` name=value` and ` name`.
#[derive(Default)]
struct Shown(String);

impl Shown {
    fn word(&mut self, name: &str, is_on: bool) {
        if is_on {
            write!(self.0, " {name}").unwrap();
        }
    }

    fn value(&mut self, name: &str, value: Option<impl Debug>) {
        if let Some(value) = value {
            let value = format!("{value:?}").replace(['"', '\\'], "");
            write!(self.0, " {name}={value}").unwrap();
        }
    }
}

fn show(global: &Global, request: &Request) -> String {
    let mut shown = Shown::default();
    let other_level = (global.log.level != Default::default()).then_some(global.log.level);
    let other_format = (global.log.format != Default::default()).then_some(global.log.format);
    shown.value("log", global.log.file.as_ref());
    shown.value("format", other_format);
    shown.value("level", other_level);
    shown.value("root", global.root.as_ref());
    shown.word("criu", global.names_criu);
    let other_manager = global.cgroup_manager != CgroupManager::Cgroupfs;
    shown.value("cgroups", other_manager.then_some(global.cgroup_manager));
    let other_rootless = (global.rootless != Rootless::Auto).then_some(global.rootless);
    shown.value("rootless", other_rootless);
    show_request(&mut shown, request);
    shown.0.trim_start().to_owned()
}

fn show_request(shown: &mut Shown, request: &Request) {
    match request {
        Request::Create(options) => {
            shown.word("create", true);
            show_create(shown, options);
        }
        Request::Run(options) => show_run(shown, options),
        Request::Exec(options) => show_exec(shown, options),
        Request::Checkpoint(options) => show_checkpoint(shown, options),
        Request::Restore(options) => show_restore(shown, options),
        Request::Start(id) => shown.0 += &format!(" start {id}"),
        Request::State(id) => shown.0 += &format!(" state {id}"),
        Request::Pause(id) => shown.0 += &format!(" pause {id}"),
        Request::Resume(id) => shown.0 += &format!(" resume {id}"),
        Request::Kill { id, signal, scope } => {
            shown.0 += &format!(" kill {id} {signal}");
            shown.word("all", *scope == Scope::All);
        }
        Request::Delete { id, force } => {
            shown.0 += &format!(" delete {id}");
            shown.word("force", *force == Force::Yes);
        }
        Request::List(form) => shown.0 += &format!(" list {form:?}"),
        Request::Ps { id, form } => shown.0 += &format!(" ps {id} {form:?}").replace('"', ""),
        Request::Update { options, ignored } => {
            shown.0 += &format!(" update {}", options.id);
            match &options.resources {
                NewResources::File(file) => shown.value("file", Some(file)),
                NewResources::StandardInput => shown.word("stdin", true),
                NewResources::Flags(flags) => {
                    for (limit, text) in flags {
                        shown.value(limit.flag(), Some(text));
                    }
                }
            }
            shown.value("l3", options.l3_cache_schema.as_ref());
            shown.value("mb", options.mem_bw_schema.as_ref());
            shown.value("ignored", Some(ignored).filter(|names| !names.is_empty()));
        }
        Request::Events { id, listening } => shown.0 += &format!(" events {id} {listening:?}"),
        Request::Network { task, search } => {
            shown.0 += &format!(" network {task:?}").replace('"', "");
            show_search(shown, search);
        }
        Request::Spec { bundle, kind } => {
            shown.0 += &format!(" spec {} {kind:?}", bundle.display())
        }
        Request::Features => shown.word("features", true),
        Request::Explain {
            options,
            images,
            form,
        } => {
            shown.0 += &format!(" explain {form:?}");
            show_create(shown, options);
            shown.value("images", images.as_ref());
        }
        Request::Print(text) if text.starts_with("coracle version ") => shown.word("version", true),
        Request::Print(text) if text.contains("Commands:") => shown.word("help", true),
        Request::Print(text) => {
            let usage = text
                .lines()
                .find(|line| line.starts_with("Usage: coracle "))
                .unwrap();
            shown.value("help", usage.split(' ').nth(2));
        }
    }
}

fn show_create(shown: &mut Shown, options: &CreateOptions) {
    shown.0 += &format!(" {}", options.id);
    let other_bundle = Some(&options.bundle).filter(|bundle| bundle.as_os_str() != ".");
    shown.value("bundle", other_bundle);
    shown.value("console", options.console_socket.as_ref());
    shown.value("pidfd", options.pidfd_socket.as_ref());
    shown.value("pid", options.pid_file.as_ref());
    shown.word("no-pivot", options.change_root == ChangeRoot::MoveAndChroot);
    shown.word("no-new-keyring", options.keyring == Keyring::Inherited);
    shown.value("fds", Some(options.preserve_fds).filter(|fds| *fds != 0));
    show_network(shown, &options.network);
    show_search(shown, &options.search);
}

/// What is not as it is by default.
fn show_search(shown: &mut Shown, search: &Search) {
    let default = Search::default();
    let other = |is_other: bool, text: String| Some(text).filter(|_| is_other);
    let conf_dir = search.conf_dir.display().to_string();
    shown.value("conf", other(search.conf_dir != default.conf_dir, conf_dir));
    let bin_dirs = format!("{:?}", search.bin_dirs);
    shown.value("bin", other(search.bin_dirs != default.bin_dirs, bin_dirs));
    let seconds = search.timeout_s.to_string();
    shown.value(
        "timeout",
        other(search.timeout_s != default.timeout_s, seconds),
    );
}

fn show_network(shown: &mut Shown, network: &NetworkFlags) {
    shown.value("network", network.network.as_ref());
    for (name, values) in [
        ("publish", &network.publish),
        ("ip", &network.ip),
        ("dns", &network.dns),
        ("bandwidth", &network.bandwidth),
    ] {
        shown.value(name, Some(values).filter(|values| !values.is_empty()));
    }
    shown.value("mac", network.mac.as_ref());
    shown.word("files", network.files);
}

fn show_run(shown: &mut Shown, options: &RunOptions) {
    shown.word("run", true);
    show_create(shown, &options.create);
    shown.word("detach", options.attachment == Attachment::Detached);
    shown.word("keep", options.after == After::Keep);
    shown.word("no-subreaper", options.subreaper == Subreaper::No);
}

fn show_checkpoint(shown: &mut Shown, options: &CheckpointOptions) {
    shown.0 += &format!(" checkpoint {}", options.id);
    let criu = (&options.image_path, &options.work_path, options.flags);
    show_criu(shown, criu, options.cgroups);
    shown.value("parent", options.parent_path.as_ref());
    let other_kind = options.kind != CheckpointKind::Dump;
    shown.value("kind", Some(options.kind).filter(|_| other_kind));
    let server = options.page_server.as_ref();
    shown.value("server", server.map(|it| (&it.address, it.port)));
    shown.value("status", options.status_fd);
}

type Criu<'a> = (&'a PathBuf, &'a Option<PathBuf>, CriuFlags);

fn show_criu(shown: &mut Shown, (images, work, flags): Criu, cgroups: CgroupsMode) {
    let other_images = Some(images).filter(|path| path.as_os_str() != "checkpoint");
    shown.value("images", other_images);
    shown.value("work", work.as_ref());
    for (name, _) in flags.iter_names() {
        shown.word(&name.to_lowercase(), true);
    }
    let other_cgroups = cgroups != CgroupsMode::Soft;
    shown.value("cgroups", Some(cgroups).filter(|_| other_cgroups));
}

fn show_restore(shown: &mut Shown, options: &RestoreOptions) {
    shown.word("restore", true);
    show_create(shown, &options.create);
    let criu = (&options.image_path, &options.work_path, options.flags);
    show_criu(shown, criu, options.cgroups);
    shown.value("lsm", options.labels.profile.as_ref());
    shown.value("context", options.labels.mount_context.as_ref());
    shown.word("detach", options.attachment == Attachment::Detached);
    shown.word("keep", options.after == After::Keep);
    shown.word("no-subreaper", options.subreaper == Subreaper::No);
}

fn show_exec(shown: &mut Shown, options: &ExecOptions) {
    shown.0 += &format!(" exec {}", options.id);
    match &options.process {
        ExecProcess::File(file) => shown.value("process", Some(file)),
        ExecProcess::Command(command) => shown.value("command", Some(command)),
    }
    shown.value("cwd", options.cwd.as_ref());
    shown.value("env", Some(&options.env).filter(|env| !env.is_empty()));
    shown.word("tty", options.tty);
    shown.value("user", options.user);
    shown.value(
        "gids",
        Some(&options.additional_gids).filter(|gids| !gids.is_empty()),
    );
    shown.word("detach", options.attachment == Attachment::Detached);
    shown.value("console", options.console_socket.as_ref());
    shown.value("pidfd", options.pidfd_socket.as_ref());
    shown.value("pid", options.pid_file.as_ref());
    shown.value("label", options.process_label.as_ref());
    shown.value("apparmor", options.apparmor.as_ref());
    shown.word("no-new-privs", options.no_new_privs);
    shown.value(
        "caps",
        Some(&options.capabilities).filter(|caps| !caps.is_empty()),
    );
    shown.value("fds", Some(options.preserve_fds).filter(|fds| *fds != 0));
    shown.value(
        "cgroup",
        Some(&options.cgroup).filter(|cgroup| !cgroup.is_empty()),
    );
    shown.word("ignore-paused", options.ignore_paused);
}

/// A line a case: what is typed, ` => `, what is read.
const GOOD: &str = include_str!("lines/good.txt");
/// The same with the text of the error.
const BAD: &str = include_str!("lines/bad.txt");

fn check(cases: &str, least: usize, prefix: &str) {
    let is_case = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let mut count = 0;
    let mut wrong = String::new();
    for case in cases.lines().filter(is_case) {
        let (line, expected) = case.split_once("=> ").unwrap();
        let (found, expected) = (shown(line), format!("{prefix}{expected}"));
        if found != expected {
            writeln!(wrong, "{line}\n   found {found}\nexpected {expected}").unwrap();
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(count >= least, "{count} cases");
}

#[test]
fn good_lines() {
    check(GOOD, 120, "");
}

#[test]
fn bad_lines() {
    check(BAD, 85, "error: ");
}

#[test]
fn ids_that_could_leave_the_state_root_are_refused_by_every_verb() {
    for id in ["..", ".", "../x", "a/b", "a\n", "", "é"] {
        for verb in [
            "create", "run", "start", "state", "pause", "resume", "kill", "delete", "ps",
        ] {
            let line = [verb, id].map(OsString::from).to_vec();
            let (global, called) = read_global(line).unwrap();
            let Called::Verb { name, rest } = called else {
                panic!("{verb}")
            };
            let refused = read(&name, &global, rest);
            assert!(matches!(refused, Err(Usage::Id(_))), "{verb} {id:?}");
        }
    }
}

#[test]
fn words_need_not_be_text() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(b"\xff\xfe".to_vec());
    let mut line = words("create c --bundle");
    line.push(odd.clone());
    let (global, Called::Verb { name, rest }) = read_global(line).unwrap() else {
        panic!()
    };
    let Request::Create(options) = read(&name, &global, rest).unwrap() else {
        panic!()
    };
    assert_eq!(options.bundle, PathBuf::from(odd.clone()));
    for line in [
        vec![odd.clone()],
        vec!["state".into(), odd.clone()],
        vec!["create".into(), {
            let mut flag = OsString::from("--");
            flag.push(&odd);
            flag
        }],
    ] {
        let (global, Called::Verb { name, rest }) = read_global(line).unwrap() else {
            panic!()
        };
        assert!(read(&name, &global, rest).is_err());
    }
}

#[test]
fn every_verb_has_help_with_all_its_flags() {
    for verb in &super::VERBS {
        let Ok((_, Request::Print(text))) = parse(&format!("{} --help", verb.name)) else {
            panic!("{}", verb.name)
        };
        for arg in super::table(verb).get_arguments() {
            let long = arg.get_long().unwrap();
            assert!(text.contains(&format!("--{long}")), "{}: {long}", verb.name);
            assert!(arg.get_help().is_some());
        }
        assert!(parse("help").is_ok() && super::overview().contains(verb.about));
    }
}
