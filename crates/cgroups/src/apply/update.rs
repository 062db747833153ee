//! Writing new limits into the cgroups of a running container: all of them, or none.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use coracle_host::{CgroupLayout, Hierarchy};

use super::device::{self, Swapped};
use super::write::write_all;
use super::{files, partition, resctrl, systemd};
use crate::error::property;
use crate::plan::{DeviceUpdate, Moment, Property, Survey, UpdatePlan, Write, properties, restore};
use crate::record::{Directory, Unit};
use crate::table::{CPUSET_CPUS, MEMORY_USAGE, Version};
use crate::{Error, Record, Result};

/// How to undo an update, while its caller may still fail.
#[derive(Debug, Default)]
pub struct Undo {
    /// In the order in which they were written.
    taken: Vec<Taken>,
}

/// One value that was replaced.
#[derive(Debug)]
enum Taken {
    File {
        directory: PathBuf,
        file: String,
        value: String,
    },
    /// Properties of a systemd unit.
    Properties { unit: Unit, before: Vec<Property> },
    /// Lines of a v1 device list.
    Lines {
        directory: PathBuf,
        back: Vec<Write>,
    },
    Program {
        directory: PathBuf,
        swapped: Swapped,
    },
}

/// Reads what the planner of an update needs to know of the container's cgroups.
///
/// # Errors
/// A cgroup that cannot be read.
pub fn survey(record: &Record) -> Result<Survey> {
    let hierarchies = record.hierarchies.iter().map(|directory| Hierarchy {
        controllers: directory.controllers.clone(),
        mount: directory.path.clone(),
        root: directory.root.clone(),
        own: directory.path.clone(),
        noprefix: is_without_prefix(directory),
    });
    let unified = record.unified.as_ref().map(|directory| {
        let controllers = read(directory, "cgroup.controllers")?;
        Ok(Hierarchy {
            mount: directory.path.clone(),
            root: directory.root.clone(),
            own: directory.path.clone(),
            controllers: controllers.split_whitespace().map(str::to_owned).collect(),
            noprefix: false,
        })
    });
    let layout = CgroupLayout {
        mode: record.mode,
        hierarchies: hierarchies.collect(),
        unified: unified.transpose()?,
    };
    Ok(Survey {
        layout,
        memory_usage: memory_usage(record),
        unit: record.unit.clone(),
        has_resctrl: !record.resctrl.is_empty(),
    })
}

fn is_without_prefix(directory: &Directory) -> bool {
    let is_cpuset = directory.controllers.iter().any(|name| name == "cpuset");
    is_cpuset && read(directory, CPUSET_CPUS.name(Version::V1)).is_err()
}

/// Only for a check, which is left to the kernel if the file is missing.
fn memory_usage(record: &Record) -> Option<u64> {
    let text = match (record.hierarchy("memory"), &record.unified) {
        (Some(memory), _) => read(memory, MEMORY_USAGE.name(Version::V1)),
        (None, Some(unified)) => read(unified, MEMORY_USAGE.name(Version::V2)),
        (None, None) => return None,
    };
    text.ok()?.trim().parse().ok()
}

fn read(directory: &Directory, file: &str) -> Result<String> {
    let opened = files::open_path(&directory.path);
    let content = opened.and_then(|opened| files::read(opened.as_fd(), file));
    content.map_err(Error::read(&directory.path, file))
}

/// Carries out the plan. If a value is refused, those written before it are undone, last first.
///
/// # Errors
/// The first refusal, with the JSON path of its value; [`Error::Halfway`] if the undo failed too.
pub fn update(record: &Record, plan: &UpdatePlan) -> Result<Undo> {
    let mut undo = Undo::default();
    match carry_out(record, plan, &mut undo) {
        Ok(()) => Ok(undo),
        Err(source) => match undo.take_back() {
            Ok(()) => Err(source),
            Err(left) => Err(Error::Halfway {
                source: Box::new(source),
                left: left.to_string(),
            }),
        },
    }
}

