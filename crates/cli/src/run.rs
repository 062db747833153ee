//! The order of a call: parse arguments, seal, open the log, perform the verb, report a failure.

use std::ffi::{OsStr, OsString};
use std::iter;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use coracle_bundle::ContainerId;
use nix::sys::signal::{SigSet, Signal, raise};

use crate::arguments::table::Command;
use crate::arguments::{self, Global, Line, Usage, global, help};
use crate::error::Error;
use crate::log::{Level, Log, Settings};
use crate::output;
use crate::trace::Trace;
use crate::verbs::VERBS;
use crate::verbs::help::{overview, version};
use crate::verbs::verb::{Context, Request, Verb};

/// Exit status for an unknown verb: runc's.
const NO_HELP_TOPIC: u8 = 3;
/// Exit status of `exec` when the runtime itself fails, as for runc.
const EXEC_FAILED: u8 = 255;

/// What a command line requests.
pub(crate) enum Requested {
    /// A text to print: help or the version.
    Text(String),
    Verb(Call),
}

/// A verb and its request.
pub(crate) struct Call {
    pub(crate) verb: &'static Verb,
    /// The container that error messages name.
    pub(crate) container: Option<ContainerId>,
    pub(crate) global: Global,
    /// The file that is read in place of the bundle's `config.json`.
    pub(crate) config: Option<PathBuf>,
    pub(crate) request: Box<dyn Request>,
}

/// Executes the command line.
pub(crate) fn run(words: Vec<OsString>) -> u8 {
    coracle_sys::on_long_wait(output::waiting);
    let mut line = parse(words);
    match read(&mut line) {
        Ok(Requested::Text(text)) => {
            coracle_sys::settle();
            end(&Log::default(), None, output::text(&text).map(|()| 0))
        }
        Ok(Requested::Verb(call)) => perform(&call),
        Err((command, usage)) => {
            coracle_sys::settle();
            let settings = global::read_log(&line.global);
            let log = open(&settings).unwrap_or_default();
            end(&log, Some(command), Err(usage.into()))
        }
    }
}

/// Parses the line.
pub(crate) fn parse(words: Vec<OsString>) -> Line {
    let command = |name: &OsStr| find(name).map(|verb| &verb.command);
    arguments::parse(words, &global::COMMAND, command)
}

/// Returns what the line requests, or an error with the command whose table it violates.
pub(crate) fn read(line: &mut Line) -> Result<Requested, (&'static Command, Usage)> {
    let refused = |usage| (&global::COMMAND, usage);
    if let Some(usage) = line.global.refused.take() {
        return Err(refused(usage));
    }
    // Before the values are checked: `--version` works even with an invalid value.
    if line.global.is_on("version") {
        return Ok(Requested::Text(version()));
    }
    let name = match &line.verb {
        Some(name) if !line.global.is_on("help") => name,
        _ => return Ok(Requested::Text(overview(VERBS))),
    };
    let global = global::read(&line.global).map_err(refused)?;
    let (Some(verb), Some(mut own)) = (find(name), line.own.take()) else {
        let commands = VERBS.iter().map(|verb| &verb.command);
        let name = name.to_string_lossy();
        return Err(refused(Usage::no_help_topic(&name, commands)));
    };
    own.global = global;
    let refused = |usage| (&verb.command, usage);
    if let Some(usage) = own.refused.take() {
        return Err(refused(usage));
    }
    if own.is_on("help") {
        return Ok(Requested::Text(help::help(&verb.command, iter::empty())));
    }
    if own.is_on("version") {
        return Ok(Requested::Text(version()));
    }
    let request = (verb.read)(&own).map_err(refused)?;
    let container = own.names_container().then(|| own.id());
    Ok(Requested::Verb(Call {
        verb,
        container: container.transpose().map_err(refused)?,
        config: own.config_file(),
        global: own.global,
        request,
    }))
}

fn find(name: &OsStr) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.command.name == name)
}

fn perform(call: &Call) -> u8 {
    let (command, global) = (&call.verb.command, &call.global);
    // Sealing executes the program again, so it comes before all that the next start would do once
    // more. A failure is reported when the log is open.
    let sealed = if call.verb.needs_seal {
        coracle_container::seal()
    } else {
        Ok(())
    };
    coracle_sys::settle();
    let log = match open(&global.log) {
        Ok(log) => Rc::new(log.about(call.config.clone())),
        Err(error) => return end(&Log::default(), Some(command), Err(error)),
    };
    let trace = match global.trace.as_deref().map(trace) {
        None => None,
        Some(Ok(trace)) => Some(Rc::new(trace)),
        Some(Err(error)) => return end(&log, Some(command), Err(error)),
    };
    let context = Context {
        global,
        log: &log,
        trace: trace.as_ref(),
        verbs: VERBS,
    };
    let named = |error| match (error, &call.container) {
        (Error::Container(source), Some(id)) => Error::failed(command.name, id, source),
        (error, _) => error,
    };
    let outcome = sealed
        .map_err(Error::from)
        .and_then(|()| call.request.perform(&context).map_err(named));
    if outcome.is_ok() && global.names_criu {
        log.record(Level::Warning, "--criu is ignored");
    }
    if let Some(trace) = trace {
        trace.end(command.name);
    }
    end(&log, Some(command), outcome)
}

fn trace(path: &Path) -> Result<Trace, Error> {
    Trace::open(path).map_err(|source| Error::Trace {
        path: path.to_owned(),
        source,
    })
}

fn open(settings: &Settings) -> Result<Log, Error> {
    Log::open(settings).map_err(|source| Error::Log {
        path: settings.file.clone().unwrap_or_default(),
        source,
    })
}

/// Reports a failure, once, and turns the outcome into the exit status.
fn end(log: &Log, command: Option<&Command>, outcome: Result<i32, Error>) -> u8 {
    match outcome {
        // An exit status has eight bits, and verbs return no larger one.
        Ok(code) => u8::try_from(code).unwrap_or(EXEC_FAILED),
        Err(error) => {
            if let (Error::Usage(usage), Some(command)) = (&error, command)
                && usage.is_incorrect()
            {
                let text = format!("Incorrect Usage.\n\n{}\n", help::usage(command));
                // The usage is only an addition: the record has the error, even if this cannot be
                // written.
                let _ = output::text(&text);
            }
            let detail = error.detail();
            log.error(&error.line(&detail), &detail);
            if let Some(signal) = error.signal() {
                return end_by(signal);
            }
            exit_status(command, &error)
        }
    }
}

/// Ends the process by the signal, so that a shell that runs it stops its script as well.
fn end_by(signal: Signal) -> u8 {
    let _ = SigSet::from_iter([signal]).thread_unblock();
    let _ = raise(signal);
    // The first process of a pid namespace gets no signal for which it has no handler.
    u8::try_from(128 + signal as i32).unwrap_or(EXEC_FAILED)
}

fn exit_status(command: Option<&Command>, error: &Error) -> u8 {
    match (error, command) {
        (Error::Usage(Usage::NoHelpTopic { .. }), _) => NO_HELP_TOPIC,
        (_, Some(command)) if command.name == "exec" => EXEC_FAILED,
        _ => 1,
    }
}
