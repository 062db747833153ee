//! Every program against the model, and each of the rules that are easily broken by itself.

use crate::interpreter::{Call, run};
use crate::model::{self, Model, NAMES};
use crate::profiles::{self, Random, parsed};
use coracle_bundle::{Seccomp, SeccompArchitecture as Architecture};
use coracle_seccomp::{Abi, Error, UnknownNames, plan};
use proptest::prelude::*;
use serde_json::json;

const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = model::NO_SUCH_CALL;
const ALLOW: u32 = 0x7fff_0000;

fn check(profile: &Seccomp, native: Abi, calls: &[Call]) {
    let program = match plan(profile, Some(native), UnknownNames::Skipped) {
        Ok(plan) => plan.program,
        Err(Error::TooLong { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let model = Model::new(profile, native);
    for call in calls {
        let (verdict, _) = run(&program, call);
        let expected = model.verdict(call);
        assert_eq!(
            verdict, expected,
            "{call:x?} of {native:?}: {verdict:#x}, not {expected:#x}"
        );
    }
}

fn family(native: Abi) -> Vec<Architecture> {
    match native {
        Abi::X86_64 => vec![Architecture::X86, Architecture::X32],
        Abi::Aarch64 => vec![Architecture::Arm],
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn programs_do_what_profiles_say(seed: u64, native in 0..8_usize, listed: u8) {
        let machines = [Abi::X86_64, Abi::Aarch64, Abi::Riscv64, Abi::Loongarch64, Abi::X86,
            Abi::Ppc64le, Abi::S390x];
        let native = *machines.get(native).unwrap_or(&Abi::X86_64);
        let mut architectures = family(native);
        architectures.retain(|architecture| match architecture {
            Architecture::X86 => listed & 1 == 0,
            _ => listed & 2 == 0,
        });
        let names: Vec<&str> = NAMES.keys().copied().collect();
        let mut random = Random(seed);
        let profile = random.profile(&names, &architectures, 3);
        let calls = random.calls(&profile, native, 1500);
        check(&profile, native, &calls);
    }
}

#[test]
fn engines_profiles_in_all_numbers() {
    let mut random = Random(1);
    for (_, profile) in profiles::of_engines() {
        let calls = random.calls(&profile, Abi::X86_64, 6000);
        check(&profile, Abi::X86_64, &calls);
        for abi in [Abi::X86_64, Abi::X32, Abi::X86, Abi::Arm] {
            let base = if abi == Abi::X32 { 0x4000_0000 } else { 0 };
            let calls: Vec<Call> = (0..600)
                .map(|number| on(abi, base + number, [0; 6]))
                .collect();
            check(&profile, Abi::X86_64, &calls);
        }
    }
}

/// Of each kind of condition one, on the first argument, and a rule without.
const CONDITIONS: [(&str, u64, u64); 8] = [
    ("SCMP_CMP_NE", 5, 0),
    ("SCMP_CMP_LT", 5, 0),
    ("SCMP_CMP_LE", 5, 0),
    ("SCMP_CMP_EQ", 5, 0),
    ("SCMP_CMP_GE", 0x1_0000_0005, 0),
    ("SCMP_CMP_GT", 0x1_0000_0005, 0),
    ("SCMP_CMP_MASKED_EQ", 0x1_0000_0007, 5),
    ("", 0, 0),
];

/// On both sides of each boundary of the conditions, in both halves.
const ARGUMENTS: [u64; 10] = [
    0,
    4,
    5,
    6,
    7,
    0x1_0000_0004,
    0x1_0000_0005,
    0x1_0000_0006,
    u32::MAX as u64,
    u64::MAX,
];

/// All calls of all machines that one filter covers, under rules that name every call there is: the
/// search by number must end at the right one for each.
#[test]
fn every_call_with_every_kind_of_condition() {
    let names: Vec<&str> = NAMES.keys().copied().collect();
    for shift in 0..CONDITIONS.len() {
        let rules: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let errno = 1 + index % 120;
                let (operator, value, second) = CONDITIONS[(index + shift) % CONDITIONS.len()];
                let args = match operator {
                    "" => json!([]),
                    _ => json!([{"index": 0, "value": value, "valueTwo": second, "op": operator}]),
                };
                json!({"names": [name], "action": "SCMP_ACT_ERRNO",
                    "errnoRet": errno, "args": args})
            })
            .collect();
        // A quarter at a time, since a filter has 4,096 instructions at most.
        for rules in rules.chunks(rules.len().div_ceil(4)) {
            let profile = parsed(&json!({"defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules}));
            let plan = plan(&profile, Some(Abi::X86_64), UnknownNames::Skipped);
            assert!(plan.is_ok(), "{plan:?}");
            let mut calls = Vec::new();
            for abi in [Abi::X86_64, Abi::X32, Abi::X86] {
                let base = if abi == Abi::X32 { 0x4000_0000 } else { 0 };
                let numbers = (0..560).filter(|number| (*number as usize + shift) % 8 < 2);
                for number in numbers {
                    calls.extend(
                        ARGUMENTS.map(|value| on(abi, base + number, [value, 0, 0, 0, 0, 0])),
                    );
                }
            }
            check(&profile, Abi::X86_64, &calls);
        }
    }
}

fn on(abi: Abi, number: u32, args: [u64; 6]) -> Call {
    Call {
        arch: abi.audit_arch(),
        number,
        args,
    }
}

/// The verdict on a call by name, `first` and `second` its arguments.
fn verdict(seccomp: &serde_json::Value, abi: Abi, name: &str, first: u64, second: u64) -> u32 {
    let number = model::number(abi, name).unwrap();
    let plan = plan(&parsed(seccomp), Some(Abi::X86_64), UnknownNames::Skipped).unwrap();
    run(&plan.program, &on(abi, number, [first, second, 0, 0, 0, 0])).0
}

#[test]
fn a_rule_that_says_the_default_is_none() {
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["setns"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["setns"], "action": "SCMP_ACT_ALLOW"}
    ]});
    assert_eq!(verdict(&profile, Abi::X86_64, "setns", 0, 0), ALLOW);
}

#[test]
fn of_two_rules_without_arguments_the_first_wins() {
    let allow = json!({"names": ["setns"], "action": "SCMP_ACT_ALLOW"});
    let deny = json!({"names": ["setns"], "action": "SCMP_ACT_ERRNO"});
    let some = json!({"names": ["setns"], "action": "SCMP_ACT_TRAP",
        "args": [{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]});
    for (rules, expected) in [
        ([&allow, &deny, &some], ALLOW),
        ([&deny, &allow, &some], EPERM),
        ([&some, &deny, &allow], EPERM),
    ] {
        let profile = json!({"defaultAction": "SCMP_ACT_KILL", "syscalls": rules});
        assert_eq!(verdict(&profile, Abi::X86_64, "setns", 5, 0), expected);
    }
}

#[test]
fn sockets_of_32_bit_x86_have_two_ways() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86"],
    "syscalls": [
        {"names": ["socket", "semop"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["bind"], "action": "SCMP_ACT_ERRNO",
         "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}]}
    ]});
    for (name, first, expected) in [
        ("socket", 0, EPERM),
        ("socketcall", 1, EPERM),
        ("socketcall", 2, EPERM),
        ("socketcall", 3, ALLOW),
        ("bind", 7, EPERM),
        ("bind", 8, ALLOW),
        ("ipc", 1, EPERM),
        // A version in the upper half, which the kernel cuts off.
        ("ipc", 0x1_0001, EPERM),
        ("ipc", 2, ALLOW),
    ] {
        let got = verdict(&profile, Abi::X86, name, first, 0);
        assert_eq!(got, expected, "{name} {first}");
    }
}

/// The kernel takes 32 bits of the register: with more set, it is the same call.
#[test]
fn sockets_of_64_bit_machines_have_two_ways() {
    let profile = parsed(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["socket", "semop"], "action": "SCMP_ACT_ERRNO"}
    ]}));
    for abi in [Abi::Ppc64le, Abi::S390x] {
        let plan = plan(&profile, Some(abi), UnknownNames::Skipped).unwrap();
        for (name, first, expected) in [
            ("socket", 0, EPERM),
            ("socketcall", 1, EPERM),
            ("socketcall", 0x1_0000_0001, EPERM),
            ("socketcall", 2, ALLOW),
            ("ipc", 0x1_0001_0001, EPERM),
            ("ipc", 2, ALLOW),
        ] {
            let number = model::number(abi, name).unwrap();
            let call = on(abi, number, [first, 0, 0, 0, 0, 0]);
            assert_eq!(
                run(&plan.program, &call).0,
                expected,
                "{abi:?} {name} {first}"
            );
        }
    }
}

