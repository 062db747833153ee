//! What holds of every system call of every verb: descriptors are close-on-exec from the start,
//! nothing below a root is reached by its path once the root is open, nothing else of the host is
//! opened for writing, and every wait has an end and is reported after two seconds.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle_integration::trace::{Moment, Seen, can_trace, observe};
use coracle_integration::{Bundle, Command, Folder, Runtime, json, needs, skip};
use nix::libc;
use nix::unistd::Pid;

/// Calls with paths: the arguments with the directory, if there is one, and with the path.
const PATHS: [(libc::c_long, Option<usize>, usize); 24] = [
    (libc::SYS_open, None, 0),
    (libc::SYS_stat, None, 0),
    (libc::SYS_lstat, None, 0),
    (libc::SYS_access, None, 0),
    (libc::SYS_mkdir, None, 0),
    (libc::SYS_unlink, None, 0),
    (libc::SYS_readlink, None, 0),
    (libc::SYS_mount, None, 1),
    (libc::SYS_umount2, None, 0),
    (libc::SYS_chdir, None, 0),
    (libc::SYS_chroot, None, 0),
    (libc::SYS_openat, Some(0), 1),
    (libc::SYS_openat2, Some(0), 1),
    (libc::SYS_mkdirat, Some(0), 1),
    (libc::SYS_mknodat, Some(0), 1),
    (libc::SYS_symlinkat, Some(1), 2),
    (libc::SYS_unlinkat, Some(0), 1),
    (libc::SYS_newfstatat, Some(0), 1),
    (libc::SYS_statx, Some(0), 1),
    (libc::SYS_fchownat, Some(0), 1),
    (libc::SYS_fchmodat, Some(0), 1),
    (libc::SYS_readlinkat, Some(0), 1),
    (libc::SYS_open_tree, Some(0), 1),
    (libc::SYS_move_mount, Some(2), 3),
];

const O_CLOEXEC: i32 = libc::O_CLOEXEC;
/// `RESOLVE_BENEATH | RESOLVE_IN_ROOT`.
const RESOLVES_WITHIN: u64 = 0x18;
/// After this time a wait is reported to the user.
const REPORTED_MS: i32 = 2000;

/// Looks at the calls of one command.
struct Inspector {
    root: PathBuf,
    /// What may be opened for writing, by the beginning of its path.
    writable: Vec<String>,
    root_is_open: bool,
    descriptors: HashMap<usize, HashMap<i32, String>>,
    executed: usize,
    /// When a poll of a process began.
    polling: HashMap<usize, Instant>,
    /// Processes that have waited for so long that they tell it.
    reported: HashSet<usize>,
    complaints: Vec<String>,
}

impl Inspector {
    fn new(root: &Path, writable: &[&Path]) -> Self {
        let ours = writable.iter().map(|path| path.display().to_string());
        // Paths in the runtime's own detached procfs are shown from its top, without `/proc`.
        let kernel = [
            "/proc/",
            "/sys/fs/cgroup/",
            "/dev/",
            "/self/",
            "/thread-self/",
            "/sys/",
        ];
        Self {
            root: root.to_owned(),
            writable: ours.chain(kernel.map(str::to_owned)).collect(),
            root_is_open: false,
            descriptors: HashMap::new(),
            executed: 0,
            polling: HashMap::new(),
            reported: HashSet::new(),
            complaints: Vec::new(),
        }
    }

    fn see(&mut self, seen: &Seen) {
        match seen.moment {
            Moment::Entry => {
                self.paths(seen);
                self.waits(seen);
            }
            Moment::Exit => {
                self.new_descriptors(seen);
                let since = self.polling.remove(&seen.process);
                if since.is_some_and(|since| since.elapsed() >= Duration::from_secs(2)) {
                    self.reported.insert(seen.process);
                }
            }
            Moment::Executed => {
                self.executed += 1;
                for (number, link) in descriptors(seen.pid) {
                    if number > 2 {
                        self.complain(seen, &format!("the program has {number}, {link}"));
                    }
                }
            }
        }
    }

    fn complain(&mut self, seen: &Seen, what: &str) {
        let line = format!("process {}, call {}: {what}", seen.process, seen.call);
        if !self.complaints.contains(&line) {
            self.complaints.push(line);
        }
    }

    fn new_descriptors(&mut self, seen: &Seen) {
        let now = descriptors(seen.pid);
        let Some(before) = self.descriptors.insert(seen.process, now.clone()) else {
            return;
        };
        let root = self.root.display().to_string();
        for (number, link) in now {
            if number <= 2 || before.get(&number) == Some(&link) {
                continue;
            }
            let flags = flags(seen.pid, number);
            if flags & O_CLOEXEC == 0 {
                self.complain(seen, &format!("{link} is not close-on-exec"));
            }
            self.root_is_open |= link == root;
            let is_numbered = link[1..].starts_with(|first: char| first.is_ascii_digit());
            let may_be_written = self.writable.iter().any(|start| link.starts_with(start));
            let writes = flags & libc::O_ACCMODE != 0 && flags & libc::O_PATH == 0;
            if writes && link.starts_with('/') && !may_be_written && !is_numbered {
                self.complain(seen, &format!("{link} is opened for writing"));
            }
        }
    }

