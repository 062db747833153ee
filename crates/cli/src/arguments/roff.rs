//! Manual pages, made from the tables: man(7).

use std::fmt::Write;

use super::table::{Command, Flag};

/// A section that is the same wherever it stands: its title, and rows of a word and its meaning.
pub(crate) type Section = (&'static str, &'static [(&'static str, &'static str)]);

/// The name of a command's page: `coracle-run`, or `coracle`.
pub(crate) fn name(command: &Command) -> String {
    match command.name {
        "" => "coracle".to_owned(),
        name => format!("coracle-{name}"),
    }
}

/// The page of a command, with these sections behind its own. That of the program itself has the
/// other commands.
pub(crate) fn page<'a>(
    command: &'a Command,
    others: impl Iterator<Item = &'a Command> + Clone,
    sections: &[Section],
) -> String {
    let name = name(command);
    let title = text(&name.to_uppercase());
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".TH {title} 8 \"\" \"coracle {version}\" \"Container runtime\"\n");
    page += &format!(".SH NAME\n{} \\- {}\n", text(&name), text(command.about));
    page += &format!(
        ".SH SYNOPSIS\n\\fB{}\\fR [\\fIOPTIONS\\fR]",
        text(name.replace('-', " ").as_str())
    );
    match command.synopsis {
        "" => page.push('\n'),
        synopsis => page += &format!(" {}\n", text(synopsis)),
    }
    let is_program = command.name.is_empty();
    if is_program {
        let rows = others
            .clone()
            .map(|other| (text(other.name), text(other.about)));
        section(&mut page, "COMMANDS", rows);
    }
    let flags = command.flags().filter(|flag| !flag.hidden);
    section(
        &mut page,
        "OPTIONS",
        flags.map(|flag| (left(flag), text(flag.help))),
    );
    for (title, rows) in sections {
        let rows = rows
            .iter()
            .map(|(word, meaning)| (text(word), text(meaning)));
        section(&mut page, title, rows);
    }
    let examples = command.examples.iter();
    section(
        &mut page,
        "EXAMPLES",
        examples.map(|(line, what)| (format!("coracle {}", text(line)), text(what))),
    );
    let pages: Vec<_> = match is_program {
        true => others.map(self::name).collect(),
        false => vec!["coracle".to_owned()],
    };
    let pages = pages
        .iter()
        .map(|page| format!("\\fB{}\\fR(8)", text(page)));
    page + ".SH SEE ALSO\n" + &pages.collect::<Vec<_>>().join(",\n") + "\n"
}

fn section(page: &mut String, title: &str, rows: impl Iterator<Item = (String, String)>) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, ".SH {title}");
    for (word, meaning) in rows {
        let _ = writeln!(page, ".TP\n\\fB{word}\\fR\n{meaning}");
    }
}

/// `-b, --bundle DIR`, in bold but for the value.
fn left(flag: &Flag) -> String {
    let short = flag.short.map(|short| format!("\\-{short}, "));
    let value = flag
        .placeholder
        .map(|value| format!("\\fR \\fI{}", text(value)));
    let more = if flag.repeats { "\\fR..." } else { "" };
    format!(
        "{}\\-\\-{}{}{more}",
        short.unwrap_or_default(),
        text(flag.name),
        value.unwrap_or_default()
    )
}

/// The text as groff shows it: a dash is a dash, not a hyphen; a line that begins with a dot or a
/// quote is no request.
fn text(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{Order, switch, values};
    use super::*;

    #[test]
    fn a_page() {
        const COMMAND: Command = Command {
            name: "frob",
            synopsis: "ID",
            about: "Frobs a co-container",
            order: Order::Anywhere,
            flags: &[&[
                values("env", "A=B", "Adds \\n").short('e'),
                switch("no-frob", ".so"),
            ]],
            examples: &[("frob -e a=b c", "'tis done")],
        };
        let page = page(
            &COMMAND,
            std::iter::empty(),
            &[("FILES", &[("/a-b", "It")])],
        );
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            page.replace(version, "V"),
            "\
.TH CORACLE\\-FROB 8 \"\" \"coracle V\" \"Container runtime\"
.SH NAME
coracle\\-frob \\- Frobs a co\\-container
.SH SYNOPSIS
\\fBcoracle frob\\fR [\\fIOPTIONS\\fR] ID
.SH OPTIONS
.TP
\\fB\\-e, \\-\\-env\\fR \\fIA=B\\fR...\\fR
Adds \\en
.TP
\\fB\\-\\-no\\-frob\\fR
\\&.so
.TP
\\fB\\-h, \\-\\-help\\fR
Print help
.TP
\\fB\\-v, \\-\\-version\\fR
Print the version
.SH FILES
.TP
\\fB/a\\-b\\fR
It
.SH EXAMPLES
.TP
\\fBcoracle frob \\-e a=b c\\fR
\\&'tis done
.SH SEE ALSO
\\fBcoracle\\fR(8)
"
        );
    }
}
