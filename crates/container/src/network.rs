//! The container's network: chosen before anything is made, attached before init goes on, and taken
//! back when the container goes.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_bundle::{Config, ContainerId, Namespace};
use coracle_cni::{Attachment, Flags, Plan, Request, Requested, Search};
use coracle_program::{Interrupts, Limits};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::error::Error;
use crate::identity::has_ended;
use crate::lock;
use crate::mounts;
use crate::options::Force;
use crate::record::Record;
use crate::store::{Directory, SHARED, Store};

/// Where the network comes from, once everything that can be wrong with it was looked at.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    /// Networks to attach to.
    pub(crate) wanted: Option<Requested>,
    /// Another container's namespace. Init joins it by this descriptor's path.
    pub(crate) joined: Option<OwnedFd>,
}

/// What flags and annotations ask for takes the place of the config's network namespace.
///
/// Nothing is read, let alone changed, where they ask for nothing.
pub(crate) fn choose(
    config: &mut Config,
    (flags, search): (&Flags, &Search),
    join: impl FnOnce(&ContainerId) -> Result<(PathBuf, Option<OwnedFd>), Error>,
) -> Result<Choice, Error> {
    let Some(request) = coracle_cni::request(flags, &config.annotations)? else {
        return Ok(Choice::default());
    };
    let mut choice = Choice::default();
    let namespace = match request {
        Request::Empty => Namespace::New,
        Request::Host => Namespace::Inherit,
        Request::Container(id) => {
            let (path, joined) = join(&id)?;
            choice.joined = joined;
            Namespace::Join { path, index: 0 }
        }
        Request::Networks(networks) => {
            let search = coracle_cni::absolute(search)?;
            choice.wanted = Some(Requested {
                networks,
                configured: coracle_cni::read(&search.conf_dir)?,
                search,
            });
            Namespace::New
        }
    };
    config.replace_network(namespace)?;
    Ok(choice)
}

/// The network namespace of a container that lives. Its path is that of our own descriptor, which
/// cannot come to mean another process's.
pub(crate) fn join(store: &Store, id: &ContainerId) -> Result<(PathBuf, Option<OwnedFd>), Error> {
    let failed = |attempted| move |errno| Error::System { attempted, errno };
    let gone = || Error::NoNetwork { id: id.clone() };
    let directory = store.find(id)?.ok_or_else(gone)?;
    let record = directory.record()?.ok_or_else(gone)?;
    let init = record.init.filter(|_| record.complete).ok_or_else(gone)?;
    let pidfd = init.open().map_err(failed("open init's pidfd"))?;
    let pidfd = pidfd.ok_or_else(gone)?;
    let path = format!("/proc/{}/ns/net", init.pid);
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let namespace = match open(path.as_str(), flags, Mode::empty()) {
        Ok(namespace) => namespace,
        Err(Errno::ENOENT | Errno::ESRCH) => return Err(gone()),
        Err(errno) => {
            return Err(failed("open the other container's network namespace")(
                errno,
            ));
        }
    };
    // It lived while the path was opened, or else the path may have been a later process's.
    if has_ended(pidfd.as_fd()).map_err(failed("look for init's end"))? {
        return Err(gone());
    }
    let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    Ok((path.into(), Some(namespace)))
}

/// Mounts for the files that plugins' answers will fill.
pub(crate) fn push_mounts(config: &mut Config, directory: &Path) {
    for name in SHARED {
        let (source, destination) = (directory.join(name), Path::new("/etc").join(name));
        config.mounts.push(mounts::read_only(source, destination));
    }
}

/// Makes the files, still empty, so that they can be mounted.
pub(crate) fn make_files(directory: &Directory, plan: Option<&Plan>) -> Result<(), Error> {
    match plan {
        Some(plan) if plan.files => SHARED
            .iter()
            .try_for_each(|name| directory.write_shared(name, "")),
        _ => Ok(()),
    }
}

/// Attaches init's network namespace to the networks, before init does anything. Before each step
/// the record on disk says that there is something to take back, by [`detach`].
pub(crate) fn attach(
    directory: &Directory,
    record: &mut Record,
    (plan, hostname): (&Plan, Option<&CStr>),
    namespace: BorrowedFd,
    limits: Limits,
) -> Result<(), Error> {
    let _shared = lock::networks(directory.root(), lock::Kind::Shared, limits.interrupts)?;
    let mut plan = plan.clone();
    begin(&mut plan, 0);
    remember(directory, record, &plan)?;
    let path = match directory.pin_network(namespace)? {
        Some(pinned) => pinned,
        // Without the right to mount it is reached through us, and is gone when init is.
        None => format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()).into(),
    };
    let container = coracle_cni::Container {
        id: &record.id.clone(),
        namespace: Some(&path),
        limits,
    };
    for index in 0..plan.attachments.len() {
        let Some(attachment) = plan.attachments.get(index) else {
            break;
        };
        let result = coracle_cni::add(&plan, attachment, &container)?;
        did(directory, "attached", attachment);
        if let Some(attachment) = plan.attachments.get_mut(index) {
            attachment.result = Some(result);
        }
        begin(&mut plan, index + 1);
        remember(directory, record, &plan)?;
    }
    fill_files(directory, &plan, hostname)
}

