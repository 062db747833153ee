//! Help and usage texts, made from the tables.

use std::fmt::Write;

use super::table::{Command, Flag};

/// The greatest width of the left column, in bytes. The help of a wider flag begins on the next
/// line.
const WIDEST: usize = 34;

/// The usage line of the command.
pub(crate) fn usage(command: &Command) -> String {
    let words = [
        "Usage: coracle",
        command.name,
        "[OPTIONS]",
        command.synopsis,
    ];
    let words = words.into_iter().filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// The text of the command's `--help`. For the program itself it also lists the commands, `all`.
pub(crate) fn help<'a>(command: &Command, all: impl Iterator<Item = &'a Command>) -> String {
    let mut text = format!("{}\n\n{}\n", command.about, usage(command));
    let commands = all.map(|command| (format!("  {}", command.name), command.about));
    section(&mut text, "Commands", commands.collect());
    let flags = command.flags().filter(|flag| !flag.hidden);
    section(
        &mut text,
        "Options",
        flags.map(|flag| (left(flag), flag.help)).collect(),
    );
    if !command.examples.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\nExamples:");
    }
    for (line, what) in command.examples {
        let _ = writeln!(text, "  coracle {line}\n      {what}");
    }
    text
}

/// `  -b, --bundle DIR`
fn left(flag: &Flag) -> String {
    let short = flag
        .short
        .map_or("   ".to_owned(), |short| format!("-{short},"));
    let value = flag
        .placeholder
        .map(|placeholder| format!(" {placeholder}"));
    let more = if flag.repeats { "..." } else { "" };
    format!(
        "  {short} --{}{}{more}",
        flag.name,
        value.unwrap_or_default()
    )
}

fn section(text: &mut String, title: &str, rows: Vec<(String, &str)>) {
    if rows.is_empty() {
        return;
    }
    let widths = rows.iter().map(|(left, _)| left.len());
    let width = widths.filter(|width| *width <= WIDEST).max().unwrap_or(0);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{title}:");
    for (left, help) in rows {
        let _ = match left.len() <= width {
            true => writeln!(text, "{left:<width$}  {help}"),
            false => writeln!(text, "{left}\n{:width$}  {help}", ""),
        };
    }
}
