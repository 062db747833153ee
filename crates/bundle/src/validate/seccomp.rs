//! `linux.seccomp`: config-linux.md § Seccomp.

use super::text::{optional_c_string, path_text};
use crate::annotation::SECCOMP_RECEIVER;
use crate::error::{At, Error};
use crate::{
    Seccomp, SeccompAction, SeccompArchitecture, SeccompCondition, SeccompFlag, SeccompOperator,
    SeccompRule,
};
use oci_spec::runtime as oci;
use oci_spec::runtime::Arch;
use oci_spec::runtime::LinuxSeccompAction as Raw;
use oci_spec::runtime::LinuxSeccompFilterFlag as RawFlag;
use oci_spec::runtime::LinuxSeccompOperator as RawOperator;
use std::collections::BTreeMap;
use std::ffi::CString;

/// The largest errno that the kernel returns: `MAX_ERRNO`.
const MAX_ERRNO: u32 = 4095;
const LAST_ARGUMENT: usize = 5;

/// Adds the socket of the annotation to a profile that names none.
pub(super) fn add_receiver(seccomp: &mut Seccomp, annotations: &BTreeMap<String, String>) {
    let named = || CString::new(annotations.get(SECCOMP_RECEIVER)?.as_bytes()).ok();
    seccomp.listener_path = seccomp.listener_path.take().or_else(named);
}

/// Validates a profile. Which names are system calls is left to the planner.
pub(super) fn seccomp(raw: &oci::LinuxSeccomp, at: At<'_>) -> Result<Seccomp, Error> {
    let errno = errno(raw.default_errno_ret(), at.key("defaultErrnoRet"))?;
    let default_action = action(raw.default_action(), errno, at.key("defaultErrnoRet"))?;
    if default_action == SeccompAction::Notify {
        return Err(at
            .key("defaultAction")
            .refuse("SCMP_ACT_NOTIFY cannot be the default, it would stop the runtime itself"));
    }
    let path = raw.listener_path().as_deref().map(path_text);
    let listener_path = optional_c_string(path, at.key("listenerPath"))?;
    let listener_metadata = raw
        .listener_metadata()
        .clone()
        .filter(|text| !text.is_empty());
    if listener_path.is_none() && listener_metadata.is_some() {
        return Err(at.key("listenerMetadata").refuse("needs listenerPath"));
    }
    let place = at.key("syscalls");
    let rules = raw.syscalls().iter().flatten().enumerate();
    Ok(Seccomp {
        default_action,
        architectures: raw
            .architectures()
            .iter()
            .flatten()
            .map(architecture)
            .collect(),
        flags: raw
            .flags()
            .as_ref()
            .map(|list| list.iter().map(flag).collect()),
        listener_path,
        listener_metadata,
        rules: rules
            .map(|(index, raw)| rule(raw, place.index(index)))
            .collect::<Result<_, _>>()?,
    })
}

fn errno(raw: Option<u32>, at: At<'_>) -> Result<Option<u16>, Error> {
    match raw {
        None => Ok(None),
        Some(number) => match u16::try_from(number) {
            Ok(errno) if number <= MAX_ERRNO => Ok(Some(errno)),
            _ => Err(at.refuse(format!("{number} is above {MAX_ERRNO}"))),
        },
    }
}

fn action(raw: Raw, errno: Option<u16>, at: At<'_>) -> Result<SeccompAction, Error> {
    const EPERM: u16 = 1;
    let action = match raw {
        Raw::ScmpActErrno => return Ok(SeccompAction::Errno(errno.unwrap_or(EPERM))),
        Raw::ScmpActTrace => return Ok(SeccompAction::Trace(errno.unwrap_or(EPERM))),
        Raw::ScmpActKill | Raw::ScmpActKillThread => SeccompAction::KillThread,
        Raw::ScmpActKillProcess => SeccompAction::KillProcess,
        Raw::ScmpActTrap => SeccompAction::Trap,
        Raw::ScmpActNotify => SeccompAction::Notify,
        Raw::ScmpActLog => SeccompAction::Log,
        Raw::ScmpActAllow => SeccompAction::Allow,
    };
    match errno {
        None => Ok(action),
        Some(number) => Err(at.refuse(format!("{number}: {raw} takes no errno"))),
    }
}

