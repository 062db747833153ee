//! Rust source as the rules see it: comments and literals blanked, tests told from product.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One file. `text`, `code` and `product` have the same lines, and the same bytes on each.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Path from the top of the checkout.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// Comments, strings and characters replaced by blanks.
    pub(crate) code: String,
    /// `code` with the items under `#[cfg(test)]` blanked too; nothing in a file of tests.
    pub(crate) product: String,
}

impl Source {
    /// A file of this text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blanked(text);
        let mut product = code.clone();
        for range in test_items(&code) {
            blank(&mut product, range);
        }
        let (path, text) = (path.to_owned(), text.to_owned());
        Self {
            path,
            text,
            code,
            product,
        }
    }

    /// `path:line` of a byte.
    pub(crate) fn at(&self, offset: usize) -> String {
        format!("{}:{}", self.path, line_of(&self.text, offset))
    }

    /// Modules declared in the file, as name and whether it is for tests only.
    pub(crate) fn modules(&self) -> Vec<(String, bool)> {
        let found = words(&self.code, "mod").filter_map(|at| {
            let rest = self.code[at + 3..].trim_start();
            let name = identifier(rest)?;
            let is_test = self.product[at..].bytes().next() == Some(b' ');
            rest[name.len()..]
                .trim_start()
                .starts_with(';')
                .then(|| (name.to_owned(), is_test))
        });
        found.collect()
    }
}

/// All Rust files below `crates` that a `mod` reaches, and the paths of those that none does.
pub(crate) fn crates(top: &Path) -> (Vec<Source>, Vec<String>) {
    let mut sources = BTreeMap::new();
    let mut all = BTreeSet::new();
    for folder in folders(&top.join("crates")) {
        all.extend(rust_files(&folder.join("src")));
        for root in ["src/lib.rs", "src/main.rs"] {
            reach(top, &folder.join(root), false, &mut sources);
        }
        for root in rust_files(&folder.join("tests")) {
            reach(top, &root, true, &mut sources);
        }
    }
    let lost = all.iter().filter(|path| !sources.contains_key(*path));
    let lost = lost.map(|path| shown(top, path)).collect();
    (sources.into_values().collect(), lost)
}

fn reach(top: &Path, path: &Path, is_test: bool, sources: &mut BTreeMap<PathBuf, Source>) {
    let Ok(text) = fs::read_to_string(path) else {
        return;
    };
    let mut source = Source::new(&shown(top, path), &text);
    if is_test {
        let all = 0..source.product.len();
        blank(&mut source.product, all);
    }
    let modules = source.modules();
    sources.insert(path.to_owned(), source);
    let folder = folder_of_modules(path);
    for (name, is_for_tests) in modules {
        let file = folder.join(format!("{name}.rs"));
        let nested = folder.join(&name).join("mod.rs");
        let file = if file.exists() { file } else { nested };
        reach(top, &file, is_test || is_for_tests, sources);
    }
}

/// Where the modules that a file declares lie.
pub(crate) fn folder_of_modules(path: &Path) -> PathBuf {
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") | None => path.with_file_name(""),
        Some(_) => path.with_extension(""),
    }
}

/// Folders directly below this one.
pub(crate) fn folders(folder: &Path) -> Vec<PathBuf> {
    entries(folder)
        .into_iter()
        .filter(|path| path.is_dir())
        .collect()
}

/// Rust files at any depth below a folder.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    files(folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|name| name == "rs"))
        .collect()
}

/// Files at any depth below a folder, but for what git and cargo keep there.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // `.git` is a file in a second work tree.
    for path in entries(folder) {
        if path.ends_with(".git") {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            if !path.ends_with("target") {
                found.extend(files(&path));
            }
        } else {
            found.push(path);
        }
    }
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A path from the top of the checkout.
pub(crate) fn shown(top: &Path, path: &Path) -> String {
    path.strip_prefix(top).unwrap_or(path).display().to_string()
}

