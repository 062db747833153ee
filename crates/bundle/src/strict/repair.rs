//! Valid input that oci-spec 0.10 refuses, turned into input that it takes.
//!
//! Each step names the gap. When a later oci-spec closes it, the step can go.

use super::Notes;
use crate::capability::parse_prefixed;
use crate::error::{At, Document, Shown};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// Changes `tree` where oci-spec would refuse what the spec allows, and notes what gets lost.
pub(super) fn repair(document: Document, tree: &mut Value, notes: &mut Notes) {
    let Some(top) = tree.as_object_mut() else {
        return;
    };
    let at = At::Root(document);
    match document {
        Document::Config => config(top, at, notes),
        Document::Process => process(top, at, notes),
        Document::Resources => resources(top, notes),
    }
}

fn config(top: &mut Object, at: At<'_>, notes: &mut Notes) {
    // Other platforms' sections are unknown properties here, whatever they hold; the last two
    // are in no version of the spec, only in oci-spec.
    for foreign in [
        "solaris",
        "windows",
        "vm",
        "zos",
        "uidMappings",
        "gidMappings",
    ] {
        top.remove(foreign);
    }
    if let Some(inner) = object(top, "process") {
        process(inner, at.key("process"), notes);
    }
    if let Some(inner) = object(top, "linux") {
        linux(inner, notes);
    }
}

fn process(process: &mut Object, at: At<'_>, notes: &mut Notes) {
    // oci-spec demands `user`; the schema does not, and 0:0 is what its absence means.
    if process.get("user").is_none_or(Value::is_null) {
        process.insert("user".to_owned(), json!({}));
    }
    if let Some(user) = object(process, "user") {
        user.retain(|_, value| !value.is_null());
    }
    if let Some(sets) = object(process, "capabilities") {
        let at = at.key("capabilities");
        for (name, set) in sets {
            drop_unknown_capabilities(set, at.key(name), notes);
        }
    }
    if let Some(scheduler) = object(process, "scheduler")
        && let Some(Value::Array(flags)) = scheduler.get_mut("flags")
    {
        for flag in flags {
            match flag.as_str() {
                Some("SCHED_FLAG_RESET_ON_FORK") => *flag = json!("SCHED_RESET_ON_FORK"),
                Some("SCHED_FLAG_DL_OVERRUN") => *flag = json!("SCHED_FLAG_D_L_OVERRUN"),
                _ => {}
            }
        }
    }
    if let Some(affinity) = object(process, "execCPUAffinity") {
        // "If omitted or empty" says the spec; oci-spec's expression wants a digit.
        affinity.retain(|_, cpus| cpus.as_str() != Some(""));
    }
}

/// An unknown name is worth a warning, not an error: config.md § Linux Process.
fn drop_unknown_capabilities(set: &mut Value, at: At<'_>, notes: &mut Notes) {
    let Value::Array(names) = set else { return };
    names.retain(|name| match name.as_str() {
        Some(text) if parse_prefixed(text).is_none() => {
            notes
                .warnings
                .push(format!("{at}: {} is no known capability", Shown(text)));
            false
        }
        _ => true,
    });
}

fn linux(linux: &mut Object, notes: &mut Notes) {
    // Without an action and without syscalls there is nothing to filter.
    let empty = |seccomp: &Value| {
        seccomp.is_object()
            && seccomp.get("defaultAction").is_none_or(Value::is_null)
            && seccomp
                .get("syscalls")
                .and_then(Value::as_array)
                .is_none_or(Vec::is_empty)
    };
    if linux.get("seccomp").is_some_and(empty) {
        linux.remove("seccomp");
    }
    if let Some(rdt) = object(linux, "intelRdt") {
        // Gone since runtime-spec 1.3, so unknown.
        rdt.remove("enableCMT");
        rdt.remove("enableMBM");
        rdt.remove("enableCmt");
        rdt.remove("enableMbm");
    }
    if let Some(inner) = object(linux, "resources") {
        resources(inner, notes);
    }
}

fn resources(resources: &mut Object, notes: &mut Notes) {
    if let Some(pids) = object(resources, "pids") {
        pids.retain(|_, value| !value.is_null());
    }
    if let Some(Value::Array(limits)) = resources.get_mut("hugepageLimits") {
        for (index, entry) in limits.iter_mut().enumerate() {
            // A uint64 in the spec, an i64 in oci-spec.
            if let Some(limit) = entry.get_mut("limit")
                && let Some(bytes) = limit.as_u64()
                && i64::try_from(bytes).is_err()
            {
                notes.hugepage_limits.insert(index, bytes);
                *limit = json!(0);
            }
        }
    }
}

fn object<'a>(parent: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    parent.get_mut(key)?.as_object_mut()
}
