//! The rules of the house that a machine can check: size, purity, layers, words. Each rule is a
//! function from a file to complaints; a test applies it to the checkout, and another shows that it
//! finds a bad sample.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/source.rs"]
mod source;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use source::{
    Source, closing, crates, files, folders, identifier, line_of, rust_files, shown, words,
};

/// Lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES: usize = 60;
/// Lines of a file that hold code of the product.
const FILE_LINES: usize = 500;
const COLUMNS: usize = 100;
const PARAMETERS: usize = 5;
const BANNED_MODULES: [&str; 9] = [
    "common", "helper", "helpers", "manager", "misc", "types", "util", "utils", "utility",
];
const BANNED_MARKS: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];
const LOG_MACROS: [&str; 8] = [
    "error!",
    "warn!",
    "info!",
    "debug!",
    "trace!",
    "log!",
    "println!",
    "eprintln!",
];
/// The floors of the house: a crate depends only on crates of lower ones.
const FLOORS: [(u32, &[&str]); 8] = [
    (1, &["sys"]),
    (2, &["text"]),
    (3, &["dbus", "program"]),
    (4, &["bundle", "host"]),
    (
        5,
        &[
            "namespaces",
            "cgroups",
            "rootfs",
            "process",
            "seccomp",
            "hooks",
            "cni",
            "checkpoint",
        ],
    ),
    (6, &["launch"]),
    (7, &["container"]),
    (8, &["cli"]),
];
/// What of `coracle_sys` a plan may use besides types: a table of constants.
const PURE_OF_SYS: [&str; 1] = ["mount_attribute"];
const IMPURE_MODULES: [&str; 4] = ["fs", "env", "process", "net"];
const IMPURE_NAMES: [&str; 2] = ["SystemTime", "Instant"];
/// Methods of `Path` that ask the kernel.
const IMPURE_METHODS: [&str; 10] = [
    ".exists(",
    ".try_exists(",
    ".is_file(",
    ".is_dir(",
    ".is_symlink(",
    ".metadata(",
    ".symlink_metadata(",
    ".canonicalize(",
    ".read_link(",
    ".read_dir(",
];
/// Hosts that an address in the repository may name: none that serves packages.
const HOSTS: [&str; 10] = [
    "docs.kernel.org",
    "docs.rs",
    "git.kernel.org",
    "github.com",
    "lore.kernel.org",
    "man7.org",
    "opencontainers.org",
    "www.apache.org",
    "www.kernel.org",
    "www.w3.org",
];

/// Crates whose files still import in circles.
const CIRCULAR: [&str; 6] = [
    "checkpoint",
    "cni",
    "container",
    "hooks",
    "launch",
    "rootfs",
];

type Rule = fn(&Source) -> Vec<String>;

#[test]
fn functions_are_short() {
    holds(long_functions);
    let body = "    work();\n".repeat(FUNCTION_LINES);
    finds(
        long_functions,
        &format!("fn long() {{\n{body}}}\n"),
        "`long`",
    );
    let good = format!("fn short() {{\n{}}}\n", &body[..body.len() - 24]);
    passes(long_functions, &good);
    passes(
        long_functions,
        &format!("#[cfg(test)]\nmod tests {{ fn a() {{\n{body}}} }}\n"),
    );
}

#[test]
fn files_are_short() {
    holds(long_file);
    let lines = "const A: u8 = 1;\n".repeat(FILE_LINES + 1);
    finds(long_file, &lines, "501 lines of code");
    passes(
        long_file,
        &format!("{}{}", "// why\n\n".repeat(400), &lines[17..]),
    );
}

#[test]
fn lines_are_short() {
    holds(long_lines);
    finds(
        long_lines,
        &format!("// {}\n", "x".repeat(98)),
        "101 columns",
    );
    passes(long_lines, &format!("// {}\n", "ü".repeat(97)));
}

#[test]
fn parameters_are_few() {
    holds_everywhere(many_parameters);
    let sample = "fn f<F: Fn(u8) -> u8>(a: (u8, u8), b: [u8; 2], c: F, d: u8, e: u8, f: u8) {}";
    finds(many_parameters, sample, "6 parameters");
    passes(
        many_parameters,
        "fn f(&self, a: Map<u8, u8>, b: u8, c: u8, d: fn(u8, u8),) {}",
    );
}

