//! Pages of documentation: links and their anchors, the table of contents, the figures and the
//! picture of the README.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Where the table of contents is.
const SUMMARY: &str = "docs/SUMMARY.md";

/// All pages, by their path from the top of the checkout.
pub(crate) fn pages(top: &Path) -> Vec<String> {
    let mut found = vec!["README.md".to_owned(), "SECURITY.md".to_owned()];
    for folder in ["docs", "docs/examples"] {
        let entries = fs::read_dir(top.join(folder)).expect("a folder of pages");
        let names = entries.flatten().map(|entry| entry.file_name());
        let names = names.map(|name| format!("{folder}/{}", name.to_string_lossy()));
        found.extend(names.filter(|name| name.ends_with(".md")));
    }
    found.sort();
    found
}

/// The page is in the table of contents, once.
pub(crate) fn unlisted(page: &str, summary: &str) -> Option<String> {
    let name = page.strip_prefix("docs/")?;
    let count = links(summary).iter().filter(|link| **link == name).count();
    let is_well = page == SUMMARY || count == 1;
    (!is_well).then(|| format!("{page}: {count} times in {SUMMARY}"))
}

/// Links of a page that lead nowhere, or out of the book.
pub(crate) fn dead_links(top: &Path, page: &str, text: &str) -> Vec<String> {
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    let is_of_book = page.starts_with("docs/");
    let mut complaints = Vec::new();
    for link in links(text).into_iter().filter(|link| !link.contains("://")) {
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let other = match path {
            "" => top.join(page),
            path => top.join(folder).join(path),
        };
        let leaves = path.starts_with("../") && folder == Path::new("docs");
        let target = fs::read_to_string(&other).unwrap_or_default();
        let problem = match () {
            () if !other.exists() => "no such file",
            () if is_of_book && leaves => "out of the book",
            () if !anchor.is_empty() && !anchors(&target).contains(&anchor.to_owned()) => {
                "no such heading"
            }
            () => continue,
        };
        complaints.push(format!("{page}: ({link}): {problem}"));
    }
    complaints
}

/// A page without its blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.starts_with("    ")
    })
}

/// What `[text](target)` leads to, outside of code.
fn links(text: &str) -> Vec<&str> {
    let spans = prose(text).flat_map(|line| line.split('`').step_by(2));
    let ends = spans.flat_map(|span| span.split("](").skip(1));
    ends.filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

/// What headings are called in links: small letters, hyphens for spaces, no other signs.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let names = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let sign = |letter: &char| letter.is_alphanumeric() || "-_ ".contains(*letter);
    names
        .map(|name| {
            name.chars()
                .filter(sign)
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect()
}

/// Rows of a README's tables whose figures are not those of another page. A row is known by the
/// first word of its first cell.
pub(crate) fn stale_figures(readme: &str, measured: &str) -> Vec<String> {
    let rows = |text: &str| -> Vec<Vec<String>> {
        let lines = prose(text).filter(|line| line.starts_with("| "));
        lines
            .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
            .collect()
    };
    let is_figure = |cell: &String| cell.starts_with(char::is_numeric);
    let verb = |row: &[String]| {
        row[1]
            .split([',', ' '])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let has = |cell: &str, figure: &str| {
        let parts = cell.split(|c: char| !c.is_numeric() && !".,".contains(c));
        { parts }.any(|part| part.trim_matches(',') == figure)
    };
    let mut stale = Vec::new();
    for row in rows(readme).iter().filter(|row| is_figure(&row[2])) {
        let is_there = rows(measured).iter().any(|other| {
            verb(other) == verb(row)
                && other.len() >= row.len()
                && (2..row.len() - 1).all(|column| has(&other[column], &row[column]))
        });
        if !is_there {
            stale.push(format!("README.md: not measured: {}", row.join("|")));
        }
    }
    stale
}

/// The picture of the marked terminals of a page.
pub(crate) fn picture(page: &str) -> String {
    let blocks = page.split("<!-- picture -->\n```console\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap_or_default());
    let lines: Vec<&str> = blocks.flat_map(str::lines).collect();
    let columns = lines.iter().map(|line| line.chars().count()).max();
    let width = columns.unwrap_or(0) * 9 + 40;
    let height = lines.len() * 20 + 62;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace\" \
         font-size=\"15\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1b1f24\"/>\n\
         <g fill=\"#57606a\"><circle cx=\"20\" cy=\"20\" r=\"6\"/><circle cx=\"40\" cy=\"20\" r=\"6\"/>\
         <circle cx=\"60\" cy=\"20\" r=\"6\"/></g>\n"
    );
    for (number, line) in lines.iter().enumerate() {
        let colour = match line {
            line if line.starts_with("# ") => "#7ee787",
            line if line.starts_with("ERRO") => "#ff7b72",
            _ => "#d0d7de",
        };
        let text = line.replace('&', "&amp;").replace('<', "&lt;");
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<text xml:space=\"preserve\" x=\"20\" y=\"{}\" fill=\"{colour}\">{text}</text>",
            number * 20 + 56
        );
    }
    svg + "</svg>\n"
}

#[test]
fn bad_samples_are_found() {
    let page = "# A b, c!\n[x](#a-b-c) `[y](z)` [w](none.md)\n```\n[v](u)\n```\n[t](#no)\n";
    let top = Path::new(env!("CARGO_TARGET_TMPDIR")).join("book");
    fs::create_dir_all(top.join("docs")).expect("a folder for the sample");
    fs::write(top.join("docs/a.md"), page).expect("a page");
    let found = dead_links(&top, "docs/a.md", page);
    let expected = ["(none.md): no such file", "(#no): no such heading"];
    let expected = expected.map(|end| format!("docs/a.md: {end}"));
    assert_eq!(found, expected);
    assert_eq!(unlisted("docs/a.md", "- [A](a.md)\n"), None);
    assert!(unlisted("docs/a.md", "- [A](a.md)\n- [A](a.md)\n").is_some());
    let measured = "| run | 9.1 (8.2) | 30.6 | 5 |\n| run | 826 calls, 2,496 KiB | 9 | 9 |\n";
    let stale = |row: &str| stale_figures(row, measured).len();
    assert_eq!(stale("| run, ms | 9.1 | 30.6 |\n"), 0);
    assert_eq!(
        stale("| run, calls | 826 | 9 |\n| run, KiB | 2,496 | 9 |\n"),
        0
    );
    assert_eq!(
        stale("| run, ms | 9.1 | 30 |\n| exec, ms | 9.1 | 30.6 |\n"),
        2
    );
}
