//! `--userns auto`: the user namespace of a config that lists none, for a caller who can have no
//! container without one.

use coracle_bundle::{Bundle, Document, IdMapping, Namespace};
use coracle_host::Needs;
use serde_json::{Value, json};

use crate::error::Error;
use crate::tree;

/// Adds the namespace, with the caller's maps. What depends on the maps is checked anew, and
/// [`Bundle::raw`] has them too, since later verbs read it.
///
/// # Errors
/// [`Error`] naming an id of the config that the caller cannot map.
pub(crate) fn add(bundle: &mut Bundle) -> Result<(), Error> {
    if bundle.config.linux.namespaces.user != Namespace::Inherit {
        return Ok(());
    }
    let host = coracle_host::probe(Needs {
        id_maps: true,
        ..Needs::default()
    })?;
    let Some(maps) = coracle_namespaces::maps_of_caller(&host) else {
        return Ok(());
    };
    let mut config = coracle_bundle::tree(Document::Config, &bundle.raw)?;
    *tree::at(&mut config, &["linux", "uidMappings"]) = ranges(&maps.uid);
    *tree::at(&mut config, &["linux", "gidMappings"]) = ranges(&maps.gid);
    let listed = tree::at(&mut config, &["linux", "namespaces"]);
    let user = json!({"type": "user"});
    match listed.as_array_mut() {
        Some(listed) => listed.push(user),
        None => *listed = json!([user]),
    }
    bundle.config = coracle_bundle::parse_tree(&bundle.dir, &config)?;
    bundle.raw = coracle_bundle::text(Document::Config, &config)?;
    Ok(())
}

fn ranges(map: &[IdMapping]) -> Value {
    let range = |one: &IdMapping| {
        let (inside, outside) = (one.container_id, one.host_id);
        json!({"containerID": inside, "hostID": outside, "size": one.size})
    };
    map.iter().map(range).collect()
}
