//! Races: while the runtime works, what the image has at a name is exchanged with something else,
//! without pause, as another container that shares the volume can do it (CVE-2021-30465 and those
//! after it).

use std::fmt;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use coracle_integration::{Bundle, Folder, Output, Runtime};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::image::{Kind, Shape, place, shaped};
use crate::judge::{self, Refusal};

/// The verb during which names are exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Run,
    Exec,
}

/// The kinds of file that are exchanged with the name.
const DECOYS: [Kind; 5] = [
    Kind::AbsoluteLinkOut,
    Kind::RelativeLinkOut,
    Kind::MagicLink,
    Kind::Directory,
    Kind::File,
];

const SHAPES: [Shape; 5] = [
    Shape::Engine,
    Shape::UserNamespace,
    Shape::ReadOnly,
    Shape::NoPivot,
    Shape::OwnDev,
];

/// Names whose exchange matters while a container is made.
const NAMES: [&str; 17] = [
    "/proc",
    "/sys",
    "/dev",
    "/etc",
    "/etc/hosts",
    "/etc/shadow",
    "/volume",
    "/volume/deep",
    "/new",
    "/run",
    "/copied",
    "/copied/up",
    "/var",
    "/usr",
    "/home",
    "/home/user",
    "/bin",
];

/// The same where /dev is the image's.
const IN_DEV: [&str; 3] = ["/dev/null", "/dev/pts", "/dev/net"];

/// Names that `exec` touches.
const BY_EXEC: [&str; 5] = ["/etc", "/etc/passwd", "/home", "/home/user", "/bin"];

/// One name and what it is exchanged with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Race {
    verb: Verb,
    shape: Shape,
    path: &'static str,
    decoy: Kind,
}

/// All of them.
pub(crate) fn races() -> Vec<Race> {
    let mut races = Vec::new();
    for shape in SHAPES {
        let in_dev = IN_DEV.iter().filter(|_| shape == Shape::OwnDev);
        let run = NAMES.iter().chain(in_dev).map(|path| (Verb::Run, path));
        let exec = BY_EXEC.iter().map(|path| (Verb::Exec, path));
        for (verb, path) in run.chain(exec) {
            races.extend(DECOYS.map(|decoy| Race {
                verb,
                shape,
                path,
                decoy,
            }));
        }
    }
    races
}

/// The results of some tries.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) tries: u64,
    pub(crate) exchanges: u64,
    pub(crate) refused: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.tries += other.tries;
        self.exchanges += other.exchanges;
        self.refused += other.refused;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tries,
            exchanges,
            refused,
        } = self;
        write!(
            f,
            "{tries} tries with {exchanges} exchanges, {refused} refused"
        )
    }
}

impl Race {
    /// `race:Run:Engine:/volume/deep:AbsoluteLinkOut`
    pub(crate) fn name(&self) -> String {
        let Self {
            verb,
            shape,
            path,
            decoy,
        } = self;
        format!("race:{verb:?}:{shape:?}:{path}:{decoy:?}")
    }

    /// Tries the race this many times; returns what was wrong at the first try that failed.
    pub(crate) fn judge(&self, tries: u64) -> Result<Tally, String> {
        let outside = judge::outside();
        let before = judge::snapshot(outside.path());
        let runtime = Runtime::new();
        let bundle = shaped(self.shape, runtime.bundle(), &outside)
            .file("/etc/passwd", "root:x:0:0::/home/user:/bin/sh\n");
        let bundle = self.shape.users(bundle);
        let tally = match self.verb {
            Verb::Run => {
                let race = self.begin(&bundle, &outside);
                let run = || {
                    let command = runtime.with_bundle("run", &bundle);
                    let command = command.args(self.shape.options()).arg(runtime.id());
                    command.limit(15).output_or_kill()
                };
                self.try_often(tries, race, run)
            }
            Verb::Exec => {
                let container = runtime.start(&bundle.clone().shell("exec sleep 1000"));
                let race = self.begin(&bundle, &outside);
                let exec = || {
                    let arguments = ["/bin/busybox", "sh", "-c", EXECUTED];
                    let command = container.exec_command(["--cwd", "/home/user"], arguments);
                    command.limit(15).output_or_kill()
                };
                let tally = self.try_often(tries, race, exec);
                container.delete_by_force().ok();
                tally
            }
        };
        let changed = judge::unchanged(&before, outside.path());
        let left = judge::clean(runtime, &bundle);
        tally.and_then(|tally| changed.and(left).map(|()| tally))
    }

    /// Puts the decoy beside the name, and exchanges the two from now on.
    fn begin(&self, bundle: &Bundle, outside: &Folder) -> Exchange {
        let path = bundle.path(self.path);
        let parent = path.parent().expect("a parent");
        std::fs::create_dir_all(parent).expect("a folder");
        if std::fs::symlink_metadata(&path).is_err() {
            std::fs::create_dir(&path).expect("a folder");
        }
        let decoy = parent.join("decoy");
        place(self.decoy, &decoy, self.path, outside);
        Exchange::begin(path, decoy)
    }

    fn try_often(
        &self,
        tries: u64,
        race: Exchange,
        run: impl Fn() -> Output,
    ) -> Result<Tally, String> {
        let mut tally = Tally::default();
        while tally.tries < tries {
            tally.tries += 1;
            match self.verdict(&run()) {
                Ok(None) => {}
                Ok(Some(_)) => tally.refused += 1,
                Err(text) => {
                    race.end();
                    return Err(format!("try {}: {text}", tally.tries));
                }
            }
        }
        tally.exchanges = race.end();
        Ok(tally)
    }

    /// Under a name that is exchanged while the program runs it may see anything of the volume, but
    /// nothing from outside.
    fn verdict(&self, output: &Output) -> Result<Refusal, String> {
        let mut forbidden = vec!["OUTSIDE", "unreachable"];
        let within = |folder: &str| self.path.starts_with(folder);
        if !within("/etc") && !within("/var") && !within("/dev") {
            forbidden.push("SECRET");
        }
        if !within("/usr") {
            forbidden.push("written");
        }
        if !within("/proc") && !within("/bin") {
            forbidden.push("no procfs");
        }
        judge::verdict(output, &forbidden, true)
    }
}

/// The program of `exec`: it prints its working directory and files relative to it.
const EXECUTED: &str = "/bin/busybox readlink /proc/self/cwd
    /bin/busybox cat target/file ../target/file /proc/self/cwd/target/file 2>&1
    echo done";

/// A thread that exchanges two names.
struct Exchange {
    names: (PathBuf, PathBuf),
    ended: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Exchange {
    fn begin(first: PathBuf, second: PathBuf) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let (names, flag, counter) = (
            (first.clone(), second.clone()),
            ended.clone(),
            count.clone(),
        );
        let thread = thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                if exchange(&first, &second) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self {
            names,
            ended,
            count,
            thread,
        }
    }

    /// Ends with everything at its first place; how often it was exchanged.
    fn end(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("the exchanging thread");
        let count = self.count.load(Ordering::Relaxed);
        if count % 2 == 1 {
            exchange(&self.names.0, &self.names.1);
        }
        count
    }
}

fn exchange(first: &Path, second: &Path) -> bool {
    let flags = RenameFlags::RENAME_EXCHANGE;
    renameat2(AT_FDCWD, first, AT_FDCWD, second, flags).is_ok()
}
