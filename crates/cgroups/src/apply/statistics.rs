//! Reading a container's statistics. Each controller is read in its v1 hierarchy, or else in the v2
//! cgroup.

mod group;
mod rdt;
mod text;
mod v1;
mod v2;

use crate::statistics::{Pids, Statistics};
use crate::table::{PIDS_LIMIT, Version};
use crate::{Record, Result};
use group::Group;

/// Reads one sample of the container's statistics.
///
/// # Errors
/// A cgroup that cannot be read, or is gone.
pub fn statistics(record: &Record) -> Result<Statistics> {
    let mut sample = Statistics::default();
    let unified = match &record.unified {
        Some(directory) => Some(Group::open(&directory.path)?),
        None => None,
    };
    let group = |controller| match record.hierarchy(controller) {
        Some(directory) => Group::open(&directory.path).map(Some),
        None => Ok(None),
    };
    match (group("cpuacct")?, group("cpu")?, &unified) {
        (None, None, Some(unified)) => v2::cpu(unified, &mut sample.cpu)?,
        (accounting, scheduling, _) => {
            if let Some(accounting) = accounting {
                v1::cpu_usage(&accounting, &mut sample.cpu.usage)?;
            }
            if let Some(scheduling) = scheduling {
                v1::throttling(&scheduling, &mut sample.cpu.throttling)?;
            }
        }
    }
    if let Some(cpuset) = group("cpuset")? {
        v1::cpuset(&cpuset, &mut sample.cpuset)?;
    }
    match (group("memory")?, &unified) {
        (Some(memory), _) => v1::memory(&memory, &mut sample.memory)?,
        (None, Some(unified)) => v2::memory(unified, &mut sample.memory)?,
        (None, None) => {}
    }
    if let Some(pids) = group("pids")?.as_ref().or(unified.as_ref()) {
        self::pids(pids, &mut sample.pids)?;
    }
    match (group("blkio")?, &unified) {
        (Some(blkio), _) => v1::blkio(&blkio, &mut sample.blkio)?,
        (None, Some(unified)) => v2::blkio(unified, &mut sample.blkio)?,
        (None, None) => {}
    }
    match (group("hugetlb")?, &unified) {
        (Some(hugetlb), _) => v1::hugetlb(&hugetlb, &mut sample.hugetlb)?,
        (None, Some(unified)) => v2::hugetlb(unified, &mut sample.hugetlb)?,
        (None, None) => {}
    }
    if let Some(group) = record.resctrl.first() {
        let monitored = record.resctrl.last().unwrap_or(group);
        rdt::read(&group.path, &monitored.path, &mut sample.intel_rdt)?;
    }
    Ok(sample)
}

