//! Tests of valid and invalid command lines.

mod request;

use std::any::Any;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use super::create::Create;
use super::help::Help;
use super::man;
use crate::arguments::table::{Command, Flag};
use crate::arguments::{Usage, global, help};
use crate::run::{Requested, parse, read};

/// The words of a line, separated by blanks; `''` is an empty one.
fn words(line: &str) -> Vec<OsString> {
    line.split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| word.replace("''", "").into())
        .collect()
}

fn read_line(words: Vec<OsString>) -> Result<Requested, Usage> {
    read(&mut parse(words)).map_err(|(_, usage)| usage)
}

/// The request of a line, without values that are the default.
fn shown(line: &str) -> String {
    let text = match read_line(words(line)) {
        Err(usage) => Err(usage),
        Ok(Requested::Text(text)) => Ok(text),
        Ok(Requested::Verb(call)) => {
            let any: &dyn Any = &*call.request;
            match any.downcast_ref::<Help>() {
                None => return request::text(&call),
                Some(help) => help.text(super::VERBS),
            }
        }
    };
    text.map_or_else(|usage| format!("error: {usage}"), |text| show_text(&text))
}

fn show_text(text: &str) -> String {
    if text.starts_with("coracle version ") {
        return "version".to_owned();
    }
    if text.contains("Commands:") {
        return "help".to_owned();
    }
    let usage = text
        .lines()
        .find(|line| line.starts_with("Usage: coracle "));
    format!("help={}", usage.unwrap().split(' ').nth(2).unwrap())
}

/// One case on each line: the command line, an arrow, the request.
const GOOD: &str = include_str!("lines/good.txt");
/// One case on each line: the command line, an arrow, the text of the error.
const BAD: &str = include_str!("lines/bad.txt");

fn check(cases: &str, least: usize, prefix: &str) {
    let is_case = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let mut count = 0;
    let mut wrong = String::new();
    for case in cases.lines().filter(is_case) {
        let (line, expected) = case.split_once("=> ").unwrap();
        let (found, expected) = (shown(line), format!("{prefix}{expected}"));
        if found != expected {
            writeln!(wrong, "{line}\n   found {found}\nexpected {expected}").unwrap();
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(count >= least, "{count} cases");
}

#[test]
fn good_lines() {
    check(GOOD, 120, "");
}

#[test]
fn bad_lines() {
    check(BAD, 85, "error: ");
}

#[test]
fn ids_that_could_leave_the_state_root_are_refused_by_every_verb() {
    for id in ["..", ".", "../x", "a/b", "a\n", "", "é"] {
        for verb in [
            "create", "run", "start", "state", "pause", "resume", "kill", "delete", "ps",
        ] {
            let refused = read_line([verb, id].map(OsString::from).to_vec());
            assert!(matches!(refused, Err(Usage::Id(_))), "{verb} {id:?}");
        }
    }
}

#[test]
fn words_need_not_be_text() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(b"\xff\xfe".to_vec());
    let mut line = words("create c --bundle");
    line.push(odd.clone());
    let Ok(Requested::Verb(call)) = read_line(line) else {
        panic!()
    };
    let request: &dyn Any = &*call.request;
    let create = request.downcast_ref::<Create>().unwrap();
    assert_eq!(create.options.bundle, PathBuf::from(odd.clone()));
    for line in [
        vec![odd.clone()],
        vec!["state".into(), odd.clone()],
        vec!["create".into(), {
            let mut flag = OsString::from("--");
            flag.push(&odd);
            flag
        }],
    ] {
        assert!(read_line(line).is_err());
    }
}

#[test]
fn every_verb_has_help_with_all_its_flags() {
    let overview = super::help::overview(super::VERBS);
    for verb in super::VERBS {
        let command = &verb.command;
        let line = words(&format!("{} --help", command.name));
        let Ok(Requested::Text(text)) = read_line(line) else {
            panic!("{}", command.name)
        };
        for flag in command.flags() {
            assert!(text.contains(&format!("--{}", flag.name)), "{}", flag.name);
            assert!(text.contains(flag.help) && !flag.help.is_empty());
        }
        assert!(overview.contains(command.about));
    }
}

#[test]
fn every_verb_has_a_page_with_all_its_flags() {
    let pages = man::pages(super::VERBS);
    assert_eq!(pages.len(), super::VERBS.len() + 1);
    let commands = super::VERBS.iter().map(|verb| &verb.command);
    for (command, (name, page)) in [&global::COMMAND].into_iter().chain(commands).zip(&pages) {
        assert!(name.contains(command.name), "{name}");
        for flag in command.flags().filter(|flag| !flag.hidden) {
            let flag = format!("\\-\\-{}", flag.name.replace('-', "\\-"));
            assert!(page.contains(&flag), "{name}: {flag}");
        }
        for (line, _) in command.examples {
            let line = line.replace('-', "\\-");
            assert!(page.contains(&line), "{name}: {line}");
        }
        let in_overview = format!("\\fB{}\\fR\n", command.name);
        assert!(command.name.is_empty() || pages[0].1.contains(&in_overview));
    }
}

/// Names that lead to two flags would hide one of them.
#[test]
fn no_command_has_a_flag_twice() {
    let commands = super::VERBS.iter().map(|verb| &verb.command);
    for command in commands.chain([&global::COMMAND]) {
        let short = |short: char| short.to_string();
        let names = command.flags().flat_map(|flag| {
            let short = flag.short.map(short);
            short.into_iter().chain([flag.name.to_owned()])
        });
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "{}", command.name);
    }
}

