//! The packages that `integration/dist` made, in the folder that `CORACLE_PACKAGES` names, installed
//! in systems without anything of this project, and used there.

#[macro_use]
extern crate coracle_integration;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use coracle_integration::{Command, Manager, Output, Sandbox, Value, copy_program, needs};

/// Makes a Debian, once, and prints its archive.
const CLEAN_ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clean-root");

/// Makes a folder the root of a mount namespace of its own, and runs a script there.
const ENTER: &str = r#"set -e
mount --bind "$1" "$1"
cd "$1"
mkdir -p proc sys dev run old
for place in proc sys dev; do mount --rbind /$place $place; done
mount -t tmpfs run run
pivot_root . old
umount -l /old
exec /bin/sh -e -c "$2""#;

/// A bundle of busybox whose program prints a line.
const BUNDLE: &str = r#"
mkdir -p /bundle/rootfs/bin
cp /bin/busybox /bundle/rootfs/bin/sh
cd /bundle
coracle spec
sed -i -e 's/"terminal": true/"terminal": false/' -e 's/"sh"/"sh", "-c", "echo pid $$"/' config.json
coracle run demo
"#;

fn main() -> ExitCode {
    coracle_integration::runner::main()
}

#[test]
fn the_sums_are_right() {
    let check = Command::new("sha256sum").args(["--check", "--strict", "sha256sums"]);
    let said = check.folder(&packages()).output().ok();
    for kind in [".tar.gz: OK", ".deb: OK", ".cdx.json: OK"] {
        assert!(said.stdout.contains(kind), "{said}");
    }
}

/// The program needs no other file.
#[test]
fn the_tarball_serves_a_root_with_nothing_but_busybox() {
    let sandbox = sandbox();
    let root = busybox_root(&sandbox);
    let unpack = Command::new("tar").args(["--strip-components=1", "-C"]);
    let unpack = unpack.arg(sandbox.folder().folder("root/usr/local"));
    unpack.arg("-xzf").arg(package("", ".tar.gz")).output().ok();
    let said = inside(&sandbox, &root, BUNDLE).ok();
    assert_eq!(said.stdout, "pid 1\n");
    let text = root.join("usr/local/share/doc/coracle");
    for name in ["LICENSE", "THIRD-PARTY.txt", "docs/cli.md"] {
        assert!(text.join(name).is_file(), "{name}");
    }
}

#[test]
fn the_rpm_is_installed_and_runs_a_container() {
    needs::program("rpm");
    let sandbox = sandbox();
    let root = busybox_root(&sandbox);
    let rpm = |arguments: &[&str]| {
        let command = Command::new("rpm").arg("--root").arg(&root);
        command.args(arguments).output().ok().stdout
    };
    let file = package("coracle-", ".rpm");
    rpm(&["--initdb"]);
    rpm(&["--install", file.to_str().expect("a path in UTF-8")]);
    assert_eq!(rpm(&["--verify", "coracle"]), "");
    assert!(rpm(&["-ql", "coracle"]).contains("/usr/share/man/man8/coracle-run.8.gz\n"));
    let said = inside(&sandbox, &root, BUNDLE).ok();
    assert_eq!(said.stdout, "pid 1\n");
    rpm(&["--erase", "coracle"]);
    assert!(!root.join("usr/bin/coracle").exists());
    assert!(!root.join("usr/share/doc/coracle").exists());
}

/// podman finds it by its path, and then as `runc`, where Debian's own goes aside and comes back.
#[test]
fn the_debs_serve_podman_and_take_the_place_of_runc() {
    let sandbox = sandbox();
    let root = debian(&sandbox);
    for (start, end) in [("coracle_", ".deb"), ("coracle-runc_", ".deb")] {
        let copy = Command::new("cp").arg(package(start, end));
        copy.arg(root.join("root")).output().ok();
    }
    let script = format!(
        "export LC_ALL=C DEBIAN_FRONTEND=noninteractive\n{}\n{BUNDLE}\n{}",
        "dpkg --install /root/coracle_*.deb >/dev/null",
        include_str!("debian.sh")
    );
    let said = inside(&sandbox, &root, &script);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(said.stdout, include_str!("debian.txt"), "{}", said.stderr);
}

