//! Partitions of cpusets. cgroup-v2.rst § Cpuset: the kernel accepts a value that makes a partition
//! invalid, and shows this only in `cpuset.cpus.partition`.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::files;
use crate::error::property;
use crate::plan::Write;
use crate::table::{CPUSET_PARTITION, Version};
use crate::{Error, Result};

/// The content of that file before `writes`; `None` if they do not affect it.
pub(super) fn before(directory: BorrowedFd, writes: &[Write]) -> Option<String> {
    concerning(writes)?;
    files::read(directory, partition()).ok()
}

/// Checks that the partition is valid after `writes`. If it was invalid `before`, this is no error,
/// unless its kind was written.
///
/// # Errors
/// [`Error::Partition`] with the kernel's reason.
pub(super) fn check(
    directory: BorrowedFd,
    path: &Path,
    writes: &[Write],
    before: Option<&str>,
) -> Result<()> {
    let Some(write) = concerning(writes) else {
        return Ok(());
    };
    let Ok(state) = files::read(directory, partition()) else {
        return Ok(());
    };
    let was_invalid = before.is_some_and(is_invalid) && write.name != partition();
    if !is_invalid(&state) || was_invalid {
        return Ok(());
    }
    Err(Error::Partition {
        source_path: property(&write.source),
        path: path.join(&write.name),
        value: write.text(),
        state: state.trim().to_owned(),
    })
}

fn partition() -> &'static str {
    CPUSET_PARTITION.name(Version::V2)
}

/// The write of the partition's kind, or else the last one that can make it invalid.
fn concerning(writes: &[Write]) -> Option<&Write> {
    let kind = writes.iter().rfind(|write| write.name == partition());
    let mut all = writes.iter();
    kind.or_else(|| all.rfind(|write| write.name.starts_with("cpuset.")))
}

/// Whether the state is such as `root invalid (Parent is not a partition root)`.
fn is_invalid(state: &str) -> bool {
    state.split_whitespace().nth(1) == Some("invalid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_the_kernel_marks_is_an_error_once() {
        let name = format!("coracle-partition-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        let directory = files::open_path(&path).unwrap();
        let kind = Write::by_name(partition(), "root", "linux.resources.unified");
        let cpus = Write::by_name("cpuset.cpus", "0", "linux.resources.cpu.cpus");
        let memory = Write::by_name("memory.max", "max", "linux.resources.memory.limit");
        let invalid = "root invalid (Parent is not a partition root)\n";
        for (state, before, writes, expected) in [
            ("root\n", None, vec![&cpus, &kind], None),
            (invalid, None, vec![&memory], None),
            (invalid, None, vec![&kind, &cpus], Some(&kind)),
            (invalid, Some(invalid), vec![&kind], Some(&kind)),
            (invalid, Some("root\n"), vec![&cpus], Some(&cpus)),
            (invalid, Some(invalid), vec![&cpus], None),
        ] {
            std::fs::write(path.join(partition()), state).unwrap();
            let writes: Vec<Write> = writes.into_iter().cloned().collect();
            let found = check(directory.as_fd(), &path, &writes, before).err();
            let expected = expected.map(|write| {
                let (place, value) = (path.join(&write.name), write.text());
                format!(
                    "config.json: {}: write `{value}` to {}: cpuset.cpus.partition says `{}`",
                    write.source,
                    place.display(),
                    invalid.trim()
                )
            });
            assert_eq!(found.map(|error| error.to_string()), expected);
        }
        std::fs::remove_dir_all(&path).unwrap();
    }
}
