//! `linux.resources.devices`: which devices the container may use. config-linux.md § Allowed
//! Device list, cgroup-v1/devices.rst.
//!
//! The list begins with a deny-all, since the config's list is a list of exceptions, and ends with
//! the default devices of every container. For each device and access, the last matching entry
//! decides.

use coracle_bundle::{DeviceAccess, DeviceRule, DeviceRuleKind};
use coracle_host::Host;

use super::bpf::Program;
use super::device_text::line;
use super::write::{Refused, Write};
use crate::table::{DEVICES_ALLOW, DEVICES_DENY};
use crate::{Error, Result};

/// The device filter for both versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Devices {
    /// For `devices.allow` and `devices.deny` of v1.
    pub(super) lines: Vec<Write>,
    /// For v2; `None` allows everything.
    pub(super) program: Option<Program>,
}

const LIST: &str = "linux.resources.devices";
pub(super) const ALL: DeviceAccess = DeviceAccess {
    read: true,
    write: true,
    mknod: true,
};

/// The filter for the config's `rules`.
pub(super) fn plan(rules: &[DeviceRule], host: &Host) -> Result<Devices> {
    let rules = effective(rules);
    if is_on_v1(host) {
        let mut lines = v1_memory(&rules)?.lines;
        if is_unprivileged(host) {
            lines = lines.into_iter().map(Write::if_permitted).collect();
        }
        return Ok(Devices {
            lines,
            program: None,
        });
    }
    Ok(Devices {
        lines: Vec::new(),
        program: program(&rules, host),
    })
}

/// Whether the runtime cannot set a filter. In a user namespace no device nodes can be made or
/// opened, so the container then only has those that are bind-mounted into it.
pub(super) fn is_unprivileged(host: &Host) -> bool {
    host.euid != 0 || host.in_user_namespace
}

/// Whether a v1 hierarchy filters the devices.
pub(super) fn is_on_v1(host: &Host) -> bool {
    let has = |h: &coracle_host::Hierarchy| h.controllers.iter().any(|c| c == "devices");
    host.cgroups.hierarchies.iter().any(has)
}

/// The program for the whole list; `None` if it allows everything.
pub(super) fn program(entries: &[Entry], host: &Host) -> Option<Program> {
    let rules: Vec<DeviceRule> = entries.iter().map(|entry| entry.rule).collect();
    let refused = if is_unprivileged(host) {
        Refused::Skip
    } else {
        Refused::Fail
    };
    Program::new(&reduce(&rules), refused)
}

/// The effective list, reduced; it begins with an entry for everything.
pub(super) fn reduced(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    let rules: Vec<DeviceRule> = effective(rules)
        .into_iter()
        .map(|entry| entry.rule)
        .collect();
    reduce(&rules)
}

/// A rule and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) rule: DeviceRule,
    /// Its JSON path; `None` for a default device.
    pub(super) source: Option<String>,
}

/// The whole list: a deny-all, the config's entries, the default devices.
pub(super) fn effective(rules: &[DeviceRule]) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(rules.len() + 16);
    if !rules.first().is_some_and(is_everything) {
        let rule = any(false, DeviceRuleKind::All, ALL);
        let source = Some(LIST.to_owned());
        entries.push(Entry { rule, source });
    }
    for (index, rule) in rules.iter().enumerate() {
        let source = format!("{LIST}[{index}]");
        // The kernel ignores the numbers and the access of an `a` line, so `a 1:3 r` would mean
        // everything. Two lines, for `c` and `b`, do what is meant.
        let kinds: &[DeviceRuleKind] = match rule.kind {
            DeviceRuleKind::All if !is_everything(rule) => {
                &[DeviceRuleKind::Char, DeviceRuleKind::Block]
            }
            ref kind => std::slice::from_ref(kind),
        };
        for kind in kinds {
            let rule = DeviceRule {
                kind: *kind,
                ..*rule
            };
            let source = Some(source.clone());
            entries.push(Entry { rule, source });
        }
    }
    entries.extend(defaults().map(|rule| Entry { rule, source: None }));
    entries
}

