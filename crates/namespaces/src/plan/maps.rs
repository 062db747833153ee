//! The id maps of a new user namespace and which process may write them; see user_namespaces(7).

use crate::Error;
use coracle_bundle::{IdMapping, IdMappings, Linux, Namespace};
use coracle_host::{Host, Setgroups};
use coracle_sys::Capability;
use std::path::PathBuf;

/// The kernel accepts a map only as one write of less than a page.
const BYTES: usize = 4095;

/// The maps of a new user namespace, in the order of writing: setgroups, gid, uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maps {
    /// uid_map.
    pub uid: IdMap,
    /// gid_map.
    pub gid: IdMap,
    /// `Denied` is written to /proc/PID/setgroups before; else it stays as it is.
    pub setgroups: Setgroups,
}

/// One map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// The text of the file: lines of `container host size`.
    pub lines: String,
    /// Which process writes it.
    pub how: How,
}

/// Which process writes a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// The runtime, to /proc/PID/uid_map or gid_map.
    Direct,
    /// newuidmap(1) or newgidmap(1), by absolute path; the pid goes before the arguments.
    Helper {
        /// Absolute.
        program: PathBuf,
        /// `container host size` of each line.
        arguments: Vec<String>,
        /// For the message if the helper refuses: the ids that the caller's lines in `/etc/subuid`
        /// or `/etc/subgid` lack; may be empty. The helper decides, since it may have ids from
        /// other sources (libsubid, nsswitch.conf(5)).
        hint: String,
    },
}

/// The inputs for one of the two maps, of users or of groups.
struct Ids<'a> {
    list: &'static str,
    helper_name: &'static str,
    file: &'static str,
    mappings: &'a [IdMapping],
    privileged: bool,
    own: u32,
    subordinate: &'a [(u32, u32)],
    helper: Option<&'a PathBuf>,
}

/// The maps, if the config creates a user namespace.
pub(super) fn plan(linux: &Linux, host: &Host) -> Result<Option<Maps>, Error> {
    if linux.namespaces.user != Namespace::New {
        return Ok(None);
    }
    let [uid, gid] = both(linux, host);
    let deny = !gid.privileged && gid.is_own();
    Ok(Some(Maps {
        uid: uid.map()?,
        gid: gid.map()?,
        setgroups: if deny {
            Setgroups::Denied
        } else {
            Setgroups::Allowed
        },
    }))
}

/// The maps of a user namespace for a caller who cannot do without one: its own id is root, and
/// the ids from 1 on are those of its lines in `/etc/subuid` and `/etc/subgid`, where the helpers
/// are that map them. `None` for a caller with CAP_SYS_ADMIN.
#[must_use]
pub fn maps_of_caller(host: &Host) -> Option<IdMappings> {
    let map = |own, ranges: &[(u32, u32)], helper: &Option<PathBuf>| {
        let ranges = if helper.is_some() { ranges } else { &[] };
        let mut map = Vec::new();
        let mut container_id: u32 = 0;
        for (host_id, size) in std::iter::once(&(own, 1)).chain(ranges) {
            let Some(end) = container_id.checked_add(*size) else {
                break;
            };
            map.push(IdMapping {
                container_id,
                host_id: *host_id,
                size: *size,
            });
            container_id = end;
        }
        map
    };
    let ids = &host.subordinate_ids;
    (!host.has(Capability::SysAdmin)).then(|| IdMappings {
        uid: map(host.euid, &ids.uid, &ids.newuidmap),
        gid: map(host.egid, &ids.gid, &ids.newgidmap),
    })
}

fn both<'a>(linux: &'a Linux, host: &'a Host) -> [Ids<'a>; 2] {
    let subordinate = &host.subordinate_ids;
    [
        Ids {
            list: "uidMappings",
            helper_name: "newuidmap",
            file: "/etc/subuid",
            mappings: &linux.id_mappings.uid,
            privileged: host.has(Capability::Setuid),
            own: host.euid,
            subordinate: &subordinate.uid,
            helper: subordinate.newuidmap.as_ref(),
        },
        Ids {
            list: "gidMappings",
            helper_name: "newgidmap",
            file: "/etc/subgid",
            mappings: &linux.id_mappings.gid,
            privileged: host.has(Capability::Setgid),
            own: host.egid,
            subordinate: &subordinate.gid,
            helper: subordinate.newgidmap.as_ref(),
        },
    ]
}

