//! The shape of the documents: config.md, config-linux.md, and the `required` lists of the JSON
//! schema that comes with them.
//!
//! Only what oci-spec's types do not check by themselves has to be exact here: which values are
//! objects and arrays, and which properties must be there. What is not named may be anything.

use super::shape::{Need, Property, Shape};
use Shape::{Capability, CpuList, DeviceType, List, Map, Object, PidsLimit, Scalar, SchedulerFlag};

const fn optional(name: &'static str, shape: Shape) -> Property {
    Property {
        name,
        shape,
        need: Need::Optional,
    }
}

const fn expected(name: &'static str, shape: Shape, meaning: &'static str) -> Property {
    Property {
        name,
        shape,
        need: Need::Expected(meaning),
    }
}

const fn required(name: &'static str, shape: Shape) -> Property {
    Property {
        name,
        shape,
        need: Need::Required,
    }
}

/// `config.json`.
pub(crate) static CONFIG: Shape = Object(&[
    optional("ociVersion", Scalar),
    optional(
        "root",
        Object(&[required("path", Scalar), optional("readonly", Scalar)]),
    ),
    optional("process", Object(PROCESS_PROPERTIES)),
    optional("hostname", Scalar),
    optional("domainname", Scalar),
    optional("mounts", List(&MOUNT)),
    optional("hooks", Object(HOOKS)),
    optional("annotations", Map(&Scalar)),
    optional("linux", Object(LINUX)),
]);

/// What `exec --process` reads.
pub(crate) static PROCESS: Shape = Object(PROCESS_PROPERTIES);

/// What `update --resources` reads.
pub(crate) static RESOURCES: Shape = Object(RESOURCES_PROPERTIES);

/// `config.md § Process`, under the names that the spec has for `sched_setattr(2)`'s flags.
pub(crate) const SCHEDULER_FLAGS: [&str; 7] = [
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];

const PROCESS_PROPERTIES: &[Property] = &[
    optional("terminal", Scalar),
    optional(
        "consoleSize",
        Object(&[required("height", Scalar), required("width", Scalar)]),
    ),
    expected(
        "user",
        Object(&[
            expected("uid", Scalar, "missing, 0 is taken"),
            expected("gid", Scalar, "missing, 0 is taken"),
            optional("umask", Scalar),
            optional("additionalGids", List(&Scalar)),
            optional("username", Scalar),
        ]),
        "missing, uid 0 and gid 0 are taken",
    ),
    optional("args", List(&Scalar)),
    optional("env", List(&Scalar)),
    required("cwd", Scalar),
    optional(
        "capabilities",
        Object(&[
            optional("bounding", List(&Capability)),
            optional("effective", List(&Capability)),
            optional("inheritable", List(&Capability)),
            optional("permitted", List(&Capability)),
            optional("ambient", List(&Capability)),
        ]),
    ),
    optional("rlimits", List(&RLIMIT)),
    optional("noNewPrivileges", Scalar),
    optional("apparmorProfile", Scalar),
    optional("oomScoreAdj", Scalar),
    optional("selinuxLabel", Scalar),
    optional(
        "ioPriority",
        Object(&[required("class", Scalar), optional("priority", Scalar)]),
    ),
    optional(
        "scheduler",
        Object(&[
            required("policy", Scalar),
            optional("nice", Scalar),
            optional("priority", Scalar),
            optional("flags", List(&SchedulerFlag)),
            optional("runtime", Scalar),
            optional("deadline", Scalar),
            optional("period", Scalar),
        ]),
    ),
    optional(
        "execCPUAffinity",
        Object(&[optional("initial", CpuList), optional("final", CpuList)]),
    ),
];

static RLIMIT: Shape = Object(&[
    required("type", Scalar),
    required("hard", Scalar),
    required("soft", Scalar),
]);

static MOUNT: Shape = Object(&[
    required("destination", Scalar),
    optional("type", Scalar),
    optional("source", Scalar),
    optional("options", List(&Scalar)),
    optional("uidMappings", List(&ID_MAPPING)),
    optional("gidMappings", List(&ID_MAPPING)),
]);

static ID_MAPPING: Shape = Object(&[
    required("containerID", Scalar),
    required("hostID", Scalar),
    required("size", Scalar),
]);

const HOOKS: &[Property] = &[
    optional("prestart", List(&HOOK)),
    optional("createRuntime", List(&HOOK)),
    optional("createContainer", List(&HOOK)),
    optional("startContainer", List(&HOOK)),
    optional("poststart", List(&HOOK)),
    optional("poststop", List(&HOOK)),
];

static HOOK: Shape = Object(&[
    required("path", Scalar),
    optional("args", List(&Scalar)),
    optional("env", List(&Scalar)),
    optional("timeout", Scalar),
]);

