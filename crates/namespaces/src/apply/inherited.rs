//! The descriptors that the intermediate and init inherit.

use crate::Plan;
use coracle_sys::{NamespaceFlags, ProcFs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the steps of a plan need open: the runtime opens it, and its clones inherit it.
#[derive(Debug)]
pub struct Inherited {
    /// For each step of `plan.before` its namespace or process. A join without one is done already.
    pub(super) before: Vec<Option<OwnedFd>>,
    /// The same for `plan.enter`.
    pub(super) enter: Vec<Option<OwnedFd>>,
    /// Of the runtime's pid namespace, in which the intermediate still is. For time offsets.
    pub(super) procfs: Option<ProcFs>,
}

impl Inherited {
    /// What init itself needs of it, once the intermediate has cloned it.
    pub fn needed_by_init(&self) -> impl Iterator<Item = &OwnedFd> {
        self.enter.iter().flatten()
    }

    /// The network namespace that is joined by path, for [`move_net_devices`].
    #[must_use]
    pub fn network(&self, plan: &Plan) -> Option<BorrowedFd<'_>> {
        let before = plan.before.iter().zip(&self.before);
        before
            .chain(plan.enter.iter().zip(&self.enter))
            .find(|(step, _)| step.joined() == NamespaceFlags::NETWORK)
            .and_then(|(_, held)| held.as_ref().map(AsFd::as_fd))
    }
}
