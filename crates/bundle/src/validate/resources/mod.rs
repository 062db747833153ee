//! `linux.resources`: config-linux.md § Control groups.
//!
//! Only the values themselves are checked, since controllers and the cgroup version depend on the
//! host. Engines send whole objects of zeros, so a zero counts as absent wherever it is no valid
//! limit.

mod block_io;
mod devices;
mod limits;

use super::text::{check_interface, climbs};
use crate::error::{At, Document, Error, Shown};
use crate::read::Notes;
use crate::{HugepageLimit, Limit, Network, Rdma, Resources};
use oci_spec::runtime as oci;
use std::collections::{BTreeMap, HashMap};

/// Validates the limits of a container's cgroup.
pub(crate) fn resources(
    raw: &oci::LinuxResources,
    at: At<'_>,
    notes: &Notes,
) -> Result<Resources, Error> {
    let updates = at.document() == Document::Resources;
    Ok(Resources {
        devices: devices::devices(raw.devices().as_deref(), at.key("devices"))?,
        memory: match raw.memory() {
            Some(raw) => limits::memory(raw, at.key("memory"), updates)?,
            None => Default::default(),
        },
        cpu: match raw.cpu() {
            Some(raw) => limits::cpu(raw, at.key("cpu"))?,
            None => Default::default(),
        },
        pids: raw
            .pids()
            .filter(|_| notes.pids_limit)
            .map(|pids| Limit::new(pids.limit())),
        block_io: match raw.block_io() {
            Some(raw) => block_io::block_io(raw, at.key("blockIO"))?,
            None => Default::default(),
        },
        hugepage_limits: hugepages(
            raw.hugepage_limits().as_deref(),
            at.key("hugepageLimits"),
            notes,
        )?,
        network: match raw.network() {
            Some(raw) => network(raw, at.key("network"))?,
            None => Default::default(),
        },
        rdma: rdma(raw.rdma().as_ref(), at.key("rdma"))?,
        unified: unified(raw.unified().as_ref(), at.key("unified"))?,
    })
}

fn hugepages(
    raw: Option<&[oci::LinuxHugepageLimit]>,
    at: At<'_>,
    notes: &Notes,
) -> Result<Vec<HugepageLimit>, Error> {
    let mut limits = Vec::new();
    for (index, entry) in raw.unwrap_or_default().iter().enumerate() {
        let at = at.index(index);
        let size = entry.page_size();
        if !is_page_size(size) {
            return Err(at.key("pageSize").refuse(format!(
                "{} is not a size like 64KB, 2MB or 1GB",
                Shown(size)
            )));
        }
        let limit = match notes.hugepage_limits.get(&index) {
            Some(limit) => *limit,
            None => u64::try_from(entry.limit()).map_err(|_| {
                at.key("limit")
                    .refuse(format!("{} is below 0", entry.limit()))
            })?,
        };
        limits.push(HugepageLimit {
            page_size: size.clone(),
            limit,
        });
    }
    Ok(limits)
}

