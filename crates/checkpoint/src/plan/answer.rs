//! Decodes criu's messages: `criu_resp` and `criu_notify` of its images/rpc.proto.

use std::os::fd::OwnedFd;

use super::options::kind;
use super::version::Version;
use super::wire::{Malformed, Value, read};

/// The features that criu and this kernel support.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Writing only memory that changed since the previous dump, for chains of pre-dumps.
    pub memory_tracking: bool,
    /// Loading pages after the restore, by userfaultfd(2).
    pub lazy_pages: bool,
}

/// A notification of criu. It waits for the answer.
#[derive(Debug)]
pub enum Notification {
    /// Restore: the namespaces of this process are made, and empty.
    SetupNamespaces(i32),
    /// Restore: the processes are restored and stopped; this is init's pid.
    PostRestore(i32),
    /// Restore: the pty's master.
    Terminal(OwnedFd),
    /// Dump: pages can be fetched now.
    StatusReady,
    /// No message of criu: one second has passed without any.
    Waiting,
    /// Any other, by its name.
    Other(String),
}

/// One message of criu.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) kind: u64,
    pub(crate) success: bool,
    pub(crate) script: Option<String>,
    pub(crate) pid: i32,
    pub(crate) errno: i32,
    pub(crate) message: String,
    pub(crate) version: Version,
    pub(crate) features: Features,
}

impl Answer {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut answer = Self::default();
        let (mut has_kind, mut has_success) = (false, false);
        read(bytes, |field, value| {
            match field {
                1 => (answer.kind, has_kind) = (value.number()?, true),
                2 => (answer.success, has_success) = (value.flag()?, true),
                4 => restored(value, &mut answer)?,
                5 => notified(value, &mut answer)?,
                7 => answer.errno = value.int32()?,
                8 => features(value, &mut answer.features)?,
                9 => answer.message = String::from_utf8_lossy(value.bytes()?).into_owned(),
                10 => version(value, &mut answer.version)?,
                _ => {}
            }
            Ok(())
        })?;
        let is_whole = has_kind && has_success;
        let is_notify = (answer.kind == kind::NOTIFY) == answer.script.is_some();
        (is_whole && is_notify).then_some(answer).ok_or(Malformed)
    }
}

fn restored(value: Value, answer: &mut Answer) -> Result<(), Malformed> {
    read(value.bytes()?, |field, value| {
        if field == 1 {
            answer.pid = value.int32()?;
        }
        Ok(())
    })
}

fn notified(value: Value, answer: &mut Answer) -> Result<(), Malformed> {
    answer.script = Some(String::new());
    read(value.bytes()?, |field, value| {
        match field {
            1 => {
                let script = std::str::from_utf8(value.bytes()?).map_err(|_| Malformed)?;
                answer.script = Some(script.to_owned());
            }
            2 => answer.pid = value.int32()?,
            _ => {}
        }
        Ok(())
    })
}

fn features(value: Value, features: &mut Features) -> Result<(), Malformed> {
    read(value.bytes()?, |field, value| {
        match field {
            1 => features.memory_tracking = value.flag()?,
            2 => features.lazy_pages = value.flag()?,
            _ => {}
        }
        Ok(())
    })
}

fn version(value: Value, version: &mut Version) -> Result<(), Malformed> {
    read(value.bytes()?, |field, value| {
        match field {
            1 => version.major = value.int32()?,
            2 => version.minor = value.int32()?,
            4 => version.sublevel = value.int32()?,
            _ => {}
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::wire::Writer;

    fn message(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        fill(&mut writer);
        writer.into_bytes()
    }

    #[test]
    fn answers_are_read() {
        let mut version = Writer::default();
        version
            .number(1, 4)
            .number(2, 2)
            .text(3, b"v4.2")
            .number(4, 1);
        let bytes = message(|w| {
            w.number(1, 10).number(2, 1).message(10, &version);
        });
        let answer = Answer::decode(&bytes).unwrap();
        assert!(answer.success);
        assert_eq!(answer.version.to_string(), "4.2.1");
        let mut notify = Writer::default();
        notify.text(1, b"post-restore").number(2, 77);
        let bytes = message(|w| {
            w.number(1, 6).number(2, 1).message(5, &notify);
        });
        let answer = Answer::decode(&bytes).unwrap();
        assert_eq!(answer.script.as_deref(), Some("post-restore"));
        assert_eq!(answer.pid, 77);
        let bytes = message(|w| {
            w.number(1, 1).number(2, 0).number(7, 3).text(9, b"no");
        });
        let answer = Answer::decode(&bytes).unwrap();
        assert_eq!((answer.success, answer.errno), (false, 3));
        assert_eq!(answer.message, "no");
    }

    #[test]
    fn what_lacks_a_required_field_is_none() {
        for bad in [
            message(|w| _ = w.number(1, 1)),
            message(|w| _ = w.number(2, 1)),
            // A notification without its name, and a name that is not one's.
            message(|w| _ = w.number(1, 6).number(2, 1)),
            message(|w| _ = w.number(1, 1).number(2, 1).text(5, b"")),
            message(|w| _ = w.text(1, b"x").number(2, 1)),
            message(|w| _ = w.number(1, 6).number(2, 1).text(5, b"\x0a\x01\xff")),
            Vec::new(),
        ] {
            assert_eq!(Answer::decode(&bad), Err(Malformed), "{bad:x?}");
        }
    }
}
