//! `explain`: the plan of a bundle as text or JSON. Needs no privilege and touches nothing.

use std::fmt;
use std::path::Path;

use coracle_bundle::ContainerId;
use coracle_cni::{Flags, Search};
use serde::Serialize;

use crate::error::Error;
use crate::network;
use crate::options::{CgroupManager, Jail, Keyring, Rootless};

/// What would be done, stage by stage.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The bundle's directory.
    pub bundle: String,
    /// In order.
    pub stages: Vec<coracle_launch::StageText>,
    /// What the user should know though it is no error.
    pub warnings: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.bundle)?;
        for stage in &self.stages {
            writeln!(f, "\n{} ({})", stage.name, stage.actor)?;
            for step in &stage.steps {
                writeln!(f, "  {step}")?;
            }
        }
        for warning in &self.warnings {
            writeln!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

/// Plans the bundle in `directory` as `create` would.
///
/// # Errors
/// As `create` refuses the bundle.
pub fn explain(directory: &Path, manager: CgroupManager) -> Result<Explanation, Error> {
    let mut bundle = coracle_bundle::load(directory)?;
    // Only a flag could ask for another container's network.
    let join = |id: &ContainerId| Err(Error::NoNetwork { id: id.clone() });
    let asked = (&Flags::default(), &Search::default());
    let choice = network::choose(&mut bundle.config, asked, join)?;
    let host = coracle_host::probe(coracle_launch::needs(
        &bundle.config,
        bundle.config.process.as_ref(),
        manager,
    ))?;
    let asked = coracle_launch::Options {
        id: ContainerId::parse("ID")?,
        manager,
        rootless: Rootless::Auto,
        jail: Jail::PivotRoot,
        keyring: Keyring::New,
        environment: Vec::new(),
        preserved_fds: 0,
        network: choice.wanted,
    };
    let plan = coracle_launch::plan(&bundle, &host, &asked)?;
    coracle_launch::check(&plan)?;
    Ok(Explanation {
        bundle: bundle.dir.display().to_string(),
        stages: plan.stages(),
        warnings: plan.warnings,
    })
}