/// The default accesses of every container: mknod of any device (which does not allow to open it),
/// the devices of config-linux.md § Default Devices, pseudo-terminals, and tun, which engines
/// expect.
pub(super) fn defaults() -> impl Iterator<Item = DeviceRule> {
    let mknod = DeviceAccess {
        mknod: true,
        ..DeviceAccess::default()
    };
    let numbers = [
        (1, Some(3)),    // null
        (1, Some(5)),    // zero
        (1, Some(7)),    // full
        (1, Some(8)),    // random
        (1, Some(9)),    // urandom
        (5, Some(0)),    // tty
        (5, Some(1)),    // console
        (5, Some(2)),    // ptmx
        (136, None),     // pts
        (10, Some(200)), // tun
    ];
    let nodes = numbers.into_iter().map(|(major, minor)| DeviceRule {
        major: Some(major),
        minor,
        ..any(true, DeviceRuleKind::Char, ALL)
    });
    [
        any(true, DeviceRuleKind::Char, mknod),
        any(true, DeviceRuleKind::Block, mknod),
    ]
    .into_iter()
    .chain(nodes)
}

pub(super) fn any(allow: bool, kind: DeviceRuleKind, access: DeviceAccess) -> DeviceRule {
    DeviceRule {
        allow,
        kind,
        major: None,
        minor: None,
        access,
    }
}

pub(super) fn is_everything(rule: &DeviceRule) -> bool {
    *rule == any(rule.allow, DeviceRuleKind::All, ALL)
}

/// The entries as v1 lines in their order, with additional lines where the kernel needs them, and
/// the kernel's state after them.
pub(super) fn v1_memory(entries: &[Entry]) -> Result<V1Memory> {
    let mut memory = V1Memory {
        allows: true,
        exceptions: Vec::new(),
        lines: Vec::new(),
    };
    for entry in entries {
        memory.add(entry)?;
    }
    Ok(memory)
}

/// The kernel's state after these lines: a verdict and exceptions from it. It removes an exception
/// only by its exact numbers, so it would silently ignore a `deny` of a part of what was allowed.
#[derive(Debug)]
pub(super) struct V1Memory {
    pub(super) allows: bool,
    pub(super) exceptions: Vec<DeviceRule>,
    lines: Vec<Write>,
}

impl V1Memory {
    fn add(&mut self, entry: &Entry) -> Result<()> {
        let rule = &entry.rule;
        let ours = entry.source.is_none();
        if is_everything(rule) {
            self.allows = rule.allow;
            self.exceptions.clear();
            self.lines.push(v1_write(rule, entry));
            Ok(())
        } else if rule.allow == self.allows {
            self.take_back(entry)
        } else {
            // A default is added only if the config does not cover it.
            if !(ours && self.exceptions.iter().any(|known| covers(known, rule))) {
                self.exceptions.push(*rule);
                self.lines.push(v1_write(rule, entry));
            }
            Ok(())
        }
    }

    /// An entry with the general verdict removes exceptions.
    fn take_back(&mut self, entry: &Entry) -> Result<()> {
        let rule = &entry.rule;
        let whole = any_use(rule);
        let ended = |exception: &DeviceRule| covers(&whole, &any_use(exception));
        let touched: Vec<DeviceRule> = self
            .exceptions
            .iter()
            .filter(|exception| overlap(exception, rule))
            .copied()
            .collect();
        let representable = touched.iter().all(ended);
        match &entry.source {
            Some(source) if !representable => return Err(v1_cannot(source, rule)),
            // The config takes precedence over the defaults.
            None if !representable || touched.is_empty() => return Ok(()),
            _ => {}
        }
        self.lines.push(v1_write(rule, entry));
        for exception in touched
            .iter()
            .filter(|exception| !same_numbers(exception, rule))
        {
            let narrowed = DeviceRule {
                allow: rule.allow,
                access: rule.access,
                ..*exception
            };
            self.lines.push(v1_write(&narrowed, entry));
        }
        for exception in self
            .exceptions
            .iter_mut()
            .filter(|exception| ended(exception))
        {
            exception.access = without(exception.access, rule.access);
        }
        Ok(())
    }
}

