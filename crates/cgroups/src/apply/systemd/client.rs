//! The manager's own object on the bus: org.freedesktop.systemd1(5).

use std::time::{Duration, Instant};

use coracle_dbus::{Bus, Call, Connection, Error, Peer, Reply, Result, Topic, Value};
use coracle_program::Interrupts;

use crate::record::Unit;

const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const JOB_REMOVED: Topic = Topic {
    sender: SERVICE,
    path: PATH,
    interface: MANAGER,
    member: "JobRemoved",
};
/// How long a call, and a job, may take.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// A connection to a systemd manager.
pub(super) struct Client<'a> {
    connection: Connection<'a>,
    limit: Duration,
    /// Whether systemd has accepted the last job.
    is_accepted: bool,
}

impl<'a> Client<'a> {
    /// Connects to the manager of `unit`. `limit` is for each call and for each job.
    pub(super) fn open(
        unit: &Unit,
        limit: Duration,
        interrupts: Option<&'a Interrupts>,
    ) -> Result<Self> {
        let bus = Bus {
            address: unit.address.clone(),
            peer: match unit.private {
                true => Peer::Service,
                false => Peer::Daemon,
            },
        };
        let mut connection = Connection::open(&bus, limit, interrupts)?;
        connection.subscribe(&JOB_REMOVED, limit)?;
        Ok(Self {
            connection,
            limit,
            is_accepted: false,
        })
    }

    /// Calls a method of the manager.
    pub(super) fn call(&mut self, member: &str, body: &[Value]) -> Result<Reply> {
        let call = Call {
            destination: SERVICE,
            path: PATH,
            interface: MANAGER,
            member,
            body,
        };
        self.connection.call(&call, self.limit)
    }

    /// Calls a method that starts a job, waits for the job and returns its result, such as `done`.
    pub(super) fn job(&mut self, member: &str, body: &[Value]) -> Result<String> {
        let end = Instant::now() + self.limit;
        self.is_accepted = false;
        let reply = self.call(member, body)?;
        self.is_accepted = true;
        let Some(Value::Path(job)) = reply.values.into_iter().next() else {
            return Err(Error::Malformed {
                problem: "the reply names no job",
            });
        };
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let signal = self.connection.signal(left)?;
            // Any client of the bus can send such a signal, but only systemd has the sender's name
            // of the reply.
            if signal.sender != reply.sender {
                continue;
            }
            if let [_, Value::Path(path), _, Value::Text(result)] = signal.values.as_slice()
                && *path == job
            {
                return Ok(result.clone());
            }
        }
    }

    /// Whether systemd has accepted the last job, though perhaps not ended it. If a signal or the
    /// limit has ended the wait for its reply, waits for that once more.
    pub(super) fn has_accepted(&mut self, limit: Duration) -> bool {
        self.is_accepted || matches!(self.connection.late_reply(limit), Ok(Some(_)))
    }
}
