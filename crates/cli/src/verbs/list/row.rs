//! What is known of a listed container.

use std::time::Duration;

use coracle_container::State;
use serde::Serialize;

/// A container's state, who created it, and how long ago.
#[derive(Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) state: State,
    pub(super) owner: String,
    #[serde(skip)]
    pub(super) age: Duration,
}

/// A running container of ann's, for tests.
#[cfg(test)]
pub(super) fn row(id: &str, annotations: &[(&str, &str)]) -> Row {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Row {
        state: State {
            oci_version: coracle_container::OCI_VERSION,
            id: id.to_owned(),
            pid: 7,
            status: coracle_container::Status::Running,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-01-01T00:00:00Z".to_owned(),
            creation: None,
            annotations: annotations.iter().map(owned).collect(),
            ended: None,
            owner: 7,
        },
        owner: "ann".to_owned(),
        age: Duration::from_secs(2 * 3600),
    }
}
