//! `checkpoint ID`: a running container becomes files.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Arg, Command};
use coracle_container::{
    CgroupsMode, CheckpointKind, CheckpointOptions, CriuFlags, Store, parse_page_server,
};

use super::{Request, Verb};
use crate::arguments::flag::{switch, value, values};
use crate::arguments::{Given, Order, Usage};
use crate::error::Error;
use crate::log::{Level, Log};

pub(super) const VERB: Verb = Verb {
    name: "checkpoint",
    synopsis: "ID",
    about: "Write a running container into files, by CRIU",
    order: Order::Anywhere,
    flags,
    read,
};

/// Where images are by default, as for runc.
const IMAGES: &str = "checkpoint";
/// Each switch with its flag and help.
const SWITCHES: [(&str, CriuFlags, &str); 6] = [
    (
        "tcp-established",
        CriuFlags::TCP_ESTABLISHED,
        "Keep established TCP connections",
    ),
    (
        "tcp-close",
        CriuFlags::TCP_CLOSE,
        "Close established TCP connections",
    ),
    (
        "ext-unix-sk",
        CriuFlags::EXT_UNIX_SK,
        "Allow unix sockets whose other end is outside",
    ),
    (
        "shell-job",
        CriuFlags::SHELL_JOB,
        "Allow a terminal that is not the container's",
    ),
    ("file-locks", CriuFlags::FILE_LOCKS, "Keep file locks"),
    (
        "lazy-pages",
        CriuFlags::LAZY_PAGES,
        "Let memory follow on request, by userfaultfd",
    ),
];
/// Those of `checkpoint` alone.
const OWN_SWITCHES: [(&str, CriuFlags, &str); 2] = [
    (
        "tcp-skip-in-flight",
        CriuFlags::TCP_SKIP_IN_FLIGHT,
        "Leave out TCP connections that are not accepted yet",
    ),
    (
        "link-remap",
        CriuFlags::LINK_REMAP,
        "Link deleted files that have another name",
    ),
];
const DEDUP: (&str, CriuFlags, &str) = (
    "auto-dedup",
    CriuFlags::AUTO_DEDUP,
    "Drop pages of parent images that are written anew",
);

/// The flags that `restore` has as well.
pub(super) fn shared(command: Command) -> Command {
    command
        .arg(value(
            "image-path",
            "DIR",
            "The directory of the images [default: checkpoint]",
        ))
        .arg(value("work-path", "DIR", "Write the log here"))
        .args(SWITCHES.iter().chain([&DEDUP]).map(switch_of))
        .arg(value(
            "manage-cgroups-mode",
            "MODE",
            "soft, full, strict or ignore [default: soft]",
        ))
        .arg(values(
            "empty-ns",
            "NAMESPACE",
            "Do not restore what is in it: network, which never is",
        ))
}

fn switch_of((name, _, help): &(&'static str, CriuFlags, &'static str)) -> Arg {
    switch(name, help)
}

fn flags(command: Command) -> Command {
    shared(command)
        .args(OWN_SWITCHES.iter().map(switch_of))
        .arg(value(
            "parent-path",
            "DIR",
            "Write what changed since these images, relative to --image-path",
        ))
        .arg(switch(
            "pre-dump",
            "Write memory alone; the container goes on",
        ))
        .arg(switch("leave-running", "Let the container go on"))
        .arg(value(
            "page-server",
            "ADDRESS:PORT",
            "Send pages there, or with --lazy-pages serve them there",
        ))
        .arg(value(
            "status-fd",
            "N",
            "Write a zero byte to this descriptor when lazy pages can be fetched",
        ))
}

/// What both verbs ask of criu.
pub(super) struct Shared {
    pub(super) image_path: PathBuf,
    pub(super) work_path: Option<PathBuf>,
    pub(super) flags: CriuFlags,
    pub(super) cgroups: CgroupsMode,
}

pub(super) fn read_shared(given: &Given) -> Result<Shared, Usage> {
    let on = SWITCHES.iter().chain([&DEDUP]);
    let on = on.filter(|(name, ..)| given.is_on(name));
    given.all_parsed("empty-ns", "network", |name| {
        (name == b"network").then_some(())
    })?;
    let modes = "soft, full, strict or ignore";
    let cgroups = given.parsed("manage-cgroups-mode", modes, CgroupsMode::parse)?;
    Ok(Shared {
        image_path: given.path("image-path").unwrap_or_else(|| IMAGES.into()),
        work_path: given.path("work-path"),
        flags: on.fold(CriuFlags::empty(), |all, (_, flag, _)| all | *flag),
        cgroups: cgroups.unwrap_or_default(),
    })
}

fn read(given: &Given) -> Result<Request, Usage> {
    let shared = read_shared(given)?;
    let own = OWN_SWITCHES.iter().filter(|(name, ..)| given.is_on(name));
    let page_server = given.parsed("page-server", "ADDRESS:PORT", |text| match text {
        b"" => Some(None),
        text => Some(Some(
            parse_page_server(std::str::from_utf8(text).ok()?).ok()?,
        )),
    })?;
    let status_fd =
        given.parsed(
            "status-fd",
            "a descriptor's number",
            |text| match std::str::from_utf8(text).ok()? {
                "" | "-1" => Some(None),
                text => text.parse().ok().filter(|number| *number > 2).map(Some),
            },
        )?;
    let kind = match (given.is_on("pre-dump"), given.is_on("leave-running")) {
        (true, _) => CheckpointKind::PreDump,
        (false, true) => CheckpointKind::DumpAndLeave,
        (false, false) => CheckpointKind::Dump,
    };
    Ok(Request::Checkpoint(CheckpointOptions {
        id: given.only_id()?,
        image_path: shared.image_path,
        work_path: shared.work_path,
        parent_path: given.path("parent-path"),
        kind,
        flags: own.fold(shared.flags, |all, (_, flag, _)| all | *flag),
        cgroups: shared.cgroups,
        page_server: page_server.flatten(),
        status_fd: status_fd.flatten(),
    }))
}

pub(super) fn run(store: &Store, options: &CheckpointOptions, log: &Log) -> Result<(), Error> {
    let mut shown = Shown::default();
    let done = coracle_container::checkpoint(store, options, &mut |bytes| shown.show(bytes));
    shown.end();
    log.say_all(Level::Warning, &done?);
    Ok(())
}

/// A line that a person sees who waits, written over again.
#[derive(Default)]
struct Shown {
    is_on: bool,
}

impl Shown {
    fn show(&mut self, bytes: u64) {
        let mut stderr = std::io::stderr();
        if stderr.is_terminal() {
            self.is_on = true;
            // Nobody is left to tell when stderr is gone.
            let _ = write!(stderr, "\r{} MB of memory written\x1b[K", bytes / 1_000_000);
        }
    }

    fn end(&self) {
        if self.is_on {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
