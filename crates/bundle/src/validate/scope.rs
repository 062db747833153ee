//! The parts of a config that other parts depend on.

use crate::{IdMappings, Namespaces};
use std::path::Path;

/// The sections that others are validated against.
pub(crate) struct Scope<'a> {
    /// The bundle's directory.
    pub(crate) dir: &'a Path,
    pub(crate) namespaces: &'a Namespaces,
    /// The id maps of a new user namespace; empty if the container joins one or has none.
    pub(crate) mappings: &'a IdMappings,
}
