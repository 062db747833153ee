//! Running one plugin.

use std::ffi::CString;
use std::os::fd::AsFd;

use coracle_program::{Execution, Limits, Output};
use coracle_sys::{Call as Kernel, StringArray};
use nix::sys::signal::Signal;

use crate::error::Failure;
use crate::plan::answer;
use crate::plan::call::Call;

/// The limit on a result; real ones have some hundred bytes.
const MAX_RESULT_BYTES: usize = 1 << 20;

/// Runs the plugin to its end and returns what it printed.
pub(super) fn run(path: &CString, call: &Call, limits: &Limits) -> Result<Vec<u8>, Failure> {
    limits.check()?;
    let failed = |(call, errno)| Failure::call(call, errno);
    let no_pipe = |errno| Failure::call(Kernel::Open, errno);
    let stdin = coracle_program::input(c"network", call.input.as_bytes()).map_err(failed)?;
    let (result, stdout) = Output::whole(MAX_RESULT_BYTES).map_err(no_pipe)?;
    let (diagnostics, stderr) = Output::pipe().map_err(no_pipe)?;
    let execution = Execution {
        path,
        arguments: &StringArray::new(vec![path.clone()]),
        added: None,
        environment: &call.environment,
        stdin: stdin.as_fd(),
        stdout: Some(stdout.as_fd()),
        stderr: Some(stderr.as_fd()),
        // If the runtime dies, nothing would undo what the plugin makes afterwards.
        parent_death_signal: Some(Signal::SIGKILL),
    };
    let program = coracle_program::start(&execution).map_err(failed)?;
    // Only the plugin may hold the writing ends, or the pipes would never report end of file.
    drop((stdout, stderr));
    let mut outputs = [result, diagnostics];
    let ended = coracle_program::wait(&program, &mut outputs, limits);
    let [result, diagnostics] = outputs;
    match ended {
        Ok(()) => Ok(result.bytes().to_vec()),
        Err(failure) => Err(answer::failure(
            failure,
            result.bytes(),
            diagnostics.bytes(),
        )),
    }
}
