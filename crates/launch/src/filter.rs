//! The seccomp filter: its program, and when init loads it.

use coracle_bundle::annotation::{SECCOMP_FAIL_UNKNOWN, SECCOMP_PROGRAM, SECCOMP_RECEIVER};
use coracle_bundle::{Config, Seccomp, SeccompAction};
use coracle_seccomp::{Abi, UnknownNames};
use std::ffi::CString;

use crate::error::Error;

/// The system calls by which init gives up privileges.
const PRIVILEGE_DROP: [&str; 5] = ["prctl", "setgroups", "setresgid", "setresuid", "capset"];

/// `linux.seccomp`, and when init loads it.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The program and its flags.
    pub program: coracle_seccomp::Plan,
    /// When init loads it.
    pub moment: Moment,
    /// The calls of init's that it does not allow, each with its answer.
    pub(crate) barred: Vec<Barred>,
}

/// A call that init makes after the filter is loaded, and what the profile answers to it.
pub(crate) type Barred = (&'static str, &'static str);

/// When the filter is loaded. seccomp(2) requires `CAP_SYS_ADMIN` or `no_new_privs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// By `CAP_SYS_ADMIN`: before init gives up its capabilities.
    Privileged,
    /// By `no_new_privs`: last before execve(2), so that as few of init's calls as possible are
    /// filtered.
    Last,
}

/// Makes the config's filter for a process. Pure.
pub(crate) fn plan(config: &Config, no_new_privileges: bool) -> Result<Option<Filter>, Error> {
    let profile = config.linux.seccomp.as_ref();
    let whole = config.annotations.get(SECCOMP_PROGRAM);
    let program = match (whole, profile) {
        (Some(whole), profile) => whole_program(whole, profile, config)?,
        (None, Some(profile)) => {
            if !no_new_privileges && let Some((answer, call)) = faked(profile) {
                return Err(Error::FakedCall { answer, call });
            }
            // With any value but `0`, a name that is no system call is an error.
            let fail_unknown = config.annotations.get(SECCOMP_FAIL_UNKNOWN);
            let unknown = match fail_unknown.map(String::as_str) {
                None | Some("0") => UnknownNames::Skipped,
                Some(_) => UnknownNames::Refused,
            };
            coracle_seccomp::plan(profile, Abi::native(), unknown)?
        }
        (None, None) => return Ok(None),
    };
    if whole.is_some() && !no_new_privileges && program.may_fake() {
        return Err(Error::FakingProgram {
            annotation: SECCOMP_PROGRAM,
        });
    }
    Ok(Some(Filter {
        barred: barred(config),
        program,
        moment: match no_new_privileges {
            true => Moment::Last,
            false => Moment::Privileged,
        },
    }))
}

/// The program of the annotation. Its agent is the profile's, or that of another annotation.
fn whole_program(
    whole: &str,
    profile: Option<&Seccomp>,
    config: &Config,
) -> Result<coracle_seccomp::Plan, coracle_seccomp::Error> {
    let path = match profile {
        Some(profile) => profile.listener_path.clone(),
        None => {
            let path = config.annotations.get(SECCOMP_RECEIVER);
            path.and_then(|path| CString::new(path.as_bytes()).ok())
        }
    };
    coracle_seccomp::plan_whole(whole, profile, path)
}

/// The calls that init makes in every container after the filter is loaded. Of those by which it
/// gives up privileges, it makes all only without no_new_privs.
const NEEDED: [&str; 4] = ["read", "write", "execve", "exit_group"];

/// The calls of init's that the profile does not allow without a condition. Pure.
pub(crate) fn barred(config: &Config) -> Vec<Barred> {
    let whole = config.annotations.contains_key(SECCOMP_PROGRAM);
    let Some(profile) = config.linux.seccomp.as_ref().filter(|_| !whole) else {
        return Vec::new();
    };
    let answer = |call: &str| {
        let is_for = |names: &[String]| names.iter().any(|name| name == call);
        let rule = profile.rules.iter();
        let mut rule = rule.filter(|rule| rule.conditions.is_empty() && is_for(&rule.names));
        rule.next()
            .map_or(profile.default_action, |rule| rule.action)
    };
    let dropped = match &config.process {
        Some(process) if !process.no_new_privileges => PRIVILEGE_DROP.as_slice(),
        _ => &[],
    };
    let needed = NEEDED.iter().chain(dropped);
    let barred = needed.map(|call| (*call, refusal(answer(call))));
    barred
        .filter_map(|(call, answer)| Some((call, answer?)))
        .collect()
}

