//! Where else a container may be that is not below the state root: people often forget `--root`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use coracle_bundle::ContainerId;
use nix::fcntl::OFlag;

use crate::error::Error;

/// State roots of runtimes, and below a user's runtime directory their names.
const RUNTIMES: [&str; 3] = ["coracle", "runc", "crun"];

/// Directories with a state root for each namespace of an engine.
const ENGINES: [&str; 3] = [
    "/run/containerd/runc",
    "/run/docker/runtime-runc",
    "/run/docker/runtime-coracle",
];

/// The most state roots that a message names.
const SHOWN: usize = 4;

/// The error for a container that is not below `root`. Looks for the state roots of this host.
pub(crate) fn absent(root: &Path, id: &ContainerId) -> Error {
    let mut others: Vec<_> = candidates()
        .into_iter()
        .filter(|other| other != root && other.is_dir())
        .collect();
    let found = others.iter().find(|other| other.join(id.as_ref()).is_dir());
    let found = found.cloned();
    others.truncate(SHOWN);
    Error::Absent {
        hint: hint(root, found.as_deref(), &others),
    }
}

fn candidates() -> Vec<PathBuf> {
    let below = |top: &Path| RUNTIMES.map(|name| top.join(name));
    let mut all = below(Path::new("/run")).to_vec();
    for engine in ENGINES {
        let engine = Path::new(engine);
        let opened = coracle_sys::open(engine, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let listed = opened.and_then(|opened| coracle_sys::list_directory(opened.as_fd()));
        let namespaces = listed.unwrap_or_default().into_iter();
        all.extend(namespaces.map(|(_, name)| engine.join(name)));
    }
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR") {
        all.extend(below(Path::new(&dir)));
    }
    all.extend(below(&PathBuf::from(format!(
        "/run/user/{}",
        nix::unistd::geteuid()
    ))));
    all.sort();
    all.dedup();
    all
}

/// What the message says after `container does not exist`.
fn hint(root: &Path, found: Option<&Path>, others: &[PathBuf]) -> String {
    let looked = format!("looked in {}", root.display());
    let listed: Vec<_> = others
        .iter()
        .map(|root| root.display().to_string())
        .collect();
    match (found, listed.as_slice()) {
        (Some(found), _) => {
            let found = found.display();
            format!("{looked}; there is one of that id in {found}: use --root {found}")
        }
        (None, []) => format!("{looked}: coracle list shows what there is"),
        (None, others) => format!(
            "{looked}; other state roots of this host: {}",
            others.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_named() {
        let (root, crun) = (Path::new("/run/coracle"), PathBuf::from("/run/crun"));
        for (found, others, text) in [
            (
                None,
                vec![],
                "looked in /run/coracle: coracle list shows what there is",
            ),
            (
                None,
                vec![crun.clone()],
                "looked in /run/coracle; other state roots of this host: /run/crun",
            ),
            (
                Some(crun.as_path()),
                vec![crun.clone()],
                "looked in /run/coracle; there is one of that id in /run/crun: use \
                 --root /run/crun",
            ),
        ] {
            assert_eq!(hint(root, found, &others), text);
        }
    }
}
