//! From the profile to the program: pure.

mod abi;
mod describe;
mod multiplex;
mod program;
mod resolve;
mod table;
mod verdict;
mod whole;

pub use abi::Abi;
pub(crate) use describe::FLAGS;
pub(crate) use program::{MAX_INSTRUCTIONS, RETURN};
pub(crate) use resolve::MAX_RULES;
pub(crate) use verdict::{ACTION, NOTIFY, describe as describe_verdict};
pub use whole::plan_whole;

use crate::Error;
use coracle_bundle::{Seccomp, SeccompAction, SeccompFlag, SeccompRule};
use coracle_sys::{FilterFlags, FilterInstruction};
use std::ffi::CString;

/// The filter, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// At most 4096 instructions.
    pub program: Vec<FilterInstruction>,
    /// Contains [`FilterFlags::NEW_LISTENER`] if and only if there is a [`Plan::listener`].
    pub flags: FilterFlags,
    /// Where the listener is sent; `None` if the filter notifies no call.
    pub listener: Option<Listener>,
    /// The architectures that the filter has rules for, the native one first; calls of others kill
    /// the process. None if the program was given as it is.
    pub abis: Vec<Abi>,
    /// The return value for calls that no rule matches.
    pub default: u32,
    /// Names that are no system call on any known architecture, each once. They are no error, since
    /// engines list calls that are newer than coracle; only [`Plan::describe`] shows them.
    pub unknown_names: Vec<String>,
    /// Other parts of the profile that have no effect on this machine, one line each.
    pub notes: Vec<String>,
}

/// `linux.seccomp.listenerPath` and `listenerMetadata`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The path of a listening `AF_UNIX` stream socket, in the runtime's mount namespace.
    pub path: CString,
    /// Passed on unchanged.
    pub metadata: Option<String>,
    /// Whether `sendmsg` is notified as well: then init cannot send the listener, since the call
    /// would wait for the agent.
    pub notifies_sendmsg: bool,
}

/// How names that are no system call on any architecture are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownNames {
    /// They are ignored, as the specification requires: they may be newer than this runtime.
    #[default]
    Skipped,
    /// The annotation `run.oci.seccomp_fail_unknown_syscall` makes them an error.
    Refused,
}

/// Makes the filter of a profile. `native` is [`Abi::native`] of the runtime.
///
/// Pure: [`crate::check`] checks whether the running kernel has the flags and actions.
///
/// # Errors
///
/// [`Error::TooLong`] and [`Error::TooManyRules`]; [`Error::NoListener`] and
/// [`Error::NotifiedWrite`] if the container would wait for ever; [`Error::UnknownName`] if they
/// are refused; [`Error::Machine`].
pub fn plan(
    profile: &Seccomp,
    native: Option<Abi>,
    unknown_names: UnknownNames,
) -> Result<Plan, Error> {
    let native = native.ok_or(Error::Machine)?;
    let mut notes = Vec::new();
    let abis = abis(profile, native, &mut notes);
    let resolved = resolve::resolve(profile)?;
    if let (UnknownNames::Refused, Some(name)) = (unknown_names, resolved.unknown.first()) {
        return Err(unknown_name(profile, name));
    }
    let default = verdict::verdict(profile.default_action);
    let program = program::program(&resolved, &abis, default)?;
    let listener = listener(profile, &program)?;
    Ok(Plan {
        flags: flags(profile.flags.as_deref(), listener.is_some(), &mut notes),
        listener,
        program,
        abis,
        default,
        unknown_names: resolved
            .unknown
            .iter()
            .map(|&name| name.to_owned())
            .collect(),
        notes,
    })
}

/// The error for an unknown name, with its first place in the profile.
fn unknown_name(profile: &Seccomp, name: &str) -> Error {
    let place = profile.rules.iter().enumerate().find_map(|(rule, each)| {
        let index = each.names.iter().position(|other| other == name)?;
        Some((rule, index))
    });
    let (rule, index) = place.unwrap_or_default();
    Error::UnknownName {
        rule,
        index,
        name: name.to_owned(),
    }
}

/// The listed architectures, and always the native one.
fn abis(profile: &Seccomp, native: Abi, notes: &mut Vec<String>) -> Vec<Abi> {
    let mut abis = vec![native];
    for (index, architecture) in profile.architectures.iter().enumerate() {
        match Abi::of(*architecture, native) {
            Some(abi) if abis.contains(&abi) => {}
            Some(abi) if abi.shares_kernel_with(native) => abis.push(abi),
            _ => notes.push(format!(
                "linux.seccomp.architectures[{index}]: {architecture:?} does not run on {}",
                native.name()
            )),
        }
    }
    abis
}

fn flags(
    listed: Option<&[SeccompFlag]>,
    has_listener: bool,
    notes: &mut Vec<String>,
) -> FilterFlags {
    let mut flags = FilterFlags::empty();
    if has_listener {
        flags |= FilterFlags::NEW_LISTENER;
    }
    // If the config has no flags, other runtimes allow speculation: the mitigation would slow down
    // every filtered process.
    for flag in listed.unwrap_or(&[SeccompFlag::SpecAllow]) {
        flags |= match flag {
            // Without TSYNC_ESRCH, a thread that cannot get the filter would be reported as a
            // thread id, not an errno.
            SeccompFlag::Tsync => FilterFlags::TSYNC | FilterFlags::TSYNC_ESRCH,
            SeccompFlag::Log => FilterFlags::LOG,
            SeccompFlag::SpecAllow => FilterFlags::SPEC_ALLOW,
            SeccompFlag::WaitKillableRecv if has_listener => FilterFlags::WAIT_KILLABLE_RECV,
            // Without a listener the kernel refuses this flag.
            SeccompFlag::WaitKillableRecv => {
                notes.push(
                    "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV has no effect, \
                     no call is notified"
                        .to_owned(),
                );
                FilterFlags::empty()
            }
        };
    }
    flags
}

/// The listener, if the program ever notifies: a rule that does may be only for calls of other
/// architectures.
fn listener(profile: &Seccomp, program: &[FilterInstruction]) -> Result<Option<Listener>, Error> {
    let notifies = |i: &FilterInstruction| i.code == RETURN && i.constant == NOTIFY;
    if !program.iter().any(notifies) {
        return Ok(None);
    }
    let rules = profile.rules.iter();
    let notified = |rule: &SeccompRule| rule.action == SeccompAction::Notify;
    let notified_of = |call: &str| {
        let names = |rule: &SeccompRule| rule.names.iter().any(|name| name == call);
        rules.clone().position(|rule| notified(rule) && names(rule))
    };
    if let Some(rule) = notified_of("write") {
        return Err(Error::NotifiedWrite { rule });
    }
    let Some(path) = &profile.listener_path else {
        let rule = rules.clone().position(notified).unwrap_or_default();
        return Err(Error::NoListener { rule });
    };
    Ok(Some(Listener {
        path: path.clone(),
        metadata: profile.listener_metadata.clone(),
        notifies_sendmsg: notified_of("sendmsg").is_some(),
    }))
}
