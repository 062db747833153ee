//! The mount table of a process: proc_pid_mountinfo(5).

use std::path::{Path, PathBuf};

use crate::error::{Error, with_path};
use crate::record::AddedMount;

/// The mounts of a process's mount namespace that its root shows.
pub(super) struct Table(Vec<Line>);

#[derive(Debug, PartialEq, Eq)]
struct Line {
    id: u64,
    place: PathBuf,
    /// The number of its peer group, if it is shared.
    peers: Option<u64>,
}

impl Table {
    pub(super) fn of(pid: i32) -> Result<Self, Error> {
        Self::read(&format!("/proc/{pid}/mountinfo"))
    }

    /// The runtime's.
    pub(super) fn own() -> Result<Self, Error> {
        Self::read("/proc/self/mountinfo")
    }

    fn read(path: &str) -> Result<Self, Error> {
        let text = std::fs::read(path);
        let failed = |error| with_path("read", Path::new(path))(coracle_text::io_errno(&error));
        Ok(Self::parse(&text.map_err(failed)?))
    }

    fn parse(text: &[u8]) -> Self {
        Self(text.split(|byte| *byte == b'\n').filter_map(line).collect())
    }

    fn find(&self, id: u64) -> Option<&Line> {
        self.0.iter().find(|line| line.id == id)
    }

    /// Whether the mount is still where it was attached. The kernel may give its id to a later one.
    pub(super) fn has(&self, added: &AddedMount) -> bool {
        self.place(added.mount) == Some(added.place.clone())
    }

    pub(super) fn place(&self, id: u64) -> Option<PathBuf> {
        Some(self.find(id)?.place.clone())
    }

    /// Whether what is mounted on this mount also appears in the other table's namespace.
    pub(super) fn is_peer_of(&self, id: u64, other: &Self) -> bool {
        let peers = self.find(id).and_then(|line| line.peers);
        peers.is_some() && other.0.iter().any(|line| line.peers == peers)
    }
}

/// The id, the mount point, and the optional fields between the options and the dash.
fn line(text: &[u8]) -> Option<Line> {
    let mut fields = text.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let place = coracle_host::unescaped(fields.nth(3)?);
    let mut optional = fields.skip(1).take_while(|field| *field != b"-");
    let peers = optional.find_map(|field| {
        let number = field.strip_prefix(b"shared:")?;
        std::str::from_utf8(number).ok()?.parse().ok()
    });
    Some(Line { id, place, peers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_found_by_their_group() {
        let host = Table::parse(
            b"22 1 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
              23 22 0:5 / /v\\040v rw,nosuid shared:7 master:2 - tmpfs x rw\n",
        );
        let container = Table::parse(
            b"90 80 8:1 /r / rw master:1 - ext4 /dev/a rw\n\
              91 90 0:5 / /data rw shared:7 - tmpfs x rw\n\
              92 90 0:6 / /own rw shared:9 - tmpfs x rw\n",
        );
        assert_eq!(host.place(23), Some(PathBuf::from("/v v")));
        for (id, expected) in [(90, false), (91, true), (92, false), (93, false)] {
            assert_eq!(container.is_peer_of(id, &host), expected, "{id}");
        }
    }
}
