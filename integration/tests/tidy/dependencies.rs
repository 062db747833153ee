//! Packages of the lock file: their licences, their source, and one version of each.

use std::collections::BTreeMap;
use std::process::Command;

use coracle_integration::Value;

const LICENCES: [&str; 4] = ["Apache-2.0", "MIT", "Unicode-3.0", "Zlib"];

/// crates.io.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Two versions of these are in use: some macros still need the older one.
const TWICE: [&str; 1] = ["syn"];

/// They start threads, or bring a cryptographic library or an asynchronous runtime. The process that
/// clones init must have one thread.
const BANNED: [&str; 8] = [
    "async-std",
    "crossbeam",
    "openssl",
    "rayon",
    "ring",
    "smol",
    "threadpool",
    "tokio",
];

/// All packages that a build on this machine needs, for tests too. The network is used only if one
/// of them was never downloaded.
pub(crate) fn packages() -> Result<Vec<Value>, String> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let options = ["metadata", "--format-version=1", "--locked"];
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(options).args(["--filter-platform", &host]);
    cargo.current_dir(crate::top());
    let output = cargo
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let tree: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    Ok(tree["packages"].as_array().cloned().unwrap_or_default())
}

pub(crate) fn complaints(packages: &[Value]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let (name, version) = (text("name"), text("version"));
        versions.entry(name).or_default().push(version);
        if !is_licensed(text("license")) {
            complaints.push(format!("{name} {version}: licence `{}`", text("license")));
        }
        if !package["source"].is_null() && text("source") != SOURCE {
            complaints.push(format!("{name} {version}: from {}", text("source")));
        }
        if BANNED.contains(&name) {
            complaints.push(format!("{name} {version}: banned"));
        }
    }
    let twice = versions.iter().filter(|(_, versions)| versions.len() > 1);
    for (name, versions) in twice.filter(|(name, _)| !TWICE.contains(name)) {
        complaints.push(format!("{name}: versions {}", versions.join(" and ")));
    }
    complaints
}

/// Whether the expression leaves a choice of licences that are all on the list. Old ones have a
/// slash for OR.
fn is_licensed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let all = expression.split(" AND ").map(|part| {
        let part = part.trim().trim_start_matches('(').trim_end_matches(')');
        part.split(" OR ").any(|one| LICENCES.contains(&one.trim()))
    });
    let mut all = all.peekable();
    all.peek().is_some() && all.all(|is_listed| is_listed)
}
