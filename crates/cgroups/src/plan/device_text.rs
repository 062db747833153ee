//! Device rules as text.

use coracle_bundle::{DeviceAccess, DeviceRule, DeviceRuleKind};

/// The numbers of a rule: `1:3`, `136:*`.
pub(super) fn numbers_text(rule: &DeviceRule) -> String {
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
    format!("{}:{}", number(rule.major), number(rule.minor))
}

/// A line in the format of the v1 files: `c 1:3 rwm`.
pub(super) fn line(rule: &DeviceRule) -> String {
    let kind = match rule.kind {
        DeviceRuleKind::All => 'a',
        DeviceRuleKind::Char => 'c',
        DeviceRuleKind::Block => 'b',
    };
    format!("{kind} {} {}", numbers_text(rule), access_text(rule.access))
}

/// The access of a rule: `rwm`.
pub(super) fn access_text(access: DeviceAccess) -> String {
    let letters = [(access.read, 'r'), (access.write, 'w'), (access.mknod, 'm')];
    letters
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, letter)| *letter)
        .collect()
}
