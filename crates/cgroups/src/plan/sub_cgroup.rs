//! `exec --cgroup`: a cgroup below the container's own.

use std::path::{Component, Path};

use coracle_host::CgroupMode;

use crate::record::Directory;
use crate::{Error, Record, Result};

/// The record with the cgroups that `requested` names below the container's own, only for
/// [`crate::open`]. The `fallback` must not be used then, since the caller has named a cgroup.
///
/// `requested` has one path on v2. On v1 and hybrid hosts it has any number of `controller,…:path`,
/// or one path for all hierarchies.
///
/// # Errors
/// A path that leaves the container's cgroup, an unknown controller, or one that is named twice.
/// [`crate::open`] reports a cgroup that does not exist.
pub fn sub_cgroup(record: &Record, requested: &[String]) -> Result<Record> {
    let mut record = record.clone();
    let mut moved: Vec<usize> = Vec::new();
    for text in requested {
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) if record.mode != CgroupMode::V2 => (Some(controllers), path),
            _ => (None, text.as_str()),
        };
        let path = inside(path, text)?;
        let Some(controllers) = controllers else {
            if requested.len() > 1 {
                return Err(refused(
                    text,
                    "a path without controllers must be the only one",
                ));
            }
            descend_all(&mut record, path);
            continue;
        };
        let mut here = hierarchies(&record, controllers, text)?;
        // Controllers may share a hierarchy.
        here.sort_unstable();
        here.dedup();
        if here.iter().any(|index| moved.contains(index)) {
            return Err(refused(text, "the same cgroup is named twice"));
        }
        for index in here {
            if let Some(directory) = record.hierarchies.get_mut(index) {
                directory.path.push(path);
            }
            moved.push(index);
        }
    }
    Ok(record)
}

/// The hierarchy of each of the `controllers`, by index.
fn hierarchies(record: &Record, controllers: &str, text: &str) -> Result<Vec<usize>> {
    let position = |name: &str| {
        let has = |directory: &Directory| directory.controllers.iter().any(|c| c == name);
        let found = record.hierarchies.iter().position(has);
        found.ok_or_else(|| refused(text, &format!("no cgroup of {name}")))
    };
    controllers.split(',').map(position).collect()
}

fn descend_all(record: &mut Record, path: &Path) {
    for directory in &mut record.hierarchies {
        directory.path.push(path);
    }
    // On a hybrid host the v2 cgroup need not have this child, so it stays as it is.
    if let (CgroupMode::V2, Some(unified)) = (record.mode, &mut record.unified) {
        unified.path.push(path);
    }
}

/// The path without its leading slash, if it stays below the container's cgroup.
fn inside<'a>(path: &'a str, text: &str) -> Result<&'a Path> {
    let path = Path::new(path.trim_start_matches('/'));
    if path
        .components()
        .all(|component| matches!(component, Component::Normal(_)))
    {
        Ok(path)
    } else {
        Err(refused(
            text,
            "bad sub cgroup path: it does not stay below the container's cgroup",
        ))
    }
}

fn refused(text: &str, reason: &str) -> Error {
    Error::Config {
        path: format!("--cgroup {text}"),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mode: CgroupMode, requested: &[&str]) -> String {
        let directory = |controllers: &[&str], path: &str| Directory {
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
            path: path.into(),
            ..Directory::default()
        };
        let record = match mode {
            CgroupMode::V2 => Record {
                mode,
                unified: Some(directory(&[], "/u")),
                ..Record::default()
            },
            _ => Record {
                mode,
                hierarchies: vec![
                    directory(&["cpu", "cpuacct"], "/c"),
                    directory(&["pids"], "/p"),
                ],
                unified: Some(directory(&[], "/u")),
                ..Record::default()
            },
        };
        let requested: Vec<String> = requested.iter().map(|&text| text.to_owned()).collect();
        match sub_cgroup(&record, &requested) {
            Err(error) => error.to_string(),
            Ok(record) => {
                let all = record.all();
                let paths: Vec<_> = all
                    .map(|directory| directory.path.to_str().unwrap())
                    .collect();
                paths.join(" ")
            }
        }
    }

    #[test]
    fn paths() {
        assert_eq!(check(CgroupMode::V2, &["a/b"]), "/u/a/b");
        assert_eq!(check(CgroupMode::V2, &["/a"]), "/u/a");
        assert_eq!(check(CgroupMode::Hybrid, &["a"]), "/c/a /p/a /u");
        assert_eq!(
            check(CgroupMode::Hybrid, &["cpu,cpuacct:a", "pids:b"]),
            "/c/a /p/b /u"
        );
        assert_eq!(check(CgroupMode::V1, &[]), "/c /p /u");
    }

    #[test]
    fn refusals() {
        let below = "bad sub cgroup path: it does not stay below the container's cgroup";
        assert_eq!(
            check(CgroupMode::V2, &["../x"]),
            format!("--cgroup ../x: {below}")
        );
        assert_eq!(
            check(CgroupMode::V1, &["pids:a", "pids:b"]),
            "--cgroup pids:b: the same cgroup is named twice"
        );
        assert_eq!(
            check(CgroupMode::V1, &["cpu:a", "cpuacct:b"]),
            "--cgroup cpuacct:b: the same cgroup is named twice"
        );
        assert_eq!(
            check(CgroupMode::V1, &["gpu:a"]),
            "--cgroup gpu:a: no cgroup of gpu"
        );
        assert_eq!(
            check(CgroupMode::V2, &["a", "b"]),
            "--cgroup a: a path without controllers must be the only one"
        );
    }
}
