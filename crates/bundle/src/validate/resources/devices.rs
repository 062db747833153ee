//! `devices`: the list of rules, config-linux.md § Allowed Device list.

use crate::error::{At, Error, Shown};
use crate::{DeviceAccess, DeviceRule, DeviceRuleKind};
use oci_spec::runtime as oci;
use oci_spec::runtime::LinuxDeviceType as Type;

/// The rules in listed order: the last that matches decides.
pub(super) fn devices(
    raw: Option<&[oci::LinuxDeviceCgroup]>,
    at: At<'_>,
) -> Result<Vec<DeviceRule>, Error> {
    let raw = raw.unwrap_or_default().iter().enumerate();
    raw.map(|(index, entry)| rule(entry, at.index(index)))
        .collect()
}

fn rule(raw: &oci::LinuxDeviceCgroup, at: At<'_>) -> Result<DeviceRule, Error> {
    let kind = match raw.typ() {
        None | Some(Type::A) => DeviceRuleKind::All,
        Some(Type::C) => DeviceRuleKind::Char,
        Some(Type::B) => DeviceRuleKind::Block,
        Some(other @ (Type::U | Type::P)) => {
            let shown = other.as_str();
            return Err(at
                .key("type")
                .refuse(format!("\"{shown}\" is not one of a, b, c")));
        }
    };
    let rule = DeviceRule {
        allow: raw.allow(),
        kind,
        major: number(raw.major(), at.key("major"))?,
        minor: number(raw.minor(), at.key("minor"))?,
        access: access(
            raw.access().as_deref().unwrap_or_default(),
            at.key("access"),
        )?,
    };
    // The kernel of cgroup v1 would take such a rule for all devices.
    for (key, number) in [("major", rule.major), ("minor", rule.minor)] {
        if let (DeviceRuleKind::All, Some(number)) = (kind, number) {
            return Err(at
                .key(key)
                .refuse(format!("{number}: type a covers all numbers")));
        }
    }
    Ok(rule)
}

/// -1 is any.
fn number(value: Option<i64>, at: At<'_>) -> Result<Option<u32>, Error> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(at.refuse(format!("{value} is neither a device number nor -1"))),
        },
    }
}

fn access(text: &str, at: At<'_>) -> Result<DeviceAccess, Error> {
    let mut access = DeviceAccess::default();
    for letter in text.chars() {
        match letter {
            'r' => access.read = true,
            'w' => access.write = true,
            'm' => access.mknod = true,
            _ => return Err(at.refuse(format!("{} has other letters than rwm", Shown(text)))),
        }
    }
    if text.is_empty() {
        return Err(at.refuse("empty, expected some of the letters rwm"));
    }
    Ok(access)
}
