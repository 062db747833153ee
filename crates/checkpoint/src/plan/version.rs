//! Versions of criu.

use std::fmt;

/// A version of criu.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 4 of 4.2.1.
    pub major: i32,
    /// 2 of 4.2.1.
    pub minor: i32,
    /// 1 of 4.2.1.
    pub sublevel: i32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        match self.sublevel {
            0 => Ok(()),
            sublevel => write!(f, ".{sublevel}"),
        }
    }
}

/// The oldest supported version of criu: the first that understands all of these requests.
pub const MINIMUM: Version = Version {
    major: 3,
    minor: 0,
    sublevel: 0,
};