/// Whether this is a page size, which becomes part of a file name.
fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"]
        .iter()
        .find_map(|unit| text.strip_suffix(unit));
    number.is_some_and(|number| {
        !number.is_empty()
            && number.len() <= 10
            && !number.starts_with('0')
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn network(raw: &oci::LinuxNetwork, at: At<'_>) -> Result<Network, Error> {
    let mut priorities = Vec::new();
    let at = at.key("priorities");
    for (index, entry) in raw.priorities().iter().flatten().enumerate() {
        check_interface(entry.name(), at.index(index).key("name"))?;
        priorities.push((entry.name().clone(), entry.priority()));
    }
    Ok(Network {
        class_id: raw.class_id().filter(|class| *class != 0),
        priorities,
    })
}

fn rdma(
    raw: Option<&HashMap<String, oci::LinuxRdma>>,
    at: At<'_>,
) -> Result<BTreeMap<String, Rdma>, Error> {
    let mut limits = BTreeMap::new();
    let sorted: BTreeMap<_, _> = raw.into_iter().flatten().collect();
    for (device, limit) in sorted {
        let at = at.key(device);
        // The kernel is written a line `device hca_handle=n hca_object=m`.
        let odd = |character: char| character.is_whitespace() || character.is_control();
        if device.is_empty() || device.contains(odd) || device.contains('/') {
            return Err(at.refuse(format!("{} is no name of a device", Shown(device))));
        }
        let limit = Rdma {
            hca_handles: limit.hca_handles(),
            hca_objects: limit.hca_objects(),
        };
        if limit == Rdma::default() {
            return Err(at.refuse("neither hcaHandles nor hcaObjects is given"));
        }
        limits.insert(device.clone(), limit);
    }
    Ok(limits)
}

/// Validates `unified`, whose keys are file names in the cgroup's directory and must not lead out
/// of it.
fn unified(
    raw: Option<&HashMap<String, String>>,
    at: At<'_>,
) -> Result<BTreeMap<String, String>, Error> {
    let unified: BTreeMap<String, String> = raw
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (key, value) in &unified {
        let file = key
            .split_once('.')
            .is_some_and(|(controller, name)| !controller.is_empty() && !name.is_empty());
        if !file || climbs(key) || key.contains(['/', '\0', '\n']) {
            return Err(at.key(key).refuse(format!(
                "{} is not a file name of the form controller.name",
                Shown(key)
            )));
        }
        if value.contains('\0') {
            return Err(at
                .key(key)
                .refuse(format!("{} holds a NUL byte", Shown(value))));
        }
    }
    Ok(unified)
}

#[cfg(test)]
mod tests {
    use crate::fixture::{accepted, refused, with};
    use crate::{Limit, Resources};
    use serde_json::{Value, json};

    fn resources(pointer: &str, value: Value) -> Resources {
        with(&format!("/linux/resources{pointer}"), value)
            .linux
            .resources
    }

    #[test]
    fn limits_of_processes() {
        let pids = |value: Value| resources("/pids", value).pids;
        assert_eq!(pids(json!({"limit": 0})), Some(Limit::Amount(0)));
        assert_eq!(pids(json!({"limit": 7})), Some(Limit::Amount(7)));
        assert_eq!(pids(json!({"limit": -1})), Some(Limit::Unlimited));
        assert_eq!(pids(json!({"limit": -7})), Some(Limit::Unlimited));
        assert_eq!(pids(json!({"limit": null})), None);
        assert_eq!(pids(json!({})), None);
        assert_eq!(pids(json!(null)), None);
        refused(&[(
            "/linux/resources/pids/limit",
            json!("7"),
            "linux.resources.pids.limit: invalid type: string \"7\", expected a whole number from \
             -9223372036854775808 to 9223372036854775807",
        )]);
    }

    #[test]
    fn huge_pages() {
        let at = "/linux/resources/hugepageLimits";
        let limit = |size: &str, limit: Value| json!([{"pageSize": size, "limit": limit}]);
        for size in [
            "", "2", "MB", "2mb", "02MB", "2.5MB", "-2MB", "2 MB", "2MiB", "../2MB",
        ] {
            let expected = format!(
                "linux.resources.hugepageLimits[0].pageSize: {size:?} is not a size like 64KB, \
                 2MB or 1GB"
            );
            refused(&[(at, limit(size, json!(0)), &expected)]);
        }
        refused(&[
            (
                at,
                limit("2MB", json!(-1)),
                "linux.resources.hugepageLimits[0].limit: -1 is below 0",
            ),
            (
                at,
                json!([{"pageSize": "2MB"}]),
                "linux.resources.hugepageLimits[0].limit: required, but missing",
            ),
            (
                at,
                limit("2MB", json!(2e20)),
                "linux.resources.hugepageLimits[0].limit: invalid type: floating point \
                 `2e+20`, expected a whole number from -9223372036854775808 to \
                 9223372036854775807",
            ),
        ]);
        let limits = json!([
            {"pageSize": "2MB", "limit": 5},
            {"pageSize": "1GB", "limit": u64::MAX},
            {"pageSize": "64KB", "limit": 0}
        ]);
        let limits = resources("/hugepageLimits", limits).hugepage_limits;
        let numbers: Vec<u64> = limits.iter().map(|limit| limit.limit).collect();
        assert_eq!(numbers, [5, u64::MAX, 0]);
    }

    #[test]
    fn network_and_rdma() {
        let at = "/linux/resources";
        refused(&[
            (
                at,
                json!({"network": {"priorities": [{"name": "a b", "priority": 1}]}}),
                "linux.resources.network.priorities[0].name: \"a b\" is no name for a network \
                 interface: 1 to 15 bytes without `/`, `:` and blanks",
            ),
            (
                at,
                json!({"network": {"priorities": [{"name": "eth0"}]}}),
                "linux.resources.network.priorities[0].priority: required, but missing",
            ),
            (
                at,
                json!({"network": {"classID": -1}}),
                "linux.resources.network.classID: invalid value: integer `-1`, expected a whole \
                 number from 0 to 4294967295",
            ),
            (
                at,
                json!({"rdma": {"mlx5_1": {}}}),
                "linux.resources.rdma[\"mlx5_1\"]: neither hcaHandles nor hcaObjects is given",
            ),
            (
                at,
                json!({"rdma": {"a\nb": {"hcaHandles": 1}}}),
                "linux.resources.rdma[\"a\\nb\"]: \"a\\nb\" is no name of a device",
            ),
            (
                at,
                json!({"rdma": {"": {"hcaHandles": 1}}}),
                "linux.resources.rdma[\"\"]: \"\" is no name of a device",
            ),
        ]);
        let both = json!({
            "network": {"classID": 7, "priorities": [{"name": "eth0", "priority": 3}]},
            "rdma": {"mlx5_1": {"hcaHandles": 0}}
        });
        let limits = resources("", both);
        assert_eq!(limits.network.class_id, Some(7));
        assert_eq!(limits.network.priorities, [("eth0".to_owned(), 3)]);
        assert_eq!(limits.rdma["mlx5_1"].hca_handles, Some(0));
    }

    #[test]
    fn unified_files() {
        for key in [
            "memory",
            "../x.max",
            "a/memory.max",
            ".max",
            "memory.",
            "a.\n",
            "",
        ] {
            let place = if key == "memory" {
                ".memory".to_owned()
            } else {
                format!("[{key:?}]")
            };
            let expected = format!(
                "linux.resources.unified{place}: {key:?} is not a file name of the form \
                 controller.name"
            );
            refused(&[("/linux/resources/unified", json!({key: "1"}), &expected)]);
        }
        refused(&[
            (
                "/linux/resources/unified",
                json!({"memory.max": "\0"}),
                "linux.resources.unified[\"memory.max\"]: \"\\0\" holds a NUL byte",
            ),
            (
                "/linux/resources/unified",
                json!({"memory.max": 5}),
                "linux.resources.unified[\"memory.max\"]: invalid type: integer `5`, expected a \
                 string",
            ),
        ]);
        accepted(&[(
            "/linux/resources/unified",
            json!({"x.y.z": "a\nb", "hugetlb.2MB.max": ""}),
        )]);
    }
}
