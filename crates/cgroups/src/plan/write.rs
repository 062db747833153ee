//! The values to write into the files of a cgroup, grouped by the hierarchy that has the
//! controller, and how each is restored.
//!
//! No path is needed for it, so the update of a running container uses it too.

use coracle_host::{CgroupLayout, CgroupMode, Hierarchy};

use crate::error::property;
use crate::lack::Lack;
use crate::table::{self, Controller, File, Restore, Row, Support, Version};
use crate::value::Value;
use crate::{Error, Result};

/// One write(2) of a value into a file of the container's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Name of the file, without a slash.
    pub name: String,
    /// Its row in the table of files.
    pub(crate) file: &'static File,
    /// The value.
    pub value: Value,
    /// JSON path of the value it comes from, for messages.
    pub source: String,
    /// What to do if the file does not exist.
    pub absent: Absent,
    /// What to do if the kernel refuses the value.
    pub refused: Refused,
}

/// What to do after ENOENT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// An error.
    Fail,
    /// Nothing: a kernel without the file behaves as if it had this value.
    Skip,
    /// Write this instead: the name of the file in another kernel or I/O scheduler.
    Instead(Box<Write>),
}

/// What to do if the kernel refuses the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// An error.
    Fail,
    /// After EINVAL or EBUSY, write it again after all others, since two values may limit each
    /// other.
    Again,
    /// After EPERM, nothing: the parent does not have it either, and the container can do without
    /// it.
    Skip,
}

impl Write {
    /// A value that must be written.
    pub(crate) fn new(file: &'static File, value: impl Into<Value>, source: &str) -> Self {
        Self {
            name: file.name.to_owned(),
            file,
            value: value.into(),
            source: source.to_owned(),
            absent: Absent::Fail,
            refused: if file.again {
                Refused::Again
            } else {
                Refused::Fail
            },
        }
    }

    /// A value of `unified` for a file of v2 by its name.
    pub(crate) fn by_name(name: &str, text: &str, source: &str) -> Self {
        let write = Self::new(table::find(Version::V2, name), text, source);
        Self {
            refused: Refused::Fail,
            ..write.named(name)
        }
    }

    /// The text to write, without a newline.
    #[must_use]
    pub fn text(&self) -> String {
        self.value.text(self.file.kind)
    }

    /// Whether a new cgroup has the value already.
    pub(crate) fn is_initial(&self) -> bool {
        self.file.initial.is_some_and(|text| text == self.text())
    }

    /// The value, parsed if it is a text; `None` if that is invalid.
    pub(crate) fn meaning(&self) -> Option<Value> {
        match &self.value {
            Value::Text(text) => Value::read(self.file.kind, text),
            value => Some(value.clone()),
        }
    }

    /// The same write to a file of this name, for a row whose name has a star.
    pub(super) fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// The same write, but EPERM is no error.
    pub(super) fn if_permitted(mut self) -> Self {
        self.refused = Refused::Skip;
        self
    }

    /// The same write, but a missing file is no error.
    pub(super) fn if_there(mut self) -> Self {
        self.absent = Absent::Skip;
        self
    }

    /// The same write, with another file and value if this file is missing.
    pub(super) fn or(mut self, other: Self) -> Self {
        self.absent = Absent::Instead(Box::new(other));
        self
    }
}

/// The text to write into the file of `write` to restore the content `before`; `None` if nothing
/// needs to be written.
pub(crate) fn restore(write: &Write, before: &str) -> Option<String> {
    let before = before.trim();
    let first_word = |line: &str| line.split_whitespace().next().map(str::to_owned);
    match write.file.restore {
        Restore::Whole if before.is_empty() => Some("\n".to_owned()),
        Restore::Whole => Some(before.to_owned()),
        Restore::Weight if before == "0" => None,
        Restore::Weight => Some(before.to_owned()),
        Restore::Word => first_word(before),
        Restore::Field(key) => {
            let line = before.lines().next()?.strip_prefix(key)?;
            Some(line.trim().to_owned())
        }
        Restore::Value(unset) => {
            let text = write.text();
            let Some((device, _)) = text.split_once(char::is_whitespace) else {
                return Some(of_all(before));
            };
            let mut lines = before.lines();
            match lines.find(|line| first_word(line).as_deref() == Some(device)) {
                Some(line) => Some(line.trim().to_owned()),
                None if unset.is_empty() => None,
                None => Some(format!("{device} {unset}")),
            }
        }
    }
}

