//! From Go's spelling of flags to clap's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{Arg, ArgAction, Command};

use super::usage::Usage;

/// Where flags may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Before and after the arguments: `create ID --bundle DIR`.
    Anywhere,
    /// Only before the first argument: what follows is somebody else's, as in `exec ID sh -c ls`.
    First,
}

/// A command line taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Spelled {
    /// `--name` or `--name=value` each: for clap.
    pub(crate) options: Vec<OsString>,
    pub(crate) arguments: Vec<OsString>,
}

/// What one word with a dash says.
struct Word<'a> {
    /// By their long names.
    switches: Vec<(&'a str, bool)>,
    valued: Option<Valued<'a>>,
}

/// A flag that takes a value.
struct Valued<'a> {
    long: &'a str,
    /// As typed, for messages.
    typed: &'a [u8],
    /// `None`: it is the next word.
    value: Option<&'a [u8]>,
}

/// Takes the line apart by the command's table of flags.
///
/// An unknown flag is left for clap to refuse, which knows what may have been meant.
pub(crate) fn spell(
    command: &Command,
    line: Vec<OsString>,
    order: Order,
) -> Result<Spelled, Usage> {
    let mut spelled = Spelled::default();
    let mut on = Vec::new();
    let mut line = line.into_iter();
    while let Some(typed) = line.next() {
        if typed == "--" {
            break;
        }
        if !matches!(typed.as_bytes(), [b'-', _, ..]) {
            spelled.arguments.push(typed);
            if order == Order::First {
                break;
            }
            continue;
        }
        let Some(word) = read_word(command, typed.as_bytes())? else {
            spelled.options.push(as_long(typed));
            continue;
        };
        for (switch, is_on) in word.switches {
            // Off undoes an earlier on: only what is on at last reaches clap.
            on.retain(|earlier| earlier != switch);
            if is_on {
                on.push(switch.to_owned());
            }
        }
        if let Some(Valued { long, typed, value }) = word.valued {
            let value = match value {
                Some(value) => OsStr::from_bytes(value).to_owned(),
                None => line
                    .next()
                    .ok_or_else(|| Usage::NeedsArgument(lossy(typed)))?,
            };
            let mut option = OsString::from(format!("--{long}="));
            option.push(value);
            spelled.options.push(option);
        }
    }
    spelled.arguments.extend(line);
    spelled
        .options
        .extend(on.into_iter().map(|switch| format!("--{switch}").into()));
    Ok(spelled)
}

/// The words of a verb's line that are global flags, and the others, both as typed. A flag that
/// both tables have is the verb's.
///
/// # Errors
/// Global flags of which the last lacks its value.
pub(crate) fn part(
    own: &Command,
    global: &Command,
    line: Vec<OsString>,
    order: Order,
) -> Result<(Vec<OsString>, Vec<OsString>), Vec<OsString>> {
    let (mut hoisted, mut rest) = (Vec::new(), Vec::new());
    let mut line = line.into_iter().peekable();
    while let Some(typed) = line.next() {
        let is_last = match typed.as_bytes() {
            b"--" => true,
            [b'-', _, ..] => false,
            _ => order == Order::First,
        };
        // Whether its value is the next word; `None` if it is no flag of the command.
        let read = |command| match typed.as_bytes() {
            [b'-', _, ..] if !is_last => match read_word(command, typed.as_bytes()) {
                Ok(word) => word.map(|word| word.valued.is_some_and(|v| v.value.is_none())),
                // Refused later, by the table that knows it.
                Err(_) => Some(false),
            },
            _ => None,
        };
        match (read(own), read(global)) {
            (None, Some(needs_value)) => {
                hoisted.push(typed);
                match line.next_if(|_| needs_value) {
                    None if needs_value => return Err(hoisted),
                    value => hoisted.extend(value),
                }
            }
            (needs_value, _) => {
                rest.push(typed);
                rest.extend(line.next_if(|_| needs_value == Some(true)));
            }
        }
        if is_last {
            break;
        }
    }
    rest.extend(line);
    Ok((hoisted, rest))
}

