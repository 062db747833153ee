//! What must hold whatever the image is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use coracle_integration::{Bundle, Folder, Output, Runtime};

use crate::image::Case;

/// Runs the image. The refusal, if the program did not run; or what is wrong.
pub(crate) fn judge(case: &Case) -> Result<Option<String>, String> {
    let outside = outside();
    let before = snapshot(outside.path());
    let runtime = Runtime::new();
    let bundle = case.bundle(&runtime, &outside);
    let command = runtime.with_bundle("run", &bundle);
    let command = command.args(case.options()).arg(runtime.id()).limit(15);
    let output = command.output_or_kill();
    let verdict = verdict(case, &output).and_then(|refusal| {
        let after = snapshot(outside.path());
        match before == after {
            true => Ok(refusal),
            false => Err(format!(
                "the host has changed:\n{before:?}\n{after:?}\n{output}"
            )),
        }
    });
    let left = clean(case, runtime, &bundle);
    verdict.and_then(|refusal| left.map(|()| refusal))
}

/// Where links lead, and where volumes come from.
fn outside() -> Folder {
    let outside = Folder::new();
    for folder in ["target", "source", "source/folder"] {
        outside.folder(folder);
    }
    outside.file("target/file", "OUTSIDE");
    outside.file("source/file", "source");
    outside
}

/// All that could have been changed: paths, modes, owners, devices, sizes.
fn snapshot(folder: &Path) -> Vec<(String, u32, u32, u64, u64)> {
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

fn verdict(case: &Case, output: &Output) -> Result<Option<String>, String> {
    let wrong = |what: &str| Err(format!("{what}\n{output}"));
    if output.signal.is_some() {
        return wrong("killed, or not ended in time");
    }
    for text in ["SECRET", "OUTSIDE", "no procfs", "written"] {
        if output.stdout.contains(text) {
            return wrong(&format!("the program saw {text:?}"));
        }
    }
    if output.stdout.contains("done") {
        return Ok(None);
    }
    let lines = output.stderr.trim_end().lines().count();
    if lines == 1 && output.code == 1 || case.hides_program() && lines > 0 {
        return Ok(Some(output.stderr.trim_end().to_owned()));
    }
    wrong("neither run nor refused by one line")
}

fn clean(case: &Case, runtime: Runtime, bundle: &Bundle) -> Result<(), String> {
    let mounts = bundle.rootfs();
    case.release(bundle);
    let left = runtime.leftovers();
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
    match (left.is_empty(), dropped) {
        (true, Ok(())) => Ok(()),
        _ => Err(format!("left behind of {}: {left:?}", mounts.display())),
    }
}