fn rule(raw: &oci::LinuxSyscall, at: At<'_>) -> Result<SeccompRule, Error> {
    if raw.names().is_empty() {
        return Err(at.key("names").refuse("at least one name is needed"));
    }
    if let Some(index) = raw.names().iter().position(String::is_empty) {
        return Err(at.key("names").index(index).refuse("\"\" is not a name"));
    }
    let errno = errno(raw.errno_ret(), at.key("errnoRet"))?;
    let place = at.key("args");
    let conditions = raw.args().iter().flatten().enumerate();
    Ok(SeccompRule {
        names: raw.names().clone(),
        action: action(raw.action(), errno, at.key("errnoRet"))?,
        conditions: conditions
            .map(|(index, raw)| condition(raw, place.index(index)))
            .collect::<Result<_, _>>()?,
    })
}

fn condition(raw: &oci::LinuxSeccompArg, at: At<'_>) -> Result<SeccompCondition, Error> {
    let index = match u8::try_from(raw.index()) {
        Ok(index) if raw.index() <= LAST_ARGUMENT => index,
        _ => {
            return Err(at.key("index").refuse(format!(
                "{} is above {LAST_ARGUMENT}, the last argument",
                raw.index()
            )));
        }
    };
    let operator = match raw.op() {
        RawOperator::ScmpCmpNe => SeccompOperator::NotEqual,
        RawOperator::ScmpCmpLt => SeccompOperator::Less,
        RawOperator::ScmpCmpLe => SeccompOperator::LessOrEqual,
        RawOperator::ScmpCmpEq => SeccompOperator::Equal,
        RawOperator::ScmpCmpGe => SeccompOperator::GreaterOrEqual,
        RawOperator::ScmpCmpGt => SeccompOperator::Greater,
        RawOperator::ScmpCmpMaskedEq => SeccompOperator::MaskedEqual(raw.value()),
    };
    let value = match operator {
        SeccompOperator::MaskedEqual(_) => raw.value_two().unwrap_or(0),
        _ => raw.value(),
    };
    Ok(SeccompCondition {
        index,
        operator,
        value,
    })
}

fn architecture(raw: &Arch) -> SeccompArchitecture {
    match raw {
        Arch::ScmpArchNative => SeccompArchitecture::Native,
        Arch::ScmpArchX86 => SeccompArchitecture::X86,
        Arch::ScmpArchX86_64 => SeccompArchitecture::X86_64,
        Arch::ScmpArchX32 => SeccompArchitecture::X32,
        Arch::ScmpArchArm => SeccompArchitecture::Arm,
        Arch::ScmpArchAarch64 => SeccompArchitecture::Aarch64,
        Arch::ScmpArchMips => SeccompArchitecture::Mips,
        Arch::ScmpArchMips64 => SeccompArchitecture::Mips64,
        Arch::ScmpArchMips64n32 => SeccompArchitecture::Mips64N32,
        Arch::ScmpArchMipsel => SeccompArchitecture::Mipsel,
        Arch::ScmpArchMipsel64 => SeccompArchitecture::Mipsel64,
        Arch::ScmpArchMipsel64n32 => SeccompArchitecture::Mipsel64N32,
        Arch::ScmpArchPpc => SeccompArchitecture::Ppc,
        Arch::ScmpArchPpc64 => SeccompArchitecture::Ppc64,
        Arch::ScmpArchPpc64le => SeccompArchitecture::Ppc64Le,
        Arch::ScmpArchS390 => SeccompArchitecture::S390,
        Arch::ScmpArchS390x => SeccompArchitecture::S390X,
        Arch::ScmpArchParisc => SeccompArchitecture::Parisc,
        Arch::ScmpArchParisc64 => SeccompArchitecture::Parisc64,
        Arch::ScmpArchRiscv64 => SeccompArchitecture::Riscv64,
        Arch::ScmpArchLoongarch64 => SeccompArchitecture::Loongarch64,
        Arch::ScmpArchM68k => SeccompArchitecture::M68k,
        Arch::ScmpArchSh => SeccompArchitecture::Sh,
        Arch::ScmpArchSheb => SeccompArchitecture::Sheb,
    }
}

