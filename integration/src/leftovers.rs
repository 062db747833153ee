//! Finding what a runtime has left behind.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Command;
use crate::machine::{machine, mounts};

/// Mount points of the host at or below a folder, in the order of mounting.
pub(crate) fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    mounts()
        .into_iter()
        .map(|mount| mount.point)
        .filter(|point| point.starts_with(folder))
        .collect()
}

/// Processes that a runtime with this marker started: they have the marker in their environment or
/// in the name of a control group, or live in a root filesystem of this folder. Zombies do not
/// count: they have no resources, only their parent has not reaped them yet.
pub(crate) fn processes(marker: &str, folder: &Path) -> Vec<String> {
    let roots = roots(folder);
    let mut found = Vec::new();
    for pid in pids().map(|pid| pid.to_string()) {
        if is_zombie(&pid) {
            continue;
        }
        if let Some(sign) = sign_of(&pid, marker, &roots) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.push(format!(
                "process {pid} ({}), known by its {sign}",
                name.trim()
            ));
        }
    }
    found
}

/// The pids of all visible processes.
pub(crate) fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn sign_of(pid: &str, marker: &str, roots: &HashSet<(u64, u64)>) -> Option<&'static str> {
    let holds = |name: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        bytes
            .windows(marker.len())
            .any(|part| part == marker.as_bytes())
    };
    if holds("environ") {
        return Some("environment");
    }
    if holds("cgroup") {
        return Some("control group");
    }
    let root = fs::metadata(format!("/proc/{pid}/root/")).ok()?;
    roots.contains(&(root.dev(), root.ino())).then_some("root")
}

fn roots(folder: &Path) -> HashSet<(u64, u64)> {
    let bundles = fs::read_dir(folder).into_iter().flatten().flatten();
    let roots = bundles.filter_map(|bundle| fs::metadata(bundle.path().join("rootfs")).ok());
    roots.map(|data| (data.dev(), data.ino())).collect()
}

/// Whether the process is a zombie.
pub(crate) fn is_zombie(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    matches!(state, None | Some(Some('Z' | 'X')))
}

/// Control groups of all hierarchies with the marker in their name, the deepest first.
pub fn groups(marker: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for mount in mounts() {
        if mount.kind == "cgroup" || mount.kind == "cgroup2" {
            collect_groups(&mount.point, marker, &mut found);
        }
    }
    found
}

fn collect_groups(folder: &Path, marker: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            collect_groups(&path, marker, found);
            if path.to_string_lossy().contains(marker) {
                found.push(path);
            }
        }
    }
}

/// Units of systemd with the marker in their name, failed ones included.
pub(crate) fn units(marker: &str) -> Vec<String> {
    if !machine().has_systemd {
        return Vec::new();
    }
    let list = ["list-units", "--all", "--plain", "--no-legend", "--full"];
    let output = Command::new("systemctl").args(list).output().ok();
    let units = output.stdout.lines().filter(|line| line.contains(marker));
    units.map(|line| line.trim().to_owned()).collect()
}