#[test]
fn narrow_machines_compare_halves() {
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 0xffff_ffff_u32, "op": "SCMP_CMP_EQ"}]}]});
    for (abi, expected) in [(Abi::X86_64, EPERM), (Abi::X32, ALLOW), (Abi::X86, ALLOW)] {
        assert_eq!(
            verdict(&profile, abi, "personality", u64::MAX, 0),
            expected,
            "{abi:?}"
        );
        assert_eq!(
            verdict(&profile, abi, "personality", 0xffff_ffff, 0),
            ALLOW,
            "{abi:?}"
        );
    }
}

#[test]
fn two_conditions_on_one_argument_are_alternatives() {
    let rule = |second: u8| {
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 5, "op": "SCMP_CMP_EQ"},
                {"index": second, "value": 9, "op": "SCMP_CMP_EQ"}
            ]}
        ]})
    };
    for (profile, first, second, expected) in [
        (rule(1), 5, 9, ALLOW),
        (rule(1), 5, 0, EPERM),
        (rule(0), 5, 0, ALLOW),
        (rule(0), 9, 0, ALLOW),
        (rule(0), 7, 9, EPERM),
    ] {
        assert_eq!(
            verdict(&profile, Abi::X86_64, "kill", first, second),
            expected
        );
    }
}

