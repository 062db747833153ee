//! The files of a cgroup: one row for what is one setting, with its names in both versions, the
//! kind of its value, its systemd property, how it is taken back, and what a refusal means.
//!
//! The planner, the update and its undo, systemd's properties, statistics and messages read from
//! here. A file of version 2 that has no row can be written by `linux.resources.unified` all the
//! same: as text, unknown to systemd, and taken back by the general rule ([`Restore::Value`]).
//!
//! Files that only statistics read have no row: kind, property, undo and hint are all about
//! writing, and each of these files is named in one place, where it is read.

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
    pub(crate) v1: File,
    pub(crate) v2: File,
}

/// What a version of cgroups does with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// It is written into the file.
    File,
    /// Nothing is to be written: it always holds, or another row's file has it as well.
    Implied,
    /// It has no effect, for this reason: a warning, since the container can do without it.
    Ignored(&'static str),
    /// It has no effect, for this reason: an error, as the specification demands.
    Refused(&'static str),
}

/// The file of one version, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) support: Support,
    /// The file's name, in which `*` stands for a page size.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether the kernel may refuse it (EINVAL, EBUSY) until another value of the same update is
    /// written: then it is written once more after the others.
    pub(crate) again: bool,
    /// What every new cgroup has, where that is the usual value as well and a write is costly.
    pub(crate) initial: Option<&'static str>,
    /// The unit's property, and the release of systemd that brought it.
    pub(crate) unit: Option<(&'static str, u32)>,
    pub(crate) restore: Restore,
    pub(crate) hint: Hint,
}

/// The form of the value in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A plain number.
    Number,
    /// A number, or `max` for no limit.
    Limit,
    /// A number, or `-1` for no limit.
    Signed,
    /// As [`Kind::Limit`], of processes: systemd takes no 0, so it becomes 1 there.
    Processes,
    /// 1 to 10000, for all devices or for one.
    Weight,
    /// 1: the cgroup is idle, 0: it has a weight.
    Idle,
    /// `quota period`
    Bandwidth,
    /// As [`Kind::Signed`], for each period, which is in a file of its own.
    Quota,
    /// The period of [`Kind::Quota`].
    Period,
    /// CPUs or memory nodes.
    List,
    /// `8:0 rbps=1 wiops=max`, of which a row stands for one key.
    Throttle(&'static str),
    /// 1: if the kernel kills one process of the cgroup for want of memory, it kills all.
    KillAll,
    /// Anything else: a line for the kernel.
    Line,
}

/// The text that takes a value back, made of the file's text from before the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restore {
    /// The previous text. If a value begins with a device, the line of that device; if it had no
    /// line, the device and these words, or nothing where there are no words for it.
    Value(&'static str),
    /// The whole text, or a newline if it was empty.
    Whole,
    /// The weight, unless the cgroup was idle: that reads 0, which cannot be written.
    Weight,
    /// The first word.
    Word,
    /// What follows this key in the first line.
    Field(&'static str),
}

/// The likely reason of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    None,
    /// The memory in use is above the limit.
    Usage,
    /// The kernel may lack the page size, which is part of the file's name.
    PageSize,
    /// The device may be a partition: only whole disks have limits.
    Disk,
    /// There may be no RDMA device of this name.
    RdmaDevice,
    /// The value is bounded by the parent, and by the cgroups below.
    Cpuset,
    /// The value is bounded by the parent.
    Realtime,
    /// The rule is bounded by the parent, and cannot change while there are device cgroups below.
    Device,
}

const IMPLIED: File = none(Support::Implied);
const GONE: File = none(Support::Ignored(
    "ignored: kernels since 5.16 have no such limit",
));
const NONE_IGNORED: File = none(Support::Ignored("ignored: cgroup v2 has no such setting"));
const NONE: File = none(Support::Refused("cgroup v2 has no such setting"));
const NO_REALTIME: File = none(Support::Refused(
    "cgroup v2 has no limit on realtime scheduling",
));
/// A setting of v2 that only `unified` reaches, which is refused on v1 as a whole.
const V2_ONLY: File = none(Support::Refused("cgroup v1 has no such setting"));

/// A file with the usual values in all other columns.
const fn file(name: &'static str, kind: Kind) -> File {
    File {
        support: Support::File,
        name,
        kind,
        again: false,
        initial: None,
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

    const fn initial(self, text: &'static str) -> Self {
        Self {
            initial: Some(text),
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

    /// Whether `name` is the name of this file.
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
    pub(crate) fn file(&self, version: Version) -> &File {
        match version {
            Version::V1 => &self.v1,
            Version::V2 => &self.v2,
        }
    }

    /// The name of its file, for reading; empty if there is none.
    pub(crate) fn name(&self, version: Version) -> &'static str {
        self.file(version).name
    }
}

/// What is known of the file with this name in `version`.
pub(crate) fn find(version: Version, name: &str) -> &'static File {
    let mut files = ALL.iter().map(|row| row.file(version));
    files.find(|file| file.is_named(name)).unwrap_or(&UNKNOWN)
}

/// A file without a row.
static UNKNOWN: File = file("", Kind::Line);

const fn none(support: Support) -> File {
    File {
        support,
        ..file("", Kind::Line)
    }
}

const fn number(name: &'static str) -> File {
    file(name, Kind::Number)
}

const fn limit(name: &'static str) -> File {
    file(name, Kind::Limit)
}

const fn line(name: &'static str) -> File {
    file(name, Kind::Line)
}

/// Files that several rows share.
const IDLE: File = file("cpu.idle", Kind::Idle).unit("CPUWeight", 252);
const CPUS: File = cpuset("cpuset.cpus", "AllowedCPUs");
const MEMS: File = cpuset("cpuset.mems", "AllowedMemoryNodes");
const PROCESSES: File = file("pids.max", Kind::Processes).unit("TasksMax", 0);
const RDMA_MAX: File = line("rdma.max").hint(Hint::RdmaDevice);
const BFQ_WEIGHT: File = file("io.bfq.weight", Kind::Number)
    .restore(Restore::Value("default"))
    .hint(Hint::Disk);
const WEIGHT: File = file("io.weight", Kind::Weight)
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
        $($(#[$doc])* pub(crate) static $name: Row = Row {
            controller: $controller,
            property: $property,
            v1: $v1,
            v2: $v2,
        };)*
        static ALL: &[&Row] = &[$(&$name),*];
    };
}

