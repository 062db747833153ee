//! `linux.intelRdt`: config-linux.md § IntelRdt.

use crate::IntelRdt;
use crate::error::{At, Error, Shown};
use oci_spec::runtime as oci;

/// A group of resctrl and the lines for its `schemata`.
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

/// Each schema is one line of one write.
fn line(text: &str, at: At<'_>) -> Result<String, Error> {
    if text.is_empty() || text.contains(['\n', '\0']) {
        return Err(at.refuse(format!("{} is not one line", Shown(text))));
    }
    Ok(text.to_owned())
}

/// A directory right below resctrl's root, or `/`, the root itself.
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