#[test]
fn public_functions_take_no_bool() {
    holds(bool_parameters);
    finds(bool_parameters, "pub fn f(on: bool) {}", "`f`");
    finds(bool_parameters, "pub const fn f(a: u8, on: bool) {}", "`f`");
    passes(
        bool_parameters,
        "fn f(on: bool) {} pub fn g(h: fn(u8) -> bool) -> bool {}",
    );
}

#[test]
fn only_sys_is_unsafe() {
    holds(unsafe_code);
    finds(unsafe_code, "fn f() { unsafe { g() } }", "unsafe");
    finds(unsafe_code, "#![allow(unsafe_code)]", "unsafe");
    passes(
        unsafe_code,
        "// unsafe\nconst A: &str = r#\"\"unsafe\"#; const B: char = '\"';",
    );
    let door = Source::new("crates/sys/src/door.rs", "fn f() { unsafe { g() } }");
    assert!(unsafe_code(&door).is_empty());
}

#[test]
fn plans_are_pure() {
    holds(impure_plan);
    for (bad, said) in [
        ("use std::fs;", "fs"),
        ("use std::{env, ffi::CString};", "env"),
        (
            "fn f() { std::process::Command::new(a); }",
            "std::process::Command",
        ),
        (
            "use coracle_sys::{Fault, open_tree};",
            "coracle_sys::open_tree",
        ),
        (
            "fn f() { coracle_sys::unshare(a); }",
            "coracle_sys::unshare",
        ),
        ("use nix::unistd::{Gid, getuid};", "nix::unistd::getuid"),
        ("use std::time::{Duration, SystemTime};", "SystemTime"),
        ("fn f(path: &Path) -> bool { path.exists() }", ".exists("),
    ] {
        finds(impure_plan, bad, said);
    }
    passes(
        impure_plan,
        "use coracle_sys::{Call, Fault, mount_attribute};\n\
         use std::{ffi::CString, path::Path};\nuse nix::sys::signal::Signal;\n\
         fn f() { coracle_sys::Fault::new(libc::MS_BIND); coracle_process::plan(); }",
    );
}

#[test]
fn modules_have_telling_names() {
    holds_everywhere(vague_modules);
    finds(vague_modules, "mod util;", "`util`");
    finds(vague_modules, "pub(crate) mod types { }", "`types`");
    passes(vague_modules, "mod file_types; fn f(model: &Model) {}");
}

#[test]
fn nothing_is_left_to_do() {
    holds_everywhere(unfinished);
    finds(unfinished, "fn f() { todo!() }", "todo!");
    finds(unfinished, "#[ignore = \"slow\"]\nfn f() {}", "#[ignore");
    passes(unfinished, "// no todo!\nconst A: &str = \"dbg!\";");
}

#[test]
fn directories_are_closed_without_a_panic() {
    holds(panicking_directories);
    let bad = "fn f() { for entry in std::fs::read_dir(path)? {} }";
    finds(panicking_directories, bad, "read_dir");
    let bad = "use nix::dir::Dir;";
    finds(panicking_directories, bad, "nix::dir");
    passes(
        panicking_directories,
        "fn f() { list_directory(fd); }\n#[cfg(test)]\nmod tests { fn f() { read_dir(a); } }",
    );
}

#[test]
fn errors_are_returned_or_reported() {
    holds(logged_errors);
    let bad = "fn f() { g().map_err(|error| { eprintln!(\"{error}\"); error })?; }";
    finds(logged_errors, bad, "map_err");
    let bad =
        "fn f() -> R { warn!(\"no\"); g().map_err(Error::G)?; h().map_err(|e| { info!(e); e }) }";
    finds(logged_errors, bad, "map_err");
    passes(
        logged_errors,
        "fn f() { g().map_err(Error::G)?; eprintln!(\"g\"); }",
    );
}

