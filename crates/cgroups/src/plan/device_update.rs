//! A new device list for a running container: the changes and their undo.
//!
//! Only differences are written, so that a device that stays allowed is never denied in between.
//! The exception is a v1 list whose general verdict changes from allow to deny: the kernel then
//! drops all exceptions, and they are added line by line.

use coracle_bundle::{DeviceAccess, DeviceRule, DeviceRuleKind};
use coracle_host::Host;

use super::bpf::Program;
use super::devices::{
    ALL, V1Memory, any, defaults, effective, is_everything, is_on_v1, is_unprivileged, program,
    same_numbers, v1_line, v1_memory, without,
};
use super::write::Write;
use crate::Result;

const SOURCE: &str = "linux.resources.devices";

/// What is done to the device filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceUpdate {
    /// It stays.
    #[default]
    Keep,
    /// Lines for a v1 list.
    Lines {
        /// From the old list to the new one.
        forth: Vec<Write>,
        /// And back.
        back: Vec<Write>,
    },
    /// The program of a v2 cgroup.
    Program {
        /// The program that coracle had attached; `None` if all was allowed.
        old: Option<Program>,
        /// The program that replaces it.
        new: Option<Program>,
    },
}

/// Plans the change from the list `old` to the list `requested`.
pub(super) fn plan(
    old: &[DeviceRule],
    requested: &[DeviceRule],
    host: &Host,
) -> Result<DeviceUpdate> {
    if !has_effect(requested) || old == requested {
        return Ok(DeviceUpdate::Keep);
    }
    let (old, new) = (effective(old), effective(requested));
    if is_on_v1(host) {
        let (old, new) = (v1_memory(&old)?, v1_memory(&new)?);
        let soften = |lines: Vec<Write>| match is_unprivileged(host) {
            true => lines.into_iter().map(Write::if_permitted).collect(),
            false => lines,
        };
        return Ok(DeviceUpdate::Lines {
            forth: soften(transition(&old, &new)),
            back: soften(transition(&new, &old)),
        });
    }
    Ok(DeviceUpdate::Program {
        old: program(&old, host),
        new: program(&new, host),
    })
}

/// Whether the list has an effect. Kubernetes' engines send a list with only the initial deny-all
/// along with updates of other limits; it is not meant to remove devices.
pub(super) fn has_effect(requested: &[DeviceRule]) -> bool {
    requested
        .iter()
        .any(|rule| !is_everything(rule) || rule.allow)
}

/// The lines that change the kernel's state from one to the other.
fn transition(from: &V1Memory, to: &V1Memory) -> Vec<Write> {
    let before = if from.allows == to.allows {
        merged(&from.exceptions)
    } else {
        Vec::new()
    };
    let after = merged(&to.exceptions);
    let mut lines = Vec::new();
    if from.allows != to.allows {
        lines.push(write(&any(to.allows, DeviceRuleKind::All, ALL)));
    }
    let added = difference(&after, &before, !to.allows);
    let ended = difference(&before, &after, to.allows);
    // Lines that allow come first.
    let (first, second) = if to.allows {
        (ended, added)
    } else {
        (added, ended)
    };
    lines.extend(first.iter().chain(&second).map(write));
    lines
}

/// Merges exceptions with the same device numbers, as the kernel does.
fn merged(exceptions: &[DeviceRule]) -> Vec<DeviceRule> {
    let mut merged: Vec<DeviceRule> = Vec::new();
    for exception in exceptions {
        match merged
            .iter_mut()
            .find(|known| same_numbers(known, exception))
        {
            Some(known) => known.access = with(known.access, exception.access),
            None => merged.push(*exception),
        }
    }
    merged
}

