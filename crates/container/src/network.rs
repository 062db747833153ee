//! The container's network: chosen before anything is made, attached before init proceeds, and
//! detached when the container is deleted.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use coracle_bundle::{Config, ContainerId, Namespace};
use coracle_cni::{Attachment, Flags, Plan, Request, Requested, Search};
use coracle_program::{Interrupts, Limits};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::directory::{Directory, SHARED};
use crate::error::{Error, system};
use crate::identity::has_ended;
use crate::lock;
use crate::options::Force;
use crate::record::Record;
use crate::store::Store;

/// The requested network, after all checks.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    /// Networks to attach to.
    pub(crate) wanted: Option<Requested>,
    /// Another container's network namespace. Init joins it by this descriptor's path.
    pub(crate) joined: Option<OwnedFd>,
}

/// Replaces the config's network namespace by what flags and annotations request.
///
/// If they request nothing, nothing is read or changed.
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

/// Opens the network namespace of a running container. It is joined by the path of this descriptor,
/// which cannot come to mean another process's, as a path by pid could.
pub(crate) fn join(store: &Store, id: &ContainerId) -> Result<(PathBuf, Option<OwnedFd>), Error> {
    let gone = || Error::NoNetwork { id: id.clone() };
    let directory = store.find(id)?.ok_or_else(gone)?;
    let record = directory.record()?.ok_or_else(gone)?;
    let init = record.init.filter(|_| record.complete).ok_or_else(gone)?;
    let pidfd = init.open().map_err(system("open init's pidfd"))?;
    let pidfd = pidfd.ok_or_else(gone)?;
    let path = format!("/proc/{}/ns/net", init.pid);
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let namespace = match open(path.as_str(), flags, Mode::empty()) {
        Ok(namespace) => namespace,
        Err(Errno::ENOENT | Errno::ESRCH) => return Err(gone()),
        Err(errno) => {
            return Err(system("open the other container's network namespace")(
                errno,
            ));
        }
    };
    // If init is alive after the open, the path was not that of a later process with its pid.
    if has_ended(pidfd.as_fd()).map_err(system("look for init's end"))? {
        return Err(gone());
    }
    let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    Ok((path.into(), Some(namespace)))
}

/// Mounts for the files that the plugins' results will fill.
pub(crate) fn add_mounts(config: &mut Config, directory: &Path) -> Result<(), Error> {
    for name in SHARED {
        config.add_bind(directory.join(name), Path::new("/etc").join(name))?;
    }
    Ok(())
}

/// Makes these files, still empty, so that they can be mounted.
pub(crate) fn make_files(directory: &Directory, plan: Option<&Plan>) -> Result<(), Error> {
    match plan {
        Some(plan) if plan.files => SHARED
            .iter()
            .try_for_each(|name| directory.write_shared(name, "")),
        _ => Ok(()),
    }
}

/// Attaches init's network namespace to the networks, before init does anything. Each attachment is
/// recorded on disk before it is made, so that [`detach`] finds it.
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
        // Without the permission to mount, plugins get it as a path of this process's descriptor,
        // and it is gone when init has ended.
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

/// The plan of networks in the record.
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

/// Detaches from the networks, last first. With force, a plugin that fails is only a warning, so
/// that the container can be deleted.
///
/// # Errors
/// The first failure without force, or after a signal. The record keeps what is still attached, and
/// no longer counts as complete, so that `delete` and `network gc` continue.
pub(crate) fn detach(
    directory: &Directory,
    record: &Record,
    force: Force,
    interrupts: Option<&Interrupts>,
) -> Result<Vec<String>, Error> {
    let mut plan = match plan(directory, record) {
        Ok(Some(plan)) => plan,
        Ok(None) if force == Force::No => return Ok(Vec::new()),
        // The record was lost, so attachments may exist that it does not name.
        Ok(None) => return directory.unpin_network().map(|()| Vec::new()),
        Err(error) if force == Force::Yes => {
            directory.unpin_network()?;
            return Ok(vec![error.to_string()]);
        }
        Err(error) => return Err(error),
    };
    let failures = take_back(directory, &mut plan, interrupts);
    // After a signal the rest stays recorded, for another `delete`.
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

/// Detaches, and marks in the plan what was detached.
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
