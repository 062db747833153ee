//! `list --format TEMPLATE`: a line for each container, with fields in double braces.

use coracle_text::escaped;

use super::row::Row;
use crate::people;

type Show = fn(&Row) -> String;

/// The fields, as they are typed behind the dot. An annotation's name follows the last.
const FIELDS: [(&str, Show); 9] = [
    ("ID", |row| row.state.id.clone()),
    ("Pid", |row| row.state.pid.to_string()),
    ("Status", |row| row.state.status.to_string()),
    ("Bundle", |row| row.state.bundle.display().to_string()),
    ("Rootfs", |row| row.state.rootfs.display().to_string()),
    ("Created", |row| row.state.created.clone()),
    ("Age", |row| people::age(row.age)),
    ("Owner", |row| row.owner.clone()),
    ("Ended", |row| {
        let ended = row.state.ended.as_ref();
        ended.map(people::ending).unwrap_or_default()
    }),
];
const ANNOTATION: &str = "Annotation.";

/// What may stand in braces, for messages.
pub(super) const EXPECTED: &str = "table, json or a template such as \"{{.ID}} {{.Status}}\", of \
     ID, Pid, Status, Bundle, Rootfs, Created, Age, Owner, Ended and Annotation.NAME";

/// A template that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// By its place in the list.
    Field(usize),
    Annotation(String),
}

impl Template {
    /// The template; else the part of it that is none: a field that does not exist, braces that do
    /// not close, or the whole where it has no field at all.
    pub(super) fn parse(text: &str) -> Result<Self, &str> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (field, behind) = after.split_once("}}").ok_or(rest)?;
            parts.push(Part::Text(unescaped(before)));
            parts.push(part(field).ok_or(field)?);
            rest = behind;
        }
        if parts.is_empty() {
            return Err(text);
        }
        parts.push(Part::Text(unescaped(rest)));
        Ok(Self(parts))
    }

    /// The container's line. Annotations are an image's: none of them moves the cursor.
    pub(super) fn line(&self, row: &Row) -> String {
        let shown = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(at) => FIELDS
                .get(*at)
                .map_or_else(String::new, |(_, of)| escaped(&of(row))),
            Part::Annotation(name) => {
                let value = row.state.annotations.get(name);
                value.map_or_else(String::new, |value| escaped(value))
            }
        };
        self.0.iter().map(shown).chain(["\n".to_owned()]).collect()
    }
}

fn part(field: &str) -> Option<Part> {
    let name = field.trim().strip_prefix('.')?;
    if let Some(annotation) = name.strip_prefix(ANNOTATION) {
        return (!annotation.is_empty()).then(|| Part::Annotation(annotation.to_owned()));
    }
    let at = FIELDS.iter().position(|(known, _)| *known == name);
    at.map(Part::Field)
}

/// `\t` and `\n` as shells leave them in quotes.
fn unescaped(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::super::row::row;
    use super::*;

    fn shown(template: &str) -> String {
        match Template::parse(template) {
            Ok(template) => template.line(&row("web1", &[("a.b", "x\u{1b}[2J"), ("c", "")])),
            Err(wrong) => format!("wrong: {wrong}"),
        }
    }

    #[test]
    fn fields_and_text() {
        for (template, expected) in [
            ("{{.ID}}", "web1\n"),
            ("{{ .ID }}\\t{{.Pid}}", "web1\t7\n"),
            ("<{{.Status}}> {{.Owner}}!", "<running> ann!\n"),
            ("{{.Bundle}}{{.Rootfs}}", "/b/b/rootfs\n"),
            ("{{.Created}} {{.Age}}", "2026-01-01T00:00:00Z 2 hours\n"),
            (
                "{{.Annotation.a.b}}|{{.Annotation.c}}|{{.Annotation.d}}",
                "x\\u{1b}[2J||\n",
            ),
            ("x", "wrong: x"),
            ("", "wrong: "),
            ("{{.Id}}", "wrong: .Id"),
            ("{{ID}}", "wrong: ID"),
            ("{{.ID", "wrong: {{.ID"),
            ("{{.Annotation.}}", "wrong: .Annotation."),
        ] {
            assert_eq!(shown(template), expected, "{template}");
        }
    }

    #[test]
    fn messages_name_every_field() {
        assert!(FIELDS.iter().all(|(name, _)| EXPECTED.contains(name)));
        assert!(EXPECTED.contains(ANNOTATION));
    }
}
