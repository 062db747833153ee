//! What a bundle lacks here: what the planners refuse, and what is looked for only when it is used.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coracle_bundle::{Bundle, Config, HookPoint};
use coracle_host::Host;
use coracle_launch::Examined;
use coracle_text::errno_text;
use nix::fcntl::AT_FDCWD;

use super::finding::{BUNDLE, Finding, Level};
use super::program;
use crate::error::Error;

/// The profiles that are loaded, a line each: `name (mode)`. Only root may read it.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

pub(super) fn judge(bundle: &Bundle, host: &Host, examined: Examined) -> Vec<Finding> {
    let config = &bundle.config;
    let lack = |error: coracle_launch::Error| {
        let remedy = error.detail().hint;
        let remedy = remedy.unwrap_or_else(|| "change this property of config.json".to_owned());
        let found = error.to_string();
        Level::Lacking.of(BUNDLE, found).mended_by(remedy)
    };
    let mut findings: Vec<_> = examined.lacks.into_iter().map(lack).collect();
    findings.extend(file_systems(config, host));
    findings.extend(hooks(config));
    findings.extend(program::judge(config, &examined.candidates));
    findings.extend(apparmor(config, host));
    if findings.is_empty() {
        findings.push(Level::Ok.of(BUNDLE, bundle.dir.display().to_string()));
    }
    findings
}

/// A port that is to be published, and that a program or another container has.
pub(super) fn port_taken(error: Error) -> Finding {
    let remedy = "end what has the port, or publish another";
    Level::Lacking
        .of(BUNDLE, error.to_string())
        .mended_by(remedy)
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
        Some(level.of(BUNDLE, found).mended_by(remedy))
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
            if let Err(errno) = program::is_program(AT_FDCWD, &hook.path) {
                let (point, errno) = (point.name(), errno_text(errno));
                let found = format!("config.json: hooks.{point}[{index}].path: {path:?}: {errno}");
                let remedy = "install the hook's program, or leave the hook out";
                findings.push(Level::Lacking.of(BUNDLE, found).mended_by(remedy));
            }
        }
    }
    findings
}

/// The process's AppArmor profile, if it is not loaded. The kernel would refuse it at the end of
/// `create`. Names of several profiles, or of another namespace's, are the kernel's to judge.
fn apparmor(config: &Config, host: &Host) -> Option<Finding> {
    let profile = config.process.as_ref()?.apparmor_profile.as_ref()?;
    let name = profile.to_str().ok()?;
    let is_plain = !name.is_empty() && name != "unconfined" && !name.contains("//&");
    if !*host.apparmor || !is_plain || name.starts_with(':') {
        return None;
    }
    let loaded = std::fs::read_to_string(PROFILES).ok()?;
    if loaded.lines().any(|line| is_profile(line, name)) {
        return None;
    }
    let found = format!("config.json: process.apparmorProfile: {name:?}: it is not loaded");
    let remedy = "apparmor_parser --add FILE, with the file that has the profile";
    Some(Level::Lacking.of(BUNDLE, found).mended_by(remedy))
}

fn is_profile(line: &str, name: &str) -> bool {
    line.rsplit_once(" (").map_or(line, |(name, _)| name) == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_profiles() {
        for (line, expected) in [
            ("web (enforce)", true),
            ("web", true),
            ("web//child (enforce)", false),
            ("my web (complain)", false),
        ] {
            assert_eq!(is_profile(line, "web"), expected, "{line}");
        }
        assert!(is_profile("my web (complain)", "my web"));
    }
}