const LINUX: &[Property] = &[
    optional("namespaces", List(&NAMESPACE)),
    optional("uidMappings", List(&ID_MAPPING)),
    optional("gidMappings", List(&ID_MAPPING)),
    optional("timeOffsets", Map(&TIME_OFFSET)),
    optional("devices", List(&DEVICE)),
    optional("netDevices", Map(&NET_DEVICE)),
    optional("cgroupsPath", Scalar),
    optional("resources", Object(RESOURCES_PROPERTIES)),
    optional("intelRdt", Object(INTEL_RDT)),
    optional(
        "memoryPolicy",
        Object(&[
            required("mode", Scalar),
            optional("nodes", Scalar),
            optional("flags", List(&Scalar)),
        ]),
    ),
    optional("sysctl", Map(&Scalar)),
    optional("seccomp", Object(SECCOMP)),
    optional("rootfsPropagation", Scalar),
    optional("maskedPaths", List(&Scalar)),
    optional("readonlyPaths", List(&Scalar)),
    optional("mountLabel", Scalar),
    optional(
        "personality",
        Object(&[required("domain", Scalar), optional("flags", List(&Scalar))]),
    ),
];

static NAMESPACE: Shape = Object(&[required("type", Scalar), optional("path", Scalar)]);

static TIME_OFFSET: Shape = Object(&[optional("secs", Scalar), optional("nanosecs", Scalar)]);

static NET_DEVICE: Shape = Object(&[optional("name", Scalar)]);

static DEVICE: Shape = Object(&[
    required("type", DeviceType),
    required("path", Scalar),
    Property {
        name: "major",
        shape: Scalar,
        need: Need::UnlessFifo,
    },
    Property {
        name: "minor",
        shape: Scalar,
        need: Need::UnlessFifo,
    },
    optional("fileMode", Scalar),
    optional("uid", Scalar),
    optional("gid", Scalar),
]);

const INTEL_RDT: &[Property] = &[
    optional("closID", Scalar),
    optional("l3CacheSchema", Scalar),
    optional("memBwSchema", Scalar),
    optional("schemata", List(&Scalar)),
    optional("enableMonitoring", Scalar),
];

const SECCOMP: &[Property] = &[
    optional("defaultAction", Scalar),
    optional("defaultErrnoRet", Scalar),
    optional("architectures", List(&Scalar)),
    optional("flags", List(&Scalar)),
    optional("listenerPath", Scalar),
    optional("listenerMetadata", Scalar),
    optional("syscalls", List(&SYSCALL)),
];

static SYSCALL: Shape = Object(&[
    required("names", List(&Scalar)),
    required("action", Scalar),
    optional("errnoRet", Scalar),
    optional("args", List(&SYSCALL_ARGUMENT)),
]);

static SYSCALL_ARGUMENT: Shape = Object(&[
    required("index", Scalar),
    required("value", Scalar),
    optional("valueTwo", Scalar),
    required("op", Scalar),
]);

const RESOURCES_PROPERTIES: &[Property] = &[
    optional("devices", List(&DEVICE_RULE)),
    optional("memory", Object(MEMORY)),
    optional("cpu", Object(CPU)),
    optional("pids", Object(&[optional("limit", PidsLimit)])),
    optional("blockIO", Object(BLOCK_IO)),
    optional("hugepageLimits", List(&HUGEPAGE_LIMIT)),
    optional("network", Object(NETWORK)),
    optional("rdma", Map(&RDMA)),
    optional("unified", Map(&Scalar)),
];

static DEVICE_RULE: Shape = Object(&[
    required("allow", Scalar),
    optional("type", Scalar),
    optional("major", Scalar),
    optional("minor", Scalar),
    optional("access", Scalar),
]);

const MEMORY: &[Property] = &[
    optional("limit", Scalar),
    optional("reservation", Scalar),
    optional("swap", Scalar),
    optional("kernel", Scalar),
    optional("kernelTCP", Scalar),
    optional("swappiness", Scalar),
    optional("disableOOMKiller", Scalar),
    optional("useHierarchy", Scalar),
    optional("checkBeforeUpdate", Scalar),
];

const CPU: &[Property] = &[
    optional("shares", Scalar),
    optional("quota", Scalar),
    optional("burst", Scalar),
    optional("period", Scalar),
    optional("realtimeRuntime", Scalar),
    optional("realtimePeriod", Scalar),
    optional("cpus", Scalar),
    optional("mems", Scalar),
    optional("idle", Scalar),
];

const BLOCK_IO: &[Property] = &[
    optional("weight", Scalar),
    optional("leafWeight", Scalar),
    optional("weightDevice", List(&WEIGHT_DEVICE)),
    optional("throttleReadBpsDevice", List(&THROTTLE_DEVICE)),
    optional("throttleWriteBpsDevice", List(&THROTTLE_DEVICE)),
    optional("throttleReadIOPSDevice", List(&THROTTLE_DEVICE)),
    optional("throttleWriteIOPSDevice", List(&THROTTLE_DEVICE)),
];

static WEIGHT_DEVICE: Shape = Object(&[
    required("major", Scalar),
    required("minor", Scalar),
    optional("weight", Scalar),
    optional("leafWeight", Scalar),
]);

static THROTTLE_DEVICE: Shape = Object(&[
    required("major", Scalar),
    required("minor", Scalar),
    required("rate", Scalar),
]);

static HUGEPAGE_LIMIT: Shape = Object(&[required("pageSize", Scalar), required("limit", Scalar)]);

const NETWORK: &[Property] = &[
    optional("classID", Scalar),
    optional("priorities", List(&PRIORITY)),
];

static PRIORITY: Shape = Object(&[required("name", Scalar), required("priority", Scalar)]);

static RDMA: Shape = Object(&[
    optional("hcaHandles", Scalar),
    optional("hcaObjects", Scalar),
]);
