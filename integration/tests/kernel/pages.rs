//! The pages that show a terminal. Each command in a `console` block is typed as it is printed, and
//! must say what the page says: `#` is root, `$` is an ordinary user; a line `…` stands for any
//! lines, and `…` within a line for any text. A command that fails must show its error.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use coracle_integration::terminal::Terminal;
use coracle_integration::{Manager, Sandbox, needs, skip};

/// The user of the pages.
const USER: u32 = 1000;

/// Changes to where the last command ended, gives this one, and marks its end.
const TYPE: &str = r#"
cd "$(cat "$1")"
eval "$2"
code=$?
pwd >"$1"
printf '\001%d\001' $code"#;

/// One test for each page.
macro_rules! pages {
    ($($name:ident $path:literal)*) => {
        const PAGES: &[&str] = &[$($path),*];
        $(
            #[test]
            fn $name() {
                follow($path);
            }
        )*
    };
}

pages! {
    readme "README.md"
    tutorial "docs/tutorial.md"
    rootless "docs/rootless.md"
    from_crun "docs/from-crun.md"
    from_runc "docs/from-runc.md"
    troubleshooting "docs/troubleshooting.md"
}

#[test]
fn each_page_with_a_terminal_is_followed() {
    let folder = checkout().join("docs");
    let names = fs::read_dir(folder).expect("the pages").flatten();
    let pages = names.map(|entry| format!("docs/{}", entry.file_name().to_string_lossy()));
    for page in pages.filter(|page| page.ends_with(".md")) {
        let text = fs::read_to_string(checkout().join(&page)).expect("a page");
        let is_followed = PAGES.contains(&page.as_str());
        assert_eq!(!entries(&text).is_empty(), is_followed, "{page}");
    }
}

#[test]
fn a_page_that_says_otherwise_is_noticed() {
    let page = "```console\n# cat <<END\na $ b\nEND\na $ b\n$ id\nuid=…(alice)…\n…\n```\n# no\n";
    let found = entries(page);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].command, "cat <<END\na $ b\nEND");
    assert_eq!(found[0].shown, ["a $ b"]);
    assert!(found[0].is_root && !found[1].is_root);
    let shown = &found[1].shown;
    assert!(is_as_shown(shown, &["uid=1(alice) gid=1"]));
    assert!(is_as_shown(shown, &["uid=1(alice)", "more", "lines"]));
    assert!(!is_as_shown(shown, &["uid=1(bob) gid=1"]));
    assert!(!is_as_shown(&["a", "b"], &["a"]) && !is_as_shown(&["a"], &["a", "b"]));
    assert!(!is_as_shown(&["a…"], &["ba"]) && !is_as_shown(&["…a"], &["ab"]));
    assert!(is_as_shown(&["a…b…c"], &["a1b2c"]) && !is_as_shown(&["a…b…b"], &["ab"]));
}

/// A command of a page, and what it prints.
struct Entry<'a> {
    is_root: bool,
    command: String,
    shown: Vec<&'a str>,
}

fn checkout() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match top.join("README.md").exists() {
        true => top,
        false => skip!("needs the checkout, {}, for its pages", top.display()),
    }
}

/// Gives the commands of a page, as root and as a user who has just logged in.
fn follow(page: &str) {
    needs::program("busybox");
    let text = fs::read_to_string(checkout().join(page)).expect("a page");
    let sandbox = Sandbox::new(Manager::Cgroupfs);
    let as_root = |script: &str| sandbox.command("sh").args(["-ec", script]).output().ok();
    as_root(&format!(
        "echo alice:x:{USER}:{USER}::/home/alice:/bin/sh >>/etc/passwd\n\
         mkdir -p /home/alice /run/user/{USER} /home/root\n\
         chown {USER}:{USER} /home/alice /run/user/{USER}\n\
         chmod 700 /home/alice /run/user/{USER}"
    ));
    let places = [("root", "/home/root"), ("alice", "/home/alice")];
    let [root, alice] = places.map(|(name, home)| {
        let file = sandbox.folder().file(name, home);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("a mode");
        file
    });
    for entry in entries(&text) {
        let (command, place) = match entry.is_root {
            true => (sandbox.command("bash"), &root),
            false => (sandbox.command_of(USER, "bash"), &alice),
        };
        let command = command.args(["-c", TYPE, "bash"]).arg(place);
        let mut terminal = Terminal::new();
        let command = terminal
            .attach(command.arg(&entry.command))
            .env("TERM", "xterm");
        chown(terminal.name(), Some(USER), None).expect("the user's terminal");
        let running = command.spawn();
        let said = terminal.expect("\u{1}").replace('\r', "");
        let code = terminal.expect("\u{1}").replace('\u{1}', "");
        running.wait();
        let said: Vec<&str> = said.trim_end_matches('\u{1}').lines().collect();
        let failed = code != "0" && entry.shown.is_empty();
        assert!(
            is_as_shown(&entry.shown, &said) && !failed,
            "{page}: {}\nsays, with code {code}:\n{}",
            entry.command,
            said.join("\n")
        );
    }
}

/// The commands of the `console` blocks. One goes on while its lines end in a backslash, and to the
/// end of a here-document.
fn entries(page: &str) -> Vec<Entry<'_>> {
    let mut found: Vec<Entry> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        let mut lines = block.lines().take_while(|line| !line.starts_with("```"));
        while let Some(line) = lines.next() {
            let is_root = line.starts_with("# ");
            if !is_root && !line.starts_with("$ ") {
                let last = found.last_mut().expect("a command first");
                last.shown.push(line);
                continue;
            }
            let mut command = line[2..].to_owned();
            let document = command.split_once("<<").map(|(_, end)| end.to_owned());
            while document.is_some() || command.ends_with('\\') {
                let Some(line) = lines.next() else { break };
                command = format!("{command}\n{line}");
                if document.as_deref() == Some(line) {
                    break;
                }
            }
            let shown = Vec::new();
            found.push(Entry {
                is_root,
                command,
                shown,
            });
        }
    }
    found
}

fn is_as_shown(shown: &[&str], said: &[&str]) -> bool {
    match (shown, said) {
        ([], said) => said.is_empty(),
        (["…", shown @ ..], said) => {
            (0..=said.len()).any(|count| is_as_shown(shown, &said[count..]))
        }
        (_, []) => false,
        ([line, shown @ ..], [text, said @ ..]) => is_line(line, text) && is_as_shown(shown, said),
    }
}

fn is_line(shown: &str, said: &str) -> bool {
    let Some((start, rest)) = shown.split_once('…') else {
        return shown == said;
    };
    let Some(said) = said.strip_prefix(start) else {
        return false;
    };
    let starts = said.char_indices().map(|(at, _)| at).chain([said.len()]);
    { starts }.any(|at| is_line(rest, &said[at..]))
}