#[test]
fn every_file_is_a_module() {
    let (_, lost) = crates(top());
    none(
        &lost
            .iter()
            .map(|path| format!("{path}: no mod reaches it"))
            .collect::<Vec<_>>(),
    );
    let sample = Source::new(
        "a.rs",
        "mod a;\n#[cfg(test)]\nmod b;\nmod c { }\n// mod d;\n",
    );
    assert_eq!(
        sample.modules(),
        [("a".to_owned(), false), ("b".to_owned(), true)]
    );
}

#[test]
fn crates_depend_downwards() {
    let mut complaints = Vec::new();
    for folder in folders(&top().join("crates")) {
        let path = folder.join("Cargo.toml");
        let manifest = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        complaints.extend(upward(&manifest));
    }
    none(&complaints);
    let manifest = |name, on| {
        format!(
            "[package]\nname = \"coracle-{name}\"\n[dependencies]\ncoracle-{on}.workspace = true"
        )
    };
    assert_eq!(upward(&manifest("rootfs", "cgroups")).len(), 1);
    assert_eq!(upward(&manifest("sys", "host")).len(), 1);
    assert_eq!(upward(&manifest("new", "sys")).len(), 1);
    assert!(upward(&manifest("cli", "sys")).is_empty());
    assert!(upward("[package]\nname = \"other\"\n[dependencies]\nlibc = \"1\"").is_empty());
}

/// `-- circles --nocapture` prints each circle with the names that its files import.
#[test]
fn files_form_no_circles() {
    let mut complaints = Vec::new();
    for folder in folders(&top().join("crates")) {
        let imports = circles::imports(&folder);
        let name = shown(&top().join("crates"), &folder);
        for circle in circles::circles(&imports) {
            let title = format!("{name}: a circle of {} files", circle.len());
            println!("{title}");
            for line in circles::described(&circle, &imports, &folder.join("src")) {
                println!("    {line}");
            }
            if !CIRCULAR.contains(&name.as_str()) {
                complaints.push(title);
            }
        }
    }
    none(&complaints);
}

#[test]
fn circles_are_found_in_a_sample() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("circles");
    let files = [
        (
            "lib.rs",
            "mod a; mod b; mod third; pub use a::A; pub use third::*;",
        ),
        (
            "a.rs",
            "use crate::Third; mod below; pub struct A(below::B);",
        ),
        (
            "a/below.rs",
            "pub struct B; fn f() -> super::Third { format!(\"{}\", crate::A::new()) }",
        ),
        ("b.rs", "use super::{A, third::Third as Other};"),
        ("third.rs", "pub struct Third; #[cfg(test)] use crate::A;"),
    ];
    for (name, text) in files {
        let path = folder.join("src").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder for the sample");
        fs::write(path, text).expect("a file of the sample");
    }
    let imports = circles::imports(&folder);
    let found = circles::circles(&imports);
    assert_eq!(found.len(), 1, "{found:?}");
    let lines = circles::described(&found[0], &imports, &folder.join("src"));
    assert_eq!(
        lines,
        ["a/below.rs uses a.rs: A", "a.rs uses a/below.rs: B"]
    );
}

#[test]
fn the_workplace_is_not_named() {
    let mut complaints = Vec::new();
    for path in files(top()) {
        if let Ok(text) = fs::read_to_string(&path) {
            complaints.extend(workplace(&shown(top(), &path), &text));
        }
    }
    none(&complaints);
    let folder = ["", "work", "main"].join("/");
    assert_eq!(workplace("a", &format!("see {folder}/a")).len(), 1);
    assert_eq!(
        workplace("a", &format!("{}crates.invalid/x", "https://")).len(),
        1
    );
    assert!(workplace("a", "$work/main https://docs.kernel.org/x \"://\"").is_empty());
}

#[test]
fn installing_removes_nothing() {
    let mut complaints = Vec::new();
    for path in files(&top().join("integration")) {
        if let Ok(text) = fs::read_to_string(&path) {
            complaints.extend(removing(&shown(top(), &path), &text));
        }
    }
    none(&complaints);
    let bad = ["apt-get install -", "y a"].concat();
    assert_eq!(removing("a", &bad).len(), 1);
    assert!(removing("a", &bad.replace("-y", "-y --no-remove")).is_empty());
    assert!(removing("a", &bad.replace("-y", "-s")).is_empty());
}