/// The list of parts is that of the lock file, and each has its licence.
#[test]
fn the_bill_of_materials_names_what_is_built_in() {
    let text = std::fs::read_to_string(package("", ".cdx.json")).expect("the bill");
    let bill: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(bill["bomFormat"], "CycloneDX");
    let components = bill["components"].as_array().expect("components");
    let target = bill["metadata"]["properties"][0]["value"].as_str();
    let mut built = locked(target.expect("a target"));
    built.sort();
    built.dedup();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let mut named: Vec<String> = components
        .iter()
        .filter(|entry| entry["purl"].is_string())
        .map(|entry| format!("{} {}", text(entry, "name"), text(entry, "version")))
        .collect();
    named.push(format!(
        "coracle-cli {}",
        text(&bill["metadata"]["component"], "version")
    ));
    named.sort();
    assert_eq!(named, built);
    for entry in components {
        let licence = &entry["licenses"][0]["expression"];
        assert!(licence.is_string(), "{entry}");
        let is_ours = text(entry, "name").starts_with("coracle-");
        assert!(
            is_ours || entry["hashes"].is_array() || entry["purl"].is_null(),
            "{entry}"
        );
    }
}

/// Name and version of all packages that the program is built from.
fn locked(target: &str) -> Vec<String> {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--package", "coracle-cli"]);
    cargo.args([
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let output = cargo.args(["--target", target]).output().expect("cargo");
    let text = String::from_utf8(output.stdout).expect("text");
    let entries = text
        .lines()
        .map(|line| line.split(" (").next().unwrap_or_default());
    entries.map(|entry| entry.replacen(" v", " ", 1)).collect()
}

/// The folder of the packages.
fn packages() -> PathBuf {
    match std::env::var_os("CORACLE_PACKAGES") {
        Some(folder) => folder.into(),
        None => skip!("needs packages: `integration/test dist` makes them"),
    }
}

/// The package whose name starts and ends so.
fn package(start: &str, end: &str) -> PathBuf {
    let names = std::fs::read_dir(packages()).expect("the folder of the packages");
    let mut names = names.flatten().map(|entry| entry.path());
    let found = names.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(start) && name.ends_with(end)
    });
    match found {
        Some(path) => path,
        None => skip!("no package {start}…{end} was made"),
    }
}

fn sandbox() -> Sandbox {
    packages();
    Sandbox::new(Manager::of_machine())
}

fn busybox_root(sandbox: &Sandbox) -> PathBuf {
    needs::program("busybox");
    let root = sandbox.folder().folder("root");
    let bin = sandbox.folder().folder("root/bin");
    copy_program(Path::new("/bin/busybox"), &bin.join("busybox"));
    for folder in ["etc", "tmp", "root", "usr/local"] {
        sandbox.folder().folder(Path::new("root").join(folder));
    }
    let install = Command::new("chroot").arg(&root);
    install
        .args(["/bin/busybox", "--install", "-s", "/bin"])
        .output()
        .ok();
    root
}

/// A Debian with podman, crun and runc.
fn debian(sandbox: &Sandbox) -> PathBuf {
    needs::program("mmdebstrap");
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let archive = Command::new(CLEAN_ROOT)
        .env("HOME", home)
        .limit(290)
        .output()
        .ok();
    let root = sandbox.folder().folder("root");
    let unpack = Command::new("tar").arg("-C").arg(&root);
    unpack
        .args(["-xf", archive.line()])
        .limit(120)
        .output()
        .ok();
    root
}

/// Runs a script with this folder as its root.
fn inside(sandbox: &Sandbox, root: &Path, script: &str) -> Output {
    let options = [
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        ENTER,
        "sh",
    ];
    let command = sandbox
        .command("unshare")
        .args(options)
        .arg(root)
        .arg(script);
    command.limit(200).output()
}
