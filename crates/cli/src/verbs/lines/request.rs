//! The request of a command line as text, without values that are the default.

use std::any::Any;
use std::fmt::{Debug, Write};
use std::path::PathBuf;

use coracle_container::{
    After, Attachment, CgroupManager, CgroupsMode, ChangeRoot, CheckpointKind, CheckpointOptions,
    CreateOptions, CriuFlags, ExecOptions, ExecProcess, Force, Keyring, NetworkFlags, NewResources,
    RestoreOptions, Rootless, RunOptions, Scope, Search, Setting, Subreaper, UserNamespace,
};

use crate::run::Call;
use crate::verbs::check::Check;
use crate::verbs::completion::Completion;
use crate::verbs::create::Create;
use crate::verbs::delete::Delete;
use crate::verbs::events::Events;
use crate::verbs::explain::Explain;
use crate::verbs::info::Info;
use crate::verbs::keep::KeepExit;
use crate::verbs::kill::Kill;
use crate::verbs::list::{Form, List};
use crate::verbs::man::Manual;
use crate::verbs::mount;
use crate::verbs::network::Networks;
use crate::verbs::ps::Ps;
use crate::verbs::restore::Restore;
use crate::verbs::run::Run;
use crate::verbs::spec::Spec;
use crate::verbs::targets::Targets;
use crate::verbs::update::Update;

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

/// The global flags, the verb and its request.
pub(super) fn text(call: &Call) -> String {
    let (global, mut shown) = (&call.global, Shown::default());
    let other_level = (global.log.level != Default::default()).then_some(global.log.level);
    let other_format = (global.log.format != Default::default()).then_some(global.log.format);
    shown.value("log", global.log.file.as_ref());
    shown.value("format", other_format);
    shown.value("level", other_level);
    shown.value("trace", global.trace.as_ref());
    shown.value("root", global.root.as_ref());
    shown.word("criu", global.names_criu);
    let other_manager = global.cgroup_manager != CgroupManager::Cgroupfs;
    shown.value("cgroups", other_manager.then_some(global.cgroup_manager));
    let other_rootless = (global.rootless != Rootless::Auto).then_some(global.rootless);
    shown.value("rootless", other_rootless);
    show_request(&mut shown, call);
    let any: &dyn Any = &*call.request;
    if let Some(task) = any.downcast_ref::<mount::Task>() {
        shown.0 += &format!(" {task:?}").replace('"', "");
    }
    shown.0.trim_start().to_owned()
}

fn show_request(shown: &mut Shown, call: &Call) {
    let any: &dyn Any = &*call.request;
    shown.0 += &format!(" {}", call.verb.command.name);
    if let Some(id) = &call.container {
        shown.0 += &format!(" {id}");
    }
    if let Some(create) = any.downcast_ref::<Create>() {
        show_create(shown, &create.options);
        show_keeper(shown, create.keep_exit);
    } else if let Some(run) = any.downcast_ref::<Run>() {
        show_run(shown, run);
    } else if let Some(options) = any.downcast_ref::<ExecOptions>() {
        show_exec(shown, options);
    } else if let Some(options) = any.downcast_ref::<CheckpointOptions>() {
        show_checkpoint(shown, options);
    } else if let Some(restore) = any.downcast_ref::<Restore>() {
        show_restore(shown, &restore.options);
        show_keeper(shown, restore.keep_exit);
    } else if let Some(update) = any.downcast_ref::<Update>() {
        show_update(shown, update);
    } else if let Some(kill) = any.downcast_ref::<Kill>() {
        show_kill(shown, kill);
    } else if let Some(delete) = any.downcast_ref::<Delete>() {
        show_targets(shown, &delete.targets);
        shown.word("force", delete.force == Force::Yes);
    } else if let Some(List { form, filters }) = any.downcast_ref() {
        match form {
            Form::Template(_) => shown.0 += " template",
            form => shown.0 += &format!(" {form:?}"),
        }
        let filters = Some(filters).filter(|filters| !filters.is_empty());
        shown.value("filters", filters);
    } else if let Some(form) = any.downcast_ref::<Info>() {
        shown.0 += &format!(" {form:?}");
    } else if let Some(Ps { form, .. }) = any.downcast_ref() {
        shown.0 += &format!(" {form:?}").replace('"', "");
    } else if let Some(Events {
        listening, form, ..
    }) = any.downcast_ref()
    {
        shown.0 += &format!(" {listening:?}");
        shown.value("form", form.as_ref());
    } else if let Some(Networks { task, search }) = any.downcast_ref() {
        shown.0 += &format!(" {task:?}").replace('"', "");
        show_search(shown, search);
    } else if let Some(Spec { bundle, kind }) = any.downcast_ref() {
        shown.0 += &format!(" {} {kind:?}", bundle.display());
    } else if let Some(explain) = any.downcast_ref::<Explain>() {
        shown.0 += &format!(" {:?} {}", explain.form, explain.options.id);
        show_create(shown, &explain.options);
        shown.value("images", explain.images.as_ref());
    } else if let Some(completion) = any.downcast_ref::<Completion>() {
        match completion {
            Completion::Script(script) => shown.0 += &format!(" {}", script.lines().count() > 9),
            Completion::Words(words) => shown.0 += &format!(" {words:?}").replace('"', ""),
        }
    } else if let Some(Manual(directory)) = any.downcast_ref() {
        shown.0 += &format!(" {}", directory.display());
    } else if let Some(check) = any.downcast_ref::<Check>() {
        show_check(shown, check);
    }
}

