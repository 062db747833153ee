//! `start`: lets init execute the program.

use std::os::fd::{AsFd, OwnedFd};

use coracle_bundle::HookPoint;
use coracle_launch::{Failure, Fifos, Message};
use coracle_program::{Interrupts, Limits};
use nix::errno::Errno;

use crate::delete;
use crate::directory::Directory;
use crate::error::{Error, system};
use crate::identity::Identity;
use crate::inspect::allow;
use crate::interrupt;
use crate::lock;
use crate::notify::Proxy;
use crate::record::Record;
use crate::state;
use crate::status::{Status, Verb};
use crate::store::Store;
use coracle_bundle::ContainerId;

/// Starts a created container, and waits until the program is executed and poststart hooks have
/// run. Returns failures of passing on its readiness, one line each.
///
/// # Errors
/// [`Error::Status`] in any status but created; [`Error::NoProcess`]; a failure of init's hooks or
/// of execve(2), after which the container is stopped.
pub fn start(store: &Store, id: &ContainerId) -> Result<Vec<String>, Error> {
    let directory = store.open(id)?;
    let lock = lock::acquire(&directory)?;
    let record = directory.present_record()?;
    allow(Verb::Start, &directory, &record)?;
    let stopped = || Error::Status {
        refusal: "cannot start a container that has stopped",
        status: Status::Stopped,
    };
    if !record.has_process {
        return Err(Error::NoProcess);
    }
    let init = record.init.ok_or_else(stopped)?;
    let pidfd = open(&init)?.ok_or_else(stopped)?;
    let proxy = Proxy::bind(&directory, init.pid)?;
    let fifos = directory.open_fifos()?.ok_or_else(stopped)?;
    let interrupts = interrupt::catch()?;
    release(&fifos.start).map_err(|errno| match errno {
        Errno::EPIPE | Errno::ENXIO => stopped(),
        errno => system("release init")(errno),
    })?;
    directory.progress.done(format_args!("let init go on"));
    let ended = await_exec(fifos, &pidfd, &interrupts)?;
    let Some(ended) = ended else {
        // Interrupted during startContainer hooks: they cannot be undone, but the program must not
        // start.
        delete::end_processes(&record)?;
        let error = coracle_launch::Error::Interrupted;
        return Err(interrupt::explain(error.into(), &interrupts));
    };
    directory.remove_fifos()?;
    match ended.message {
        Some(Message::Executing) => directory.progress.done(format_args!("the program runs")),
        Some(Message::Failed(stage, fault)) => {
            let failure = Failure {
                stage,
                fault,
                remark: ended.remark,
                output: ended.output,
            };
            return Err(explain(&directory, &record, &failure));
        }
        _ => return Err(ended_early(&directory, &record)),
    }
    // The lock is released before the hooks run: one that hangs must not block `delete`.
    drop(lock);
    poststart(&directory, &record, &interrupts)?;
    drop(interrupts);
    let passed_on = proxy.map(|proxy| proxy.await_ready(pidfd.as_fd()));
    let failed = passed_on.and_then(Result::err);
    Ok(failed.iter().map(ToString::to_string).collect())
}

fn open(init: &Identity) -> Result<Option<OwnedFd>, Error> {
    init.open().map_err(system("open init's pidfd"))
}

fn release(start: &OwnedFd) -> nix::Result<()> {
    nix::unistd::write(start, b"s").map(|_| ())
}

/// Init's last messages.
struct Ended {
    message: Option<Message>,
    remark: Vec<u8>,
    /// The output of its hooks, on one line.
    output: String,
}

/// Reads until init's exec or end closes the FIFO. The output of hooks has a FIFO of its own, since
/// a hook that stays in the background keeps it open.
///
/// `None` if a signal comes first.
fn await_exec(
    fifos: Fifos,
    pidfd: &OwnedFd,
    interrupts: &Interrupts,
) -> Result<Option<Ended>, Error> {
    let _wait = coracle_sys::wait_for("init, which runs hooks and the program");
    let failed = system("learn of init's exec");
    let Fifos {
        started, output, ..
    } = fifos;
    let mut output = output.map(coracle_program::Output::of);
    let mut received = Vec::new();
    loop {
        let printing = output.as_ref().filter(|output| !output.is_ended());
        let mut watched = vec![started.as_fd(), pidfd.as_fd(), interrupts.as_fd()];
        watched.extend(printing.map(AsFd::as_fd));
        let ready = coracle_sys::poll_readable(&watched, None).map_err(failed)?;
        if let Some(output) = &mut output {
            output.read();
        }
        let mut chunk = [0_u8; 256];
        match nix::unistd::read(&started, &mut chunk) {
            Ok(0) => break,
            Ok(length) => received.extend(chunk.iter().take(length)),
            // Init has ended, and another process has the FIFO open: no more messages will come.
            Err(Errno::EAGAIN) if ready & 0b10 != 0 => break,
            // Only if nothing has arrived: once the program runs, a signal must not end the
            // container.
            Err(Errno::EAGAIN) if interrupts.end_waits() => return Ok(None),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    if let Some(output) = &mut output {
        output.read();
    }
    let (mut message, mut remark) = (None, Vec::new());
    for one in received.as_chunks().0 {
        match Message::decode(one) {
            Some(Message::Remark(part)) => coracle_launch::add_remark(&mut remark, &part),
            other => message = other,
        }
    }
    Ok(Some(Ended {
        message,
        remark,
        output: output.map(|output| output.text()).unwrap_or_default(),
    }))
}

fn ended_early(directory: &Directory, record: &Record) -> Error {
    let config = directory.config().ok();
    let config = config.and_then(|text| coracle_bundle::parse(&record.bundle, &text).ok());
    Error::Ended {
        hint: config
            .as_ref()
            .map(coracle_launch::hint_of_end)
            .unwrap_or_default(),
    }
}

/// The error for a failure that init reported. The plan is gone, so the message is made from the
/// stored config.
fn explain(directory: &Directory, record: &Record, failure: &Failure) -> Error {
    let config = directory
        .config()
        .and_then(|text| Ok(coracle_bundle::parse(&record.bundle, &text)?));
    match config {
        Ok(config) => coracle_launch::explain_start(&config, failure).into(),
        Err(error) => error,
    }
}

/// Runs the poststart hooks. One that fails stops the container (runtime.md § Lifecycle, step 10).
pub(crate) fn poststart(
    directory: &Directory,
    record: &Record,
    interrupts: &Interrupts,
) -> Result<(), Error> {
    if !record.poststart_hooks {
        return Ok(());
    }
    run_poststart(directory, record, interrupts).map_err(|error| {
        delete::after(
            interrupt::explain(error, interrupts),
            directory,
            Some(interrupts),
        )
    })
}

fn run_poststart(
    directory: &Directory,
    record: &Record,
    interrupts: &Interrupts,
) -> Result<(), Error> {
    let config = coracle_bundle::parse(&record.bundle, &directory.config()?)?;
    let hooks = coracle_hooks::plan(&config.hooks, config.hook_files(), &[]);
    let pid = record.init.map_or(0, |init| init.pid);
    let state = state::for_hook(record, Status::Running, pid);
    let poststart = hooks.at(HookPoint::Poststart);
    coracle_hooks::run(
        HookPoint::Poststart,
        poststart,
        &coracle_hooks::open_files(&hooks)?,
        &state,
        &Limits::interrupted_by(interrupts),
    )?;
    directory.progress.ran_hooks(&hooks, HookPoint::Poststart);
    Ok(())
}
