//! Parsing words into flags and arguments, by the tables of flags.
//!
//! Engines write flags as Go's flag package accepts them: `-no-subreaper`, `--keep=false`,
//! `--bundle=DIR` and `--bundle DIR`, `-dt`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::table::{Command, Flag, Order};
use super::usage::Usage;
use super::values::{Arguments, Value};

/// A parsed command line.
pub(crate) struct Line {
    pub(crate) global: Arguments,
    /// The verb as on the command line.
    pub(crate) verb: Option<OsString>,
    /// The verb's own flags and arguments; `None` if there is no such verb.
    pub(crate) own: Option<Arguments>,
}

/// The words that are not yet parsed.
type Words = std::vec::IntoIter<OsString>;

/// Parses the line. Global flags may stand among the verb's own; after the verb, a flag that is in
/// both tables is the verb's. An error is stored in the [`Arguments`] of the table that it
/// violates.
pub(crate) fn parse(
    words: Vec<OsString>,
    global: &'static Command,
    find: impl FnOnce(&OsStr) -> Option<&'static Command>,
) -> Line {
    let mut global = Arguments::new(global);
    read_words(words.into_iter(), &mut global, None);
    let mut words = std::mem::take(&mut global.words).into_iter();
    let verb = words.next();
    let own = verb.as_deref().and_then(find).map(|command| {
        let mut own = Arguments::new(command);
        read_words(words, &mut own, Some(&mut global));
        own
    });
    Line { global, verb, own }
}

fn read_words(mut words: Words, own: &mut Arguments, mut outer: Option<&mut Arguments>) {
    while let Some(word) = words.next() {
        match word.as_bytes() {
            b"--" => break,
            [b'-', _, ..] => read_flag(word.as_bytes(), &mut words, own, outer.as_deref_mut()),
            _ => {
                own.words.push(word);
                if own.command.order == Order::First {
                    break;
                }
            }
        }
    }
    own.words.extend(words);
}

/// Parses a word that begins with a dash, with the next word if that is its value.
fn read_flag(typed: &[u8], words: &mut Words, own: &mut Arguments, outer: Option<&mut Arguments>) {
    let body = typed.strip_prefix(b"-").unwrap_or(typed);
    let (body, is_single) = match body.strip_prefix(b"-") {
        Some(body) => (body, false),
        None => (body, true),
    };
    let mut parts = body.splitn(2, |byte| *byte == b'=');
    let (name, value) = (parts.next().unwrap_or_default(), parts.next());
    if let Some(flag) = own.command.flag(name) {
        return set(own, flag, (name, value), words);
    }
    let commands = [Some(own.command), outer.as_ref().map(|outer| outer.command)];
    let outer = outer.and_then(|outer| outer.command.flag(name).map(|flag| (outer, flag)));
    if let Some((outer, flag)) = outer {
        return set(outer, flag, (name, value), words);
    }
    // A long name takes precedence over letters: `-tty` is the flag `tty`, not `-t -t -y`.
    let cluster = is_single.then(|| cluster(own.command, name)).flatten();
    let Some((last, switches)) = cluster.as_deref().and_then(<[_]>::split_last) else {
        return own.refuse(Usage::undefined(commands.into_iter().flatten(), typed));
    };
    for switch in switches {
        own.flags.push((switch.name, Value::Switch(true)));
    }
    let letter = name.chunks(1).next_back().unwrap_or_default();
    set(own, last, (letter, value), words);
}

/// Stores a flag, which was written as `name`.
fn set(
    arguments: &mut Arguments,
    flag: &'static Flag,
    (name, value): (&[u8], Option<&[u8]>),
    words: &mut Words,
) {
    let typed = || String::from_utf8_lossy(name).into_owned();
    let value = value.map(OsStr::from_bytes);
    let value = if flag.placeholder.is_some() {
        match value.map(OsStr::to_owned).or_else(|| words.next()) {
            Some(value) => Value::Text(value),
            None => return arguments.refuse(Usage::NeedsArgument(typed())),
        }
    } else {
        match value.map_or(Some(true), |value| parse_boolean(value.as_bytes())) {
            Some(is_on) => Value::Switch(is_on),
            None => {
                let value = value.unwrap_or_default().to_string_lossy().into_owned();
                let flag = typed();
                return arguments.refuse(Usage::Boolean { flag, value });
            }
        }
    };
    arguments.flags.push((flag.name, value));
}

/// The flags of `-dt` or `-tu 1000`: switches, and a last flag of either kind.
///
/// `-tu1000` is refused: if it were accepted, the typing error `-bundel` would mean the bundle
/// `undel`.
fn cluster(command: &Command, letters: &[u8]) -> Option<Vec<&'static Flag>> {
    let flags = letters.chunks(1).map(|letter| command.flag(letter));
    let flags: Vec<_> = flags.collect::<Option<_>>()?;
    let (_, switches) = flags.split_last()?;
    let are_switches = switches.iter().all(|flag| flag.placeholder.is_none());
    are_switches.then_some(flags)
}