/// Number of the line that a byte is on, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// Where this word stands as an identifier of its own.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = code[..*at].bytes().next_back();
            let after = code[at + word.len()..].bytes().next();
            !before.is_some_and(is_in_name) && !after.is_some_and(is_in_name)
        })
}

/// The identifier that the text begins with.
pub(crate) fn identifier(text: &str) -> Option<&str> {
    let end = text
        .bytes()
        .position(|byte| !is_in_name(byte))
        .unwrap_or(text.len());
    (end > 0).then(|| &text[..end])
}

pub(crate) fn is_in_name(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

/// Offset behind the bracket that closes the one at `open`.
pub(crate) fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// Items that stand behind `#[cfg(test)]`.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let found = code.match_indices("#[cfg(test)]");
    found
        .map(|(at, mark)| at..end_of_item(code, at + mark.len()))
        .collect()
}

/// Offset behind the item that begins here: at its `;`, or at the end of its body.
fn end_of_item(code: &str, start: usize) -> usize {
    let mut at = start;
    while let Some(byte) = code.as_bytes().get(at) {
        match byte {
            b';' => return at + 1,
            b'{' => return closing(code, at),
            b'(' | b'[' => at = closing(code, at),
            _ => at += 1,
        }
    }
    code.len()
}

/// Replaces all but line ends by blanks. A character of several bytes becomes as many blanks.
fn blank(code: &mut String, range: Range<usize>) {
    let blanks = blanks(&code[range.clone()]);
    code.replace_range(range, &blanks);
}

fn blanks(text: &str) -> String {
    let bytes = text.bytes();
    bytes
        .map(|byte| if byte == b'\n' { '\n' } else { ' ' })
        .collect()
}

/// Blanks comments and literals.
fn blanked(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    while code.len() < text.len() {
        let rest = &text[code.len()..];
        match token(rest) {
            Token::Code(length) => code.push_str(&rest[..length]),
            Token::Hidden(length) => code.push_str(&blanks(&rest[..length])),
        }
    }
    code
}

/// What text begins with, and its length.
enum Token {
    Code(usize),
    /// A comment, or a literal with its quotes.
    Hidden(usize),
}

fn token(rest: &str) -> Token {
    if rest.starts_with("//") {
        return Token::Hidden(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Token::Hidden(block_comment(rest));
    }
    if let Some(length) = string(rest).or_else(|| character(rest)) {
        return Token::Hidden(length);
    }
    let length = rest.chars().next().map_or(1, char::len_utf8);
    // A whole name at once: the `r` in its middle begins no raw string.
    Token::Code(identifier(rest).map_or(length, str::len))
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let two = rest.as_bytes().get(at..at + 2).unwrap_or_default();
        match two {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of the string that begins here, of any kind.
fn string(rest: &str) -> Option<usize> {
    let prefixes = ["br", "cr", "r", "b", "c", ""].iter();
    let mut lengths = prefixes.filter_map(|prefix| {
        let behind = rest.strip_prefix(prefix)?;
        let body = behind.trim_start_matches('#');
        let hashes = behind.len() - body.len();
        let body = body.strip_prefix('"')?;
        let start = rest.len() - body.len();
        if prefix.ends_with('r') {
            let end = format!("\"{}", "#".repeat(hashes));
            return Some(start + body.find(&end).map_or(body.len(), |at| at + end.len()));
        }
        (hashes == 0).then(|| start + until(body, b'"'))
    });
    lengths.next()
}

/// Length of the character literal that begins here; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let body = rest
        .strip_prefix("b'")
        .or_else(|| rest.strip_prefix('\''))?;
    let start = rest.len() - body.len();
    if body.starts_with('\\') {
        return Some(start + until(body, b'\''));
    }
    let first = body.chars().next()?.len_utf8();
    body[first..].starts_with('\'').then_some(start + first + 1)
}

/// Length up to and with the quote that ends a literal.
fn until(body: &str, quote: u8) -> usize {
    let mut is_escaped = false;
    for (at, byte) in body.bytes().enumerate() {
        if byte == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = byte == b'\\' && !is_escaped;
    }
    body.len()
}