fn show_kill(shown: &mut Shown, kill: &Kill) {
    show_targets(shown, &kill.targets);
    shown.0 += &format!(" {}", kill.signal);
    shown.word("all", kill.scope == Scope::All);
}

fn show_targets(shown: &mut Shown, targets: &Targets) {
    shown.word("matching", matches!(targets, Targets::Matching(_)));
}

fn show_check(shown: &mut Shown, check: &Check) {
    shown.0 += &format!(" {:?}", check.form);
    shown.word("with", check.with_bundle);
    show_create(shown, &check.options);
}

fn show_update(shown: &mut Shown, Update { options, ignored }: &Update) {
    match &options.resources {
        NewResources::File(file) => shown.value("file", Some(file)),
        NewResources::StandardInput => shown.word("stdin", true),
        NewResources::Flags(settings) => {
            for Setting { flag, value, .. } in settings {
                shown.value(flag, Some(value.to_string().replace('"', "")));
            }
        }
    }
    let devices = &options.devices;
    let shown_devices = Some(&devices.added).filter(|added| !added.is_empty());
    shown.value("devices", shown_devices);
    let removed = Some(&devices.removed).filter(|removed| !removed.is_empty());
    shown.value("without", removed);
    shown.value("l3", options.l3_cache_schema.as_ref());
    shown.value("mb", options.mem_bw_schema.as_ref());
    shown.value("ignored", Some(ignored).filter(|names| !names.is_empty()));
}

fn show_create(shown: &mut Shown, options: &CreateOptions) {
    let other_bundle = Some(&options.bundle).filter(|bundle| bundle.as_os_str() != ".");
    shown.value("bundle", other_bundle);
    shown.value("config", options.config.as_ref());
    shown.value("console", options.outputs.console_socket.as_ref());
    shown.value("pidfd", options.outputs.pidfd_socket.as_ref());
    shown.value("pid", options.outputs.pid_file.as_ref());
    shown.word(
        "no-pivot",
        options.launch.change_root == ChangeRoot::MoveAndChroot,
    );
    shown.word("no-new-keyring", options.keyring == Keyring::Inherited);
    let is_auto = options.user_namespace == UserNamespace::Auto;
    shown.word("userns-auto", is_auto);
    shown.value("fds", Some(options.preserve_fds).filter(|fds| *fds != 0));
    show_network(shown, &options.network);
    show_search(shown, &options.search);
}

/// Shows the values that are not the default.
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

fn show_run(shown: &mut Shown, run: &Run) {
    show_create(shown, &run.options.create);
    show_ending(shown, &run.options);
    show_keeper(shown, run.keep_exit);
}

fn show_keeper(shown: &mut Shown, keep_exit: KeepExit) {
    shown.word("keep-exit", keep_exit == KeepExit::Yes);
}

fn show_ending(shown: &mut Shown, options: &RunOptions) {
    shown.word("detach", options.attachment == Attachment::Detached);
    shown.word("keep", options.after == After::Keep);
    shown.word("no-subreaper", options.subreaper == Subreaper::No);
}

fn show_checkpoint(shown: &mut Shown, options: &CheckpointOptions) {
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
    show_create(shown, &options.run.create);
    let criu = (&options.image_path, &options.work_path, options.flags);
    show_criu(shown, criu, options.cgroups);
    shown.value("lsm", options.labels.profile.as_ref());
    shown.value("context", options.labels.mount_context.as_ref());
    show_ending(shown, &options.run);
}

fn show_exec(shown: &mut Shown, options: &ExecOptions) {
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
    shown.value("console", options.outputs.console_socket.as_ref());
    shown.value("pidfd", options.outputs.pidfd_socket.as_ref());
    shown.value("pid", options.outputs.pid_file.as_ref());
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
