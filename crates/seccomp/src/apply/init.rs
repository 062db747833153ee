//! Init's part, without heap.

use crate::Plan;
use coracle_sys::{Call, Fault};
use std::os::fd::OwnedFd;

/// Loads the filter into the calling thread and all its children to come. Where calls are notified,
/// the listener: keep it open until the runtime has a copy.
///
/// # Errors
///
/// The step that failed; see [`Plan::explain`].
pub fn load(plan: &Plan) -> Result<Option<OwnedFd>, Fault> {
    coracle_sys::load_filter(&plan.program, plan.flags).map_err(Call::Seccomp.at(0))
}