fn did(directory: &Directory, what: &str, attachment: &Attachment) {
    let (network, interface) = (&attachment.network.name, &attachment.interface);
    let progress = &directory.progress;
    progress.done(format_args!("{what} {interface}, network {network}"));
}

fn begin(plan: &mut Plan, index: usize) {
    if let Some(attachment) = plan.attachments.get_mut(index) {
        attachment.begun = true;
    }
}

fn remember(directory: &Directory, record: &mut Record, plan: &Plan) -> Result<(), Error> {
    record.network = Some(plan.to_value());
    directory.write_record(record)
}

fn fill_files(directory: &Directory, plan: &Plan, hostname: Option<&CStr>) -> Result<(), Error> {
    if !plan.files {
        return Ok(());
    }
    let hostname = hostname.map(CStr::to_string_lossy);
    let hostname = hostname.unwrap_or_else(|| directory.id.as_ref().into());
    let texts = [
        coracle_cni::resolv_conf(plan),
        coracle_cni::hosts(plan, &hostname),
    ];
    let mut files = SHARED.into_iter().zip(texts);
    files.try_for_each(|(name, text)| directory.write_shared(name, &text))
}

/// The networks that the record names.
pub(crate) fn plan(directory: &Directory, record: &Record) -> Result<Option<Plan>, Error> {
    let Some(value) = &record.network else {
        return Ok(None);
    };
    let corrupt = || Error::Corrupt {
        path: directory.path().to_owned(),
        reason: "what it tells of networks cannot be read".to_owned(),
    };
    Plan::from_value(value).map(Some).ok_or_else(corrupt)
}

/// Takes the attachments back, last first. With force a plugin that fails is a warning, so that
/// nothing keeps a container from being deleted.
///
/// # Errors
/// The first failure, without force or after a signal. The record keeps what is still to be taken
/// back, and shows the container as one that is not complete, which `delete` and `network gc` then
/// clear away.
pub(crate) fn detach(
    directory: &Directory,
    record: &Record,
    force: Force,
    interrupts: Option<&Interrupts>,
) -> Result<Vec<String>, Error> {
    let mut plan = match plan(directory, record) {
        Ok(Some(plan)) => plan,
        Ok(None) if force == Force::No => return Ok(Vec::new()),
        // A record that was lost does not name what there may be.
        Ok(None) => return directory.unpin_network().map(|()| Vec::new()),
        Err(error) if force == Force::Yes => {
            directory.unpin_network()?;
            return Ok(vec![error.to_string()]);
        }
        Err(error) => return Err(error),
    };
    let failures = take_back(directory, &mut plan, interrupts);
    // Who ends a plugin that hangs wants the rest taken back by another `delete`: it is not lost.
    let is_ended = interrupts.is_some_and(Interrupts::end_waits);
    if force == Force::Yes && !is_ended {
        directory.unpin_network()?;
        return Ok(failures.iter().map(ToString::to_string).collect());
    }
    match failures.into_iter().next() {
        Some(error) => {
            directory.write_record(&Record {
                complete: false,
                network: Some(plan.to_value()),
                ..record.clone()
            })?;
            Err(error.into())
        }
        None => directory.unpin_network().map(|()| Vec::new()),
    }
}

/// Marks in the plan what was taken back.
fn take_back(
    directory: &Directory,
    plan: &mut Plan,
    interrupts: Option<&Interrupts>,
) -> Vec<coracle_cni::Error> {
    let namespace = directory.pinned_network();
    let container = coracle_cni::Container {
        id: directory.id.as_ref(),
        namespace: namespace.as_deref(),
        limits: Limits {
            interrupts,
            ..Limits::default()
        },
    };
    let mut failures = Vec::new();
    for index in (0..plan.attachments.len()).rev() {
        let Some(attachment) = plan.attachments.get(index).filter(|a| a.begun) else {
            continue;
        };
        match coracle_cni::del(plan, attachment, &container) {
            Ok(()) => did(directory, "detached", attachment),
            Err(error) => {
                failures.push(error);
                continue;
            }
        }
        if let Some(attachment) = plan.attachments.get_mut(index) {
            attachment.begun = false;
        }
    }
    failures
}
