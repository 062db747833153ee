//! `create ID`: runtime.md § Create.

use std::path::PathBuf;

use coracle_bundle::ContainerId;
use coracle_container::{ChangeRoot, CreateOptions, Keyring, LaunchFlags, UserNamespace};

use super::keep::{self, KeepExit};
use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, switch, value};
use crate::arguments::{Arguments, Expected, Usage, network};
use crate::error::Error;

/// The flags of a verb that makes or plans a container: those of `create`, and its own.
macro_rules! creation_flags {
    ($($own:expr),*) => {
        &[
            $crate::verbs::create::FLAGS,
            $crate::arguments::table::OUTPUTS,
            $crate::arguments::network::REQUEST,
            $crate::arguments::network::SEARCH,
            $($own),*
        ]
    };
}
pub(super) use creation_flags;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "create",
        synopsis: "ID",
        about: "Create a container that waits for `start`",
        order: Order::Anywhere,
        flags: creation_flags!(keep::FLAGS),
        examples: &[
            (
                "create --bundle /srv/web web1",
                "Make a container of /srv/web; `start web1` lets its program go",
            ),
            (
                "create --systemd-cgroup --pid-file /run/web1.pid web1",
                "Have systemd make the cgroup, of the bundle in this directory",
            ),
        ],
    },
    needs_seal: true,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

/// Flags of `create` alone.
pub(super) const FLAGS: &[Flag] = &[
    value("bundle", "DIR", "Find config.json here [default: .]").short('b'),
    value(
        "config",
        "FILE",
        "Read this file, and not the bundle's config.json",
    ),
    switch(
        "no-pivot",
        "Change the root without pivot_root, as on a ramdisk",
    ),
    switch(
        "no-new-keyring",
        "Let the container inherit the session keyring",
    ),
    value(
        "userns",
        "auto",
        "Make a user namespace if the caller needs one and the config has none",
    ),
];

pub(super) struct Create {
    pub(super) options: CreateOptions,
    pub(super) keep_exit: KeepExit,
}

fn read(arguments: &Arguments) -> Result<Create, Usage> {
    Ok(Create {
        options: own_options(arguments)?,
        keep_exit: KeepExit::read(arguments),
    })
}

/// The options of a verb that makes the container of its only argument.
pub(super) fn own_options(arguments: &Arguments) -> Result<CreateOptions, Usage> {
    arguments.expect(Expected::Exactly(1))?;
    options(arguments, arguments.id()?, arguments.path("bundle"))
}

/// The values of the flags of `create`, for a container of this id.
pub(super) fn options(
    arguments: &Arguments,
    id: ContainerId,
    bundle: Option<PathBuf>,
) -> Result<CreateOptions, Usage> {
    let change_root =
        arguments.choose("no-pivot", ChangeRoot::MoveAndChroot, ChangeRoot::PivotRoot);
    let keyring = arguments.choose("no-new-keyring", Keyring::Inherited, Keyring::New);
    Ok(CreateOptions {
        bundle: bundle.unwrap_or_else(|| PathBuf::from(".")),
        config: arguments.path("config"),
        id,
        outputs: arguments.outputs(),
        launch: LaunchFlags {
            cgroup_manager: arguments.global.cgroup_manager,
            rootless: arguments.global.rootless,
            change_root,
        },
        user_namespace: arguments
            .choice("userns", [("auto", UserNamespace::Auto)])?
            .unwrap_or_default(),
        keyring,
        preserve_fds: arguments.preserve_fds()?,
        network: network::request(arguments)?,
        search: network::search(arguments)?,
    })
}

impl Request for Create {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        self.keep_exit.perform(context, &self.options.id, |store| {
            let warnings = coracle_container::create(store, &self.options)?;
            context.log.warn_all(&warnings);
            Ok(0)
        })
    }
}
