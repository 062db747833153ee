//! The part of D-Bus that coracle needs to control systemd: a connection, method calls that wait
//! for their reply, and signals. D-Bus Specification § Type System, § Message Protocol, §
//! Authentication Protocol.
//!
//! ```no_run
//! use std::time::Duration;
//! use coracle_dbus::{Bus, Call, Connection, Peer, Value};
//!
//! fn version() -> coracle_dbus::Result<Vec<Value>> {
//!     let address = "unix:path=/run/dbus/system_bus_socket".to_owned();
//!     let bus = Bus { address, peer: Peer::Daemon };
//!     let mut connection = Connection::open(&bus, Duration::from_secs(5), None)?;
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
//! - No thread, no signal handler and no global state: a connection is a socket and its buffers.
//! - Every read and write ends at the caller's time limit or, within 100 ms, at a signal to the
//!   runtime.
//! - A received message may be hostile: lengths are checked before memory is allocated, nesting is
//!   bounded, and text must be UTF-8 without NUL. Nothing panics.
//! - Not implemented: dictionaries, floating point, descriptors in messages, serving calls.

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
