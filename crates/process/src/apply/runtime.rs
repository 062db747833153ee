//! The runtime's part: settings that the child inherits, and checks of joined namespaces.

use crate::Error;
use crate::plan::describe::{limit_to, most};
use crate::plan::steps::{Inheritance, Plan, Refusal, SeparateNamespace};
use coracle_bundle::Rlimit;
use coracle_text::io_errno;
use nix::errno::Errno;
use nix::sys::stat::stat;
use std::io;

/// In the host's own `/proc`, which is trusted.
const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// The runtime's own values that [`before_clone`] replaced, for [`after_clone`].
///
/// There is no `Drop`: the child has a copy of this value as well, and must keep the new settings.
#[derive(Debug, Default)]
pub struct Before {
    /// Settings that the kernel refused and that the container can do without, one line each.
    pub warnings: Vec<String>,
    oom_score_adj: Option<String>,
    /// Resource, soft, hard.
    limits: Vec<(i32, u64, u64)>,
}

/// Sets on the runtime what the child must inherit. Call it right before the clone, and
/// [`after_clone`] right after it, only in the runtime.
///
/// # Errors
///
/// The kernel refused a hard limit, an OOM score or a CPU set; or the config sets a host name or
/// sysctl and joins the host's own namespace.
pub fn before_clone(plan: &Plan) -> Result<Before, Error> {
    plan.separate.iter().try_for_each(check_separate)?;
    let mut before = Before::default();
    match prepare(plan, &mut before) {
        Ok(()) => Ok(before),
        Err(error) => {
            after_clone(before);
            Err(error)
        }
    }
}

fn prepare(plan: &Plan, before: &mut Before) -> Result<(), Error> {
    for step in &plan.inheritance {
        match step {
            Inheritance::OomScoreAdj { value, refusal } => {
                set_oom_score_adj(*value, *refusal, before)?;
            }
            Inheritance::HardLimits(limits) => {
                for limit in limits {
                    before.limits.extend(raise(limit)?);
                }
            }
            Inheritance::Affinity(cpus) => {
                coracle_sys::set_affinity(&cpus.mask).map_err(|errno| Error::InitialAffinity {
                    cpus: cpus.list.clone(),
                    errno,
                })?
            }
        }
    }
    Ok(())
}

/// Restores what [`before_clone`] replaced, except the affinity: the runtime mostly waits from here
/// on.
///
/// Errors are ignored, since they do not affect the container.
pub fn after_clone(before: Before) {
    if let Some(value) = before.oom_score_adj {
        let _ = std::fs::write(OOM_SCORE_ADJ, value);
    }
    for (resource, soft, hard) in before.limits {
        let _ = coracle_sys::set_rlimit(resource, soft, hard);
    }
}

/// Refuses a joined namespace that is the host's own under another path: the setting would change
/// the host.
fn check_separate(namespace: &SeparateNamespace) -> Result<(), Error> {
    let SeparateNamespace {
        property,
        path,
        host,
    } = namespace;
    let found = stat(path).map_err(|errno| Error::StatNamespace {
        path: path.display().to_string(),
        errno,
    })?;
    match (found.st_dev, found.st_ino) == *host {
        true => Err(Error::NotSeparate {
            property: property.clone(),
            path: path.display().to_string(),
        }),
        false => Ok(()),
    }
}

fn set_oom_score_adj(value: i32, refusal: Refusal, before: &mut Before) -> Result<(), Error> {
    let failed = |what| {
        move |error: io::Error| Error::OomScoreAdj {
            value,
            what,
            errno: io_errno(&error),
        }
    };
    let old = std::fs::read_to_string(OOM_SCORE_ADJ).map_err(failed("read the runtime's own"))?;
    if old.trim() == value.to_string() {
        return Ok(());
    }
    match std::fs::write(OOM_SCORE_ADJ, value.to_string()) {
        Ok(()) => before.oom_score_adj = Some(old),
        Err(error) if refusal == Refusal::Warned && is_refusal(io_errno(&error)) => {
            let old = old.trim();
            before.warnings.push(format!(
                "process.oomScoreAdj: {value} is below what the runtime may set, {old} is kept"
            ));
        }
        Err(error) => return Err(failed("set")(error)),
    }
    Ok(())
}

fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM)
}

/// Raises the runtime's own hard limit if the config's is higher, and returns the old values.
fn raise(limit: &Rlimit) -> Result<Option<(i32, u64, u64)>, Error> {
    let Rlimit { resource, hard, .. } = *limit;
    let failed = |what: String| {
        move |errno| Error::RaiseLimit {
            limit: limit_to(limit),
            what,
            errno,
        }
    };
    let (own_soft, own_hard) =
        coracle_sys::get_rlimit(resource).map_err(failed("read the runtime's own".to_owned()))?;
    if hard <= own_hard {
        return Ok(None);
    }
    coracle_sys::set_rlimit(resource, own_soft, hard).map_err(failed(format!(
        "raise the runtime's own hard limit of {own_hard}{}",
        most(limit)
    )))?;
    Ok(Some((resource, own_soft, own_hard)))
}
