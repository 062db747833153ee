//! The plan as lines of text.

use super::InitCgroup;
use super::{Absent, Write};
use super::{
    Denied, Driver, Files, HierarchyPlan, Plan, Program, Property, ResctrlPlan, UnifiedPlan,
    UnitPlan,
};
use coracle_host::SystemdManager;

impl Plan {
    /// What will be made and written, one line each.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match &self.driver {
            Driver::None => lines.push("no cgroup of its own".to_owned()),
            Driver::Files(files) => describe_files(files, &mut lines),
            Driver::Systemd(plan) => {
                describe_unit(&plan.unit, &mut lines);
                describe_files(&plan.files, &mut lines);
            }
        }
        if let Some(resctrl) = &self.resctrl {
            describe_resctrl(resctrl, &mut lines);
        }
        lines
    }
}

fn describe_unit(unit: &UnitPlan, lines: &mut Vec<String>) {
    let manager = match unit.manager {
        SystemdManager::System => "system",
        SystemdManager::User => "user's",
    };
    lines.push(format!(
        "start unit {} by the {manager} systemd",
        unit.record.name
    ));
    lines.extend(unit.properties.iter().map(describe_property));
}

fn describe_property(property: &Property) -> String {
    let Property {
        name,
        value,
        source,
    } = property;
    match source.as_str() {
        "" => format!("  {name}={value}"),
        source => format!("  {name}={value} ({source})"),
    }
}

fn describe_files(files: &Files, lines: &mut Vec<String>) {
    for hierarchy in &files.hierarchies {
        describe_hierarchy(hierarchy, lines);
    }
    if let Some(unified) = &files.unified {
        describe_unified(unified, lines);
    }
    if files.denied == Denied::Skip {
        lines.push("go without a cgroup that may not be made".to_owned());
    }
}

fn describe_hierarchy(plan: &HierarchyPlan, lines: &mut Vec<String>) {
    let path = plan.mount.join(&plan.path);
    let controllers = plan.controllers.join(",");
    lines.push(format!("make cgroup {} ({controllers})", path.display()));
    for file in &plan.inherit {
        lines.push(format!("  {file}: from the parent, where empty"));
    }
    lines.extend(plan.writes.iter().map(|write| {
        let old = if write.is_initial() {
            ", where the cgroup is not new"
        } else {
            ""
        };
        describe_write(write) + old
    }));
}

fn describe_unified(plan: &UnifiedPlan, lines: &mut Vec<String>) {
    let path = plan.mount.join(&plan.path);
    lines.push(format!("make cgroup {} (v2)", path.display()));
    for (controller, source) in &plan.required {
        lines.push(format!("  enable {controller} down to it ({source})"));
    }
    lines.extend(plan.writes.iter().map(describe_write));
    if let Some(program) = &plan.devices {
        describe_program(program, lines);
    }
    if let Some(uid) = plan.owner {
        lines.push(format!("  give it to uid {uid}"));
    }
    if let Some(InitCgroup {
        name,
        is_namespace_root,
    }) = &plan.init_cgroup
    {
        let root = match is_namespace_root {
            true => ", the root of its cgroup namespace",
            false => "",
        };
        lines.push(format!("  make {name} below it for init{root}"));
    }
}

fn describe_write(write: &Write) -> String {
    let mut text = format!("  {}: {} ({})", write.name, write.text(), write.source);
    if let Absent::Instead(other) = &write.absent {
        text.push_str(&format!(", else {}: {}", other.name, other.text()));
    }
    text
}

fn describe_program(program: &Program, lines: &mut Vec<String>) {
    let count = program.instructions.len();
    lines.push(format!(
        "  attach a device program of {count} instructions:"
    ));
    lines.extend(program.rules.iter().map(|rule| format!("    {rule}")));
}

fn describe_resctrl(plan: &ResctrlPlan, lines: &mut Vec<String>) {
    lines.push(format!("make resctrl group {}", plan.group.display()));
    let schemata = plan.schemata.lines();
    lines.extend(schemata.map(|line| format!("  schemata: {line} (linux.intelRdt)")));
    if let Some(monitoring) = &plan.monitoring {
        lines.push(format!("make resctrl group {}", monitoring.display()));
    }
}
