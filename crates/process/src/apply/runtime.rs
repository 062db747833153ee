//! The runtime's part: what a child gets by inheritance, and a look at joined namespaces.

use crate::Error;
use crate::plan::describe::{limit_to, most};
use crate::plan::steps::{Inheritance, Plan, Refusal, SeparateNamespace};
use coracle_bundle::Rlimit;
use nix::errno::Errno;
use nix::sys::stat::stat;
use std::io;

/// The runtime is trusted with the host's own `/proc`, and so is the host with the runtime.
const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// What the runtime changed of itself for the child's sake.
///
/// There is no `Drop`: the child has a copy, and must keep what was set.
#[derive(Debug, Default)]
pub struct Before {
    /// What the kernel refused and the config may go without.
    pub warnings: Vec<String>,
    oom_score_adj: Option<String>,
    /// Resource, soft, hard.
    limits: Vec<(i32, u64, u64)>,
}

/// Sets on the runtime what the child is to inherit. Call it right before the clone, and
/// [`after_clone`] right after, in the runtime alone.
///
/// # Errors
///
/// A hard limit above what the runtime may give, an OOM score or a CPU set that the kernel
/// refuses, and a setting whose joined namespace is the host's.
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

/// Takes back what [`before_clone`] set, except an affinity: the runtime only waits from here on.
///
/// A refusal is ignored: it has no consequence for the container.
pub fn after_clone(before: Before) {
    if let Some(value) = before.oom_score_adj {
        let _ = std::fs::write(OOM_SCORE_ADJ, value);
    }
    for (resource, soft, hard) in before.limits {
        let _ = coracle_sys::set_rlimit(resource, soft, hard);
    }
}

/// A joined namespace may be the host's by another name.
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
            errno: of(&error),
        }
    };
    let old = std::fs::read_to_string(OOM_SCORE_ADJ).map_err(failed("read the runtime's own"))?;
    if old.trim() == value.to_string() {
        return Ok(());
    }
    match std::fs::write(OOM_SCORE_ADJ, value.to_string()) {
        Ok(()) => before.oom_score_adj = Some(old),
        Err(error) if refusal == Refusal::Warned && is_refusal(of(&error)) => {
            let old = old.trim();
            before.warnings.push(format!(
                "process.oomScoreAdj: {value} is below what the runtime may set, {old} is kept"
            ));
        }
        Err(error) => return Err(failed("set")(error)),
    }
    Ok(())
}

fn of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM)
}

/// Raises the runtime's own hard limit where the config's is higher, and returns the old values.
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
