//! The parts of a config that other parts depend on.

use crate::{IdMappings, Namespaces};
use std::path::Path;

/// What other sections must agree with.
pub(crate) struct Scope<'a> {
    /// The bundle's directory.
    pub(crate) dir: &'a Path,
    pub(crate) namespaces: &'a Namespaces,
    /// Of the container's user namespace; empty if it has none, or one that it joins.
    pub(crate) mappings: &'a IdMappings,
}
