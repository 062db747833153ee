//! The kernel takes the programs and does what they say. A filter binds one thread: each test loads
//! its own in a thread that ends after it, with no_new_privs, so that no privilege is needed.

use crate::profiles::{self, parsed};
use coracle_bundle::Seccomp;
use coracle_seccomp::{Abi, UnknownNames, load, plan};
use nix::errno::Errno;
use nix::sys::prctl;
use serde_json::json;
use std::os::fd::AsFd;

fn filtered<T: Send>(profile: &Seccomp, body: impl FnOnce() -> T + Send) -> Option<T> {
    let plan = plan(profile, Some(Abi::native()?), UnknownNames::Skipped).unwrap();
    coracle_seccomp::check(&plan).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            prctl::set_no_new_privs().unwrap();
            assert!(load(&plan).unwrap().is_none());
            body()
        });
        Some(thread.join().unwrap())
    })
}

#[test]
fn engines_profiles_load() {
    for (_, profile) in profiles::of_engines() {
        let denied = filtered(&profile, || coracle_sys::personality(0x5555).map(drop));
        // By the default, which is one or the other.
        assert!(
            matches!(denied, None | Some(Err(Errno::EPERM | Errno::ENOSYS))),
            "{denied:?}"
        );
    }
}

#[test]
fn arguments_decide() {
    let profile = parsed(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
         "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}
    ]}));
    let answers = filtered(&profile, || {
        (coracle_sys::personality(8), coracle_sys::personality(0))
    });
    if let Some((denied, allowed)) = answers {
        assert_eq!(denied.map(drop), Err(Errno::EOPNOTSUPP));
        assert!(allowed.is_ok());
    }
}

#[test]
fn listeners_are_new_descriptors() {
    let profile = parsed(
        &json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent",
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_NOTIFY"}]}),
    );
    let Some(native) = Abi::native() else { return };
    let plan = plan(&profile, Some(native), UnknownNames::Skipped).unwrap();
    assert_eq!(plan.listener.as_ref().unwrap().path.as_c_str(), c"/agent");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            prctl::set_no_new_privs().unwrap();
            let listener = load(&plan).unwrap().unwrap();
            let flags = nix::fcntl::fcntl(listener.as_fd(), nix::fcntl::FcntlArg::F_GETFD);
            assert_eq!(flags, Ok(1), "close-on-exec");
            drop(listener);
            // Nobody listens any more.
            assert_eq!(coracle_sys::personality(0).map(drop), Err(Errno::ENOSYS));
        });
    });
}
