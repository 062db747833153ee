//! What may be typed next, by the tables.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::parse::{Line, parse};
use super::table::{Command, Flag, Order};
use super::usage::Usage;
use super::values::Arguments;
use super::{global, signal};

/// What a shell may offer for a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// These words, each with what it means.
    Words(Vec<(String, &'static str)>),
    /// The containers of this state root; the caller's default if none is named.
    Containers(Option<PathBuf>),
    Networks,
    Files,
    Directories,
}

/// What the last of the words, which is not finished, may become.
pub(crate) fn complete(
    mut words: Vec<OsString>,
    commands: impl Iterator<Item = &'static Command> + Clone,
) -> Offer {
    let current = words.pop().unwrap_or_default();
    let find = |name: &OsStr| commands.clone().find(|command| command.name == name);
    let flags_ended = words.iter().any(|word| word == "--");
    let mut line = parse(words, &global::COMMAND, find);
    if let Some(flag) = awaiting(&mut line) {
        return value(flag);
    }
    let wants_flag = current.as_bytes().starts_with(b"-") && !flags_ended;
    let Some(own) = &line.own else {
        return match (wants_flag, line.verb) {
            (true, None) => Offer::Words(flags(global::COMMAND.flags())),
            (false, None) => Offer::Words(named(commands)),
            (_, Some(_)) => Offer::Words(Vec::new()),
        };
    };
    let is_others = own.command.order == Order::First && !own.words.is_empty();
    if wants_flag && !is_others {
        return Offer::Words(flags(
            own.command.flags().chain(global::COMMAND.own_flags()),
        ));
    }
    let root = line.global.path("root");
    argument(own, root, || named(commands.clone()))
}

/// The flag whose value is to come.
fn awaiting(line: &mut Line) -> Option<&'static Flag> {
    let refused = |arguments: &mut Arguments| match arguments.refused.take() {
        Some(Usage::NeedsArgument(name)) => arguments.command.flag(name.as_bytes()),
        _ => None,
    };
    let own = line.own.as_mut().and_then(refused);
    own.or_else(|| refused(&mut line.global))
}

fn value(flag: &Flag) -> Offer {
    match flag.placeholder {
        Some("DIR") => Offer::Directories,
        Some("FILE" | "PATH") => Offer::Files,
        _ => Offer::Words(
            flag.choices()
                .map(|choice| (choice.to_owned(), ""))
                .collect(),
        ),
    }
}

fn flags(flags: impl Iterator<Item = &'static Flag>) -> Vec<(String, &'static str)> {
    let shown = flags.filter(|flag| !flag.hidden);
    shown
        .map(|flag| (format!("--{}", flag.name), flag.help))
        .collect()
}

fn named(commands: impl Iterator<Item = &'static Command>) -> Vec<(String, &'static str)> {
    let named = commands.map(|command| (command.name.to_owned(), command.about));
    named.collect()
}

/// The offer for an argument, by the synopsis, whose words in capitals stand for arguments.
fn argument(
    own: &Arguments,
    root: Option<PathBuf>,
    commands: impl Fn() -> Vec<(String, &'static str)>,
) -> Offer {
    let place = own.words.len();
    let lines = own.command.synopsis.split('|').map(|line| {
        let words = line.split(' ').map(|word| word.trim_matches(['[', ']']));
        words.collect::<Vec<_>>()
    });
    // The words that were typed decide among the lines.
    let fits = |line: &Vec<&str>| {
        let mut typed = line.iter().zip(&own.words);
        typed.all(|(word, typed)| word.contains(char::is_uppercase) || typed == word)
    };
    let mut choices = Vec::new();
    for line in lines.filter(fits) {
        match line.get(place).copied() {
            Some("ID") => return Offer::Containers(root),
            Some("NAME" | "NAME...") => return Offer::Networks,
            Some("BUNDLE" | "DIR") => return Offer::Directories,
            Some("COMMAND") if place == 0 => return Offer::Words(commands()),
            Some("SIGNAL") => {
                let names = signal::names().map(|name| (name.to_owned(), ""));
                return Offer::Words(names.collect());
            }
            Some(word) if !word.contains(char::is_uppercase) && !word.is_empty() => {
                choices.push((word.to_owned(), ""));
            }
            _ => {}
        }
    }
    Offer::Words(choices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::VERBS;

    /// The offer for the last word of the line, which a blank at the end makes an empty one.
    fn offer(line: &str) -> String {
        let words = line.split(' ').map(OsString::from).collect();
        match complete(words, VERBS.iter().map(|verb| &verb.command)) {
            Offer::Words(words) => {
                let words: Vec<_> = words.into_iter().map(|(word, _)| word).collect();
                words.join(" ")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_may_come_next() {
        for (line, expected) in [
            ("list --format ", "table json"),
            ("list -q -f ", "table json"),
            ("--log-level ", "error warning info debug"),
            ("run --root ", "Directories"),
            ("create -b ", "Directories"),
            ("create --pid-file ", "Files"),
            ("run --mac ", ""),
            ("state ", "Containers(None)"),
            ("state w", "Containers(None)"),
            ("--root /r state ", "Containers(Some(\"/r\"))"),
            ("state --root /r ", "Containers(Some(\"/r\"))"),
            ("state web1 ", ""),
            ("exec -t ", "Containers(None)"),
            ("exec -t web1 ", ""),
            ("exec -t web1 ls -", ""),
            ("explain ", "Directories"),
            ("network ", "ls inspect check gc"),
            ("network inspect ", "Networks"),
            ("network check ", "Containers(None)"),
            ("network ls ", ""),
            ("completion ", "bash zsh fish"),
            ("frobnicate ", ""),
            ("delete -- -", "Containers(None)"),
        ] {
            assert_eq!(offer(line), expected, "{line:?}");
        }
        for (line, some) in [
            ("", "create start state"),
            ("help ", "create start state"),
            ("kill web1 ", "HUP INT"),
            ("-", "--root --log"),
            ("delete -", "--force --regex --help --version --root"),
            ("exec -", "--process --cwd"),
        ] {
            let offer = offer(line);
            assert!(offer.starts_with(some), "{line:?}: {offer}");
        }
        assert!(!offer("run -").contains("--criu"));
    }
}
