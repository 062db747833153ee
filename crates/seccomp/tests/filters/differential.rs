//! The same verdicts as libseccomp's, for whose programs profiles are written. Where ours differ on
//! purpose, the model has the expected verdict, and libseccomp's is not looked at.

use crate::interpreter::{Call, run};
use crate::model::{self, Model, NAMES};
use crate::oracle::Oracle;
use crate::profiles::{self, Random};
use coracle_bundle::{Seccomp, SeccompArchitecture as Architecture};
use coracle_seccomp::{Abi, Error, UnknownNames, plan};

/// How many profiles are made up for each family of machines.
const PROFILES: u64 = 60;
const CALLS: usize = 1500;

/// libseccomp 2.5.4 has one placeholder for both where the native machine has neither, and so takes
/// a rule for the first as one for the second.
const CONFUSED: [&str; 2] = ["sys_debug_setcontext", "switch_endian"];

/// Names whose numbers libseccomp has as we do, on all of these machines: it is older than the
/// table, and has no direct number for what 32-bit x86 does through a multiplexer.
fn shared_names(oracle: &mut Oracle, abis: &[Abi]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for name in NAMES.keys().filter(|name| !CONFUSED.contains(name)) {
        let same = abis.iter().all(|abi| {
            let theirs = oracle.number(*abi, name);
            let ours = model::number(*abi, name);
            let is_multiplexed = model::multiplexes(*abi) && model::multiplexer(name).is_some();
            is_multiplexed || u32::try_from(theirs).ok().filter(|_| theirs >= 0) == ours
        });
        if same && oracle.number(abis[0], name) != -1 {
            names.push(*name);
        }
    }
    names
}

/// Compares the verdicts on all calls; returns how many of them libseccomp's filter covers.
fn compare(oracle: &mut Oracle, profile: &Seccomp, abis: &[Abi], calls: &[Call]) -> Option<usize> {
    let native = abis[0];
    let ours = match plan(profile, Some(native), UnknownNames::Skipped) {
        Ok(plan) => plan.program,
        Err(Error::TooLong { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    let theirs = match oracle.filter(profile, abis, 1) {
        Ok(filter) => filter.program,
        // Too long, or two rules alike behind one multiplexer.
        Err(_) => return None,
    };
    let model = Model::new(profile, native);
    let mut compared = 0;
    for call in calls {
        let (ours, _) = run(&ours, call);
        let (theirs, _) = run(&theirs, call);
        match model.machine(call) {
            // It kills the thread alone.
            None => assert_eq!((ours, theirs), (model::KILLED, 0), "{call:x?}"),
            Some(abi) if model.hides(abi, call) => {
                assert_eq!(ours, model::NO_SUCH_CALL, "{call:x?}");
            }
            // libseccomp does not mask the version in the upper half.
            Some(abi)
                if model::multiplexes(abi)
                    && call.number == 117
                    && call.args[0] & 0xffff_ffff_ffff_0000 != 0 => {}
            // It compares what the kernel cuts off.
            Some(Abi::Ppc64le | Abi::S390x) if call.number == 102 && call.args[0] >> 32 != 0 => {}
            Some(_) => {
                assert_eq!(
                    ours, theirs,
                    "{call:x?}: {ours:#x}, not {theirs:#x}\n{profile:?}"
                );
                compared += 1;
            }
        }
    }
    Some(compared)
}

fn start(name: &str) -> Option<Oracle> {
    match Oracle::start(name) {
        Ok(oracle) => Some(oracle),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

#[test]
fn tables_agree() {
    let Some(mut oracle) = start("tables") else {
        return;
    };
    let mut differing = Vec::new();
    for name in NAMES.keys() {
        for abi in Abi::ALL {
            let theirs = oracle.number(abi, name);
            if theirs >= 0 && u32::try_from(theirs).ok() != model::number(abi, name) {
                differing.push(format!("{} {name} {theirs}", abi.name()));
            }
        }
    }
    expect_test::expect![[r#""#]].assert_eq(&differing.join("\n"));
}

#[test]
fn generated_profiles() {
    let Some(mut oracle) = start("generated") else {
        return;
    };
    let families: [(&[Abi], &[Architecture]); 6] = [
        (&[Abi::X86_64], &[]),
        (
            &[Abi::X86_64, Abi::X86, Abi::X32],
            &[Architecture::X86, Architecture::X32],
        ),
        (&[Abi::Aarch64, Abi::Arm], &[Architecture::Arm]),
        (&[Abi::Riscv64], &[]),
        (&[Abi::Ppc64le], &[]),
        (&[Abi::S390x], &[]),
    ];
    let (mut compared, mut profiles, mut refused) = (0, 0, 0);
    for (abis, architectures) in families {
        let names = shared_names(&mut oracle, abis);
        assert!(names.len() > 280, "{abis:?}: {}", names.len());
        for seed in 0..PROFILES {
            let mut random = Random(seed);
            // libseccomp 2.5.4 joins several comparisons of order on the same argument wrongly: of
            // `a >= 9 && b == 1` and `a >= 0 && b == 2` it makes a filter that `a = 0, b = 1`
            // meets. So it is asked about one such rule at a time; `laws` has more.
            let profile = random.profile(&names, architectures, 1);
            let calls = random.calls(&profile, abis[0], CALLS);
            match compare(&mut oracle, &profile, abis, &calls) {
                Some(count) => {
                    compared += count;
                    profiles += 1;
                }
                None => refused += 1,
            }
        }
    }
    eprintln!("{profiles} profiles, {compared} calls compared, {refused} profiles refused");
    assert!(
        profiles >= 200 && compared > 200_000,
        "{profiles} {compared} {refused}"
    );
}

#[test]
fn engines_profiles() {
    let Some(mut oracle) = start("engines") else {
        return;
    };
    let abis = [Abi::X86_64, Abi::X86, Abi::X32];
    let names = shared_names(&mut oracle, &abis);
    let mut random = Random(7);
    for (_, mut profile) in profiles::of_engines() {
        for rule in &mut profile.rules {
            rule.names.retain(|name| names.contains(&name.as_str()));
        }
        let mut calls = random.calls(&profile, Abi::X86_64, 100_000);
        for abi in abis {
            let base = if abi == Abi::X32 { 0x4000_0000 } else { 0 };
            calls.extend((0..1200).map(|number| Call {
                arch: abi.audit_arch(),
                number: base + number,
                args: [0; 6],
            }));
        }
        let compared = compare(&mut oracle, &profile, &abis, &calls);
        assert!(compared.is_some_and(|count| count > 50_000), "{compared:?}");
    }
}
