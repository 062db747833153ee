//! The runtime's part.

use crate::Error;
use crate::plan::{ACTION, FLAGS, Listener, Plan, RETURN, describe_verdict};
use coracle_program::{CALL_LIMIT, Interrupts};
use coracle_sys::FilterFlags;
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

/// Checks that the running kernel supports the flags and actions of the filter. Call it before
/// anything is created.
///
/// # Errors
///
/// [`Error::UnsupportedFlag`], [`Error::UnsupportedAction`], [`Error::Query`] without seccomp.
pub fn check(plan: &Plan) -> Result<(), Error> {
    let query = |errno| Error::Query { errno };
    for (flag, name) in FLAGS {
        if plan.flags.contains(flag) && !is_known(flag).map_err(query)? {
            return Err(Error::UnsupportedFlag { flag: name });
        }
    }
    let returns = plan.program.iter().filter(|i| i.code == RETURN);
    let actions: BTreeSet<u32> = returns.map(|i| i.constant & ACTION).collect();
    for action in actions {
        if !coracle_sys::knows_filter_action(action).map_err(query)? {
            let action = describe_verdict(action);
            return Err(Error::UnsupportedAction { action });
        }
    }
    Ok(())
}

/// The names, in the specification, of the flags that coracle knows.
#[must_use]
pub fn known_flags() -> [&'static str; 4] {
    FLAGS.map(|(_, name)| name)
}

/// The names, in the specification, of the flags that the running kernel supports.
///
/// # Errors
///
/// [`Error::Query`] without seccomp.
pub fn supported_flags() -> Result<Vec<&'static str>, Error> {
    let mut names = Vec::new();
    for (flag, name) in FLAGS {
        if is_known(flag).map_err(|errno| Error::Query { errno })? {
            names.push(name);
        }
    }
    Ok(names)
}

fn is_known(flag: FilterFlags) -> nix::Result<bool> {
    // Without a listener the kernel refuses this flag with the errno for an unknown one.
    let beside = match flag {
        FilterFlags::WAIT_KILLABLE_RECV => FilterFlags::NEW_LISTENER,
        _ => FilterFlags::empty(),
    };
    coracle_sys::knows_filter_flags(flag | beside)
}

/// The container process state: config-linux.md § Seccomp.
#[derive(Clone, Copy, Debug)]
pub struct ProcessState<'a> {
    /// The pid of the process in the runtime's pid namespace.
    pub pid: i32,
    /// The container's state as JSON; its status is `creating`, or `running` for `exec`.
    pub state: &'a [u8],
}

/// Sends the listener to the seccomp agent that listens at its path, in one message, and closes the
/// connection.
///
/// # Errors
///
/// [`Error::Connect`], [`Error::Send`], [`Error::Interrupted`]: then the container must not
/// continue, since its notified calls would never be answered.
pub fn send_listener(
    listener: &Listener,
    process: &ProcessState<'_>,
    descriptor: BorrowedFd<'_>,
    interrupts: Option<&Interrupts>,
) -> Result<(), Error> {
    let path = || listener.path.to_string_lossy().into_owned();
    let check = || match interrupts.is_some_and(Interrupts::end_waits) {
        true => Err(Error::Interrupted { path: path() }),
        false => Ok(()),
    };
    let socket = loop {
        match coracle_sys::connect_unix(&listener.path, Some(CALL_LIMIT)) {
            Ok(socket) => break socket,
            Err(Errno::EAGAIN | Errno::EINTR) => check()?,
            Err(errno) => {
                let path = path();
                return Err(Error::Connect { path, errno });
            }
        }
    };
    let text = message(listener, process);
    let mut rest = &text[..];
    // The descriptor is sent with the first part only.
    let mut attached = Some(descriptor);
    while !rest.is_empty() {
        match coracle_sys::send(socket.as_fd(), rest, attached) {
            Ok(sent) => {
                attached = None;
                rest = rest.get(sent..).unwrap_or_default();
            }
            Err(Errno::EAGAIN | Errno::EINTR) => check()?,
            Err(errno) => {
                let path = path();
                return Err(Error::Send { path, errno });
            }
        }
    }
    Ok(())
}

fn message(listener: &Listener, process: &ProcessState<'_>) -> Vec<u8> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let metadata = match &listener.metadata {
        Some(metadata) => format!("\"metadata\":{},", quoted(metadata)),
        None => String::new(),
    };
    let start = format!(
        "{{\"ociVersion\":{},\"fds\":[\"seccompFd\"],\"pid\":{},{metadata}\"state\":",
        quoted(coracle_bundle::OCI_VERSION),
        process.pid,
    );
    [start.as_bytes(), process.state, b"}"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Abi;
    use coracle_sys::FilterInstruction;
    use std::os::unix::net::UnixListener;

    fn plan(flags: FilterFlags, constant: u32) -> Plan {
        let instruction = FilterInstruction {
            code: 0x06,
            constant,
            ..FilterInstruction::default()
        };
        Plan {
            program: vec![instruction],
            flags,
            listener: None,
            abis: vec![Abi::X86_64],
            default: constant,
            unknown_names: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_kernel_is_asked() {
        let all = FilterFlags::TSYNC | FilterFlags::LOG | FilterFlags::SPEC_ALLOW;
        assert_eq!(check(&plan(all, 0x7fff_0000)), Ok(()));
        let both = FilterFlags::TSYNC | FilterFlags::TSYNC_ESRCH | FilterFlags::NEW_LISTENER;
        assert_eq!(check(&plan(both, 0x0005_0026)), Ok(()));
        let unknown = check(&plan(all, 0x1234_0001)).unwrap_err();
        assert!(
            matches!(unknown, Error::UnsupportedAction { .. }),
            "{unknown}"
        );
    }

    #[test]
    fn messages_are_the_specs() {
        let process = ProcessState {
            pid: 42,
            state: b"{\"id\":\"a\"}",
        };
        let mut listener = Listener {
            path: c"/agent".to_owned(),
            metadata: Some("a\"b\n".to_owned()),
            notifies_sendmsg: false,
        };
        let expected = concat!(
            r#"{"ociVersion":"1.3.0","fds":["seccompFd"],"pid":42,"metadata":"a\"b\n","#,
            r#""state":{"id":"a"}}"#
        );
        assert_eq!(message(&listener, &process), expected.as_bytes());
        listener.metadata = None;
        let text = message(&listener, &process);
        let parsed: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert!(parsed.get("metadata").is_none());
    }

    #[test]
    fn a_listener_is_handed_over() {
        let name = format!("coracle-listener-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let listener = Listener {
            path: std::ffi::CString::new(path.to_str().unwrap()).unwrap(),
            metadata: Some("m".to_owned()),
            notifies_sendmsg: false,
        };
        let process = ProcessState {
            pid: 1,
            state: b"{}",
        };
        let nobody = send_listener(&listener, &process, coracle_sys::STDIN, None).unwrap_err();
        assert!(matches!(nobody, Error::Connect { .. }), "{nobody}");
        let server = UnixListener::bind(&path).unwrap();
        send_listener(&listener, &process, coracle_sys::STDIN, None).unwrap();
        let (client, _) = server.accept().unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut buffer = [0; 256];
        let (length, descriptor) = coracle_sys::receive(client.as_fd(), &mut buffer).unwrap();
        assert!(descriptor.is_some());
        assert_eq!(buffer[..length], message(&listener, &process));
    }
}
