//! The description of the step, and the messages for its failures.

use super::{Abi, Plan, verdict};
use coracle_sys::{Call, Cause, Fault, FilterFlags};
use coracle_text::{Code, Detail, Report, after_colon, cause_text, errno_text};
use nix::errno::Errno;

/// The flags with their names in the specification.
pub(crate) const FLAGS: [(FilterFlags, &str); 4] = [
    (FilterFlags::TSYNC, "SECCOMP_FILTER_FLAG_TSYNC"),
    (FilterFlags::LOG, "SECCOMP_FILTER_FLAG_LOG"),
    (FilterFlags::SPEC_ALLOW, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
    (
        FilterFlags::WAIT_KILLABLE_RECV,
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ),
];

impl Plan {
    /// The number of init's steps.
    #[must_use]
    pub fn steps(&self) -> usize {
        1
    }

    /// What the step does: `load the seccomp filter (182 instructions for x86_64, by default EPERM,
    /// SPEC_ALLOW)`.
    #[must_use]
    pub fn describe(&self, _step: usize) -> String {
        let names: Vec<&str> = self.abis.iter().map(|abi| Abi::name(*abi)).collect();
        let length = self.program.len();
        let mut text = format!("load the seccomp filter ({length} instructions ");
        text.push_str(&match names[..] {
            [] => "as given".to_owned(),
            _ => {
                let default = verdict::describe(self.default);
                format!("for {}, by default {default}", names.join(", "))
            }
        });
        for (flag, name) in FLAGS {
            if self.flags.contains(flag) {
                text.push_str(", ");
                text.push_str(name.strip_prefix("SECCOMP_FILTER_FLAG_").unwrap_or(name));
            }
        }
        if let Some(listener) = &self.listener {
            text.push_str(", listener to ");
            text.push_str(&listener.path.to_string_lossy());
        }
        for name in &self.unknown_names {
            text.push_str(", without ");
            text.push_str(&coracle_text::one_line(name));
        }
        text.push(')');
        text
    }

    /// The message for a fault of the step, with the likely cause if the errno does not show it.
    #[must_use]
    pub fn explain(&self, fault: &Fault) -> Report {
        let what = self.describe(fault.step);
        let detail = Detail::new(Code::SeccompFailed).path("linux.seccomp");
        let Cause::Call(call, errno) = fault.cause else {
            return Report::new(format!("{what}: {}", cause_text(fault.cause)), detail);
        };
        let detail = detail.errno(errno);
        if call == Call::Send {
            // Init sends the listener only if the runtime may not trace init and fetch it.
            let text = format!(
                "linux.seccomp.listenerPath: the runtime has too few privileges to fetch the \
                 listener, and the profile keeps init from sending it: sendmsg: {}",
                errno_text(errno)
            );
            return Report::new(text, detail.path("linux.seccomp.listenerPath"));
        }
        let hint = match errno {
            Errno::EACCES => {
                "no CAP_SYS_ADMIN, which it takes while process.noNewPrivileges is false"
            }
            Errno::EINVAL if self.abis.is_empty() => "the kernel takes no such program",
            Errno::EINVAL | Errno::ENOSYS => "the kernel lacks seccomp filters, or a flag",
            Errno::EBUSY => "a filter that the runtime inherited has a listener already",
            Errno::ENOMEM => "it is too long beside the filters that the runtime inherited",
            Errno::ESRCH => "another thread has a filter of its own",
            _ => "",
        };
        let text = format!("{what}: {}{}", errno_text(errno), after_colon(hint));
        Report::new(text, detail.hint(hint))
    }
}