#[test]
fn newer_calls_do_not_exist() {
    let profile = |action: &str, errno: Option<u32>| {
        json!({"defaultAction": action, "defaultErrnoRet": errno,
            "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{"names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW"}]})
    };
    let last = |profile, name| verdict(profile, Abi::X86_64, name, 0, 0);
    let usual = profile("SCMP_ACT_ERRNO", None);
    assert_eq!(last(&usual, "openat2"), ALLOW);
    assert_eq!(last(&usual, "close_range"), EPERM);
    assert_eq!(last(&usual, "pidfd_getfd"), ENOSYS);
    assert_eq!(verdict(&usual, Abi::X86, "faccessat2", 0, 0), ENOSYS);
    let enosys = profile("SCMP_ACT_ERRNO", Some(38));
    assert_eq!(last(&enosys, "close_range"), ENOSYS);
    let kill = profile("SCMP_ACT_KILL_PROCESS", None);
    assert_eq!(last(&kill, "pidfd_getfd"), model::KILLED);
    let none = json!({"defaultAction": "SCMP_ACT_ERRNO"});
    assert_eq!(last(&none, "pidfd_getfd"), EPERM);
}

#[test]
fn foreign_machines_are_killed() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_ARM"]});
    let plan = plan(&parsed(&profile), Some(Abi::X86_64), UnknownNames::Skipped).unwrap();
    let verdict = |abi, number| run(&plan.program, &on(abi, number, [0; 6])).0;
    assert_eq!(verdict(Abi::X86_64, 0), ALLOW);
    // A tracer's way to skip a call.
    assert_eq!(verdict(Abi::X86_64, u32::MAX), ALLOW);
    for (abi, number) in [
        (Abi::X32, 0x4000_0000),
        (Abi::X32, 0xffff_fffe),
        (Abi::X86, 0),
        (Abi::Arm, 0),
        (Abi::Aarch64, 0),
    ] {
        assert_eq!(verdict(abi, number), model::KILLED, "{abi:?}");
    }
    assert_eq!(plan.abis, [Abi::X86_64]);
    assert_eq!(
        plan.notes,
        ["linux.seccomp.architectures[0]: Arm does not run on x86_64"]
    );
}

#[test]
fn what_would_not_fit_is_refused() {
    let conditions = |n: u64| {
        let rules = (0..n).map(|value| {
            json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]})
        });
        let rules: Vec<_> = rules.collect();
        parsed(&json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}))
    };
    let most = plan(&conditions(800), Some(Abi::X86_64), UnknownNames::Skipped).unwrap();
    assert!(
        (4000..=4096).contains(&most.program.len()),
        "{}",
        most.program.len()
    );
    let error = plan(&conditions(900), Some(Abi::X86_64), UnknownNames::Skipped).unwrap_err();
    assert_eq!(
        error.to_string(),
        "linux.seccomp: the filter has 4514 instructions, more than the kernel's 4096"
    );
    // Instructions that are far away can still be reached.
    let calls: Vec<Call> = (0..600)
        .map(|n| on(Abi::X86_64, n, [0, u64::from(n), 0, 0, 0, 0]))
        .collect();
    check(&conditions(800), Abi::X86_64, &calls);
    assert_eq!(
        plan(&conditions(1), None, UnknownNames::Skipped),
        Err(Error::Machine)
    );
}

