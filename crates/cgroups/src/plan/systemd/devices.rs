//! The device filter as properties: systemd.resource-control(5), DeviceAllow=.
//!
//! systemd attaches a filter of its own in addition to coracle's, and an access needs the consent
//! of both. Its list has no denials, so it allows everything that some entry allows; coracle's
//! filter is exact.

use coracle_bundle::{DeviceRule, DeviceRuleKind};
use coracle_dbus::{Kind, Value};

use super::property::Property;
use crate::plan::device_text::access_text;
use crate::plan::devices::is_everything;

const SOURCE: &str = "linux.resources.devices";

/// Properties for a list that begins with an entry for everything.
pub(super) fn properties(rules: &[DeviceRule]) -> Vec<Property> {
    let property = |name: &str, value| Property {
        name: name.to_owned(),
        value,
        source: SOURCE.to_owned(),
    };
    let allows_all = rules
        .first()
        .is_some_and(|rule| rule.allow && is_everything(rule));
    let kind = Kind::Struct(vec![Kind::Text, Kind::Text]);
    // Without entries the policy "auto" allows everything.
    let (policy, entries) = match allows_all {
        true => ("auto", Vec::new()),
        false => (
            "strict",
            rules
                .iter()
                .filter(|rule| rule.allow)
                .flat_map(entries)
                .collect(),
        ),
    };
    vec![
        property("DevicePolicy", policy.into()),
        property("DeviceAllow", Value::Array(kind, entries)),
    ]
}

fn entries(rule: &DeviceRule) -> Vec<Value> {
    let names: &[&str] = match rule.kind {
        DeviceRuleKind::Char => &["char"],
        DeviceRuleKind::Block => &["block"],
        DeviceRuleKind::All => &["char", "block"],
    };
    let device = |name: &&str| match (rule.major, rule.minor) {
        // systemd takes the numbers from such a path without looking for the node.
        (Some(major), Some(minor)) => format!("/dev/{name}/{major}:{minor}"),
        (Some(major), None) => format!("{name}-{major}"),
        (None, _) => format!("{name}-*"),
    };
    let access = access_text(rule.access);
    let entry =
        |device: String| Value::Struct(vec![Value::Text(device), Value::Text(access.clone())]);
    names.iter().map(device).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::devices::reduced;
    use coracle_bundle::DeviceAccess;
    use expect_test::{Expect, expect};

    fn rule(allow: bool, kind: DeviceRuleKind, numbers: (Option<u32>, Option<u32>)) -> DeviceRule {
        let access = DeviceAccess {
            read: true,
            write: true,
            mknod: true,
        };
        let (major, minor) = numbers;
        DeviceRule {
            allow,
            kind,
            major,
            minor,
            access,
        }
    }

    fn check(rules: &[DeviceRule], expected: Expect) {
        let list = properties(&reduced(rules));
        let line = |property: &Property| format!("{} {}\n", property.name, property.value);
        let text: String = list.iter().map(line).collect();
        expected.assert_eq(&text.replace("), (", "),\n("));
    }

    #[test]
    fn the_default_list() {
        check(
            &[],
            expect![[r#"
                DevicePolicy 'strict'
                DeviceAllow [('char-*', 'm'),
                ('block-*', 'm'),
                ('/dev/char/1:3', 'rwm'),
                ('/dev/char/1:5', 'rwm'),
                ('/dev/char/1:7', 'rwm'),
                ('/dev/char/1:8', 'rwm'),
                ('/dev/char/1:9', 'rwm'),
                ('/dev/char/5:0', 'rwm'),
                ('/dev/char/5:1', 'rwm'),
                ('/dev/char/5:2', 'rwm'),
                ('char-136', 'rwm'),
                ('/dev/char/10:200', 'rwm')]
            "#]],
        );
    }

    #[test]
    fn everything() {
        check(
            &[rule(true, DeviceRuleKind::All, (None, None))],
            expect![[r#"
            DevicePolicy 'auto'
            DeviceAllow []
        "#]],
        );
    }

    #[test]
    fn a_denial_within_what_is_allowed_is_left_to_our_filter() {
        let rules = [
            rule(false, DeviceRuleKind::All, (None, None)),
            rule(true, DeviceRuleKind::Block, (Some(8), None)),
            rule(false, DeviceRuleKind::Block, (Some(8), Some(1))),
        ];
        let list = properties(&reduced(&rules));
        let text = list[1].value.to_string();
        assert!(text.contains("('block-8', 'rwm')"), "{text}");
        assert!(!text.contains("8:1"), "{text}");
    }
}
