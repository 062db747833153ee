//! Makes the requests to criu and decodes its answers. Pure.

pub(crate) mod answer;
pub(crate) mod log;
pub(crate) mod mounts;
pub(crate) mod options;
pub(crate) mod pages;
pub(crate) mod request;
pub(crate) mod version;
pub(crate) mod wire;
