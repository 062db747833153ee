//! Id maps: config-linux.md § User namespace mappings.

use super::namespaces::check_entry;
use crate::error::{At, Document, Error};
use crate::{Config, IdMapping, IdMappings, Namespace, User};
use oci_spec::runtime as oci;

/// The kernel's `UID_GID_MAP_MAX_EXTENTS`.
const MAX_MAPPINGS: usize = 340;

/// Validates a map: on either side, its ranges must end before 2^32 and must not overlap.
pub(super) fn map(raw: &[oci::LinuxIdMapping], at: At<'_>) -> Result<Vec<IdMapping>, Error> {
    let map = raw.iter().map(|range| IdMapping {
        container_id: range.container_id(),
        host_id: range.host_id(),
        size: range.size(),
    });
    check(map.collect(), at)
}

/// Checks ranges, wherever they come from.
pub(super) fn check(map: Vec<IdMapping>, at: At<'_>) -> Result<Vec<IdMapping>, Error> {
    if map.len() > MAX_MAPPINGS {
        return Err(at.refuse(format!("{} ranges, above {MAX_MAPPINGS}", map.len())));
    }
    for (index, range) in map.iter().enumerate() {
        let at = at.index(index);
        if range.size == 0 {
            return Err(at.key("size").refuse("0: a range has at least one id"));
        }
        for (key, first) in [
            ("containerID", range.container_id),
            ("hostID", range.host_id),
        ] {
            if first.checked_add(range.size).is_none() {
                let size = range.size;
                return Err(at
                    .key(key)
                    .refuse(format!("{first} + {size} is above {}", u32::MAX)));
            }
        }
    }
    check_overlap(&map, |range| range.container_id, at, "containerID")?;
    check_overlap(&map, |range| range.host_id, at, "hostID")?;
    Ok(map)
}

fn check_overlap(
    map: &[IdMapping],
    first: impl Fn(&IdMapping) -> u32,
    at: At<'_>,
    key: &str,
) -> Result<(), Error> {
    for (index, range) in map.iter().enumerate() {
        let end = |range: &IdMapping| first(range).saturating_add(range.size);
        let earlier = map.iter().take(index);
        for (other, earlier) in earlier.enumerate() {
            if first(range) < end(earlier) && first(earlier) < end(range) {
                return Err(at.index(index).key(key).refuse(format!(
                    "{} to {} overlaps with entry {other}",
                    first(range),
                    end(range).saturating_sub(1),
                )));
            }
        }
    }
    Ok(())
}

/// Validates the maps of the container's user namespace: a new one needs maps, and maps need a user
/// entry in `linux.namespaces`, new or joined.
pub(super) fn of_container(
    raw: &oci::Linux,
    user: &Namespace,
    at: At<'_>,
) -> Result<IdMappings, Error> {
    let read = |list: &Option<Vec<oci::LinuxIdMapping>>, key: &str| {
        let map = map(list.as_deref().unwrap_or_default(), at.key(key))?;
        if !map.is_empty() {
            check_entry(user, "user", at.key(key))?;
        }
        if *user == Namespace::New && map.is_empty() {
            return Err(at
                .key(key)
                .refuse("required for a new user namespace, but missing"));
        }
        Ok(map)
    };
    let mappings = IdMappings {
        uid: read(raw.uid_mappings(), "uidMappings")?,
        gid: read(raw.gid_mappings(), "gidMappings")?,
    };
    if mappings.uid.is_empty() != mappings.gid.is_empty() {
        let missing = if mappings.uid.is_empty() {
            "uidMappings"
        } else {
            "gidMappings"
        };
        return Err(at.key(missing).refuse("missing beside its twin"));
    }
    Ok(mappings)
}

/// Whether an id of the container is mapped. Without a known map every id counts as mapped.
pub(super) fn is_mapped(map: &[IdMapping], id: u32) -> bool {
    map.is_empty() || to_host(map, id, 1).is_some()
}

/// The host's id for `id`, if the whole range from it is in one range of the map.
pub(super) fn to_host(map: &[IdMapping], id: u32, size: u32) -> Option<u32> {
    map.iter().find_map(|range| {
        let offset = id.checked_sub(range.container_id)?;
        let end = u64::from(offset) + u64::from(size);
        if end > u64::from(range.size) {
            None
        } else {
            range.host_id.checked_add(offset)
        }
    })
}

impl Config {
    /// Checks that the ids of a process of `exec` are mapped.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the id.
    pub fn check_user(&self, user: &User) -> Result<(), Error> {
        let at = At::Root(Document::Process);
        check_user(user, &self.linux.id_mappings, at.key("user"))
    }
}

