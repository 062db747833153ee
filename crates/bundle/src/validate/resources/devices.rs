//! `devices`: the list of rules, config-linux.md § Allowed Device list.

use crate::error::{At, Error, Shown};
use crate::{DeviceAccess, DeviceRule, DeviceRuleKind};
use oci_spec::runtime as oci;
use oci_spec::runtime::LinuxDeviceType as Type;

/// Validates the rules, in listed order: the last one that matches decides.
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
    Ok(DeviceRule {
        allow: raw.allow(),
        kind,
        major: number(raw.major(), at.key("major"))?,
        minor: number(raw.minor(), at.key("minor"))?,
        access: access(
            raw.access().as_deref().unwrap_or_default(),
            at.key("access"),
        )?,
    })
}

/// Validates a device number; -1 matches any.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{refused, with};
    use serde_json::json;

    #[test]
    fn rules() {
        let at = "/linux/resources/devices";
        let place = "linux.resources.devices[0]";
        refused(&[
            (
                at,
                json!([{"access": "rwm"}]),
                &format!("{place}.allow: required, but missing"),
            ),
            (
                at,
                json!([{"allow": false}]),
                &format!("{place}.access: empty, expected some of the letters rwm"),
            ),
            (
                at,
                json!([{"allow": false, "access": ""}]),
                &format!("{place}.access: empty, expected some of the letters rwm"),
            ),
            (
                at,
                json!([{"allow": false, "access": "rwx"}]),
                &format!("{place}.access: \"rwx\" has other letters than rwm"),
            ),
            (
                at,
                json!([{"allow": true, "access": "r", "type": "u"}]),
                &format!("{place}.type: \"u\" is not one of a, b, c"),
            ),
            (
                at,
                json!([{"allow": true, "access": "r", "type": "p"}]),
                &format!("{place}.type: \"p\" is not one of a, b, c"),
            ),
            (
                at,
                json!([{"allow": true, "access": "r", "type": "c", "major": -2}]),
                &format!("{place}.major: -2 is neither a device number nor -1"),
            ),
            (
                at,
                json!([{"allow": true, "access": "r", "type": "c", "minor": 4_294_967_296_u64}]),
                &format!("{place}.minor: 4294967296 is neither a device number nor -1"),
            ),
        ]);
        let list = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": 8, "minor": -1, "access": "mr"},
            {"allow": true, "major": 8, "access": "r"}
        ]);
        let rules = with(at, list).linux.resources.devices;
        let all = DeviceAccess {
            read: true,
            write: true,
            mknod: true,
        };
        let deny = DeviceRule {
            allow: false,
            kind: DeviceRuleKind::All,
            major: None,
            minor: None,
            access: all,
        };
        assert_eq!(rules[0], deny);
        assert_eq!(
            (rules[1].kind, rules[1].major),
            (DeviceRuleKind::Block, Some(8))
        );
        assert_eq!((rules[1].minor, rules[1].access.write), (None, false));
        assert_eq!(
            (rules[2].kind, rules[2].major),
            (DeviceRuleKind::All, Some(8))
        );
    }
}
