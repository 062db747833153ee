//! The programs that are compared, and the bundles that they run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use coracle_integration::{Bundle, Runtime, json, program};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// A runtime.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    /// Global options of every command.
    pub(crate) options: Vec<String>,
}

/// The cost of one command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Milliseconds from start to end.
    pub(crate) wall_ms: f64,
    /// Milliseconds of processor time, of the command and of all that it waited for.
    pub(crate) cpu_ms: f64,
}

/// The program under test and its peers.
pub(crate) fn all(named: &[PathBuf], options: &[String]) -> Vec<Subject> {
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    let installed = ["crun", "runc"].iter().filter_map(|name| {
        let places = folders.iter().map(|folder| Path::new(folder).join(name));
        places.into_iter().find(|path| path.exists())
    });
    let peers: Vec<PathBuf> = match named {
        [] => installed.collect(),
        named => named.to_vec(),
    };
    let all = [program().to_owned()].into_iter().chain(peers);
    all.map(|program| Subject {
        name: program
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        program,
        options: options.to_vec(),
    })
    .collect()
}

impl Subject {
    /// A command of this runtime, with a state root of its own.
    pub(crate) fn command(&self, runtime: &Runtime) -> Command {
        let mut command = Command::new(&self.program);
        let root = runtime.folder().join(format!("{}-state", self.name));
        command.args(&self.options).arg("--root").arg(root);
        command
    }

    /// Whether it can run this bundle at all.
    pub(crate) fn can_run(&self, runtime: &Runtime, bundle: &Bundle) -> bool {
        let mut command = self.command(runtime);
        command.args(["run", "--bundle"]).arg(&bundle.dir);
        match cost(command.arg(runtime.id())) {
            Ok(_) => true,
            Err(text) => {
                println!("{}: left out: {text}", self.name);
                false
            }
        }
    }
}

/// Runs a command; what it took, or why it failed.
pub(crate) fn cost(command: &mut Command) -> Result<Cost, String> {
    let error = tempfile();
    let writer = error.try_clone().map_err(|error| error.to_string())?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer);
    let before = processor_ms();
    let start = Instant::now();
    let status = command.status().map_err(|error| error.to_string())?;
    let wall_ms = start.elapsed().as_secs_f64() * 1000.0;
    let cpu_ms = processor_ms() - before;
    match status.success() {
        true => Ok(Cost { wall_ms, cpu_ms }),
        false => Err(format!("{command:?}: {status}: {}", text(&error))),
    }
}

/// A file for the output: a detached container would keep a pipe open, whose end the bench waits
/// for.
fn tempfile() -> std::fs::File {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    nix::sys::memfd::memfd_create(c"stderr", flags)
        .expect("a file in memory")
        .into()
}

fn text(file: &std::fs::File) -> String {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; 1000];
    let length = file.read_at(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
}

/// Processor time of all children that were waited for.
pub(crate) fn processor_ms() -> f64 {
    let usage: Usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a short run")]
    let millis = micros as f64 / 1000.0;
    millis
}

/// A bundle with what the specification's examples have.
pub(crate) fn minimal(runtime: &Runtime) -> Bundle {
    runtime.bundle()
}

/// A bundle as docker writes it: more masks, limits, and a profile of some 300 allowed calls.
pub(crate) fn docker_like(runtime: &Runtime) -> Bundle {
    let masked = [
        "/proc/asound",
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ];
    let names = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
    ];
    let more = [
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
    ];
    let kept: Vec<String> = names
        .iter()
        .chain(&more)
        .map(|name| format!("CAP_{name}"))
        .collect();
    let deny = json!([{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]);
    let limits = json!({"memory": {"limit": 256 << 20, "swap": 256 << 20}, "pids": {"limit": 100},
        "cpu": {"shares": 512}, "devices": deny});
    runtime
        .bundle()
        .set("/linux/maskedPaths", json!(masked))
        .set("/linux/resources", limits)
        .set("/linux/seccomp", profile())
        .set("/process/noNewPrivileges", json!(true))
        .set(
            "/process/capabilities",
            json!({"bounding": kept, "effective": kept, "permitted": kept}),
        )
        .mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            ["ro", "nosuid", "noexec", "nodev"],
        )
}

/// Allows every call that the C library's header names but those that docker's profile leaves out,
/// and one with conditions on its argument.
fn profile() -> coracle_integration::Value {
    let header = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
    let text = std::fs::read_to_string(header).unwrap_or_default();
    let left_out = [
        "kexec",
        "reboot",
        "mount",
        "swap",
        "module",
        "acct",
        "bpf",
        "ptrace",
        "keyctl",
        "_key",
        "clone",
        "unshare",
        "setns",
        "personality",
        "perf_event",
        "userfaultfd",
        "quota",
    ];
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#define __NR_")?.split(' ').next())
        .filter(|name| !left_out.iter().any(|part| name.contains(part)))
        .collect();
    let personality = |value: u64| {
        json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": names, "action": "SCMP_ACT_ALLOW"},
            personality(0), personality(8), personality(0xffff_ffff),
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 2_114_060_288, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ],
    })
}