#[test]
fn names_times_alternatives_are_bounded() {
    let profile = |names: usize, alternatives: usize| {
        let condition = json!({"index": 0, "value": 7, "op": "SCMP_CMP_EQ"});
        let rule = json!({"names": vec!["read"; names], "action": "SCMP_ACT_ERRNO",
            "args": vec![condition; alternatives]});
        parsed(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    };
    let plan = |profile| plan(&profile, Some(Abi::X86_64), UnknownNames::Skipped);
    assert_eq!(plan(profile(5000, 5000)), Err(Error::TooManyRules));
    let below = plan(profile(10, 5000));
    assert!(matches!(below, Err(Error::TooLong { .. })), "{below:?}");
}

#[test]
fn listeners_and_flags() {
    let notify = |name: &str, path: Option<&str>, flags: &[&str]| {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
            "flags": flags,
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO"},
                {"names": [name], "action": "SCMP_ACT_NOTIFY"}]});
        plan(&parsed(&profile), Some(Abi::X86_64), UnknownNames::Skipped)
    };
    let text = |result: Result<_, Error>| result.map(drop).unwrap_err().to_string();
    assert_eq!(
        text(notify("mount", None, &[])),
        "linux.seccomp.listenerPath: missing, though linux.seccomp.syscalls[1].action is \
         SCMP_ACT_NOTIFY"
    );
    assert_eq!(
        text(notify("write", Some("/agent"), &[])),
        "linux.seccomp.syscalls[1]: SCMP_ACT_NOTIFY cannot be used for the write syscall"
    );
    // No call of this machine, so nobody is ever notified.
    assert_eq!(notify("set_tls", None, &[]).unwrap().listener, None);
    let wait = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"];
    let notified = notify("mount", Some("/agent"), &wait).unwrap();
    let refused = (coracle_sys::Call::Seccomp, nix::errno::Errno::EACCES);
    let fault = coracle_sys::Fault::new(0, refused);
    assert_eq!(
        notified.explain(&fault).text,
        "load the seccomp filter (12 instructions for x86_64, by default allow, \
         WAIT_KILLABLE_RECV, listener to /agent): permission denied (EACCES): no CAP_SYS_ADMIN, \
         which it takes while process.noNewPrivileges is false"
    );
    let untold = notify("set_tls", Some("/agent"), &wait).unwrap();
    assert!(untold.flags.is_empty() && untold.notes.len() == 1);
    let usual = plan(
        &parsed(&json!({"defaultAction": "SCMP_ACT_ERRNO"})),
        Some(Abi::X86_64),
        UnknownNames::Skipped,
    );
    expect_test::expect![
        "load the seccomp filter (7 instructions for x86_64, by default EPERM, SPEC_ALLOW)"
    ]
    .assert_eq(&usual.unwrap().describe(0));
}
