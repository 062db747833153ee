//! The container's resctrl group: its schemata, and what is monitored in it. x86/resctrl.rst.

use std::os::fd::AsFd;
use std::path::Path;

use super::group::Group;
use crate::apply::files;
use crate::statistics::{BandwidthInfo, CacheInfo, IntelRdt, Occupancy, Traffic};
use crate::{Error, Result};

/// Reads the control group at `path` and the group that is monitored, the same one or one in it.
pub(super) fn read(path: &Path, monitored: &Path, rdt: &mut IntelRdt) -> Result<()> {
    let has_info = |above: &&Path| files::open_path(&above.join("info")).is_ok();
    let Some(mount) = path.ancestors().find(has_info) else {
        return Ok(());
    };
    let group = Group::open(path)?;
    let root = lines(&Group::open(mount)?)?;
    rdt.schemata = lines(&group)?;
    if let Some(info) = open(&mount.join("info/L3"))? {
        rdt.l3_cache_info = Some(CacheInfo {
            cbm_mask: info.text("cbm_mask")?.unwrap_or_default().trim().to_owned(),
            min_cbm_bits: info.number("min_cbm_bits")?,
            num_closids: info.number("num_closids")?,
        });
        rdt.l3_cache_schema_root = line(&root, "L3");
        rdt.l3_cache_schema = line(&rdt.schemata, "L3");
    }
    if let Some(info) = open(&mount.join("info/MB"))? {
        rdt.mem_bw_info = Some(BandwidthInfo {
            bandwidth_gran: info.number("bandwidth_gran")?,
            delay_linear: info.number("delay_linear")?,
            min_bandwidth: info.number("min_bandwidth")?,
            num_closids: info.number("num_closids")?,
        });
        rdt.mem_bw_schema_root = line(&root, "MB");
        rdt.mem_bw_schema = line(&rdt.schemata, "MB");
    }
    if let Some(info) = open(&mount.join("info/L3_MON"))? {
        let features = info.text("mon_features")?.unwrap_or_default();
        monitor(monitored, &features, rdt)?;
    }
    Ok(())
}

/// Opens a directory; `None` if the processor lacks the feature.
fn open(path: &Path) -> Result<Option<Group<'_>>> {
    match Group::open(path) {
        Ok(group) => Ok(Some(group)),
        Err(Error::Open { errno, .. }) if files::is_gone(errno) => Ok(None),
        Err(error) => Err(error),
    }
}

fn lines(group: &Group) -> Result<Vec<String>> {
    let text = group.text("schemata")?.unwrap_or_default();
    let lines = text.lines().map(|line| line.trim().to_owned());
    Ok(lines.filter(|line| !line.is_empty()).collect())
}

fn line(lines: &[String], resource: &str) -> String {
    let found = lines.iter().find(|line| line.starts_with(resource));
    found.cloned().unwrap_or_default()
}

/// Reads one directory for each node. A counter without a current value reads `Unavailable`.
fn monitor(group: &Path, features: &str, rdt: &mut IntelRdt) -> Result<()> {
    let path = group.join("mon_data");
    let Some(data) = open(&path)? else {
        return Ok(());
    };
    let has = |name: &str| features.lines().any(|line| line.trim() == name);
    let names = files::children(data.directory.as_fd()).map_err(|errno| Error::Read {
        path: path.clone(),
        errno,
    })?;
    let (mut traffic, mut occupancy) = (Vec::new(), Vec::new());
    let mut nodes: Vec<_> = names
        .iter()
        .filter_map(|name| name.to_str())
        .filter(|name| name.starts_with("mon_L3_"))
        .collect();
    nodes.sort();
    for name in nodes {
        let path = path.join(name);
        let node = Group::open(&path)?;
        traffic.push(Traffic {
            mbm_total_bytes: node.number("mbm_total_bytes")?,
            mbm_local_bytes: node.number("mbm_local_bytes")?,
        });
        occupancy.push(Occupancy {
            llc_occupancy: node.number("llc_occupancy")?,
        });
    }
    rdt.mbm_stats = (has("mbm_total_bytes") || has("mbm_local_bytes")).then_some(traffic);
    rdt.cmt_stats = has("llc_occupancy").then_some(occupancy);
    Ok(())
}
