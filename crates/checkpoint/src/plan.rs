//! Pure: what is asked of criu, and what its answers mean.

pub(crate) mod answer;
pub(crate) mod log;
pub(crate) mod mounts;
pub(crate) mod options;
pub(crate) mod pages;
pub(crate) mod request;
pub(crate) mod version;
pub(crate) mod wire;
