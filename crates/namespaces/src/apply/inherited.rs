//! The descriptors that the intermediate and init inherit.

use crate::Plan;
use coracle_sys::{NamespaceFlags, ProcFs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// The descriptors that the steps of a plan need: the runtime opens them, and its clones inherit
/// them.
#[derive(Debug)]
pub struct Inherited {
    /// For each step of `plan.before` its namespace or process; `None` also for a join of the
    /// namespace that the runtime is already in.
    pub(super) before: Vec<Option<Rc<OwnedFd>>>,
    /// For each step of `plan.enter`, likewise.
    pub(super) enter: Vec<Option<Rc<OwnedFd>>>,
    /// A procfs of the runtime's pid namespace, which the intermediate is still in; for time
    /// offsets.
    pub(super) procfs: Option<ProcFs>,
}

impl Inherited {
    /// The descriptors that init itself needs, once the intermediate has cloned it.
    pub fn needed_by_init(&self) -> impl Iterator<Item = &OwnedFd> {
        self.enter.iter().flatten().map(Rc::as_ref)
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
