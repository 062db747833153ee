//! The files of a cgroup: one row for what is one setting, with its names in both versions, the
//! kind of its value, its systemd property, how it is taken back, and what a refusal means.
//!
//! The planner, the update and its undo, systemd's properties, statistics and messages read from
//! here. A file of version 2 that has no row can be written by `linux.resources.unified` all the
//! same: as text, unknown to systemd, and taken back by the general rule ([`Restore::Value`]).

/// A controller by its names in the two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Controller {
    pub(crate) v1: &'static str,
    pub(crate) v2: &'static str,
}

const fn controller(v1: &'static str, v2: &'static str) -> Controller {
    Controller { v1, v2 }
}

const MEMORY: Controller = controller("memory", "memory");
pub(crate) const CPU: Controller = controller("cpu", "cpu");
const CPUSET: Controller = controller("cpuset", "cpuset");
const PIDS: Controller = controller("pids", "pids");
const IO: Controller = controller("blkio", "io");
const HUGETLB: Controller = controller("hugetlb", "hugetlb");
const RDMA: Controller = controller("rdma", "rdma");
const NET_CLS: Controller = controller("net_cls", "net_cls");
const NET_PRIO: Controller = controller("net_prio", "net_prio");
const DEVICES: Controller = controller("devices", "devices");

/// The two versions of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) controller: Controller,
    /// Its property below `linux.resources`; empty if only `unified` reaches it.
    pub(crate) property: &'static str,
    pub(crate) v1: Support,
    pub(crate) v2: Support,
}

