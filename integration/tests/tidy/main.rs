//! The rules of the project that neither the compiler nor clippy checks: size of files, purity,
//! layers, circles, words. A test applies them to the checkout, and others show that each finds a bad
//! sample.

mod book;
mod circles;
mod dependencies;
mod rules;
mod source;

use std::fs;
use std::path::Path;

use coracle_integration::json;
use rules::{FILE_LINES, OF_ALL, OF_THE_PRODUCT, Rule};
use source::{Source, crates, files, folders, rust_files, shown};

/// The layers: a crate depends only on crates of lower ones.
const LAYERS: [(u32, &[&str]); 9] = [
    (1, &["sys"]),
    (2, &["text"]),
    (3, &["program"]),
    (4, &["dbus"]),
    (5, &["bundle", "host"]),
    (
        6,
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
    (7, &["launch"]),
    (8, &["container"]),
    (9, &["cli"]),
];

/// All rules at once, since each file is parsed once.
#[test]
fn the_rules_are_kept() {
    let (product, lost) = crates(top());
    let mut complaints: Vec<String> = lost
        .iter()
        .map(|path| format!("{path}: no mod reaches it"))
        .collect();
    let tests = rust_files(&top().join("integration"));
    let tests = tests.iter().map(|path| {
        let text = fs::read_to_string(path).expect("a file of the checkout");
        Source::new(&shown(top(), path), &text, true)
    });
    for source in &product {
        complaints.extend(OF_THE_PRODUCT.iter().flat_map(|rule| rule(source)));
    }
    for source in product.iter().chain(&tests.collect::<Vec<_>>()) {
        complaints.extend(OF_ALL.iter().flat_map(|rule| rule(source)));
    }
    none(&complaints);
}

#[test]
fn dependencies_are_licensed_and_few() {
    let packages = dependencies::packages();
    none(&dependencies::complaints(
        &packages.expect("the lock file's packages"),
    ));
    let package = |name: &str, licence: &str, source: &str| json!({"name": name, "version": "1.0.0", "license": licence, "source": source});
    let crates = "registry+https://github.com/rust-lang/crates.io-index";
    for (bad, word) in [
        (package("a", "GPL-3.0-only", crates), "licence"),
        (package("a", "MIT AND GPL-3.0-only", crates), "licence"),
        (package("a", "", crates), "licence"),
        (package("a", "MIT", "git+https://example.org/a"), "from"),
        (package("tokio", "MIT", crates), "banned"),
    ] {
        let found = dependencies::complaints(&[bad]);
        assert!(found.len() == 1 && found[0].contains(word), "{found:?}");
    }
    let twice = [package("a", "MIT", crates), package("a", "MIT", crates)];
    assert_eq!(dependencies::complaints(&twice).len(), 1);
}

#[test]
fn files_are_short() {
    let lines = "const A: &str = \"a\n    b\";\n".repeat(FILE_LINES / 2);
    finds(
        rules::long_file,
        &format!("{lines}fn f() {{}}"),
        "501 lines",
    );
    let silent = "// why\n\n/// What.\n".repeat(400);
    passes(
        rules::long_file,
        &format!("{silent}{lines}#[cfg(test)]\nmod tests {{\n    fn a() {{}}\n}}"),
    );
}

#[test]
fn lines_are_short() {
    let long = |letter: &str, count| format!("// {}\n", letter.repeat(count));
    finds(rules::long_lines, &long("x", 98), "101 columns");
    passes(rules::long_lines, &long("ü", 97));
}

#[test]
fn public_functions_take_no_bool() {
    let rule = rules::bool_parameters;
    finds(rule, "pub fn f(on: bool) {}", "`f`");
    finds(rule, "impl A { pub const fn f(a: u8, on: bool) {} }", "`f`");
    passes(
        rule,
        "fn f(on: bool) {} pub fn g(h: fn(u8) -> bool) -> bool { true }",
    );
}

#[test]
fn no_wait_is_measured_by_the_time_of_day() {
    finds(rules::wall_clock, "use std::time::SystemTime;", "Instant");
    passes(rules::wall_clock, "use std::time::Instant;");
}

#[test]
fn only_sys_is_unsafe() {
    let rule = rules::unsafe_allowed;
    finds(rule, "#![allow(unsafe_code)]", "unsafe");
    passes(rule, "// unsafe_code\nconst A: &str = \"unsafe_code\";");
    let sys = "crates/sys/src/lib.rs";
    assert!(rule(&Source::new(sys, "#![allow(unsafe_code)]", false)).is_empty());
}

#[test]
fn plans_are_pure() {
    let rule = rules::impure_plan;
    for (bad, name) in [
        ("use std::fs;", "std::fs"),
        ("use std::{env, ffi::CString};", "std::env"),
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
        (
            "fn f() -> String { format!(\"{}\", nix::unistd::getuid()) }",
            "getuid",
        ),
        ("use nix::unistd::{Gid, getuid};", "nix::unistd::getuid"),
        ("use std::time::{Duration, SystemTime};", "SystemTime"),
        ("fn f(path: &Path) -> bool { path.exists() }", "exists"),
    ] {
        finds(rule, bad, name);
    }
    passes(
        rule,
        "use coracle_sys::{Call, Fault, mount_attribute};\n\
         use std::{ffi::CString, path::Path};\nuse nix::sys::signal::Signal;\n\
         fn f() { coracle_sys::Fault::new(libc::MS_BIND); coracle_process::plan(); }",
    );
}

#[test]
fn modules_have_clear_names() {
    let rule = rules::vague_modules;
    finds(rule, "mod util;", "`util`");
    finds(rule, "pub(crate) mod types { }", "`types`");
    passes(rule, "mod file_types; fn f(model: &Model) {}");
}

#[test]
fn names_use_the_words_of_the_glossary() {
    let rule = rules::replaced_words;
    finds(rule, "struct ConsoleHandoff;", "`ConsoleHandoff`");
    finds(rule, "fn f(what_was_told: u8) {}", "`what_was_told`");
    passes(
        rule,
        "// told\nfn gateway(outdoor: u8) { opposite(\"told\") }",
    );
}

#[test]
fn every_test_is_run() {
    let rule = rules::ignored_tests;
    finds(rule, "#[ignore = \"slow\"]\nfn f() {}", "not run");
    passes(rule, "const A: &str = \"#[ignore]\";");
}

#[test]
fn directories_are_closed_without_a_panic() {
    let rule = rules::panicking_directories;
    let bad = "fn f() { for entry in std::fs::read_dir(path)? {} }";
    finds(rule, bad, "read_dir");
    finds(rule, "use nix::dir::Dir;", "nix::dir");
    passes(
        rule,
        "fn f() { list_directory(fd); }\n#[cfg(test)]\nmod tests { fn f() { read_dir(a); } }",
    );
}

#[test]
fn errors_are_returned_or_reported() {
    let rule = rules::logged_errors;
    let bad = "fn f() { g().map_err(|error| { eprintln!(\"{error}\"); error })?; }";
    finds(rule, bad, "map_err");
    let bad =
        "fn f() -> R { warn!(\"no\"); g().map_err(Error::G)?; h().map_err(|e| { info!(e); e }) }";
    finds(rule, bad, "map_err");
    passes(rule, "fn f() { g().map_err(Error::G)?; eprintln!(\"g\"); }");
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
            complaints.push(title);
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

/// `UPDATE_EXPECT=1` draws the picture anew.
#[test]
fn the_book_is_whole() {
    let read = |page: &str| fs::read_to_string(top().join(page)).expect("a page");
    let summary = read("docs/SUMMARY.md");
    let mut complaints = Vec::new();
    for page in book::pages(top()) {
        complaints.extend(book::unlisted(&page, &summary));
        complaints.extend(book::dead_links(top(), &page, &read(&page)));
    }
    let measured = read("docs/performance.md");
    complaints.extend(book::stale_figures(&read("README.md"), &measured));
    let picture = book::picture(&read("docs/tutorial.md"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(top().join("docs/terminal.svg"), &picture).expect("the picture");
    }
    if picture != read("docs/terminal.svg") || picture.contains('…') {
        complaints.push("docs/terminal.svg is not what docs/tutorial.md shows".to_owned());
    }
    none(&complaints);
}

fn top() -> &'static Path {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().expect("the checkout")
}

#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The rule has one complaint about the sample, with this text in it.
#[track_caller]
fn finds(rule: Rule, sample: &str, text: &str) {
    let complaints = rule(&Source::new("crates/sample/src/plan.rs", sample, false));
    assert_eq!(complaints.len(), 1, "{sample}: {complaints:?}");
    assert!(complaints[0].contains(text), "{complaints:?}");
}

#[track_caller]
fn passes(rule: Rule, sample: &str) {
    none(&rule(&Source::new(
        "crates/sample/src/plan.rs",
        sample,
        false,
    )));
}

/// Dependencies that a manifest should not have.
fn upward(manifest: &str) -> Vec<String> {
    let layer = |name: &str| {
        let layers = LAYERS.iter();
        let mut found = layers.filter(|(_, crates)| crates.contains(&name));
        found.next().map(|(layer, _)| *layer)
    };
    let name = manifest
        .lines()
        .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .unwrap_or_default();
    // A crate that stands in for another's is below all of them.
    let own = match name.strip_prefix("coracle-") {
        Some(name) => layer(name),
        None => Some(0),
    };
    let dependencies = manifest.lines().filter_map(|line| {
        let line = line.strip_prefix("coracle-")?;
        line.split(['.', ' ', '=']).next()
    });
    let is_upward = |on: &&str| match (own, layer(on)) {
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
