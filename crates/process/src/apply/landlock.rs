//! Applies rules of Landlock. Nothing here allocates.

use super::root::open_root;
use crate::plan::steps::Landlock;
use coracle_sys::{Call, open_in_root};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

/// The ruleset between its first step and its last.
#[derive(Debug, Default)]
pub(super) struct Ruleset(Option<OwnedFd>);

impl Ruleset {
    pub(super) fn apply(&mut self, step: &Landlock) -> Result<(), (Call, Errno)> {
        let failed = |call| move |errno| (call, errno);
        if let Landlock::Handle(handled) = step {
            let made = coracle_sys::landlock_create_ruleset(handled);
            self.0 = Some(made.map_err(failed(Call::LandlockRuleset))?);
            return Ok(());
        }
        let ruleset = self.0.as_ref().map(AsFd::as_fd);
        let ruleset = ruleset.ok_or((Call::LandlockRuleset, Errno::EBADF))?;
        match step {
            Landlock::Handle(_) => Ok(()),
            Landlock::Path { path, allowed } => {
                let path = open(path).map_err(failed(Call::Openat2))?;
                coracle_sys::landlock_allow_path(ruleset, path.as_fd(), *allowed)
                    .map_err(failed(Call::LandlockRule))
            }
            Landlock::Port { port, allowed } => {
                coracle_sys::landlock_allow_port(ruleset, *port, *allowed)
                    .map_err(failed(Call::LandlockRule))
            }
            Landlock::Restrict => {
                coracle_sys::landlock_restrict_self(ruleset)
                    .map_err(failed(Call::LandlockRestrict))?;
                self.0 = None;
                Ok(())
            }
        }
    }
}

/// Below the container's root: a link of the image leads nowhere else, and a magic link nowhere at
/// all.
fn open(path: &CStr) -> nix::Result<OwnedFd> {
    let root = open_root()?;
    open_in_root(root.as_fd(), path, OFlag::O_PATH, Mode::empty())
}
