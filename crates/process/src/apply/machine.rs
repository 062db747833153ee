//! Sets host name, domain name and sysctls, in the container's namespaces.

use super::working_directory;
use crate::plan::steps::Setting;
use crate::plan::steps::{Plan, Section};
use coracle_sys::{Call, Cause, Fault, ProcFs};

/// Sets host name, domain name and sysctls, and makes a missing working directory. Call it after
/// the change of the root, and before the root becomes read-only and paths are masked.
///
/// # Errors
///
/// The step that failed; see [`Plan::explain`].
pub fn machine(plan: &Plan) -> Result<(), Fault> {
    // Sysctls are written through a new procfs that is mounted nowhere: the container's has masked
    // paths, and an image or a volume could have other files in its place (CVE-2019-16884,
    // CVE-2025-52881). It is closed before any program of the container runs.
    let mut procfs = None;
    for (step, setting) in (plan.first(Section::Machine)..).zip(&plan.machine) {
        match setting {
            Setting::Hostname(name) => {
                coracle_sys::sethostname(name).map_err(Call::Sethostname.at(step))?;
            }
            Setting::Domainname(name) => {
                coracle_sys::setdomainname(name).map_err(Call::Setdomainname.at(step))?;
            }
            Setting::Sysctl(sysctl) => {
                let procfs = match &procfs {
                    Some(procfs) => procfs,
                    None => procfs.insert(ProcFs::full().map_err(Call::Fsmount.at(step))?),
                };
                procfs
                    .write(&sysctl.path, sysctl.value.as_bytes())
                    .map_err(Cause::at(step))?;
            }
            Setting::WorkingDirectory => working_directory::make(&plan.cwd, step)?,
        }
    }
    Ok(())
}