impl Ids<'_> {
    fn map(&self) -> Result<IdMap, Error> {
        let lines: String = self
            .mappings
            .iter()
            .map(|mapping| line(mapping) + "\n")
            .collect();
        let how = if self.privileged || self.is_own() {
            How::Direct
        } else {
            self.by_helper()?
        };
        if how == How::Direct && lines.len() > BYTES {
            return Err(Error::MapTooLong {
                list: self.list,
                bytes: lines.len(),
            });
        }
        Ok(IdMap { lines, how })
    }

    /// Whether this is the one map that the kernel lets any process write: its own id alone.
    fn is_own(&self) -> bool {
        matches!(self.mappings, [one] if one.size == 1 && one.host_id == self.own)
    }

    fn by_helper(&self) -> Result<How, Error> {
        let Some(program) = self.helper else {
            return Err(Error::HelperMissing {
                list: self.list,
                helper: self.helper_name,
            });
        };
        let arguments = self
            .mappings
            .iter()
            .flat_map(|one| [one.container_id, one.host_id, one.size])
            .map(|number| number.to_string())
            .collect();
        Ok(How::Helper {
            program: program.clone(),
            arguments,
            hint: self.hint().unwrap_or_default(),
        })
    }

    fn hint(&self) -> Option<String> {
        let mut mappings = self.mappings.iter().enumerate();
        let (index, mapping) = mappings.find(|(_, mapping)| !self.is_covered(mapping))?;
        let (list, own, file) = (self.list, self.own, self.file);
        let (first, size) = (mapping.host_id, mapping.size);
        let last = first.saturating_add(size.saturating_sub(1));
        let flag = file.replace("/etc/", "--add-") + "s";
        Some(format!(
            "linux.{list}[{index}]: host ids {first}+{size} are not all assigned to id {own} in \
             {file}: usermod {flag} {first}-{last} USER"
        ))
    }

    /// Whether the helpers accept the ids: the caller's own id, or ids within his ranges, which may
    /// be adjacent.
    fn is_covered(&self, mapping: &IdMapping) -> bool {
        if mapping.size == 1 && mapping.host_id == self.own {
            return true;
        }
        let end = u64::from(mapping.host_id) + u64::from(mapping.size);
        let mut next = u64::from(mapping.host_id);
        let reach = |(first, count): &(u32, u32), next: u64| {
            let (first, last) = (u64::from(*first), u64::from(*first) + u64::from(*count));
            (first <= next && next < last).then_some(last)
        };
        while next < end {
            match self.subordinate.iter().find_map(|range| reach(range, next)) {
                Some(last) => next = last,
                None => return false,
            }
        }
        true
    }
}

