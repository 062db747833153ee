//! What /proc says of a process, for `ps`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_text::io_errno;
use nix::errno::Errno;
use procfs::FromRead;
use procfs::process::{Stat, Status};

use crate::error::{Error, with_path};
use crate::identity;

/// The length of a clock tick in /proc, in milliseconds: `USER_HZ` is 100 on every architecture
/// that this program is built for.
const TICK_MS: u64 = 10;

/// More of a command line is not shown. It lies in the memory of the process, which can make it as
/// long as it likes.
const COMMAND_BYTES: u64 = 128 << 10;

/// A process as proc_pid_stat(5) and its like describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// In the runtime's pid namespace.
    pub pid: i32,
    /// The parent's pid in that namespace; 0 if it is outside.
    pub parent: i32,
    /// The effective user ID in the runtime's user namespace.
    pub user: u32,
    /// How long its threads have run on a processor.
    pub processor_time: Duration,
    /// How long ago it began.
    pub age: Duration,
    /// The controlling terminal, as the container calls it below `/dev`.
    pub terminal: Option<String>,
    /// The arguments with blanks between them, or the name in brackets where there are none.
    /// Without control characters, which could deceive the reader at a terminal.
    pub command: String,
}

/// The processes that have these pids now, by their pids. Those that have ended are left out.
///
/// # Errors
/// [`Error::Store`] if a file of /proc cannot be read, or the process is hidden there.
pub fn describe(mut pids: Vec<i32>) -> Result<Vec<Process>, Error> {
    pids.sort_unstable();
    let described = pids.into_iter().map(one);
    described.filter_map(Result::transpose).collect()
}

fn one(pid: i32) -> Result<Option<Process>, Error> {
    let path = |file: &str| PathBuf::from(format!("/proc/{pid}/{file}"));
    let stat = identity::stat(pid).map_err(with_path("read", &path("stat")))?;
    let read = |file: &str| present(read(&path(file))).map_err(with_path("read", &path(file)));
    let (Some(stat), Some(status), Some(arguments)) = (stat, read("status")?, read("cmdline")?)
    else {
        return Ok(None);
    };
    let Ok(status) = Status::from_read(status.as_slice()) else {
        return Err(with_path("understand", &path("status"))(Errno::EINVAL));
    };
    Ok(Some(Process {
        pid,
        parent: stat.ppid,
        user: status.euid,
        processor_time: Duration::from_millis((stat.utime + stat.stime) * TICK_MS),
        age: age(&stat),
        terminal: terminal(&stat),
        command: command(&stat, &arguments),
    }))
}

/// How long ago the process began.
pub(crate) fn age(stat: &Stat) -> Duration {
    let began = Duration::from_millis(stat.starttime.saturating_mul(TICK_MS));
    Duration::from_nanos(coracle_sys::since_boot_ns()).saturating_sub(began)
}

fn read(path: &Path) -> nix::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| io_errno(&error))?;
    let read = file.take(COMMAND_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| io_errno(&error))?;
    Ok(bytes)
}

/// `None` for the file of a process that has ended.
fn present(read: nix::Result<Vec<u8>>) -> nix::Result<Option<Vec<u8>>> {
    match read {
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        read => read.map(Some),
    }
}

/// Majors of pseudoterminals: devices.txt of the kernel. They have no directory in /sys.
const PSEUDOTERMINALS: std::ops::RangeInclusive<i32> = 136..=143;

fn terminal(stat: &Stat) -> Option<String> {
    let (major, minor) = stat.tty_nr();
    if PSEUDOTERMINALS.contains(&major) {
        return Some(format!(
            "pts/{}",
            (major - PSEUDOTERMINALS.start()) * 256 + minor
        ));
    }
    let device = std::fs::read_link(format!("/sys/dev/char/{major}:{minor}")).ok()?;
    Some(device.file_name()?.to_string_lossy().into_owned())
}

/// As ps(1) prints it.
fn command(stat: &Stat, arguments: &[u8]) -> String {
    let length = arguments
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let arguments = arguments.get(..length).unwrap_or_default();
    let text = match arguments {
        [] => format!("[{}]", stat.comm),
        _ => String::from_utf8_lossy(arguments).replace(['\0', '\n'], " "),
    };
    let is_unprintable =
        |letter: char| letter.is_control() || letter == char::REPLACEMENT_CHARACTER;
    let end = match stat.state {
        'Z' | 'X' | 'x' => " <defunct>",
        _ => "",
    };
    text.replace(is_unprintable, "?") + end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Stat {
        identity::stat(i32::try_from(std::process::id()).unwrap())
            .unwrap()
            .unwrap()
    }

    #[test]
    fn a_command_is_shown_on_one_line_without_control_characters() {
        let mut stat = own();
        stat.comm = "a\x1bb".to_owned();
        for (arguments, shown) in [
            (&b"sh\0-c\0true\0"[..], "sh -c true"),
            (b"sh\0\0a\nb\0\0", "sh  a b"),
            (b"\x1b[31m\t\xc3\xbc\xff", "?[31m?ü?"),
            (b"", "[a?b]"),
        ] {
            assert_eq!(command(&stat, arguments), shown);
        }
        stat.state = 'Z';
        assert_eq!(command(&stat, b""), "[a?b] <defunct>");
    }

    #[test]
    fn terminals_have_their_names() {
        let mut stat = own();
        for (number, name) in [
            (0, None),
            (136 << 8 | 7, Some("pts/7")),
            (1 << 20 | 136 << 8 | 1, Some("pts/257")),
        ] {
            stat.tty_nr = number;
            assert_eq!(terminal(&stat).as_deref(), name);
        }
    }

    #[test]
    fn processes_are_in_order_and_the_ended_are_left_out() {
        let own = i32::try_from(std::process::id()).unwrap();
        let pids = describe(vec![own, i32::MAX, 1]).unwrap();
        let pids: Vec<_> = pids.iter().map(|process| process.pid).collect();
        assert_eq!(pids, [1, own]);
    }
}
