//! The corpus and what once fell out, fed to every target again. `CORACLE_FUZZ_INPUTS` names a
//! folder with more, one folder a target.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

#[test]
fn no_target_falls_over_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in coracle_fuzz::TARGETS {
        let files =
            inputs(&corpus.join(name)).unwrap_or_else(|error| panic!("corpus of {name}: {error}"));
        assert!(!files.is_empty(), "{name} has no corpus");
        let found = env::var_os("CORACLE_FUZZ_INPUTS").map(PathBuf::from);
        let found = found.and_then(|folder| inputs(&folder.join(name)).ok());
        for file in files.into_iter().chain(found.unwrap_or_default()) {
            println!("{}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}

fn inputs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}
