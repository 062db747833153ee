//! `checkpoint ID`: writes a running container to files.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use coracle_container::{
    CgroupsMode, CheckpointKind, CheckpointOptions, CriuFlags, parse_page_server,
};

use super::verb::{Context, Request, Verb};
use crate::arguments::table::{Command, Flag, Order, flags_of, switch, value, values};
use crate::arguments::{Arguments, Usage};
use crate::error::Error;

pub(super) const VERB: Verb = Verb {
    command: Command {
        name: "checkpoint",
        synopsis: "ID",
        about: "Write a running container to files, by CRIU",
        order: Order::Anywhere,
        flags: &[SHARED, SHARED_SWITCHES, &flags_of(&OWN_SWITCHES), FLAGS],
        examples: &[
            (
                "checkpoint --image-path /var/tmp/web1 web1",
                "Write the container to files and end it",
            ),
            (
                "checkpoint --image-path /var/tmp/web1 --leave-running web1",
                "Let it run on",
            ),
        ],
    },
    needs_seal: false,
    read: |arguments| Ok(Box::new(read(arguments)?)),
};

/// The default directory of images, as in runc.
const IMAGES: &str = "checkpoint";
/// The switches that `restore` has as well, each with criu's flag.
const SWITCHES: [(Flag, CriuFlags); 7] = [
    (
        switch("tcp-established", "Keep established TCP connections"),
        CriuFlags::TCP_ESTABLISHED,
    ),
    (
        switch("tcp-close", "Close established TCP connections"),
        CriuFlags::TCP_CLOSE,
    ),
    (
        switch(
            "ext-unix-sk",
            "Allow unix sockets whose other end is outside",
        ),
        CriuFlags::EXT_UNIX_SK,
    ),
    (
        switch("shell-job", "Allow a terminal that is not the container's"),
        CriuFlags::SHELL_JOB,
    ),
    (
        switch("file-locks", "Keep file locks"),
        CriuFlags::FILE_LOCKS,
    ),
    (
        switch("lazy-pages", "Transfer memory on demand, by userfaultfd"),
        CriuFlags::LAZY_PAGES,
    ),
    (
        switch(
            "auto-dedup",
            "Drop pages of parent images that are written anew",
        ),
        CriuFlags::AUTO_DEDUP,
    ),
];
/// The switches that only `checkpoint` has.
const OWN_SWITCHES: [(Flag, CriuFlags); 2] = [
    (
        switch(
            "tcp-skip-in-flight",
            "Leave out TCP connections that are not accepted yet",
        ),
        CriuFlags::TCP_SKIP_IN_FLIGHT,
    ),
    (
        switch("link-remap", "Link deleted files that have another name"),
        CriuFlags::LINK_REMAP,
    ),
];

/// The other flags that `restore` has as well.
pub(super) const SHARED: &[Flag] = &[
    value(
        "image-path",
        "DIR",
        "The directory of the images [default: checkpoint]",
    ),
    value("work-path", "DIR", "Write the log here"),
    value(
        "manage-cgroups-mode",
        "soft|full|strict|ignore",
        "Restore cgroups so [default: soft]",
    ),
    values(
        "empty-ns",
        "NAMESPACE",
        "Do not restore what is in it: network, which never is",
    ),
];
pub(super) const SHARED_SWITCHES: &[Flag] = &flags_of(&SWITCHES);

const FLAGS: &[Flag] = &[
    value(
        "parent-path",
        "DIR",
        "Write what changed since these images, relative to --image-path",
    ),
    switch("pre-dump", "Write memory alone; the container goes on"),
    switch("leave-running", "Let the container go on"),
    value(
        "page-server",
        "ADDRESS:PORT",
        "Send pages there, or with --lazy-pages serve them there",
    ),
    value(
        "status-fd",
        "N",
        "Write a zero byte to this descriptor when lazy pages can be fetched",
    ),
];

/// The options of criu that both verbs have.
pub(super) struct Shared {
    pub(super) image_path: PathBuf,
    pub(super) work_path: Option<PathBuf>,
    pub(super) flags: CriuFlags,
    pub(super) cgroups: CgroupsMode,
}

pub(super) fn read_shared(arguments: &Arguments) -> Result<Shared, Usage> {
    arguments.all_parsed("empty-ns", "network", |name| {
        (name == b"network").then_some(())
    })?;
    let modes = "soft, full, strict or ignore";
    let cgroups = arguments.parsed("manage-cgroups-mode", modes, CgroupsMode::parse)?;
    Ok(Shared {
        image_path: arguments
            .path("image-path")
            .unwrap_or_else(|| IMAGES.into()),
        work_path: arguments.path("work-path"),
        flags: criu_flags(arguments, &SWITCHES),
        cgroups: cgroups.unwrap_or_default(),
    })
}

fn criu_flags(arguments: &Arguments, rows: &[(Flag, CriuFlags)]) -> CriuFlags {
    let on = rows.iter().filter(|(flag, _)| arguments.is_on(flag.name));
    on.fold(CriuFlags::empty(), |all, (_, criu)| all | *criu)
}

fn read(arguments: &Arguments) -> Result<CheckpointOptions, Usage> {
    let shared = read_shared(arguments)?;
    let page_server = arguments.parsed("page-server", "ADDRESS:PORT", |text| match text {
        b"" => Some(None),
        text => Some(Some(
            parse_page_server(std::str::from_utf8(text).ok()?).ok()?,
        )),
    })?;
    let status_fd =
        arguments.parsed(
            "status-fd",
            "a descriptor's number",
            |text| match std::str::from_utf8(text).ok()? {
                "" | "-1" => Some(None),
                text => text.parse().ok().filter(|number| *number > 2).map(Some),
            },
        )?;
    let kind = match (
        arguments.is_on("pre-dump"),
        arguments.is_on("leave-running"),
    ) {
        (true, _) => CheckpointKind::PreDump,
        (false, true) => CheckpointKind::DumpAndLeave,
        (false, false) => CheckpointKind::Dump,
    };
    Ok(CheckpointOptions {
        id: arguments.only_id()?,
        image_path: shared.image_path,
        work_path: shared.work_path,
        parent_path: arguments.path("parent-path"),
        kind,
        flags: shared.flags | criu_flags(arguments, &OWN_SWITCHES),
        cgroups: shared.cgroups,
        page_server: page_server.flatten(),
        status_fd: status_fd.flatten(),
    })
}

impl Request for CheckpointOptions {
    fn perform(&self, context: &Context) -> Result<i32, Error> {
        let store = context.store()?;
        let mut shown = Shown::default();
        let done = coracle_container::checkpoint(&store, self, &mut |bytes| shown.show(bytes));
        shown.end();
        context.log.warn_all(&done?);
        Ok(0)
    }
}

/// The progress on a terminal, on one line that is overwritten.
#[derive(Default)]
struct Shown {
    is_on: bool,
}

impl Shown {
    fn show(&mut self, bytes: u64) {
        let mut stderr = std::io::stderr();
        if stderr.is_terminal() {
            self.is_on = true;
            // There is nowhere to report that stderr is closed.
            let _ = write!(stderr, "\r{} MB of memory written\x1b[K", bytes / 1_000_000);
        }
    }

    fn end(&self) {
        if self.is_on {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
