//! What files and plugins say, for fuzzing.

use std::path::Path;

use crate::plan::{answer, list};

/// Reads a network configuration: a list, a single plugin, and a list's plugin in a file.
pub fn configuration(text: &[u8]) {
    for file in ["10-net.conflist", "10-net.conf"] {
        let _ = list::parse(Path::new(file), text);
    }
    let _ = list::parse_plugin(Path::new("10-plugin.conf"), text);
}

/// Reads what a plugin printed: a result, and the versions that it knows.
pub fn printed(text: &[u8]) {
    for version in list::Version::ALL {
        let _ = answer::result(text, version);
    }
    let _ = answer::versions(text);
}