fn carry_out(record: &Record, plan: &UpdatePlan, undo: &mut Undo) -> Result<()> {
    if let Some(unit) = &record.unit {
        set_properties(unit, record, plan, undo)?;
    }
    for (directory, writes) in record.hierarchies.iter().zip(&plan.hierarchies) {
        write_files(&directory.path, writes, undo)?;
    }
    if let Some(unified) = &record.unified {
        write_files(&unified.path, &plan.unified, undo)?;
    }
    if let (Some(group), false) = (record.resctrl.first(), plan.schemata.is_empty()) {
        let value = resctrl::update(&group.path, &plan.schemata)?;
        undo.taken.push(Taken::File {
            directory: group.path.clone(),
            file: "schemata".to_owned(),
            value,
        });
    }
    change_devices(record, &plan.devices, undo)
}

/// Sets the properties from which systemd writes files itself. Undone last, since the files were
/// read after systemd had written them.
fn set_properties(unit: &Unit, record: &Record, plan: &UpdatePlan, undo: &mut Undo) -> Result<()> {
    let mut before = Vec::new();
    let lists = record.hierarchies.iter().zip(&plan.hierarchies);
    for (directory, writes) in lists.chain(record.unified.iter().zip([&plan.unified])) {
        let old = |write: &Write| {
            let value = restore(write, &read(directory, &write.name).ok()?)?;
            Some(Write {
                value: value.into(),
                ..write.clone()
            })
        };
        let old: Vec<Write> = writes.iter().filter_map(old).collect();
        before.extend(properties(&old, unit.version, Moment::Later));
    }
    before.extend(plan.devices_before.iter().cloned());
    undo.taken.push(Taken::Properties {
        unit: unit.clone(),
        before,
    });
    systemd::set_properties(unit, &plan.properties)
}

/// Writes the values of one cgroup, and records the previous ones.
fn write_files(path: &Path, writes: &[Write], undo: &mut Undo) -> Result<()> {
    if writes.is_empty() {
        return Ok(());
    }
    let directory = files::open_directory(path)?;
    let partition = partition::before(directory.as_fd(), writes);
    write_all(directory.as_fd(), path, writes, &mut |write| {
        // A file that cannot be read, such as memory.reclaim, triggers an action and has no value
        // to restore.
        let Ok(before) = files::read(directory.as_fd(), &write.name) else {
            return;
        };
        if let Some(value) = restore(write, &before) {
            undo.taken.push(Taken::File {
                directory: path.to_owned(),
                file: write.name.clone(),
                value,
            });
        }
    })?;
    partition::check(directory.as_fd(), path, writes, partition.as_deref())
}

fn change_devices(record: &Record, devices: &DeviceUpdate, undo: &mut Undo) -> Result<()> {
    match (devices, record.hierarchy("devices"), &record.unified) {
        (DeviceUpdate::Lines { forth, back }, Some(Directory { path, .. }), _) => {
            let mut begun = 0;
            let directory = files::open_directory(path)?;
            let result = write_all(directory.as_fd(), path, forth, &mut |_| begun += 1);
            // If writing the list fails in the middle, it is undone from there. The undo begins
            // with denying everything, so it must not run if the kernel accepted no line.
            if result.is_ok() || begun > 1 {
                undo.taken.push(Taken::Lines {
                    directory: path.clone(),
                    back: back.clone(),
                });
            }
            result
        }
        (DeviceUpdate::Program { old, new }, _, Some(Directory { path, .. })) => {
            let programs = (old.as_ref(), new.as_ref());
            let swapped = device::swap(files::open_directory(path)?.as_fd(), path, programs)?;
            undo.taken.push(Taken::Program {
                directory: path.clone(),
                swapped,
            });
            Ok(())
        }
        _ => Ok(()),
    }
}

impl Undo {
    /// Restores the previous values, last first.
    ///
    /// # Errors
    /// The first value that could not be restored; the others are still restored.
    pub fn take_back(self) -> Result<()> {
        // Two values may limit each other, and the undo may need the other order, so refused values
        // are tried again.
        let mut refused = Vec::new();
        for taken in self.taken.iter().rev() {
            if taken.take_back().is_err() {
                refused.push(taken);
            }
        }
        refused
            .into_iter()
            .map(Taken::take_back)
            .fold(Ok(()), Result::and)
    }
}

