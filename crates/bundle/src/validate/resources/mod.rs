//! `linux.resources`: config-linux.md § Control groups.
//!
//! Only what the numbers themselves show is refused: which controllers there are, and which
//! version, is the host's to say. Zero means unset where the kernel knows no zero, as engines
//! send whole objects full of zeros.

mod block_io;
mod devices;
mod limits;

use super::text::{check_interface, climbs};
use crate::error::{At, Document, Error, Shown};
use crate::strict::Notes;
use crate::{HugepageLimit, Network, Rdma, Resources};
use oci_spec::runtime as oci;
use std::collections::{BTreeMap, HashMap};

/// The limits of a container's cgroup.
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
        // All below zero mean unlimited.
        pids: raw
            .pids()
            .filter(|_| notes.pids_limit)
            .map(|pids| pids.limit().max(-1)),
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

/// It becomes part of a file's name.
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
        class_id: raw.class_id(),
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
        // One line `device hca_handle=n hca_object=m` is written.
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

/// Keys are names of files in the cgroup's directory, and must stay in it.
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