/// The same devices, with every access.
fn any_use(rule: &DeviceRule) -> DeviceRule {
    DeviceRule {
        access: ALL,
        ..*rule
    }
}

fn v1_write(rule: &DeviceRule, entry: &Entry) -> Write {
    match &entry.source {
        Some(source) => v1_line(rule, source),
        // A parent may deny a default device.
        None => v1_line(rule, LIST).if_permitted(),
    }
}

/// The line of v1 for `rule`.
pub(super) fn v1_line(rule: &DeviceRule, source: &str) -> Write {
    let row = if rule.allow {
        &DEVICES_ALLOW
    } else {
        &DEVICES_DENY
    };
    Write::new(&row.v1, line(rule), source)
}

fn v1_cannot(source: &str, rule: &DeviceRule) -> Error {
    let (verb, past) = if rule.allow {
        ("allow", "deny")
    } else {
        ("deny", "allow")
    };
    let reason = format!(
        "cgroup v1 cannot {verb} {}, a part of what an earlier entry does {past}",
        line(rule)
    );
    Error::config(source, reason)
}

/// A shorter list with the same verdicts, by two simple rules; it begins with an entry for
/// everything.
fn reduce(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    let mut kept: Vec<DeviceRule> = Vec::new();
    for rule in rules {
        if is_everything(rule) {
            kept.clear();
            kept.push(*rule);
        } else if kept
            .iter()
            .any(|k| k.allow != rule.allow && overlap(k, rule))
        {
            // An entry changes nothing if all earlier entries agree with it.
            kept.push(*rule);
        }
    }
    let mut reduced: Vec<DeviceRule> = Vec::with_capacity(kept.len());
    for rule in kept.iter().rev() {
        if !reduced.iter().any(|later| covers(later, rule)) {
            reduced.push(*rule);
        }
    }
    reduced.reverse();
    reduced
}

/// Whether `wide` matches everything that `narrow` matches.
fn covers(wide: &DeviceRule, narrow: &DeviceRule) -> bool {
    let number = |wide: Option<u32>, narrow: Option<u32>| wide.is_none() || wide == narrow;
    (wide.kind == DeviceRuleKind::All || wide.kind == narrow.kind)
        && number(wide.major, narrow.major)
        && number(wide.minor, narrow.minor)
        && without(narrow.access, wide.access) == DeviceAccess::default()
}

/// Whether both match some access to some device.
fn overlap(one: &DeviceRule, other: &DeviceRule) -> bool {
    let all = DeviceRuleKind::All;
    let number = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    (one.kind == all || other.kind == all || one.kind == other.kind)
        && number(one.major, other.major)
        && number(one.minor, other.minor)
        && without(one.access, other.access) != one.access
}

pub(super) fn same_numbers(one: &DeviceRule, other: &DeviceRule) -> bool {
    (one.kind, one.major, one.minor) == (other.kind, other.major, other.minor)
}

pub(super) fn without(access: DeviceAccess, taken: DeviceAccess) -> DeviceAccess {
    DeviceAccess {
        read: access.read && !taken.read,
        write: access.write && !taken.write,
        mknod: access.mknod && !taken.mknod,
    }
}

#[cfg(test)]
mod tests {
    use super::super::bpf::interpreter;
    use super::super::write::text;
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    type Use = (i32, fn(DeviceAccess) -> bool);
    const USES: [Use; 3] = [
        (1, |access| access.mknod),
        (2, |access| access.read),
        (4, |access| access.write),
    ];

