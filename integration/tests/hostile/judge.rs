//! The checks that must hold for every image.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use coracle_integration::{Bundle, Folder, Output, Runtime};

use crate::image::Case;

/// The one line of the runtime, if it did not run the program.
pub(crate) type Refusal = Option<String>;

/// All that could have been changed: paths, modes, owners, devices, sizes.
pub(crate) type Snapshot = Vec<(String, u32, u32, u64, u64)>;

/// Texts that the program must not print with any image.
const FORBIDDEN: [&str; 4] = ["SECRET", "OUTSIDE", "no procfs", "written"];

/// Runs the image. The refusal, if the program did not run; or what is wrong.
pub(crate) fn judge(case: &Case) -> Result<Refusal, String> {
    let outside = outside();
    let before = snapshot(outside.path());
    let runtime = Runtime::new();
    let bundle = case.bundle(&runtime, &outside);
    let command = runtime.with_bundle("run", &bundle);
    let command = command.args(case.shape().options()).arg(runtime.id());
    let output = command.limit(15).output_or_kill();
    let verdict = verdict(&output, &FORBIDDEN, case.hides_program());
    let changed = unchanged(&before, outside.path()).map_err(|text| format!("{text}\n{output}"));
    case.release(&bundle);
    let left = clean(runtime, &bundle);
    let refusal = verdict?;
    changed.and(left).map(|()| refusal)
}

/// Where links lead, and where volumes come from.
pub(crate) fn outside() -> Folder {
    let outside = Folder::new();
    for folder in ["target", "source", "source/folder"] {
        outside.folder(folder);
    }
    outside.file("target/file", "OUTSIDE");
    outside.file("source/file", "source");
    outside
}

pub(crate) fn snapshot(folder: &Path) -> Snapshot {
    let mut list = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(data) = fs::symlink_metadata(entry.path()) else {
                continue;
            };
            if data.is_dir() {
                folders.push(entry.path());
            }
            let name = entry.path().display().to_string();
            let size = if data.is_dir() { 0 } else { data.len() };
            list.push((
                name,
                data.permissions().mode(),
                data.uid(),
                data.dev(),
                size,
            ));
        }
    }
    list.sort();
    list
}

/// Whether what links lead to is as it was.
pub(crate) fn unchanged(before: &Snapshot, folder: &Path) -> Result<(), String> {
    let after = snapshot(folder);
    match *before == after {
        true => Ok(()),
        false => Err(format!("the host has changed:\n{before:?}\n{after:?}")),
    }
}

/// The refusal, if the program did not run; or what is wrong. A program that the image hides may
/// also end by itself, with lines of its own.
pub(crate) fn verdict(
    output: &Output,
    forbidden: &[&str],
    hides_program: bool,
) -> Result<Refusal, String> {
    let wrong = |what: &str| Err(format!("{what}\n{output}"));
    if output.signal.is_some() {
        return wrong("killed, or not ended in time");
    }
    for text in forbidden {
        if output.stdout.contains(text) {
            return wrong(&format!("the program saw {text:?}"));
        }
    }
    if output.stdout.contains("done") {
        return Ok(None);
    }
    let lines = output.stderr.trim_end().lines().count();
    if lines == 1 && output.code == 1 || hides_program && lines > 0 {
        return Ok(Some(output.stderr.trim_end().to_owned()));
    }
    wrong("neither run nor refused by one line")
}

/// Whether nothing is left once the runtime is gone.
pub(crate) fn clean(runtime: Runtime, bundle: &Bundle) -> Result<(), String> {
    let left = runtime.leftovers();
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
    match (left.is_empty(), dropped) {
        (true, Ok(())) => Ok(()),
        _ => Err(format!(
            "left behind of {}: {left:?}",
            bundle.rootfs().display()
        )),
    }
}