/// Where one version has a setting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Support {
    File(File),
    /// Needs none: it is always so, or it is written with another row's.
    Implied,
    /// Nowhere, which harms nobody: a warning.
    Ignored(&'static str),
    /// Nowhere, which the specification wants refused.
    Refused(&'static str),
}

/// One file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// `*` stands for a page size.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Refused as long as another value of the same update is still the old one (EINVAL, EBUSY):
    /// it is written once more after the others.
    pub(crate) again: bool,
    /// The unit's property, and the release of systemd that brought it.
    pub(crate) unit: Option<(&'static str, u32)>,
    pub(crate) restore: Restore,
    pub(crate) hint: Hint,
}

/// What a file takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A plain number.
    Number,
    /// A limit; none is `max`.
    Limit,
    /// A limit; none is `-1`.
    Signed,
    /// A limit of processes, at least 1 for systemd.
    Processes,
    /// 1 to 10000, for all devices or for one.
    Weight,
    /// 1: the cgroup is idle, 0: it has a weight.
    Idle,
    /// `quota period`
    Bandwidth,
    /// A limit, none being `-1`, for each period, which has a file of its own.
    Quota,
    /// The period of [`Kind::Quota`].
    Period,
    /// CPUs or memory nodes.
    List,
    /// `8:0 rbps=1 wiops=max`, of which a row stands for one key.
    Throttle(&'static str),
    /// 1: the whole cgroup is killed with the first of it.
    KillAll,
    /// Anything else: a line for the kernel.
    Line,
}

/// What is written to take a value back, given the file's text of before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restore {
    /// The text. Where a value begins with a device, that device's line; if it had none, the device
    /// and these words, or nothing if there are no words for it.
    Value(&'static str),
    /// The whole text, and a newline for an empty one.
    Whole,
    /// A weight: an idle cgroup reads 0 and takes none.
    Weight,
    /// The first word.
    Word,
    /// What follows this key in the first line.
    Field(&'static str),
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    None,
    /// The memory in use is above the limit.
    Usage,
    /// Page sizes are part of the name.
    PageSize,
    /// Only whole disks have limits.
    Disk,
    /// By the device's name.
    RdmaDevice,
    /// Bounded by the parent, and by the cgroups below.
    Cpuset,
    /// Bounded by the parent.
    Realtime,
    /// Bounded by the parent; fixed by device cgroups below.
    Device,
}

const GONE: &str = "ignored: kernels since 5.16 have no such limit";
const NONE_IGNORED: Support = Support::Ignored("ignored: cgroup v2 has no such setting");
const NONE: Support = Support::Refused("cgroup v2 has no such setting");
const NO_REALTIME: Support = Support::Refused("cgroup v2 has no limit on realtime scheduling");
/// For what only v2 has: only `unified` reaches it, which is refused on v1 as a whole.
const V2_ONLY: Support = Support::Refused("cgroup v1 has no such setting");

/// A file with the most common columns.
const fn file(name: &'static str, kind: Kind) -> File {
    File {
        name,
        kind,
        again: false,
        unit: None,
        restore: Restore::Value(""),
        hint: Hint::None,
    }
}

impl File {
    const fn again(self) -> Self {
        Self {
            again: true,
            ..self
        }
    }

    const fn unit(self, property: &'static str, since: u32) -> Self {
        Self {
            unit: Some((property, since)),
            ..self
        }
    }

    const fn restore(self, restore: Restore) -> Self {
        Self { restore, ..self }
    }

    const fn hint(self, hint: Hint) -> Self {
        Self { hint, ..self }
    }

    const fn there(self) -> Support {
        Support::File(self)
    }

    /// Whether `name` is this file's.
    fn is_named(&self, name: &str) -> bool {
        match self.name.split_once('*') {
            None => self.name == name,
            Some((start, end)) => name
                .strip_prefix(start)
                .and_then(|rest| rest.strip_suffix(end))
                .is_some_and(|size| !size.is_empty() && !size.contains('.')),
        }
    }
}

impl Row {
    pub(crate) fn support(&self, version: Version) -> &Support {
        match version {
            Version::V1 => &self.v1,
            Version::V2 => &self.v2,
        }
    }

    /// Its file of version 1, of a row that has one.
    pub(crate) fn v1_file(&'static self) -> &'static File {
        match &self.v1 {
            Support::File(file) => file,
            _ => &UNKNOWN,
        }
    }

    /// The name of its file, for reading; empty if there is none.
    pub(crate) fn name(&self, version: Version) -> &'static str {
        match self.support(version) {
            Support::File(file) => file.name,
            _ => "",
        }
    }
}

/// What is known of the file with this name in `version`.
pub(crate) fn find(version: Version, name: &str) -> &'static File {
    let files = ALL.iter().filter_map(|row| match row.support(version) {
        Support::File(file) => Some(file),
        _ => None,
    });
    let mut named = files.filter(|file| file.is_named(name));
    named.next().unwrap_or(&UNKNOWN)
}

const fn row(controller: Controller, property: &'static str, v1: Support, v2: Support) -> Row {
    Row {
        controller,
        property,
        v1,
        v2,
    }
}

/// A file without a row.
static UNKNOWN: File = file("", Kind::Line);

/// Files that two rows share.
const BFQ_WEIGHT: File = file("io.bfq.weight", Kind::Number)
    .restore(Restore::Value("default"))
    .hint(Hint::Disk);
const IO_WEIGHT_FILE: File = file("io.weight", Kind::Weight)
    .restore(Restore::Value("default"))
    .hint(Hint::Disk);

const fn signed(name: &'static str) -> File {
    file(name, Kind::Signed)
}

const fn blkio(name: &'static str) -> File {
    file(name, Kind::Number)
        .restore(Restore::Value("0"))
        .hint(Hint::Disk)
}

const fn io_max(key: &'static str, unit: &'static str) -> File {
    file("io.max", Kind::Throttle(key))
        .unit(unit, 0)
        .restore(Restore::Value("rbps=max wbps=max riops=max wiops=max"))
        .hint(Hint::Disk)
}

const fn cpuset(name: &'static str, unit: &'static str) -> File {
    file(name, Kind::List)
        .unit(unit, 244)
        .restore(Restore::Whole)
        .hint(Hint::Cpuset)
}

const fn huge(name: &'static str) -> File {
    file(name, Kind::Number).hint(Hint::PageSize)
}

macro_rules! table {
    ($($(#[$doc:meta])*
    $name:ident: $controller:expr, $property:literal, $v1:expr, $v2:expr;)*) => {
        $($(#[$doc])* pub(crate) static $name: Row = row($controller, $property, $v1, $v2);)*
        static ALL: &[&Row] = &[$(&$name),*];
    };
}

// In the order of writing within a controller, as far as it matters.
table! {
    /// Only `1` is left since Linux 5.11, and only for an empty cgroup.
    MEMORY_HIERARCHY: MEMORY, "memory.useHierarchy",
        file("memory.use_hierarchy", Kind::Number).there(),
        Support::Implied;
    MEMORY_LIMIT: MEMORY, "memory.limit",
        signed("memory.limit_in_bytes").again().unit("MemoryLimit", 0).hint(Hint::Usage).there(),
        file("memory.max", Kind::Limit).unit("MemoryMax", 0).there();
    /// v1 counts memory and swap together, as the config does; v2 swap alone.
    MEMORY_SWAP: MEMORY, "memory.swap",
        signed("memory.memsw.limit_in_bytes").again().hint(Hint::Usage).there(),
        file("memory.swap.max", Kind::Limit).unit("MemorySwapMax", 0).there();
    /// Not memory.high: that one throttles, which no engine's user expects of a reservation.
    MEMORY_RESERVATION: MEMORY, "memory.reservation",
        signed("memory.soft_limit_in_bytes").there(),
        file("memory.low", Kind::Limit).unit("MemoryLow", 0).there();
    MEMORY_SWAPPINESS: MEMORY, "memory.swappiness",
        file("memory.swappiness", Kind::Number).there(),
        NONE_IGNORED;
    MEMORY_OOM_CONTROL: MEMORY, "memory.disableOOMKiller",
        file("memory.oom_control", Kind::Number)
            .restore(Restore::Field("oom_kill_disable"))
            .there(),
        NONE_IGNORED;
    MEMORY_KERNEL: MEMORY, "memory.kernel", Support::Ignored(GONE), Support::Ignored(GONE);
    MEMORY_KERNEL_TCP: MEMORY, "memory.kernelTCP", Support::Ignored(GONE), Support::Ignored(GONE);
    MEMORY_HIGH: MEMORY, "",
        V2_ONLY,
        file("memory.high", Kind::Limit).unit("MemoryHigh", 0).there();
    MEMORY_MIN: MEMORY, "",
        V2_ONLY,
        file("memory.min", Kind::Limit).unit("MemoryMin", 0).there();
    /// Since Linux 5.19; its systemd property since 253.
    MEMORY_ZSWAP: MEMORY, "",
        V2_ONLY,
        file("memory.zswap.max", Kind::Limit).unit("MemoryZSwapMax", 253).there();
    MEMORY_OOM_GROUP: MEMORY, "",
        V2_ONLY,
        file("memory.oom.group", Kind::KillAll).unit("OOMPolicy", 253).there();

    CPU_IDLE: CPU, "cpu.idle",
        file("cpu.idle", Kind::Idle).unit("CPUWeight", 252).there(),
        file("cpu.idle", Kind::Idle).unit("CPUWeight", 252).there();
    CPU_SHARES: CPU, "cpu.shares",
        file("cpu.shares", Kind::Number).unit("CPUShares", 0).there(),
        file("cpu.weight", Kind::Weight).unit("CPUWeight", 0).restore(Restore::Weight).there();
    CPU_PERIOD: CPU, "cpu.period",
        file("cpu.cfs_period_us", Kind::Period).again().there(),
        Support::Implied;
    /// Quota per period is bounded by the parent's, so either order of v1's two may be the wrong
    /// one; v2's is refused as long as a burst from before is above it.
    CPU_QUOTA: CPU, "cpu.quota",
        file("cpu.cfs_quota_us", Kind::Quota).again().unit("CPUQuotaPerSecUSec", 0).there(),
        file("cpu.max", Kind::Bandwidth)
            .again()
            .unit("CPUQuotaPerSecUSec", 0)
            .restore(Restore::Whole)
            .there();
    /// Refused as long as it is above the quota of before.
    CPU_BURST: CPU, "cpu.burst",
        file("cpu.cfs_burst_us", Kind::Number).again().there(),
        file("cpu.max.burst", Kind::Number).again().there();
    CPU_RT_PERIOD: CPU, "cpu.realtimePeriod",
        file("cpu.rt_period_us", Kind::Number).again().hint(Hint::Realtime).there(),
        NO_REALTIME;
    CPU_RT_RUNTIME: CPU, "cpu.realtimeRuntime",
        signed("cpu.rt_runtime_us").again().hint(Hint::Realtime).there(),
        NO_REALTIME;

    CPUSET_CPUS: CPUSET, "cpu.cpus",
        cpuset("cpuset.cpus", "AllowedCPUs").there(),
        cpuset("cpuset.cpus", "AllowedCPUs").there();
    CPUSET_MEMS: CPUSET, "cpu.mems",
        cpuset("cpuset.mems", "AllowedMemoryNodes").there(),
        cpuset("cpuset.mems", "AllowedMemoryNodes").there();
    /// Reads `root invalid (why)` if it is no partition.
    CPUSET_PARTITION: CPUSET, "",
        V2_ONLY,
        file("cpuset.cpus.partition", Kind::Line).restore(Restore::Word).there();

    PIDS_LIMIT: PIDS, "pids.limit",
        file("pids.max", Kind::Processes).unit("TasksMax", 0).there(),
        file("pids.max", Kind::Processes).unit("TasksMax", 0).there();

    /// Which file there is depends on the I/O scheduler: bfq brings its own.
    IO_WEIGHT: IO, "blockIO.weight",
        blkio("blkio.weight").unit("BlockIOWeight", 0).there(),
        BFQ_WEIGHT.there();
    IO_WEIGHT_OTHER: IO, "blockIO.weight",
        blkio("blkio.bfq.weight").unit("BlockIOWeight", 0).there(),
        IO_WEIGHT_FILE.unit("IOWeight", 0).there();
    IO_LEAF_WEIGHT: IO, "blockIO.leafWeight",
        blkio("blkio.leaf_weight").there(),
        NONE_IGNORED;
    IO_DEVICE_WEIGHT: IO, "blockIO.weightDevice",
        blkio("blkio.weight_device").there(),
        BFQ_WEIGHT.there();
    IO_DEVICE_WEIGHT_OTHER: IO, "blockIO.weightDevice",
        blkio("blkio.bfq.weight_device").there(),
        IO_WEIGHT_FILE.unit("IODeviceWeight", 0).there();
    IO_DEVICE_LEAF_WEIGHT: IO, "blockIO.weightDevice",
        blkio("blkio.leaf_weight_device").there(),
        NONE_IGNORED;
    IO_READ_BYTES: IO, "blockIO.throttleReadBpsDevice",
        blkio("blkio.throttle.read_bps_device").there(),
        io_max("rbps", "IOReadBandwidthMax").there();
    IO_WRITE_BYTES: IO, "blockIO.throttleWriteBpsDevice",
        blkio("blkio.throttle.write_bps_device").there(),
        io_max("wbps", "IOWriteBandwidthMax").there();
    IO_READS: IO, "blockIO.throttleReadIOPSDevice",
        blkio("blkio.throttle.read_iops_device").there(),
        io_max("riops", "IOReadIOPSMax").there();
    IO_WRITES: IO, "blockIO.throttleWriteIOPSDevice",
        blkio("blkio.throttle.write_iops_device").there(),
        io_max("wiops", "IOWriteIOPSMax").there();
    IO_LATENCY: IO, "",
        V2_ONLY,
        file("io.latency", Kind::Line)
            .restore(Restore::Value("target=0"))
            .hint(Hint::Disk)
            .there();

    HUGETLB_LIMIT: HUGETLB, "hugepageLimits",
        huge("hugetlb.*.limit_in_bytes").there(),
        huge("hugetlb.*.max").there();
    /// Since Linux 5.7.
    HUGETLB_RESERVED: HUGETLB, "hugepageLimits",
        huge("hugetlb.*.rsvd.limit_in_bytes").there(),
        huge("hugetlb.*.rsvd.max").there();
    NET_CLASS: NET_CLS, "network.classID", file("net_cls.classid", Kind::Number).there(), NONE;
    NET_PRIORITY: NET_PRIO, "network.priorities",
        file("net_prio.ifpriomap", Kind::Line).there(),
        NONE;
    RDMA_LIMIT: RDMA, "rdma",
        file("rdma.max", Kind::Line).hint(Hint::RdmaDevice).there(),
        file("rdma.max", Kind::Line).hint(Hint::RdmaDevice).there();
    /// v2 has a program in their place.
    DEVICES_ALLOW: DEVICES, "devices",
        file("devices.allow", Kind::Line).hint(Hint::Device).there(),
        Support::Implied;
    DEVICES_DENY: DEVICES, "devices",
        file("devices.deny", Kind::Line).hint(Hint::Device).there(),
        Support::Implied;

    // Only read.
    MEMORY_USAGE: MEMORY, "",
        file("memory.usage_in_bytes", Kind::Number).there(),
        file("memory.current", Kind::Number).there();
    /// v2: since Linux 5.19.
    MEMORY_PEAK: MEMORY, "",
        file("memory.max_usage_in_bytes", Kind::Number).there(),
        file("memory.peak", Kind::Number).there();
    /// Counts the kills for want of memory in its line `oom_kill`.
    MEMORY_EVENTS: MEMORY, "",
        file("memory.oom_control", Kind::Line).there(),
        file("memory.events", Kind::Line).there();
    PIDS_USAGE: PIDS, "",
        file("pids.current", Kind::Number).there(),
        file("pids.current", Kind::Number).there();
}

/// The rows of the four keys of `io.max`.
pub(crate) static THROTTLES: [&Row; 4] = [&IO_READ_BYTES, &IO_WRITE_BYTES, &IO_READS, &IO_WRITES];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_their_names() {
        let find = |name| find(Version::V2, name);
        assert_eq!(find("memory.max").unit, Some(("MemoryMax", 0)));
        assert_eq!(find("hugetlb.2MB.max").hint, Hint::PageSize);
        for unknown in [
            "hugetlb.2MB.rsvd",
            "memory.limit_in_bytes",
            "misc.max",
            "hugetlb.max",
        ] {
            assert_eq!(find(unknown), &UNKNOWN, "{unknown}");
        }
    }
}