/// Checks that ids are mapped. setresuid(2) and setgroups(2) would only fail with EINVAL after the
/// clone.
pub(super) fn check_user(user: &User, mappings: &IdMappings, at: At<'_>) -> Result<(), Error> {
    let check = |map: &[IdMapping], name: &str, id: u32, at: At<'_>| {
        if is_mapped(map, id) {
            Ok(())
        } else {
            Err(at.refuse(format!("{id} is not mapped by linux.{name}")))
        }
    };
    check(&mappings.uid, "uidMappings", user.uid, at.key("uid"))?;
    check(&mappings.gid, "gidMappings", user.gid, at.key("gid"))?;
    for (index, gid) in user.additional_gids.iter().enumerate() {
        check(
            &mappings.gid,
            "gidMappings",
            *gid,
            at.key("additionalGids").index(index),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{
        accepted_from, base, base_with_user, parse_tree, refused, refused_from, remove, set,
    };
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn ranges(list: &[(u32, u32, u32)]) -> Value {
        let one = |&(container, host, size): &(u32, u32, u32)| {
            let mut range = json!({"containerID": container, "hostID": host});
            range["size"] = json!(size);
            range
        };
        Value::Array(list.iter().map(one).collect())
    }

    #[test]
    fn ids_of_another_process() {
        let config = parse_tree(&base_with_user()).expect("a good config");
        let user = |uid, gid| User {
            uid,
            gid,
            ..User::default()
        };
        assert!(config.check_user(&user(1, 1)).is_ok());
        let error = config.check_user(&user(1, 70_000)).expect_err("no such id");
        assert_eq!(
            error.to_string(),
            "process.user.gid: 70000 is not mapped by linux.gidMappings"
        );
    }

    #[test]
    fn maps_of_the_container() {
        let (uid, gid) = ("/linux/uidMappings", "/linux/gidMappings");
        let many: Vec<_> = (0..341).map(|index| (index, index, 1)).collect();
        refused_from(
            &base_with_user(),
            &[
                (
                    uid,
                    ranges(&[(0, 1000, 0)]),
                    "linux.uidMappings[0].size: 0: a range has at least one id",
                ),
                (
                    uid,
                    ranges(&[(0, 1000, 10), (9, 5000, 5)]),
                    "linux.uidMappings[1].containerID: 9 to 13 overlaps with entry 0",
                ),
                (
                    gid,
                    ranges(&[(0, 1000, 10), (50, 1, 1), (10, 995, 6)]),
                    "linux.gidMappings[2].hostID: 995 to 1000 overlaps with entry 0",
                ),
                (
                    gid,
                    ranges(&[(u32::MAX, 0, 1)]),
                    "linux.gidMappings[0].containerID: 4294967295 + 1 is above 4294967295",
                ),
                (
                    gid,
                    ranges(&[(0, 2, u32::MAX - 1)]),
                    "linux.gidMappings[0].hostID: 2 + 4294967294 is above 4294967295",
                ),
                (
                    uid,
                    ranges(&many),
                    "linux.uidMappings: 341 ranges, above 340",
                ),
                (
                    uid,
                    json!([]),
                    "linux.uidMappings: required for a new user namespace, but missing",
                ),
                (
                    gid,
                    json!(null),
                    "linux.gidMappings: required for a new user namespace, but missing",
                ),
                (
                    uid,
                    json!([{"containerID": 0, "size": 1}]),
                    "linux.uidMappings[0].hostID: required, but missing",
                ),
                (
                    uid,
                    json!([{"containerID": 0, "hostID": -1, "size": 1}]),
                    "linux.uidMappings[0].hostID: invalid value: integer `-1`, expected a whole \
                     number from 0 to 4294967295",
                ),
            ],
        );
        accepted_from(
            &base_with_user(),
            &[
                (uid, ranges(&many[..340])),
                (uid, ranges(&[(0, 0, u32::MAX)])),
                (uid, ranges(&[(10, 5, 5), (0, 10, 10), (15, 0, 5)])),
            ],
        );
    }

    #[test]
    fn maps_need_a_user_namespace() {
        let one = ranges(&[(0, 1000, 1)]);
        let problem = "needs a user entry in linux.namespaces";
        refused(&[
            (
                "/linux/uidMappings",
                one.clone(),
                &format!("linux.uidMappings: {problem}"),
            ),
            (
                "/linux/gidMappings",
                one.clone(),
                &format!("linux.gidMappings: {problem}"),
            ),
        ]);
        let mut tree = base();
        set(
            &mut tree,
            "/linux/namespaces/-",
            json!({"type": "user", "path": "/proc/1/ns/user"}),
        );
        accepted_from(&tree, &[("/linux/uidMappings", json!([]))]);
        refused_from(
            &tree,
            &[(
                "/linux/uidMappings",
                one,
                "linux.gidMappings: missing beside its twin",
            )],
        );
        let mut tree = base_with_user();
        remove(&mut tree, "/linux/gidMappings");
        assert!(parse_tree(&tree).is_err());
    }

    /// Each id of the container with its counterpart on the host, by the kernel's rules: a range
    /// that is not empty ends before 2^32, and no id stands twice on either side.
    fn counterparts(map: &[IdMapping]) -> Option<Vec<(u64, u64)>> {
        let mut pairs: Vec<(u64, u64)> = Vec::new();
        for range in map {
            let firsts = [range.container_id, range.host_id].map(u64::from);
            let size = u64::from(range.size);
            let fits = |first: u64| first + size <= u64::from(u32::MAX);
            if size == 0 || !firsts.iter().all(|first| fits(*first)) {
                return None;
            }
            for offset in 0..size {
                let [inside, outside] = firsts.map(|first| first + offset);
                if pairs
                    .iter()
                    .any(|pair| pair.0 == inside || pair.1 == outside)
                {
                    return None;
                }
                pairs.push((inside, outside));
            }
        }
        Some(pairs)
    }

    fn check_against_the_counterparts(map: &[IdMapping], ids: &[u32]) {
        let checked = super::check(map.to_vec(), At::Root(crate::Document::Config));
        let pairs = counterparts(map);
        assert_eq!(checked.is_ok(), pairs.is_some(), "{map:?}");
        for (id, size) in ids.iter().flat_map(|id| [1, 2, 3].map(|size| (*id, size))) {
            let Some(pairs) = &pairs else { return };
            let host = |id: u64| Some(pairs.iter().find(|pair| pair.0 == id)?.1);
            let first = host(u64::from(id));
            // Of one range: ids side by side there are so on the host.
            let in_one = map.iter().any(|range| {
                let end = u64::from(range.container_id) + u64::from(range.size);
                range.container_id <= id && u64::from(id) + u64::from(size) <= end
            });
            let expected = first.filter(|_| in_one);
            let found = to_host(map, id, size).map(u64::from);
            assert_eq!(found, expected, "{id}+{size} of {map:?}");
        }
    }

    /// All maps of one and two ranges at both ends of the ids, and all of three small ones.
    #[test]
    fn every_small_map() {
        const M: u32 = u32::MAX;
        let all = |firsts: &[u32], sizes: std::ops::Range<u32>| {
            let mut ranges = Vec::new();
            for (&container_id, &host_id) in firsts
                .iter()
                .flat_map(|a| firsts.iter().map(move |b| (a, b)))
            {
                ranges.extend(sizes.clone().map(|size| IdMapping {
                    container_id,
                    host_id,
                    size,
                }));
            }
            ranges
        };
        let firsts = [0, 1, 2, 3, M - 3, M - 2, M - 1, M];
        let ranges = all(&firsts, 0..4);
        for one in &ranges {
            check_against_the_counterparts(std::slice::from_ref(one), &firsts);
            for other in &ranges {
                check_against_the_counterparts(&[*one, *other], &firsts);
            }
        }
        let ranges = all(&[0, 1, 2], 1..3);
        for (one, other) in ranges
            .iter()
            .flat_map(|a| ranges.iter().map(move |b| (a, b)))
        {
            for third in &ranges {
                check_against_the_counterparts(&[*one, *other, *third], &[0, 1, 2, 3]);
            }
        }
    }

    proptest! {
        /// What is taken is what the kernel would take: every id has at most one counterpart.
        #[test]
        fn a_valid_map_is_injective(
            list in proptest::collection::vec((0..40_u32, 0..40_u32, 0..12_u32), 0..5),
            id in 0..60_u32,
        ) {
            let map: Vec<_> = list
                .iter()
                .map(|&(container_id, host_id, size)| IdMapping { container_id, host_id, size })
                .collect();
            let at = At::Root(crate::Document::Config);
            let Ok(map) = check(map, at) else { return Ok(()) };
            let within = |first: u32, size: u32| (first..first + size).contains(&id);
            let inside = map.iter().filter(|range| within(range.container_id, range.size));
            let outside = map.iter().filter(|range| within(range.host_id, range.size));
            prop_assert!(outside.count() <= 1);
            prop_assert_eq!(inside.count(), usize::from(to_host(&map, id, 1).is_some()));
        }
    }
}