    fn paths(&mut self, seen: &Seen) {
        let entry = PATHS.iter().find(|(call, ..)| *call == seen.call);
        let Some((_, directory, path)) = entry else {
            return;
        };
        let path = text(seen.pid, seen.arguments[*path]);
        let below = self.root.display().to_string() + "/";
        if self.root_is_open && path.starts_with(&below) {
            self.complain(seen, &format!("{path} by its path"));
        }
        let Some(directory) = directory else { return };
        let number = seen.arguments[*directory] as u32 as i32;
        let link = fs::read_link(format!("/proc/{}/fd/{number}", seen.pid));
        let link = link.unwrap_or_default();
        let within = seen.call == libc::SYS_openat2
            && word(seen.pid, seen.arguments[2] + 16) & RESOLVES_WITHIN != 0;
        if link.starts_with(&self.root) && path.trim_end_matches('/').contains('/') && !within {
            self.complain(seen, &format!("{path} from {}", link.display()));
        }
    }

    fn waits(&mut self, seen: &Seen) {
        let [first, second, third, ..] = seen.arguments;
        let timeout = third as u32 as i32;
        match seen.call {
            libc::SYS_poll if timeout != 0 => self.polls(seen, (first, second), timeout),
            libc::SYS_ppoll if third == 0 => self.polls(seen, (first, second), -1),
            libc::SYS_read | libc::SYS_readv | libc::SYS_recvfrom | libc::SYS_recvmsg => {
                self.reads(seen, first as i32);
            }
            libc::SYS_futex | libc::SYS_select | libc::SYS_pselect6 | libc::SYS_pause => {
                self.complain(seen, "a wait without an end");
            }
            libc::SYS_epoll_wait | libc::SYS_epoll_pwait
                if seen.arguments[3] as u32 as i32 == -1 =>
            {
                self.complain(seen, "a wait without an end");
            }
            libc::SYS_flock if second as i32 & (libc::LOCK_NB | libc::LOCK_UN) == 0 => {
                self.complain(seen, "waits for a lock");
            }
            libc::SYS_fcntl if second as i32 == libc::F_SETLKW => {
                self.complain(seen, "waits for a lock");
            }
            // A pidfd names the child that is waited for.
            libc::SYS_waitid if first as libc::idtype_t == libc::P_PIDFD => {}
            libc::SYS_waitid if seen.arguments[3] as i32 & libc::WNOHANG != 0 => {}
            libc::SYS_wait4 if timeout & libc::WNOHANG != 0 => {}
            libc::SYS_waitid | libc::SYS_wait4 => self.complain(seen, "waits for any child"),
            _ => {}
        }
    }

    /// A process that waits polls, and reports after two seconds what for: no poll before is
    /// longer.
    /// In silence, and as long as it takes, the foreground waits for signals and its process alone.
    fn polls(&mut self, seen: &Seen, (list, count): (u64, u64), timeout: i32) {
        let numbers = (0..count).map(|index| word(seen.pid, list + 8 * index) as u32);
        let links: Vec<String> = numbers.map(|it| link(seen.pid, it.cast_signed())).collect();
        let is_signal = |link: &String| link.contains("[signalfd]");
        let is_foreground = links.iter().any(is_signal)
            && (links.iter()).all(|link| is_signal(link) || link.contains("[pidfd]"));
        if is_foreground {
            return;
        }
        if !(0..=REPORTED_MS).contains(&timeout) && !self.reported.contains(&seen.process) {
            self.complain(
                seen,
                &format!("waits {timeout} ms unreported for {links:?}"),
            );
        }
        // What the first two seconds did not bring may take longer.
        self.polling.insert(seen.process, Instant::now());
    }

    /// Init reads what the runtime or `start` sends, and its socket ends with the runtime; all else
    /// is polled for before it is read.
    fn reads(&mut self, seen: &Seen, number: i32) {
        let (pid, link) = (seen.pid, link(seen.pid, number));
        let kind = fs::metadata(format!("/proc/{pid}/fd/{number}")).map(|it| it.file_type());
        let may_wait = kind.is_ok_and(|it| it.is_fifo() || it.is_socket());
        let is_inits = seen.process != 0 && !link.starts_with("pipe:");
        if !may_wait || is_inits || flags(pid, number) & libc::O_NONBLOCK != 0 {
            return;
        }
        if !is_readable(pid, number) {
            self.complain(seen, &format!("waits for {link} without an end"));
        }
    }
}

fn link(pid: Pid, number: i32) -> String {
    let link = fs::read_link(format!("/proc/{pid}/fd/{number}"));
    link.unwrap_or_default().display().to_string()
}

fn is_readable(pid: Pid, number: i32) -> bool {
    let process = coracle_sys::pidfd_open(pid).expect("a pidfd of a traced process");
    let copy = coracle_sys::pidfd_getfd(process.as_fd(), number).expect("its descriptor");
    coracle_sys::poll_readable(&[copy.as_fd()], Some(0)) != Ok(0)
}

