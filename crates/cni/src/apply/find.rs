//! Finding and reading configurations, and finding plugins.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use coracle_text::io_errno;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::error::Error;
use crate::plan::list::{NetworkList, Parsed, Plugin, parse, parse_plugin};
use crate::plan::{Configured, Plan, Search};

/// The limit on a configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The same directories as absolute paths, since later verbs may run in another working directory.
///
/// # Errors
/// [`Error::Request`] for an empty path, or one that cannot be part of `CNI_PATH` or of a record.
pub fn absolute(search: &Search) -> Result<Search, Error> {
    let absolute = |by: &str, dir: &PathBuf| {
        let path = std::path::absolute(dir).ok();
        path.filter(|path| path.to_str().is_some_and(|text| !text.contains(':')))
            .ok_or_else(|| Error::Request {
                by: by.to_owned(),
                problem: format!("{dir:?}: expected a folder, UTF-8 and without a colon"),
            })
    };
    let bin_dirs = search.bin_dirs.iter();
    Ok(Search {
        conf_dir: absolute("--cni-conf-dir", &search.conf_dir)?,
        bin_dirs: bin_dirs
            .map(|dir| absolute("--cni-bin-dir", dir))
            .collect::<Result<_, _>>()?,
        timeout_s: search.timeout_s,
    })
}

/// Reads the networks that a directory configures; a missing directory configures none.
///
/// A file that cannot be read does not affect the others.
///
/// # Errors
/// [`Error::Read`] if the directory cannot be listed.
pub fn read(dir: &Path) -> Result<Configured, Error> {
    let mut configured = Configured::default();
    for file in files(dir, &["conflist", "conf", "json"])? {
        match read_list(dir, &file) {
            Ok(list) => configured.lists.push((file, list)),
            Err(error) => configured.broken.push(error.to_string()),
        }
    }
    Ok(configured)
}

fn read_list(dir: &Path, file: &Path) -> Result<NetworkList, Error> {
    let Parsed {
        mut list,
        inlined_only,
    } = parse(file, &contents(file)?)?;
    if !inlined_only {
        for file in files(&dir.join(&list.name), &["conf"])? {
            list.plugins.push(parse_plugin(&file, &contents(&file)?)?);
        }
    }
    match list.plugins.is_empty() {
        true => Err(Error::Config {
            file: file.to_owned(),
            problem: "plugins: expected at least one".to_owned(),
        }),
        false => Ok(list),
    }
}

/// The files of a directory with one of these extensions, sorted by name.
fn files(dir: &Path, extensions: &[&str]) -> Result<BTreeSet<PathBuf>, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let listed = open(dir, flags, Mode::empty())
        .and_then(|folder| coracle_sys::list_directory(folder.as_fd()));
    let entries = match listed {
        Ok(entries) => entries,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(BTreeSet::new()),
        Err(errno) => {
            return Err(Error::Read {
                call: "list",
                path: dir.to_owned(),
                errno,
            });
        }
    };
    let mut files = BTreeSet::new();
    for (_, name) in entries {
        let path = dir.join(name);
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| extensions.contains(&extension)) {
            files.insert(path);
        }
    }
    Ok(files)
}

fn contents(file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |call| {
        move |error: std::io::Error| Error::Read {
            call,
            path: file.to_owned(),
            errno: io_errno(&error),
        }
    };
    // Non-blocking, since a FIFO at this path would block the runtime.
    let handle = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(file)
        .map_err(failed("open"))?;
    let mut text = Vec::new();
    handle
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(failed("read"))?;
    match u64::try_from(text.len()) {
        Ok(length) if length <= MAX_FILE_BYTES => Ok(text),
        _ => Err(Error::Config {
            file: file.to_owned(),
            problem: format!("larger than {MAX_FILE_BYTES} bytes"),
        }),
    }
}

/// Looks for the programs of all plugins, so that a missing one is reported before anything is
/// made.
///
/// # Errors
/// [`Error::Missing`].
pub fn locate_all(plan: &Plan) -> Result<(), Error> {
    for attachment in &plan.attachments {
        for plugin in &attachment.network.plugins {
            locate(&attachment.network.name, plugin, &plan.search)?;
        }
    }
    Ok(())
}

/// The program of a plugin, in the first directory that has it.
///
/// # Errors
/// [`Error::Missing`].
pub fn locate(network: &str, plugin: &Plugin, search: &Search) -> Result<PathBuf, Error> {
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
    };
    let paths = search.bin_dirs.iter().map(|dir| dir.join(plugin.kind()));
    paths
        .into_iter()
        .find(is_program)
        .ok_or_else(|| Error::Missing {
            network: network.to_owned(),
            plugin: plugin.kind().to_owned(),
            dirs: search.bin_dirs.clone(),
        })
}