/// The action's name, if it does not let the call be made.
fn refusal(action: SeccompAction) -> Option<&'static str> {
    match action {
        SeccompAction::KillThread => Some("SCMP_ACT_KILL_THREAD"),
        SeccompAction::KillProcess => Some("SCMP_ACT_KILL_PROCESS"),
        SeccompAction::Trap => Some("SCMP_ACT_TRAP"),
        SeccompAction::Errno(_) => Some("SCMP_ACT_ERRNO"),
        SeccompAction::Trace(_) => Some("SCMP_ACT_TRACE"),
        SeccompAction::Log | SeccompAction::Notify | SeccompAction::Allow => None,
    }
}

/// What an init that ended without a message may have met in its filter.
pub(crate) fn hint(barred: &[Barred]) -> String {
    let calls = barred
        .iter()
        .map(|(call, answer)| format!("{call} ({answer})"));
    let calls = calls.collect::<Vec<_>>().join(", ");
    match calls.as_str() {
        "" => "the seccomp profile must allow what the runtime calls after loading it: read, \
               write, close, execve, exit_group, and without noNewPrivileges what gives up \
               privileges"
            .to_owned(),
        calls => format!(
            "the seccomp profile must allow what the runtime calls after loading it, and bars \
             {calls}"
        ),
    }
}

/// Finds a call that gives up privileges and that the filter could make appear to succeed: by
/// `errnoRet` 0, or by a notification, whose agent chooses the result. If such a filter were loaded
/// before the call, the program would run with init's privileges. Returns the action and the name
/// of the call.
fn faked(profile: &Seccomp) -> Option<(&'static str, &'static str)> {
    let answer = |call: &&'static str| {
        let rules = profile
            .rules
            .iter()
            .filter(|rule| rule.names.iter().any(|name| name == call));
        let by_default = || {
            let fake = fake(profile.default_action)?;
            let is_answered = rules.clone().any(|rule| rule.conditions.is_empty());
            (!is_answered).then_some(fake)
        };
        let by_rule = rules.clone().find_map(|rule| fake(rule.action));
        Some((by_rule.or_else(by_default)?, *call))
    };
    PRIVILEGE_DROP.iter().find_map(answer)
}

