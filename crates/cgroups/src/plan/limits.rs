//! The values to write, grouped by the hierarchy that has the controller.
//!
//! It needs no paths, so the update of a running container uses it too.

use coracle_host::{CgroupLayout, CgroupMode, Hierarchy};

use super::write::Write;
use crate::error::property;
use crate::table::{Controller, File, Row, Support, Version};
use crate::value::Value;
use crate::{Error, Result};

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
    let place = match (&layout.unified, layout.mode) {
        (Some(tree), CgroupMode::V2) => {
            format!("{} does not have it", tree.mount.display())
        }
        (Some(tree), _) => {
            let mount = tree.mount.display();
            format!("no hierarchy of version 1 has it, nor does {mount}")
        }
        _ => "it is not mounted".to_owned(),
    };
    Error::Controller {
        path: property(source),
        controller: controller.to_owned(),
        place,
    }
}