fn line(mapping: &IdMapping) -> String {
    format!(
        "{} {} {}",
        mapping.container_id, mapping.host_id, mapping.size
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_bundle::IdMappings;
    use coracle_host::fixture;
    use expect_test::{Expect, expect};

    fn mappings(map: &[(u32, u32, u32)]) -> Vec<IdMapping> {
        let one = |&(container_id, host_id, size)| IdMapping {
            container_id,
            host_id,
            size,
        };
        map.iter().map(one).collect()
    }

    fn check(map: &[(u32, u32, u32)], host: &Host, expected: Expect) {
        let uid = mappings(map);
        let mut linux = Linux::default();
        linux.namespaces.user = Namespace::New;
        linux.id_mappings = IdMappings {
            gid: uid.clone(),
            uid,
        };
        expected.assert_eq(&match plan(&linux, host) {
            Ok(Some(maps)) => show(&maps),
            Ok(None) => "no maps".to_owned(),
            // Cut into lines that fit.
            Err(error) => error.to_string().replace(": ", ":\n"),
        });
    }

    fn show(maps: &Maps) -> String {
        let mut text = format!("setgroups: {:?}\n", maps.setgroups);
        for map in [&maps.uid, &maps.gid] {
            text.push_str(&match &map.how {
                How::Direct => map.lines.clone(),
                How::Helper {
                    program,
                    arguments,
                    hint,
                } => {
                    // Cut into lines that fit.
                    let hint = hint.replace(": ", ":\n");
                    let arguments = arguments.join(" ");
                    let end = if hint.is_empty() { "" } else { "\n" };
                    format!("{} PID {arguments}\n{hint}{end}", program.display())
                }
            });
        }
        text
    }

    #[test]
    fn root_writes_what_it_likes() {
        check(
            &[(0, 100_000, 65_536)],
            &fixture::v2(),
            expect![[r#"
            setgroups: Allowed
            0 100000 65536
            0 100000 65536
        "#]],
        );
        check(
            &[(0, 1, 1), (1, 0, 1)],
            &fixture::v2(),
            expect![[r#"
            setgroups: Allowed
            0 1 1
            1 0 1
            0 1 1
            1 0 1
        "#]],
        );
    }

    #[test]
    fn users_write_their_own_id() {
        check(
            &[(0, 1000, 1)],
            &fixture::unprivileged(),
            expect![[r#"
            setgroups: Denied
            0 1000 1
            0 1000 1
        "#]],
        );
    }

    #[test]
    fn users_have_helpers_for_more() {
        let mut host = fixture::unprivileged();
        check(
            &[(0, 1000, 1), (1, 100_000, 65_536)],
            &host,
            expect![[r#"
            setgroups: Allowed
            /usr/bin/newuidmap PID 0 1000 1 1 100000 65536
            /usr/bin/newgidmap PID 0 1000 1 1 100000 65536
        "#]],
        );
        check(
            &[(0, 1000, 1), (1, 100_000, 65_537)],
            &host,
            expect![[r#"
            setgroups: Allowed
            /usr/bin/newuidmap PID 0 1000 1 1 100000 65537
            linux.uidMappings[1]:
            host ids 100000+65537 are not all assigned to id 1000 in /etc/subuid:
            usermod --add-subuids 100000-165536 USER
            /usr/bin/newgidmap PID 0 1000 1 1 100000 65537
            linux.gidMappings[1]:
            host ids 100000+65537 are not all assigned to id 1000 in /etc/subgid:
            usermod --add-subgids 100000-165536 USER
        "#]],
        );
        host.subordinate_ids.uid.push((165_536, 1));
        host.subordinate_ids.gid.push((165_536, 1));
        check(
            &[(0, 1000, 1), (1, 100_000, 65_537)],
            &host,
            expect![[r#"
            setgroups: Allowed
            /usr/bin/newuidmap PID 0 1000 1 1 100000 65537
            /usr/bin/newgidmap PID 0 1000 1 1 100000 65537
        "#]],
        );
        host.subordinate_ids.newgidmap = None;
        check(
            &[(0, 1000, 1), (1, 100_000, 9)],
            &host,
            expect![[r#"
                linux.gidMappings:
                more than the caller's own id needs newgidmap, missing here (package uidmap)"#]],
        );
    }

    #[test]
    fn maps_of_who_needs_some() {
        assert_eq!(maps_of_caller(&fixture::v2()), None);
        let mut host = fixture::unprivileged();
        host.subordinate_ids.uid = vec![(100_000, 65_536), (300_000, 10)];
        host.subordinate_ids.newgidmap = None;
        let maps = maps_of_caller(&host).unwrap();
        let uid = [(0, 1000, 1), (1, 100_000, 65_536), (65_537, 300_000, 10)];
        assert_eq!(maps.uid, mappings(&uid));
        assert_eq!(maps.gid, mappings(&[(0, 1000, 1)]));
    }

    #[test]
    fn longest_map() {
        let map = |step: u32| {
            (0..340)
                .map(|id| (id, id * step + 70_000, 1))
                .collect::<Vec<_>>()
        };
        let mut linux = Linux::default();
        linux.namespaces.user = Namespace::New;
        linux.id_mappings = IdMappings {
            uid: mappings(&map(1)),
            gid: mappings(&map(1)),
        };
        assert!(plan(&linux, &fixture::v2()).is_ok());
        check(
            &map(90_000),
            &fixture::v2(),
            expect![[r#"
            linux.uidMappings:
            the map is 4867 bytes of text, the kernel takes at most 4095"#]],
        );
    }

    #[test]
    fn maps_belong_to_a_new_namespace() {
        let mut linux = Linux::default();
        assert!(matches!(plan(&linux, &fixture::v2()), Ok(None)));
        linux.namespaces.user = Namespace::Join {
            path: "/u".into(),
            index: 0,
        };
        linux.id_mappings.uid = mappings(&[(0, 0, 1)]);
        assert!(matches!(plan(&linux, &fixture::v2()), Ok(None)));
    }
}
