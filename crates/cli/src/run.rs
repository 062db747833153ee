//! The order of a call: global flags, seal, log, verb; one record on failure.

use std::ffi::OsString;
use std::process::ExitCode;
use std::rc::Rc;

use crate::arguments::{self, Called, Usage};
use crate::error::Error;
use crate::log::Log;
use crate::{output, verbs};

/// Exit status for an unknown verb: runc's.
const NO_HELP_TOPIC: u8 = 3;
/// Exit status of `exec` when it is we who fail, apart from what programs commonly return.
const EXEC_FAILED: u8 = 255;

/// Carries the command line out.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    coracle_sys::expect_children();
    coracle_sys::survive_size_limit();
    let arguments = verbs::hoist(arguments);
    let (global, name, rest) = match arguments::read_global(arguments.clone()) {
        Ok((global, Called::Verb { name, rest })) => (global, name, rest),
        // Answered before anything that a bad flag could spoil.
        Ok((_, Called::Help)) => return print(&verbs::overview()),
        Ok((_, Called::Version)) => return print(&verbs::version()),
        Err(usage) => {
            let log = Log::open(&arguments::read_log(arguments)).unwrap_or_default();
            return end(&log, "", Err(usage.into()));
        }
    };
    // Sealing executes this file anew: it comes before the log is opened, and is heard of after.
    let sealed = if verbs::needs_seal(&name) {
        coracle_container::seal()
    } else {
        Ok(())
    };
    let log = match Log::open(&global.log) {
        Ok(log) => Rc::new(log),
        Err(error) => return end(&Log::default(), &name, Err(error)),
    };
    let outcome = sealed
        .map_err(Error::from)
        .and_then(|()| Ok(verbs::read(&name, &global, rest)?))
        .and_then(|request| verbs::perform(request, &global, &log));
    end(&log, &name, outcome)
}

fn print(text: &str) -> ExitCode {
    end(&Log::default(), "", output::text(text).map(|()| 0))
}

/// Tells of a failure, once, and turns the outcome into the exit status.
fn end(log: &Log, verb: &str, outcome: Result<i32, Error>) -> ExitCode {
    match outcome {
        // The kernel gives eight bits of a status, and the verbs hand on no more.
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(EXEC_FAILED)),
        Err(error) => {
            if let Error::Usage(usage) = &error
                && usage.is_incorrect()
            {
                // The record says what is wrong; a failure to help changes nothing.
                let _ = output::text(&format!("Incorrect Usage.\n\n{}\n", verbs::usage(verb)));
            }
            log.error(&error.to_string());
            ExitCode::from(exit_status(verb, &error))
        }
    }
}

fn exit_status(verb: &str, error: &Error) -> u8 {
    match error {
        Error::Usage(Usage::NoHelpTopic(_)) => NO_HELP_TOPIC,
        _ if verb == "exec" => EXEC_FAILED,
        _ => 1,
    }
}
