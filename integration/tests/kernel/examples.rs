//! The bundles of `docs/examples`, run as a reader would run them.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_integration::terminal::Terminal;
use coracle_integration::{Command, Folder, Runtime, needs, program, skip};

/// An ordinary user without an account.
const USER: u32 = 64123;
/// Tells what of its surroundings is the container's own.
const LOOK: &str = "echo pid $$; id -u; hostname; ls /sys 2>/dev/null; touch /usr/x 2>&1; exit 7";
const SEEN: &str = "pid 1\n0\nshell\ntouch: cannot touch '/usr/x': Read-only file system\n";

#[test]
fn the_shell_runs_as_root() {
    let runtime = Runtime::new();
    let output = example(&runtime).args(["sh", "-c", LOOK]).output();
    assert_eq!((output.stdout.as_str(), output.code), (SEEN, 7), "{output}");
    is_tidy(&runtime);
}

#[test]
fn the_shell_runs_as_a_user() {
    let runtime = Runtime::for_user(USER);
    let command = example(&runtime).args(["sh", "-c", LOOK]);
    let output = as_user(command).output();
    assert_eq!((output.stdout.as_str(), output.code), (SEEN, 7), "{output}");
    is_tidy(&runtime);
}

#[test]
fn the_shell_runs_as_a_user_who_logged_in() {
    let runtime = Runtime::for_user(USER);
    let folder = runtime.folder().join("user");
    let command = example(&runtime).env("XDG_RUNTIME_DIR", &folder);
    let script = "grep -c . /proc/self/uid_map";
    let output = as_user(command.args(["sh", "-c", script])).output().ok();
    assert_eq!(output.stdout, "1\n");
    let root = fs::read_dir(folder.join("coracle")).expect("the state root");
    assert_eq!(root.count(), 0, "a container was left there");
    is_tidy(&runtime);
}

#[test]
fn the_shell_gets_its_arguments_unchanged() {
    let runtime = Runtime::new();
    let hard = ["a \"b\" \\c", "two\nlines\n", "tab\t& | $x `y` 'z'", ""];
    let command = example(&runtime).args(["printf", "%s;"]).args(hard);
    let expected = hard.map(|argument| format!("{argument};")).concat();
    assert_eq!(command.output().ok().stdout, expected);
}

#[test]
fn the_shell_has_a_terminal() {
    let runtime = Runtime::new();
    let mut terminal = Terminal::new();
    let shell = terminal.attach(example(&runtime)).spawn();
    terminal.expect("coracle# ");
    terminal.send("stty size; tty; echo is $$; exit 5\n");
    terminal.expect("24 80");
    terminal.expect("/dev/pts/0");
    terminal.expect("is 1");
    assert_eq!(shell.wait().code, 5);
    is_tidy(&runtime);
}

/// The script, copied to where any user may read it, with a folder of its own for what it makes.
fn example(runtime: &Runtime) -> Command {
    needs::program("bash");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/shell");
    if !source.exists() {
        skip!("needs the checkout, {}, for its example", source.display());
    }
    let copy = runtime.folder().folder("example");
    for name in ["run", "config.json.in"] {
        fs::copy(source.join(name), copy.join(name)).expect("a file of the example");
    }
    let command = Command::new(copy.join("run"));
    let command = command.env("TMPDIR", temporary(runtime.folder()));
    command
        .env("CORACLE", reachable(runtime.folder()))
        .env("CORACLE_TEST", runtime.marker())
}

/// The program under test: an ordinary user's runtime has a copy.
fn reachable(folder: &Folder) -> PathBuf {
    let copy = folder.join("runtime");
    match copy.exists() {
        true => copy,
        false => program().to_owned(),
    }
}

/// Folder for temporary files: the user's own if the runtime is one's.
fn temporary(folder: &Folder) -> PathBuf {
    let owned = folder.join("user");
    match owned.exists() {
        true => owned,
        false => folder.folder("tmp"),
    }
}

fn as_user(command: Command) -> Command {
    let user = [format!("--reuid={USER}"), format!("--regid={USER}")];
    let rest = ["--clear-groups", "--inh-caps=-all", "--"].map(str::to_owned);
    command.under("setpriv", user.iter().chain(&rest))
}

/// The script removed its bundle.
#[track_caller]
fn is_tidy(runtime: &Runtime) {
    let names = fs::read_dir(temporary(runtime.folder())).expect("its folder");
    let left = names.flatten().map(|entry| entry.path());
    let left: Vec<_> = left
        .filter(|path| path.to_string_lossy().contains("coracle-shell"))
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
