//! The configured capability sets, reduced to what the kernel will grant (config.md § Linux
//! Process).

use super::steps::{Sets, Subject};
use coracle_bundle::{CapabilitySet, capability_name};

/// The configured sets after the reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) bounding: CapabilitySet,
    pub(crate) sets: Sets,
    pub(crate) ambient: CapabilitySet,
}

/// Reduces the configured sets to what the kernel will grant, with a warning for each part that is
/// left out.
///
/// capset(2) fails as a whole if one capability is not available; the specification demands a
/// warning and the rest.
pub(crate) fn grant(subject: &Subject, warnings: &mut Vec<String>) -> Granted {
    let configured = subject.process.capabilities;
    let available = available(subject);
    let mut warn = |what: &str, missing: u64| {
        if missing != 0 {
            let names = names(CapabilitySet(missing));
            warnings.push(format!("process.capabilities{what}, left out: {names}"));
        }
    };
    let sets = [
        configured.bounding,
        configured.permitted,
        configured.effective,
        configured.inheritable,
        configured.ambient,
    ];
    let wanted = sets.iter().fold(0, |all, set| all | set.0);
    warn(": not available here", wanted & !available);
    let bounding = configured.bounding.0 & available;
    let permitted = configured.permitted.0 & available;
    let mut clip = |what: &str, configured: u64, limit: u64| {
        warn(what, configured & !limit);
        CapabilitySet(configured & limit)
    };
    let effective = configured.effective.0 & available;
    let effective = clip(".effective: not permitted", effective, permitted);
    let inheritable = configured.inheritable.0 & available;
    let inheritable = clip(
        ".inheritable: not in the bounding set",
        inheritable,
        bounding,
    );
    let ambient = configured.ambient.0 & available;
    let ambient = clip(
        ".ambient: not permitted and inheritable",
        ambient,
        permitted & inheritable.0,
    );
    let raisable = match subject.host.ambient_allowed || subject.in_new_user_namespace() {
        true => ambient.0,
        false => 0,
    };
    let ambient = clip(
        ".ambient: SECBIT_NO_CAP_AMBIENT_RAISE is set",
        ambient.0,
        raisable,
    );
    let (bounding, permitted) = (CapabilitySet(bounding), CapabilitySet(permitted));
    let sets = Sets {
        effective,
        permitted,
        inheritable,
    };
    Granted {
        bounding,
        sets,
        ambient,
    }
}

/// The numbers in a set, lowest first.
pub(crate) fn numbers(set: CapabilitySet) -> Vec<u8> {
    (0..64).filter(|number| set.0 >> number & 1 == 1).collect()
}

/// The capabilities that the process can have at most.
pub(crate) fn available(subject: &Subject) -> u64 {
    let known = up_to(subject.host.last_capability);
    match subject.in_new_user_namespace() {
        true => known,
        false => known & subject.host.capabilities,
    }
}

/// All capabilities up to the kernel's last.
pub(crate) fn up_to(last: u8) -> u64 {
    u64::MAX >> 63u8.saturating_sub(last)
}