fn top() -> &'static Path {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().expect("the checkout")
}

#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The rule holds for all files below `crates`.
#[track_caller]
fn holds(rule: Rule) {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| crates(top()).0);
    let complaints: Vec<String> = SOURCES.iter().flat_map(rule).collect();
    none(&complaints);
}

/// The rule holds for the tests that need a kernel too.
#[track_caller]
fn holds_everywhere(rule: Rule) {
    holds(rule);
    let files = rust_files(&top().join("integration"));
    let sources = files.iter().filter_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        Some(Source::new(&shown(top(), path), &text))
    });
    none(&sources.flat_map(|source| rule(&source)).collect::<Vec<_>>());
}

/// The rule has one complaint about the sample, with this text in it.
#[track_caller]
fn finds(rule: Rule, sample: &str, said: &str) {
    let complaints = rule(&Source::new("crates/sample/src/plan.rs", sample));
    assert_eq!(complaints.len(), 1, "{sample}: {complaints:?}");
    assert!(complaints[0].contains(said), "{complaints:?}");
}

#[track_caller]
fn passes(rule: Rule, sample: &str) {
    none(&rule(&Source::new("crates/sample/src/plan.rs", sample)));
}

/// A function's head and body.
struct Function<'a> {
    name: &'a str,
    start: usize,
    is_public: bool,
    parameters: Vec<&'a str>,
    /// Its last byte; that of the head if there is no body.
    end: usize,
}

fn functions(code: &str) -> Vec<Function<'_>> {
    words(code, "fn")
        .filter_map(|at| function(code, at))
        .collect()
}

/// The function whose `fn` stands here; the type of a function pointer is none.
fn function(code: &str, start: usize) -> Option<Function<'_>> {
    let name = identifier(code[start + 2..].trim_start())?;
    let generic = start + code[start..].find(name)? + name.len();
    let open = generic + angle_brackets(&code[generic..]);
    let behind = closing(code, open);
    let mut end = behind;
    while !matches!(code.as_bytes().get(end), None | Some(b';' | b'{')) {
        let is_open = matches!(code.as_bytes()[end], b'(' | b'[');
        end = if is_open { closing(code, end) } else { end + 1 };
    }
    let head = code[..start]
        .rfind([';', '{', '}', ']'])
        .map_or(0, |at| at + 1);
    Some(Function {
        name,
        start,
        is_public: code[head..start].trim_start().starts_with("pub "),
        parameters: split(code.get(open + 1..behind - 1)?),
        end: closing(code, end) - 1,
    })
}

/// Length of `<…>`, which may hold `->`.
fn angle_brackets(code: &str) -> usize {
    let mut depth = 0;
    let mut last = b' ';
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'<' => depth += 1,
            b'>' if last != b'-' => depth -= 1,
            b'(' if depth == 0 => return at,
            _ => {}
        }
        last = byte;
    }
    0
}

