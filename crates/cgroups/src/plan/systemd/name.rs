//! `linux.cgroupsPath` as `slice:prefix:name`: systemd.unit(5), systemd.slice(5).

use std::path::PathBuf;

use coracle_host::SystemdManager;

use crate::{Error, Result};

const SLICE: &str = ".slice";
/// systemd's limit on the name of a unit.
const NAME_MAX: usize = 255;

/// The name and place of the container's unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The unit's own name: `coracle-web1.scope`.
    pub(super) unit: String,
    pub(super) kind: UnitKind,
    /// The slice around it: `system.slice`, `-.slice`.
    pub(super) slice: String,
    /// The unit's cgroup below that of its manager: `system.slice/coracle-web1.scope`.
    pub(super) path: PathBuf,
}

/// The kind of unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitKind {
    /// Processes that systemd did not start.
    Scope,
    /// A node of the tree, into which systemd puts no processes; only if the config names one.
    Slice,
}

/// The configured name, or the default for a container without one.
pub(super) fn plan(path: Option<&str>, id: &str, manager: SystemdManager) -> Result<Name> {
    let text = path.unwrap_or_default();
    if text.is_empty() {
        let unit = format!("coracle-{}.scope", escape(id));
        return scope(default_slice(manager).to_owned(), unit);
    }
    let parts: Vec<&str> = text.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        let reason = format!("`{text}`: systemd's form is slice:prefix:name");
        return Err(refused(reason));
    };
    if name.is_empty() {
        return Err(refused(format!("`{text}`: the name is empty")));
    }
    let slice = match slice {
        "" => None,
        "-" => Some("-.slice"),
        slice => Some(slice),
    };
    if let Some(slice) = slice {
        levels(slice)?;
    }
    if name.ends_with(SLICE) {
        return own_slice(slice, name);
    }
    let slice = slice.unwrap_or(default_slice(manager)).to_owned();
    scope(slice, format!("{prefix}-{name}.scope"))
}

fn default_slice(manager: SystemdManager) -> &'static str {
    match manager {
        SystemdManager::System => "system.slice",
        SystemdManager::User => "user.slice",
    }
}

fn scope(slice: String, unit: String) -> Result<Name> {
    check(&unit)?;
    let path = levels(&slice)?.join(directory(&unit));
    Ok(Name {
        unit,
        kind: UnitKind::Scope,
        slice,
        path,
    })
}

/// A slice's name alone determines its parents.
fn own_slice(slice: Option<&str>, unit: &str) -> Result<Name> {
    check(unit)?;
    let path = levels(unit)?;
    let inner = unit.strip_suffix(SLICE).unwrap_or(unit);
    let parent = match inner.rsplit_once('-') {
        Some((parent, _)) => format!("{parent}{SLICE}"),
        None => "-.slice".to_owned(),
    };
    match slice {
        _ if path.as_os_str().is_empty() => Err(refused(format!("`{unit}` is the root slice"))),
        Some(slice) if slice != parent => {
            let reason = format!("`{unit}` lies in {parent} by its name, not in {slice}");
            Err(refused(reason))
        }
        _ => Ok(Name {
            unit: unit.to_owned(),
            kind: UnitKind::Slice,
            slice: parent,
            path,
        }),
    }
}

