//! `start`: init is told to execute the program.

use std::os::fd::{AsFd, OwnedFd};

use coracle_bundle::HookPoint;
use coracle_launch::Message;
use nix::errno::Errno;

use crate::error::Error;
use crate::identity::Identity;
use crate::lock;
use crate::notify::{Heard, Proxy};
use crate::record::Record;
use crate::state;
use crate::status::{Status, Verb, refusal};
use crate::store::{Directory, Fifos, Store};
use coracle_bundle::ContainerId;

/// How much output of the container's own hooks is kept for the message, in bytes.
const OUTPUT_LIMIT: usize = 32 * 1024;

/// Starts a created container; returns once the program was executed and poststart hooks ran.
///
/// # Errors
/// [`Error::Status`] in any status but created, [`Error::NoProcess`], and what init reports of its
/// hooks and of execve(2): the container is stopped then.
pub fn start(store: &Store, id: &ContainerId) -> Result<(), Error> {
    let directory = store.open(id)?;
    let lock = lock::acquire(&directory)?;
    let record = directory
        .record()?
        .ok_or_else(|| Error::Absent { id: id.clone() })?;
    let status = state::status(&directory, &record);
    if let Some(refusal) = refusal(Verb::Start, status) {
        return Err(Error::Status {
            id: id.clone(),
            refusal,
            status,
        });
    }
    let stopped = || Error::Status {
        id: id.clone(),
        refusal: "cannot start a container that has stopped",
        status: Status::Stopped,
    };
    if !record.has_process {
        return Err(Error::NoProcess { id: id.clone() });
    }
    let init = record.init.ok_or_else(stopped)?;
    let pidfd = open(&init)?.ok_or_else(stopped)?;
    let proxy = Proxy::bind(&directory, init.pid)?;
    let fifos = directory.open_fifos()?.ok_or_else(stopped)?;
    release(&fifos.start).map_err(|errno| match errno {
        Errno::EPIPE | Errno::ENXIO => stopped(),
        errno => Error::System {
            attempted: "tell init to start",
            errno,
        },
    })?;
    let failure = await_exec(&fifos, &pidfd)?;
    directory.remove_fifos()?;
    if let Some(failure) = failure {
        return Err(explain(&directory, &record, failure));
    }
    poststart(&directory, &record)?;
    drop(lock);
    match proxy {
        Some(proxy) => await_ready(&proxy, &pidfd),
        None => Ok(()),
    }
}

fn open(init: &Identity) -> Result<Option<OwnedFd>, Error> {
    init.open().map_err(|errno| Error::System {
        attempted: "open init's pidfd",
        errno,
    })
}

fn release(start: &OwnedFd) -> nix::Result<()> {
    nix::unistd::write(start, b"s").map(|_| ())
}

/// What init said after its release: the output of hooks, and its last word.
struct Failure {
    output: Vec<u8>,
    word: Message,
}

/// Reads until init's exec closes the FIFO. A word of failure comes last.
fn await_exec(fifos: &Fifos, pidfd: &OwnedFd) -> Result<Option<Failure>, Error> {
    let failed = |errno| Error::System {
        attempted: "hear of init's exec",
        errno,
    };
    let mut heard = Vec::new();
    loop {
        let watched = [fifos.started.as_fd(), pidfd.as_fd()];
        coracle_sys::poll_readable(&watched, None).map_err(failed)?;
        let mut chunk = [0_u8; 4096];
        match nix::unistd::read(&fifos.started, &mut chunk) {
            Ok(0) => break,
            Ok(length) => {
                heard.extend(chunk.iter().take(length));
                // The last word is at the end: what is dropped is the middle.
                let surplus = heard.len().saturating_sub(OUTPUT_LIMIT);
                heard.drain(..surplus);
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    let Some((output, word)) = heard.split_last_chunk() else {
        return Ok(None);
    };
    Ok(match Message::decode(word) {
        Some(word @ Message::Failed(..)) => Some(Failure {
            output: output.to_vec(),
            word,
        }),
        _ => None,
    })
}

/// The sentence for a failure: the plan is made again from the stored config, since its coordinates
/// point into it.
fn explain(directory: &Directory, record: &Record, failure: Failure) -> Error {
    let Message::Failed(stage, fault) = failure.word else {
        return Error::System {
            attempted: "hear of init's exec",
            errno: Errno::EPROTO,
        };
    };
    let config = directory
        .config()
        .and_then(|text| Ok(coracle_bundle::parse(&record.bundle, &text)?));
    match config {
        Ok(config) => {
            let output = coracle_hooks::one_line(&failure.output);
            let sentence = coracle_launch::explain_start(&config, stage, &fault, &output);
            Error::Launch(coracle_launch::Error::Init { sentence })
        }
        Err(error) => error,
    }
}

/// Runs the poststart hooks. One that fails stops the container (runtime.md § Lifecycle, step 10).
pub(crate) fn poststart(directory: &Directory, record: &Record) -> Result<(), Error> {
    if !record.poststart_hooks {
        return Ok(());
    }
    let config = coracle_bundle::parse(&record.bundle, &directory.config()?)?;
    let hooks = coracle_hooks::plan(&config.hooks, &[]);
    let pid = record.init.map_or(0, |init| init.pid);
    let state = state::for_hook(record, Status::Running, pid);
    coracle_hooks::run(HookPoint::Poststart, hooks.at(HookPoint::Poststart), &state).map_err(
        |error| {
            let _ = crate::delete::end(directory, record);
            Error::Hooks(error)
        },
    )
}

/// Forwards notifications until the container says that it is ready, or ends.
fn await_ready(proxy: &Proxy, pidfd: &OwnedFd) -> Result<(), Error> {
    loop {
        let watched = [proxy.as_fd(), pidfd.as_fd()];
        let ready = coracle_sys::poll_readable(&watched, None).map_err(|errno| Error::System {
            attempted: "wait for READY=1",
            errno,
        })?;
        if ready & 0b01 != 0 && proxy.forward()? == Heard::Ready {
            return Ok(());
        }
        if ready & 0b10 != 0 {
            return Ok(());
        }
    }
}