/// A boolean, by the rules of Go's strconv.ParseBool.
pub(super) fn parse_boolean(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{switch, value, values};
    use super::*;

    const COMMAND: Command = Command {
        name: "test",
        synopsis: "",
        about: "",
        order: Order::Anywhere,
        flags: &[&[
            switch("tty", "").short('t'),
            switch("detach", "").short('d'),
            switch("no-subreaper", ""),
            value("user", "U", "").short('u'),
            values("env", "E", "").short('e'),
        ]],
        examples: &[],
    };
    const FIRST: Command = Command {
        order: Order::First,
        ..COMMAND
    };
    const GLOBAL: Command = Command {
        name: "",
        order: Order::First,
        flags: &[&[
            value("root", "R", ""),
            value("user", "U", ""),
            switch("debug", ""),
        ]],
        ..COMMAND
    };

    /// Flags, in the order in which they were read, and arguments behind a bar.
    fn shown(read: &Arguments) -> String {
        if let Some(usage) = &read.refused {
            return usage.to_string();
        }
        let mut shown = String::new();
        for (name, value) in &read.flags {
            shown += &match value {
                Value::Switch(true) => format!("{name} "),
                Value::Switch(false) => format!("no {name} "),
                Value::Text(text) => format!("{name}={} ", text.display()),
            };
        }
        let words = read.words.iter().map(|word| format!(" {}", word.display()));
        shown + "|" + &words.collect::<String>()
    }

    fn read(line: &str, command: &'static Command) -> (Arguments, Arguments) {
        let words = line.split(' ').filter(|word| !word.is_empty());
        let words = ["verb"].into_iter().chain(words).map(OsString::from);
        let line = parse(words.collect(), &GLOBAL, |_| Some(command));
        (line.global, line.own.unwrap())
    }

    #[test]
    fn flags_are_spelled_as_go_takes_them() {
        for (line, expected) in [
            ("", "|"),
            ("-", "| -"),
            ("a b", "| a b"),
            ("-tty a", "tty | a"),
            ("--tty a", "tty | a"),
            ("-t a", "tty | a"),
            ("--t a", "tty | a"),
            ("a --tty", "tty | a"),
            ("-no-subreaper a", "no-subreaper | a"),
            ("-dt a", "detach tty | a"),
            ("-dtu 5 a", "detach tty user=5 | a"),
            ("-dtu5 a", "flag provided but not defined: --dtu5"),
            ("-du=5 a", "detach user=5 | a"),
            ("-dt=false a", "detach no tty | a"),
            ("-u5 a", "flag provided but not defined: --u5"),
            ("-u=5 a", "user=5 | a"),
            ("-user=5 a", "user=5 | a"),
            ("--user=5 a", "user=5 | a"),
            ("--user=a=b a", "user=a=b | a"),
            ("--user= a", "user= | a"),
            ("--user -t a", "user=-t | a"),
            ("--user -- a", "user=-- | a"),
            ("-e A=1 -e B=2", "env=A=1 env=B=2 |"),
            ("--tty=false a", "no tty | a"),
            ("--tty=0 --tty a", "no tty tty | a"),
            ("-- --tty a", "| --tty a"),
            ("a -- --tty", "| a --tty"),
            ("-x a", "flag provided but not defined: -x"),
            ("-tx a", "flag provided but not defined: --tx"),
            (
                "---tty a",
                "flag provided but not defined: ---tty (did you mean --tty?)",
            ),
            ("--user", "flag needs an argument: -user"),
            ("-u", "flag needs an argument: -u"),
            ("-tu", "flag needs an argument: -u"),
            ("a -user", "flag needs an argument: -user"),
            (
                "--tty=maybe",
                "invalid boolean value \"maybe\" for -tty: expected true or false",
            ),
            (
                "-t=",
                "invalid boolean value \"\" for -t: expected true or false",
            ),
            ("-x --tty=maybe", "flag provided but not defined: -x"),
        ] {
            assert_eq!(shown(&read(line, &COMMAND).1), expected, "{line}");
        }
    }

    #[test]
    fn the_last_of_several_counts() {
        let (_, own) = read("--tty --tty=F -d=0 -d -u 1 -u 2", &COMMAND);
        assert_eq!((own.is_on("tty"), own.is_on("detach")), (false, true));
        assert_eq!(own.value("user"), Some(OsStr::new("2")));
    }

    #[test]
    fn global_flags_are_found_behind_the_verb() {
        for (line, command, global, own) in [
            ("a --root /r b", &COMMAND, "root=/r |", "| a b"),
            ("--root=/r a", &COMMAND, "root=/r |", "| a"),
            ("-root /r a -debug", &COMMAND, "root=/r debug |", "| a"),
            ("--debug=false a", &COMMAND, "no debug |", "| a"),
            // The verb's own.
            ("--user 5 a", &COMMAND, "|", "user=5 | a"),
            // A value that looks like a flag.
            ("--env --debug a", &COMMAND, "|", "env=--debug | a"),
            ("a -- --debug", &COMMAND, "|", "| a --debug"),
            ("--root /r a --debug", &FIRST, "root=/r |", "| a --debug"),
            (
                "-t --debug a ls --root",
                &FIRST,
                "debug |",
                "tty | a ls --root",
            ),
            ("-- a --debug", &FIRST, "|", "| a --debug"),
            ("a --root", &COMMAND, "flag needs an argument: -root", "| a"),
        ] {
            let read = read(line, command);
            let found = (shown(&read.0), shown(&read.1));
            assert_eq!(found, (global.to_owned(), own.to_owned()), "{line}");
        }
    }

    #[test]
    fn what_follows_the_first_argument_is_not_ours() {
        for (line, expected) in [
            ("-t id sh -c ls", "tty | id sh -c ls"),
            ("id -t", "| id -t"),
            ("id -- -t", "| id -- -t"),
            ("-t -- id -t", "tty | id -t"),
            ("-- -t id", "| -t id"),
        ] {
            assert_eq!(shown(&read(line, &FIRST).1), expected, "{line}");
        }
    }
}