fn flag(raw: &RawFlag) -> SeccompFlag {
    match raw {
        RawFlag::SeccompFilterFlagLog => SeccompFlag::Log,
        RawFlag::SeccompFilterFlagTsync => SeccompFlag::Tsync,
        RawFlag::SeccompFilterFlagSpecAllow => SeccompFlag::SpecAllow,
        RawFlag::SeccompFilterFlagWaitKillableRecv => SeccompFlag::WaitKillableRecv,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{accepted, refused, with};
    use serde_json::{Value, json};

    const AT: &str = "/linux/seccomp";

    /// A profile with one more property.
    fn plus(key: &str, value: Value) -> Value {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ERRNO"});
        profile[key] = value;
        profile
    }

    /// A profile with one rule that has one more property.
    fn rule_plus(key: &str, value: Value) -> Value {
        let mut rule = json!({"names": ["read"], "action": "SCMP_ACT_ERRNO"});
        rule[key] = value;
        plus("syscalls", json!([rule]))
    }

    fn argument(index: u64, op: &str) -> Value {
        rule_plus("args", json!([{"index": index, "value": 1, "op": op}]))
    }

    fn taken(profile: Value) -> Seccomp {
        with(AT, profile).linux.seccomp.unwrap()
    }

    #[test]
    fn actions_and_errnos() {
        let actions = "expected one of `SCMP_ACT_KILL`, `SCMP_ACT_KILL_THREAD`, \
                       `SCMP_ACT_KILL_PROCESS`, `SCMP_ACT_TRAP`, `SCMP_ACT_ERRNO`, \
                       `SCMP_ACT_NOTIFY`, `SCMP_ACT_TRACE`, `SCMP_ACT_LOG`, `SCMP_ACT_ALLOW`";
        refused(&[
            (
                AT,
                plus("defaultAction", json!("SCMP_ACT_X")),
                &format!("linux.seccomp.defaultAction: unknown variant `SCMP_ACT_X`, {actions}"),
            ),
            (
                AT,
                rule_plus("action", json!("ALLOW")),
                &format!("linux.seccomp.syscalls[0].action: unknown variant `ALLOW`, {actions}"),
            ),
            (
                AT,
                plus("defaultAction", json!("SCMP_ACT_NOTIFY")),
                "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default, it would \
                 stop the runtime itself",
            ),
            (
                AT,
                plus("defaultErrnoRet", json!(4096)),
                "linux.seccomp.defaultErrnoRet: 4096 is above 4095",
            ),
            (
                AT,
                json!({"defaultAction": "SCMP_ACT_KILL_PROCESS", "defaultErrnoRet": 1}),
                "linux.seccomp.defaultErrnoRet: 1: SCMP_ACT_KILL_PROCESS takes no errno",
            ),
            (
                AT,
                rule_plus("errnoRet", json!(70_000)),
                "linux.seccomp.syscalls[0].errnoRet: 70000 is above 4095",
            ),
            (
                AT,
                plus(
                    "syscalls",
                    json!([{"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 0}]),
                ),
                "linux.seccomp.syscalls[0].errnoRet: 0: SCMP_ACT_ALLOW takes no errno",
            ),
        ]);
        assert_eq!(
            taken(plus("syscalls", json!(null))).default_action,
            SeccompAction::Errno(1)
        );
        let profile = taken(json!({
            "defaultAction": "SCMP_ACT_TRACE",
            "defaultErrnoRet": 4095,
            "syscalls": [{"names": ["a", "b"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}]
        }));
        assert_eq!(profile.default_action, SeccompAction::Trace(4095));
        assert_eq!(profile.rules[0].action, SeccompAction::Errno(0));
        assert_eq!(profile.rules[0].names, ["a", "b"]);
    }

    #[test]
    fn names_and_arguments() {
        let operators = "expected one of `SCMP_CMP_NE`, `SCMP_CMP_LT`, `SCMP_CMP_LE`, \
                         `SCMP_CMP_EQ`, `SCMP_CMP_GE`, `SCMP_CMP_GT`, `SCMP_CMP_MASKED_EQ`";
        refused(&[
            (
                AT,
                rule_plus("names", json!([])),
                "linux.seccomp.syscalls[0].names: at least one name is needed",
            ),
            (
                AT,
                rule_plus("names", json!(["read", ""])),
                "linux.seccomp.syscalls[0].names[1]: \"\" is not a name",
            ),
            (
                AT,
                plus("syscalls", json!([{"action": "SCMP_ACT_ALLOW"}])),
                "linux.seccomp.syscalls[0].names: required, but missing",
            ),
            (
                AT,
                argument(6, "SCMP_CMP_EQ"),
                "linux.seccomp.syscalls[0].args[0].index: 6 is above 5, the last argument",
            ),
            (
                AT,
                argument(u64::MAX, "SCMP_CMP_EQ"),
                "linux.seccomp.syscalls[0].args[0].index: 18446744073709551615 is above 5, the \
                 last argument",
            ),
            (
                AT,
                argument(0, "SCMP_CMP_X"),
                &format!(
                    "linux.seccomp.syscalls[0].args[0].op: unknown variant `SCMP_CMP_X`, \
                     {operators}"
                ),
            ),
            (
                AT,
                rule_plus("args", json!([{"index": 0, "op": "SCMP_CMP_EQ"}])),
                "linux.seccomp.syscalls[0].args[0].value: required, but missing",
            ),
        ]);
        accepted(&[
            (AT, rule_plus("names", json!(["no_such_call"]))),
            (AT, rule_plus("args", json!(null))),
            (AT, argument(5, "SCMP_CMP_GT")),
        ]);
        let profile = taken(rule_plus(
            "args",
            json!([
                {"index": 0, "value": 15, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"},
                {"index": 1, "value": u64::MAX, "valueTwo": 0, "op": "SCMP_CMP_NE"}
            ]),
        ));
        let (mask, other) = (SeccompOperator::MaskedEqual(15), SeccompOperator::NotEqual);
        let condition = |index, operator, value| SeccompCondition {
            index,
            operator,
            value,
        };
        assert_eq!(
            profile.rules[0].conditions,
            [condition(0, mask, 1), condition(1, other, u64::MAX)]
        );
    }

    #[test]
    fn architectures_and_flags() {
        let mut wrong = Vec::new();
        for (key, value) in [("architectures", "SCMP_ARCH_X"), ("flags", "FLAG_X")] {
            let error = crate::fixture::parse_tree(&{
                let mut tree = crate::fixture::base();
                crate::fixture::set(&mut tree, AT, plus(key, json!([value])));
                tree
            });
            let text = error.unwrap_err().to_string();
            let start = format!("config.json: linux.seccomp.{key}[0]: unknown variant `{value}`");
            if !text.starts_with(&start) {
                wrong.push(text);
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
        let names = "NATIVE X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 \
                     MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X PARISC PARISC64 RISCV64 \
                     LOONGARCH64 M68K SH SHEB";
        let names = names.split_whitespace();
        let names: Vec<String> = names.map(|name| format!("SCMP_ARCH_{name}")).collect();
        let profile = taken(plus("architectures", json!(names)));
        assert_eq!(profile.architectures.len(), 24);
        assert_eq!(profile.architectures[22], SeccompArchitecture::Sh);
        assert_eq!(profile.flags, None);
        assert_eq!(taken(plus("flags", json!(null))).flags, None);
        assert_eq!(taken(plus("flags", json!([]))).flags, Some(Vec::new()));
        let flags = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"];
        let flags = flags.map(|name| format!("SECCOMP_FILTER_FLAG_{name}"));
        let expected = vec![
            SeccompFlag::Tsync,
            SeccompFlag::Log,
            SeccompFlag::SpecAllow,
            SeccompFlag::WaitKillableRecv,
        ];
        assert_eq!(taken(plus("flags", json!(flags))).flags, Some(expected));
    }

    #[test]
    fn listeners() {
        refused(&[
            (
                AT,
                plus("listenerMetadata", json!("m")),
                "linux.seccomp.listenerMetadata: needs listenerPath",
            ),
            (
                AT,
                plus("listenerPath", json!("/a\0")),
                "linux.seccomp.listenerPath: \"/a\\0\" holds a NUL byte",
            ),
        ]);
        let profile = taken(plus("listenerPath", json!("")));
        assert_eq!(profile.listener_path, None);
        let mut both = plus("listenerPath", json!("/agent"));
        both["listenerMetadata"] = json!("m");
        let profile = taken(both);
        assert_eq!(profile.listener_path, Some(c"/agent".to_owned()));
        assert_eq!(profile.listener_metadata.as_deref(), Some("m"));
    }
}
