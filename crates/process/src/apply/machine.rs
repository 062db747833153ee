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
    // An image or a volume could have other files in place of the container's procfs
    // (CVE-2019-16884, CVE-2025-52881). So sysctls are written through a new detached instance or,
    // where the kernel refuses one, through the checked `/proc`. A detached instance has no masked
    // paths, so it is closed before any program of the container runs.
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
        coracle_sys::note_step(step);
    }
    Ok(())
}