/// Both files have the same name in both versions. In the result a limit of zero means none.
fn pids(group: &Group, pids: &mut Pids) -> Result<()> {
    pids.current = group.number("pids.current")?;
    let limit = group.number(PIDS_LIMIT.name(Version::V2))?;
    pids.limit = if limit == u64::MAX { 0 } else { limit };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{self, Directory};
    use coracle_host::CgroupMode;
    use std::fs;
    use std::path::PathBuf;

    /// A tree of files that looks like a cgroup.
    pub(super) struct Tree(pub(super) PathBuf);

    impl Tree {
        pub(super) fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let name = format!("coracle-statistics-{}-{name}", std::process::id());
            let root = std::env::temp_dir().join(name);
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn version_2_has_the_names_of_version_1() {
        let pressure = "some avg10=1.50 avg60=0.25 avg300=0.00 total=7\n\
                        full avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let tree = Tree::new(
            "v2",
            &[
                (
                    "cpu.stat",
                    "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\n\
                     throttled_usec 1\n",
                ),
                ("cpu.pressure", pressure),
                ("memory.stat", "anon 1\nfile 2\n"),
                ("memory.current", "4096\n"),
                ("memory.max", "8192\n"),
                ("memory.peak", "5000\n"),
                ("memory.swap.current", "10\n"),
                ("memory.swap.max", "max\n"),
                ("pids.current", "3\n"),
                ("pids.max", "max\n"),
                (
                    "io.stat",
                    "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n",
                ),
                ("hugetlb.2MB.current", "2097152\n"),
                ("hugetlb.2MB.rsvd.current", "9\n"),
                ("hugetlb.2MB.events", "max 7\n"),
            ],
        );
        let record = Record {
            mode: CgroupMode::V2,
            unified: Some(Directory {
                path: tree.0.clone(),
                ..Directory::default()
            }),
            ..Record::default()
        };
        let sample = statistics(&record).unwrap();
        assert_eq!(
            (sample.cpu.usage.total, sample.cpu.usage.user),
            (9000, 5000)
        );
        assert_eq!(sample.cpu.throttling.throttled_time, 1000);
        let psi = sample.cpu.psi.unwrap();
        assert_eq!(
            (psi.some.avg10, psi.some.total, psi.full.total),
            (1.5, 7, 3)
        );
        assert_eq!(sample.memory.psi, None);
        assert_eq!((sample.memory.cache, sample.memory.usage.max), (2, 5000));
        assert_eq!(sample.memory.swap.usage, 4106);
        assert_eq!(sample.memory.swap.limit, u64::MAX);
        assert_eq!((sample.pids.current, sample.pids.limit), (3, 0));
        let bytes = &sample.blkio.io_service_bytes_recursive;
        let bytes: Vec<_> = bytes
            .iter()
            .map(|e| (e.major, e.op.as_str(), e.value))
            .collect();
        assert_eq!(bytes, [(8, "Read", 1), (8, "Write", 2)]);
        assert_eq!(sample.blkio.io_serviced_recursive.len(), 2);
        let huge = &sample.hugetlb["2MB"];
        assert_eq!((huge.usage, huge.failcnt), (2_097_152, 7));
        assert_eq!(sample.hugetlb.len(), 1);
    }

    #[test]
    fn resctrl_groups() {
        let tree = Tree::new(
            "rdt",
            &[
                ("info/L3/cbm_mask", "fffff\n"),
                ("info/L3/min_cbm_bits", "2\n"),
                ("info/L3/num_closids", "16\n"),
                ("info/MB/min_bandwidth", "10\n"),
                (
                    "info/L3_MON/mon_features",
                    "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n",
                ),
                ("schemata", "    MB:0=100\n    L3:0=fffff\n"),
                ("web/schemata", "    MB:0=50\n    L3:0=000ff\n"),
                ("web/mon_data/mon_L3_00/llc_occupancy", "5\n"),
                ("web/mon_data/mon_L3_00/mbm_total_bytes", "6\n"),
                ("web/mon_data/mon_L3_00/mbm_local_bytes", "Unavailable\n"),
            ],
        );
        let group = record::Group {
            path: tree.0.join("web"),
            ..record::Group::default()
        };
        let record = Record {
            resctrl: vec![group],
            ..Record::default()
        };
        let rdt = statistics(&record).unwrap().intel_rdt;
        assert_eq!(rdt.l3_cache_info.unwrap().cbm_mask, "fffff");
        assert_eq!(rdt.mem_bw_info.unwrap().min_bandwidth, 10);
        assert_eq!(rdt.l3_cache_schema_root, "L3:0=fffff");
        assert_eq!(
            (rdt.l3_cache_schema.as_str(), rdt.mem_bw_schema.as_str()),
            ("L3:0=000ff", "MB:0=50")
        );
        assert_eq!(rdt.schemata, ["MB:0=50", "L3:0=000ff"]);
        assert_eq!(rdt.cmt_stats.unwrap()[0].llc_occupancy, 5);
        let traffic = rdt.mbm_stats.unwrap();
        assert_eq!(
            (traffic[0].mbm_total_bytes, traffic[0].mbm_local_bytes),
            (6, 0)
        );
    }
}
