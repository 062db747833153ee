//! What a check found.

use serde::Serialize;

/// The subject of what is found about a bundle.
pub(super) const BUNDLE: &str = "bundle";

/// All findings.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Nothing is lacking.
    pub able: bool,
    /// In the order in which a launch needs what they are about.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn of(findings: Vec<Finding>) -> Self {
        Self {
            able: findings.iter().all(|one| one.level != Level::Lacking),
            findings,
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: `kernel`, `cgroups` …
    pub subject: &'static str,
    /// What it means for containers.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What would mend it, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What a finding means for containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Ok,
    /// Some containers go without something.
    Note,
    /// It keeps containers, or the one that was asked about, from being made.
    Lacking,
}

impl Level {
    /// `ok`, `note` or `lacking`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Lacking => "lacking",
        }
    }

    /// A finding of this level.
    pub(super) fn of(self, subject: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            subject,
            level: self,
            found: found.into(),
            remedy: None,
        }
    }
}

impl Finding {
    /// With what would mend it.
    pub(super) fn mended_by(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}
