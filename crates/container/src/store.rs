//! The containers on disk: one directory for each below the state root.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use coracle_bundle::ContainerId;
use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::clear::open_below;
use crate::directory::{Directory, open_directory, private_modes};
use crate::elsewhere;
use crate::error::{Error, with_path};
use crate::progress::Progress;
use coracle_text::io_errno;

/// A state root, in which each container has its directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    progress: Progress,
}

impl Store {
    /// The store below `root`, an absolute path. Nothing is made or read yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            progress: Progress::default(),
        }
    }

    /// Makes verbs on this store log their steps.
    #[must_use]
    pub fn logging(self, progress: Progress) -> Self {
        Self { progress, ..self }
    }

    /// The same store for verbs that log nothing.
    pub(crate) fn silent(&self) -> Self {
        Self::new(&self.root)
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The path of the state root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Claims the id: makes the container's directory, and the state root if it is missing.
    pub(crate) fn claim(&self, id: &ContainerId) -> Result<Directory, Error> {
        let make = |call, path, errno| with_path(call, path)(errno);
        let root = match open_directory(&self.root) {
            Ok(root) => root,
            Err(Errno::ENOENT) => {
                let mut builder = std::fs::DirBuilder::new();
                std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
                builder
                    .recursive(true)
                    .create(&self.root)
                    .map_err(|error| make("make", &self.root, io_errno(&error)))?;
                open_directory(&self.root).map_err(|errno| make("open", &self.root, errno))?
            }
            Err(errno) => return Err(make("open", &self.root, errno)),
        };
        let path = self.root.join(id.as_ref());
        let (made, mask) = private_modes(|| mkdirat(&root, id.as_ref(), Mode::S_IRWXU));
        match made {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                return Err(Error::Exists {
                    id: id.clone(),
                    maker: self.maker(id),
                    status: None,
                });
            }
            Err(errno) => return Err(make("make", &path, errno)),
        }
        let handle = open_below(&root, id.as_ref()).map_err(|errno| {
            let _ = unlinkat(&root, id.as_ref(), UnlinkatFlags::RemoveDir);
            make("open", &path, errno)
        })?;
        self.progress.done(format_args!("made {}", path.display()));
        Ok(Directory::new(id, path, handle, &self.progress).made_with(mask))
    }

    /// The other runtime that has a container with this id in the state root.
    fn maker(&self, id: &ContainerId) -> Option<&'static str> {
        match self.find(id).ok()??.record() {
            Err(Error::Foreign { maker }) => Some(maker),
            _ => None,
        }
    }

    /// Opens the directory of an existing container; `None` if there is none.
    pub(crate) fn find(&self, id: &ContainerId) -> Result<Option<Directory>, Error> {
        let path = self.root.join(id.as_ref());
        match open_directory(&path) {
            Ok(handle) => Ok(Some(Directory::new(id, path, handle, &self.progress))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(with_path("open", &path)(errno)),
        }
    }

    /// Opens the directory of an existing container.
    ///
    /// # Errors
    /// [`Error::Absent`], which says `container does not exist`.
    pub(crate) fn open(&self, id: &ContainerId) -> Result<Directory, Error> {
        self.find(id)?
            .ok_or_else(|| elsewhere::absent(&self.root, id))
    }

    /// The ids of all containers, sorted; none if the state root is missing.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>, Error> {
        let listed =
            open_directory(&self.root).and_then(|root| coracle_sys::list_directory(root.as_fd()));
        let entries = match listed {
            Ok(entries) => entries,
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            Err(errno) => {
                return Err(with_path("read", &self.root)(errno));
            }
        };
        let mut ids: Vec<ContainerId> = entries
            .into_iter()
            .filter_map(|(_, name)| name.into_string().ok())
            .filter_map(|name| ContainerId::parse(&name).ok())
            .collect();
        ids.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        Ok(ids)
    }
}