// In the order of writing within a controller, as far as it matters.
table! {
    /// Since Linux 5.11 it is always `1`; before, only an empty cgroup could change it.
    MEMORY_HIERARCHY: MEMORY, "memory.useHierarchy", number("memory.use_hierarchy"), IMPLIED;
    MEMORY_LIMIT: MEMORY, "memory.limit",
        signed("memory.limit_in_bytes").again().unit("MemoryLimit", 0).hint(Hint::Usage),
        limit("memory.max").unit("MemoryMax", 0);
    /// v1 counts memory and swap together, as the config does; v2 swap alone.
    MEMORY_SWAP: MEMORY, "memory.swap",
        signed("memory.memsw.limit_in_bytes").again().hint(Hint::Usage),
        limit("memory.swap.max").unit("MemorySwapMax", 0);
    /// Not memory.high, which slows processes down: users of engines do not expect that of a
    /// reservation.
    MEMORY_RESERVATION: MEMORY, "memory.reservation",
        signed("memory.soft_limit_in_bytes"), limit("memory.low").unit("MemoryLow", 0);
    MEMORY_SWAPPINESS: MEMORY, "memory.swappiness", number("memory.swappiness"), NONE_IGNORED;
    MEMORY_OOM_CONTROL: MEMORY, "memory.disableOOMKiller",
        number("memory.oom_control").restore(Restore::Field("oom_kill_disable")), NONE_IGNORED;
    MEMORY_KERNEL: MEMORY, "memory.kernel", GONE, GONE;
    MEMORY_KERNEL_TCP: MEMORY, "memory.kernelTCP", GONE, GONE;
    MEMORY_HIGH: MEMORY, "", V2_ONLY, limit("memory.high").unit("MemoryHigh", 0);
    MEMORY_MIN: MEMORY, "", V2_ONLY, limit("memory.min").unit("MemoryMin", 0);
    /// Since Linux 5.19.
    MEMORY_ZSWAP: MEMORY, "", V2_ONLY, limit("memory.zswap.max").unit("MemoryZSwapMax", 253);
    MEMORY_OOM_GROUP: MEMORY, "",
        V2_ONLY, file("memory.oom.group", Kind::KillAll).unit("OOMPolicy", 253);

    CPU_IDLE: CPU, "cpu.idle", IDLE, IDLE;
    CPU_SHARES: CPU, "cpu.shares",
        number("cpu.shares").unit("CPUShares", 0),
        file("cpu.weight", Kind::Weight).unit("CPUWeight", 0).restore(Restore::Weight);
    /// The kernel checks each write of a bandwidth against all cgroups of the hierarchy.
    CPU_PERIOD: CPU, "cpu.period",
        file("cpu.cfs_period_us", Kind::Period).again().initial("100000"), IMPLIED;
    /// The parent's quota per period is the limit. On v1 quota and period are two writes, either of
    /// which can exceed it for a moment; on v2 a quota below the current burst is refused.
    CPU_QUOTA: CPU, "cpu.quota",
        file("cpu.cfs_quota_us", Kind::Quota).again().unit("CPUQuotaPerSecUSec", 0),
        file("cpu.max", Kind::Bandwidth).again().unit("CPUQuotaPerSecUSec", 0)
            .restore(Restore::Whole);
    /// Refused while it is above the current quota.
    CPU_BURST: CPU, "cpu.burst",
        number("cpu.cfs_burst_us").again(), number("cpu.max.burst").again();
    CPU_RT_PERIOD: CPU, "cpu.realtimePeriod",
        number("cpu.rt_period_us").again().hint(Hint::Realtime), NO_REALTIME;
    CPU_RT_RUNTIME: CPU, "cpu.realtimeRuntime",
        signed("cpu.rt_runtime_us").again().hint(Hint::Realtime), NO_REALTIME;

    CPUSET_CPUS: CPUSET, "cpu.cpus", CPUS, CPUS;
    CPUSET_MEMS: CPUSET, "cpu.mems", MEMS, MEMS;
    /// Reads `root invalid (why)` if it is no partition.
    CPUSET_PARTITION: CPUSET, "",
        V2_ONLY, line("cpuset.cpus.partition").restore(Restore::Word);

    PIDS_LIMIT: PIDS, "pids.limit", PROCESSES, PROCESSES;

    /// The I/O scheduler decides which file there is: bfq brings its own.
    IO_WEIGHT: IO, "blockIO.weight", blkio("blkio.weight").unit("BlockIOWeight", 0), BFQ_WEIGHT;
    IO_WEIGHT_OTHER: IO, "blockIO.weight",
        blkio("blkio.bfq.weight").unit("BlockIOWeight", 0), WEIGHT.unit("IOWeight", 0);
    IO_LEAF_WEIGHT: IO, "blockIO.leafWeight", blkio("blkio.leaf_weight"), NONE_IGNORED;
    IO_DEVICE_WEIGHT: IO, "blockIO.weightDevice", blkio("blkio.weight_device"), BFQ_WEIGHT;
    IO_DEVICE_WEIGHT_OTHER: IO, "blockIO.weightDevice",
        blkio("blkio.bfq.weight_device"), WEIGHT.unit("IODeviceWeight", 0);
    IO_DEVICE_LEAF_WEIGHT: IO, "blockIO.weightDevice",
        blkio("blkio.leaf_weight_device"), NONE_IGNORED;
    IO_READ_BYTES: IO, "blockIO.throttleReadBpsDevice",
        blkio("blkio.throttle.read_bps_device"), io_max("rbps", "IOReadBandwidthMax");
    IO_WRITE_BYTES: IO, "blockIO.throttleWriteBpsDevice",
        blkio("blkio.throttle.write_bps_device"), io_max("wbps", "IOWriteBandwidthMax");
    IO_READS: IO, "blockIO.throttleReadIOPSDevice",
        blkio("blkio.throttle.read_iops_device"), io_max("riops", "IOReadIOPSMax");
    IO_WRITES: IO, "blockIO.throttleWriteIOPSDevice",
        blkio("blkio.throttle.write_iops_device"), io_max("wiops", "IOWriteIOPSMax");
    IO_LATENCY: IO, "",
        V2_ONLY, line("io.latency").restore(Restore::Value("target=0")).hint(Hint::Disk);

    HUGETLB_LIMIT: HUGETLB, "hugepageLimits",
        huge("hugetlb.*.limit_in_bytes"), huge("hugetlb.*.max");
    /// Since Linux 5.7.
    HUGETLB_RESERVED: HUGETLB, "hugepageLimits",
        huge("hugetlb.*.rsvd.limit_in_bytes"), huge("hugetlb.*.rsvd.max");
    NET_CLASS: NET_CLS, "network.classID", number("net_cls.classid"), NONE;
    NET_PRIORITY: NET_PRIO, "network.priorities", line("net_prio.ifpriomap"), NONE;
    RDMA_LIMIT: RDMA, "rdma", RDMA_MAX, RDMA_MAX;
    /// v2 has a program in place of the two files.
    DEVICES_ALLOW: DEVICES, "devices", line("devices.allow").hint(Hint::Device), IMPLIED;
    DEVICES_DENY: DEVICES, "devices", line("devices.deny").hint(Hint::Device), IMPLIED;

    // Never written, but read in both versions.
    MEMORY_USAGE: MEMORY, "", number("memory.usage_in_bytes"), number("memory.current");
    /// Counts the kills for want of memory in its line `oom_kill`.
    MEMORY_EVENTS: MEMORY, "", line("memory.oom_control"), line("memory.events");
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
