//! What a bundle lacks here: what the planners refuse, and what is looked for only when it is used.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_bundle::{Bundle, Config, HookPoint};
use coracle_host::Host;
use coracle_launch::Examined;
use coracle_text::errno_text;
use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{Mode, SFlag, fstatat};

use super::finding::{Finding, Level};

const SUBJECT: &str = "bundle";

/// Where the runtime or the kernel mounts what is no part of the root file system.
const KERNELS_PLACES: [&str; 3] = ["/dev", "/proc", "/sys"];

pub(super) fn judge(bundle: &Bundle, host: &Host, examined: Examined) -> Vec<Finding> {
    let config = &bundle.config;
    let lack = |error: coracle_launch::Error| {
        let remedy = error.detail().hint;
        let remedy = remedy.unwrap_or_else(|| "change this property of config.json".to_owned());
        let found = error.to_string();
        Level::Lacking.of(SUBJECT, found).mended_by(remedy)
    };
    let mut findings: Vec<_> = examined.lacks.into_iter().map(lack).collect();
    findings.extend(file_systems(config, host));
    findings.extend(hooks(config));
    findings.extend(program(config, &examined.candidates));
    if findings.is_empty() {
        findings.push(Level::Ok.of(SUBJECT, bundle.dir.display().to_string()));
    }
    findings
}

fn file_systems<'a>(config: &'a Config, host: &'a Host) -> impl Iterator<Item = Finding> + 'a {
    let lack = |(index, mount): (usize, &coracle_bundle::Mount)| {
        let kind = mount.file_system()?.name().to_string_lossy();
        let (level, found) = match host.file_systems.has(&kind) {
            // The runtime mounts the container's cgroups for it, of v1 or v2.
            _ if kind == "cgroup" => return None,
            Some(true) => return None,
            Some(false) => (Level::Lacking, "the kernel has no such file system"),
            None => (
                Level::Note,
                "the kernel must load a module for this file system",
            ),
        };
        let found = format!("config.json: mounts[{index}].type: {kind:?}: {found}");
        let module = kind.split('.').next().unwrap_or_default();
        let remedy = match level {
            Level::Note => format!("modprobe fs-{module}"),
            _ => "boot a kernel with it, or install its module".to_owned(),
        };
        Some(level.of(SUBJECT, found).mended_by(remedy))
    };
    config.mounts.iter().enumerate().filter_map(lack)
}

/// Hooks but for `startContainer`, whose program is in the container: config.md § POSIX-platform
/// Hooks.
fn hooks(config: &Config) -> Vec<Finding> {
    let of_host = HookPoint::ALL.into_iter();
    let of_host = of_host.filter(|point| *point != HookPoint::StartContainer);
    let mut findings = Vec::new();
    for point in of_host {
        for (index, hook) in config.hooks.at(point).iter().enumerate() {
            let path = Path::new(std::ffi::OsStr::from_bytes(hook.path.to_bytes()));
            if let Err(errno) = is_program(AT_FDCWD, &hook.path) {
                let (point, errno) = (point.name(), errno_text(errno));
                let found = format!("config.json: hooks.{point}[{index}].path: {path:?}: {errno}");
                let remedy = "install the hook's program, or leave the hook out";
                findings.push(Level::Lacking.of(SUBJECT, found).mended_by(remedy));
            }
        }
    }
    findings
}

/// Looks for the process's program in the root file system as it is on the host. A mount may still
/// bring it.
fn program(config: &Config, candidates: &[PathBuf]) -> Option<Finding> {
    let name = config.process.as_ref()?.args.first()?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // A missing root is in the findings about sources of mounts.
    let root = nix::fcntl::open(&config.root.path, flags, Mode::empty()).ok()?;
    let look = |path: &PathBuf| {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let file = path.with_nix_path(|path| {
            coracle_sys::open_in_root(root.as_fd(), path, flags, Mode::empty())
        })??;
        is_program(file, c"")
    };
    let mut first = None;
    for candidate in candidates {
        match look(candidate) {
            Ok(()) => return None,
            // As execvp(3): a file that may not be executed is remembered, another looked for.
            Err(errno @ Errno::EACCES) => first = Some(errno),
            Err(errno) => first = first.or(Some(errno)),
        }
    }
    let found = format!(
        "config.json: process.args[0]: {name:?}: {}",
        errno_text(first?)
    );
    let is_of_kernel = |path: &Path| KERNELS_PLACES.iter().any(|place| path.starts_with(place));
    let mut mounts = config.mounts.iter();
    Some(
        match mounts.any(|mount| !is_of_kernel(mount.destination.path())) {
            true => Level::Note
                .of(SUBJECT, found + ", unless a mount brings it")
                .mended_by("look at the mount that is to bring it"),
            false => Level::Lacking.of(SUBJECT, found).mended_by(
                "put the program into the root file system, or correct its name or PATH",
            ),
        },
    )
}

/// Whether it is a file that can be executed by somebody.
fn is_program(at: impl AsFd, path: &std::ffi::CStr) -> nix::Result<()> {
    let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
    let status = fstatat(at, path, flags)?;
    let kind = SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits());
    match kind == SFlag::S_IFREG && status.st_mode & 0o111 != 0 {
        true => Ok(()),
        false => Err(Errno::EACCES),
    }
}