/// The default value of a file that also has values for single devices.
fn of_all(before: &str) -> String {
    let default = before.lines().find(|line| line.starts_with("default "));
    default
        .or(before.lines().next())
        .unwrap_or_default()
        .to_owned()
}

/// The values to write, by hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limits<'a> {
    layout: &'a CgroupLayout,
    /// By index of the v1 hierarchy.
    pub(super) hierarchies: Vec<Vec<Write>>,
    /// The values for the v2 cgroup.
    pub(super) unified: Vec<Write>,
    /// v2 controllers that must be enabled, with the JSON path that needs them.
    pub(super) required: Vec<(String, String)>,
    /// Values for which this machine has no file and which can be ignored, one line each.
    pub(super) warnings: Vec<String>,
}

/// The cgroup that has a controller's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Location {
    Hierarchy(usize),
    Unified,
    Nowhere,
}

impl<'a> Limits<'a> {
    /// No limit yet.
    pub(super) fn new(layout: &'a CgroupLayout) -> Self {
        Self {
            layout,
            hierarchies: vec![Vec::new(); layout.hierarchies.len()],
            unified: Vec::new(),
            required: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The JSON path of some limit, if there is any.
    pub(super) fn first_source(&self) -> Option<&str> {
        let mut all = self.hierarchies.iter().flatten().chain(&self.unified);
        all.next().map(|write| write.source.as_str())
    }

    /// The version of the files of `controller`.
    pub(super) fn version(&self, controller: Controller) -> Version {
        match self.location(controller) {
            Location::Hierarchy(_) => Version::V1,
            Location::Unified => Version::V2,
            Location::Nowhere if self.layout.mode == CgroupMode::V2 => Version::V2,
            Location::Nowhere => Version::V1,
        }
    }

    /// Whether a v1 hierarchy has `controller`.
    pub(super) fn is_on_v1(&self, controller: Controller) -> bool {
        matches!(self.location(controller), Location::Hierarchy(_))
    }

    /// Adds a setting with its own property, if the config has it.
    pub(super) fn set(&mut self, row: &'static Row, value: Option<impl Into<Value>>) -> Result<()> {
        match value {
            Some(value) => self.add(row, &source(row), value.into(), |write| write),
            None => Ok(()),
        }
    }

    /// Adds a setting for the property `source`; `adjust` may change the write.
    pub(super) fn add(
        &mut self,
        row: &'static Row,
        source: &str,
        value: Value,
        adjust: impl FnOnce(Write) -> Write,
    ) -> Result<()> {
        let file = row.file(self.version(row.controller));
        match file.support {
            Support::File => {}
            Support::Implied => return Ok(()),
            Support::Ignored(why) => {
                self.warnings.push(format!("{}: {why}", property(source)));
                return Ok(());
            }
            Support::Refused(why) => return Err(Error::config(source, why)),
        }
        let write = adjust(Write::new(file, value, source));
        match self.location(row.controller) {
            Location::Hierarchy(index) => {
                let name = self.layout.hierarchies.get(index).map(|of| name(file, of));
                if let (Some(list), Some(name)) = (self.hierarchies.get_mut(index), name) {
                    let is_renamed = name != file.name;
                    list.push(if is_renamed { write.named(name) } else { write });
                }
            }
            Location::Unified => {
                self.require(row.controller.v2, source);
                self.unified.push(write);
            }
            Location::Nowhere => {
                let name = match self.version(row.controller) {
                    Version::V1 => row.controller.v1,
                    Version::V2 => row.controller.v2,
                };
                return Err(missing(source, name, self.layout));
            }
        }
        Ok(())
    }

    /// Records that the v2 cgroup needs `controller`.
    pub(super) fn require(&mut self, controller: &str, source: &str) {
        if !self.required.iter().any(|(name, _)| name == controller) {
            self.required
                .push((controller.to_owned(), source.to_owned()));
        }
    }

    fn location(&self, controller: Controller) -> Location {
        let has = |of: &Hierarchy| of.controllers.iter().any(|name| name == controller.v1);
        if let Some(index) = self.layout.hierarchies.iter().position(has) {
            return Location::Hierarchy(index);
        }
        match &self.layout.unified {
            Some(tree) if tree.controllers.iter().any(|name| name == controller.v2) => {
                Location::Unified
            }
            _ => Location::Nowhere,
        }
    }
}

/// The JSON path of a setting.
pub(super) fn source(row: &Row) -> String {
    format!("linux.resources.{}", row.property)
}

/// A file's name in a v1 hierarchy: in a cpuset mounted with `noprefix` it has no prefix.
pub(super) fn name(file: &File, hierarchy: &Hierarchy) -> &'static str {
    let bare = file.name.strip_prefix("cpuset.");
    bare.filter(|_| hierarchy.noprefix).unwrap_or(file.name)
}

/// The error for a limit whose controller no hierarchy has.
pub(super) fn missing(source: &str, controller: &str, layout: &CgroupLayout) -> Error {
    let lack = match (&layout.unified, layout.mode) {
        (Some(tree), CgroupMode::V2) => Lack::Unified(tree.mount.clone()),
        (Some(tree), _) => Lack::Both(tree.mount.clone()),
        (None, CgroupMode::None) => Lack::Everything,
        _ => Lack::Hierarchy,
    };
    Error::Controller {
        path: property(source),
        controller: controller.to_owned(),
        lack,
    }
}

/// For tests: `file=value (again) (if there)`, or the error.
#[cfg(test)]
pub(super) fn text(writes: &[Write]) -> String {
    fn one(write: &Write) -> String {
        let mut text = format!("{}={}", write.name, write.text());
        match write.refused {
            Refused::Fail => {}
            Refused::Again => text.push_str(" (again)"),
            Refused::Skip => text.push_str(" (if permitted)"),
        }
        match &write.absent {
            Absent::Fail => {}
            Absent::Skip => text.push_str(" (if there)"),
            Absent::Instead(other) => {
                text.push_str(" or ");
                text.push_str(&one(other));
            }
        }
        text
    }
    writes.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::find;

    fn check(file: &str, value: &str, before: &str, expected: Option<&str>) {
        let on_v1 = find(Version::V1, file);
        let write = match on_v1.name.is_empty() {
            true => Write::by_name(file, value, "x"),
            false => Write::new(on_v1, value, "x"),
        };
        assert_eq!(restore(&write, before).as_deref(), expected, "{file}");
    }

    #[test]
    fn single_values() {
        check("memory.max", "7", "max\n", Some("max"));
        check("memory.limit_in_bytes", "7", "4096\n", Some("4096"));
        check("cpu.max", "5 6", "max 100000\n", Some("max 100000"));
        check("cpu.max", "5", "20000 100000\n", Some("20000 100000"));
        check("cpu.weight", "5", "100\n", Some("100"));
        check("cpu.weight", "5", "0\n", None);
        check("cpuset.cpus", "0", "\n", Some("\n"));
        check("cpuset.cpus", "0", "0-1\n", Some("0-1"));
        check(
            "cpuset.cpus.partition",
            "root",
            "root invalid (x)\n",
            Some("root"),
        );
        let oom = "oom_kill_disable 1\nunder_oom 0\noom_kill 0\n";
        check("memory.oom_control", "0", oom, Some("1"));
    }

    #[test]
    fn values_by_device() {
        let max = "8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2\n";
        check("io.max", "8:16 rbps=7", max, Some("8:16 rbps=2"));
        let all = "7:0 rbps=max wbps=max riops=max wiops=max";
        check("io.max", "7:0 rbps=7", max, Some(all));
        let weights = "default 100\n8:0 50\n";
        check("io.weight", "200", weights, Some("default 100"));
        check("io.bfq.weight", "8:0 9", weights, Some("8:0 50"));
        check("io.bfq.weight", "8:1 9", weights, Some("8:1 default"));
        let throttle = "blkio.throttle.read_bps_device";
        check(throttle, "8:0 600", "8:0 500\n", Some("8:0 500"));
        check(throttle, "8:1 600", "8:0 500\n", Some("8:1 0"));
        check("net_prio.ifpriomap", "lo 5", "lo 0\neth0 1\n", Some("lo 0"));
        let rdma = "mlx hca_handle=max hca_object=3\n";
        let line = "mlx hca_handle=max hca_object=3";
        check("rdma.max", "mlx hca_handle=1", rdma, Some(line));
        check("misc.max", "none 1", "res 2\n", None);
    }
}