fn fake(action: SeccompAction) -> Option<&'static str> {
    match action {
        SeccompAction::Errno(0) => Some("errnoRet 0"),
        SeccompAction::Notify => Some("SCMP_ACT_NOTIFY"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(seccomp: &str, annotations: &str) -> Config {
        let text = format!(
            r#"{{"ociVersion": "1.3.0", "root": {{"path": "r"}},
                "annotations": {{{annotations}}}, "linux": {{"seccomp": {seccomp}}}}}"#
        );
        coracle_bundle::parse(std::path::Path::new("/b"), text.as_bytes()).unwrap()
    }

    fn check(seccomp: &str, annotations: &str, no_new_privileges: bool) -> String {
        match plan(&config(seccomp, annotations), no_new_privileges) {
            Ok(None) => "none".to_owned(),
            Ok(Some(filter)) => format!("{:?}", filter.moment),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_bars_the_runtime_is_named() {
        let names = |profile: &str| hint(&barred(&config(profile, "")));
        let bars =
            "the seccomp profile must allow what the runtime calls after loading it, and bars ";
        let profile = r#"{"defaultAction": "SCMP_ACT_KILL", "syscalls": [
            {"names": ["read", "execve"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["exit_group"], "action": "SCMP_ACT_LOG"}]}"#;
        assert_eq!(
            names(profile),
            format!("{bars}write (SCMP_ACT_KILL_THREAD)")
        );
        let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["write", "execve"], "action": "SCMP_ACT_ERRNO"}]}"#;
        let both = "write (SCMP_ACT_ERRNO), execve (SCMP_ACT_ERRNO)";
        assert_eq!(names(profile), format!("{bars}{both}"));
        assert!(names(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).ends_with("gives up privileges"));
    }

    #[test]
    fn the_right_to_load_decides_when() {
        let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
        assert_eq!(check(profile, "", true), "Last");
        assert_eq!(check(profile, "", false), "Privileged");
        assert_eq!(check("{}", "", false), "none");
    }

    #[test]
    fn an_annotation_refuses_unknown_names() {
        let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["read", "brew"], "action": "SCMP_ACT_ERRNO"}]}"#;
        let refused = "linux.seccomp.syscalls[0].names[1]: \"brew\" is not a system call";
        for (value, expected) in [("1", refused), ("", refused), ("0", "Last")] {
            let annotation = format!(r#""{SECCOMP_FAIL_UNKNOWN}": "{value}""#);
            assert_eq!(check(profile, &annotation, true), expected, "{value:?}");
        }
        assert_eq!(check(profile, "", true), "Last");
    }

    #[test]
    fn a_program_comes_whole() {
        let whole = |bytes: &str| format!(r#""{SECCOMP_PROGRAM}": "{bytes}""#);
        let allow = whole("BgAAAAAA/38=");
        assert_eq!(check("{}", &allow, false), "Privileged");
        let ignored = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 0}"#;
        assert_eq!(check(ignored, &allow, true), "Last");
        let errno_zero = whole("BgAAAAAABQA=");
        assert_eq!(
            check("{}", &errno_zero, false),
            "annotations[\"run.oci.seccomp_bpf_data\"]: it can answer calls without doing them, \
             and so keep privileges that are given up after it is loaded; set \
             process.noNewPrivileges"
        );
        assert_eq!(check("{}", &errno_zero, true), "Last");
        let notifies = whole("BgAAAAAAwH8=");
        let receiver = format!(r#"{notifies}, "{SECCOMP_RECEIVER}": "/agent""#);
        assert_eq!(check("{}", &receiver, true), "Last");
        assert!(check("{}", &notifies, true).ends_with("listenerPath is missing"));
    }

    #[test]
    fn the_annotation_names_the_agent() {
        let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}"#;
        let receiver = format!(r#""{SECCOMP_RECEIVER}": "/agent""#);
        let planned = plan(&config(profile, &receiver), true).unwrap().unwrap();
        assert_eq!(planned.program.listener.unwrap().path, c"/agent".to_owned());
        let own = profile.replace("\"syscalls\"", r#""listenerPath": "/own", "syscalls""#);
        let planned = plan(&config(&own, &receiver), true).unwrap().unwrap();
        assert_eq!(planned.program.listener.unwrap().path, c"/own".to_owned());
    }

    #[test]
    fn privileges_are_not_given_up_in_appearance_only() {
        let refused = |answer: &str, call: &str| {
            format!(
                "linux.seccomp: {answer} for {call}, which gives up privileges after the filter is \
                 loaded, could keep them; set process.noNewPrivileges, or answer it otherwise"
            )
        };
        let fake = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["chown", "setresuid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}]}"#;
        assert_eq!(check(fake, "", false), refused("errnoRet 0", "setresuid"));
        assert_eq!(check(fake, "", true), "Last");
        let all = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 0, "syscalls": [
            {"names": ["prctl"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["setgroups"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 0}]}]}"#;
        assert_eq!(check(all, "", false), refused("errnoRet 0", "setgroups"));
        let notified = r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent",
            "syscalls": [{"names": ["chown", "capset"], "action": "SCMP_ACT_NOTIFY"}]}"#;
        assert_eq!(
            check(notified, "", false),
            refused("SCMP_ACT_NOTIFY", "capset")
        );
        assert_eq!(check(notified, "", true), "Last");
        let denied = r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#;
        assert_eq!(check(denied, "", false), "Privileged");
    }
}