fn descriptors(pid: Pid) -> HashMap<i32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((
                number,
                fs::read_link(entry.path()).ok()?.display().to_string(),
            ))
        })
        .collect()
}

fn flags(pid: Pid, number: i32) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.map_or(O_CLOEXEC, |text| {
        i32::from_str_radix(text.trim(), 8).expect("an octal number")
    })
}

fn memory(pid: Pid, place: u64, bytes: &mut [u8]) -> usize {
    let file = File::open(format!("/proc/{pid}/mem"));
    file.and_then(|file| file.read_at(bytes, place))
        .unwrap_or(0)
}

fn text(pid: Pid, place: u64) -> String {
    let mut bytes = [0; 512];
    let mut length = memory(pid, place, &mut bytes);
    if length == 0 {
        // It may end with the last page that there is.
        let left = usize::try_from(4096 - place % 4096)
            .expect("a length")
            .min(512);
        length = memory(pid, place, &mut bytes[..left]);
    }
    let end = bytes
        .iter()
        .take(length)
        .position(|byte| *byte == 0)
        .unwrap_or(length);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn word(pid: Pid, place: u64) -> u64 {
    let mut bytes = [0; 8];
    memory(pid, place, &mut bytes);
    u64::from_ne_bytes(bytes)
}

fn inspected(command: Command, root: &Path, writable: &[&Path]) -> Inspector {
    let mut inspector = Inspector::new(root, writable);
    let trace = observe(command, &mut |seen| inspector.see(seen));
    assert_eq!(trace.output.code, 0, "{}", trace.output);
    inspector
}

#[track_caller]
fn clean(command: Command, runtime: &Runtime, bundle: &Bundle) -> usize {
    let inspector = inspected(command, &bundle.rootfs(), &[runtime.root()]);
    let complaints = inspector.complaints;
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    inspector.executed
}

fn kinds(runtime: &Runtime) -> [Bundle; 3] {
    let source = runtime.folder().folder("source");
    let limits = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 60}});
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]});
    let plain = || {
        let bundle = runtime.bundle().set("/linux/resources", limits.clone());
        bundle.args(["sleep", "1000"])
    };
    let bound = plain()
        .bind(&source, "/a/b/c", ["rbind", "ro"])
        .set("/linux/seccomp", filter);
    [
        plain(),
        bound,
        plain().bind(&source, "/mnt", ["bind"]).user_namespace(),
    ]
}

#[test]
fn of_every_verb() {
    if !can_trace() {
        skip!("needs x86_64");
    }
    let runtime = Runtime::new();
    for bundle in kinds(&runtime) {
        let id = runtime.id();
        let create = runtime.with_bundle("create", &bundle).arg(&id);
        clean(create, &runtime, &bundle);
        for words in [
            &["start"][..],
            &["state"],
            &["update", "--pids-limit", "70"],
            &["pause"],
            &["resume"],
            &["kill"],
            &["delete", "--force"],
        ] {
            let command = runtime.command(words.iter().copied()).arg(&id);
            clean(command, &runtime, &bundle);
        }
        // In the foreground, since the trace ends with the runtime: a detached one may end before
        // init has executed the program.
        let short = bundle.clone().args(["true"]);
        let run = runtime.with_bundle("run", &short).arg(runtime.id());
        let executed = clean(run, &runtime, &short);
        assert!(executed > 0, "the program of `run` was not seen");
        let (id, run) = (runtime.id(), runtime.with_bundle("run", &bundle));
        run.args(["--detach", &id]).output().ok();
        let exec = runtime.command(["exec", &id, "true"]);
        assert!(clean(exec, &runtime, &bundle) > 0, "nor that of `exec`");
        runtime.command(["delete", "--force", &id]).output().ok();
    }
}

/// Polls an empty input, which is readable at once.
fn polls(limit: &str) -> String {
    let program = "import select; it = select.poll(); it.register(0, select.POLLIN)";
    format!("exec python3 -c '{program}; it.poll({limit})'")
}

/// Each of the rules finds a program that breaks it.
#[test]
fn what_is_broken_is_found() {
    if !can_trace() {
        skip!("needs x86_64");
    }
    needs::program("python3");
    let folder = Folder::new();
    let root = folder.folder("root");
    folder.file("root/below", "");
    for (script, word) in [
        ("exec 5</etc/passwd", "not close-on-exec"),
        ("exec 5<root; : <\"$PWD/root/below\"", "by its path"),
        ("exec 5>written", "opened for writing"),
        ("exec 5</etc/passwd; sh -c true; :", "the program has"),
        ("sleep 0; :", "waits for any child"),
        ("sleep 0.2 | { read line; }; :", "without an end"),
        (&polls("3000"), "unreported"),
        (&polls("None"), "unreported"),
    ] {
        let command = Command::new("sh")
            .args(["-c", script])
            .folder(folder.path());
        let found = inspected(command, &root, &[]).complaints.join("\n");
        assert!(found.contains(word), "{script}: {found}");
    }
}