    /// `deny a rwm`, `allow c 1:3 rw`.
    fn rule(text: &str) -> DeviceRule {
        let mut words = text.split(' ');
        let allow = words.next() == Some("allow");
        let kind = match words.next() {
            Some("a") => DeviceRuleKind::All,
            Some("c") => DeviceRuleKind::Char,
            _ => DeviceRuleKind::Block,
        };
        let rest: Vec<&str> = words.collect();
        let (numbers, access) = match rest.as_slice() {
            [numbers, access] => (*numbers, *access),
            _ => ("*:*", rest[0]),
        };
        let (major, minor) = numbers.split_once(':').unwrap();
        DeviceRule {
            allow,
            kind,
            major: major.parse().ok(),
            minor: minor.parse().ok(),
            access: DeviceAccess {
                read: access.contains('r'),
                write: access.contains('w'),
                mknod: access.contains('m'),
            },
        }
    }

    fn rules(texts: &[&str]) -> Vec<DeviceRule> {
        texts.iter().map(|text| rule(text)).collect()
    }

    fn v1(texts: &[&str]) -> String {
        match v1_memory(&effective(&rules(texts))) {
            Ok(memory) => text(&memory.lines).replace(" devices.", "\ndevices."),
            Err(error) => format!("error: {error}"),
        }
    }

    fn v2(texts: &[&str]) -> Option<Program> {
        let entries = effective(&rules(texts));
        let rules: Vec<DeviceRule> = entries.iter().map(|entry| entry.rule).collect();
        Program::new(&reduce(&rules), Refused::Fail)
    }

    fn check(actual: &str, expected: Expect) {
        expected.assert_eq(actual);
    }

