//! The parser of the image's `/etc/passwd`, for fuzzing.

pub use crate::apply::find_home;