#[test]
fn help_is_in_columns() {
    let spec = find("spec");
    assert_eq!(
        help::help(spec, std::iter::empty()),
        "Write a template config.json\n\n\
         Usage: coracle spec [OPTIONS]\n\n\
         Options:\n  \
         -b, --bundle DIR  Write it here [default: .]\n      \
         --rootless    Write one that works without root's rights\n  \
         -h, --help        Print help\n  \
         -v, --version     Print the version\n\n\
         Examples:\n  \
         coracle spec\n      Write ./config.json for root\n  \
         coracle spec --rootless --bundle /srv/web\n      Write one for an ordinary user\n"
    );
}

#[test]
fn examples_are_lines_of_their_command() {
    for verb in super::VERBS {
        let name = verb.command.name;
        assert!(!verb.command.examples.is_empty(), "{name}");
        for (line, what) in verb.command.examples {
            assert!(!what.ends_with('.') && what.len() < 90, "{what}");
            match read_line(words(line)) {
                Ok(Requested::Verb(call)) => assert_eq!(call.verb.command.name, name),
                Ok(Requested::Text(_)) => panic!("{line}"),
                Err(usage) => panic!("{line}: {usage}"),
            }
        }
    }
    for (line, _) in global::COMMAND.examples {
        assert!(read_line(words(line)).is_ok(), "{line}");
    }
}

/// A choice that help shows and the verb refuses, or the reverse, would be found here.
#[test]
fn the_choices_of_help_are_those_that_are_read() {
    let mut count = 0;
    let commands = super::VERBS.iter().map(|verb| &verb.command);
    for command in commands.chain([&global::COMMAND]) {
        let (line, _) = command.examples.first().unwrap();
        for flag in command.flags() {
            let read = |value: &str| {
                let flag = format!("--{}={value}", flag.name);
                let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
                read_line(words(&format!("{verb} {flag} {rest}")))
            };
            for choice in flag.choices() {
                count += 1;
                let usage = read(choice).err().map(|usage| usage.to_string());
                assert_eq!(usage, None, "{} --{} {choice}", command.name, flag.name);
            }
            if flag.choices().next().is_some() {
                assert!(
                    matches!(read("x"), Err(Usage::Value { .. })),
                    "{}",
                    flag.name
                );
            }
        }
    }
    assert!(count > 20, "{count}");
}

fn find(name: &str) -> &'static Command {
    let mut commands = super::VERBS.iter().map(|verb| &verb.command);
    commands.find(|command| command.name == name).unwrap()
}

#[test]
fn the_documents_name_every_verb_and_flag() {
    const PAGES: &str = concat!(
        include_str!("../../../../docs/cli.md"),
        include_str!("../../../../docs/checkpoint.md"),
    );
    let readme = include_str!("../../../../README.md");
    let row = readme.lines().find(|line| line.starts_with("| verbs |"));
    let listed = row
        .unwrap()
        .trim_matches(|c| " |".contains(c))
        .replace("verbs | ", "");
    let mut listed: Vec<_> = listed.split(", ").collect();
    let verbs = super::VERBS.iter().map(|verb| verb.command.name);
    let mut verbs: Vec<_> = verbs.collect();
    listed.sort_unstable();
    verbs.sort_unstable();
    assert_eq!(listed, verbs);
    for name in verbs {
        assert!(PAGES.contains(&format!("`{name}")), "{name}");
    }
    let commands = super::VERBS.iter().map(|verb| &verb.command);
    for command in commands.chain([&global::COMMAND]) {
        for Flag { name, .. } in command.flags() {
            let is_common = ["help", "version"].contains(name);
            let is_named = PAGES.contains(&format!("--{name}"));
            assert!(is_common || is_named, "{}: --{name}", command.name);
        }
    }
}