/// The accesses in `these` that are not in `those`, as rules with the verdict `allow`.
fn difference(these: &[DeviceRule], those: &[DeviceRule], allow: bool) -> Vec<DeviceRule> {
    let left = these.iter().map(|rule| {
        let other = those.iter().find(|other| same_numbers(other, rule));
        let known = other.map_or_else(DeviceAccess::default, |other| other.access);
        DeviceRule {
            allow,
            access: without(rule.access, known),
            ..*rule
        }
    });
    left.filter(|rule| rule.access != DeviceAccess::default())
        .collect()
}

fn with(access: DeviceAccess, more: DeviceAccess) -> DeviceAccess {
    DeviceAccess {
        read: access.read || more.read,
        write: access.write || more.write,
        mknod: access.mknod || more.mknod,
    }
}

fn write(rule: &DeviceRule) -> Write {
    let write = v1_line(rule, SOURCE);
    // A parent may deny a default device.
    if defaults().any(|default| same_numbers(&default, rule)) {
        write.if_permitted()
    } else {
        write
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_host::fixture;

    fn allow(kind: DeviceRuleKind, major: u32, minor: Option<u32>, access: &str) -> DeviceRule {
        DeviceRule {
            allow: true,
            kind,
            major: Some(major),
            minor,
            access: DeviceAccess {
                read: access.contains('r'),
                write: access.contains('w'),
                mknod: access.contains('m'),
            },
        }
    }

    fn everything(allow: bool) -> DeviceRule {
        any(allow, DeviceRuleKind::All, ALL)
    }

    /// Forth and back on v1, a line each.
    fn v1(old: &[DeviceRule], requested: &[DeviceRule]) -> (String, String) {
        let text = |lines: &[Write]| -> String {
            let line = |write: &Write| {
                let verb = write.name.strip_prefix("devices.").unwrap();
                format!("{verb} {}; ", write.text())
            };
            lines.iter().map(line).collect()
        };
        match plan(old, requested, &fixture::hybrid()).unwrap() {
            DeviceUpdate::Lines { forth, back } => (text(&forth), text(&back)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_differences_are_written_and_what_allows_comes_first() {
        let kind = DeviceRuleKind::Char;
        let old = [
            allow(kind, 240, Some(1), "rw"),
            allow(kind, 240, Some(2), "r"),
        ];
        let new = [
            allow(kind, 240, Some(2), "rw"),
            allow(kind, 240, Some(3), "r"),
        ];
        let (forth, back) = v1(&old, &new);
        assert_eq!(forth, "allow c 240:2 w; allow c 240:3 r; deny c 240:1 rw; ");
        assert_eq!(back, "allow c 240:1 rw; deny c 240:2 w; deny c 240:3 r; ");
    }

    #[test]
    fn a_new_verdict_begins_the_list_anew() {
        let one = [allow(DeviceRuleKind::Block, 8, None, "r")];
        let (forth, back) = v1(&one, &[everything(true)]);
        assert_eq!(forth, "allow a *:* rwm; ");
        assert!(
            back.starts_with("deny a *:* rwm; allow b 8:* r; "),
            "{back}"
        );
        assert!(back.ends_with("allow c 10:200 rwm; "), "{back}");
    }

    #[test]
    fn a_list_that_says_nothing_keeps_the_filter() {
        let one = allow(DeviceRuleKind::Char, 240, Some(1), "rw");
        for host in [fixture::hybrid(), fixture::v2()] {
            for requested in [&[][..], &[everything(false)], &[everything(false), one]] {
                let old = [everything(false), one];
                assert_eq!(plan(&old, requested, &host).unwrap(), DeviceUpdate::Keep);
            }
        }
    }

    #[test]
    fn v2_has_a_program_before_and_after() {
        let one = [allow(DeviceRuleKind::Char, 240, Some(1), "rw")];
        let update = plan(&one, &[everything(true)], &fixture::v2()).unwrap();
        let DeviceUpdate::Program { old, new } = update else {
            panic!("{update:?}");
        };
        assert!(old.unwrap().rules.contains(&"allow c 240:1 rw".to_owned()));
        assert_eq!(new, None);
    }
}
