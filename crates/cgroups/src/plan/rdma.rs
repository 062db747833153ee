//! `linux.resources.rdma`: cgroup-v1/rdma.rst, cgroup-v2.rst § RDMA; the same file on both.

use std::collections::BTreeMap;

use coracle_bundle::Rdma;

use super::write::Write;
use crate::{Error, Result};

/// One line of rdma.max for each device.
pub(super) fn plan(devices: &BTreeMap<String, Rdma>) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    for (name, limits) in devices {
        let path = format!("linux.resources.rdma.{name}");
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Error::config(path, format!("{name:?} is no device's name")));
        }
        let mut line = name.clone();
        let named = [
            ("hca_handle", limits.hca_handles),
            ("hca_object", limits.hca_objects),
        ];
        for (key, value) in named {
            if let Some(value) = value {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        if line == *name {
            return Err(Error::config(path, "needs hcaHandles or hcaObjects"));
        }
        writes.push(Write::new("rdma.max", line, &path));
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use super::super::write::text;
    use super::*;

    #[test]
    fn lines() {
        let check = |hca_handles, hca_objects, expected: &str| {
            let limits = Rdma {
                hca_handles,
                hca_objects,
            };
            let devices = BTreeMap::from([("mlx5_1".to_owned(), limits)]);
            assert_eq!(text(&plan(&devices)), expected);
        };
        check(
            Some(3),
            Some(10_000),
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        );
        check(None, Some(0), "rdma.max=mlx5_1 hca_object=0");
        let missing = "needs hcaHandles or hcaObjects";
        check(
            None,
            None,
            &format!("error: linux.resources.rdma.mlx5_1: {missing}"),
        );
    }
}
