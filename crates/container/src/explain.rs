//! `explain`: the plan of `create`, as text or JSON. It needs no privileges and changes nothing.

use std::fmt;
use std::path::Path;

use coracle_bundle::Namespace;
use coracle_checkpoint::{CgroupsMode, Flags, Images, LsmLabels, Need, Restore, RestoreFacts};
use coracle_launch::Point;
use coracle_text::escaped;
use serde::Serialize;

use crate::error::Error;
use crate::options::CreateOptions;
use crate::prepare::{Prepared, prepare};
use crate::restore;
use crate::store::Store;

/// A plan as text, stage by stage.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The bundle's directory.
    pub bundle: String,
    /// The stages, in order.
    pub stages: Vec<coracle_launch::StageText>,
    /// Warnings, one line each.
    pub warnings: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Much of a config comes from the image, so control characters are escaped: they could
        // overwrite or fake lines.
        writeln!(f, "{}", escaped(&self.bundle))?;
        for stage in &self.stages {
            writeln!(f, "\n{} ({})", stage.name, stage.actor)?;
            for step in &stage.steps {
                writeln!(f, "  {}", escaped(step))?;
            }
        }
        for warning in &self.warnings {
            writeln!(f, "\nwarning: {}", escaped(warning))?;
        }
        Ok(())
    }
}

/// Plans `create` and `start`, or `run`, with these options.
///
/// # Errors
/// The errors with which `create` refuses the bundle or an option.
pub fn explain(store: &Store, options: &CreateOptions) -> Result<Explanation, Error> {
    let Prepared { bundle, plan, .. } = prepare(store, options, options.attachment())?;
    Ok(Explanation {
        bundle: bundle.dir.display().to_string(),
        stages: plan.stages(),
        warnings: plan.warnings,
    })
}

/// The stages of [`explain`] that a restore has as well.
const SHARED_STAGES: [&str; 6] = [
    "cgroup",
    "network",
    "prestart hooks",
    "createRuntime hooks",
    "poststart hooks",
    "poststop hooks",
];

/// Plans a `restore` of the `images`, without running criu.
///
/// # Errors
/// The errors with which `restore` refuses the bundle, an option or the images.
pub fn explain_restore(
    store: &Store,
    options: &CreateOptions,
    images: &Path,
) -> Result<Explanation, Error> {
    let opened = Images::open(images, None, Need::Restore)?;
    let Prepared { bundle, plan, .. } = prepare(store, options, options.attachment())?;
    let config = &bundle.config;
    let host = restore::own_mounts()?;
    // The restore itself resolves links in the root filesystem's path.
    let mounts = config.mounts.iter();
    let destinations: Vec<_> = mounts
        .map(|mount| mount.destination.path().to_owned())
        .collect();
    let cgroups = plan.cgroups.as_ref().map(coracle_cgroups::planned_record);
    let request = coracle_checkpoint::restore(&Restore {
        config,
        flags: Flags::default(),
        cgroups: CgroupsMode::default(),
        root: &config.root.path,
        mounts: RestoreFacts {
            destinations: &destinations,
            host: &host,
            root: &config.root.path,
            cgroups: &restore::hierarchies(cgroups.as_ref()),
        },
        config_file: None,
        labels: &LsmLabels::default(),
        descriptors: &opened.read_descriptors()?,
    });
    let mut steps = vec![
        format!("mount {} as the root", config.root.path.display()),
        format!("restore the processes of {}", images.display()),
    ];
    steps.extend_from_slice(request.describe());
    if config.linux.namespaces.network == Namespace::New {
        steps.push("bring up loopback".to_owned());
    }
    let mut stages = plan.stages();
    stages.retain(|stage| SHARED_STAGES.contains(&stage.name));
    let after = stages.iter().position(|stage| stage.name != "cgroup");
    let criu = coracle_launch::StageText {
        name: "images",
        actor: "criu",
        steps,
        point: Point::Elsewhere,
    };
    stages.insert(after.unwrap_or(stages.len()), criu);
    Ok(Explanation {
        bundle: bundle.dir.display().to_string(),
        stages,
        warnings: plan.warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_config_moves_the_cursor() {
        let hostile = "a\n  forged\u{1b}[2J\u{9b}\u{7}";
        let explanation = Explanation {
            bundle: hostile.to_owned(),
            stages: vec![coracle_launch::StageText {
                name: "program",
                actor: "init",
                steps: vec![format!("execute ü {hostile}")],
                point: Point::Started,
            }],
            warnings: vec![hostile.to_owned()],
        };
        let shown = "a\\n  forged\\u{1b}[2J\\u{9b}\\u{7}";
        assert_eq!(
            explanation.to_string(),
            format!("{shown}\n\nprogram (init)\n  execute ü {shown}\n\nwarning: {shown}\n")
        );
    }
}
