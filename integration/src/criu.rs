//! CRIU for the tests, and containers that come from its images.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::{Bundle, Command, Container, Runtime, build_folder, needs, skip};

/// A `PATH` that begins with a CRIU which works on this kernel.
///
/// The folder comes from `CORACLE_TEST_CRIU`, else the script `integration/criu` makes it. Without
/// one the calling test is skipped.
pub fn path() -> &'static str {
    found().unwrap_or_else(|reason| skip!("{reason}"))
}

/// The same, or why there is none.
///
/// # Errors
/// The reason.
pub fn found() -> Result<&'static str, &'static str> {
    static FOUND: OnceLock<Result<String, String>> = OnceLock::new();
    let found = FOUND.get_or_init(find).as_ref();
    found.map(String::as_str).map_err(String::as_str)
}

/// `worker.c`, built once, or `CORACLE_TEST_WORKER` where no compiler is.
pub fn worker() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if std::env::var_os("CORACLE_TEST_WORKER").is_none() {
        needs::program("cc");
    }
    PROGRAM.get_or_init(|| match std::env::var_os("CORACLE_TEST_WORKER") {
        Some(program) => program.into(),
        None => {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/worker.c");
            let place = build_folder().join("worker");
            let program = build_folder().join(format!("worker-{}", std::process::id()));
            let cc = Command::new("cc").args(["-static", "-O1", "-Wall", "-pthread"]);
            cc.args([source, "-o"]).arg(&program).output().ok();
            std::fs::rename(&program, &place).expect("a program in its place");
            place
        }
    })
}

fn find() -> Result<String, String> {
    let folder = match std::env::var("CORACLE_TEST_CRIU") {
        Ok(folder) => folder,
        Err(_) => {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/criu");
            let made = Command::new(script).limit(200).output_or_kill();
            if made.code != 0 {
                let last = made.stderr.lines().last().unwrap_or("no word");
                return Err(format!("no CRIU to be had: {last}"));
            }
            made.line().to_owned()
        }
    };
    let program = Path::new(&folder).join("criu");
    if !program.exists() {
        return Err(format!("no CRIU at {folder}"));
    }
    let check = Command::new(program).arg("check").output_or_kill();
    if check.code != 0 {
        let reason = check.stderr.lines().find(|line| line.contains("Error ("));
        let reason = reason.or(check.stderr.lines().last()).unwrap_or("no word");
        return Err(format!("CRIU does not work here: {reason}"));
    }
    Ok(format!("{folder}:/usr/sbin:/usr/bin:/sbin:/bin"))
}

impl Runtime {
    /// A runtime whose `PATH` begins with a CRIU that works here; without one the test is skipped.
    pub fn with_criu() -> Self {
        Self::new().variable("PATH", path())
    }

    /// `restore --bundle DIR --image-path IMAGES`, to which options and the id are added.
    pub fn restore_command(&self, bundle: &Bundle, images: &Path) -> Command {
        self.with_bundle("restore", bundle)
            .arg("--image-path")
            .arg(images)
    }

    /// `create` and `start`, with standard output appended to a file. Other commands write to files
    /// in memory: criu puts those into its images, and a restored container writes to a copy.
    #[track_caller]
    pub fn start_into(&self, bundle: &Bundle, output: &Path) -> Container<'_> {
        let (id, file) = self.id_and_pid_file();
        let command = self.with_bundle("create", bundle).stdout(append(output));
        let command = command.arg("--pid-file").arg(&file).arg(&id);
        let container = Container::new(self, id, command).adopted(&file);
        container.start().ok();
        container
    }

    /// `restore --detach` with more options, which must succeed; standard output as above.
    #[track_caller]
    pub fn restore<const N: usize>(
        &self,
        bundle: &Bundle,
        images: &Path,
        (output, options): (&Path, [&str; N]),
    ) -> Container<'_> {
        let (id, file) = self.id_and_pid_file();
        let command = self.restore_command(bundle, images).arg("--detach");
        let command = command.args(options).stdout(append(output));
        let command = command.arg("--pid-file").arg(&file).arg(&id);
        Container::new(self, id, command).adopted(&file)
    }

    fn id_and_pid_file(&self) -> (String, PathBuf) {
        let id = self.id();
        let file = self.folder().join(format!("{id}pid"));
        (id, file)
    }
}

fn append(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    options.open(path).expect("a file for standard output")
}

impl Container<'_> {
    /// `checkpoint` with more options, whatever comes of it.
    pub fn checkpoint<const N: usize>(&self, images: &Path, options: [&str; N]) -> crate::Output {
        self.runtime
            .command(["checkpoint", "--image-path"])
            .arg(images)
            .args(options)
            .arg(&self.id)
            .output()
    }
}