/// Reads one word that begins with a dash; `None` when it is no flag of the command.
fn read_word<'a>(command: &'a Command, typed: &'a [u8]) -> Result<Option<Word<'a>>, Usage> {
    let body = typed.strip_prefix(b"-").unwrap_or(typed);
    let (body, is_single) = body
        .strip_prefix(b"-")
        .map_or((body, true), |body| (body, false));
    let (name, value) = match body
        .iter()
        .position(|byte| *byte == b'=')
        .map(|at| body.split_at(at))
    {
        Some((name, [_, value @ ..])) => (name, Some(value)),
        _ => (body, None),
    };
    let Some((long, arg)) = find(command, name) else {
        // Only now, since `-tty` is the flag of that name and not `-t -t -y`.
        return Ok(if is_single {
            read_cluster(command, body)
        } else {
            None
        });
    };
    if takes_value(arg) {
        let valued = Some(Valued {
            long,
            typed: name,
            value,
        });
        return Ok(Some(Word {
            switches: Vec::new(),
            valued,
        }));
    }
    let is_on = match value {
        None => true,
        Some(value) => parse_boolean(value).ok_or_else(|| Usage::Boolean {
            flag: lossy(name),
            value: lossy(value),
        })?,
    };
    Ok(Some(Word {
        switches: vec![(long, is_on)],
        valued: None,
    }))
}

/// Reads `-dt`, `-tu 1000`, `-tu=1000`.
fn read_cluster<'a>(command: &'a Command, body: &'a [u8]) -> Option<Word<'a>> {
    let mut switches = Vec::new();
    for (at, short) in body.chunks(1).enumerate() {
        let (long, arg) = find(command, short)?;
        if takes_value(arg) {
            // Not `-tu1000`: then `-bundel` would be the bundle `undel`.
            let value = match body.get(at + 1..)? {
                [] => None,
                [b'=', value @ ..] => Some(value),
                _ => return None,
            };
            let valued = Some(Valued {
                long,
                typed: short,
                value,
            });
            return Some(Word { switches, valued });
        }
        switches.push((long, true));
    }
    Some(Word {
        switches,
        valued: None,
    })
}

/// The flag of that long or short name: Go asks for no particular number of dashes.
fn find<'a>(command: &'a Command, name: &[u8]) -> Option<(&'a str, &'a Arg)> {
    command.get_arguments().find_map(|arg| {
        let long = arg.get_long()?;
        let is_short = |short: char| name == short.encode_utf8(&mut [0; 4]).as_bytes();
        let is_named = long.as_bytes() == name || arg.get_short().is_some_and(is_short);
        is_named.then_some((long, arg))
    })
}

fn takes_value(arg: &Arg) -> bool {
    !matches!(arg.get_action(), ArgAction::SetTrue)
}

