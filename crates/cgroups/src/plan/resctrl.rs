//! `linux.intelRdt`: groups of the resctrl file system. config-linux.md § IntelRdt,
//! x86/resctrl.rst.

use std::path::PathBuf;

use coracle_bundle::IntelRdt;
use coracle_host::Host;

use crate::{Error, Result};

/// The container's control group, and maybe a monitoring group in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResctrlPlan {
    /// The control group's directory, absolute.
    pub group: PathBuf,
    /// What to do if the control group does not exist.
    pub missing: Missing,
    /// Lines, each with a newline, that are written to a new group's `schemata`, or that an
    /// existing group must have. Empty: nothing is written or checked.
    pub schemata: String,
    /// The monitoring group's directory, absolute.
    pub monitoring: Option<PathBuf>,
    /// Whether `delete` removes the control group: its name is the container's id, so no other
    /// program uses it.
    pub remove: bool,
}

/// What to do if the control group does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Make it.
    Make,
    /// An error: the config names a group without a schema for it.
    Fail,
}

const CLOS: &str = "linux.intelRdt.closID";

/// The groups of a container; `None` without `linux.intelRdt`.
pub(super) fn plan(
    requested: Option<&IntelRdt>,
    host: &Host,
    id: &str,
) -> Result<Option<ResctrlPlan>> {
    let Some(requested) = requested else {
        return Ok(None);
    };
    let Some(mount) = &*host.resctrl else {
        return Err(Error::config("linux.intelRdt", "resctrl is not mounted"));
    };
    let group = match requested.clos_id.as_deref() {
        None => mount.join(name(id, "linux.intelRdt")?),
        Some("/") => mount.clone(),
        Some(clos) => mount.join(name(clos, CLOS)?),
    };
    let schemata: String = requested
        .schemata
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    let named = requested.clos_id.is_some();
    let missing = if named && schemata.is_empty() {
        Missing::Fail
    } else {
        Missing::Make
    };
    let monitoring = if requested.enable_monitoring {
        Some(group.join("mon_groups").join(name(id, "linux.intelRdt")?))
    } else {
        None
    };
    Ok(Some(ResctrlPlan {
        group,
        missing,
        schemata,
        monitoring,
        remove: !named,
    }))
}

/// Checks a group's name: the kernel's own directories are no groups.
fn name<'a>(text: &'a str, path: &str) -> Result<&'a str> {
    if matches!(text, "info" | "mon_groups" | "mon_data") {
        return Err(Error::config(
            path,
            format!("{text:?} is no name of a group"),
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_host::fixture;

    fn check(clos: Option<&str>, schemata: &[&str], monitoring: bool) -> String {
        let host = Host {
            resctrl: Some("/sys/fs/resctrl".into()).into(),
            ..fixture::v2()
        };
        let requested = IntelRdt {
            clos_id: clos.map(str::to_owned),
            schemata: schemata.iter().map(|&line| line.to_owned()).collect(),
            enable_monitoring: monitoring,
        };
        match plan(Some(&requested), &host, "web1") {
            Ok(None) => "nothing".to_owned(),
            Ok(Some(plan)) => {
                let ResctrlPlan {
                    group,
                    missing,
                    schemata,
                    monitoring,
                    remove,
                } = plan;
                let mut text = format!("{} {missing:?} {schemata:?}", group.display());
                if let Some(path) = monitoring {
                    text.push_str(&format!(" {}", path.display()));
                }
                text + if remove { " remove" } else { "" }
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn groups() {
        let top = "/sys/fs/resctrl";
        assert_eq!(
            check(None, &["L3:0=f", "MB:0=50"], true),
            format!("{top}/web1 Make \"L3:0=f\\nMB:0=50\\n\" {top}/web1/mon_groups/web1 remove")
        );
        assert_eq!(
            check(None, &[], false),
            format!("{top}/web1 Make \"\" remove")
        );
        assert_eq!(
            check(Some("gold"), &[], false),
            format!("{top}/gold Fail \"\"")
        );
        assert_eq!(
            check(Some("gold"), &["L3:0=f"], false),
            format!("{top}/gold Make \"L3:0=f\\n\"")
        );
        assert_eq!(
            check(Some("/"), &[], true),
            format!("{top} Fail \"\" {top}/mon_groups/web1")
        );
    }

    #[test]
    fn refusals() {
        for name in ["info", "mon_groups", "mon_data"] {
            let expected =
                format!("config.json: linux.intelRdt.closID: {name:?} is no name of a group");
            assert_eq!(check(Some(name), &[], false), expected);
        }
        let requested = IntelRdt::default();
        assert_eq!(
            plan(Some(&requested), &fixture::v2(), "web1")
                .unwrap_err()
                .to_string(),
            "config.json: linux.intelRdt: resctrl is not mounted"
        );
        assert_eq!(plan(None, &fixture::v2(), "web1").unwrap(), None);
    }
}
