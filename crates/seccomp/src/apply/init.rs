//! Init's part. Nothing here allocates.

use crate::Plan;
use coracle_sys::{Call, Fault};
use std::os::fd::OwnedFd;

/// Loads the filter for the calling thread and its future children. Returns the listener if the
/// filter notifies; keep it open until the runtime has a copy.
///
/// # Errors
///
/// The step that failed; see [`Plan::explain`].
pub fn load(plan: &Plan) -> Result<Option<OwnedFd>, Fault> {
    coracle_sys::load_filter(&plan.program, plan.flags).map_err(Call::Seccomp.at(0))
}