/// The path of a slice: `a-b.slice` is `a.slice/a-b.slice`; the root slice has no directory of its
/// own.
fn levels(slice: &str) -> Result<PathBuf> {
    let wrong = |why: &str| refused(format!("`{slice}` is no slice: {why}"));
    if slice == "-.slice" {
        return Ok(PathBuf::new());
    }
    let Some(inner) = slice.strip_suffix(SLICE) else {
        return Err(wrong("it does not end in .slice"));
    };
    check(slice)?;
    let mut path = PathBuf::new();
    let mut name = String::new();
    for part in inner.split('-') {
        if part.is_empty() {
            return Err(wrong("a dash needs a name on either side"));
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(part);
        path.push(directory(&format!("{name}{SLICE}")));
    }
    Ok(path)
}

fn check(unit: &str) -> Result<()> {
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(*c);
    if let Some(wrong) = unit.chars().find(|c| !is_allowed(c)) {
        let reason = format!(
            "`{}`: a unit's name has no {wrong:?}",
            coracle_text::one_line(unit)
        );
        return Err(refused(reason));
    }
    if unit.len() > NAME_MAX {
        let reason = format!(
            "a unit's name has {NAME_MAX} bytes at most, not {}",
            unit.len()
        );
        return Err(refused(reason));
    }
    Ok(())
}

/// Escapes, as systemd-escape(1) does, the character that an id may have but a unit's name may not.
fn escape(id: &str) -> String {
    id.replace('+', "\\x2b")
}

/// A cgroup must not be named like a file of the kernel's, so systemd puts an underscore before
/// such a name: `cg_needs_escape` of its basic/cgroup-util.c.
fn directory(unit: &str) -> String {
    const CONTROLLERS: [&str; 16] = [
        "cgroup",
        "cpu",
        "cpuacct",
        "cpuset",
        "io",
        "blkio",
        "memory",
        "devices",
        "pids",
        "freezer",
        "hugetlb",
        "net_cls",
        "net_prio",
        "perf_event",
        "rdma",
        "misc",
    ];
    let first = unit.split('.').next().unwrap_or_default();
    if unit.starts_with(['_', '.']) || CONTROLLERS.contains(&first) {
        format!("_{unit}")
    } else {
        unit.to_owned()
    }
}

fn refused(reason: String) -> Error {
    Error::config("linux.cgroupsPath", reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(path: Option<&str>, manager: SystemdManager) -> String {
        match plan(path, "web+1", manager) {
            Ok(name) => format!("{} in {}: {}", name.unit, name.slice, name.path.display()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn names() {
        let system = |path| check(path, SystemdManager::System);
        assert_eq!(
            system(None),
            "coracle-web\\x2b1.scope in system.slice: system.slice/coracle-web\\x2b1.scope"
        );
        assert_eq!(system(Some("")), system(None));
        assert_eq!(
            check(None, SystemdManager::User),
            "coracle-web\\x2b1.scope in user.slice: user.slice/coracle-web\\x2b1.scope"
        );
        assert_eq!(
            system(Some("machine.slice:libpod:a1")),
            "libpod-a1.scope in machine.slice: machine.slice/libpod-a1.scope"
        );
        assert_eq!(
            system(Some("a-b-c.slice:cri:x")),
            "cri-x.scope in a-b-c.slice: a.slice/a-b.slice/a-b-c.slice/cri-x.scope"
        );
        assert_eq!(
            system(Some(":p:x")),
            "p-x.scope in system.slice: system.slice/p-x.scope"
        );
        assert_eq!(system(Some("-:p:x")), "p-x.scope in -.slice: p-x.scope");
        assert_eq!(
            system(Some("-.slice:p:x")),
            "p-x.scope in -.slice: p-x.scope"
        );
        assert_eq!(
            system(Some("a.slice:ignored:a-b.slice")),
            "a-b.slice in a.slice: a.slice/a-b.slice"
        );
        assert_eq!(system(Some("::b.slice")), "b.slice in -.slice: b.slice");
        assert_eq!(
            system(Some("-:memory.x:y")),
            "memory.x-y.scope in -.slice: _memory.x-y.scope"
        );
    }

    #[test]
    fn refusals() {
        let cases = [
            ("/a/b", "`/a/b`: systemd's form is slice:prefix:name"),
            (
                "a.slice:b",
                "`a.slice:b`: systemd's form is slice:prefix:name",
            ),
            (
                "a.slice:b:c:d",
                "`a.slice:b:c:d`: systemd's form is slice:prefix:name",
            ),
            ("a.slice:b:", "`a.slice:b:`: the name is empty"),
            ("a:b:c", "`a` is no slice: it does not end in .slice"),
            (
                ".slice:b:c",
                "`.slice` is no slice: a dash needs a name on either side",
            ),
            (
                "a--b.slice:b:c",
                "`a--b.slice` is no slice: a dash needs a name on either side",
            ),
            (
                "-a.slice:b:c",
                "`-a.slice` is no slice: a dash needs a name on either side",
            ),
            ("a/b.slice:b:c", "`a/b.slice`: a unit's name has no '/'"),
            ("../x.slice:b:c", "`../x.slice`: a unit's name has no '/'"),
            (":b:c/../d", "`b-c/../d.scope`: a unit's name has no '/'"),
            (":b:c d", "`b-c d.scope`: a unit's name has no ' '"),
            (
                "c.slice:x:a-b.slice",
                "`a-b.slice` lies in a.slice by its name, not in c.slice",
            ),
            ("::-.slice", "`-.slice` is the root slice"),
        ];
        for (path, reason) in cases {
            let expected = format!("config.json: linux.cgroupsPath: {reason}");
            assert_eq!(check(Some(path), SystemdManager::System), expected);
        }
        let long = format!(":p:{}", "x".repeat(300));
        let error = check(Some(&long), SystemdManager::System);
        assert!(error.ends_with("255 bytes at most, not 308"), "{error}");
    }

    proptest! {
        #[test]
        fn nothing_leads_out(path in "[-a./_:]{0,14}") {
            if let Ok(name) = plan(Some(&path), "web1", SystemdManager::System) {
                prop_assert!(name.path.components().count() > 0);
                let is_plain = |c| matches!(c, std::path::Component::Normal(_));
                prop_assert!(name.path.components().all(is_plain), "{:?}", name.path);
            }
        }
    }
}