/// The words of Go's strconv.ParseBool.
pub(super) fn parse_boolean(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

/// `-bundel` as `--bundel`: clap would read letters, and suggest nothing.
fn as_long(typed: OsString) -> OsString {
    match typed.as_bytes() {
        [b'-', first, _, ..] if *first != b'-' => {
            let mut long = OsString::from("-");
            long.push(typed);
            long
        }
        _ => typed,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::flag::{switch, value, values};
    use super::*;

    fn command() -> Command {
        Command::new("test")
            .arg(switch("tty", "").short('t'))
            .arg(switch("detach", "").short('d'))
            .arg(switch("no-subreaper", ""))
            .arg(value("user", "U", "").short('u'))
            .arg(values("env", "E", "").short('e'))
    }

    /// Words are parted by blanks; options and arguments by a bar.
    fn spelled(line: &str, order: Order) -> String {
        let line = line
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(OsString::from)
            .collect();
        match spell(&command(), line, order) {
            Ok(spelled) => {
                let words = |words: Vec<OsString>| -> Vec<String> {
                    words
                        .into_iter()
                        .map(|word| word.into_string().unwrap())
                        .collect()
                };
                let [options, arguments] = [spelled.options, spelled.arguments].map(words);
                format!("{} | {}", options.join(" "), arguments.join(" "))
            }
            Err(usage) => usage.to_string(),
        }
    }

    #[test]
    fn every_spelling_of_go_comes_out_as_clap_reads_it() {
        for (line, expected) in [
            ("", " | "),
            ("-", " | -"),
            ("a b", " | a b"),
            ("-tty a", "--tty | a"),
            ("--tty a", "--tty | a"),
            ("-t a", "--tty | a"),
            ("--t a", "--tty | a"),
            ("a --tty", "--tty | a"),
            ("-no-subreaper a", "--no-subreaper | a"),
            ("-dt a", "--detach --tty | a"),
            ("-dtu 5 a", "--user=5 --detach --tty | a"),
            ("-dtu5 a", "--dtu5 | a"),
            ("-du=5 a", "--user=5 --detach | a"),
            ("-u5 a", "--u5 | a"),
            ("-u=5 a", "--user=5 | a"),
            ("-user=5 a", "--user=5 | a"),
            ("--user=5 a", "--user=5 | a"),
            ("--user=a=b a", "--user=a=b | a"),
            ("--user= a", "--user= | a"),
            ("--user -t a", "--user=-t | a"),
            ("--user -- a", "--user=-- | a"),
            ("-e A=1 -e B=2", "--env=A=1 --env=B=2 | "),
            ("--tty=false a", " | a"),
            ("--tty=0 --tty a", "--tty | a"),
            ("--tty --tty=F a", " | a"),
            ("--tty --tty a", "--tty | a"),
            ("-- --tty a", " | --tty a"),
            ("a -- --tty", " | a --tty"),
            ("--bundel a", "--bundel | a"),
            ("-bundel=x a", "--bundel=x | a"),
            ("-x a", "-x | a"),
            ("-tx a", "--tx | a"),
            ("---tty a", "---tty | a"),
        ] {
            assert_eq!(spelled(line, Order::Anywhere), expected, "{line}");
        }
    }

    #[test]
    fn global_flags_are_found_behind_the_verb() {
        let global = Command::new("")
            .arg(value("root", "R", ""))
            .arg(value("user", "U", ""))
            .arg(switch("debug", ""));
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (line, order, hoisted) in [
            ("a --root /r b", Order::Anywhere, "--root /r"),
            ("--root=/r a", Order::Anywhere, "--root=/r"),
            ("-root /r a -debug", Order::Anywhere, "-root /r -debug"),
            ("--debug=false a", Order::Anywhere, "--debug=false"),
            // The verb's own.
            ("--user 5 a", Order::Anywhere, ""),
            // A value that looks like a flag.
            ("--env --debug a", Order::Anywhere, ""),
            ("-e --debug -e=--debug a", Order::Anywhere, ""),
            ("a -- --debug", Order::Anywhere, ""),
            ("--root /r a --debug", Order::First, "--root /r"),
            ("-t --debug a ls --root /", Order::First, "--debug"),
            ("-- a --debug", Order::First, ""),
            // Refused later.
            ("--rood /r a", Order::Anywhere, ""),
            ("a --debug=maybe", Order::Anywhere, "--debug=maybe"),
        ] {
            let parted = part(&command(), &global, words(line), order).unwrap();
            let expected = words(hoisted).into_iter().filter(|word| !word.is_empty());
            assert_eq!(parted.0, expected.collect::<Vec<_>>(), "{line}");
            let all = parted.0.len() + parted.1.len();
            assert_eq!(all, words(line).len(), "{line}");
        }
        let lacking = part(&command(), &global, words("a --root"), Order::Anywhere);
        assert_eq!(lacking, Err(words("--root")));
    }

    #[test]
    fn what_follows_the_first_argument_is_not_ours() {
        for (line, expected) in [
            ("-t id sh -c ls", "--tty | id sh -c ls"),
            ("id -t", " | id -t"),
            ("id -- -t", " | id -- -t"),
            ("-t -- id -t", "--tty | id -t"),
            ("-- -t id", " | -t id"),
        ] {
            assert_eq!(spelled(line, Order::First), expected, "{line}");
        }
    }

    #[test]
    fn what_is_missing_is_told_in_gos_words() {
        for (line, expected) in [
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
        ] {
            assert_eq!(spelled(line, Order::Anywhere), expected, "{line}");
        }
    }
}
