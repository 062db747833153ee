//! What the image says, for fuzzing.

pub use crate::apply::find_home;