    #[test]
    fn the_usual_list_on_v1() {
        let list = ["deny a rwm", "allow c 1:5 rwm", "deny c 10:229 rwm"];
        check(
            &v1(&list),
            expect![[r#"
                devices.deny=a *:* rwm
                devices.allow=c 1:5 rwm
                devices.deny=c 10:229 rwm
                devices.allow=c *:* m (if permitted)
                devices.allow=b *:* m (if permitted)
                devices.allow=c 1:3 rwm (if permitted)
                devices.allow=c 1:7 rwm (if permitted)
                devices.allow=c 1:8 rwm (if permitted)
                devices.allow=c 1:9 rwm (if permitted)
                devices.allow=c 5:0 rwm (if permitted)
                devices.allow=c 5:1 rwm (if permitted)
                devices.allow=c 5:2 rwm (if permitted)
                devices.allow=c 136:* rwm (if permitted)
                devices.allow=c 10:200 rwm (if permitted)"#]],
        );
    }

    #[test]
    fn an_empty_list_denies_by_default() {
        assert!(v1(&[]).starts_with("devices.deny=a *:* rwm\ndevices.allow=c *:* m"));
        assert_eq!(v1(&[]), v1(&["deny a rwm"]));
        let entries = v2(&[]).unwrap().rules;
        assert_eq!(entries.first().unwrap(), "deny a *:* rwm");
        assert_eq!(entries.len(), 13);
    }

    #[test]
    fn a_privileged_container_has_no_filter() {
        assert_eq!(v1(&["allow a rwm"]), "devices.allow=a *:* rwm");
        assert_eq!(v2(&["allow a rwm"]), None);
        assert_eq!(v2(&["deny a rwm", "allow c 1:3 r", "allow a rwm"]), None);
    }

    #[test]
    fn v1_takes_back_exceptions_by_their_numbers() {
        let list = [
            "allow b 8:0 rwm",
            "allow b 8:1 r",
            "deny b 8:* w",
            "deny b 8:0 r",
        ];
        let text = v1(&list);
        let own: Vec<&str> = text.lines().filter(|line| line.contains("b 8")).collect();
        assert_eq!(
            own,
            [
                "devices.allow=b 8:0 rwm",
                "devices.allow=b 8:1 r",
                "devices.deny=b 8:* w",
                "devices.deny=b 8:0 w",
                "devices.deny=b 8:0 r",
            ]
        );
    }

    #[test]
    fn v1_refuses_what_it_cannot_hold() {
        assert_eq!(
            v1(&["deny a rwm", "allow b *:* rwm", "deny b 8:0 w"]),
            "error: config.json: linux.resources.devices[2]: \
             cgroup v1 cannot deny b 8:0 w, a part of what an earlier entry does allow"
        );
    }

    #[test]
    fn both_types_with_numbers() {
        let text = v1(&["allow a 7:3 rwm", "deny a 7:* w"]);
        let own: Vec<&str> = text.lines().filter(|line| line.contains(" 7:")).collect();
        assert_eq!(
            own,
            [
                "devices.allow=c 7:3 rwm",
                "devices.allow=b 7:3 rwm",
                "devices.deny=c 7:* w",
                "devices.deny=c 7:3 w",
                "devices.deny=b 7:* w",
                "devices.deny=b 7:3 w",
            ]
        );
        let entries = v2(&["allow a 7:3 rw"]).unwrap().rules;
        assert_eq!(entries[1..3], ["allow c 7:3 rw", "allow b 7:3 rw"]);
        assert!(v2(&["allow a 7:* rwm"]).is_some());
    }

    #[test]
    fn the_program_reads() {
        let program = Program::new(
            &rules(&["deny a rwm", "allow c 1:3 rw", "deny b 8:* m"]),
            Refused::Fail,
        );
        check(
            &program.unwrap().disassembly().join("\n"),
            expect![[r#"
                0: r2 = *(u32 *)(r1 +0)
                1: w3 = w2
                2: w3 >>= 16
                3: w2 &= 0xffff
                4: r4 = *(u32 *)(r1 +4)
                5: r5 = *(u32 *)(r1 +8)
                6: if w2 != 1 goto +6
                7: if w4 != 8 goto +5
                8: w0 = w3
                9: w0 &= 0x1
                10: if w0 == 0 goto +2
                11: w0 = 0
                12: exit
                13: if w2 != 2 goto +6
                14: if w4 != 1 goto +5
                15: if w5 != 3 goto +4
                16: w3 &= 0x1
                17: if w3 != 0 goto +2
                18: w0 = 1
                19: exit
                20: w0 = 0
                21: exit"#]],
        );
    }

    /// What the list says of one use of one device: the last entry that speaks of it.
    fn meant(rules: &[DeviceRule], kind: DeviceRuleKind, bit: usize, numbers: (u32, u32)) -> bool {
        let matches = |rule: &&DeviceRule| {
            (rule.kind == DeviceRuleKind::All || rule.kind == kind)
                && rule.major.is_none_or(|major| major == numbers.0)
                && rule.minor.is_none_or(|minor| minor == numbers.1)
                && USES[bit].1(rule.access)
        };
        rules.iter().rev().find(matches).unwrap().allow
    }

    /// What the kernel's v1 code makes of lines: security/device_cgroup.c in a few words.
    fn v1_kernel(lines: &[Write], kind: DeviceRuleKind, bit: usize, numbers: (u32, u32)) -> bool {
        let (mut default, mut exceptions) = (true, Vec::<DeviceRule>::new());
        for write in lines {
            let verb = if write.name == "devices.allow" {
                "allow"
            } else {
                "deny"
            };
            let rule = rule(&format!("{verb} {}", write.text()));
            if rule.kind == DeviceRuleKind::All {
                default = rule.allow;
                exceptions.clear();
            } else if rule.allow != default {
                exceptions.push(rule);
            } else {
                for exception in &mut exceptions {
                    if same_numbers(exception, &rule) {
                        exception.access = without(exception.access, rule.access);
                    }
                }
            }
        }
        let matches = |exception: &DeviceRule| {
            exception.kind == kind
                && exception.major.is_none_or(|major| major == numbers.0)
                && exception.minor.is_none_or(|minor| minor == numbers.1)
                && USES[bit].1(exception.access)
        };
        exceptions.iter().any(matches) != default
    }

    fn classes() -> Vec<(DeviceRuleKind, i32, (u32, u32))> {
        let mut classes = Vec::new();
        for (kind, number) in [(DeviceRuleKind::Block, 1), (DeviceRuleKind::Char, 2)] {
            for major in [0, 1, 2, 5, 10, 136, u32::MAX] {
                for minor in [0, 1, 2, 3, 200, u32::MAX] {
                    classes.push((kind, number, (major, minor)));
                }
            }
        }
        classes
    }

    /// All lists of up to two rules from rules of all kinds, in all uses of devices that they do
    /// and do not name.
    #[test]
    fn every_short_list() {
        let mut rules = Vec::new();
        for verb in ["allow", "deny"] {
            for kind in ["a", "b", "c"] {
                for access in ["r", "w", "m", "rw", "rwm"] {
                    let plain = rule(&format!("{verb} {kind} {access}"));
                    for (major, minor) in [
                        (None, None),
                        (Some(1), None),
                        (None, Some(3)),
                        (Some(1), Some(3)),
                    ] {
                        rules.push(DeviceRule {
                            major,
                            minor,
                            ..plain
                        });
                    }
                }
            }
        }
        let numbers = [(1, 3), (1, 4), (2, 3), (2, 4)];
        let mut lists: Vec<Vec<DeviceRule>> = vec![Vec::new()];
        lists.extend(rules.iter().map(|one| vec![*one]));
        for one in &rules {
            lists.extend(rules.iter().map(|other| vec![*one, *other]));
        }
        for list in lists {
            let list: Vec<DeviceRule> = effective(&list).iter().map(|entry| entry.rule).collect();
            let program = Program::new(&reduce(&list), Refused::Fail);
            for (kind, number) in [(DeviceRuleKind::Block, 1), (DeviceRuleKind::Char, 2)] {
                for pair in numbers {
                    let meant = [0, 1, 2].map(|bit| meant(&list, kind, bit, pair));
                    for uses in 1..8 {
                        let expected = (0..3).all(|bit| uses & USES[bit].0 == 0 || meant[bit]);
                        let answer = program
                            .as_ref()
                            .is_none_or(|program| interpreter::run(program, number, uses, pair));
                        assert_eq!(answer, expected, "{list:?}: {kind:?} {uses} {pair:?}");
                    }
                }
            }
        }
    }

    prop_compose! {
        fn a_rule()(
            allow: bool,
            kind in prop_oneof![Just("a"), Just("b"), Just("c")],
            major in prop::option::of(0u32..3),
            minor in prop::option::of(0u32..3),
            access in prop_oneof![Just("r"), Just("w"), Just("m"), Just("rw"), Just("rwm")],
        ) -> DeviceRule {
            DeviceRule {
                major,
                minor,
                ..rule(&format!("{} {kind} {access}", if allow { "allow" } else { "deny" }))
            }
        }
    }

    proptest! {
        #[test]
        fn the_program_says_what_the_list_means(list in prop::collection::vec(a_rule(), 0..8)) {
            let entries = effective(&list);
            let list: Vec<DeviceRule> = entries.iter().map(|entry| entry.rule).collect();
            let reduced = reduce(&list);
            prop_assert!(reduced.len() <= list.len());
            let program = Program::new(&reduced, Refused::Fail);
            for (kind, number, pair) in classes() {
                for uses in 1..8 {
                    let each = (0..3).filter(|bit| uses & USES[*bit].0 != 0);
                    let expected = each.clone().all(|bit| meant(&list, kind, bit, pair));
                    let answer = program.as_ref().is_none_or(|program| {
                        interpreter::run(program, number, uses, pair)
                    });
                    prop_assert_eq!(answer, expected, "{:?} {} {:?}", kind, uses, pair);
                }
            }
        }

        #[test]
        fn v1_lines_mean_the_list_or_are_refused(list in prop::collection::vec(a_rule(), 0..6)) {
            let entries = effective(&list);
            let own = entries.iter().filter(|entry| entry.source.is_some()).cloned();
            let own: Vec<Entry> = own.collect();
            if let Ok(V1Memory { lines, .. }) = v1_memory(&own) {
                let list: Vec<DeviceRule> = own.iter().map(|entry| entry.rule).collect();
                for (kind, _, pair) in classes() {
                    for bit in 0..3 {
                        let expected = meant(&list, kind, bit, pair);
                        prop_assert_eq!(v1_kernel(&lines, kind, bit, pair), expected);
                    }
                }
            }
        }
    }
}
