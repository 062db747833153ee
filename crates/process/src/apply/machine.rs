//! Host name, domain name and sysctls, from within the container's namespaces.

use super::working_directory;
use crate::plan::steps::Setting;
use crate::plan::steps::{Plan, Section};
use coracle_sys::{Call, Cause, Fault, ProcFs};

/// Sets what the container sees of its machine and makes a missing working directory. After the
/// change of the root, before the root becomes read-only and paths are masked.
///
/// # Errors
///
/// The step that failed; see [`Plan::explain`].
pub fn machine(plan: &Plan) -> Result<(), Fault> {
    // A procfs without masks, which is gone before anything of the container runs. Only a procfs
    // of our own will do: an image or a volume could put files of its own where the container's
    // is (CVE-2019-16884, CVE-2025-52881).
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
