//! `regex` for oci-spec, which matches one expression (of `execCPUAffinity`) with it.
//!
//! The real crate, its Unicode tables and its engines would be a quarter of the binary.
//! regex-lite has the same interface, by the same authors. Nothing of ours uses either.

pub use regex_lite::*;
