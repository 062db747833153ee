//! As much of D-Bus as talking to systemd takes: one connection, calls that wait for their answer,
//! and signals. D-Bus Specification § Type System, § Message Protocol, § Authentication Protocol.
//!
//! ```no_run
//! use std::time::Duration;
//! use coracle_dbus::{Bus, Call, Connection, Peer, Value};
//!
//! fn version() -> coracle_dbus::Result<Vec<Value>> {
//!     let address = "unix:path=/run/dbus/system_bus_socket".to_owned();
//!     let bus = Bus { address, peer: Peer::Daemon };
//!     let mut connection = Connection::open(&bus, Duration::from_secs(5))?;
//!     let call = Call {
//!         destination: "org.freedesktop.systemd1",
//!         path: "/org/freedesktop/systemd1",
//!         interface: "org.freedesktop.DBus.Properties",
//!         member: "Get",
//!         body: &["org.freedesktop.systemd1.Manager".into(), "Version".into()],
//!     };
//!     Ok(connection.call(&call, Duration::from_secs(5))?.values)
//! }
//! ```
//!
//! # Invariants
//! - No thread, no signal handler, no global: a connection is a socket and two buffers.
//! - Every read and write ends at the limit that the caller gives.
//! - What arrives is hostile until decoded: lengths are bounded before memory is taken, nesting is
//!   bounded, and text is UTF-8 without NUL. Nothing panics.
//! - Absent: dictionaries, floating point, descriptors in messages, serving calls.

mod address;
mod connection;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod kind;
mod message;
mod value;
mod wire;

pub use connection::{Bus, Call, Connection, Peer, Reply, Signal, Topic};
pub use error::{Error, Result};
pub use kind::Kind;
pub use value::Value;