/// Splits a list at its commas, not at those within brackets.
fn split(list: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start, mut last) = (Vec::new(), 0, 0, b' ');
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' | b'<' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b'>' if last != b'-' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        last = byte;
    }
    parts.push(list[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn long_functions(source: &Source) -> Vec<String> {
    let lines = |function: &Function<'_>| {
        let body = &source.product[function.start..=function.end.min(source.product.len() - 1)];
        body.matches('\n').count() + 1
    };
    functions(&source.product)
        .iter()
        .filter(|function| lines(function) > FUNCTION_LINES)
        .map(|function| {
            let (at, name) = (source.at(function.start), function.name);
            format!("{at}: `{name}` has {} lines", lines(function))
        })
        .collect()
}

fn long_file(source: &Source) -> Vec<String> {
    let lines = source
        .product
        .lines()
        .filter(|line| !line.trim().is_empty());
    let count = lines.count();
    let complaint = format!("{}: {count} lines of code", source.path);
    (count > FILE_LINES)
        .then_some(complaint)
        .into_iter()
        .collect()
}

fn long_lines(source: &Source) -> Vec<String> {
    let lines = source.text.lines().enumerate();
    let long = lines.map(|(number, line)| (number + 1, line.chars().count()));
    long.filter(|(_, columns)| *columns > COLUMNS)
        .map(|(number, columns)| format!("{}:{number}: {columns} columns", source.path))
        .collect()
}

fn many_parameters(source: &Source) -> Vec<String> {
    functions(&source.product)
        .iter()
        .filter(|function| function.parameters.len() > PARAMETERS)
        .map(|function| {
            let (at, name) = (source.at(function.start), function.name);
            format!(
                "{at}: `{name}` has {} parameters",
                function.parameters.len()
            )
        })
        .collect()
}

fn bool_parameters(source: &Source) -> Vec<String> {
    let is_bool = |parameter: &&str| {
        let kind = parameter.split_once(": ").map_or("", |(_, kind)| kind);
        kind == "bool"
    };
    functions(&source.product)
        .iter()
        .filter(|function| function.is_public && function.parameters.iter().any(is_bool))
        .map(|function| {
            format!(
                "{}: `{}` takes a bool",
                source.at(function.start),
                function.name
            )
        })
        .collect()
}

fn unsafe_code(source: &Source) -> Vec<String> {
    if source.path.starts_with("crates/sys/") {
        return Vec::new();
    }
    let found = words(&source.code, "unsafe").chain(words(&source.code, "unsafe_code"));
    found
        .map(|at| format!("{}: unsafe outside of sys", source.at(at)))
        .collect()
}

fn impure_plan(source: &Source) -> Vec<String> {
    if !source.path.ends_with("/src/plan.rs") && !source.path.contains("/src/plan/") {
        return Vec::new();
    }
    let code = &source.product;
    let mut found = Vec::new();
    for root in ["std", "nix", "libc", "coracle_sys"] {
        for at in words(code, root) {
            let paths = leaves(&code[at..]);
            let impure = paths.iter().filter(|path| is_impure(path));
            found.extend(impure.map(|path| (at, path.clone())));
        }
    }
    for name in IMPURE_NAMES {
        found.extend(words(code, name).map(|at| (at, name.to_owned())));
    }
    for call in IMPURE_METHODS {
        found.extend(
            code.match_indices(call)
                .map(|(at, _)| (at, call.to_owned())),
        );
    }
    // A name is found where it is imported; once is enough.
    found.sort();
    found.dedup_by(|a, b| line_of(code, a.0) == line_of(code, b.0));
    let say = |(at, what): &(usize, String)| format!("{}: a plan uses {what}", source.at(*at));
    found.iter().map(say).collect()
}

/// The full paths that begin here: `a::{b, c::D}` gives `a::b` and `a::c::D`.
fn leaves(code: &str) -> Vec<String> {
    let Some(name) = identifier(code) else {
        return Vec::new();
    };
    let Some(rest) = code[name.len()..].strip_prefix("::") else {
        return vec![name.to_owned()];
    };
    let below = match rest.strip_prefix('{') {
        Some(_) => split(&rest[1..closing(rest, 0) - 1])
            .iter()
            .flat_map(|part| leaves(part))
            .collect(),
        None => leaves(rest),
    };
    below.iter().map(|leaf| format!("{name}::{leaf}")).collect()
}

/// Modules of `std` that ask the machine, and functions of the crates that call the kernel. Types
/// begin with a capital letter, constants are in capitals.
fn is_impure(path: &str) -> bool {
    let parts: Vec<&str> = path.split("::").collect();
    let is_named = |part: &&str| part.starts_with(|letter: char| letter.is_uppercase());
    match parts.as_slice() {
        ["std", module, ..] => IMPURE_MODULES.contains(module),
        ["coracle_sys", name, ..] => !is_named(name) && !PURE_OF_SYS.contains(name),
        ["nix" | "libc", .., name] => {
            let is_c_type = name.starts_with("c_") || name.ends_with("_t");
            !parts.iter().any(is_named) && !is_c_type && parts.len() > 1 && *name != "libc"
        }
        _ => false,
    }
}

fn vague_modules(source: &Source) -> Vec<String> {
    let names = words(&source.code, "mod").filter_map(|at| {
        let name = identifier(source.code[at + 3..].trim_start())?;
        BANNED_MODULES.contains(&name).then_some((at, name))
    });
    names
        .map(|(at, name)| format!("{}: a module named `{name}`", source.at(at)))
        .collect()
}

fn unfinished(source: &Source) -> Vec<String> {
    let found = BANNED_MARKS
        .iter()
        .flat_map(|mark| source.code.match_indices(mark));
    found
        .map(|(at, mark)| format!("{}: {mark}", source.at(at)))
        .collect()
}

/// The directories of the standard library and of nix panic if close(2) fails; `list_directory` of
/// `coracle_sys` does not.
fn panicking_directories(source: &Source) -> Vec<String> {
    let found = ["read_dir(", "nix::dir"]
        .iter()
        .flat_map(|name| source.product.match_indices(name));
    found
        .map(|(at, name)| format!("{}: {name}", source.at(at)))
        .collect()
}

fn logged_errors(source: &Source) -> Vec<String> {
    let is_logged = |at: &usize| {
        let argument = &source.code[*at..closing(&source.code, at + "map_err".len())];
        LOG_MACROS.iter().any(|name| argument.contains(name))
    };
    words(&source.code, "map_err")
        .filter(is_logged)
        .map(|at| format!("{}: map_err logs as well", source.at(at)))
        .collect()
}

/// Dependencies that a manifest should not have.
fn upward(manifest: &str) -> Vec<String> {
    let floor = |name: &str| {
        let floors = FLOORS.iter();
        let mut found = floors.filter(|(_, crates)| crates.contains(&name));
        found.next().map(|(floor, _)| *floor)
    };
    let name = manifest
        .lines()
        .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .unwrap_or_default();
    // A crate that stands in for another's is below the house.
    let own = match name.strip_prefix("coracle-") {
        Some(name) => floor(name),
        None => Some(0),
    };
    let dependencies = manifest.lines().filter_map(|line| {
        let line = line.strip_prefix("coracle-")?;
        line.split(['.', ' ', '=']).next()
    });
    let is_upward = |on: &&str| match (own, floor(on)) {
        (Some(own), Some(below)) => below >= own,
        _ => true,
    };
    dependencies
        .filter(is_upward)
        .map(|on| format!("{name}: must not depend on coracle-{on}"))
        .collect()
}

/// Installations by apt that may take packages of the host away for others.
fn removing(path: &str, text: &str) -> Vec<String> {
    let is_bad = |line: &str| {
        let installs = line.contains("install") && !line.contains("--no-remove");
        let is_sure = line
            .split_whitespace()
            .any(|word| ["-y", "-qy", "\"-y\","].contains(&word));
        installs && is_sure && (line.contains("apt") || line.contains("--no-install-recommends"))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| is_bad(line));
    lines
        .map(|(at, _)| format!("{path}:{}: installs without --no-remove", at + 1))
        .collect()
}

/// Paths of the machine that this was written on, and hosts that serve packages.
fn workplace(path: &str, text: &str) -> Vec<String> {
    // Written so that this file does not name it.
    let folder = ["", "work", ""].join("/");
    let mut found = Vec::new();
    for (at, _) in text.match_indices(&folder) {
        let before = text[..at].chars().next_back().unwrap_or(' ');
        if !before.is_alphanumeric() && !"$}._-~*".contains(before) {
            found.push((at, folder.clone()));
        }
    }
    for (at, mark) in text.match_indices("://") {
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
        let host = text[at + mark.len()..].split(|c| !is_host(c)).next();
        let host = host.unwrap_or_default();
        if host.contains('.') && !HOSTS.contains(&host) {
            found.push((at, host.to_owned()));
        }
    }
    found
        .iter()
        .map(|(at, what)| format!("{path}:{}: names {what}", line_of(text, *at)))
        .collect()
}