impl Taken {
    fn take_back(&self) -> Result<()> {
        match self {
            Taken::File {
                directory,
                file,
                value,
            } => match files::write(files::open_directory(directory)?.as_fd(), file, value) {
                Ok(()) => Ok(()),
                Err(errno) if files::is_gone(errno) => Ok(()),
                Err(errno) => Err(Error::Write {
                    source_path: property("linux.resources"),
                    path: directory.join(file),
                    value: value.clone(),
                    errno,
                    hint: String::new(),
                }),
            },
            Taken::Properties { unit, before } => systemd::set_properties(unit, before),
            Taken::Lines { directory, back } => write_all(
                files::open_directory(directory)?.as_fd(),
                directory,
                back,
                &mut |_| {},
            ),
            Taken::Program { directory, swapped } => device::swap_back(
                files::open_directory(directory)?.as_fd(),
                directory,
                swapped,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_host::CgroupMode;
    use std::fs;

    const FILES: [&str; 4] = ["cpu.weight", "memory.max", "io.max", "cgroup.procs"];

    /// A directory that takes writes as a cgroup does, if the values are of one length.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("coracle-update-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            for file in FILES {
                fs::write(path.join(file), "old").unwrap();
            }
            Self(path)
        }

        fn contents(&self) -> Vec<String> {
            let read = |file| fs::read_to_string(self.0.join(file)).unwrap_or_default();
            FILES.into_iter().map(read).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn plan() -> UpdatePlan {
        UpdatePlan {
            unified: FILES.map(|file| Write::by_name(file, "new", file)).to_vec(),
            ..UpdatePlan::default()
        }
    }

    fn record(folder: &Folder) -> Record {
        Record {
            mode: CgroupMode::V2,
            unified: Some(Directory {
                path: folder.0.clone(),
                ..Directory::default()
            }),
            ..Record::default()
        }
    }

    #[test]
    fn each_write_that_fails_takes_back_those_before_it() {
        for failing in FILES {
            let folder = Folder::new(failing);
            fs::remove_file(folder.0.join(failing)).unwrap();
            fs::create_dir(folder.0.join(failing)).unwrap();
            let mut error = update(&record(&folder), &plan()).unwrap_err();
            assert_eq!(*error.path_mut().unwrap(), property(failing));
            for (file, content) in FILES.iter().zip(folder.contents()) {
                let expected = if *file == failing { "" } else { "old" };
                assert_eq!(content, expected, "{file} when {failing} fails");
            }
        }
    }

    #[test]
    fn a_whole_update_can_be_taken_back() {
        let folder = Folder::new("whole");
        let undo = update(&record(&folder), &plan()).unwrap();
        assert_eq!(folder.contents(), ["new"; 4]);
        undo.take_back().unwrap();
        assert_eq!(folder.contents(), ["old"; 4]);
    }

    #[test]
    fn schemata_are_written_to_the_group_and_taken_back() {
        let folder = Folder::new("schemata");
        fs::write(folder.0.join("schemata"), "L3:0=ff\n").unwrap();
        let mut record = record(&folder);
        record.resctrl.push(crate::Group {
            path: folder.0.clone(),
            ..crate::Group::default()
        });
        let plan = UpdatePlan {
            schemata: "L3:0=0f\n".to_owned(),
            ..plan()
        };
        let schemata = || fs::read_to_string(folder.0.join("schemata")).unwrap();
        let undo = update(&record, &plan).unwrap();
        assert_eq!(
            (schemata().as_str(), folder.contents()),
            ("L3:0=0f\n", vec!["new".to_owned(); 4])
        );
        undo.take_back().unwrap();
        assert_eq!(
            (schemata().as_str(), folder.contents()),
            ("L3:0=ff\n", vec!["old".to_owned(); 4])
        );
    }

    #[test]
    fn what_cannot_be_taken_back_is_reported() {
        let folder = Folder::new("halfway");
        let undo = update(&record(&folder), &plan()).unwrap();
        fs::remove_file(folder.0.join("memory.max")).unwrap();
        fs::create_dir(folder.0.join("memory.max")).unwrap();
        let text = undo.take_back().unwrap_err().to_string();
        assert!(text.contains("memory.max: is a directory"), "{text}");
        assert_eq!(folder.contents(), ["old", "", "old", "old"]);
    }
}