/// The names in a set: `cap_chown,cap_kill`, or `none`.
pub(crate) fn names(set: CapabilitySet) -> String {
    if set.0 == 0 {
        return "none".to_owned();
    }
    let name = |number: u8| match capability_name(number) {
        Some(name) => name.to_ascii_lowercase(),
        None => format!("cap_{number}"),
    };
    numbers(set)
        .into_iter()
        .map(name)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{config, config_in_user_namespace, options};
    use super::*;
    use coracle_bundle::{Capabilities, Config};
    use coracle_host::Host;
    use coracle_host::fixture::{unprivileged, v2};
    use proptest::prelude::*;

    fn granted(
        configured: Capabilities,
        mut config: Config,
        host: &Host,
    ) -> (Granted, Vec<String>) {
        let mut process = config.process.take().expect("a process");
        process.capabilities = configured;
        let (mut warnings, options) = (Vec::new(), options());
        let subject = Subject {
            process: &process,
            config: &config,
            host,
            options: &options,
            groups: coracle_host::Setgroups::Allowed,
        };
        (grant(&subject, &mut warnings), warnings)
    }

    fn all(set: u64) -> Capabilities {
        let set = CapabilitySet(set);
        Capabilities {
            bounding: set,
            effective: set,
            inheritable: set,
            permitted: set,
            ambient: set,
        }
    }

    #[test]
    fn what_the_runtime_lacks_is_left_out_with_a_warning() {
        let host = Host {
            capabilities: up_to(40) & !(1 << 24),
            ..v2()
        };
        let (granted, warnings) = granted(all(1 << 24 | 1), config("", ""), &host);
        assert_eq!(granted.sets.effective, CapabilitySet(1));
        let warning = "process.capabilities: not available here, left out: cap_sys_resource";
        assert_eq!(warnings, [warning]);
    }

    #[test]
    fn sets_that_contradict_each_other_are_clipped() {
        let configured = Capabilities {
            permitted: CapabilitySet(1),
            bounding: CapabilitySet(2),
            ..all(3)
        };
        let (granted, warnings) = granted(configured, config("", ""), &v2());
        let expected = [
            "process.capabilities.effective: not permitted, left out: cap_dac_override",
            "process.capabilities.inheritable: not in the bounding set, left out: cap_chown",
            "process.capabilities.ambient: not permitted and inheritable, left out: \
             cap_chown,cap_dac_override",
        ];
        assert_eq!(warnings, expected);
        assert_eq!(granted.ambient, CapabilitySet(0));
    }

    #[test]
    fn in_a_new_user_namespace_everything_is_there() {
        let config = config_in_user_namespace("");
        let (granted, warnings) = granted(all(up_to(40)), config, &unprivileged());
        assert_eq!(granted.sets.permitted.0, up_to(40));
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn ambient_without_inheritable_is_left_out_with_a_warning() {
        let configured = Capabilities {
            inheritable: CapabilitySet(0),
            ..all(1)
        };
        let (granted, warnings) = granted(configured, config("", ""), &v2());
        let warning = "process.capabilities.ambient: not permitted and inheritable, left out: \
                       cap_chown";
        assert_eq!((granted.ambient.0, warnings), (0, vec![warning.to_owned()]));
    }

    #[test]
    fn secure_bits_of_the_runtime_are_named() {
        let host = Host {
            ambient_allowed: false,
            ..v2()
        };
        let warning = "process.capabilities.ambient: SECBIT_NO_CAP_AMBIENT_RAISE is set, left out: \
                       cap_chown";
        let (none, warnings) = granted(all(1), config("", ""), &host);
        assert_eq!((none.ambient.0, warnings), (0, vec![warning.to_owned()]));
        let (kept, warnings) = granted(all(1), config_in_user_namespace(""), &host);
        assert_eq!((kept.ambient.0, warnings), (1, Vec::new()));
    }

    proptest! {
        #[test]
        fn the_kernel_takes_what_is_granted(
            configured in prop::array::uniform5(any::<u64>()),
            own: u64,
        ) {
            let [bounding, effective, inheritable, permitted, ambient] =
                configured.map(CapabilitySet);
            let configured = Capabilities { bounding, effective, inheritable, permitted, ambient };
            let host = Host { capabilities: own & up_to(40), ..v2() };
            let (granted, _) = granted(configured, config("", ""), &host);
            let within = |set: CapabilitySet, limit: u64| set.0 & !limit == 0;
            let Sets { effective, permitted, inheritable } = granted.sets;
            prop_assert!(within(permitted, configured.permitted.0 & host.capabilities));
            prop_assert!(within(effective, configured.effective.0 & permitted.0));
            prop_assert!(within(inheritable, configured.inheritable.0 & granted.bounding.0));
            prop_assert!(within(granted.bounding, configured.bounding.0));
            let ambient = configured.ambient.0 & permitted.0 & inheritable.0;
            prop_assert!(within(granted.ambient, ambient));
        }

        #[test]
        fn numbers_are_the_bits(set: u64) {
            let sum = numbers(CapabilitySet(set)).iter().map(|number| 1_u64 << number).sum::<u64>();
            prop_assert_eq!(sum, set);
        }
    }
}
