//! The parsers of configurations and of plugins' output, for fuzzing.

use std::path::Path;

use crate::plan::{answer, list};

/// Parses a network configuration: as a list, as a single plugin, and as a plugin in a file of its
/// own.
pub fn configuration(text: &[u8]) {
    for file in ["10-net.conflist", "10-net.conf"] {
        let _ = list::parse(Path::new(file), text);
    }
    let _ = list::parse_plugin(Path::new("10-plugin.conf"), text);
}

/// Parses the output of a plugin: a result, and a list of versions.
pub fn printed(text: &[u8]) {
    for version in list::Version::ALL {
        let _ = answer::result(text, version);
    }
    let _ = answer::versions(text);
}
