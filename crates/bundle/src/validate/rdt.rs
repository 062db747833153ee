//! `linux.intelRdt`: config-linux.md § IntelRdt.

use crate::IntelRdt;
use crate::error::{At, Error, Shown};
use oci_spec::runtime as oci;

/// Validates a resctrl group and the lines for its `schemata` file.
pub(super) fn intel_rdt(raw: &oci::LinuxIntelRdt, at: At<'_>) -> Result<IntelRdt, Error> {
    let mut schemata = Vec::new();
    if let Some(line) = present(raw.l3_cache_schema()) {
        schemata.push(self::line(line, at.key("l3CacheSchema"))?);
    }
    if let Some(line) = present(raw.mem_bw_schema()) {
        let at = at.key("memBwSchema");
        if !line.starts_with("MB:") {
            return Err(at.refuse(format!("{} does not start with MB:", Shown(line))));
        }
        schemata.push(self::line(line, at)?);
    }
    for (index, line) in raw.schemata().iter().flatten().enumerate() {
        schemata.push(self::line(line, at.key("schemata").index(index))?);
    }
    Ok(IntelRdt {
        clos_id: clos_id(raw.clos_id(), at.key("closID"))?,
        schemata,
        enable_monitoring: raw.enable_monitoring().unwrap_or(false),
    })
}

fn present(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// Validates a schema, which must be a single line.
fn line(text: &str, at: At<'_>) -> Result<String, Error> {
    if text.is_empty() || text.contains(['\n', '\0']) {
        return Err(at.refuse(format!("{} is not one line", Shown(text))));
    }
    Ok(text.to_owned())
}

/// Validates the name of a group: a directory directly below resctrl's root, or `/` for the root
/// itself.
fn clos_id(text: &Option<String>, at: At<'_>) -> Result<Option<String>, Error> {
    let Some(text) = present(text) else {
        return Ok(None);
    };
    let name = !matches!(text, "." | "..") && !text.contains(['/', '\n', '\0']);
    if name || text == "/" {
        Ok(Some(text.to_owned()))
    } else {
        Err(at.refuse(format!("{} is not a name of a directory", Shown(text))))
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{refused, with};
    use serde_json::json;

    #[test]
    fn groups_and_schemata() {
        let at = "/linux/intelRdt";
        for name in [".", "..", "a/b", "/a", "a\n"] {
            let expected = format!("linux.intelRdt.closID: {name:?} is not a name of a directory");
            refused(&[(at, json!({"closID": name}), &expected)]);
        }
        refused(&[
            (
                at,
                json!({"l3CacheSchema": "L3:0=f\nMB:0=20"}),
                "linux.intelRdt.l3CacheSchema: \"L3:0=f\\nMB:0=20\" is not one line",
            ),
            (
                at,
                json!({"memBwSchema": "0=20"}),
                "linux.intelRdt.memBwSchema: \"0=20\" does not start with MB:",
            ),
            (
                at,
                json!({"memBwSchema": "MB:0=20\n"}),
                "linux.intelRdt.memBwSchema: \"MB:0=20\\n\" is not one line",
            ),
            (
                at,
                json!({"schemata": ["L3:0=f", ""]}),
                "linux.intelRdt.schemata[1]: \"\" is not one line",
            ),
        ]);
        let all = json!({
            "closID": "/", "schemata": ["L2:0=1"], "memBwSchema": "MB:0=20",
            "l3CacheSchema": "L3:0=f", "enableMonitoring": true
        });
        let rdt = with(at, all).linux.intel_rdt.unwrap();
        assert_eq!(rdt.schemata, ["L3:0=f", "MB:0=20", "L2:0=1"]);
        assert_eq!(
            (rdt.clos_id.as_deref(), rdt.enable_monitoring),
            (Some("/"), true)
        );
        let empty = with(at, json!({"closID": ""})).linux.intel_rdt.unwrap();
        assert_eq!(empty, crate::IntelRdt::default());
    }
}
